//! Replaying a journal that was not emptied: ours or Linux's.
//!
//! The log is walked three times, block by block: to find its end, to find the newest copy of each block, and to drop
//! what was revoked. Only the last of these is kept, one entry for each block that the log holds, so that memory is
//! bounded by the log's length whatever it says.

use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::HashMap;

use super::Journal;
use super::format::{BlockType, MAGIC, Tag};
use crate::block_number::VolumeBlock;
use crate::buffer::{Block, Buffer};
use crate::bytes::put_be32;
use crate::checksum::crc32_be;
use crate::device::BlockCache;
use crate::error::{Error, Result};
use crate::inode::InodeNumber;
use crate::volume::Ext4;

/// The newest copy of a block in the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Logged {
    /// Where the copy lies.
    place: VolumeBlock,
    escaped: bool,
    /// The transaction that wrote it.
    sequence: u32,
}

/// Blocks whose newest content still lies in the log: what a mount that must not write looks at.
pub(crate) type Overlay = HashMap<VolumeBlock, Logged>;

/// What a transaction in the log consists of.
enum Part {
    /// A block and where its copy lies in the log.
    Copy(Tag, u32),
    Revoke(VolumeBlock),
}

/// A position in the log.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    at: u32,
    /// How many blocks of the ring have not been walked over.
    left: u32,
    sequence: u32,
    /// The time of the last commit record, in seconds.
    time: u64,
}

impl Cursor {
    fn at_start(journal: &Journal) -> Self {
        let left = journal.length - journal.first;
        Cursor { at: journal.start, left, sequence: journal.sequence, time: 0 }
    }

    /// Steps over one block; answers which.
    fn step(&mut self, journal: &Journal) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        let at = self.at;
        self.at = journal.next(at);
        Some(at)
    }
}

impl<C: BlockCache> Ext4<C> {
    /// Brings the blocks of all complete transactions to where they belong: onto the disk when the mount may write,
    /// otherwise into the overlay. The log is empty afterwards in the first case.
    ///
    /// Worst case: reads the log four times and writes each of its blocks once.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a transaction that was complete once is damaged.
    pub(crate) fn replay(&mut self, journal: &mut Journal, to_disk: bool) -> Result<()> {
        if journal.start == 0 {
            return Ok(());
        }
        let end = self.find_end(journal)?;
        let newest = self.newest_copies(journal, end)?;
        // One number is left out, as Linux does: what a torn transaction left in the log must not look like the next.
        journal.sequence = end.wrapping_add(1);
        if !to_disk {
            self.overlay = newest;
            return Ok(());
        }
        let mut blocks = Vec::new();
        blocks.try_reserve_exact(newest.len()).map_err(|_| Error::NoMemory)?;
        blocks.extend(newest);
        blocks.sort_unstable_by_key(|(block, _)| *block);
        for (block, logged) in blocks {
            let content = self.logged(logged)?;
            self.cache.submit(block.0, &content)?;
        }
        Ok(self.cache.barrier()?)
    }

    /// The number of the first transaction that is not complete.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it was complete once.
    fn find_end(&self, journal: &Journal) -> Result<u32> {
        let mut cursor = Cursor::at_start(journal);
        loop {
            let before = cursor;
            if !self.walk(journal, &mut cursor, |_| Ok(()))? {
                self.check_tail(journal, before)?;
                return Ok(before.sequence);
            }
        }
    }

    /// The newest copy of each block in the transactions before `end`, without those that were revoked since.
    fn newest_copies(&self, journal: &Journal, end: u32) -> Result<Overlay> {
        let mut newest = Overlay::new();
        let mut revokes = false;
        self.walk_all(journal, end, |sequence, part| {
            match part {
                Part::Revoke(_) => revokes = true,
                Part::Copy(tag, log) => {
                    self.check_copy(journal, sequence, tag, log)?;
                    newest.try_reserve(1).map_err(|_| Error::NoMemory)?;
                    let place = journal.place(log)?;
                    newest.insert(tag.block, Logged { place, escaped: tag.escaped, sequence });
                }
            }
            Ok(())
        })?;
        if revokes {
            self.walk_all(journal, end, |sequence, part| {
                if let Part::Revoke(block) = part
                    && newest.get(&block).is_some_and(|logged| !is_before(sequence, logged.sequence))
                {
                    newest.remove(&block);
                }
                Ok(())
            })?;
        }
        Ok(newest)
    }

    /// Calls `visit` for the parts of all transactions before `end`, all of which are complete.
    fn walk_all(
        &self,
        journal: &Journal,
        end: u32,
        mut visit: impl FnMut(u32, Part) -> Result<()>,
    ) -> Result<()> {
        let mut cursor = Cursor::at_start(journal);
        while cursor.sequence != end {
            let sequence = cursor.sequence;
            if !self.walk(journal, &mut cursor, |part| visit(sequence, part))? {
                return Err(Error::Corrupt("journal: changed while it was read"));
            }
        }
        Ok(())
    }

