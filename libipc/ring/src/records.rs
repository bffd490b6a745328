//! Records of a fixed number of words.

use core::sync::atomic::AtomicU64;

use crate::index::{HEADER_WORDS, Role, Side};
use crate::{Begin, Corrupt, TooSmall, Word};

/// The contents of a ring of records of `N` words, a power of two of them.
#[derive(Debug)]
struct Places<'m, const N: usize, W>(&'m [[W; N]]);

impl<const N: usize, W> Clone for Places<'_, N, W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<const N: usize, W> Copy for Places<'_, N, W> {}

impl<'m, const N: usize, W> Places<'m, N, W> {
    /// Divides shared memory into header and as many records as fit.
    fn new(memory: &'m [W]) -> Result<(&'m [W; HEADER_WORDS], Self), TooSmall> {
        let (header, rest) = memory.split_first_chunk().ok_or(TooSmall)?;
        let (records, _) = rest.as_chunks();
        let count = 1 << records.len().checked_ilog2().ok_or(TooSmall)?;
        Ok((header, Places(records.get(..count).ok_or(TooSmall)?)))
    }

    fn count(&self) -> u64 {
        self.0.len() as u64
    }

    #[inline]
    fn at(&self, index: u64) -> &'m [W; N] {
        // A power of two, so the mask keeps it in range.
        &self.0[index as usize & (self.0.len() - 1)]
    }
}

/// Words of shared memory for `count` records of `size` words.
pub const fn words_for(count: usize, size: usize) -> usize {
    HEADER_WORDS + count.next_power_of_two() * size
}

/// Puts records in.
#[derive(Debug)]
pub struct Producer<'m, const N: usize, W = AtomicU64> {
    side: Side<'m, W>,
    places: Places<'m, N, W>,
}

/// Takes records out.
#[derive(Debug)]
pub struct Consumer<'m, const N: usize, W = AtomicU64> {
    side: Side<'m, W>,
    places: Places<'m, N, W>,
}

/// Why a record was not put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// The ring is full.
    Full,
    /// See [`Corrupt`].
    Corrupt,
}

impl From<Corrupt> for PushError {
    fn from(_: Corrupt) -> PushError {
        PushError::Corrupt
    }
}

impl<'m, const N: usize, W: Word> Producer<'m, N, W> {
    /// The producer's side of the ring in `memory`.
    pub fn new(memory: &'m [W], begin: Begin) -> Result<Self, TooSmall> {
        let (header, places) = Places::new(memory)?;
        Ok(Producer { side: Side::new(header, Role::Producer, places.count(), begin), places })
    }

    /// How many records there is room for.
    pub fn room(&mut self) -> Result<u64, Corrupt> {
        self.side.look()
    }

    /// Puts a record in. The consumer sees it after the next [`Self::publish`].
    #[inline]
    pub fn push(&mut self, record: &[u64; N]) -> Result<(), PushError> {
        self.push_part(record)
    }

    /// Puts in a record of which only the first words mean something: what the others hold is left to chance, and not
    /// written, so that it need not travel between processors.
    #[inline]
    pub fn push_part(&mut self, words: &[u64]) -> Result<(), PushError> {
        if self.side.known() == 0 && self.side.look()? == 0 {
            return Err(PushError::Full);
        }
        for (word, value) in self.places.at(self.side.index()).iter().zip(words) {
            word.write(*value);
        }
        self.side.advance(1);
        Ok(())
    }

    /// Shows the consumer what was put in. True: it sleeps, signal it.
    #[inline]
    #[must_use = "a consumer that sleeps is to be signalled"]
    pub fn publish(&mut self) -> bool {
        self.side.publish()
    }

    /// True: the ring is full, and the consumer will signal when it has taken something out.
    pub fn sleep(&mut self) -> Result<bool, Corrupt> {
        self.side.sleep()
    }

    /// Where it is, to begin there again.
    pub fn position(&self) -> Begin {
        self.side.position()
    }
}

impl<'m, const N: usize, W: Word> Consumer<'m, N, W> {
    /// The consumer's side of the ring in `memory`.
    pub fn new(memory: &'m [W], begin: Begin) -> Result<Self, TooSmall> {
        let (header, places) = Places::new(memory)?;
        Ok(Consumer { side: Side::new(header, Role::Consumer, places.count(), begin), places })
    }

    /// Takes the next record out, if there is one. The producer has its place back after the next
    /// [`Self::publish`].
    #[inline]
    pub fn pop(&mut self) -> Result<Option<[u64; N]>, Corrupt> {
        if self.side.known() == 0 && self.side.look()? == 0 {
            return Ok(None);
        }
        let place = self.places.at(self.side.index());
        let record = core::array::from_fn(|at| place[at].read());
        self.side.advance(1);
        Ok(Some(record))
    }

    /// Gives the producer the places of what was taken out. True: it sleeps, signal it.
    #[inline]
    #[must_use = "a producer that sleeps is to be signalled"]
    pub fn publish(&mut self) -> bool {
        self.side.publish()
    }

    /// True: the ring is empty, and the producer will signal when it has put something in.
    pub fn sleep(&mut self) -> Result<bool, Corrupt> {
        self.side.sleep()
    }

    /// Where it is, to begin there again.
    pub fn position(&self) -> Begin {
        self.side.position()
    }
}

#[cfg(test)]
mod tests;
