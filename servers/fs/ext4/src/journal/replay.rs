//! Replaying a journal that was not emptied: ours or Linux's.

use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::HashMap;

use super::Journal;
use super::format::{BlockType, Tag};
use crate::block_number::VolumeBlock;
use crate::buffer::{Block, Buffer};
use crate::bytes::put_be32;
use crate::device::BlockCache;
use crate::error::{Error, Result};
use crate::volume::Ext4;

use super::format::MAGIC;

/// A complete transaction in the log: its number, and its blocks as (tag, place in the log).
struct Complete {
    sequence: u32,
    blocks: Vec<(Tag, u32)>,
}

/// What the log holds.
struct Contents {
    transactions: Vec<Complete>,
    /// The last transaction that revoked each block.
    revoked: HashMap<VolumeBlock, u32>,
    next_sequence: u32,
}

impl<C: BlockCache> Ext4<C> {
    /// Brings the blocks of all complete transactions to where they belong: onto the disk when the mount may write,
    /// otherwise into memory. The log is empty afterwards in the first case.
    ///
    /// Worst case: reads the log twice and writes each of its blocks once.
    pub(crate) fn replay(&mut self, journal: &mut Journal, to_disk: bool) -> Result<()> {
        if journal.start == 0 {
            return Ok(());
        }
        let contents = self.scan(journal)?;
        for transaction in &contents.transactions {
            for (tag, log) in &transaction.blocks {
                let revoked = contents.revoked.get(&tag.block);
                if revoked.is_some_and(|by| !is_before(*by, transaction.sequence)) {
                    continue;
                }
                let content = self.logged(journal, *log, tag.escaped)?;
                if to_disk {
                    self.cache.submit(tag.block.0, &content)?;
                } else {
                    self.dirty.insert_replayed(tag.block, content);
                }
            }
        }
        journal.sequence = contents.next_sequence;
        if to_disk {
            self.cache.barrier()?;
        }
        Ok(())
    }

    /// Finds the complete transactions; the first gap, foreign block or broken commit record ends the log.
    fn scan(&self, journal: &Journal) -> Result<Contents> {
        let mut found =
            Contents { transactions: Vec::new(), revoked: HashMap::new(), next_sequence: journal.sequence };
        let mut at = journal.start;
        let mut budget = journal.length;
        while let Some((transaction, revoked)) =
            self.scan_one(journal, &mut at, &mut budget, found.next_sequence)?
        {
            for block in revoked {
                found.revoked.insert(block, transaction.sequence);
            }
            self.check_contents(journal, &transaction)?;
            found.transactions.push(transaction);
            found.next_sequence = found.next_sequence.wrapping_add(1);
        }
        Ok(found)
    }

    /// Reads one transaction from `at` on; `None` when it is not complete. `budget` bounds the blocks read.
    fn scan_one(
        &self,
        journal: &Journal,
        at: &mut u32,
        budget: &mut u32,
        sequence: u32,
    ) -> Result<Option<(Complete, Vec<VolumeBlock>)>> {
        let mut transaction = Complete { sequence, blocks: Vec::new() };
        let mut revoked = Vec::new();
        while *budget > 0 {
            let buffer = self.cache.get(journal.place(*at)?.0)?;
            let Some(kind) = journal.format.block_type(buffer.bytes(), sequence) else { return Ok(None) };
            if !journal.format.is_sealed(kind, buffer.bytes()) {
                return Ok(None);
            }
            *at = journal.next(*at);
            *budget -= 1;
            match kind {
                BlockType::Commit => return Ok(Some((transaction, revoked))),
                BlockType::Revoke => revoked.extend(journal.format.revokes(buffer.bytes())?),
                BlockType::Descriptor => {
                    for tag in journal.format.tags(buffer.bytes())? {
                        transaction.blocks.push((tag, *at));
                        *at = journal.next(*at);
                        *budget = budget.saturating_sub(1);
                    }
                }
            }
        }
        Ok(None)
    }

    /// Checks where a transaction's blocks go and that they are what was committed, before anything is written.
    fn check_contents(&self, journal: &Journal, transaction: &Complete) -> Result<()> {
        for (tag, log) in &transaction.blocks {
            let inside = (self.sb.first_data_block..self.sb.blocks).contains(&tag.block.0);
            if !inside || journal.contains(tag.block) {
                return Err(Error::Corrupt("journal: block number"));
            }
            if journal.format.has_checksums() {
                let buffer = self.cache.get(journal.place(*log)?.0)?;
                if journal.format.content_checksum(transaction.sequence, buffer.bytes()) != tag.checksum {
                    return Err(Error::Corrupt("journal: block checksum"));
                }
            }
        }
        Ok(())
    }

    fn logged(&self, journal: &Journal, log: u32, escaped: bool) -> Result<Buffer> {
        let buffer = self.cache.get(journal.place(log)?.0)?;
        let mut bytes: alloc::boxed::Box<[u8]> = buffer.bytes().into();
        if escaped {
            put_be32(&mut bytes, 0, MAGIC);
        }
        Ok(Arc::new(Block::new(bytes)))
    }
}

/// Whether transaction `a` came before `b`; numbers wrap around.
fn is_before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}
