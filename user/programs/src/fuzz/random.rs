//! Pseudo-random numbers: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).

/// A generator.
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    /// The generator for part `index` of a seed's sequence.
    pub fn new(seed: u64, index: u64) -> Random {
        let mut start = Random(seed);
        let base = start.next();
        Random(base ^ index.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    /// 64 random bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// A number in `first..end`.
    pub fn within(&mut self, first: u32, end: u32) -> u32 {
        first + self.below(u64::from(end - first)) as u32
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of `values`, which are some.
    pub fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize]
    }
}
