//! One node of an extent tree, as bytes.

use crate::block_number::{FileBlock, VolumeBlock};
use crate::bytes::{high32, le16, le32, low16, low32, put_le16, put_le32};
use crate::error::{Error, Result};
use crate::extent::DEEPEST;

const MAGIC: u16 = 0xf30a;
const HEADER: usize = 12;
const ENTRY: usize = 12;
/// The longest extent with data; longer counts in the entry mean "unwritten".
pub(crate) const LARGEST_WRITTEN: u32 = 32768;
/// The longest extent without data.
pub(crate) const LARGEST_UNWRITTEN: u32 = 32767;

/// A run of a file's blocks on the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The first block of the file.
    pub(crate) block: FileBlock,
    /// The first block on the volume.
    pub(crate) start: VolumeBlock,
    pub(crate) count: u32,
    /// Allocated, but reads as zeros.
    pub(crate) unwritten: bool,
}

impl Extent {
    pub(crate) fn end(&self) -> FileBlock {
        FileBlock(self.block.0.saturating_add(self.count))
    }

    fn largest(&self) -> u32 {
        if self.unwritten { LARGEST_UNWRITTEN } else { LARGEST_WRITTEN }
    }

    /// Both as one, if `next` continues this one in the file and on the volume.
    pub(crate) fn join(&self, next: &Extent) -> Option<Extent> {
        let continues = self.end() == next.block
            && self.start + u64::from(self.count) == next.start
            && self.unwritten == next.unwritten
            && self.count + next.count <= self.largest();
        continues.then_some(Extent { count: self.count + next.count, ..*self })
    }

    fn encode(&self) -> [u8; ENTRY] {
        let mut entry = [0; ENTRY];
        let count = if self.unwritten { self.count + LARGEST_WRITTEN } else { self.count };
        put_le32(&mut entry, 0, self.block.0);
        put_le16(&mut entry, 4, low16(count));
        put_le16(&mut entry, 6, low16(high32(self.start.0)));
        put_le32(&mut entry, 8, low32(self.start.0));
        entry
    }
}

/// A node to look at; [`check`] has passed.
#[derive(Clone, Copy)]
pub(super) struct Node<'a>(pub(super) &'a [u8]);

/// Checks a node's header; `depth` is what its parent says.
pub(super) fn check(bytes: &[u8], depth: Option<usize>) -> Result<()> {
    let node = Node(bytes);
    let fits = HEADER + node.max() * ENTRY <= bytes.len();
    let deep = match depth {
        Some(depth) => node.depth() == depth,
        None => node.depth() <= DEEPEST,
    };
    if le16(bytes, 0) == MAGIC && fits && node.max() > 0 && node.entries() <= node.max() && deep {
        Ok(())
    } else {
        Err(Error::Corrupt("extent tree node"))
    }
}

/// The first key that a node's parent names (none above the root), and where the parent's next entry begins.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) first: Option<FileBlock>,
    pub(super) end: FileBlock,
}

/// Checks that entries ascend, are not empty and do not overlap.
pub(super) fn check_order(bytes: &[u8]) -> Result<()> {
    let node = Node(bytes);
    let mut end = FileBlock(0);
    for index in 0..node.entries() {
        let key = node.key(index);
        let next = key.0.checked_add(node.length(index)).map(FileBlock);
        end = next.filter(|next| key >= end && *next > key).ok_or(Error::Corrupt("extents out of order"))?;
    }
    Ok(())
}

/// Checks that a node in order has only what its parent says.
pub(super) fn check_bounds(bytes: &[u8], bounds: Bounds) -> Result<()> {
    let node = Node(bytes);
    let Some(last) = node.entries().checked_sub(1) else { return Ok(()) };
    let begins = bounds.first.is_none_or(|first| first == node.key(0));
    let ends = node.key(last).0.checked_add(node.length(last)).is_some_and(|end| end <= bounds.end.0);
    if begins && ends { Ok(()) } else { Err(Error::Corrupt("extents outside of their node's range")) }
}

