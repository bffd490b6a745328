//! What kills a driver at any step, for host tests.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use crate::registers::{Area, Registers};

/// What a life ends by.
struct Killed;

/// Counts steps, and kills at one of them.
#[derive(Debug, Default)]
pub struct Fuse {
    /// Steps until then; 0: never.
    left: Cell<u64>,
}

impl Fuse {
    /// Kills at the `steps`th step from now on; 0: at none.
    pub fn set(&self, steps: u64) {
        self.left.set(steps);
    }

    /// A step.
    pub fn step(&self) {
        match self.left.get() {
            0 => {}
            1 => {
                self.left.set(0);
                // Without the message of a panic.
                resume_unwind(Box::new(Killed));
            }
            left => self.left.set(left - 1),
        }
    }

    /// Does it. None: it was killed meanwhile. Other panics go on.
    pub fn watch<R>(&self, act: impl FnOnce() -> R) -> Option<R> {
        match catch_unwind(AssertUnwindSafe(act)) {
            Ok(result) => Some(result),
            Err(killed) if killed.is::<Killed>() => None,
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// Registers of which each access is a step.
#[derive(Debug)]
pub struct Fragile<R> {
    registers: R,
    fuse: Rc<Fuse>,
}

impl<R> Fragile<R> {
    /// The registers, with this fuse.
    pub fn new(registers: R, fuse: Rc<Fuse>) -> Fragile<R> {
        Fragile { registers, fuse }
    }
}

macro_rules! forward {
    ($($read:ident $write:ident $number:ty;)*) => { $(
        fn $read(&self, area: Area, offset: u32) -> $number {
            self.fuse.step();
            self.registers.$read(area, offset)
        }

        fn $write(&self, area: Area, offset: u32, value: $number) {
            self.fuse.step();
            self.registers.$write(area, offset, value);
        }
    )* };
}

impl<R: Registers> Registers for Fragile<R> {
    fn bytes(&self, area: Area) -> u32 {
        self.registers.bytes(area)
    }

    fn notify_multiplier(&self) -> u32 {
        self.registers.notify_multiplier()
    }

    forward! {
        read8 write8 u8;
        read16 write16 u16;
        read32 write32 u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_kills_at_its_step_and_once() {
        let fuse = Fuse::default();
        fuse.set(3);
        let done = Cell::new(0);
        let steps = || {
            for _ in 0..5 {
                fuse.step();
                done.set(done.get() + 1);
            }
        };
        assert_eq!(fuse.watch(steps), None);
        assert_eq!(done.get(), 2);
        assert_eq!(fuse.watch(steps), Some(()));
    }
}
