//! Inodes: their fields, on disk and decoded.
//!
//! Source: Documentation/filesystems/ext4/inodes.rst of Linux.

use crate::block_number::VolumeBlock;
use crate::bytes::{high16, high32, le16, le32, low16, low32, put_le16, put_le32};
use crate::checksum::crc32c;
use crate::error::{Error, Result};
use crate::features::ro_compat;
use crate::superblock::Superblock;
use crate::time::Time;

/// An inode's number, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeNumber(pub u32);

impl InodeNumber {
    /// The root directory.
    pub const ROOT: InodeNumber = InodeNumber(2);
}

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
}

impl FileType {
    /// The type in a mode word, if it is one.
    pub fn from_mode(mode: u16) -> Option<Self> {
        Some(match mode >> 12 {
            0x1 => FileType::Fifo,
            0x2 => FileType::CharDevice,
            0x4 => FileType::Directory,
            0x6 => FileType::BlockDevice,
            0x8 => FileType::Regular,
            0xa => FileType::Symlink,
            0xc => FileType::Socket,
            _ => return None,
        })
    }

    /// The type's bits of a mode word.
    pub fn mode_bits(self) -> u16 {
        match self {
            FileType::Fifo => 0x1000,
            FileType::CharDevice => 0x2000,
            FileType::Directory => 0x4000,
            FileType::BlockDevice => 0x6000,
            FileType::Regular => 0x8000,
            FileType::Symlink => 0xa000,
            FileType::Socket => 0xc000,
        }
    }

    /// Whether it has no data at all.
    pub(crate) fn is_special(self) -> bool {
        matches!(self, FileType::CharDevice | FileType::BlockDevice | FileType::Fifo | FileType::Socket)
    }

    /// The type's number in a directory entry.
    pub(crate) fn entry_code(self) -> u8 {
        match self {
            FileType::Regular => 1,
            FileType::Directory => 2,
            FileType::CharDevice => 3,
            FileType::BlockDevice => 4,
            FileType::Fifo => 5,
            FileType::Socket => 6,
            FileType::Symlink => 7,
        }
    }

    pub(crate) fn from_entry_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => FileType::Regular,
            2 => FileType::Directory,
            3 => FileType::CharDevice,
            4 => FileType::BlockDevice,
            5 => FileType::Fifo,
            6 => FileType::Socket,
            7 => FileType::Symlink,
            _ => return None,
        })
    }
}

/// Bits of [`Inode::flags`].
pub(crate) mod flags {
    /// May not change at all.
    pub(crate) const IMMUTABLE: u32 = 0x10;
    /// May only grow.
    pub(crate) const APPEND: u32 = 0x20;
    /// A directory with a hash index.
    pub(crate) const INDEX: u32 = 0x1000;
    /// `blocks` counts blocks of the file system, not of 512 bytes.
    pub(crate) const HUGE_FILE: u32 = 0x4_0000;
    /// Mapped by extents.
    pub(crate) const EXTENTS: u32 = 0x8_0000;
    /// Its data lies in the inode.
    pub(crate) const INLINE_DATA: u32 = 0x1000_0000;
}

/// The bytes of an inode that every format revision has.
const GOOD_OLD: usize = 128;

/// The extra bytes that a larger inode without any gets when it is stored, as Linux does it.
const UPGRADED_EXTRA: u16 = 32;

/// An inode, decoded. Storing it keeps the bytes that this crate does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inode {
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) links: u16,
    /// Space in use, in the unit that `flags` tells.
    pub(crate) blocks: u64,
    pub(crate) flags: u32,
    pub(crate) map: [u8; 60],
    pub(crate) generation: u32,
    /// The block of extended attributes, or 0.
    pub(crate) xattr_block: VolumeBlock,
    /// When it was deleted (32 bits of seconds); or the next orphan.
    pub(crate) deleted: u32,
    pub(crate) accessed: Time,
    pub(crate) changed: Time,
    pub(crate) modified: Time,
    pub(crate) created: Time,
    pub(crate) extra_bytes: u16,
}

impl Inode {
    /// An inode of this mode with nothing in it.
    pub(crate) fn new(sb: &Superblock, mode: u16, uid: u32, gid: u32, now: Time, generation: u32) -> Self {
        Inode {
            mode,
            uid,
            gid,
            size: 0,
            links: 1,
            blocks: 0,
            flags: 0,
            map: [0; 60],
            generation,
            xattr_block: VolumeBlock(0),
            deleted: 0,
            accessed: now,
            changed: now,
            modified: now,
            created: now,
            extra_bytes: sb.extra_inode_bytes(),
        }
    }

