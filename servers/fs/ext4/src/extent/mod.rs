//! Extent trees: which blocks of the volume hold which blocks of a file.
//!
//! A node is a header and 12-byte entries in ascending order: extents in leaves, indexes above them. The root lies in
//! the inode. Source: Documentation/filesystems/ext4/ifork.rst of Linux.

mod edit;
mod node;

use crate::block_number::{FileBlock, VolumeBlock};
use crate::buffer::Buffer;
use crate::device::BlockCache;
use crate::error::{Error, Result};
use crate::features::incompat;
use crate::inode::{Inode, InodeNumber, flags};
use crate::metadata::Kind;
use crate::volume::Ext4;

pub(crate) use edit::{INSERT_CREDITS, REMOVE_CREDITS};
use node::{Bounds, Node, check, check_bounds, check_order};
pub(crate) use node::{Extent, LARGEST_UNWRITTEN, LARGEST_WRITTEN, empty_root, put_root};

/// Deeper trees than this are not possible with 32-bit block numbers.
pub(crate) const DEEPEST: usize = 5;
/// The first block number that no file can have.
pub(crate) const END_OF_FILES: FileBlock = FileBlock(u32::MAX);

/// The mark of a tree block whose entries were found right, beside that of its checksum.
const ENTRIES_CHECKED: u32 = 1;

/// What a run of a file's blocks is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Its first block on the volume, or `None` in a hole.
    pub(crate) start: Option<VolumeBlock>,
    /// How many blocks follow one another from the one asked for on; at least 1.
    pub(crate) count: u32,
    /// Allocated, but reads as zeros.
    pub(crate) unwritten: bool,
}

/// A node on the way from the root to a leaf.
#[derive(Debug, Clone, Copy, Default)]
struct Step {
    /// Where the node lies; `None` is the root in the inode.
    block: Option<VolumeBlock>,
    /// The last entry that begins at or before the block looked for, if there is one.
    index: Option<usize>,
}

/// The way from the root (first) to a leaf (last).
#[derive(Debug, Clone, Copy)]
struct Path {
    steps: [Step; DEEPEST + 1],
    depth: usize,
}

/// A node's bytes: the root in the inode, or a block.
enum NodeBytes<'a> {
    Root(&'a [u8]),
    Block(Buffer),
}

impl NodeBytes<'_> {
    fn node(&self) -> Node<'_> {
        match self {
            NodeBytes::Root(bytes) => Node(bytes),
            NodeBytes::Block(buffer) => Node(buffer.bytes()),
        }
    }
}

impl<C: BlockCache> Ext4<C> {
    /// What the run of blocks from `at` on is, up to the end of the extent or hole.
    ///
    /// Worst case: reads five tree blocks.
    pub(crate) fn map_block(&self, number: InodeNumber, inode: &Inode, at: FileBlock) -> Result<Run> {
        if inode.has_block_map() {
            return self.map_by_table(number, inode, at);
        }
        let path = self.find_path(number, inode, at)?;
        let leaf = path.steps[path.depth];
        let bytes = self.node_bytes(self.seed(number, inode), inode, leaf.block)?;
        let node = bytes.node();
        if let Some(extent) = leaf.index.map(|index| node.extent(index)) {
            let inside = at - extent.block;
            if inside < extent.count {
                return Ok(Run {
                    start: Some(extent.start + u64::from(inside)),
                    count: extent.count - inside,
                    unwritten: extent.unwritten,
                });
            }
        }
        let end = self.hole_end(number, inode, &path)?;
        Ok(Run { start: None, count: end.0.saturating_sub(at.0).max(1), unwritten: false })
    }

    /// Gives a new inode an empty map: of extents where the volume has them.
    pub(crate) fn start_map(&self, inode: &mut Inode) {
        if self.sb.incompat & incompat::EXTENTS != 0 {
            inode.flags |= flags::EXTENTS;
            inode.map = empty_root();
        }
    }

    /// Where the first extent behind the path's position begins.
    fn hole_end(&self, number: InodeNumber, inode: &Inode, path: &Path) -> Result<FileBlock> {
        let seed = self.seed(number, inode);
        for level in (0..=path.depth).rev() {
            let step = path.steps[level];
            let bytes = self.node_bytes(seed, inode, step.block)?;
            let next = step.index.map_or(0, |index| index + 1);
            if next < bytes.node().entries() {
                return Ok(bytes.node().key(next));
            }
        }
        Ok(END_OF_FILES)
    }

    fn find_path(&self, number: InodeNumber, inode: &Inode, at: FileBlock) -> Result<Path> {
        if !inode.has(flags::EXTENTS) || inode.has(flags::INLINE_DATA) {
            return Err(Error::Unsupported("a file whose data lies in its inode"));
        }
        let seed = self.seed(number, inode);
        check(&inode.map, None)?;
        let depth = Node(&inode.map).depth();
        let mut path = Path { steps: [Step::default(); DEEPEST + 1], depth };
        let mut block = None;
        let mut bounds = Bounds { first: None, end: END_OF_FILES };
        for level in 0..=depth {
            let bytes = self.node_bytes(seed, inode, block)?;
            check(bytes.node().0, Some(depth - level))?;
            self.check_entries(number, &bytes)?;
            check_bounds(bytes.node().0, bounds)?;
            let index = bytes.node().find(at);
            path.steps[level] = Step { block, index };
            if level < depth {
                // Nothing before the first index: go on in the first leaf, where nothing will be found.
                let entry = index.unwrap_or(0);
                if entry >= bytes.node().entries() {
                    return Err(Error::Corrupt("empty extent index"));
                }
                path.steps[level].index = Some(entry);
                block = Some(bytes.node().child(entry));
                bounds.first = Some(bytes.node().key(entry));
                if entry + 1 < bytes.node().entries() {
                    bounds.end = bytes.node().key(entry + 1);
                }
            }
        }
        Ok(path)
    }

    /// Checks a node's entries: their order, and the blocks they name. A block is checked once while it is in memory.
    fn check_entries(&self, number: InodeNumber, bytes: &NodeBytes<'_>) -> Result<()> {
        if let NodeBytes::Block(buffer) = bytes
            && buffer.is_verified(ENTRIES_CHECKED)
        {
            return Ok(());
        }
        let node = bytes.node();
        check_order(node.0)?;
        for (start, count) in (0..node.entries()).map(|index| node.blocks(index)) {
            self.check_blocks(number, start, count)?;
        }
        match bytes {
            // What the journal's inode may have, others may not.
            NodeBytes::Block(buffer) if number.0 != self.sb.journal_inode => {
                buffer.set_verified(ENTRIES_CHECKED);
            }
            _ => {}
        }
        Ok(())
    }

    fn node_bytes<'a>(
        &self,
        seed: u32,
        inode: &'a Inode,
        block: Option<VolumeBlock>,
    ) -> Result<NodeBytes<'a>> {
        match block {
            None => Ok(NodeBytes::Root(&inode.map)),
            Some(block) => Ok(NodeBytes::Block(self.load(block, Kind::Extents(seed))?)),
        }
    }
}
