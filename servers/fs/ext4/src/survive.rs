//! What must survive a killed server: the files it had open, and the operations of the running transaction.
//!
//! Both lie in memory of the caller as plain words, valid at every instant: an operation's record is written behind the
//! published ones and then published by one store of one word; a slot of the table of open files is one word. A record
//! holds the new content of each block that the operation changed, so doing it again twice is doing it once. Unwritten
//! file data lies in the caller's cache and survives with it.
//!
//! ```text
//! word 0            magic number and version
//! word 1            bytes of published records
//! words 2 to 1025   open files: inode in the low half, users in the high half; 0 is a free slot
//! then              records
//! ```

use alloc::boxed::Box;
use alloc::vec::Vec;

use hashbrown::HashMap;

use crate::block_number::VolumeBlock;
use crate::buffer::Buffer;
use crate::device::BlockCache;
use crate::error::{Error, Result};
use crate::group::Group;
use crate::inode::InodeNumber;
use crate::metadata::Kind;
use crate::superblock::Counters;
use crate::volume::Ext4;

/// Memory that outlives the server, in words of 8 bytes.
///
/// A store must be whole or not done when the server is killed, and no later store may survive an earlier one.
pub trait StateArea: Send + Sync + core::fmt::Debug {
    /// How many words it has.
    fn words(&self) -> usize;
    /// Reads one word.
    fn load(&self, at: usize) -> u64;
    /// Stores one word.
    fn store(&mut self, at: usize, word: u64);
}

const MAGIC: u64 = 0x736b_696e_6b65_7802;
const LENGTH_AT: usize = 1;
const OPEN_AT: usize = 2;
const OPEN_SLOTS: usize = 1024;
const RECORDS_AT: usize = OPEN_AT + OPEN_SLOTS;
/// Words of a group in a record.
const GROUP_WORDS: usize = 11;

/// The state area in use.
#[derive(Debug)]
pub(crate) struct Survivor {
    area: Box<dyn StateArea>,
    slots: HashMap<InodeNumber, usize>,
    free: Vec<usize>,
}

/// One operation as it was recorded.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) blocks: Vec<(VolumeBlock, Kind, Vec<u8>)>,
    pub(crate) groups: Vec<(u32, Group)>,
    pub(crate) freed: Vec<(VolumeBlock, u32)>,
    pub(crate) revoked: Vec<VolumeBlock>,
    pub(crate) counters: Counters,
}

/// Words at a place that moves on; reading or writing behind the end is refused.
struct Cursor<'a> {
    area: &'a dyn StateArea,
    at: usize,
    end: usize,
}

impl Cursor<'_> {
    fn next(&mut self) -> Result<u64> {
        if self.at >= self.end {
            return Err(Error::Corrupt("record of the running transaction"));
        }
        self.at += 1;
        Ok(self.area.load(self.at - 1))
    }

    /// A count of things of `words` words each that the rest has room for.
    fn count(&mut self, words: usize) -> Result<usize> {
        let count = usize::try_from(self.next()?).unwrap_or(usize::MAX);
        match count.checked_mul(words) {
            Some(all) if all <= self.end - self.at => Ok(count),
            _ => Err(Error::Corrupt("record of the running transaction")),
        }
    }
}

impl Survivor {
    pub(crate) fn new(mut area: Box<dyn StateArea>) -> Result<Self> {
        if area.words() < RECORDS_AT + 1 {
            return Err(Error::Invalid);
        }
        if area.load(0) != MAGIC {
            (LENGTH_AT..RECORDS_AT).for_each(|at| area.store(at, 0));
            area.store(0, MAGIC);
        }
        let mut survivor = Survivor { area, slots: HashMap::new(), free: Vec::new() };
        for at in (OPEN_AT..RECORDS_AT).rev() {
            match survivor.area.load(at) {
                0 => survivor.free.push(at),
                word => drop(survivor.slots.insert(InodeNumber((word & 0xffff_ffff) as u32), at)),
            }
        }
        Ok(survivor)
    }

    /// Whether an operation that changes `credits` blocks can be recorded.
    pub(crate) fn has_room(&self, credits: usize, block_size: usize) -> bool {
        let blocks = credits * (block_size / 8 + 3 + 2 + GROUP_WORDS + 1);
        self.area.words() - self.end() > blocks + 2048
    }

    fn end(&self) -> usize {
        let published = usize::try_from(self.area.load(LENGTH_AT)).unwrap_or(usize::MAX);
        RECORDS_AT.saturating_add(published).min(self.area.words())
    }

    /// Stores how many users an inode has; 0 frees its slot.
    pub(crate) fn set_open(&mut self, inode: InodeNumber, users: u32) -> Result<()> {
        let slot = match self.slots.get(&inode) {
            Some(slot) => *slot,
            None => self.free.pop().ok_or(Error::NoMemory)?,
        };
        let word = if users == 0 { 0 } else { u64::from(inode.0) | u64::from(users) << 32 };
        self.area.store(slot, word);
        if users == 0 {
            self.slots.remove(&inode);
            self.free.push(slot);
        } else {
            self.slots.insert(inode, slot);
        }
        Ok(())
    }

    fn open_files(&self) -> Vec<(InodeNumber, u32)> {
        let words = self.slots.values().map(|slot| self.area.load(*slot));
        words.map(|word| (InodeNumber((word & 0xffff_ffff) as u32), (word >> 32) as u32)).collect()
    }

