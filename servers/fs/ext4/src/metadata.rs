//! The kinds of metadata blocks, and how each is checksummed.

use crate::block_number::VolumeBlock;
use crate::bytes::{le16, le32, put_le32};
use crate::checksum::crc32c;
use crate::error::{Error, Result};
use crate::superblock::Superblock;

/// What a metadata block holds; decides where its checksum lies and what it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No checksum in the block: inode tables (each inode has its own), bitmaps and descriptors (sums in the
    /// descriptor), link targets.
    Plain,
    /// Directory entries; the seed is the directory inode's.
    DirLeaf(u32),
    /// The first block of an indexed directory.
    DirRoot(u32),
    /// An inner block of a directory index.
    DirNode(u32),
    /// A block of an extent tree.
    Extents(u32),
    /// Extended attributes in this block.
    Xattr(VolumeBlock),
}

/// Where the entries of a directory index begin: in the first block, and in the others.
pub(crate) const ROOT_ENTRIES_AT: usize = 0x20;
pub(crate) const NODE_ENTRIES_AT: usize = 8;
/// The entry-shaped tail of a directory block.
pub(crate) const LEAF_TAIL_BYTES: usize = 12;
const LEAF_TAIL_TYPE: u8 = 0xde;

impl Kind {
    /// Puts the checksum into `bytes`.
    pub(crate) fn seal(self, sb: &Superblock, bytes: &mut [u8]) -> Result<()> {
        if !sb.has_checksums() {
            return Ok(());
        }
        if let Some((at, sum)) = self.checksum(sb, bytes)? {
            put_le32(bytes, at, sum);
        }
        Ok(())
    }

    /// Compares the checksum in `bytes`.
    pub(crate) fn verify(self, sb: &Superblock, bytes: &[u8]) -> Result<()> {
        if !sb.has_checksums() {
            return Ok(());
        }
        match self.checksum(sb, bytes)? {
            Some((at, sum)) if le32(bytes, at) != sum => Err(Error::Corrupt(self.name())),
            _ => Ok(()),
        }
    }

    /// The kind as two words of a record.
    pub(crate) fn to_words(self) -> (u64, u64) {
        match self {
            Kind::Plain => (0, 0),
            Kind::DirLeaf(seed) => (1, u64::from(seed)),
            Kind::DirRoot(seed) => (2, u64::from(seed)),
            Kind::DirNode(seed) => (3, u64::from(seed)),
            Kind::Extents(seed) => (4, u64::from(seed)),
            Kind::Xattr(block) => (5, block.0),
        }
    }

    pub(crate) fn from_words(tag: u64, value: u64) -> Result<Self> {
        let seed = (value & 0xffff_ffff) as u32;
        Ok(match tag {
            0 => Kind::Plain,
            1 => Kind::DirLeaf(seed),
            2 => Kind::DirRoot(seed),
            3 => Kind::DirNode(seed),
            4 => Kind::Extents(seed),
            5 => Kind::Xattr(VolumeBlock(value)),
            _ => return Err(Error::Corrupt("record of the running transaction")),
        })
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Plain => "block",
            Kind::DirLeaf(_) => "directory block checksum",
            Kind::DirRoot(_) | Kind::DirNode(_) => "directory index checksum",
            Kind::Extents(_) => "extent block checksum",
            Kind::Xattr(_) => "attribute block checksum",
        }
    }

    fn checksum(self, sb: &Superblock, bytes: &[u8]) -> Result<Option<(usize, u32)>> {
        match self {
            Kind::Plain => Ok(None),
            Kind::DirLeaf(seed) => leaf_checksum(seed, bytes).map(Some),
            Kind::DirRoot(seed) => index_checksum(seed, bytes, ROOT_ENTRIES_AT).map(Some),
            Kind::DirNode(seed) => index_checksum(seed, bytes, NODE_ENTRIES_AT).map(Some),
            Kind::Extents(seed) => extent_checksum(seed, bytes).map(Some),
            Kind::Xattr(block) => Ok(Some(xattr_checksum(sb.checksum_seed, block, bytes))),
        }
    }
}

/// Puts an empty checksum tail at the end of a directory block.
pub(crate) fn put_leaf_tail(bytes: &mut [u8]) {
    let at = bytes.len() - LEAF_TAIL_BYTES;
    bytes[at..].copy_from_slice(&[0, 0, 0, 0, LEAF_TAIL_BYTES as u8, 0, 0, LEAF_TAIL_TYPE, 0, 0, 0, 0]);
}

fn leaf_checksum(seed: u32, bytes: &[u8]) -> Result<(usize, u32)> {
    let at = bytes.len() - LEAF_TAIL_BYTES;
    let tail = &bytes[at..];
    if le32(tail, 0) != 0 || usize::from(le16(tail, 4)) != LEAF_TAIL_BYTES || tail[7] != LEAF_TAIL_TYPE {
        return Err(Error::Corrupt("directory block without checksum"));
    }
    Ok((bytes.len() - 4, crc32c(seed, &bytes[..at])))
}

fn index_checksum(seed: u32, bytes: &[u8], entries_at: usize) -> Result<(usize, u32)> {
    let limit = usize::from(le16(bytes, entries_at));
    let count = usize::from(le16(bytes, entries_at + 2));
    let tail = entries_at + limit * 8;
    if count > limit || tail + 8 > bytes.len() {
        return Err(Error::Corrupt("directory index size"));
    }
    let sum = crc32c(seed, &bytes[..entries_at + count * 8]);
    let sum = crc32c(sum, &bytes[tail..tail + 4]);
    Ok((tail + 4, crc32c(sum, &[0; 4])))
}

fn extent_checksum(seed: u32, bytes: &[u8]) -> Result<(usize, u32)> {
    let tail = 12 + 12 * usize::from(le16(bytes, 4));
    if tail + 4 > bytes.len() {
        return Err(Error::Corrupt("extent block size"));
    }
    Ok((tail, crc32c(seed, &bytes[..tail])))
}

fn xattr_checksum(seed: u32, block: VolumeBlock, bytes: &[u8]) -> (usize, u32) {
    let sum = crc32c(seed, &block.0.to_le_bytes());
    let sum = crc32c(crc32c(sum, &bytes[..0x10]), &[0; 4]);
    (0x10, crc32c(sum, &bytes[0x14..]))
}
