//! The mounted volume: its state in memory, and the reading of metadata.

use alloc::vec::Vec;

use hashbrown::HashMap;

use crate::block_number::VolumeBlock;
use crate::buffer::{Buffer, Pool};
use crate::bytes::le16;
use crate::data::DirtyData;
use crate::device::BlockCache;
use crate::error::{Error, Result};
use crate::features::ro_compat;
use crate::group::Group;
use crate::inode::{Inode, InodeNumber, checksum_seed, is_sealed};
use crate::journal::{Journal, Overlay};
use crate::metadata::Kind;
use crate::orphan_list::Orphans;
use crate::superblock::{Counters, Superblock};
use crate::survive::Survivor;
use crate::time::Time;
use crate::transaction::{DirtyBlocks, Running, Transaction, Undo};
use crate::zones::Zones;

/// A mounted ext4 volume over the caller's block cache.
///
/// Methods that take `&self` only read, so several readers may work at once; methods that take `&mut self` exclude
/// all others. Every operation can answer [`Error::Io`], [`Error::Corrupt`] and, if it writes, [`Error::ReadOnly`],
/// [`Error::Aborted`] and [`Error::NoMemory`]; what it can answer besides is said at each.
#[derive(Debug)]
pub struct Ext4<C> {
    pub(crate) cache: C,
    pub(crate) sb: Superblock,
    pub(crate) counters: Counters,
    pub(crate) groups: Vec<Group>,
    pub(crate) zones: Zones,
    pub(crate) dirty: DirtyBlocks,
    pub(crate) running: Running,
    pub(crate) journal: Option<Journal>,
    /// What the log holds, on mounts that must not write.
    pub(crate) overlay: Overlay,
    /// Inodes without a name; the head of the list on disk is the newest one.
    pub(crate) orphans: Orphans,
    /// How often each inode is open.
    pub(crate) open: HashMap<InodeNumber, u32>,
    /// Orphans whose space is still to be freed: that had to wait for a block.
    pub(crate) unfinished: Vec<InodeNumber>,
    pub(crate) data: DirtyData,
    pub(crate) now: Time,
    pub(crate) pool: Pool,
    pub(crate) undo: Undo,
    pub(crate) operations: u64,
    pub(crate) writable: bool,
    pub(crate) aborted: bool,
    /// Whether damage was found on a volume that wants no more changes then.
    pub(crate) stopped: bool,
    /// Whether the blocks reserved for the superuser may be used.
    pub(crate) use_reserve: bool,
    /// Where what must survive a killed server is kept.
    pub(crate) survivor: Option<Survivor>,
    /// Seed of the next new inode's generation.
    pub(crate) generation: u32,
}

/// What is wrong with a block that is claimed where the volume keeps its own structures.
const FOREIGN: &str = "a block of the volume's own structures or journal is claimed";

/// Where an inode lies: the block of the inode table, the offset in it in bytes, and its place among the block's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InodePlace {
    pub(crate) block: VolumeBlock,
    pub(crate) offset: usize,
    pub(crate) part: u32,
}

impl<C: BlockCache> Ext4<C> {
    /// A metadata block's newest content, its checksum verified.
    pub(crate) fn load(&self, block: VolumeBlock, kind: Kind) -> Result<Buffer> {
        if let Some(buffer) = self.dirty.get(block) {
            return Ok(buffer.clone());
        }
        if block.0 < self.sb.first_data_block || block.0 >= self.sb.blocks {
            return Err(Error::Corrupt("block number"));
        }
        if kind != Kind::Plain && !self.zones.are_clear_of(block, 1) {
            return Err(Error::Corrupt(FOREIGN));
        }
        let buffer = self.fetch(block)?;
        if buffer.bytes().len() != self.sb.block_size {
            return Err(Error::Invalid);
        }
        if kind != Kind::Plain && !buffer.is_verified(0) {
            kind.verify(&self.sb, buffer.bytes())?;
            buffer.set_verified(0);
        }
        Ok(buffer)
    }