impl Node<'_> {
    pub(super) fn entries(&self) -> usize {
        usize::from(le16(self.0, 2))
    }

    pub(super) fn max(&self) -> usize {
        usize::from(le16(self.0, 4))
    }

    pub(super) fn depth(&self) -> usize {
        usize::from(le16(self.0, 6))
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries() >= self.max()
    }

    /// The first block of the file that entry `index` covers.
    pub(super) fn key(&self, index: usize) -> FileBlock {
        FileBlock(le32(self.0, HEADER + index * ENTRY))
    }

    pub(super) fn extent(&self, index: usize) -> Extent {
        let entry = &self.0[HEADER + index * ENTRY..];
        let count = u32::from(le16(entry, 4));
        let unwritten = count > LARGEST_WRITTEN;
        Extent {
            block: FileBlock(le32(entry, 0)),
            start: VolumeBlock(u64::from(le32(entry, 8)) | u64::from(le16(entry, 6)) << 32),
            count: if unwritten { count - LARGEST_WRITTEN } else { count },
            unwritten,
        }
    }

    /// How many blocks of the file entry `index` covers at least: those of an extent, or one.
    fn length(&self, index: usize) -> u32 {
        if self.depth() == 0 { self.extent(index).count } else { 1 }
    }

    /// The blocks of the volume that entry `index` names.
    pub(super) fn blocks(&self, index: usize) -> (VolumeBlock, u64) {
        if self.depth() > 0 {
            return (self.child(index), 1);
        }
        let extent = self.extent(index);
        (extent.start, u64::from(extent.count))
    }

    /// The block of the node below that entry `index` names.
    pub(super) fn child(&self, index: usize) -> VolumeBlock {
        let entry = &self.0[HEADER + index * ENTRY..];
        VolumeBlock(u64::from(le32(entry, 4)) | u64::from(le16(entry, 8)) << 32)
    }

    /// The last entry that begins at or before `at`.
    pub(super) fn find(&self, at: FileBlock) -> Option<usize> {
        let (mut low, mut high) = (0, self.entries());
        while low < high {
            let middle = (low + high) / 2;
            if self.key(middle) <= at { low = middle + 1 } else { high = middle }
        }
        low.checked_sub(1)
    }

    /// The bytes of entries `from` on.
    pub(super) fn tail(&self, from: usize) -> &[u8] {
        &self.0[HEADER + from * ENTRY..HEADER + self.entries() * ENTRY]
    }
}

/// An empty leaf as root of an inode.
pub(crate) fn empty_root() -> [u8; 60] {
    let mut root = [0; 60];
    format(&mut root, 4, 0);
    root
}

/// A root of at most four extents.
pub(crate) fn put_root(extents: &[Extent]) -> [u8; 60] {
    let mut root = empty_root();
    for (index, extent) in extents.iter().take(4).enumerate() {
        insert_extent(&mut root, index, extent);
    }
    root
}

/// An empty node.
pub(super) fn format(bytes: &mut [u8], max: usize, depth: usize) {
    put_le16(bytes, 0, MAGIC);
    put_le16(bytes, 2, 0);
    put_le16(bytes, 4, max as u16);
    put_le16(bytes, 6, depth as u16);
    put_le32(bytes, 8, 0);
}

/// How many entries fit a block of `size` bytes, with its checksum.
pub(super) fn block_max(size: usize) -> usize {
    (size - HEADER - 4) / ENTRY
}

pub(super) fn set_depth(bytes: &mut [u8], depth: usize) {
    put_le16(bytes, 6, depth as u16);
}

fn set_entries(bytes: &mut [u8], entries: usize) {
    put_le16(bytes, 2, entries as u16);
}

pub(super) fn set_extent(bytes: &mut [u8], index: usize, extent: &Extent) {
    let at = HEADER + index * ENTRY;
    bytes[at..at + ENTRY].copy_from_slice(&extent.encode());
}

pub(super) fn set_key(bytes: &mut [u8], index: usize, key: FileBlock) {
    put_le32(bytes, HEADER + index * ENTRY, key.0);
}

/// Makes room for an entry at `index`; the node is not full.
fn open_gap(bytes: &mut [u8], index: usize) {
    let entries = Node(bytes).entries();
    let at = HEADER + index * ENTRY;
    bytes.copy_within(at..HEADER + entries * ENTRY, at + ENTRY);
    set_entries(bytes, entries + 1);
}

pub(super) fn insert_extent(bytes: &mut [u8], index: usize, extent: &Extent) {
    open_gap(bytes, index);
    set_extent(bytes, index, extent);
}

pub(super) fn insert_child(bytes: &mut [u8], index: usize, key: FileBlock, block: VolumeBlock) {
    open_gap(bytes, index);
    let entry = &mut bytes[HEADER + index * ENTRY..][..ENTRY];
    put_le32(entry, 0, key.0);
    put_le32(entry, 4, low32(block.0));
    put_le16(entry, 8, low16(high32(block.0)));
    put_le16(entry, 10, 0);
}

pub(super) fn remove(bytes: &mut [u8], index: usize) {
    let entries = Node(bytes).entries();
    let at = HEADER + index * ENTRY;
    bytes.copy_within(at + ENTRY..HEADER + entries * ENTRY, at);
    set_entries(bytes, entries - 1);
}

/// Cuts off the entries from `from` on.
pub(super) fn truncate(bytes: &mut [u8], from: usize) {
    set_entries(bytes, from);
}

/// Fills an empty node with entries.
pub(super) fn fill(bytes: &mut [u8], entries: &[u8]) {
    bytes[HEADER..HEADER + entries.len()].copy_from_slice(entries);
    set_entries(bytes, entries.len() / ENTRY);
}
