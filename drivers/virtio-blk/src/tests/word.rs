//! Words of rings whose writer dies at any store.

use std::sync::atomic::AtomicU64;

use ring::Word;
use virtio::fragile::step;

/// A word, of which each store is a step.
#[derive(Debug, Default)]
pub struct FragileWord(pub AtomicU64);

impl Word for FragileWord {
    fn read_acquire(&self) -> u64 {
        self.0.read_acquire()
    }

    fn read(&self) -> u64 {
        self.0.read()
    }

    fn write_release(&self, value: u64) {
        self.0.write_release(value);
        step();
    }

    fn write(&self, value: u64) {
        self.0.write(value);
        step();
    }

    fn barrier() {
        AtomicU64::barrier();
    }
}
