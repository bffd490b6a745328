//! Words in shared memory.

use core::sync::atomic::{AtomicU64, Ordering, fence};

/// A word that both sides see. A trait, so that tests can put a model checker's word in its place.
pub trait Word {
    /// Reads it; what its writer wrote before is seen, too.
    fn read_acquire(&self) -> u64;
    /// Reads it.
    fn read(&self) -> u64;
    /// Writes it; who reads it sees what was written before, too.
    fn write_release(&self, value: u64);
    /// Writes it.
    fn write(&self, value: u64);
    /// Orders all that was written before against all that is read after.
    fn barrier();
}

impl Word for AtomicU64 {
    #[inline]
    fn read_acquire(&self) -> u64 {
        AtomicU64::load(self, Ordering::Acquire)
    }

    #[inline]
    fn read(&self) -> u64 {
        AtomicU64::load(self, Ordering::Relaxed)
    }

    #[inline]
    fn write_release(&self, value: u64) {
        AtomicU64::store(self, value, Ordering::Release);
    }

    #[inline]
    fn write(&self, value: u64) {
        AtomicU64::store(self, value, Ordering::Relaxed);
    }

    #[inline]
    fn barrier() {
        fence(Ordering::SeqCst);
    }
}
