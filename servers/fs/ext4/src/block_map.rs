//! Block maps: how ext2 and ext3 map a file's blocks, and ext4 those files that were made before it had extents.
//!
//! The inode holds fifteen block numbers: those of the first twelve blocks, and those of an indirect, a double indirect
//! and a triple indirect block. An indirect block is full of block numbers of 32 bits; 0 is a hole.
//! Source: Documentation/filesystems/ext4/ifork.rst of Linux.

use crate::block_number::{FileBlock, VolumeBlock};
use crate::buffer::Buffer;
use crate::bytes::{le32, low32, put_le32};
use crate::device::BlockCache;
use crate::error::{Error, Result};
use crate::extent::{END_OF_FILES, REMOVE_CREDITS, Run};
use crate::inode::{Inode, InodeNumber};
use crate::metadata::Kind;
use crate::transaction::Transaction;
use crate::volume::Ext4;

/// Blocks whose numbers lie in the inode.
const DIRECT: u32 = 12;
/// Levels of indirect blocks.
const DEEPEST: usize = 3;
const NUMBER: usize = 4;
/// The most blocks of metadata that one step frees: each is revoked.
const MOST_METADATA: u32 = 512;

/// The way to a block's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Path {
    /// The place in the inode's map, then in each indirect block.
    slots: [usize; DEEPEST + 1],
    /// How many indirect blocks lie on the way.
    depth: usize,
}

/// A table of block numbers: in the inode, or an indirect block.
enum Table<'a> {
    Inode(&'a [u8]),
    Block(Buffer),
}

impl Table<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Table::Inode(bytes) => bytes,
            Table::Block(buffer) => buffer.bytes(),
        }
    }

    fn number(&self, slot: usize) -> u32 {
        le32(self.bytes(), slot * NUMBER)
    }
}

impl Path {
    /// The way to block `at` where indirect blocks hold `per_block` numbers, or `None` beyond the largest file.
    fn to(at: FileBlock, per_block: u32) -> Option<Path> {
        let mut path = Path { slots: [0; DEEPEST + 1], depth: 0 };
        if at.0 < DIRECT {
            path.slots[0] = at.0 as usize;
            return Some(path);
        }
        let per_block = u64::from(per_block);
        let (mut left, mut span) = (u64::from(at.0 - DIRECT), per_block);
        for depth in 1..=DEEPEST {
            if left < span {
                path.depth = depth;
                path.slots[0] = DIRECT as usize + depth - 1;
                for level in (1..=depth).rev() {
                    path.slots[level] = (left % per_block) as usize;
                    left /= per_block;
                }
                return Some(path);
            }
            left -= span;
            span *= per_block;
        }
        None
    }

    /// The first slot behind the numbers that `level`'s table has for blocks of the same depth.
    fn end(&self, level: usize, per_block: u32) -> usize {
        match level {
            0 if self.depth == 0 => DIRECT as usize,
            0 => self.slots[0] + 1,
            _ => per_block as usize,
        }
    }

    /// How many blocks of the file one slot at `level` stands for.
    fn span(&self, level: usize, per_block: u32) -> u64 {
        u64::from(per_block).pow((self.depth - level) as u32)
    }

    /// How many blocks from the path's on lie in the range of its slot at `level`.
    fn rest(&self, level: usize, per_block: u32) -> u64 {
        let per_block = u64::from(per_block);
        let inside =
            self.slots[level + 1..=self.depth].iter().fold(0, |sum, slot| sum * per_block + *slot as u64);
        per_block.pow((self.depth - level) as u32) - inside
    }
}

impl<C: BlockCache> Ext4<C> {
    fn numbers_per_block(&self) -> u32 {
        (self.sb.block_size / NUMBER) as u32
    }

    /// How many blocks a file with a block map can have.
    pub(crate) fn largest_block_map(&self) -> u64 {
        let numbers = u64::from(self.numbers_per_block());
        u64::from(DIRECT) + numbers + numbers.pow(2) + numbers.pow(3)
    }

    fn path(&self, at: FileBlock) -> Result<Path> {
        Path::to(at, self.numbers_per_block()).ok_or(Error::FileTooBig)
    }

    /// How many blocks from `at` on have their numbers in the same table.
    pub(crate) fn blocks_in_table(&self, at: FileBlock) -> Result<u32> {
        let path = self.path(at)?;
        Ok((path.end(path.depth, self.numbers_per_block()) - path.slots[path.depth]) as u32)
    }

