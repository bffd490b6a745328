//! The journal (jbd2): where it lies, its superblock, and how much room its log has.
//!
//! The log is a ring of blocks. A transaction is descriptor blocks, each followed by the blocks it lists, perhaps
//! revoke blocks, and a commit block; it counts once the commit block is there. Numbers are big-endian.
//! Source: Documentation/filesystems/ext4/journal.rst of Linux.

mod commit;
mod format;
mod replay;

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::block_number::{FileBlock, VolumeBlock};
use crate::bytes::{be32, put_be32};
use crate::checksum::crc32c;
use crate::device::BlockCache;
use crate::error::{Error, Result};
use crate::inode::{FileType, InodeNumber};
use crate::superblock::Superblock;
use crate::volume::Ext4;

pub(crate) use format::MAGIC;
use format::{
    COMPAT_CHECKSUM, FEATURE_64BIT, FEATURE_ASYNC_COMMIT, FEATURE_CSUM_V2, FEATURE_CSUM_V3,
    FEATURE_FAST_COMMIT, FEATURE_REVOKE, FEATURES_KNOWN, Format,
};
pub(crate) use replay::Overlay;

/// The bytes of the journal's superblock that the format defines.
const SUPERBLOCK_BYTES: usize = 1024;
/// The shortest journal that can hold the largest operation.
const SHORTEST: u32 = 512;
/// More blocks than this are never kept in one transaction, however long the journal is.
const LARGEST_TRANSACTION: usize = 4096;

/// The state of the journal.
#[derive(Debug)]
pub(crate) struct Journal {
    /// Runs of the journal's blocks: (first in the log, first on the volume, count).
    map: Vec<(u32, VolumeBlock, u32)>,
    raw: Box<[u8]>,
    format: Format,
    first: u32,
    length: u32,
    /// Where the next transaction begins.
    head: u32,
    /// The blocks of the log that hold transactions not written home yet.
    used: u32,
    /// The number of the running transaction.
    sequence: u32,
    /// Where the log begins; 0 when it is empty.
    start: u32,
}

/// Fields of the journal's superblock, by their offset.
pub(crate) mod at {
    pub(crate) const MAGIC: usize = 0;
    pub(crate) const VERSION: usize = 4;
    pub(crate) const BLOCK_SIZE: usize = 0xc;
    pub(crate) const LENGTH: usize = 0x10;
    pub(crate) const FIRST: usize = 0x14;
    pub(crate) const SEQUENCE: usize = 0x18;
    pub(crate) const START: usize = 0x1c;
    pub(crate) const ERROR: usize = 0x20;
    pub(crate) const COMPAT: usize = 0x24;
    pub(crate) const INCOMPAT: usize = 0x28;
    pub(crate) const UUID: usize = 0x30;
    pub(crate) const USERS: usize = 0x40;
    pub(crate) const CHECKSUM_TYPE: usize = 0x50;
    pub(crate) const CHECKSUM: usize = 0xfc;
}

/// The one checksum type of journals: CRC-32C.
const CHECKSUM_CRC32C: u8 = 4;

/// Refuses, by name, what the log needs and is not done here. Asynchronous commits are no matter once the log is empty.
fn check_features(incompat: u32, log_is_empty: bool) -> Result<()> {
    if incompat & FEATURE_FAST_COMMIT != 0 {
        return Err(Error::Unsupported("a journal with fast commits"));
    }
    if incompat & FEATURE_ASYNC_COMMIT != 0 && !log_is_empty {
        return Err(Error::Unsupported("a journal with asynchronous commits that must be replayed"));
    }
    if incompat & !(FEATURES_KNOWN | FEATURE_ASYNC_COMMIT) != 0 {
        return Err(Error::Unsupported("a journal with unknown features"));
    }
    Ok(())
}

