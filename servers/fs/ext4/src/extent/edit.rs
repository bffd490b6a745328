//! Changing extent trees: inserting, removing, and converting between written and unwritten.

use alloc::vec::Vec;

use super::node::{self, Extent, LARGEST_UNWRITTEN, Node};
use super::{DEEPEST, NodeBytes, Path};
use crate::block_number::{FileBlock, VolumeBlock};
use crate::device::BlockCache;
use crate::error::{Error, Result};
use crate::inode::{Inode, InodeNumber};
use crate::metadata::Kind;
use crate::transaction::Transaction;

/// Metadata blocks that one insertion can change: at each level a new block, its parent and a bitmap; and the root.
pub(crate) const INSERT_CREDITS: usize = 3 * (DEEPEST + 1) + 2;
/// Metadata blocks that one removal can change: a path, an insertion for the rest, and the bitmaps of what is freed.
pub(crate) const REMOVE_CREDITS: usize = INSERT_CREDITS + 2 * DEEPEST + 4;

impl<C: BlockCache> Transaction<'_, C> {
    fn node_mut<'b>(
        &'b mut self,
        seed: u32,
        inode: &'b mut Inode,
        block: Option<VolumeBlock>,
    ) -> Result<&'b mut [u8]> {
        match block {
            None => Ok(&mut inode.map),
            Some(block) => self.edit(block, Kind::Extents(seed)),
        }
    }

    /// Adds an extent where nothing is mapped, joined to its neighbours where they fit.
    ///
    /// Worst case: splits a node on each of five levels.
    ///
    /// # Errors
    /// [`Error::NoSpace`] when the tree needs a block.
    pub(crate) fn insert_extent(
        &mut self,
        number: InodeNumber,
        inode: &mut Inode,
        extent: Extent,
    ) -> Result<()> {
        if inode.has_block_map() {
            return self.insert_in_table(number, inode, extent.block, extent.start, extent.count);
        }
        let seed = self.seed(number, inode);
        loop {
            let path = self.find_path(number, inode, extent.block)?;
            let leaf = path.steps[path.depth];
            if self.join_neighbours(number, inode, &path, extent)? {
                return Ok(());
            }
            let at = leaf.index.map_or(0, |index| index + 1);
            let bytes = self.node_mut(seed, inode, leaf.block)?;
            if !Node(bytes).is_full() {
                node::insert_extent(bytes, at, &extent);
                return if at == 0 { self.fix_keys(seed, inode, &path) } else { Ok(()) };
            }
            self.make_room(seed, number, inode, &path)?;
        }
    }

    /// Joins the extent to the one before or behind it in the same leaf, if they fit.
    fn join_neighbours(
        &mut self,
        number: InodeNumber,
        inode: &mut Inode,
        path: &Path,
        extent: Extent,
    ) -> Result<bool> {
        let seed = self.seed(number, inode);
        let leaf = path.steps[path.depth];
        let bytes = self.node_mut(seed, inode, leaf.block)?;
        let next = leaf.index.map_or(0, |index| index + 1);
        let behind = (next < Node(bytes).entries()).then(|| Node(bytes).extent(next));
        if let Some(index) = leaf.index {
            let before = Node(bytes).extent(index);
            if before.end() > extent.block {
                return Err(Error::Corrupt("overlapping extents"));
            }
            if let Some(joined) = before.join(&extent) {
                node::set_extent(bytes, index, &joined);
                if let Some(all) = behind.and_then(|behind| joined.join(&behind)) {
                    node::set_extent(bytes, index, &all);
                    node::remove(bytes, next);
                }
                return Ok(true);
            }
        }
        let Some(joined) = behind.and_then(|behind| extent.join(&behind)) else { return Ok(false) };
        node::set_extent(bytes, next, &joined);
        if next == 0 {
            self.fix_keys(seed, inode, path)?;
        }
        Ok(true)
    }

    /// After the leaf's first entry changed: its key in the nodes above.
    fn fix_keys(&mut self, seed: u32, inode: &mut Inode, path: &Path) -> Result<()> {
        for level in (0..path.depth).rev() {
            let child = self.node_bytes(seed, inode, path.steps[level + 1].block)?;
            if child.node().entries() == 0 {
                return Ok(());
            }
            let key = child.node().key(0);
            drop(child);
            let index = path.steps[level].index.unwrap_or(0);
            let bytes = self.node_mut(seed, inode, path.steps[level].block)?;
            node::set_key(bytes, index, key);
            if index > 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Splits the highest full node below a node with room, or makes the tree deeper. Repeated, it makes room in the
    /// leaf.
    fn make_room(&mut self, seed: u32, number: InodeNumber, inode: &mut Inode, path: &Path) -> Result<()> {
        let mut level = path.depth;
        while level > 0 {
            let parent = self.node_bytes(seed, inode, path.steps[level - 1].block)?;
            if !parent.node().is_full() {
                drop(parent);
                return self.split(seed, inode, path, level, number);
            }
            level -= 1;
        }
        self.deepen(seed, number, inode)
    }

    /// Allocates a block for a node near `goal`.
    fn new_node(&mut self, inode: &mut Inode, goal: VolumeBlock) -> Result<VolumeBlock> {
        let block = self.allocate_block(goal)?;
        inode.add_blocks(&self.sb, 1)?;
        Ok(block)
    }

    /// Moves the upper half of a full node to a new one behind it; in files that grow at the end, only the last entry.
    fn split(
        &mut self,
        seed: u32,
        inode: &mut Inode,
        path: &Path,
        level: usize,
        number: InodeNumber,
    ) -> Result<()> {
        let full = path.steps[level];
        let goal = full.block.unwrap_or_else(|| self.inode_goal(number));
        let new = self.new_node(inode, goal)?;
        let bytes = self.node_bytes(seed, inode, full.block)?;
        let old = bytes.node();
        let entries = old.entries();
        let at_end = full.index.is_some_and(|index| index + 1 == entries);
        let from = if at_end { entries - 1 } else { entries / 2 };
        let (moved, key, depth): (Vec<u8>, FileBlock, usize) =
            (old.tail(from).into(), old.key(from), old.depth());
        drop(bytes);
        let max = node::block_max(self.sb.block_size);
        let fresh = self.create(new, Kind::Extents(seed))?;
        node::format(fresh, max, depth);
        node::fill(fresh, &moved);
        node::truncate(self.node_mut(seed, inode, full.block)?, from);
        let above = path.steps[level - 1];
        let parent = self.node_mut(seed, inode, above.block)?;
        node::insert_child(parent, above.index.map_or(0, |index| index + 1), key, new);
        Ok(())
    }

    /// Moves the root's entries into a block of their own.
    fn deepen(&mut self, seed: u32, number: InodeNumber, inode: &mut Inode) -> Result<()> {
        let root = Node(&inode.map);
        let (depth, key, entries): (usize, FileBlock, Vec<u8>) =
            (root.depth(), root.key(0), root.tail(0).into());
        if depth >= DEEPEST {
            return Err(Error::NoSpace);
        }
        let new = self.new_node(inode, self.inode_goal(number))?;
        let max = node::block_max(self.sb.block_size);
        let fresh = self.create(new, Kind::Extents(seed))?;
        node::format(fresh, max, depth);
        node::fill(fresh, &entries);
        node::truncate(&mut inode.map, 0);
        node::set_depth(&mut inode.map, depth + 1);
        node::insert_child(&mut inode.map, 0, key, new);
        Ok(())
    }

    /// Where the data of an inode should begin: its group's first block.
    pub(crate) fn inode_goal(&self, number: InodeNumber) -> VolumeBlock {
        self.sb.group_start(self.inode_group(number))
    }

    /// Unmaps and frees the blocks from `from` up to (not with) `to`, from the end on, as far as the credits and the
    /// bound on freed ranges go.
    /// `metadata` blocks are revoked. Answers whether all is done.
    ///
    /// Worst case: a step frees one extent.
    ///
    /// # Errors
    /// [`Error::NoSpace`] when a hole in the middle of an extent needs a tree block.
    pub(crate) fn remove_extents(
        &mut self,
        number: InodeNumber,
        inode: &mut Inode,
        from: FileBlock,
        to: FileBlock,
        metadata: bool,
    ) -> Result<bool> {
        if inode.has_block_map() {
            return self.remove_from_tables(number, inode, from, to, metadata);
        }
        let mut done = from >= to;
        while !done && self.credits_left() >= REMOVE_CREDITS && !self.has_freed_enough() {
            done = self.remove_last(number, inode, from, to, metadata)?;
        }
        self.flatten(number, inode)?;
        Ok(done)
    }

    /// Frees (a part of) the last extent that reaches into the range.
    fn remove_last(
        &mut self,
        number: InodeNumber,
        inode: &mut Inode,
        from: FileBlock,
        to: FileBlock,
        metadata: bool,
    ) -> Result<bool> {
        let seed = self.seed(number, inode);
        let path = self.find_path(number, inode, FileBlock(to.0 - 1))?;
        let leaf = path.steps[path.depth];
        let Some(index) = leaf.index else { return Ok(true) };
        let extent = self.node_bytes(seed, inode, leaf.block)?.node().extent(index);
        if extent.end() <= from || extent.count == 0 {
            return Ok(true);
        }
        let end = extent.end().min(to);
        let most = if metadata { 512 } else { self.sb.blocks_per_group };
        let begin = extent.block.max(from).max(FileBlock(end.0.saturating_sub(most)));
        self.cut(seed, number, inode, &path, extent, begin, end)?;
        let start = extent.start + u64::from(begin - extent.block);
        self.free_blocks(start, end - begin)?;
        if metadata {
            (0..u64::from(end - begin)).for_each(|n| self.revoke(start + n));
        }
        inode.add_blocks(&self.sb, -i64::from(end - begin))?;
        Ok(false)
    }

    /// Takes `begin..end` out of the extent at the end of `path`.
    #[allow(clippy::too_many_arguments)]
    fn cut(
        &mut self,
        seed: u32,
        number: InodeNumber,
        inode: &mut Inode,
        path: &Path,
        extent: Extent,
        begin: FileBlock,
        end: FileBlock,
    ) -> Result<()> {
        let leaf = path.steps[path.depth];
        let index = leaf.index.unwrap_or(0);
        let head = Extent { count: begin - extent.block, ..extent };
        let tail = Extent {
            block: end,
            start: extent.start + u64::from(end - extent.block),
            count: extent.end() - end,
            unwritten: extent.unwritten,
        };
        let bytes = self.node_mut(seed, inode, leaf.block)?;
        match (head.count > 0, tail.count > 0) {
            (false, false) => self.remove_entry(seed, inode, path),
            (true, false) => {
                node::set_extent(bytes, index, &head);
                Ok(())
            }
            (false, true) => {
                node::set_extent(bytes, index, &tail);
                if index == 0 { self.fix_keys(seed, inode, path) } else { Ok(()) }
            }
            (true, true) => {
                node::set_extent(bytes, index, &head);
                self.insert_extent(number, inode, tail)
            }
        }
    }

    /// Removes the leaf's entry at the end of `path`, and nodes that become empty.
    fn remove_entry(&mut self, seed: u32, inode: &mut Inode, path: &Path) -> Result<()> {
        for level in (0..=path.depth).rev() {
            let step = path.steps[level];
            let index = step.index.unwrap_or(0);
            let bytes = self.node_mut(seed, inode, step.block)?;
            node::remove(bytes, index);
            if Node(bytes).entries() > 0 {
                let above = Path { depth: level, ..*path };
                return if index == 0 { self.fix_keys(seed, inode, &above) } else { Ok(()) };
            }
            match step.block {
                None => node::set_depth(&mut inode.map, 0),
                Some(block) => {
                    self.free_metadata(block)?;
                    inode.add_blocks(&self.sb, -1)?;
                }
            }
        }
        Ok(())
    }

    /// Takes the only child of the root back into the inode while it fits.
    fn flatten(&mut self, number: InodeNumber, inode: &mut Inode) -> Result<()> {
        let seed = self.seed(number, inode);
        loop {
            let root = Node(&inode.map);
            if root.depth() == 0 || root.entries() != 1 {
                return Ok(());
            }
            let block = root.child(0);
            let depth = root.depth() - 1;
            let bytes = NodeBytes::Block(self.load(block, Kind::Extents(seed))?);
            node::check(bytes.node().0, Some(depth))?;
            self.check_entries(number, &bytes)?;
            let child = bytes.node();
            if child.entries() > Node(&inode.map).max() || self.credits_left() < 2 {
                return Ok(());
            }
            node::fill(&mut inode.map, child.tail(0));
            node::set_depth(&mut inode.map, depth);
            self.free_metadata(block)?;
            inode.add_blocks(&self.sb, -1)?;
        }
    }

    /// Makes the blocks from `from` on, which lie in one extent, written or unwritten; answers how many it did (at
    /// most `count`, and at most 32,767).
    ///
    /// # Errors
    /// [`Error::NoSpace`] when the tree needs a block.
    pub(crate) fn mark_extent(
        &mut self,
        number: InodeNumber,
        inode: &mut Inode,
        from: FileBlock,
        count: u32,
        unwritten: bool,
    ) -> Result<u32> {
        let seed = self.seed(number, inode);
        let path = self.find_path(number, inode, from)?;
        let leaf = path.steps[path.depth];
        let index = leaf.index.ok_or(Error::Corrupt("extent"))?;
        let extent = self.node_bytes(seed, inode, leaf.block)?.node().extent(index);
        if from >= extent.end() {
            return Err(Error::Corrupt("extent"));
        }
        let count = count.min(extent.end() - from).min(LARGEST_UNWRITTEN);
        let marked =
            Extent { block: from, start: extent.start + u64::from(from - extent.block), count, unwritten };
        let whole = count == extent.count;
        if whole && !self.continues_before(seed, inode, &path, &marked)? {
            node::set_extent(self.node_mut(seed, inode, leaf.block)?, index, &marked);
        } else {
            self.cut(seed, number, inode, &path, extent, from, from + count)?;
            self.insert_extent(number, inode, marked)?;
        }
        Ok(count)
    }

    /// Whether the entry before the path's could take `extent` in.
    fn continues_before(&self, seed: u32, inode: &Inode, path: &Path, extent: &Extent) -> Result<bool> {
        let leaf = path.steps[path.depth];
        let Some(before) = leaf.index.and_then(|index| index.checked_sub(1)) else { return Ok(false) };
        let bytes = self.node_bytes(seed, inode, leaf.block)?;
        Ok(bytes.node().extent(before).join(extent).is_some())
    }
}
