//! Making new volumes, in the format of mke2fs's defaults for ext4.

mod layout;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::bitmap;
use crate::block_number::{FileBlock, VolumeBlock};
use crate::buffer::Block;
use crate::bytes::{high32, low32, put_be32, put_le16, put_le32};
use crate::checksum::crc32c;
use crate::device::BlockCache;
use crate::directory::block;
use crate::error::{Error, Result};
use crate::extent::{Extent, put_root};
use crate::features::{compat, incompat, ro_compat};
use crate::group::{BLOCK_UNINIT, Group, INODE_UNINIT, INODE_ZEROED, bitmap_checksum};
use crate::inode::{FileType, Inode, InodeNumber, checksum_seed, flags};
use crate::journal;
use crate::metadata::{Kind, LEAF_TAIL_BYTES, put_leaf_tail};
use crate::superblock::{Counters, LABEL_BYTES, MAGIC, SUPERBLOCK_OFFSET, Superblock, at};
use crate::time::Time;

use layout::{FIRST_INODES, LOG_FLEX, Layout, Range};

const JOURNAL: InodeNumber = InodeNumber(8);
const LOST_FOUND: InodeNumber = InodeNumber(11);

/// What a new volume is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatOptions {
    /// The size of a block in bytes: 1,024, 2,048 or 4,096.
    pub block_size: usize,
    /// How many inodes at least; by default one for 16 KiB (4 KiB below 512 MiB).
    pub inodes: Option<u32>,
    /// The length of the journal in blocks, at least 1,024; by default as mke2fs chooses, up to 32,768.
    pub journal_blocks: Option<u32>,
    /// Blocks kept for the superuser, in percent.
    pub reserved_percent: u8,
    /// The volume's name; 16 bytes are kept.
    pub label: Vec<u8>,
    /// The volume's UUID: 16 random bytes.
    pub uuid: [u8; 16],
    /// The time that goes into the superblock and the first inodes.
    pub now: Time,
}

impl FormatOptions {
    /// Blocks of 4 KiB, 5 % reserved, no name.
    pub fn new(uuid: [u8; 16], now: Time) -> Self {
        FormatOptions {
            block_size: 4096,
            inodes: None,
            journal_blocks: None,
            reserved_percent: 5,
            label: Vec::new(),
            uuid,
            now,
        }
    }
}

/// Makes a new volume of the whole of `cache`'s device. What was on it is lost.
///
/// Worst case: writes the bitmaps in use, the first inode table, the backups and the journal's first block.
///
/// # Errors
/// [`Error::NoSpace`] for less than 2,048 blocks, [`Error::Invalid`] for options that do not fit, [`Error::Io`].
pub fn format<C: BlockCache>(cache: &mut C, options: &FormatOptions) -> Result<()> {
    if ![1024, 2048, 4096].contains(&options.block_size) || options.reserved_percent > 50 {
        return Err(Error::Invalid);
    }
    cache.set_block_size(options.block_size)?;
    let layout = Layout::plan(cache.block_count(), options)?;
    let raw = superblock(&layout, options);
    let device = layout.blocks * layout.block_size;
    let (sb, _) = Superblock::parse(&raw, device)?;
    let mut formatter = Formatter { cache, layout, sb, now: options.now };
    formatter.write()
}

