//! The latest transfers, in the words of the state.

use proto::ledger::{PAGE, TRANSFER_WORDS};
use recover::{JournalFull, Memory, View, Work};

/// How many transfers there have been.
const COUNT: usize = 0;
const RING: usize = 1;

/// A transfer: from, to, amount.
pub type Transfer = [u64; TRANSFER_WORDS];

/// The last so many transfers.
#[derive(Clone, Copy, Debug)]
pub struct History {
    /// Where it begins in the server's words.
    pub first: usize,
    /// How many it keeps.
    pub length: usize,
}

impl History {
    /// Words that it takes.
    pub const fn words(self) -> usize {
        RING + self.length * TRANSFER_WORDS
    }

    fn at(&self, number: u64) -> usize {
        self.first + RING + (number % self.length as u64) as usize * TRANSFER_WORDS
    }

    /// How many transfers there have been.
    pub fn count<M: Memory>(&self, words: &View<M>) -> u64 {
        words.get(self.first + COUNT)
    }

    /// Adds a transfer: its number.
    pub fn add<M: Memory>(&self, words: &mut Work<M>, transfer: Transfer) -> Result<u64, JournalFull> {
        let number = words.get(self.first + COUNT);
        for (word, value) in transfer.into_iter().enumerate() {
            words.set(self.at(number) + word, value)?;
        }
        words.set(self.first + COUNT, number + 1)?;
        Ok(number)
    }

    /// Transfers from number `from` on, or from the first that is kept; the number of the first, and a page at most.
    pub fn page<M: Memory>(&self, words: &View<M>, from: u64) -> (u64, impl Iterator<Item = Transfer>) {
        let count = self.count(words);
        let first = from.max(count.saturating_sub(self.length as u64));
        let end = count.min(first.saturating_add(PAGE as u64));
        let transfers =
            (first..end).map(|number| core::array::from_fn(|word| words.get(self.at(number) + word)));
        (first, transfers)
    }
}
