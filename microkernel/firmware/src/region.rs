//! Sets of physical memory, as sorted lists of regions.

use heapless::Vec;

/// Bytes in a page.
pub const PAGE: u64 = 4096;

/// Physical memory from `start` up to but not including `end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// First byte after it.
    pub end: u64,
}

impl Region {
    /// The region of `size` bytes at `start`, cut off at the end of the address space.
    pub const fn sized(start: u64, size: u64) -> Region {
        Region { start, end: start.saturating_add(size) }
    }

    /// Bytes in it.
    pub const fn size(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether it has no bytes.
    pub const fn is_empty(&self) -> bool {
        self.end <= self.start
    }

    /// Whether all of `other` lies in it.
    pub const fn contains(&self, other: Region) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// The whole pages in it.
    pub const fn pages_within(self) -> Region {
        let start = match self.start.checked_next_multiple_of(PAGE) {
            Some(start) => start,
            None => return Region { start: 0, end: 0 },
        };
        Region { start, end: self.end & !(PAGE - 1) }
    }

    /// All pages it touches.
    pub const fn pages_around(self) -> Region {
        let end = match self.end.checked_next_multiple_of(PAGE) {
            Some(end) => end,
            None => !(PAGE - 1),
        };
        Region { start: self.start & !(PAGE - 1), end }
    }

    /// What is in both.
    pub fn and(self, other: Region) -> Region {
        Region { start: self.start.max(other.start), end: self.end.min(other.end) }
    }
}

/// A set of at most `N` disjoint regions, ascending. Where there is no room for one more, the set comes out
/// smaller than asked, never larger: memory can be lost so, but is never given out twice.
#[derive(Clone, Debug, Default)]
pub struct Regions<const N: usize>(Vec<Region, N>);

impl<const N: usize> Regions<N> {
    /// None.
    pub const fn new() -> Regions<N> {
        Regions(Vec::new())
    }

    /// The regions, ascending and disjoint.
    pub fn as_slice(&self) -> &[Region] {
        &self.0
    }

    /// Bytes in all of them.
    pub fn size(&self) -> u64 {
        self.0.iter().fold(0, |sum, region| sum.saturating_add(region.size()))
    }

    /// Whether all of `region` lies in one of them.
    pub fn contains(&self, region: Region) -> bool {
        self.0.iter().any(|have| have.contains(region))
    }

    /// Adds `region`.
    pub fn add(&mut self, region: Region) {
        if region.is_empty() {
            return;
        }
        let mut all = region;
        for have in self.0.iter().filter(|have| have.start <= region.end && region.start <= have.end) {
            all = Region { start: all.start.min(have.start), end: all.end.max(have.end) };
        }
        self.0.retain(|have| !all.contains(*have));
        let at = self.0.iter().position(|have| have.start > all.start).unwrap_or(self.0.len());
        let _lost_when_full = self.0.insert(at, all);
    }

    /// Takes `region` away.
    pub fn remove(&mut self, region: Region) {
        if region.is_empty() {
            return;
        }
        let mut left = Vec::<Region, N>::new();
        for have in &self.0 {
            let before = Region { start: have.start, end: have.end.min(region.start) };
            let after = Region { start: have.start.max(region.end), end: have.end };
            for piece in [before, after] {
                if !piece.is_empty() {
                    let _lost_when_full = left.push(piece);
                }
            }
        }
        self.0 = left;
    }

    /// Takes `size` bytes, aligned to `align` (a power of two), from as high as possible below `limit`.
    pub fn take(&mut self, size: u64, align: u64, limit: u64) -> Option<Region> {
        let place = |have: &Region| {
            let start = have.end.min(limit).checked_sub(size)? & !align.checked_sub(1)?;
            (start >= have.start).then_some(Region::sized(start, size))
        };
        let taken = self.0.iter().rev().find_map(place)?;
        self.remove(taken);
        Some(taken)
    }
}

#[cfg(test)]
#[path = "../tests/region.rs"]
mod tests;
