//! Which blocks hold file data that may not have reached the disk yet, by inode.

use alloc::vec::Vec;

use hashbrown::HashMap;

use crate::block_number::VolumeBlock;
use crate::inode::InodeNumber;

/// Ranges of blocks, as (first, count), of each inode with unwritten data.
#[derive(Debug, Default)]
pub(crate) struct DirtyData {
    inodes: HashMap<InodeNumber, Vec<(VolumeBlock, u64)>>,
    ranges: usize,
}

/// With more ranges than this the next operation writes them out, to bound the memory.
const MOST_RANGES: usize = 8192;

impl DirtyData {
    /// Notes `count` blocks from `start` on.
    pub(crate) fn note(&mut self, inode: InodeNumber, start: VolumeBlock, count: u64) {
        let ranges = self.inodes.entry(inode).or_default();
        if let Some((first, length)) = ranges.last_mut()
            && start >= *first
            && start <= *first + *length
        {
            *length = (*length).max(start - *first + count);
            return;
        }
        ranges.push((start, count));
        self.ranges += 1;
    }

    /// The inode's ranges, which are no longer noted.
    pub(crate) fn take(&mut self, inode: InodeNumber) -> Vec<(VolumeBlock, u64)> {
        let ranges = self.inodes.remove(&inode).unwrap_or_default();
        self.ranges -= ranges.len();
        ranges
    }

    /// All inodes with ranges, in ascending order.
    pub(crate) fn inodes(&self) -> Vec<InodeNumber> {
        let mut inodes: Vec<InodeNumber> = self.inodes.keys().copied().collect();
        inodes.sort_unstable();
        inodes
    }

    /// Whether so much is noted that it should be written out.
    pub(crate) fn is_full(&self) -> bool {
        self.ranges > MOST_RANGES
    }
}
