//! Taking and giving back blocks: a search of the groups' bitmaps, near a goal.
//!
//! Blocks freed by the running transaction stay out of reach until it has committed: until then a power cut would
//! bring back their old owner.

use crate::bitmap;
use crate::block_number::VolumeBlock;
use crate::buffer::Buffer;
use crate::device::BlockCache;
use crate::error::{Error, Result};
use crate::group::{BLOCK_UNINIT, Group, bitmap_checksum};
use crate::metadata::Kind;
use crate::transaction::Transaction;
use crate::volume::Ext4;

/// After so many bitmaps the longest run of the groups that are known is taken.
const GROUPS_SEARCHED: u32 = 16;

/// A run of free blocks in a group.
#[derive(Debug, Clone, Copy)]
struct FreeRun {
    group: u32,
    first: u32,
    count: u32,
}

impl<C: BlockCache> Ext4<C> {
    /// Blocks that may be allocated now: not those held for the commit, nor the reserve unless it may be used.
    pub(crate) fn allocatable_blocks(&self) -> u64 {
        let reserve = if self.use_reserve { 0 } else { self.sb.reserved_blocks };
        self.counters.free_blocks.saturating_sub(self.running.held_blocks).saturating_sub(reserve)
    }

    /// The block bitmap of a group that has one on disk, checked once.
    fn block_bitmap(&self, number: u32, group: &Group) -> Result<Buffer> {
        let buffer = self.load(group.block_bitmap, Kind::Plain)?;
        if !self.is_trusted(group.block_bitmap, &buffer) {
            let bits = self.sb.blocks_per_group;
            if self.sb.has_checksums()
                && bitmap_checksum(&self.sb, bits, buffer.bytes()) != group.block_bitmap_csum
            {
                return Err(Error::Corrupt("block bitmap checksum"));
            }
            let mut complete = true;
            self.own_metadata(number, group, |first, count| {
                complete &= bitmap::all(buffer.bytes(), first, count, true);
            });
            if !complete {
                return Err(Error::Corrupt("block bitmap"));
            }
            buffer.set_verified(0);
        }
        Ok(buffer)
    }

    /// The part of a range of blocks that lies in the group where it begins: the group, its place in it, and its length.
    fn part_in_group(&self, start: VolumeBlock, count: u32) -> Result<(u32, u32, u32)> {
        let (group, first) = self.sb.locate(start)?;
        Ok((group, first, count.min(self.sb.group_blocks(group) - first)))
    }

    /// Checks that blocks of a file are in use, as they must be to be freed.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub(crate) fn check_in_use(&self, start: VolumeBlock, count: u32) -> Result<()> {
        let (mut start, mut count) = (start, count);
        while count > 0 {
            let (group, first, part) = self.part_in_group(start, count)?;
            self.check_used(group, first, part)?;
            start = start + u64::from(part);
            count -= part;
        }
        Ok(())
    }

    fn check_used(&self, number: u32, first: u32, count: u32) -> Result<()> {
        let corrupt = Error::Corrupt("freeing a block that is not in use");
        let group = &self.groups[number as usize];
        if group.flags & BLOCK_UNINIT != 0 {
            return Err(corrupt);
        }
        let bits = self.block_bitmap(number, group)?;
        let mut own = false;
        self.own_metadata(number, group, |from, length| {
            own |= from < first + count && first < from + length;
        });
        if own || !bitmap::all(bits.bytes(), first, count, true) { Err(corrupt) } else { Ok(()) }
    }

    /// Calls `f` with each range of the group's blocks that its own metadata takes.
    fn own_metadata(&self, number: u32, group: &Group, mut f: impl FnMut(u32, u32)) {
        let table = u64::from(self.sb.inodes_per_group.div_ceil(self.sb.inodes_per_block()));
        let start = self.sb.group_start(number);
        let end = start + u64::from(self.sb.group_blocks(number));
        f(0, self.sb.base_blocks(number).min(self.sb.group_blocks(number)));
        for (first, count) in [(group.block_bitmap, 1), (group.inode_bitmap, 1), (group.inode_table, table)] {
            let from = first.max(start);
            let to = (first + count).min(end);
            if from < to {
                f((from - start) as u32, (to - from) as u32);
            }
        }
    }
}