    /// Checks that `count` blocks from `start` on lie on the volume, and that `inode` may have them.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub(crate) fn check_blocks(&self, inode: InodeNumber, start: VolumeBlock, count: u64) -> Result<()> {
        if !self.sb.contains(start, count) {
            return Err(Error::Corrupt("block number"));
        }
        if self.zones.allow(inode, start, count) { Ok(()) } else { Err(Error::Corrupt(FOREIGN)) }
    }

    /// Whether a block's checksum need not be looked at: it was found right before, or the block was changed in memory
    /// since, and gets its checksum when it is committed.
    pub(crate) fn is_trusted(&self, block: VolumeBlock, buffer: &Buffer) -> bool {
        buffer.is_verified(0) || self.dirty.get(block).is_some()
    }

    /// Where `number` lies in the inode tables.
    pub(crate) fn inode_place(&self, number: InodeNumber) -> Result<InodePlace> {
        let index = number.0.checked_sub(1).filter(|index| *index < self.sb.inodes).ok_or(Error::NotFound)?;
        let group = self.groups.get((index / self.sb.inodes_per_group) as usize).ok_or(Error::NotFound)?;
        let place = index % self.sb.inodes_per_group;
        let part = place % self.sb.inodes_per_block();
        Ok(InodePlace {
            block: group.inode_table + u64::from(place / self.sb.inodes_per_block()),
            offset: part as usize * self.sb.inode_size,
            part,
        })
    }

    /// The inode's block and place, its checksum verified.
    pub(crate) fn raw_inode(&self, number: InodeNumber) -> Result<(Buffer, InodePlace)> {
        let place = self.inode_place(number)?;
        let buffer = self.load(place.block, Kind::Plain)?;
        if !buffer.is_verified(place.part) {
            let raw = &buffer.bytes()[place.offset..place.offset + self.sb.inode_size];
            if !is_sealed(&self.sb, number, raw) {
                return Err(Error::Corrupt("inode checksum"));
            }
            buffer.set_verified(place.part);
        }
        Ok((buffer, place))
    }

    /// Reads an inode, in use or not.
    pub(crate) fn any_inode(&self, number: InodeNumber) -> Result<Inode> {
        let (buffer, place) = self.raw_inode(number)?;
        Inode::parse(&self.sb, &buffer.bytes()[place.offset..place.offset + self.sb.inode_size])
    }

    /// Reads an inode that must be in use: linked, or open without a link.
    pub(crate) fn inode(&self, number: InodeNumber) -> Result<Inode> {
        let inode = self.any_inode(number)?;
        if inode.links == 0 && !self.open.contains_key(&number) || inode.mode == 0 {
            return Err(Error::NotFound);
        }
        Ok(inode)
    }

    /// Reads an inode that must be a directory.
    pub(crate) fn directory(&self, number: InodeNumber) -> Result<Inode> {
        let inode = self.inode(number)?;
        if inode.is_dir() { Ok(inode) } else { Err(Error::NotDirectory) }
    }

    pub(crate) fn seed(&self, number: InodeNumber, inode: &Inode) -> u32 {
        checksum_seed(&self.sb, number, inode.generation)
    }

    /// Refuses what must not write.
    pub(crate) fn check_writable(&self) -> Result<()> {
        match (self.writable, self.aborted) {
            (false, _) => Err(Error::ReadOnly),
            (_, true) => Err(Error::Aborted),
            _ => Ok(()),
        }
    }

    /// The cache, for its owner.
    pub fn cache(&self) -> &C {
        &self.cache
    }

    /// The cache, for its owner; what the file system put in must stay.
    pub fn cache_mut(&mut self) -> &mut C {
        &mut self.cache
    }

    /// Sets the time that the operations that follow write into inodes.
    pub fn set_time(&mut self, now: Time) {
        self.now = now;
    }

    /// The size of a block in bytes.
    pub fn block_size(&self) -> usize {
        self.sb.block_size
    }

    /// Whether operations may write.
    pub fn is_writable(&self) -> bool {
        self.writable && !self.aborted && !self.stopped
    }

    /// The volume's name, without the padding.
    pub fn label(&self) -> &[u8] {
        self.sb.label()
    }
}

impl<C: BlockCache> Transaction<'_, C> {
    /// Stores an inode; `essential` says that more than its times changed (what fdatasync must make durable).
    pub(crate) fn write_inode(&mut self, number: InodeNumber, inode: &Inode, essential: bool) -> Result<()> {
        self.raw_inode(number)?;
        if inode.needs_large_file() && self.sb.ro_compat & ro_compat::LARGE_FILE == 0 {
            self.counters_mut().new_ro_compat |= ro_compat::LARGE_FILE;
        }
        let size = self.sb.inode_size;
        let place = self.inode_place(number)?;
        let mut raw = [0; 4096];
        let raw = &mut raw[..size];
        let bytes = self.edit(place.block, Kind::Plain)?;
        raw.copy_from_slice(&bytes[place.offset..place.offset + size]);
        inode.encode(&self.sb, number, raw);
        self.edit(place.block, Kind::Plain)?[place.offset..place.offset + size].copy_from_slice(raw);
        self.note_inode(number, essential);
        Ok(())
    }

    /// Stores a new inode over whatever its place held.
    pub(crate) fn create_inode(&mut self, number: InodeNumber, inode: &Inode) -> Result<()> {
        let size = self.sb.inode_size;
        let place = self.inode_place(number)?;
        self.edit(place.block, Kind::Plain)?[place.offset..place.offset + size].fill(0);
        if let Some(buffer) = self.dirty.get(place.block) {
            buffer.set_verified(place.part);
        }
        self.write_inode(number, inode, true)
    }

    /// Changes the extended attributes inside an inode's bytes and seals it again.
    pub(crate) fn edit_inode_tail(
        &mut self,
        number: InodeNumber,
        change: impl FnOnce(&mut [u8]),
    ) -> Result<()> {
        let (buffer, place) = self.raw_inode(number)?;
        let size = self.sb.inode_size;
        let mut raw = [0; 4096];
        let raw = &mut raw[..size];
        raw.copy_from_slice(&buffer.bytes()[place.offset..place.offset + size]);
        drop(buffer);
        let inode = Inode::parse(&self.sb, raw)?;
        let start = 128 + usize::from(le16(raw, 0x80));
        change(raw.get_mut(start..).ok_or(Error::Corrupt("inode extra size"))?);
        inode.encode(&self.sb, number, raw);
        self.edit(place.block, Kind::Plain)?[place.offset..place.offset + size].copy_from_slice(raw);
        self.note_inode(number, true);
        Ok(())
    }
}