    /// The blocks of the volume from `number` on, which `owner` may have.
    fn checked(&self, owner: InodeNumber, number: u32, count: u32) -> Result<VolumeBlock> {
        let start = VolumeBlock(u64::from(number));
        self.check_blocks(owner, start, u64::from(count))?;
        Ok(start)
    }

    /// What the run of blocks from `at` on is: at most up to the end of its table.
    ///
    /// Worst case: reads three indirect blocks.
    pub(crate) fn map_by_table(&self, owner: InodeNumber, inode: &Inode, at: FileBlock) -> Result<Run> {
        let per_block = self.numbers_per_block();
        let hole = |count: u64| {
            let count = u32::try_from(count).unwrap_or(u32::MAX).min(END_OF_FILES.0 - at.0);
            Run { start: None, count: count.max(1), unwritten: false }
        };
        let Some(path) = Path::to(at, per_block) else { return Ok(hole(u64::MAX)) };
        let mut table = Table::Inode(&inode.map);
        for level in 0..=path.depth {
            let (slot, end) = (path.slots[level], path.end(level, per_block));
            let number = table.number(slot);
            if number == 0 {
                let empty = (slot..end).take_while(|slot| table.number(*slot) == 0).count() as u64;
                return Ok(hole(path.rest(level, per_block) + (empty - 1) * path.span(level, per_block)));
            }
            if level == path.depth {
                let follows = |n: &usize| u64::from(table.number(slot + n)) == u64::from(number) + *n as u64;
                let count = (0..end - slot).take_while(follows).count() as u32;
                let start = self.checked(owner, number, count)?;
                return Ok(Run { start: Some(start), count, unwritten: false });
            }
            table = Table::Block(self.load(self.checked(owner, number, 1)?, Kind::Plain)?);
        }
        Err(Error::Corrupt("block map"))
    }
}

