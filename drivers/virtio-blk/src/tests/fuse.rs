//! Death at any step: each store into a ring, each register written, each entry begun with is one.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::AtomicU64;

use ring::Word;
use virtio::fake::FakeDevice;
use virtio::{Area, Registers};

thread_local! {
    /// Steps that are left to who runs.
    static LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// Died where its fuse had burnt down.
#[derive(Debug)]
pub struct Killed;

/// One more step is done.
pub fn step() {
    let left = LEFT.get() - 1;
    LEFT.set(left);
    if left == 0 {
        resume_unwind(Box::new(Killed));
    }
}

/// Runs `what` until `fuse` more steps are done; what is left of the fuse goes back into it.
pub fn burning<T>(fuse: &mut u64, what: impl FnOnce() -> T) -> Result<T, Killed> {
    LEFT.set(*fuse);
    let result = catch_unwind(AssertUnwindSafe(what));
    *fuse = LEFT.replace(u64::MAX);
    result.map_err(|payload: Box<dyn Any + Send>| match payload.downcast() {
        Ok(killed) => *killed,
        Err(other) => resume_unwind(other),
    })
}

/// A word of a ring.
#[derive(Debug, Default)]
pub struct StepWord(pub AtomicU64);

impl Word for StepWord {
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

/// Registers of a device.
#[derive(Debug)]
pub struct StepRegisters<'m>(pub FakeDevice<'m>);

impl Registers for StepRegisters<'_> {
    fn bytes(&self, area: Area) -> u32 {
        self.0.bytes(area)
    }

    fn notify_multiplier(&self) -> u32 {
        self.0.notify_multiplier()
    }

    fn read8(&self, area: Area, offset: u32) -> u8 {
        self.0.read8(area, offset)
    }

    fn read16(&self, area: Area, offset: u32) -> u16 {
        self.0.read16(area, offset)
    }

    fn read32(&self, area: Area, offset: u32) -> u32 {
        self.0.read32(area, offset)
    }

    fn write8(&self, area: Area, offset: u32, value: u8) {
        self.0.write8(area, offset, value);
        step();
    }

    fn write16(&self, area: Area, offset: u32, value: u16) {
        self.0.write16(area, offset, value);
        step();
    }

    fn write32(&self, area: Area, offset: u32, value: u32) {
        self.0.write32(area, offset, value);
        step();
    }
}