    /// Walks over one transaction and calls `visit` for its parts. Returns false if it is not complete.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when its commit record is damaged.
    fn walk(
        &self,
        journal: &Journal,
        cursor: &mut Cursor,
        mut visit: impl FnMut(Part) -> Result<()>,
    ) -> Result<bool> {
        let format = &journal.format;
        let mut sum = !0;
        loop {
            let Some(header) = cursor.step(journal) else { return Ok(false) };
            let buffer = self.cache.get(journal.place(header)?.0)?;
            let bytes = buffer.bytes();
            let Some(kind) = format.block_type(bytes, cursor.sequence) else { return Ok(false) };
            if kind == BlockType::Commit {
                return format.check_commit(bytes, sum, cursor.time).inspect(|complete| {
                    if *complete {
                        cursor.time = format.commit_time(bytes);
                        cursor.sequence = cursor.sequence.wrapping_add(1);
                    }
                });
            }
            if !format.is_sealed(kind, bytes) {
                return Ok(false);
            }
            if kind == BlockType::Revoke {
                let Ok(blocks) = format.revokes(bytes) else { return Ok(false) };
                blocks.into_iter().try_for_each(|block| visit(Part::Revoke(block)))?;
                continue;
            }
            let Ok(tags) = format.tags(bytes) else { return Ok(false) };
            sum = if format.sums_transactions() { crc32_be(sum, bytes) } else { sum };
            for tag in tags {
                let Some(log) = cursor.step(journal) else { return Ok(false) };
                if format.sums_transactions() {
                    sum = crc32_be(sum, self.cache.get(journal.place(log)?.0)?.bytes());
                }
                visit(Part::Copy(tag, log))?;
            }
        }
    }

    /// Tells a log that ends in a torn transaction from one that is damaged: a transaction is written only when the one
    /// before it is durable, and its commit record only when all the rest of it is. So no commit record of the
    /// transaction that seems incomplete, or of a later one, can lie behind a torn one.
    fn check_tail(&self, journal: &Journal, end: Cursor) -> Result<()> {
        let mut cursor = end;
        let ring = journal.length - journal.first;
        // No transaction is longer than this: ours take a third, Linux's a quarter.
        for _ in 0..ring / 2 {
            let Some(at) = cursor.step(journal) else { return Ok(()) };
            let buffer = self.cache.get(journal.place(at)?.0)?;
            if journal.format.is_commit_from(buffer.bytes(), end.sequence, ring, end.time) {
                return Err(Error::Corrupt("journal: damage before the end of the log"));
            }
        }
        Ok(())
    }

    /// Checks where a logged block goes and that it is what was committed, before anything is written.
    fn check_copy(&self, journal: &Journal, sequence: u32, tag: Tag, log: u32) -> Result<()> {
        let inside = (self.sb.first_data_block..self.sb.blocks).contains(&tag.block.0);
        if !inside || self.zones.belong_to(InodeNumber(self.sb.journal_inode), tag.block) {
            return Err(Error::Corrupt("journal: block number"));
        }
        if !journal.format.has_checksums() {
            return Ok(());
        }
        let buffer = self.cache.get(journal.place(log)?.0)?;
        if journal.format.content_checksum(sequence, buffer.bytes()) == tag.checksum {
            Ok(())
        } else {
            Err(Error::Corrupt("journal: block checksum"))
        }
    }

    /// The content of a block in the log.
    fn logged(&self, logged: Logged) -> Result<Buffer> {
        let buffer = self.cache.get(logged.place.0)?;
        if !logged.escaped {
            return Ok(buffer);
        }
        let mut bytes: alloc::boxed::Box<[u8]> = buffer.bytes().into();
        put_be32(&mut bytes, 0, MAGIC);
        Ok(Arc::new(Block::new(bytes)))
    }

    /// A block as it is once the log has been replayed.
    pub(crate) fn fetch(&self, block: VolumeBlock) -> Result<Buffer> {
        match self.overlay.get(&block) {
            Some(logged) => self.logged(*logged),
            None => Ok(self.cache.get(block.0)?),
        }
    }

    /// Fills `out` with blocks of file data from `start` on, as they are once the log has been replayed.
    pub(crate) fn fetch_run(&self, start: VolumeBlock, out: &mut [u8]) -> Result<()> {
        if self.overlay.is_empty() {
            return Ok(self.cache.read(start.0, out)?);
        }
        let size = self.sb.block_size;
        let is_logged = |n: usize| self.overlay.get(&(start + n as u64));
        let count = out.len() / size;
        let mut at = 0;
        while at < count {
            if let Some(logged) = is_logged(at) {
                out[at * size..(at + 1) * size].copy_from_slice(self.logged(*logged)?.bytes());
                at += 1;
                continue;
            }
            let end = (at..count).find(|n| is_logged(*n).is_some()).unwrap_or(count);
            self.cache.read(start.0 + at as u64, &mut out[at * size..end * size])?;
            at = end;
        }
        Ok(())
    }
}

/// Whether transaction `a` came before `b`; numbers wrap around.
fn is_before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}