impl Journal {
    /// Decodes the superblock of a journal of at most `blocks` blocks; where they lie is not known yet.
    fn decode(blocks: u32, raw: Box<[u8]>, sb: &Superblock) -> Result<Self> {
        let corrupt = Err(Error::Corrupt("journal superblock"));
        let version = be32(&raw, at::VERSION);
        let fits = be32(&raw, at::BLOCK_SIZE) as usize == sb.block_size;
        if be32(&raw, at::MAGIC) != MAGIC || !(3..=4).contains(&version) || !fits {
            return corrupt;
        }
        let has_features = version == 4;
        let compat = if has_features { be32(&raw, at::COMPAT) } else { 0 };
        let incompat = if has_features { be32(&raw, at::INCOMPAT) } else { 0 };
        let (sequence, start) = (be32(&raw, at::SEQUENCE), be32(&raw, at::START));
        check_features(incompat, start == 0)?;
        let checksummed = incompat & (FEATURE_CSUM_V2 | FEATURE_CSUM_V3) != 0;
        let sealed = raw[at::CHECKSUM_TYPE] == CHECKSUM_CRC32C
            && superblock_checksum(&raw) == be32(&raw, at::CHECKSUM);
        if checksummed && !sealed {
            return Err(Error::Corrupt("journal superblock checksum"));
        }
        let (length, first) = (be32(&raw, at::LENGTH), be32(&raw, at::FIRST));
        let on_volume = length <= blocks && u64::from(length) <= sb.blocks;
        if !on_volume || first == 0 || first >= length || (start != 0 && !(first..length).contains(&start)) {
            return corrupt;
        }
        let format = Format::new(compat, incompat, &raw[at::UUID..at::UUID + 16], sb.block_size);
        let map = Vec::new();
        Ok(Journal { map, raw, format, first, length, head: first, used: 0, sequence, start })
    }

    /// The volume's block that holds block `log` of the journal.
    fn place(&self, log: u32) -> Result<VolumeBlock> {
        let index = self.map.partition_point(|(first, _, _)| *first <= log);
        let (first, start, count) =
            index.checked_sub(1).map(|i| self.map[i]).ok_or(Error::Corrupt("journal map"))?;
        if log - first >= count {
            return Err(Error::Corrupt("journal map"));
        }
        Ok(start + u64::from(log - first))
    }

    /// The journal's blocks on the volume, as runs of (first, count).
    pub(crate) fn places(&self) -> impl Iterator<Item = (VolumeBlock, u64)> {
        self.map.iter().map(|(_, start, count)| (*start, u64::from(*count)))
    }

    /// Takes note of the error that stopped the journal's last user, and forgets it. Returns false if there was none.
    pub(crate) fn take_error(&mut self) -> bool {
        let error = be32(&self.raw, at::ERROR) != 0;
        put_be32(&mut self.raw, at::ERROR, 0);
        error
    }

    fn next(&self, log: u32) -> u32 {
        if log + 1 >= self.length { self.first } else { log + 1 }
    }

    fn room(&self) -> usize {
        (self.length - self.first).saturating_sub(self.used + 1) as usize
    }

    /// The most blocks a transaction may hold.
    fn largest_transaction(&self) -> usize {
        ((self.length - self.first) as usize / 3).min(LARGEST_TRANSACTION)
    }

    /// The journal's superblock for a log that begins at `start` (0: empty) with the running transaction.
    fn encode_superblock(&mut self, start: u32) -> &[u8] {
        put_be32(&mut self.raw, at::SEQUENCE, self.sequence);
        put_be32(&mut self.raw, at::START, start);
        if self.format.has_checksums() {
            let sum = superblock_checksum(&self.raw);
            put_be32(&mut self.raw, at::CHECKSUM, sum);
        }
        self.start = start;
        &self.raw
    }

