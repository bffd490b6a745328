//! Places where a victim is to die, one after the other: all of a range, or a sample of it.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::random::Random;

/// A range of numbers, both ends among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first.
    pub first: u64,
    /// The last. None: as far as there is anything.
    pub last: Option<u64>,
}

impl Range {
    /// Reads `N`, `A-B` or `A-`.
    pub fn read(text: &str) -> Option<Range> {
        let number = |text: &str| text.parse::<u64>().ok();
        let Some((first, last)) = text.split_once('-') else {
            let only = number(text)?;
            return Some(Range { first: only, last: Some(only) });
        };
        let first = number(first)?;
        let last = if last.is_empty() { None } else { Some(number(last)?) };
        last.is_none_or(|last| last >= first).then_some(Range { first, last })
    }

    /// How many places of a range with an end are drawn.
    pub fn drawn(&self, sample: Option<u64>) -> u64 {
        let all = self.last.unwrap_or(u64::MAX).saturating_sub(self.first).saturating_add(1);
        sample.map_or(all, |sample| sample.min(all))
    }

    /// Its numbers in their order, where it ends at `end` at the latest: all of them, or `sample` of them.
    pub fn places(&self, end: u64, sample: Option<u64>, seed: u64) -> Vec<u64> {
        let last = self.last.unwrap_or(end);
        let Some(count) = last.checked_sub(self.first).map(|more| more.saturating_add(1)) else {
            return Vec::new();
        };
        let Some(sample) = sample.filter(|&sample| sample < count) else {
            return (self.first..=last).collect();
        };
        let mut random = Random::new(seed);
        let mut chosen = BTreeSet::new();
        // Floyd's way (Bentley and Floyd, 1987): each new number is likely as any, and none is drawn in vain.
        for above in count - sample..count {
            let drawn = random.below(above + 1);
            chosen.insert(if chosen.contains(&drawn) { above } else { drawn });
        }
        chosen.into_iter().map(|place| self.first + place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_range_is_one_number_or_two_or_has_no_end() {
        assert_eq!(Range::read("7"), Some(Range { first: 7, last: Some(7) }));
        assert_eq!(Range::read("1-1000"), Some(Range { first: 1, last: Some(1000) }));
        assert_eq!(Range::read("5-"), Some(Range { first: 5, last: None }));
        for wrong in ["", "-", "-5", "5-1", "a", "1-b", "1-2-3"] {
            assert_eq!(Range::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn without_a_sample_every_place_comes() {
        assert_eq!(Range { first: 3, last: Some(6) }.places(100, None, 1), [3, 4, 5, 6]);
        assert_eq!(Range { first: 3, last: None }.places(5, None, 1), [3, 4, 5]);
        assert_eq!(Range { first: 3, last: None }.places(2, None, 1), []);
    }

    proptest! {
        #[test]
        fn a_sample_has_its_size_lies_in_the_range_and_is_the_same_for_the_same_seed(
            first in 0u64..1000, more in 0u64..1000, sample in 1u64..1200, seed: u64,
        ) {
            let range = Range { first, last: Some(first + more) };
            let places = range.places(0, Some(sample), seed);
            prop_assert_eq!(places.len() as u64, sample.min(more + 1));
            prop_assert!(places.is_sorted_by(|a, b| a < b));
            prop_assert!(places.iter().all(|place| (first..=first + more).contains(place)));
            prop_assert_eq!(places, range.places(0, Some(sample), seed));
        }
    }
}
