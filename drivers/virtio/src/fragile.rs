//! What kills a driver at any step, for host tests.
//!
//! A test lights a [`Fuse`] for as long as somebody works; each access to [`Fragile`] registers burns some of it, and so does
//! whatever else the test counts as a [`step`].

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::registers::{Area, Registers};

thread_local! {
    /// What is left of the fuse that burns; 0: none does.
    static LEFT: Cell<u64> = const { Cell::new(0) };
}

/// What a life ends by.
struct Killed;

/// How many more steps a life has.
#[derive(Debug, Default)]
pub struct Fuse {
    /// 0: it does not end.
    left: Cell<u64>,
}

impl Fuse {
    /// Kills at the `steps`th step from now on; 0: at none.
    pub fn set(&self, steps: u64) {
        self.left.set(steps);
    }

    /// Does it, with the fuse lit. None: it was killed meanwhile. Other panics go on.
    pub fn watch<R>(&self, act: impl FnOnce() -> R) -> Option<R> {
        let outer = LEFT.replace(self.left.get());
        let result = catch_unwind(AssertUnwindSafe(act));
        self.left.set(LEFT.replace(outer));
        match result {
            Ok(result) => Some(result),
            Err(killed) if killed.is::<Killed>() => None,
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// A step of whoever works.
pub fn step() {
    let left = LEFT.get();
    LEFT.set(left.saturating_sub(1));
    if left == 1 {
        // Without the message of a panic.
        resume_unwind(Box::new(Killed));
    }
}

/// Registers of which each access is a step.
#[derive(Debug)]
pub struct Fragile<R>(pub R);

macro_rules! forward {
    ($($read:ident $write:ident $number:ty;)*) => { $(
        fn $read(&self, area: Area, offset: u32) -> $number {
            step();
            self.0.$read(area, offset)
        }

        fn $write(&self, area: Area, offset: u32, value: $number) {
            step();
            self.0.$write(area, offset, value);
        }
    )* };
}

impl<R: Registers> Registers for Fragile<R> {
    fn bytes(&self, area: Area) -> u32 {
        self.0.bytes(area)
    }

    fn notify_multiplier(&self) -> u32 {
        self.0.notify_multiplier()
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
                step();
                done.set(done.get() + 1);
            }
        };
        assert_eq!(fuse.watch(steps), None);
        assert_eq!(done.get(), 2);
        assert_eq!(fuse.watch(steps), Some(()));
    }

    #[test]
    fn it_burns_only_while_it_is_watched() {
        let (first, second) = (Fuse::default(), Fuse::default());
        first.set(3);
        second.set(2);
        step();
        assert_eq!(first.watch(step), Some(()));
        assert_eq!(second.watch(step), Some(()));
        assert_eq!(second.watch(step), None);
        assert_eq!(first.watch(|| second.watch(step)), Some(Some(())));
        assert_eq!((first.watch(step), first.watch(step)), (Some(()), None));
    }
}
