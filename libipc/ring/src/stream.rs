//! Bytes.

use core::sync::atomic::AtomicU64;

use crate::index::{HEADER_WORDS, Role, Side};
use crate::{Begin, Corrupt, TooSmall, Word};

const WORD: u64 = 8;

/// The contents of a ring of bytes, a power of two of them, little endian in words.
#[derive(Debug)]
struct Bytes<'m, W>(&'m [W]);

impl<'m, W: Word> Bytes<'m, W> {
    fn new(memory: &'m [W]) -> Result<(&'m [W; HEADER_WORDS], Self), TooSmall> {
        let (header, words) = memory.split_first_chunk().ok_or(TooSmall)?;
        let count = 1 << words.len().checked_ilog2().ok_or(TooSmall)?;
        Ok((header, Bytes(words.get(..count).ok_or(TooSmall)?)))
    }

    fn capacity(&self) -> u64 {
        self.0.len() as u64 * WORD
    }

    /// The word that byte `index` is in.
    #[inline]
    fn word(&self, index: u64) -> &'m W {
        // A power of two, so the mask keeps it in range.
        &self.0[(index / WORD) as usize & (self.0.len() - 1)]
    }

    fn write(&self, mut index: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let first = (index % WORD) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(WORD as usize - first));
            let word = self.word(index);
            // A whole word needs no look at what was there.
            let mut all = if now.len() == WORD as usize { [0; 8] } else { word.read().to_le_bytes() };
            all[first..first + now.len()].copy_from_slice(now);
            word.write(u64::from_le_bytes(all));
            index = index.wrapping_add(now.len() as u64);
            bytes = later;
        }
    }

    fn read(&self, mut index: u64, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let first = (index % WORD) as usize;
            let length = bytes.len().min(WORD as usize - first);
            let (now, later) = bytes.split_at_mut(length);
            let all = self.word(index).read().to_le_bytes();
            now.copy_from_slice(&all[first..first + length]);
            index = index.wrapping_add(length as u64);
            bytes = later;
        }
    }
}

/// Words of shared memory for a ring of `bytes` bytes.
pub const fn words_for(bytes: usize) -> usize {
    HEADER_WORDS + bytes.div_ceil(WORD as usize).next_power_of_two()
}

/// Puts bytes in.
#[derive(Debug)]
pub struct Writer<'m, W = AtomicU64> {
    side: Side<'m, W>,
    bytes: Bytes<'m, W>,
}

/// Takes bytes out.
#[derive(Debug)]
pub struct Reader<'m, W = AtomicU64> {
    side: Side<'m, W>,
    bytes: Bytes<'m, W>,
}

impl<'m, W: Word> Writer<'m, W> {
    /// The writer's side of the ring in `memory`.
    pub fn new(memory: &'m [W], begin: Begin) -> Result<Self, TooSmall> {
        let (header, bytes) = Bytes::new(memory)?;
        Ok(Writer { side: Side::new(header, Role::Producer, bytes.capacity(), begin), bytes })
    }

    /// Puts in as many bytes of `from` as there is room for, and says how many. The reader sees them after the
    /// next [`Self::publish`].
    pub fn write(&mut self, from: &[u8]) -> Result<usize, Corrupt> {
        let count = (from.len() as u64).min(self.side.look()?) as usize;
        self.bytes.write(self.side.index(), &from[..count]);
        self.side.advance(count as u64);
        Ok(count)
    }

    /// Shows the reader what was put in. True: it sleeps, signal it.
    #[inline]
    #[must_use = "a reader that sleeps is to be signalled"]
    pub fn publish(&mut self) -> bool {
        self.side.publish()
    }

    /// True: the ring is full, and the reader will signal when it has taken something out.
    pub fn sleep(&mut self) -> Result<bool, Corrupt> {
        self.side.sleep()
    }

    /// Where it is, to begin there again.
    pub fn position(&self) -> Begin {
        self.side.position()
    }
}

impl<'m, W: Word> Reader<'m, W> {
    /// The reader's side of the ring in `memory`.
    pub fn new(memory: &'m [W], begin: Begin) -> Result<Self, TooSmall> {
        let (header, bytes) = Bytes::new(memory)?;
        Ok(Reader { side: Side::new(header, Role::Consumer, bytes.capacity(), begin), bytes })
    }

    /// Takes out as many bytes as there are and `to` has room for, and says how many. The writer has their
    /// places back after the next [`Self::publish`].
    pub fn read(&mut self, to: &mut [u8]) -> Result<usize, Corrupt> {
        let count = (to.len() as u64).min(self.side.look()?) as usize;
        self.bytes.read(self.side.index(), &mut to[..count]);
        self.side.advance(count as u64);
        Ok(count)
    }

    /// Copies bytes out without taking them, from `ahead` bytes behind the next one on: how many. For a reader that must
    /// not say it has taken bytes before it has passed them on.
    pub fn peek(&mut self, ahead: u64, to: &mut [u8]) -> Result<usize, Corrupt> {
        let count = (to.len() as u64).min(self.side.look()?.saturating_sub(ahead)) as usize;
        self.bytes.read(self.side.index().wrapping_add(ahead), &mut to[..count]);
        Ok(count)
    }

    /// Takes `count` bytes out that were looked at, at most all there are.
    pub fn skip(&mut self, count: u64) {
        self.side.advance(count.min(self.side.known()));
    }

    /// Gives the writer the places of what was taken out. True: it sleeps, signal it.
    #[inline]
    #[must_use = "a writer that sleeps is to be signalled"]
    pub fn publish(&mut self) -> bool {
        self.side.publish()
    }

    /// True: the ring is empty, and the writer will signal when it has put something in.
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
