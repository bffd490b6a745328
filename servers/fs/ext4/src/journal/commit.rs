//! Committing the running transaction, and writing committed blocks home (checkpointing).

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Journal;
use super::format::{BlockType, Format, MAGIC, Tag};
use crate::block_number::VolumeBlock;
use crate::buffer::{Buffer, Pool};
use crate::bytes::{be32, put_le32};
use crate::device::BlockCache;
use crate::error::{Error, Result};
use crate::time::Time;
use crate::transaction::Running;
use crate::volume::Ext4;

/// Revoked blocks kept in one transaction before it is committed.
const MOST_REVOKED: usize = 4096;

impl<C: BlockCache> Ext4<C> {
    /// Makes room for an operation that changes at most `credits` metadata blocks: in the running transaction, in the
    /// log, and in memory. May commit and write home.
    ///
    /// # Errors
    /// Those of a commit, and [`Error::NoMemory`].
    pub(crate) fn reserve(&mut self, credits: usize) -> Result<()> {
        self.check_writable()?;
        let journal = self.journal.as_ref().ok_or(Error::ReadOnly)?;
        if credits + 8 > journal.largest_transaction() {
            return Err(Error::Unsupported("an operation larger than the journal"));
        }
        let largest = journal.largest_transaction();
        let full =
            self.survivor.as_ref().is_some_and(|survivor| !survivor.has_room(credits, self.sb.block_size));
        if full || self.blocks_to_log(credits) > largest || self.running.revoked.len() > MOST_REVOKED {
            self.commit()?;
        }
        if self.data.is_full() {
            self.write_all_data()?;
        }
        let blocks = self.blocks_to_log(credits);
        let journal = self.journal.as_ref().ok_or(Error::ReadOnly)?;
        let revokes = (self.running.revoked.len() + MOST_REVOKED) / journal.format.revokes_per_block() + 1;
        let log = blocks + blocks / journal.format.tags_per_block() + 1 + revokes + 1;
        if log > journal.room() || self.dirty.len() > 4 * largest {
            self.checkpoint()?;
        }
        self.pool.reserve(credits + 4, self.sb.block_size)
    }

    fn blocks_to_log(&self, credits: usize) -> usize {
        let descriptors = self.sb.desc_blocks(self.sb.group_count) as usize;
        self.dirty.running_len() + credits + (self.running.groups + credits).min(descriptors) + 1
    }

    /// Makes everything done so far durable as one transaction: data of the files that grew, then the log, then the
    /// commit record. A no-op when nothing changed since the last commit.
    ///
    /// Worst case: writes every unwritten block of those files, and each changed metadata block once.
    ///
    /// # Errors
    /// [`Error::Io`] with pending reads can be repeated; after any other the volume refuses to write.
    pub fn commit(&mut self) -> Result<()> {
        self.check_writable()?;
        if !self.running.changed {
            return Ok(());
        }
        // Stamping is part of the commit: it need not survive, and there may be no room for it.
        let survivor = self.survivor.take();
        let stamped = self.stamp();
        self.survivor = survivor;
        stamped?;
        let blocks = self.dirty.seal(&self.sb, &mut self.pool)?;
        let written = self.write_ordered_data().and_then(|()| self.write_log(&blocks));
        if written.is_err() {
            self.aborted = true;
            return written;
        }
        self.dirty.committed(&self.running.revoked);
        let Running { held, .. } = core::mem::take(&mut self.running);
        for (group, bits) in held {
            if let Some(group) = self.groups.get_mut(group as usize) {
                group.pending_blocks = 0;
                group.longest_run = None;
            }
            self.pool.give(bits);
        }
        if let Some(survivor) = &mut self.survivor {
            survivor.clear();
        }
        Ok(())
    }

    fn write_ordered_data(&mut self) -> Result<()> {
        let mut inodes: Vec<_> = self.running.ordered.iter().copied().collect();
        inodes.sort_unstable();
        for inode in inodes {
            self.write_data_of(inode)?;
        }
        Ok(())
    }