/// The fields of the superblock that never change, and a first checksum.
fn superblock(layout: &Layout, options: &FormatOptions) -> Vec<u8> {
    let mut raw = alloc::vec![0; 1024];
    let inodes = layout.inodes_per_group * layout.groups;
    let reserved = layout.blocks / 100 * u64::from(options.reserved_percent);
    let log_size = layout.block_size.trailing_zeros() - 10;
    let per_group = layout.blocks_per_group as u32;
    let now = low32(options.now.seconds as u64);
    let words: [(usize, u32); 26] = [
        (at::INODES, inodes),
        (at::BLOCKS, low32(layout.blocks)),
        (at::RESERVED_BLOCKS, low32(reserved)),
        (at::FIRST_DATA_BLOCK, layout.first_data_block as u32),
        (at::LOG_BLOCK_SIZE, log_size),
        (at::LOG_CLUSTER_SIZE, log_size),
        (at::BLOCKS_PER_GROUP, per_group),
        (at::CLUSTERS_PER_GROUP, per_group),
        (at::INODES_PER_GROUP, layout.inodes_per_group),
        (at::WRITE_TIME, now),
        (at::CHECK_TIME, now),
        (at::REVISION, 1),
        (at::FIRST_INODE, FIRST_INODES),
        (at::COMPAT, compat::HAS_JOURNAL | compat::EXT_ATTR | compat::DIR_INDEX),
        (at::INCOMPAT, incompat::FILETYPE | incompat::EXTENTS | incompat::BITS64 | incompat::FLEX_BG),
        (at::RO_COMPAT, ro_compat::KNOWN & !ro_compat::ORPHAN_PRESENT),
        (at::JOURNAL_INODE, JOURNAL.0),
        (at::MOUNT_OPTIONS, 0xc),
        (at::FORMAT_TIME, now),
        (at::BLOCKS_HIGH, high32(layout.blocks)),
        (at::RESERVED_BLOCKS_HIGH, high32(reserved)),
        (at::EXTRA_INODE_BYTES, 32 | 32 << 16),
        (at::FLAGS, 1),
        (at::LOG_FLEX, u32::from(LOG_FLEX) | 1 << 8),
        (at::LOST_FOUND_INODE, LOST_FOUND.0),
        (at::HASH_VERSION, 1),
    ];
    words.into_iter().for_each(|(field, word)| put_le32(&mut raw, field, word));
    // Magic number, clean, continue on errors; no forced checks; sizes of inodes and descriptors.
    for (field, word) in [
        (at::MAGIC, MAGIC),
        (at::STATE, 1),
        (at::ON_ERRORS, 1),
        (at::MOST_MOUNTS, 0xffff),
        (at::INODE_SIZE, 256),
        (at::DESC_SIZE, 64),
    ] {
        put_le16(&mut raw, field, word);
    }
    raw[at::UUID..at::LABEL].copy_from_slice(&options.uuid);
    let label = &options.label[..options.label.len().min(LABEL_BYTES)];
    raw[at::LABEL..at::LABEL + label.len()].copy_from_slice(label);
    // The seed of directory hashes need not be secret, only differ between volumes.
    for n in 0..4_usize {
        let word = crc32c(n as u32, &options.uuid);
        put_le32(&mut raw, at::HASH_SEED + 4 * n, word | 1);
    }
    let checksum = crc32c(!0, &raw[..at::CHECKSUM]);
    put_le32(&mut raw, at::CHECKSUM, checksum);
    raw
}

struct Formatter<'a, C> {
    cache: &'a mut C,
    layout: Layout,
    sb: Superblock,
    now: Time,
}

