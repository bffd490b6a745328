//! The `data` Frame, for who copies in and out of it.
//!
//! It is seen as words that others may change at any time: the device writes there what is read, and a driver that does
//! wrong may at any time.

use core::sync::atomic::{AtomicU64, Ordering};

use proto::block::SECTOR;

/// Words of a sector.
const WORDS: usize = SECTOR as usize / 8;

/// The data.
#[derive(Clone, Copy, Debug)]
pub struct Data<'m>(&'m [AtomicU64]);

impl<'m> Data<'m> {
    /// The data in `words`.
    pub fn new(words: &'m [AtomicU64]) -> Data<'m> {
        Data(words)
    }

    /// How many sectors it has.
    pub fn sectors(&self) -> u64 {
        (self.0.len() / WORDS) as u64
    }

    /// The words from sector `sector` on.
    pub fn words(&self, sector: u64) -> &'m [AtomicU64] {
        self.0.get(sector as usize * WORDS..).unwrap_or_default()
    }

    /// Copies whole words out, from sector `sector` on.
    pub fn read(&self, sector: u64, to: &mut [u8]) {
        for (word, bytes) in self.words(sector).iter().zip(to.as_chunks_mut().0) {
            *bytes = word.load(Ordering::Relaxed).to_le_bytes();
        }
    }

    /// Copies whole words in, from sector `sector` on.
    pub fn write(&self, sector: u64, from: &[u8]) {
        for (word, bytes) in self.words(sector).iter().zip(from.as_chunks().0) {
            word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
        }
    }
}