impl<C: BlockCache> Transaction<'_, C> {
    /// Takes a run of at most `wanted` blocks, as near behind `goal` as can be: (first, count).
    ///
    /// Worst case: reads and searches the bitmaps of all groups.
    ///
    /// # Errors
    /// [`Error::NoSpace`].
    pub(crate) fn allocate_blocks(&mut self, goal: VolumeBlock, wanted: u32) -> Result<(VolumeBlock, u32)> {
        let available = self.allocatable_blocks();
        if available == 0 {
            return Err(Error::NoSpace);
        }
        let wanted = wanted.min(u32::try_from(available).unwrap_or(u32::MAX)).max(1);
        let goal = if self.sb.contains(goal, 1) { goal } else { self.sb.group_start(0) };
        let run = self.find_run(goal, wanted)?;
        self.take_run(run)?;
        Ok((self.sb.group_start(run.group) + u64::from(run.first), run.count))
    }

    /// Takes one block for metadata.
    pub(crate) fn allocate_block(&mut self, goal: VolumeBlock) -> Result<VolumeBlock> {
        self.allocate_blocks(goal, 1).map(|(block, _)| block)
    }

    /// The first run of `wanted` blocks behind the goal, or else the longest run that is known.
    ///
    /// What a search learns about a group is kept, so that a fragmented group is searched once, not for every piece.
    fn find_run(&mut self, goal: VolumeBlock, wanted: u32) -> Result<FreeRun> {
        let mut wanted = wanted;
        let mut left = GROUPS_SEARCHED;
        while wanted > 0 {
            if let Some(run) = self.find_run_of(goal, wanted, &mut left)? {
                return Ok(run);
            }
            let known = self.longest_run(false);
            wanted = if left > 0 {
                // Every group with so many free blocks was searched.
                self.longest_run(true).min(wanted - 1)
            } else if known > 0 {
                known.min(wanted - 1)
            } else {
                left = 1;
                self.longest_run(true).min(wanted)
            };
        }
        Err(Error::NoSpace)
    }

    /// The longest run that any group may have; `unknown` groups count with all of their free blocks.
    fn longest_run(&self, unknown: bool) -> u32 {
        let longest = |group: &Group| group.longest_run.unwrap_or(if unknown { u32::MAX } else { 0 });
        self.groups.iter().map(|group| longest(group).min(group.allocatable())).max().unwrap_or(0)
    }

    /// The first run of `wanted` blocks behind the goal. At most `left` groups whose runs are not known are searched.
    fn find_run_of(&mut self, goal: VolumeBlock, wanted: u32, left: &mut u32) -> Result<Option<FreeRun>> {
        let (goal_group, goal_bit) = self.sb.locate(goal)?;
        let count = self.sb.group_count;
        for n in 0..=count {
            let number = (goal_group + n) % count;
            let group = &self.groups[number as usize];
            if group.allocatable() < wanted || group.longest_run.is_some_and(|longest| longest < wanted) {
                continue;
            }
            if group.longest_run.is_none() {
                let Some(fewer) = left.checked_sub(1) else { continue };
                *left = fewer;
            }
            // The goal's group is searched from the goal on first, and from its start at the end.
            let from = if n == 0 { goal_bit } else { 0 };
            if let Some(first) = self.search_group(number, from, wanted)? {
                return Ok(Some(FreeRun { group: number, first, count: wanted }));
            }
        }
        Ok(None)
    }

    /// The first run of `wanted` free blocks in a group from bit `from` on. A search of all of the group that finds none
    /// learns how long the longest one is.
    fn search_group(&mut self, number: u32, from: u32, wanted: u32) -> Result<Option<u32>> {
        if self.groups[number as usize].flags & BLOCK_UNINIT != 0 {
            self.initialise_bitmap(number)?;
        }
        let group = &self.groups[number as usize];
        let hint = group.block_hint;
        let bits = self.block_bitmap(number, group)?;
        let held = self.running.held.get(&number).map(|held| held.bytes());
        let end = self.sb.group_blocks(number);
        let mut longest = 0;
        let mut at = from.max(hint);
        while let Some(first) = bitmap::next(bits.bytes(), held, at, end, false) {
            let limit = end.min(first.saturating_add(wanted));
            at = bitmap::next(bits.bytes(), held, first, limit, true).unwrap_or(limit);
            if at - first >= wanted {
                return Ok(Some(first));
            }
            longest = longest.max(at - first);
        }
        if from <= hint {
            self.learn_longest_run(number, longest);
        }
        Ok(None)
    }

    fn take_run(&mut self, run: FreeRun) -> Result<()> {
        let block = self.groups[run.group as usize].block_bitmap;
        bitmap::set(self.edit(block, Kind::Plain)?, run.first, run.count);
        let group = self.group_mut(run.group)?;
        group.free_blocks =
            group.free_blocks.checked_sub(run.count).ok_or(Error::Corrupt("free blocks of a group"))?;
        if group.block_hint == run.first {
            group.block_hint += run.count;
        }
        let counters = self.counters_mut();
        counters.free_blocks =
            counters.free_blocks.checked_sub(u64::from(run.count)).ok_or(Error::Corrupt("free blocks"))?;
        let start = self.sb.group_start(run.group) + u64::from(run.first);
        self.note_allocated(start, run.count);
        Ok(())
    }

    /// Writes the bitmap of a group that never had one.
    fn initialise_bitmap(&mut self, number: u32) -> Result<()> {
        let group = self.groups[number as usize].clone();
        let mut used = alloc::vec::Vec::new();
        self.own_metadata(number, &group, |first, count| used.push((first, count)));
        let (end, bits) = (self.sb.group_blocks(number), self.sb.block_size as u32 * 8);
        let bytes = self.create(group.block_bitmap, Kind::Plain)?;
        used.into_iter().for_each(|(first, count)| bitmap::set(bytes, first, count));
        bitmap::set(bytes, end, bits - end);
        if bitmap::count_clear(bytes, end) != group.free_blocks {
            return Err(Error::Corrupt("free blocks of an unused group"));
        }
        self.group_mut(number)?.flags &= !BLOCK_UNINIT;
        Ok(())
    }

    /// Gives blocks of file data back.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when they were not in use.
    pub(crate) fn free_blocks(&mut self, start: VolumeBlock, count: u32) -> Result<()> {
        if !self.sb.contains(start, u64::from(count)) || !self.zones.are_clear_of(start, u64::from(count)) {
            return Err(Error::Corrupt("block number"));
        }
        let (mut start, mut count) = (start, count);
        while count > 0 {
            let (group, first, part) = self.part_in_group(start, count)?;
            self.free_in_group(group, first, start, part)?;
            start = start + u64::from(part);
            count -= part;
        }
        Ok(())
    }

    /// Gives a block of metadata back and has the journal forget it.
    pub(crate) fn free_metadata(&mut self, block: VolumeBlock) -> Result<()> {
        self.free_blocks(block, 1)?;
        self.revoke(block);
        Ok(())
    }

    fn free_in_group(&mut self, number: u32, first: u32, start: VolumeBlock, count: u32) -> Result<()> {
        self.check_used(number, first, count)?;
        let bitmap = self.groups[number as usize].block_bitmap;
        bitmap::clear(self.edit(bitmap, Kind::Plain)?, first, count);
        self.hold(number, first, start, count)?;
        let group = self.group_mut(number)?;
        group.free_blocks += count;
        group.block_hint = group.block_hint.min(first);
        self.counters_mut().free_blocks += u64::from(count);
        Ok(())
    }
}
