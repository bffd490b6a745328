//! Block numbers, which cannot be confused: those of a file and those of the volume.

use core::ops::{Add, Sub};

/// A block of a file (or of a directory), counted from the file's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileBlock(pub(crate) u32);

/// A block of the volume, counted from the start of the device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct VolumeBlock(pub(crate) u64);

impl FileBlock {
    /// The block that holds byte `offset` of a file; the offset lies below the largest file's size.
    pub(crate) fn of(offset: u64, block_size: usize) -> Self {
        FileBlock(crate::bytes::low32(offset / block_size as u64))
    }

    /// The first block that begins at or behind byte `offset`.
    pub(crate) fn behind(offset: u64, block_size: usize) -> Self {
        FileBlock(crate::bytes::low32(offset.div_ceil(block_size as u64)))
    }
}

impl Add<u32> for FileBlock {
    type Output = FileBlock;

    fn add(self, count: u32) -> FileBlock {
        FileBlock(self.0 + count)
    }
}

impl Sub for FileBlock {
    type Output = u32;

    fn sub(self, earlier: FileBlock) -> u32 {
        self.0 - earlier.0
    }
}

impl Add<u64> for VolumeBlock {
    type Output = VolumeBlock;

    fn add(self, count: u64) -> VolumeBlock {
        VolumeBlock(self.0 + count)
    }
}

impl Sub for VolumeBlock {
    type Output = u64;

    fn sub(self, earlier: VolumeBlock) -> u64 {
        self.0 - earlier.0
    }
}