    /// Decodes the `sb.inode_size` bytes of an inode.
    pub(crate) fn parse(sb: &Superblock, raw: &[u8]) -> Result<Self> {
        let stored_bytes = stored_extra_bytes(raw);
        let extra_bytes =
            if raw.len() > GOOD_OLD && stored_bytes == 0 { UPGRADED_EXTRA } else { stored_bytes };
        if usize::from(extra_bytes) + GOOD_OLD > raw.len() || extra_bytes % 4 != 0 {
            return Err(Error::Corrupt("inode extra size"));
        }
        let extra = |at: usize| if has_field(stored_bytes, at) { le32(raw, at) } else { 0 };
        let mut map = [0; 60];
        map.copy_from_slice(&raw[0x28..0x64]);
        let mode = le16(raw, 0);
        let size_high = if has_wide_size(mode) { u64::from(le32(raw, 0x6c)) << 32 } else { 0 };
        let huge = sb.ro_compat & ro_compat::HUGE_FILE != 0;
        Ok(Inode {
            mode,
            uid: u32::from(le16(raw, 2)) | u32::from(le16(raw, 0x78)) << 16,
            gid: u32::from(le16(raw, 0x18)) | u32::from(le16(raw, 0x7a)) << 16,
            size: u64::from(le32(raw, 4)) | size_high,
            links: le16(raw, 0x1a),
            blocks: u64::from(le32(raw, 0x1c)) | if huge { u64::from(le16(raw, 0x74)) << 32 } else { 0 },
            flags: le32(raw, 0x20),
            map,
            generation: le32(raw, 0x64),
            xattr_block: VolumeBlock(u64::from(le32(raw, 0x68)) | u64::from(le16(raw, 0x76)) << 32),
            deleted: le32(raw, 0x14),
            accessed: Time::decode(le32(raw, 8), extra(0x8c)),
            changed: Time::decode(le32(raw, 0xc), extra(0x84)),
            modified: Time::decode(le32(raw, 0x10), extra(0x88)),
            created: Time::decode(extra(0x90), extra(0x94)),
            extra_bytes,
        })
    }

    /// Encodes into the bytes of the inode table, keeping what this crate does not know.
    pub(crate) fn encode(&self, sb: &Superblock, number: InodeNumber, raw: &mut [u8]) {
        put_le16(raw, 0, self.mode);
        put_le16(raw, 2, low16(self.uid));
        put_le32(raw, 4, low32(self.size));
        put_le32(raw, 0x14, self.deleted);
        put_le16(raw, 0x18, low16(self.gid));
        put_le16(raw, 0x1a, self.links);
        put_le32(raw, 0x1c, low32(self.blocks));
        put_le32(raw, 0x20, self.flags);
        raw[0x28..0x64].copy_from_slice(&self.map);
        put_le32(raw, 0x64, self.generation);
        put_le32(raw, 0x68, low32(self.xattr_block.0));
        if has_wide_size(self.mode) {
            put_le32(raw, 0x6c, high32(self.size));
        }
        put_le16(raw, 0x74, low16(high32(self.blocks)));
        put_le16(raw, 0x76, low16(high32(self.xattr_block.0)));
        put_le16(raw, 0x78, high16(self.uid));
        put_le16(raw, 0x7a, high16(self.gid));
        if raw.len() > GOOD_OLD {
            if stored_extra_bytes(raw) == 0 {
                raw[GOOD_OLD..].fill(0);
            }
            put_le16(raw, 0x80, self.extra_bytes);
        }
        self.encode_time(raw, self.accessed, 8, 0x8c);
        self.encode_time(raw, self.changed, 0xc, 0x84);
        self.encode_time(raw, self.modified, 0x10, 0x88);
        if has_field(self.extra_bytes, 0x94) {
            self.encode_time(raw, self.created, 0x90, 0x94);
        }
        seal(sb, number, self.generation, raw);
    }

    fn encode_time(&self, raw: &mut [u8], time: Time, at: usize, extra_at: usize) {
        if has_field(self.extra_bytes, extra_at) {
            let (low, extra) = time.encode();
            put_le32(raw, at, low);
            put_le32(raw, extra_at, extra);
        } else {
            put_le32(raw, at, time.encode_short());
        }
    }

    /// What it is.
    pub(crate) fn file_type(&self) -> Result<FileType> {
        FileType::from_mode(self.mode).ok_or(Error::Corrupt("inode mode"))
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.mode >> 12 == 4
    }

    pub(crate) fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Whether its blocks are mapped by tables of block numbers, as in ext2 and ext3.
    pub(crate) fn has_block_map(&self) -> bool {
        !self.has(flags::EXTENTS | flags::INLINE_DATA)
    }

    /// Whether its size needs the feature `large_file`.
    pub(crate) fn needs_large_file(&self) -> bool {
        has_wide_size(self.mode) && self.size > 0x7fff_ffff
    }

