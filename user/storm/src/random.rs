//! Chance that can be had again: the same seed gives the same numbers.

/// A generator of numbers (SplitMix64; Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator with this seed.
    pub const fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mixed(self.0)
    }

    /// The next number below `end`, which is not 0. (Of no use where a slight bias matters.)
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// One of several.
    pub fn one_of<'a, T>(&mut self, several: &'a [T]) -> Option<&'a T> {
        several.get(self.below(several.len().max(1) as u64) as usize)
    }
}

/// The golden ratio's part behind the point.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A number that looks unlike the one it is made of, and unlike those of its neighbours.
#[inline]
pub const fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// A number for two, as unlike others.
#[inline]
pub const fn mixed_two(first: u64, second: u64) -> u64 {
    mixed(first.wrapping_mul(STEP) ^ second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_paper() {
        let mut random = Random::new(1_234_567);
        assert_eq!(random.number(), 6_457_827_717_110_365_317);
        assert_eq!(random.number(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn numbers_below_an_end_are_below_it_and_reach_it() {
        let mut random = Random::new(7);
        let seen: Vec<u64> = (0..100).map(|_| random.below(3)).collect();
        assert!((0..3).all(|number| seen.contains(&number)) && seen.iter().all(|&number| number < 3));
    }

    #[test]
    fn of_nothing_nothing_is_chosen() {
        assert_eq!(Random::new(0).one_of::<u8>(&[]), None);
    }
}
