//! The transaction: one operation's changes, all of them or none. Only it can write metadata.
//!
//! An operation runs inside [`Ext4::transact`]. It reserves its worst case first (journal space, memory), changes
//! private copies of metadata blocks and remembers how they were. When it succeeds its changes join the *running*
//! transaction, which the journal commits as a whole; when it fails for whatever reason (no space, a block that is
//! still being read, damage) everything is as before.

mod dirty;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Deref;

use hashbrown::{HashMap, HashSet};

use crate::block_number::VolumeBlock;
use crate::buffer::Buffer;
use crate::device::BlockCache;
use crate::error::{Error, Result};
use crate::group::Group;
use crate::inode::InodeNumber;
use crate::metadata::Kind;
use crate::orphan_list::Neighbours;
use crate::superblock::Counters;
use crate::survive::Record;
use crate::volume::Ext4;

pub(crate) use dirty::DirtyBlocks;

/// What the running transaction holds beside blocks.
#[derive(Debug, Default)]
pub(crate) struct Running {
    /// Freed blocks, by group, as bitmaps: not to be allocated before the commit.
    pub(crate) held: HashMap<u32, Buffer>,
    /// How many blocks `held` holds.
    pub(crate) held_blocks: u64,
    /// Freed metadata blocks, to be revoked in the journal.
    pub(crate) revoked: Vec<VolumeBlock>,
    /// Inodes whose new data must be on the disk before the commit.
    pub(crate) ordered: HashSet<InodeNumber>,
    /// Inodes changed by it, and whether more than their times changed.
    pub(crate) inodes: HashMap<InodeNumber, bool>,
    /// Groups whose descriptor changed.
    pub(crate) groups: usize,
    /// Whether anything at all changed.
    pub(crate) changed: bool,
}

/// What must be taken back when an operation fails.
#[derive(Debug, Default)]
pub(crate) struct Undo {
    blocks: Vec<dirty::BlockUndo>,
    groups: Vec<(u32, Group)>,
    freed: Vec<(VolumeBlock, u32)>,
    allocated: Vec<(VolumeBlock, u32)>,
    revoked: Vec<VolumeBlock>,
    orphans: Vec<OrphanUndo>,
    inodes: Vec<(InodeNumber, bool)>,
    ordered: Option<InodeNumber>,
}

#[derive(Debug)]
enum OrphanUndo {
    Added(InodeNumber),
    Removed(InodeNumber, Neighbours),
}

/// One operation in progress. Reads go through to the volume; all writing of metadata is done here.
pub(crate) struct Transaction<'a, C> {
    volume: &'a mut Ext4<C>,
    serial: u64,
    credits: usize,
    counters: Counters,
    undo: Undo,
}

impl<C> Deref for Transaction<'_, C> {
    type Target = Ext4<C>;

    fn deref(&self) -> &Ext4<C> {
        self.volume
    }
}

