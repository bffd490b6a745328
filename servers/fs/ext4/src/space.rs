//! Changing how much space a file takes: truncating, allocating ahead, punching holes, zeroing ranges.

use alloc::vec::Vec;

use crate::block_number::FileBlock;
use crate::device::BlockCache;
use crate::error::{Error, Result};
use crate::extent::{END_OF_FILES, INSERT_CREDITS, LARGEST_UNWRITTEN, REMOVE_CREDITS};
use crate::inode::{Inode, InodeNumber, flags};
use crate::transaction::Transaction;
use crate::volume::Ext4;

/// Room for a step that frees: at least one extent, usually several.
pub(crate) const FREE_CREDITS: usize = REMOVE_CREDITS + 40;
const ALLOCATE_CREDITS: usize = 4 * INSERT_CREDITS;

/// What [`Ext4::fallocate`] does with a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallocate {
    /// Gives blocks to all of it that has none; they read as zeros.
    Allocate {
        /// Leaves the file's size as it is, even if the range goes beyond.
        keep_size: bool,
    },
    /// Takes its blocks away; it reads as zeros. The size stays.
    PunchHole,
    /// Makes it read as zeros, with blocks.
    ZeroRange {
        /// Leaves the file's size as it is, even if the range goes beyond.
        keep_size: bool,
    },
}

impl<C: BlockCache> Ext4<C> {
    /// Sets the size of a file; new bytes read as zeros.
    ///
    /// Worst case: frees each extent beyond, in as many transactions as that takes; a file on the orphan list remembers
    /// the rest over a power cut.
    ///
    /// # Errors
    /// [`Error::FileTooBig`], [`Error::IsDirectory`], [`Error::Invalid`], [`Error::NotFound`],
    /// [`Error::NotPermitted`].
    pub fn truncate(&mut self, number: InodeNumber, size: u64) -> Result<()> {
        if size > self.largest_file(&self.regular(number)?) {
            return Err(Error::FileTooBig);
        }
        self.finish_earlier(number)?;
        let done = self.transact(FREE_CREDITS + 4, |t| {
            let mut inode = t.changeable(number)?;
            if inode.has(flags::APPEND) {
                return Err(Error::NotPermitted);
            }
            t.zero_tail(number, &inode, size.min(inode.size))?;
            let shrinks = size < inode.size;
            inode.size = size;
            (inode.modified, inode.changed) = (t.now, t.now);
            let done = !shrinks || t.free_beyond(number, &mut inode)?;
            if !done {
                t.add_orphan(number, &mut inode)?;
            }
            t.write_inode(number, &inode, true)?;
            Ok(done)
        })?;
        if done { Ok(()) } else { self.free_soon(number) }
    }

    /// Frees what lies beyond the size of an inode on the orphan list, and takes it off if it has a name.
    pub(crate) fn finish_truncate(&mut self, number: InodeNumber) -> Result<()> {
        loop {
            let done = self.transact(FREE_CREDITS + 4, |t| {
                let mut inode = t.any_inode(number)?;
                let done = t.free_beyond(number, &mut inode)?;
                if done && inode.links > 0 {
                    t.drop_orphan(number, &mut inode)?;
                }
                t.write_inode(number, &inode, true)?;
                Ok(done)
            })?;
            if done {
                return Ok(());
            }
        }
    }

    /// Changes the blocks behind `length` bytes from byte `offset` on. Either all of it is done or, for want of space,
    /// none of it.
    ///
    /// Worst case: like writing or truncating the range; in several transactions.
    ///
    /// # Errors
    /// [`Error::NoSpace`], [`Error::FileTooBig`], [`Error::IsDirectory`], [`Error::NotFound`],
    /// [`Error::NotPermitted`], [`Error::Invalid`] for an empty range; [`Error::Unsupported`] for allocating in a file
    /// that is not mapped by extents, as Linux answers it.
    pub fn fallocate(&mut self, number: InodeNumber, how: Fallocate, offset: u64, length: u64) -> Result<()> {
        let end = offset.checked_add(length).ok_or(Error::FileTooBig)?;
        if length == 0 {
            return Err(Error::Invalid);
        }
        self.check_writable()?;
        let inode = self.changeable(number)?;
        if end > self.largest_file(&inode) {
            return Err(Error::FileTooBig);
        }
        if inode.has(flags::APPEND) && !matches!(how, Fallocate::Allocate { .. }) {
            return Err(Error::NotPermitted);
        }
        if inode.has_block_map() && how != Fallocate::PunchHole {
            return Err(Error::Unsupported("allocating ahead in a file that is not mapped by extents"));
        }
        self.finish_earlier(number)?;
        self.check_range(number, offset, end, how)?;
        match how {
            Fallocate::PunchHole => {
                self.zero_edges(number, offset, end)?;
                self.punch(number, offset, end)
            }
            Fallocate::Allocate { keep_size } => self.allocate_range(number, offset, end, !keep_size),
            Fallocate::ZeroRange { keep_size } => {
                // First what can fail for want of space, then what changes contents.
                self.allocate_range(number, offset, end, !keep_size)?;
                self.zero_edges(number, offset, end)?;
                self.make_unwritten(number, offset, end)
            }
        }
    }

    /// Looks at all of the map that an operation of several steps is going to change, so that damage refuses the first.
    fn check_range(&self, number: InodeNumber, offset: u64, end: u64, how: Fallocate) -> Result<()> {
        let inode = self.changeable(number)?;
        let size = self.sb.block_size;
        let (mut at, to) = (FileBlock::of(offset, size), FileBlock::behind(end, size));
        while at < to {
            let run = self.map_block(number, &inode, at)?;
            let count = run.count.min(to - at);
            if let Some(start) = run.start.filter(|_| how == Fallocate::PunchHole) {
                self.check_in_use(start, count)?;
            }
            at = at + count;
        }
        Ok(())
    }