    /// Counts blocks of the file system as in use (or no longer, when negative).
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the count on disk was too small, [`Error::FileTooBig`] when it cannot hold the sum.
    pub(crate) fn add_blocks(&mut self, sb: &Superblock, count: i64) -> Result<()> {
        let unit = if self.has(flags::HUGE_FILE) { 1 } else { (sb.block_size / 512) as i64 };
        let sum = (self.blocks as i64).checked_add(count * unit).ok_or(Error::FileTooBig)?;
        self.blocks = u64::try_from(sum).map_err(|_| Error::Corrupt("inode block count"))?;
        let limit = if sb.ro_compat & ro_compat::HUGE_FILE != 0 { 1 << 48 } else { 1 << 32 };
        if self.blocks < limit {
            return Ok(());
        }
        if sb.ro_compat & ro_compat::HUGE_FILE == 0 || unit == 1 {
            return Err(Error::FileTooBig);
        }
        self.flags |= flags::HUGE_FILE;
        self.blocks /= unit as u64;
        Ok(())
    }

    /// Space in use, in units of 512 bytes.
    pub(crate) fn sectors(&self, sb: &Superblock) -> u64 {
        if self.has(flags::HUGE_FILE) {
            self.blocks.saturating_mul((sb.block_size / 512) as u64)
        } else {
            self.blocks
        }
    }

    /// The device number in the map of a device inode: (major, minor).
    pub(crate) fn device(&self) -> (u32, u32) {
        let (old, new) = (le32(&self.map, 0), le32(&self.map, 4));
        if old != 0 {
            return (old >> 8 & 0xff, old & 0xff);
        }
        (new >> 8 & 0xfff, new & 0xff | (new >> 12 & 0xf_ff00))
    }

    pub(crate) fn set_device(&mut self, major: u32, minor: u32) {
        self.map = [0; 60];
        if major < 256 && minor < 256 {
            put_le32(&mut self.map, 0, major << 8 | minor);
        } else {
            put_le32(&mut self.map, 4, minor & 0xff | (major & 0xfff) << 8 | (minor & !0xff) << 12);
        }
    }
}

/// How many extra bytes the stored inode uses. None are in use where inodes were enlarged after they had been made; what
/// lies there then means nothing.
pub(crate) fn stored_extra_bytes(raw: &[u8]) -> u16 {
    if raw.len() > GOOD_OLD { le16(raw, 0x80) } else { 0 }
}

/// Whether an inode of this mode has a size of 64 bits: a directory has one only with `large_dir`, which is refused.
fn has_wide_size(mode: u16) -> bool {
    FileType::from_mode(mode) == Some(FileType::Regular)
}

/// Whether the 4-byte field at `at` lies in the extra part that an inode has.
fn has_field(extra_bytes: u16, at: usize) -> bool {
    at + 4 <= GOOD_OLD + usize::from(extra_bytes)
}

/// The seed of all checksums of an inode's own metadata blocks.
pub(crate) fn checksum_seed(sb: &Superblock, number: InodeNumber, generation: u32) -> u32 {
    let mut name = [0; 8];
    put_le32(&mut name, 0, number.0);
    put_le32(&mut name, 4, generation);
    crc32c(sb.checksum_seed, &name)
}

fn has_high_checksum(raw: &[u8]) -> bool {
    raw.len() > GOOD_OLD && le16(raw, 0x80) >= 4
}

fn checksum(sb: &Superblock, number: InodeNumber, generation: u32, raw: &[u8]) -> u32 {
    let sum = crc32c(checksum_seed(sb, number, generation), &raw[..0x7c]);
    let sum = crc32c(crc32c(sum, &[0, 0]), &raw[0x7e..GOOD_OLD]);
    if raw.len() == GOOD_OLD {
        return sum;
    }
    if has_high_checksum(raw) {
        let sum = crc32c(crc32c(sum, &raw[GOOD_OLD..0x82]), &[0, 0]);
        return crc32c(sum, &raw[0x84..]);
    }
    crc32c(sum, &raw[GOOD_OLD..])
}

/// Puts the checksum into an encoded inode.
pub(crate) fn seal(sb: &Superblock, number: InodeNumber, generation: u32, raw: &mut [u8]) {
    if !sb.has_checksums() {
        return;
    }
    let sum = checksum(sb, number, generation, raw);
    put_le16(raw, 0x7c, low16(sum));
    if has_high_checksum(raw) {
        put_le16(raw, 0x82, high16(sum));
    }
}

/// Whether an encoded inode's checksum is right.
pub(crate) fn is_sealed(sb: &Superblock, number: InodeNumber, raw: &[u8]) -> bool {
    if !sb.has_checksums() {
        return true;
    }
    let sum = checksum(sb, number, le32(raw, 0x64), raw);
    le16(raw, 0x7c) == low16(sum) && (!has_high_checksum(raw) || le16(raw, 0x82) == high16(sum))
}
