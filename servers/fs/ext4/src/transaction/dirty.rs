//! Metadata that is newer in memory than at its place on the disk.
//!
//! Every block has its newest content and, until it was written home, the content of the last committed transaction
//! that held it. Only a [`Transaction`](super::Transaction) can change a content.

use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::HashMap;

use crate::block_number::VolumeBlock;
use crate::buffer::{Buffer, Pool};
use crate::error::{Error, Result};
use crate::metadata::Kind;
use crate::superblock::Superblock;

/// The blocks of the running transaction and of committed ones that are not written home yet.
#[derive(Debug, Default)]
pub(crate) struct DirtyBlocks {
    map: HashMap<VolumeBlock, DirtyBlock>,
    /// Block numbers that became part of the running transaction; may name some that were freed since.
    running: Vec<VolumeBlock>,
}

#[derive(Debug, Clone)]
struct DirtyBlock {
    current: Buffer,
    kind: Kind,
    running: bool,
    /// The operation that changed it last.
    operation: u64,
    committed: Option<Buffer>,
}

/// How a block was before an operation first changed it.
#[derive(Debug)]
pub(super) struct BlockUndo {
    block: VolumeBlock,
    before: Option<DirtyBlock>,
}

impl DirtyBlocks {
    /// The newest content, if the block is here at all.
    pub(crate) fn get(&self, block: VolumeBlock) -> Option<&Buffer> {
        self.map.get(&block).map(|dirty| &dirty.current)
    }

    /// How many blocks the running transaction holds at most.
    pub(crate) fn running_len(&self) -> usize {
        self.running.len()
    }

    /// How many blocks are kept in memory.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether `operation` has changed this block already.
    pub(super) fn is_touched(&self, block: VolumeBlock, operation: u64) -> bool {
        self.map.get(&block).is_some_and(|dirty| dirty.operation == operation)
    }

    /// The bytes of a block that `operation` has changed before.
    pub(super) fn touched_mut(
        &mut self,
        block: VolumeBlock,
        kind: Kind,
        pool: &mut Pool,
    ) -> Result<&mut [u8]> {
        let dirty = self.map.get_mut(&block).ok_or(Error::Invalid)?;
        dirty.kind = kind;
        if Arc::get_mut(&mut dirty.current).is_none() {
            let mut copy = pool.take(dirty.current.bytes().len())?;
            Arc::get_mut(&mut copy).ok_or(Error::NoMemory)?.copy_from(&dirty.current);
            dirty.current = copy;
        }
        Arc::get_mut(&mut dirty.current).map(|block| block.bytes_mut()).ok_or(Error::NoMemory)
    }

    /// Makes `content`, which nobody else holds, the block's newest content; the answer takes it back.
    pub(super) fn replace(
        &mut self,
        block: VolumeBlock,
        content: Buffer,
        kind: Kind,
        operation: u64,
    ) -> BlockUndo {
        let before = self.map.get(&block).cloned();
        let committed = before.as_ref().and_then(|dirty| dirty.committed.clone());
        if !before.as_ref().is_some_and(|dirty| dirty.running) {
            self.running.push(block);
        }
        self.map.insert(block, DirtyBlock { current: content, kind, running: true, operation, committed });
        BlockUndo { block, before }
    }

    /// Takes one change back; changes are taken back in reverse order.
    pub(super) fn undo(&mut self, undo: BlockUndo, pool: &mut Pool) {
        let was_running = undo.before.as_ref().is_some_and(|dirty| dirty.running);
        if !was_running && self.running.last() == Some(&undo.block) {
            self.running.pop();
        }
        let dropped = match undo.before {
            Some(before) => self.map.insert(undo.block, before),
            None => self.map.remove(&undo.block),
        };
        if let Some(dirty) = dropped {
            pool.give(dirty.current);
        }
    }

    /// The newest content and kind of a block that an operation changed.
    pub(super) fn changed(&self, undo: &BlockUndo) -> Option<(VolumeBlock, Kind, &Buffer)> {
        self.map.get(&undo.block).map(|dirty| (undo.block, dirty.kind, &dirty.current))
    }

    /// Drops what an operation kept for undoing.
    pub(super) fn settle(undo: BlockUndo, pool: &mut Pool) {
        if let Some(DirtyBlock { current, committed, .. }) = undo.before {
            drop(committed);
            pool.give(current);
        }
    }

    /// Takes a freed block out of the running transaction; its committed content stays until the commit.
    pub(super) fn forget(&mut self, block: VolumeBlock) {
        if let Some(dirty) = self.map.get_mut(&block) {
            dirty.running = false;
            if dirty.committed.is_none() {
                self.map.remove(&block);
            }
        }
    }

    /// Puts the checksums in and answers the running transaction's blocks in ascending order.
    pub(crate) fn seal(&mut self, sb: &Superblock, pool: &mut Pool) -> Result<Vec<(VolumeBlock, Buffer)>> {
        self.running.sort_unstable();
        self.running.dedup();
        let mut sealed = Vec::new();
        sealed.try_reserve_exact(self.running.len()).map_err(|_| Error::NoMemory)?;
        for block in &self.running {
            let Some(dirty) = self.map.get_mut(block).filter(|dirty| dirty.running) else { continue };
            if dirty.kind != Kind::Plain {
                if Arc::get_mut(&mut dirty.current).is_none() {
                    let mut copy = pool.take(dirty.current.bytes().len())?;
                    Arc::get_mut(&mut copy).ok_or(Error::NoMemory)?.copy_from(&dirty.current);
                    dirty.current = copy;
                }
                let content = Arc::get_mut(&mut dirty.current).ok_or(Error::NoMemory)?;
                dirty.kind.seal(sb, content.bytes_mut())?;
            }
            sealed.push((*block, dirty.current.clone()));
        }
        Ok(sealed)
    }

    /// After the commit record: the running blocks are committed, the freed ones are gone.
    pub(crate) fn committed(&mut self, freed: &[VolumeBlock]) {
        for block in self.running.drain(..) {
            if let Some(dirty) = self.map.get_mut(&block).filter(|dirty| dirty.running) {
                dirty.running = false;
                dirty.committed = Some(dirty.current.clone());
            }
        }
        for block in freed {
            self.map.remove(block);
        }
    }

    /// All committed contents that are not written home yet, in ascending order.
    pub(crate) fn to_write_home(&self) -> Vec<(VolumeBlock, Buffer)> {
        let mut blocks: Vec<(VolumeBlock, Buffer)> =
            self.map.iter().filter_map(|(block, dirty)| Some((*block, dirty.committed.clone()?))).collect();
        blocks.sort_unstable_by_key(|(block, _)| *block);
        blocks
    }

    /// After they were written home: only the running transaction's blocks stay.
    pub(crate) fn written_home(&mut self) {
        self.map.retain(|_, dirty| {
            dirty.committed = None;
            dirty.running
        });
    }
}
