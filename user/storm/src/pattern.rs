//! What is written to a disk: each sector different from every other, and from what it held in other passes.

use core::sync::atomic::{AtomicU64, Ordering};

use xxhash_rust::xxh64::xxh64;

use crate::random::{mixed, mixed_two};

/// Words of a sector.
pub const WORDS: usize = 64;
/// Bytes of a sector.
pub const BYTES: u64 = 512;

/// A sector in memory that is shared with a device.
pub type Shared = [AtomicU64; WORDS];

/// The contents of all sectors in one pass over a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    seed: u64,
}

/// What a sector turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// What was written.
    Right,
    /// What it held before: the write never reached it.
    Old,
    /// Something else; so many of its bytes are not what was written.
    Wrong(u64),
}

impl Pattern {
    /// The pattern of one pass among those with a seed.
    pub const fn new(seed: u64, pass: u64) -> Pattern {
        Pattern { seed: mixed_two(seed, pass) }
    }

    /// A word of a sector.
    #[inline]
    fn word(&self, sector: u64, at: usize) -> u64 {
        // Cheaper than one mixing for each word, and a word that lies at a wrong place is still a wrong one.
        mixed(self.seed ^ sector).wrapping_add((at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The words of a sector.
    fn words(&self, sector: u64) -> [u64; WORDS] {
        core::array::from_fn(|at| self.word(sector, at))
    }

    /// Fills memory with a sector's contents; gives their hash.
    pub fn fill(&self, memory: &Shared, sector: u64) -> u64 {
        let words = self.words(sector);
        for (place, word) in memory.iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
        hash(&words, sector)
    }

    /// Compares memory with a sector's contents, and with those it had `before` (zeros without); gives the hash of
    /// what is there.
    pub fn check(&self, memory: &Shared, sector: u64, before: Option<Pattern>) -> (Verdict, u64) {
        let found: [u64; WORDS] = core::array::from_fn(|at| memory[at].load(Ordering::Relaxed));
        let hash = hash(&found, sector);
        if found == self.words(sector) {
            return (Verdict::Right, hash);
        }
        let old = before.map_or([0; WORDS], |before| before.words(sector));
        if found == old {
            return (Verdict::Old, hash);
        }
        let wrong = |(at, word): (usize, &u64)| {
            let differs = (word ^ self.word(sector, at)).to_le_bytes();
            differs.iter().filter(|&&byte| byte != 0).count() as u64
        };
        (Verdict::Wrong(found.iter().enumerate().map(wrong).sum()), hash)
    }
}

/// Makes memory unlike anything that is read into it, so that a read that never happened shows.
pub fn spoil(memory: &Shared) {
    for place in memory {
        place.store(0x5ca1_ab1e_5ca1_ab1e, Ordering::Relaxed);
    }
}

/// A sector's hash: those of many, added up, do not depend on their order.
fn hash(words: &[u64; WORDS], sector: u64) -> u64 {
    let mut bytes = [0; BYTES as usize];
    for (place, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
        *place = word.to_le_bytes();
    }
    xxh64(&bytes, sector)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PATTERN: Pattern = Pattern::new(7, 1);

    fn memory() -> Shared {
        core::array::from_fn(|_| AtomicU64::new(0))
    }

    fn filled(pattern: Pattern, sector: u64) -> Shared {
        let memory = memory();
        pattern.fill(&memory, sector);
        memory
    }

    #[test]
    fn what_was_written_is_right_and_has_the_hash_it_was_written_with() {
        let memory = memory();
        let hash = PATTERN.fill(&memory, 5);
        assert_eq!(PATTERN.check(&memory, 5, None), (Verdict::Right, hash));
    }

    #[test]
    fn a_sector_that_was_never_written_is_old_with_zeros_and_with_what_was_there() {
        assert_eq!(PATTERN.check(&memory(), 5, None).0, Verdict::Old);
        let before = Pattern::new(7, 0);
        assert_eq!(PATTERN.check(&filled(before, 5), 5, Some(before)).0, Verdict::Old);
    }

    #[test]
    fn another_sectors_contents_and_a_read_that_never_happened_are_wrong() {
        assert!(matches!(PATTERN.check(&filled(PATTERN, 6), 5, None).0, Verdict::Wrong(400..)));
        let memory = filled(PATTERN, 5);
        spoil(&memory);
        assert!(matches!(PATTERN.check(&memory, 5, None).0, Verdict::Wrong(400..)));
    }

    #[test]
    fn words_within_a_sector_differ() {
        let words = PATTERN.words(9);
        assert!(words.iter().enumerate().all(|(at, word)| !words[..at].contains(word)));
    }

    proptest! {
        #[test]
        fn every_wrong_byte_counts(sector: u64, bytes in proptest::collection::btree_set(0usize..512, 1..20)) {
            let memory = filled(PATTERN, sector);
            for &byte in &bytes {
                memory[byte / 8].fetch_xor(0x10 << (byte % 8 * 8), Ordering::Relaxed);
            }
            let expected = Verdict::Wrong(bytes.len() as u64);
            let (verdict, hash) = PATTERN.check(&memory, sector, None);
            prop_assert_eq!(verdict, expected);
            prop_assert_ne!(hash, PATTERN.check(&filled(PATTERN, sector), sector, None).1);
        }
    }
}
