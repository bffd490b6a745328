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

use format::{
    FEATURE_64BIT, FEATURE_CSUM_V2, FEATURE_CSUM_V3, FEATURE_REVOKE, FEATURES_KNOWN, Format, MAGIC,
};

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

impl Journal {
    fn decode(
        map: Vec<(u32, VolumeBlock, u32)>,
        blocks: u32,
        raw: Box<[u8]>,
        sb: &Superblock,
    ) -> Result<Self> {
        let corrupt = Err(Error::Corrupt("journal superblock"));
        let version = be32(&raw, 4);
        if be32(&raw, 0) != MAGIC || !(3..=4).contains(&version) || be32(&raw, 0xc) as usize != sb.block_size
        {
            return corrupt;
        }
        let incompat = if version == 4 { be32(&raw, 0x28) } else { 0 };
        if incompat & !FEATURES_KNOWN != 0 {
            return Err(Error::Unsupported("a journal with fast commits or unknown features"));
        }
        let checksummed = incompat & (FEATURE_CSUM_V2 | FEATURE_CSUM_V3) != 0;
        if checksummed && (raw[0x50] != 4 || superblock_checksum(&raw) != be32(&raw, 0xfc)) {
            return Err(Error::Corrupt("journal superblock checksum"));
        }
        let (length, first) = (be32(&raw, 0x10), be32(&raw, 0x14));
        let (sequence, start) = (be32(&raw, 0x18), be32(&raw, 0x1c));
        if first == 0
            || length > blocks
            || first >= length
            || (start != 0 && !(first..length).contains(&start))
        {
            return corrupt;
        }
        let format = Format::new(incompat, &raw[0x30..0x40], sb.block_size);
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

    /// Whether `block` of the volume belongs to the journal.
    fn contains(&self, block: VolumeBlock) -> bool {
        self.map.iter().any(|(_, start, count)| block.0.wrapping_sub(start.0) < u64::from(*count))
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
        put_be32(&mut self.raw, 0x18, self.sequence);
        put_be32(&mut self.raw, 0x1c, start);
        if self.format.has_checksums() {
            let sum = superblock_checksum(&self.raw);
            put_be32(&mut self.raw, 0xfc, sum);
        }
        self.start = start;
        &self.raw
    }

    /// Chooses the features for writing; the log must be empty.
    fn choose_features(&mut self, sb: &Superblock) {
        let mut incompat = be32(&self.raw, 0x28) | FEATURE_REVOKE;
        if sb.is_wide() {
            incompat |= FEATURE_64BIT;
        }
        if sb.has_checksums() {
            incompat = incompat & !FEATURE_CSUM_V2 | FEATURE_CSUM_V3;
            self.raw[0x50] = 4;
        }
        put_be32(&mut self.raw, 4, 4);
        put_be32(&mut self.raw, 0x28, incompat);
        // The old whole-transaction checksum excludes the new ones.
        let compat = be32(&self.raw, 0x24) & !1;
        put_be32(&mut self.raw, 0x24, compat);
        self.format = Format::new(incompat, &self.raw[0x30..0x40], sb.block_size);
    }
}

fn superblock_checksum(raw: &[u8]) -> u32 {
    let sum = crc32c(!0, &raw[..0xfc]);
    crc32c(crc32c(sum, &[0; 4]), &raw[0x100..SUPERBLOCK_BYTES])
}

impl<C: BlockCache> Ext4<C> {
    /// Finds the journal and reads its superblock.
    pub(crate) fn open_journal(&self) -> Result<Journal> {
        let number = InodeNumber(self.sb.journal_inode);
        let inode = self.any_inode(number)?;
        if inode.file_type()? != FileType::Regular || inode.links == 0 {
            return Err(Error::Corrupt("journal inode"));
        }
        let blocks = u32::try_from(inode.size / self.sb.block_size as u64).unwrap_or(u32::MAX);
        let mut map = Vec::new();
        let mut at = 0;
        while at < blocks {
            let run = self.map_block(number, &inode, FileBlock(at))?;
            let start = run.start.ok_or(Error::Corrupt("journal inode has a hole"))?;
            let count = run.count.min(blocks - at);
            map.push((at, start, count));
            at += count;
        }
        let place = map.first().ok_or(Error::Corrupt("journal is empty"))?.1;
        let raw = self.cache.get(place.0)?;
        Journal::decode(map, blocks, raw.bytes()[..SUPERBLOCK_BYTES].into(), &self.sb)
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
