//! Memory that outlives who writes it, one word at a time.

use core::sync::atomic::{AtomicU64, Ordering};

/// Words that outlive the component. Who is killed has made some number of its stores, and none of those after: so
/// stores take effect in the order in which they are made, and each whole.
pub trait Memory {
    /// How many words.
    fn size(&self) -> usize;
    /// Reads a word, which is below [`Self::size`].
    fn load(&self, at: usize) -> u64;
    /// Writes a word, which is below [`Self::size`].
    fn store(&self, at: usize, value: u64);
}

/// A mapped Frame. x86-64 makes stores visible in program order (SDM vol. 3, 9.2.2), and `Release` keeps the compiler
/// from changing that order.
impl Memory for [AtomicU64] {
    #[inline]
    fn size(&self) -> usize {
        self.len()
    }

    #[inline]
    fn load(&self, at: usize) -> u64 {
        self[at].load(Ordering::Relaxed)
    }

    #[inline]
    fn store(&self, at: usize, value: u64) {
        self[at].store(value, Ordering::Release);
    }
}

impl<M: Memory + ?Sized> Memory for &M {
    #[inline]
    fn size(&self) -> usize {
        M::size(self)
    }

    #[inline]
    fn load(&self, at: usize) -> u64 {
        M::load(self, at)
    }

    #[inline]
    fn store(&self, at: usize, value: u64) {
        M::store(self, at, value);
    }
}