    /// Zeros the parts of blocks at both ends of a range.
    fn zero_edges(&mut self, number: InodeNumber, offset: u64, end: u64) -> Result<()> {
        let size = self.sb.block_size as u64;
        self.transact(8, |t| {
            let mut inode = t.changeable(number)?;
            let first_end = end.min(offset.next_multiple_of(size));
            if first_end > offset {
                t.zero_part(number, &inode, offset, (first_end - offset) as usize)?;
            }
            let last_start = end - end % size;
            if last_start > offset && last_start < end {
                t.zero_part(number, &inode, last_start, (end - last_start) as usize)?;
            }
            (inode.modified, inode.changed) = (t.now, t.now);
            t.write_inode(number, &inode, true)
        })
    }

    fn punch(&mut self, number: InodeNumber, offset: u64, end: u64) -> Result<()> {
        let size = self.sb.block_size;
        let (from, to) = (FileBlock::behind(offset, size), FileBlock::of(end, size));
        loop {
            let done = self.transact(FREE_CREDITS + 2, |t| {
                let mut inode = t.changeable(number)?;
                let done = t.remove_extents(number, &mut inode, from, to, false)?;
                t.write_inode(number, &inode, true)?;
                Ok(done)
            })?;
            if done {
                return Ok(());
            }
        }
    }

    /// Gives blocks to all holes of a range; when space runs out, takes back those it gave.
    fn allocate_range(&mut self, number: InodeNumber, offset: u64, end: u64, grow: bool) -> Result<()> {
        let size = self.sb.block_size;
        let (mut at, to) = (FileBlock::of(offset, size), FileBlock::behind(end, size));
        let mut added = Vec::new();
        while at < to {
            match self.allocate_step(number, at, to) {
                Ok((next, new)) => {
                    added.extend(new);
                    at = next;
                }
                Err(Error::NoSpace) => {
                    self.take_back(number, &added)?;
                    return Err(Error::NoSpace);
                }
                // A caller who waits for a block comes back; what was given stays.
                Err(error) => return Err(error),
            }
        }
        self.transact(8, |t| {
            let mut inode = t.changeable(number)?;
            if grow && end > inode.size {
                t.zero_tail(number, &inode, inode.size)?;
                inode.size = end;
                inode.modified = t.now;
            }
            inode.changed = t.now;
            t.write_inode(number, &inode, true)
        })
    }

    /// Allocates some of the holes from `at` on; answers where to go on, and what it gave.
    fn allocate_step(
        &mut self,
        number: InodeNumber,
        at: FileBlock,
        to: FileBlock,
    ) -> Result<(FileBlock, Vec<(FileBlock, u32)>)> {
        self.transact(ALLOCATE_CREDITS, |t| {
            let mut inode = t.changeable(number)?;
            let mut new = Vec::new();
            let mut next = at;
            let mut lookups = 0;
            while next < to && t.credits_left() >= INSERT_CREDITS + 4 && lookups < 4096 {
                lookups += 1;
                let run = t.map_block(number, &inode, next)?;
                let mut count = run.count.min(to - next);
                if run.start.is_none() {
                    count = t.map_new(number, &mut inode, next, count.min(LARGEST_UNWRITTEN), true)?.1;
                    new.push((next, count));
                }
                next = next + count;
            }
            if !new.is_empty() {
                t.write_inode(number, &inode, true)?;
            }
            Ok((next, new))
        })
    }

    fn take_back(&mut self, number: InodeNumber, added: &[(FileBlock, u32)]) -> Result<()> {
        for (first, count) in added {
            let size = self.sb.block_size as u64;
            self.punch(number, u64::from(first.0) * size, (u64::from(first.0) + u64::from(*count)) * size)?;
        }
        Ok(())
    }

    /// Makes the whole blocks of a range, all of which are mapped, read as zeros.
    fn make_unwritten(&mut self, number: InodeNumber, offset: u64, end: u64) -> Result<()> {
        let size = self.sb.block_size;
        let (mut at, to) = (FileBlock::behind(offset, size), FileBlock::of(end, size));
        while at < to {
            at = self.transact(ALLOCATE_CREDITS, |t| {
                let mut inode = t.changeable(number)?;
                let mut next = at;
                let mut lookups = 0;
                while next < to && t.credits_left() >= 2 * INSERT_CREDITS && lookups < 4096 {
                    lookups += 1;
                    let run = t.map_block(number, &inode, next)?;
                    let count = run.count.min(to - next);
                    let written = run.start.is_some() && !run.unwritten;
                    let done =
                        if written { t.mark_extent(number, &mut inode, next, count, true)? } else { count };
                    next = next + done;
                }
                t.write_inode(number, &inode, true)?;
                Ok(next)
            })?;
        }
        Ok(())
    }
}

impl<C: BlockCache> Transaction<'_, C> {
    /// Frees the blocks beyond the inode's size as far as the credits go; answers whether none is left.
    pub(crate) fn free_beyond(&mut self, number: InodeNumber, inode: &mut Inode) -> Result<bool> {
        let from = FileBlock::behind(inode.size, self.sb.block_size);
        let metadata = inode.mode >> 12 != 8;
        self.remove_extents(number, inode, from, END_OF_FILES, metadata)
    }
}
