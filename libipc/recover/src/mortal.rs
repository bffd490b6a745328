//! Memory whose writer dies, for tests on the host: after any number of stores.
//!
//! A test does its work once to count the stores, and then again for each k up to that number with a writer that is
//! killed when it is about to make store k + 1. What has been stored by then is what the next life finds.

extern crate std;

use core::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::vec::Vec;

use crate::Memory;

/// What unwinds out of a store that is not made any more.
struct Killed;

/// Words, and how many more stores their writer lives for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mortal {
    words: Vec<Cell<u64>>,
    stores: Cell<u64>,
    life: Cell<u64>,
}

impl Mortal {
    /// So many words, all zero, with a writer that lives.
    pub fn new(words: usize) -> Mortal {
        Mortal { words: std::vec![Cell::new(0); words], stores: Cell::new(0), life: Cell::new(u64::MAX) }
    }

    /// Runs `life`, which is killed when it has made `stores` stores: `None` if that came before its end.
    pub fn live<R>(&self, stores: u64, life: impl FnOnce() -> R) -> Option<R> {
        self.life.set(stores);
        let ended = catch_unwind(AssertUnwindSafe(life));
        self.life.set(u64::MAX);
        match ended {
            Ok(result) => Some(result),
            Err(why) if why.is::<Killed>() => None,
            Err(failure) => resume_unwind(failure),
        }
    }

    /// Stores made so far.
    pub fn stores(&self) -> u64 {
        self.stores.get()
    }

    /// What the words hold.
    pub fn contents(&self) -> Vec<u64> {
        self.words.iter().map(Cell::get).collect()
    }

    /// Makes the words hold this, as if a former life had left it.
    pub fn fill(&self, contents: &[u64]) {
        for (word, value) in self.words.iter().zip(contents) {
            word.set(*value);
        }
    }
}

impl Memory for Mortal {
    fn size(&self) -> usize {
        self.words.len()
    }

    fn load(&self, at: usize) -> u64 {
        self.words[at].get()
    }

    fn store(&self, at: usize, value: u64) {
        match self.life.get() {
            // Not a panic: nothing is reported, the writer is just gone.
            0 => resume_unwind(std::boxed::Box::new(Killed)),
            left => self.life.set(left - 1),
        }
        self.stores.set(self.stores.get() + 1);
        self.words[at].set(value);
    }
}