impl<C: BlockCache> Ext4<C> {
    /// Runs `operation` with room for changing `credits` metadata blocks. When space is short but some becomes
    /// usable by committing what was freed, commits and tries once more.
    ///
    /// # Errors
    /// Those of `operation`, of the reservation, and of a commit that makes room; nothing was changed then but the
    /// superblock's note of damage. [`Error::ReadOnly`] after damage on a volume that stops then.
    pub(crate) fn transact<R>(
        &mut self,
        credits: usize,
        operation: impl FnMut(&mut Transaction<'_, C>) -> Result<R>,
    ) -> Result<R> {
        if self.stopped {
            return Err(Error::ReadOnly);
        }
        let answer = self.transact_anyway(credits, operation);
        if matches!(answer, Err(Error::Corrupt(_))) {
            self.note_damage();
        }
        answer
    }

    /// Runs an operation that must be possible after damage, too.
    pub(crate) fn transact_anyway<R>(
        &mut self,
        credits: usize,
        mut operation: impl FnMut(&mut Transaction<'_, C>) -> Result<R>,
    ) -> Result<R> {
        self.reserve(credits)?;
        loop {
            let mut transaction = Transaction::begin(self, credits);
            let answer = operation(&mut transaction);
            match answer {
                Ok(answer) => {
                    transaction.finish();
                    return Ok(answer);
                }
                Err(error) => {
                    transaction.roll_back();
                    if error != Error::NoSpace || self.running.held_blocks == 0 {
                        return Err(error);
                    }
                    self.commit()?;
                    self.reserve(credits)?;
                }
            }
        }
    }
}

impl<C: BlockCache> Ext4<C> {
    /// Runs the last operation of a transaction, for which room was kept by all before.
    pub(crate) fn seal_operation(
        &mut self,
        operation: impl FnOnce(&mut Transaction<'_, C>) -> Result<()>,
    ) -> Result<()> {
        let mut transaction = Transaction::begin(self, usize::MAX);
        let answer = operation(&mut transaction);
        if answer.is_ok() {
            transaction.finish()
        } else {
            transaction.roll_back()
        }
        answer
    }
}

impl<'a, C: BlockCache> Transaction<'a, C> {
    fn begin(volume: &'a mut Ext4<C>, credits: usize) -> Self {
        volume.operations += 1;
        let undo = core::mem::take(&mut volume.undo);
        Transaction { serial: volume.operations, credits, counters: volume.counters, undo, volume }
    }

    /// How many more blocks this operation may change.
    pub(crate) fn credits_left(&self) -> usize {
        self.credits.saturating_sub(self.undo.blocks.len())
    }

    /// Whether so much was freed that the rest is better left to another operation: the journal and the state area have
    /// room for so much in each.
    pub(crate) fn has_freed_enough(&self) -> bool {
        self.undo.freed.len() >= 128 || self.undo.revoked.len() >= 1024
    }

    /// The bytes of a metadata block, to be changed. Reads and verifies it first.
    pub(crate) fn edit(&mut self, block: VolumeBlock, kind: Kind) -> Result<&mut [u8]> {
        if !self.dirty.is_touched(block, self.serial) {
            let old = self.load(block, kind)?;
            let mut copy = self.spend(old.bytes().len())?;
            Arc::get_mut(&mut copy).ok_or(Error::NoMemory)?.copy_from(&old);
            drop(old);
            self.put(block, copy, kind);
        }
        self.touched(block, kind)
    }

    /// The bytes of a newly allocated metadata block, zeroed. Nothing is read.
    pub(crate) fn create(&mut self, block: VolumeBlock, kind: Kind) -> Result<&mut [u8]> {
        let size = self.sb.block_size;
        if !self.dirty.is_touched(block, self.serial) {
            let fresh = self.spend(size)?;
            self.put(block, fresh, kind);
        }
        let bytes = self.touched(block, kind)?;
        bytes.fill(0);
        if let Some(buffer) = self.dirty.get(block) {
            (0..64).for_each(|part| buffer.set_verified(part));
        }
        self.touched(block, kind)
    }

    fn touched(&mut self, block: VolumeBlock, kind: Kind) -> Result<&mut [u8]> {
        let Ext4 { dirty, pool, .. } = &mut *self.volume;
        dirty.touched_mut(block, kind, pool)
    }

    fn spend(&mut self, size: usize) -> Result<Buffer> {
        if self.undo.blocks.len() >= self.credits {
            return Err(Error::Unsupported("an operation larger than its reservation"));
        }
        self.volume.pool.take(size)
    }

    fn put(&mut self, block: VolumeBlock, content: Buffer, kind: Kind) {
        let undo = self.volume.dirty.replace(block, content, kind, self.serial);
        self.undo.blocks.push(undo);
    }

    /// A group's descriptor, to be changed.
    pub(crate) fn group_mut(&mut self, group: u32) -> Result<&mut Group> {
        let slot = self.volume.groups.get_mut(group as usize).ok_or(Error::Corrupt("group number"))?;
        if !self.undo.groups.iter().any(|(known, _)| *known == group) {
            self.undo.groups.push((group, slot.clone()));
        }
        if !slot.dirty {
            slot.dirty = true;
            self.volume.running.groups += 1;
        }
        Ok(slot)
    }

    /// Notes what a search has found of a group. It is no change: it holds as long as the group's bits, and is taken back
    /// with them.
    pub(crate) fn learn_longest_run(&mut self, group: u32, longest: u32) {
        if let Some(group) = self.volume.groups.get_mut(group as usize) {
            group.longest_run = Some(longest);
        }
    }

    /// The superblock's counters, to be changed.
    pub(crate) fn counters_mut(&mut self) -> &mut Counters {
        &mut self.volume.counters
    }

    /// Notes that blocks were taken for this operation.
    pub(crate) fn note_allocated(&mut self, start: VolumeBlock, count: u32) {
        self.undo.allocated.push((start, count));
    }

    /// Keeps freed blocks of one group from being allocated before the commit.
    pub(crate) fn hold(&mut self, group: u32, first: u32, start: VolumeBlock, count: u32) -> Result<()> {
        let size = self.sb.block_size;
        let Ext4 { running, pool, .. } = &mut *self.volume;
        let held = match running.held.entry(group) {
            hashbrown::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            hashbrown::hash_map::Entry::Vacant(entry) => {
                let mut fresh = pool.take(size)?;
                Arc::get_mut(&mut fresh).ok_or(Error::NoMemory)?.clear();
                entry.insert(fresh)
            }
        };
        let bits = Arc::get_mut(held).ok_or(Error::NoMemory)?.bytes_mut();
        crate::bitmap::set(bits, first, count);
        running.held_blocks += u64::from(count);
        self.undo.freed.push((start, count));
        self.group_mut(group)?.pending_blocks += count;
        Ok(())
    }

    /// Notes a freed metadata block: it leaves the transaction, and the journal revokes it.
    pub(crate) fn revoke(&mut self, block: VolumeBlock) {
        self.undo.revoked.push(block);
    }

    /// Does one recorded operation of a killed server again.
    pub(crate) fn repeat(&mut self, record: &Record) -> Result<()> {
        for (block, kind, bytes) in &record.blocks {
            self.create(*block, *kind)?.copy_from_slice(bytes);
        }
        for (number, group) in &record.groups {
            let slot = self.group_mut(*number)?;
            let pending = slot.pending_blocks;
            *slot = Group { dirty: true, pending_blocks: pending, ..group.clone() };
        }
        for (start, count) in &record.freed {
            let (group, first) = self.sb.locate(*start)?;
            self.hold(group, first, *start, *count)?;
        }
        record.revoked.iter().for_each(|block| self.revoke(*block));
        *self.counters_mut() = record.counters;
        Ok(())
    }

    /// Notes that `inode` changed; `essential` if more than its times did.
    pub(crate) fn note_inode(&mut self, inode: InodeNumber, essential: bool) {
        self.undo.inodes.push((inode, essential));
    }

    /// Makes the commit wait for the data of `inode`.
    pub(crate) fn order_data(&mut self, inode: InodeNumber) {
        self.undo.ordered = Some(inode);
    }

    /// File data on its way into new or old blocks.
    pub(crate) fn write_data(&mut self, inode: InodeNumber, start: VolumeBlock, data: &[u8]) -> Result<()> {
        self.volume.cache.write(start.0, data)?;
        let count = (data.len() / self.sb.block_size) as u64;
        self.volume.data.note(inode, start, count);
        Ok(())
    }

    /// A part of one block of file data.
    pub(crate) fn patch_data(
        &mut self,
        inode: InodeNumber,
        block: VolumeBlock,
        offset: usize,
        data: &[u8],
    ) -> Result<()> {
        self.volume.cache.patch(block.0, offset, data)?;
        self.volume.data.note(inode, block, 1);
        Ok(())
    }

    /// Puts an inode at the head of the orphan list; the answer is what comes after it.
    pub(crate) fn push_orphan(&mut self, inode: InodeNumber) -> u32 {
        let next = self.volume.orphans.newest().map_or(0, |inode| inode.0);
        self.volume.orphans.push(inode);
        self.undo.orphans.push(OrphanUndo::Added(inode));
        next
    }

    /// Takes an orphan out of the list in memory.
    pub(crate) fn remove_orphan(&mut self, inode: InodeNumber) {
        if let Some(place) = self.volume.orphans.remove(inode) {
            self.undo.orphans.push(OrphanUndo::Removed(inode, place));
        }
    }

    /// Records the operation where it survives a killed server.
    fn record(&mut self) {
        let volume = &mut *self.volume;
        let Some(survivor) = &mut volume.survivor else { return };
        let blocks = self.undo.blocks.iter().filter_map(|undo| volume.dirty.changed(undo));
        let groups = self.undo.groups.iter().map(|(number, _)| (*number, &volume.groups[*number as usize]));
        survivor.record(blocks, groups, &volume.counters, &self.undo.freed, &self.undo.revoked);
    }

    /// The changes join the running transaction.
    fn finish(mut self) {
        self.record();
        let undo = &mut self.undo;
        let volume = &mut *self.volume;
        let blocks_changed = !undo.blocks.is_empty() || self.counters != volume.counters;
        volume.running.changed |= blocks_changed;
        for block in undo.blocks.drain(..) {
            DirtyBlocks::settle(block, &mut volume.pool);
        }
        for (start, count) in undo.freed.drain(..) {
            volume.cache.discard(start.0, u64::from(count));
        }
        for block in undo.revoked.drain(..) {
            volume.dirty.forget(block);
            volume.running.revoked.push(block);
        }
        for (inode, essential) in undo.inodes.drain(..) {
            *volume.running.inodes.entry(inode).or_insert(false) |= essential;
        }
        volume.running.ordered.extend(undo.ordered.take());
        undo.groups.clear();
        undo.allocated.clear();
        undo.orphans.clear();
        volume.undo = core::mem::take(undo);
    }

    /// Everything is as before the operation.
    fn roll_back(mut self) {
        let undo = &mut self.undo;
        let volume = &mut *self.volume;
        while let Some(block) = undo.blocks.pop() {
            volume.dirty.undo(block, &mut volume.pool);
        }
        for (start, count) in undo.freed.drain(..) {
            volume.running.held_blocks -= u64::from(count);
            if let Ok((group, first)) = volume.sb.locate(start) {
                let held = volume.running.held.get_mut(&group).and_then(Arc::get_mut);
                if let Some(held) = held {
                    crate::bitmap::clear(held.bytes_mut(), first, count);
                }
            }
        }
        for (group, before) in undo.groups.drain(..) {
            let slot = &mut volume.groups[group as usize];
            if slot.dirty && !before.dirty {
                volume.running.groups -= 1;
            }
            *slot = before;
        }
        for (start, count) in undo.allocated.drain(..) {
            volume.cache.discard(start.0, u64::from(count));
        }
        while let Some(change) = undo.orphans.pop() {
            match change {
                OrphanUndo::Added(inode) => drop(volume.orphans.remove(inode)),
                OrphanUndo::Removed(inode, place) => volume.orphans.insert(inode, place),
            }
        }
        volume.counters = self.counters;
        undo.revoked.clear();
        undo.inodes.clear();
        undo.ordered = None;
        volume.undo = core::mem::take(undo);
    }
}