impl<C: BlockCache> Transaction<'_, C> {
    /// The bytes of a table, to be changed; `None` is the one in the inode.
    fn table_mut<'b>(&'b mut self, inode: &'b mut Inode, table: Option<VolumeBlock>) -> Result<&'b mut [u8]> {
        match table {
            None => Ok(&mut inode.map),
            Some(block) => self.edit(block, Kind::Plain),
        }
    }

    /// The tables on the way; missing ones are made if `make` says so.
    fn tables(
        &mut self,
        owner: InodeNumber,
        inode: &mut Inode,
        path: &Path,
        make: bool,
    ) -> Result<[Option<VolumeBlock>; DEEPEST + 1]> {
        let mut tables = [None; DEEPEST + 1];
        for level in 0..path.depth {
            let at = path.slots[level] * NUMBER;
            let known = match tables[level] {
                None => le32(&inode.map, at),
                Some(block) => le32(self.load(block, Kind::Plain)?.bytes(), at),
            };
            let next = match (known, make) {
                (0, false) => return Err(Error::Corrupt("block map")),
                (0, true) => {
                    let new = self.new_table(owner, inode)?;
                    put_le32(self.table_mut(inode, tables[level])?, at, low32(new.0));
                    new
                }
                _ => self.checked(owner, known, 1)?,
            };
            tables[level + 1] = Some(next);
        }
        Ok(tables)
    }

    fn new_table(&mut self, owner: InodeNumber, inode: &mut Inode) -> Result<VolumeBlock> {
        let new = self.allocate_block(self.inode_goal(owner))?;
        fits_number(new, 1)?;
        inode.add_blocks(&self.sb, 1)?;
        self.create(new, Kind::Plain)?;
        Ok(new)
    }

    /// Maps `count` blocks from `at` on, which are holes of one table.
    ///
    /// Worst case: makes three indirect blocks.
    ///
    /// # Errors
    /// [`Error::NoSpace`] when an indirect block is needed, or a block lies where no number of 32 bits reaches.
    pub(crate) fn insert_in_table(
        &mut self,
        owner: InodeNumber,
        inode: &mut Inode,
        at: FileBlock,
        start: VolumeBlock,
        count: u32,
    ) -> Result<()> {
        fits_number(start, count)?;
        if count > self.blocks_in_table(at)? {
            return Err(Error::Invalid);
        }
        let path = self.path(at)?;
        let tables = self.tables(owner, inode, &path, true)?;
        let bytes = self.table_mut(inode, tables[path.depth])?;
        for (slot, block) in (path.slots[path.depth]..).zip(low32(start.0)..).take(count as usize) {
            if le32(bytes, slot * NUMBER) != 0 {
                return Err(Error::Corrupt("block map"));
            }
            put_le32(bytes, slot * NUMBER, block);
        }
        Ok(())
    }

    /// Unmaps and frees the blocks from `from` up to (not with) `to`, as far as the credits and the bound on freed ranges
    /// go. `metadata` blocks are revoked. Returns true if all is done.
    ///
    /// Worst case: a step frees the blocks of one table that lie one behind the other.
    pub(crate) fn remove_from_tables(
        &mut self,
        owner: InodeNumber,
        inode: &mut Inode,
        from: FileBlock,
        to: FileBlock,
        metadata: bool,
    ) -> Result<bool> {
        let mut at = from;
        while at < to {
            let run = self.map_by_table(owner, inode, at)?;
            let mut count = run.count.min(to - at);
            if let Some(start) = run.start {
                if self.credits_left() < REMOVE_CREDITS || self.has_freed_enough() {
                    return Ok(false);
                }
                count = if metadata { count.min(MOST_METADATA) } else { count };
                self.unmap(owner, inode, at, count)?;
                self.free_blocks(start, count)?;
                if metadata {
                    (0..u64::from(count)).for_each(|n| self.revoke(start + n));
                }
                inode.add_blocks(&self.sb, -i64::from(count))?;
            }
            at = FileBlock(at.0.saturating_add(count));
        }
        Ok(true)
    }

    /// Clears the numbers of `count` blocks of one table, and frees tables that become empty.
    fn unmap(&mut self, owner: InodeNumber, inode: &mut Inode, at: FileBlock, count: u32) -> Result<()> {
        let path = self.path(at)?;
        let tables = self.tables(owner, inode, &path, false)?;
        let mut cleared = path.slots[path.depth]..path.slots[path.depth] + count as usize;
        for level in (0..=path.depth).rev() {
            let bytes = self.table_mut(inode, tables[level])?;
            bytes[cleared.start * NUMBER..cleared.end * NUMBER].fill(0);
            let Some(table) = tables[level].filter(|_| bytes.iter().all(|byte| *byte == 0)) else {
                return Ok(());
            };
            self.free_metadata(table)?;
            inode.add_blocks(&self.sb, -1)?;
            cleared = path.slots[level - 1]..path.slots[level - 1] + 1;
        }
        Ok(())
    }
}

/// Refuses blocks whose numbers need more than 32 bits.
fn fits_number(start: VolumeBlock, count: u32) -> Result<()> {
    if start.0 + u64::from(count) <= u64::from(u32::MAX) { Ok(()) } else { Err(Error::NoSpace) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_through_as_many_tables_as_linux_uses() {
        let path = |at| Path::to(FileBlock(at), 256).map(|path| (path.depth, path.slots));
        assert_eq!(path(11), Some((0, [11, 0, 0, 0])));
        assert_eq!(path(12), Some((1, [12, 0, 0, 0])));
        assert_eq!(path(12 + 255), Some((1, [12, 255, 0, 0])));
        assert_eq!(path(12 + 256), Some((2, [13, 0, 0, 0])));
        assert_eq!(path(12 + 256 + 257), Some((2, [13, 1, 1, 0])));
        assert_eq!(path(12 + 256 + 65536), Some((3, [14, 0, 0, 0])));
        assert_eq!(path(12 + 256 + 65536 + 16_777_215), Some((3, [14, 255, 255, 255])));
        assert_eq!(path(12 + 256 + 65536 + 16_777_216), None);
    }

    #[test]
    fn a_missing_table_is_a_hole_up_to_its_end() {
        let at = |at| Path::to(FileBlock(at), 256).unwrap();
        assert_eq!(at(12 + 256 + 5).rest(0, 256), 65536 - 5);
        assert_eq!(at(12 + 256 + 5).rest(1, 256), 251);
        assert_eq!(at(12 + 256 + 5).rest(2, 256), 1);
        assert_eq!(at(3).rest(0, 256), 1);
        assert_eq!(at(12 + 256).span(1, 256), 256);
    }
}