    /// Writes an operation behind the published ones, and publishes it. There is room: it was reserved.
    pub(crate) fn record<'a>(
        &mut self,
        blocks: impl Iterator<Item = (VolumeBlock, Kind, &'a Buffer)>,
        groups: impl Iterator<Item = (u32, &'a Group)>,
        counters: &Counters,
        freed: &[(VolumeBlock, u32)],
        revoked: &[VolumeBlock],
    ) {
        let mut at = self.end();
        let mut put = |word: u64| {
            self.area.store(at, word);
            at += 1;
        };
        put(counters.free_blocks);
        put(u64::from(counters.free_inodes) | u64::from(counters.last_orphan) << 32);
        put(u64::from(counters.compat) | u64::from(counters.new_ro_compat) << 32);
        put(freed.len() as u64);
        freed.iter().for_each(|(start, count)| [start.0, u64::from(*count)].into_iter().for_each(&mut put));
        put(revoked.len() as u64);
        revoked.iter().for_each(|block| put(block.0));
        for (number, group) in groups {
            put(1);
            put(u64::from(number));
            group_words(group).into_iter().for_each(&mut put);
        }
        for (block, kind, content) in blocks {
            let (tag, value) = kind.to_words();
            [2, block.0, tag, value, content.bytes().len() as u64].into_iter().for_each(&mut put);
            for bytes in content.bytes().as_chunks::<8>().0 {
                put(u64::from_le_bytes(*bytes));
            }
        }
        put(0);
        self.area.store(LENGTH_AT, (at - RECORDS_AT) as u64);
    }

    /// After a commit: nothing is to be done again.
    pub(crate) fn clear(&mut self) {
        self.area.store(LENGTH_AT, 0);
    }

    /// All published operations, in order.
    fn records(&self) -> Result<Vec<Record>> {
        let mut cursor = Cursor { area: self.area.as_ref(), at: RECORDS_AT, end: self.end() };
        let mut records = Vec::new();
        while cursor.at < cursor.end {
            records.push(read_record(&mut cursor)?);
        }
        Ok(records)
    }
}

fn read_record(cursor: &mut Cursor<'_>) -> Result<Record> {
    let free_blocks = cursor.next()?;
    let word = cursor.next()?;
    let features = cursor.next()?;
    let counters = Counters {
        free_blocks,
        free_inodes: (word & 0xffff_ffff) as u32,
        last_orphan: (word >> 32) as u32,
        compat: (features & 0xffff_ffff) as u32,
        new_ro_compat: (features >> 32) as u32,
    };
    let mut record =
        Record { blocks: Vec::new(), groups: Vec::new(), freed: Vec::new(), revoked: Vec::new(), counters };
    for _ in 0..cursor.count(2)? {
        record.freed.push((VolumeBlock(cursor.next()?), (cursor.next()? & 0xffff_ffff) as u32));
    }
    for _ in 0..cursor.count(1)? {
        record.revoked.push(VolumeBlock(cursor.next()?));
    }
    loop {
        match cursor.next()? {
            0 => return Ok(record),
            1 => record.groups.push(((cursor.next()? & 0xffff_ffff) as u32, read_group(cursor)?)),
            2 => {
                let block = VolumeBlock(cursor.next()?);
                let kind = Kind::from_words(cursor.next()?, cursor.next()?)?;
                let length = cursor.next()? as usize / 8;
                let mut bytes = Vec::new();
                for _ in 0..length {
                    bytes.extend_from_slice(&cursor.next()?.to_le_bytes());
                }
                record.blocks.push((block, kind, bytes));
            }
            _ => return Err(Error::Corrupt("record of the running transaction")),
        }
    }
}

fn group_words(group: &Group) -> [u64; GROUP_WORDS] {
    [
        group.block_bitmap.0,
        group.inode_bitmap.0,
        group.inode_table.0,
        u64::from(group.free_blocks),
        u64::from(group.free_inodes),
        u64::from(group.used_dirs),
        u64::from(group.unused_inodes),
        u64::from(group.flags),
        u64::from(group.block_bitmap_csum),
        u64::from(group.inode_bitmap_csum),
        0,
    ]
}

fn read_group(cursor: &mut Cursor<'_>) -> Result<Group> {
    let mut words = [0; GROUP_WORDS];
    for word in &mut words {
        *word = cursor.next()?;
    }
    let half = |n: usize| (words[n] & 0xffff_ffff) as u32;
    Ok(Group {
        block_bitmap: VolumeBlock(words[0]),
        inode_bitmap: VolumeBlock(words[1]),
        inode_table: VolumeBlock(words[2]),
        free_blocks: half(3),
        free_inodes: half(4),
        used_dirs: half(5),
        unused_inodes: half(6),
        flags: (words[7] & 0xffff) as u16,
        block_bitmap_csum: half(8),
        inode_bitmap_csum: half(9),
        ..Group::default()
    })
}

impl<C: BlockCache> Ext4<C> {
    /// Does again what a killed predecessor had done since its last commit, and commits it.
    pub(crate) fn restore_survived(&mut self) -> Result<()> {
        let Some(survivor) = self.survivor.take() else { return Ok(()) };
        self.open = survivor.open_files().into_iter().collect();
        let records = survivor.records()?;
        for record in &records {
            if record.blocks.iter().any(|(_, _, bytes)| bytes.len() != self.sb.block_size) {
                return Err(Error::Corrupt("record of the running transaction"));
            }
            // Together they fitted one transaction before.
            self.seal_operation(|t| t.repeat(record))?;
        }
        self.survivor = Some(survivor);
        if !records.is_empty() {
            self.running.changed = true;
            // Which of the cache's data belongs to the transaction is not known any more.
            self.cache.write_back(0, self.sb.blocks)?;
            self.commit()?;
        }
        Ok(())
    }
}
