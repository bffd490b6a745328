//! Symbolic links: short targets in the inode, longer ones in a block.

use crate::block_number::FileBlock;
use crate::device::BlockCache;
use crate::error::{Error, Result};
use crate::extent::{Extent, INSERT_CREDITS};
use crate::inode::{FileType, Inode, InodeNumber};
use crate::metadata::Kind;
use crate::transaction::Transaction;
use crate::volume::Ext4;

/// Targets shorter than this lie in the inode.
const SHORT: usize = 60;
/// Metadata blocks that storing a target can change.
pub(crate) const LINK_CREDITS: usize = INSERT_CREDITS + 4;

impl<C: BlockCache> Ext4<C> {
    /// Whether the inode is a symbolic link with its target inside.
    pub(crate) fn is_inline_link(&self, inode: &Inode) -> bool {
        let attributes = if inode.xattr_block.0 != 0 { self.sb.block_size as u64 / 512 } else { 0 };
        inode.mode >> 12 == 0xa && inode.size < SHORT as u64 && inode.sectors(&self.sb) <= attributes
    }

    /// Copies a symbolic link's target into `out`; answers its length in bytes.
    ///
    /// Worst case: reads one block and the tree above it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no symbolic link; [`Error::BufferTooSmall`]; [`Error::NotFound`].
    pub fn read_link(&self, number: InodeNumber, out: &mut [u8]) -> Result<usize> {
        let inode = self.inode(number)?;
        if inode.file_type()? != FileType::Symlink {
            return Err(Error::Invalid);
        }
        let length = usize::try_from(inode.size).unwrap_or(usize::MAX);
        if self.is_inline_link(&inode) {
            out.get_mut(..length).ok_or(Error::BufferTooSmall)?.copy_from_slice(&inode.map[..length]);
            return Ok(length);
        }
        let run = self.map_block(number, &inode, FileBlock(0))?;
        let place = run.start.ok_or(Error::Corrupt("symbolic link without a block"))?;
        let buffer = self.load(place, Kind::Plain)?;
        let target = buffer.bytes().get(..length).ok_or(Error::Corrupt("symbolic link length"))?;
        out.get_mut(..length).ok_or(Error::BufferTooSmall)?.copy_from_slice(target);
        Ok(length)
    }
}

impl<C: BlockCache> Transaction<'_, C> {
    /// Puts a target into a new symbolic link; the caller stores the inode.
    pub(crate) fn store_target(
        &mut self,
        number: InodeNumber,
        inode: &mut Inode,
        target: &[u8],
    ) -> Result<()> {
        if target.is_empty() || target.contains(&0) {
            return Err(Error::Invalid);
        }
        if target.len() >= self.sb.block_size {
            return Err(Error::NameTooLong);
        }
        inode.size = target.len() as u64;
        if target.len() < SHORT {
            inode.map[..target.len()].copy_from_slice(target);
            return Ok(());
        }
        self.start_map(inode);
        let start = self.allocate_block(self.inode_goal(number))?;
        inode.add_blocks(&self.sb, 1)?;
        self.insert_extent(number, inode, Extent { block: FileBlock(0), start, count: 1, unwritten: false })?;
        self.create(start, Kind::Plain)?[..target.len()].copy_from_slice(target);
        Ok(())
    }
}
