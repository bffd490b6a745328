//! Physical memory for tests: a byte array.

//! Physical memory for tests: pieces at addresses.

use super::Physical;

#[derive(Clone, Default)]
pub struct Memory(pub Vec<(u64, Vec<u8>)>);

impl Physical for Memory {
    fn bytes(&self, at: u64, size: usize) -> Option<&[u8]> {
        self.0.iter().find_map(|(start, bytes)| {
            let from = usize::try_from(at.checked_sub(*start)?).ok()?;
            bytes.get(from..from.checked_add(size)?)
        })
    }
}

/// A small generator for tests that garble (xorshift64).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}