    fn write_log(&mut self, blocks: &[(VolumeBlock, Buffer)]) -> Result<()> {
        let journal = self.journal.as_mut().ok_or(Error::ReadOnly)?;
        let mut log = Log { journal, cache: &mut self.cache, pool: &mut self.pool, size: self.sb.block_size };
        for revoked in self.running.revoked.chunks(log.journal.format.revokes_per_block()) {
            log.write_revokes(revoked)?;
        }
        for listed in blocks.chunks(log.journal.format.tags_per_block()) {
            log.write_blocks(listed)?;
        }
        log.cache.barrier()?;
        log.write_commit(self.now)?;
        log.cache.barrier()?;
        log.journal.sequence = log.journal.sequence.wrapping_add(1);
        Ok(())
    }

    /// Writes all committed blocks to their places and empties the log.
    ///
    /// Worst case: one write per block of the log, two barriers.
    ///
    /// # Errors
    /// [`Error::Io`]; the volume then refuses to write.
    pub fn checkpoint(&mut self) -> Result<()> {
        self.check_writable()?;
        let written = self.write_home();
        if written.is_err() {
            self.aborted = true;
        }
        written
    }

    fn write_home(&mut self) -> Result<()> {
        for (block, content) in self.dirty.to_write_home() {
            self.cache.submit(block.0, &content)?;
            self.cache.offer(block.0, &content);
        }
        self.cache.barrier()?;
        self.dirty.written_home();
        let journal = self.journal.as_mut().ok_or(Error::ReadOnly)?;
        journal.used = 0;
        let head = journal.head;
        self.write_journal_superblock(head)?;
        self.cache.barrier()?;
        Ok(())
    }
}

/// The log while a transaction is written to it.
struct Log<'a, C> {
    journal: &'a mut Journal,
    cache: &'a mut C,
    pool: &'a mut Pool,
    size: usize,
}

impl<C: BlockCache> Log<'_, C> {
    fn append(&mut self, content: &Buffer) -> Result<()> {
        if self.journal.room() == 0 {
            return Err(Error::Invalid);
        }
        let place = self.journal.place(self.journal.head)?;
        self.cache.submit(place.0, content)?;
        self.journal.head = self.journal.next(self.journal.head);
        self.journal.used += 1;
        Ok(())
    }

    fn append_new(&mut self, fill: impl FnOnce(&Format, u32, &mut [u8])) -> Result<()> {
        let mut content = self.pool.take(self.size)?;
        let block = Arc::get_mut(&mut content).ok_or(Error::NoMemory)?;
        block.clear();
        fill(&self.journal.format, self.journal.sequence, block.bytes_mut());
        self.append(&content)?;
        self.pool.give(content);
        Ok(())
    }

    fn write_revokes(&mut self, blocks: &[VolumeBlock]) -> Result<()> {
        self.append_new(|format, sequence, bytes| format.put_revokes(bytes, sequence, blocks))
    }

    /// A descriptor and its blocks. A block that begins with the journal's magic number is escaped.
    fn write_blocks(&mut self, blocks: &[(VolumeBlock, Buffer)]) -> Result<()> {
        let mut tags = Vec::new();
        let mut contents = Vec::new();
        for (block, content) in blocks {
            let escaped = be32(content.bytes(), 0) == MAGIC;
            let content = if escaped { self.escape(content)? } else { content.clone() };
            let checksum = self.journal.format.content_checksum(self.journal.sequence, content.bytes());
            tags.push(Tag { block: *block, escaped, checksum });
            contents.push(content);
        }
        self.append_new(|format, sequence, bytes| format.put_tags(bytes, sequence, &tags))?;
        contents.iter().try_for_each(|content| self.append(content))
    }

    fn escape(&mut self, content: &Buffer) -> Result<Buffer> {
        let mut copy = self.pool.take(self.size)?;
        let block = Arc::get_mut(&mut copy).ok_or(Error::NoMemory)?;
        block.copy_from(content);
        put_le32(block.bytes_mut(), 0, 0);
        Ok(copy)
    }

    fn write_commit(&mut self, now: Time) -> Result<()> {
        self.append_new(|format, sequence, bytes| {
            Format::put_header(bytes, BlockType::Commit, sequence);
            Format::put_commit_time(bytes, now);
            format.seal(BlockType::Commit, bytes);
        })
    }
}
