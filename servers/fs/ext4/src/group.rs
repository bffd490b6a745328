//! Block group descriptors, kept decoded in memory while the volume is mounted.
//!
//! Source: Documentation/filesystems/ext4/group_descr.rst of Linux.

use crate::block_number::VolumeBlock;
use crate::bytes::{high16, high32, le16, le32, low16, low32, put_le16, put_le32};
use crate::checksum::crc32c;
use crate::error::{Error, Result};
use crate::superblock::Superblock;

/// The inode bitmap on disk was never written: no inode is in use.
pub(crate) const INODE_UNINIT: u16 = 1;
/// The block bitmap on disk was never written: only the group's own metadata is in use.
pub(crate) const BLOCK_UNINIT: u16 = 2;

/// The inode table is zeroed.
pub(crate) const INODE_ZEROED: u16 = 4;

const CHECKSUM_AT: usize = 0x1e;

/// One group: its descriptor, and hints for the allocator that are never stored.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group {
    pub(crate) block_bitmap: VolumeBlock,
    pub(crate) inode_bitmap: VolumeBlock,
    pub(crate) inode_table: VolumeBlock,
    pub(crate) free_blocks: u32,
    pub(crate) free_inodes: u32,
    pub(crate) used_dirs: u32,
    pub(crate) unused_inodes: u32,
    pub(crate) flags: u16,
    pub(crate) block_bitmap_csum: u32,
    pub(crate) inode_bitmap_csum: u32,
    /// Differs from the descriptor in the last sealed transaction.
    pub(crate) dirty: bool,
    /// No free block lies before this one (in the group).
    pub(crate) block_hint: u32,
    /// No run of blocks that may be allocated is longer; `None` until a search has seen the whole bitmap.
    pub(crate) longest_run: Option<u32>,
    /// No free inode lies before this one (in the group).
    pub(crate) inode_hint: u32,
    /// Blocks counted in `free_blocks` that may not be used before the running transaction has committed.
    pub(crate) pending_blocks: u32,
}

impl Group {
    /// Decodes and checks the descriptor of group `number`.
    pub(crate) fn parse(sb: &Superblock, number: u32, raw: &[u8]) -> Result<Self> {
        if sb.has_checksums() && le16(raw, CHECKSUM_AT) != checksum(sb, number, raw) {
            return Err(Error::Corrupt("group descriptor checksum"));
        }
        let wide = sb.desc_size >= 64;
        let hi16 = |at: usize| if wide { u32::from(le16(raw, at)) << 16 } else { 0 };
        let hi32 = |at: usize| if wide { u64::from(le32(raw, at)) << 32 } else { 0 };
        let lo16 = |at: usize| u32::from(le16(raw, at));
        let group = Group {
            block_bitmap: VolumeBlock(u64::from(le32(raw, 0)) | hi32(0x20)),
            inode_bitmap: VolumeBlock(u64::from(le32(raw, 4)) | hi32(0x24)),
            inode_table: VolumeBlock(u64::from(le32(raw, 8)) | hi32(0x28)),
            free_blocks: lo16(0xc) | hi16(0x2c),
            free_inodes: lo16(0xe) | hi16(0x2e),
            used_dirs: lo16(0x10) | hi16(0x30),
            flags: le16(raw, 0x12),
            block_bitmap_csum: lo16(0x18) | hi16(0x38),
            inode_bitmap_csum: lo16(0x1a) | hi16(0x3a),
            unused_inodes: if sb.has_checksums() { lo16(0x1c) | hi16(0x32) } else { 0 },
            ..Group::default()
        };
        group.check(sb, number)?;
        Ok(group)
    }

    fn check(&self, sb: &Superblock, number: u32) -> Result<()> {
        let table = u64::from(sb.inodes_per_group.div_ceil(sb.inodes_per_block()));
        let places = sb.contains(self.block_bitmap, 1)
            && sb.contains(self.inode_bitmap, 1)
            && sb.contains(self.inode_table, table);
        let counts = self.free_blocks <= sb.group_blocks(number)
            && self.free_inodes <= sb.inodes_per_group
            && self.used_dirs <= sb.inodes_per_group
            && self.unused_inodes <= sb.inodes_per_group;
        if places && counts { Ok(()) } else { Err(Error::Corrupt("group descriptor")) }
    }

    /// How many of its blocks may be allocated now.
    pub(crate) fn allocatable(&self) -> u32 {
        self.free_blocks.saturating_sub(self.pending_blocks)
    }

    /// Writes the descriptor into `raw`, keeping what this crate does not know.
    pub(crate) fn encode(&self, sb: &Superblock, number: u32, raw: &mut [u8]) {
        put_le32(raw, 0, low32(self.block_bitmap.0));
        put_le32(raw, 4, low32(self.inode_bitmap.0));
        put_le32(raw, 8, low32(self.inode_table.0));
        put_le16(raw, 0xc, low16(self.free_blocks));
        put_le16(raw, 0xe, low16(self.free_inodes));
        put_le16(raw, 0x10, low16(self.used_dirs));
        put_le16(raw, 0x12, self.flags);
        put_le16(raw, 0x18, low16(self.block_bitmap_csum));
        put_le16(raw, 0x1a, low16(self.inode_bitmap_csum));
        put_le16(raw, 0x1c, low16(self.unused_inodes));
        if sb.desc_size >= 64 {
            put_le32(raw, 0x20, high32(self.block_bitmap.0));
            put_le32(raw, 0x24, high32(self.inode_bitmap.0));
            put_le32(raw, 0x28, high32(self.inode_table.0));
            put_le16(raw, 0x2c, high16(self.free_blocks));
            put_le16(raw, 0x2e, high16(self.free_inodes));
            put_le16(raw, 0x30, high16(self.used_dirs));
            put_le16(raw, 0x32, high16(self.unused_inodes));
            put_le16(raw, 0x38, high16(self.block_bitmap_csum));
            put_le16(raw, 0x3a, high16(self.inode_bitmap_csum));
        }
        if sb.has_checksums() {
            let sum = checksum(sb, number, raw);
            put_le16(raw, CHECKSUM_AT, sum);
        }
    }
}

/// The part of a bitmap's checksum that fits the descriptor.
pub(crate) fn bitmap_checksum(sb: &Superblock, bits: u32, bitmap: &[u8]) -> u32 {
    let sum = crc32c(sb.checksum_seed, &bitmap[..(bits / 8) as usize]);
    if sb.desc_size >= 64 { sum } else { sum & 0xffff }
}

fn checksum(sb: &Superblock, number: u32, raw: &[u8]) -> u16 {
    let seed = crc32c(sb.checksum_seed, &number.to_le_bytes());
    let seed = crc32c(seed, &raw[..CHECKSUM_AT]);
    let seed = crc32c(seed, &[0, 0]);
    low16(crc32c(seed, &raw[CHECKSUM_AT + 2..]))
}