    /// Chooses the features for writing; the log must be empty.
    fn choose_features(&mut self, sb: &Superblock) {
        let mut incompat = be32(&self.raw, at::INCOMPAT) & !FEATURE_ASYNC_COMMIT | FEATURE_REVOKE;
        if sb.is_wide() {
            incompat |= FEATURE_64BIT;
        }
        if sb.has_checksums() {
            incompat = incompat & !FEATURE_CSUM_V2 | FEATURE_CSUM_V3;
            self.raw[at::CHECKSUM_TYPE] = CHECKSUM_CRC32C;
        }
        put_be32(&mut self.raw, at::VERSION, 4);
        put_be32(&mut self.raw, at::INCOMPAT, incompat);
        // The old whole-transaction checksum excludes the new ones.
        let compat = be32(&self.raw, at::COMPAT) & !COMPAT_CHECKSUM;
        put_be32(&mut self.raw, at::COMPAT, compat);
        self.format = Format::new(compat, incompat, &self.raw[at::UUID..at::UUID + 16], sb.block_size);
    }
}

fn superblock_checksum(raw: &[u8]) -> u32 {
    let sum = crc32c(!0, &raw[..at::CHECKSUM]);
    crc32c(crc32c(sum, &[0; 4]), &raw[at::CHECKSUM + 4..SUPERBLOCK_BYTES])
}

impl<C: BlockCache> Ext4<C> {
    /// Finds the journal and reads its superblock.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the journal maps a block that is not its own, or one block twice.
    pub(crate) fn open_journal(&self) -> Result<Journal> {
        let number = InodeNumber(self.sb.journal_inode);
        let inode = self.any_inode(number)?;
        if inode.file_type()? != FileType::Regular || inode.links == 0 {
            return Err(Error::Corrupt("journal inode"));
        }
        let place =
            self.map_block(number, &inode, FileBlock(0))?.start.ok_or(Error::Corrupt("journal map"))?;
        let raw = self.cache.get(place.0)?;
        let blocks = u32::try_from(inode.size / self.sb.block_size as u64).unwrap_or(u32::MAX);
        let mut journal = Journal::decode(blocks, raw.bytes()[..SUPERBLOCK_BYTES].into(), &self.sb)?;
        let mut at = 0;
        while at < journal.length {
            let run = self.map_block(number, &inode, FileBlock(at))?;
            let start = run.start.ok_or(Error::Corrupt("journal map"))?;
            let count = run.count.min(journal.length - at);
            journal.map.try_reserve(1).map_err(|_| Error::NoMemory)?;
            journal.map.push((at, start, count));
            at += count;
        }
        Ok(journal)
    }

    /// Writes the journal's superblock: the log begins at `start` (0: it is empty).
    fn write_journal_superblock(&mut self, start: u32) -> Result<()> {
        let size = self.sb.block_size;
        let journal = self.journal.as_mut().ok_or(Error::ReadOnly)?;
        let place = journal.place(0)?;
        let mut content = crate::buffer::allocate(size)?;
        let bytes = alloc::sync::Arc::get_mut(&mut content).ok_or(Error::NoMemory)?.bytes_mut();
        bytes[..SUPERBLOCK_BYTES].copy_from_slice(journal.encode_superblock(start));
        self.cache.submit(place.0, &content)?;
        Ok(())
    }

    /// Makes an empty log ready for writing; the superblock already says that the journal must be replayed.
    pub(crate) fn start_log(&mut self) -> Result<()> {
        let journal = self.journal.as_mut().ok_or(Error::ReadOnly)?;
        if journal.length - journal.first < SHORTEST {
            return Err(Error::Unsupported("a journal of less than 512 blocks"));
        }
        journal.choose_features(&self.sb);
        journal.head = journal.first;
        let first = journal.first;
        self.write_journal_superblock(first)?;
        self.cache.barrier()?;
        Ok(())
    }

    /// Marks the log as empty, after everything was written home.
    pub(crate) fn stop_log(&mut self) -> Result<()> {
        self.write_journal_superblock(0)?;
        self.cache.barrier()?;
        Ok(())
    }
}