impl<C: BlockCache> Formatter<'_, C> {
    fn write(&mut self) -> Result<()> {
        self.write_root()?;
        self.write_lost_found()?;
        self.write_journal()?;
        self.write_inode_table()?;
        let mut groups = Vec::new();
        for number in 0..self.layout.groups {
            groups.push(self.write_group(number)?);
        }
        self.cache.barrier()?;
        self.write_superblocks(&groups)?;
        self.cache.barrier()?;
        Ok(())
    }

    fn submit(&mut self, block: u64, bytes: Vec<u8>) -> Result<()> {
        let bytes: Box<[u8]> = bytes.into_boxed_slice();
        self.cache.submit(block, &Arc::new(Block::new(bytes)))?;
        Ok(())
    }

    fn empty(&self) -> Vec<u8> {
        alloc::vec![0; self.layout.block_size as usize]
    }

    fn leaf(&self, dir: InodeNumber, fill: impl FnOnce(&mut [u8])) -> Result<Vec<u8>> {
        let mut bytes = self.empty();
        let space = bytes.len() - LEAF_TAIL_BYTES;
        block::clear(&mut bytes[..space]);
        fill(&mut bytes[..space]);
        put_leaf_tail(&mut bytes);
        Kind::DirLeaf(checksum_seed(&self.sb, dir, 0)).seal(&self.sb, &mut bytes)?;
        Ok(bytes)
    }

    fn write_root(&mut self) -> Result<()> {
        let root = InodeNumber::ROOT;
        let mut room = true;
        let bytes = self.leaf(root, |bytes| {
            block::start(bytes, root, root, FileType::Directory.entry_code());
            room =
                block::insert(bytes, b"lost+found", LOST_FOUND, FileType::Directory.entry_code()) == Ok(true);
        })?;
        if room { self.submit(self.layout.root, bytes) } else { Err(Error::NoSpace) }
    }

    fn write_lost_found(&mut self) -> Result<()> {
        let Range { start, count } = self.layout.lost_found;
        for n in 0..count {
            let bytes = self.leaf(LOST_FOUND, |bytes| {
                if n == 0 {
                    block::start(bytes, LOST_FOUND, InodeNumber::ROOT, FileType::Directory.entry_code());
                }
            })?;
            self.submit(start + n, bytes)?;
        }
        Ok(())
    }

    fn write_journal(&mut self) -> Result<()> {
        let length: u64 = self.layout.journal.iter().map(|range| range.count).sum();
        let first = self.layout.journal.first().ok_or(Error::Invalid)?.start;
        let mut bytes = self.empty();
        let size = self.layout.block_size as u32;
        // What an earlier volume left in the log must not look like the next transaction.
        let sequence = crc32c(!0, self.sb.uuid()) | 1;
        let words = [
            (journal::at::MAGIC, journal::MAGIC),
            (journal::at::VERSION, 4),
            (journal::at::BLOCK_SIZE, size),
            (journal::at::LENGTH, length as u32),
            (journal::at::FIRST, 1),
            (journal::at::SEQUENCE, sequence),
            (journal::at::USERS, 1),
        ];
        words.into_iter().for_each(|(field, word)| put_be32(&mut bytes, field, word));
        bytes[journal::at::UUID..journal::at::UUID + 16].copy_from_slice(self.sb.uuid());
        self.submit(first, bytes)?;
        // Whatever lies behind it must not look like a transaction.
        let second = self.empty();
        self.submit(first + 1, second)
    }

    fn new_inode(&self, mode: u16, ranges: &[Range]) -> Result<Inode> {
        let mut inode = Inode::new(&self.sb, mode, 0, 0, self.now, 0);
        inode.flags = flags::EXTENTS;
        let mut extents = Vec::new();
        let mut at = 0;
        for range in ranges {
            extents.push(Extent {
                block: FileBlock(at),
                start: VolumeBlock(range.start),
                count: range.count as u32,
                unwritten: false,
            });
            at += range.count as u32;
        }
        inode.map = put_root(&extents);
        inode.size = u64::from(at) * self.layout.block_size;
        inode.add_blocks(&self.sb, i64::from(at))?;
        Ok(inode)
    }

    /// The first group's inode table: zeros but for three inodes.
    fn write_inode_table(&mut self) -> Result<()> {
        let mut root = self.new_inode(0o040_755, &[Range { start: self.layout.root, count: 1 }])?;
        root.links = 3;
        let mut lost_found = self.new_inode(0o040_700, &[self.layout.lost_found])?;
        lost_found.links = 2;
        let journal = self.new_inode(0o100_600, &self.layout.journal)?;
        let inodes = [(InodeNumber::ROOT, root), (JOURNAL, journal), (LOST_FOUND, lost_found)];
        let per_block = self.sb.inodes_per_block();
        let table = self.layout.tables[0][2];
        for n in 0..self.layout.table_blocks() {
            let mut bytes = self.empty();
            for (number, inode) in &inodes {
                let index = number.0 - 1;
                if u64::from(index / per_block) == n {
                    let at = (index % per_block) as usize * self.sb.inode_size;
                    inode.encode(&self.sb, *number, &mut bytes[at..at + self.sb.inode_size]);
                }
            }
            self.submit(table + n, bytes)?;
        }
        Ok(())
    }

    /// Writes a group's bitmaps, unless nothing but superblock and descriptors is in use; answers its descriptor.
    fn write_group(&mut self, number: u32) -> Result<Group> {
        let [block_bitmap, inode_bitmap, inode_table] = self.layout.tables[number as usize];
        let inodes = self.layout.inodes_per_group;
        let mut group = Group {
            block_bitmap: VolumeBlock(block_bitmap),
            inode_bitmap: VolumeBlock(inode_bitmap),
            inode_table: VolumeBlock(inode_table),
            free_inodes: inodes,
            unused_inodes: inodes,
            flags: INODE_UNINIT,
            ..Group::default()
        };
        if number == 0 {
            (group.free_inodes, group.unused_inodes) = (inodes - FIRST_INODES, inodes - FIRST_INODES);
            (group.used_dirs, group.flags) = (2, INODE_ZEROED);
            let mut bits = self.empty();
            bitmap::set(&mut bits, 0, FIRST_INODES);
            bitmap::set(&mut bits, inodes, self.layout.block_size as u32 * 8 - inodes);
            group.inode_bitmap_csum = bitmap_checksum(&self.sb, inodes, &bits);
            self.submit(inode_bitmap, bits)?;
        }
        self.write_block_bitmap(number, &mut group)?;
        Ok(group)
    }

    fn write_block_bitmap(&mut self, number: u32, group: &mut Group) -> Result<()> {
        let (start, end) = (self.sb.group_start(number).0, self.sb.group_blocks(number));
        let mut bits = self.empty();
        let base = self.layout.base(number);
        bitmap::set(&mut bits, 0, base.count as u32);
        let mut only_base = true;
        for range in &self.layout.used {
            let from = range.start.max(start);
            let to = range.end().min(start + u64::from(end));
            if from < to {
                bitmap::set(&mut bits, (from - start) as u32, (to - from) as u32);
                only_base = false;
            }
        }
        group.free_blocks = bitmap::count_clear(&bits, end);
        if only_base && number + 1 < self.layout.groups {
            group.flags |= BLOCK_UNINIT;
            return Ok(());
        }
        bitmap::set(&mut bits, end, self.layout.block_size as u32 * 8 - end);
        group.block_bitmap_csum = bitmap_checksum(&self.sb, self.sb.blocks_per_group, &bits);
        self.submit(group.block_bitmap.0, bits)
    }

    /// The superblock and the descriptors, with their backups; the first superblock last.
    fn write_superblocks(&mut self, groups: &[Group]) -> Result<()> {
        let counters = Counters {
            free_blocks: groups.iter().map(|group| u64::from(group.free_blocks)).sum(),
            free_inodes: groups.iter().map(|group| group.free_inodes).sum(),
            last_orphan: 0,
            compat: self.sb.compat,
            new_ro_compat: 0,
        };
        let mut table = alloc::vec![0; (self.layout.descriptor_blocks * self.layout.block_size) as usize];
        for (number, (group, raw)) in (0..).zip(groups.iter().zip(table.chunks_exact_mut(self.sb.desc_size)))
        {
            group.encode(&self.sb, number, raw);
        }
        let backups: Vec<u32> =
            (0..self.layout.groups).filter(|number| self.layout.has_backup(*number)).collect();
        for number in backups.into_iter().rev() {
            let start = self.layout.group_start(number);
            for (n, bytes) in table.chunks(self.layout.block_size as usize).enumerate() {
                self.cache.submit(start + 1 + n as u64, &Arc::new(Block::new(bytes.into())))?;
            }
            self.sb.set_group_number(number);
            let mut bytes = self.empty();
            let at = if number == 0 { (SUPERBLOCK_OFFSET % self.layout.block_size) as usize } else { 0 };
            bytes[at..at + 1024].copy_from_slice(self.sb.encode(&counters, self.now.seconds));
            self.submit(start, bytes)?;
        }
        Ok(())
    }
}
