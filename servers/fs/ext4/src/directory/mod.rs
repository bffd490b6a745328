//! Directories: finding, adding, changing and removing names.
//!
//! A directory is a file of blocks of entries. When it outgrows its first block it gets an index by hash, which lies
//! in blocks that look empty to those who do not know it.

pub(crate) mod block;
pub(crate) mod hash;
mod index;
mod read;

use crate::block_number::{FileBlock, VolumeBlock};
use crate::buffer::Buffer;
use crate::device::BlockCache;
use crate::error::{Error, Result};
use crate::extent::{Extent, INSERT_CREDITS};
use crate::features::incompat;
use crate::inode::{FileType, Inode, InodeNumber, flags};
use crate::metadata::{Kind, LEAF_TAIL_BYTES, put_leaf_tail};
use crate::transaction::Transaction;
use crate::volume::Ext4;

pub use read::DirEntry;

/// Metadata blocks that adding one name can change: two new blocks with their place in the extent tree, a leaf and
/// three index blocks.
pub(crate) const ADD_CREDITS: usize = 2 * (INSERT_CREDITS + 2) + 8;

/// A name that was found: where, and what it names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    /// The block of the volume.
    place: VolumeBlock,
    kind: Kind,
    at: usize,
    pub(crate) inode: InodeNumber,
}

/// What a block of a directory holds. The way to the block decides, never its content: an emptied leaf looks like a
/// node of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Leaf,
    /// The first block of an indexed directory.
    Root,
    /// A block of the index below the root.
    Node,
}

/// A block of a directory.
pub(crate) struct DirBlock {
    place: VolumeBlock,
    buffer: Buffer,
    kind: Kind,
}

impl<C: BlockCache> Ext4<C> {
    /// How many bytes of a directory block entries can take.
    pub(crate) fn entry_space(&self) -> usize {
        self.sb.block_size - if self.sb.has_checksums() { LEAF_TAIL_BYTES } else { 0 }
    }

    fn dir_blocks(&self, inode: &Inode) -> Result<u32> {
        u32::try_from(inode.size / self.sb.block_size as u64).map_err(|_| Error::Corrupt("directory size"))
    }

    /// Reads and verifies block `at` of a directory.
    fn dir_block(&self, number: InodeNumber, inode: &Inode, at: u32, role: Role) -> Result<DirBlock> {
        let run = self.map_block(number, inode, FileBlock(at))?;
        let place = run.start.filter(|_| !run.unwritten).ok_or(Error::Corrupt("directory with a hole"))?;
        let seed = self.seed(number, inode);
        let buffer = self.load(place, Kind::Plain)?;
        let kind = match role {
            Role::Leaf => Kind::DirLeaf(seed),
            Role::Root => Kind::DirRoot(seed),
            Role::Node => Kind::DirNode(seed),
        };
        if !self.is_trusted(place, &buffer) {
            kind.verify(&self.sb, buffer.bytes())?;
            buffer.set_verified(0);
        }
        Ok(DirBlock { place, buffer, kind })
    }

    /// The block that holds `.` and `..`.
    fn first_block(&self, number: InodeNumber, inode: &Inode) -> Result<DirBlock> {
        self.dir_block(number, inode, 0, if self.is_indexed(inode) { Role::Root } else { Role::Leaf })
    }

    /// The type byte of an entry: 0 where the volume stores no types.
    fn entry_code(&self, kind: FileType) -> u8 {
        if self.sb.incompat & incompat::FILETYPE != 0 { kind.entry_code() } else { 0 }
    }

    /// The type that an entry tells, if the volume stores types.
    fn entry_kind(&self, code: u8) -> Option<FileType> {
        FileType::from_entry_code(code).filter(|_| self.sb.incompat & incompat::FILETYPE != 0)
    }

    fn is_indexed(&self, inode: &Inode) -> bool {
        self.sb.has_index() && inode.has(flags::INDEX)
    }

    fn find_in(&self, block: &DirBlock, name: &[u8]) -> Result<Option<Found>> {
        let bytes = &block.buffer.bytes()[..self.entry_space()];
        let found = block::find(bytes, name)?;
        Ok(found.map(|entry| Found {
            place: block.place,
            kind: block.kind,
            at: entry.at,
            inode: entry.inode,
        }))
    }

    /// Finds a name in a directory. In an indexed one this reads one leaf (more only where hashes collide), otherwise
    /// all blocks up to the name's.
    pub(crate) fn find_name(&self, dir: InodeNumber, inode: &Inode, name: &[u8]) -> Result<Option<Found>> {
        check_name(name)?;
        if self.is_indexed(inode) {
            return match name {
                b"." | b".." => self.find_dots(dir, inode, name),
                _ => self.find_indexed(dir, inode, name),
            };
        }
        for at in 0..self.dir_blocks(inode)? {
            if let Some(found) = self.find_in(&self.dir_block(dir, inode, at, Role::Leaf)?, name)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn find_dots(&self, dir: InodeNumber, inode: &Inode, name: &[u8]) -> Result<Option<Found>> {
        let first = self.first_block(dir, inode)?;
        let parent = block::parent(first.buffer.bytes())?;
        let (at, inode) = if name == b"." { (0, dir) } else { (block::PARENT_AT, parent) };
        Ok(Some(Found { place: first.place, kind: first.kind, at, inode }))
    }

    /// The directory that holds this one.
    pub(crate) fn parent_of(&self, dir: InodeNumber, inode: &Inode) -> Result<InodeNumber> {
        block::parent(self.first_block(dir, inode)?.buffer.bytes())
    }

    /// Returns true if a directory has no names but its own two.
    pub(crate) fn is_empty_dir(&self, dir: InodeNumber, inode: &Inode) -> Result<bool> {
        if self.is_indexed(inode) {
            return self.is_empty_index(dir, inode);
        }
        for at in 0..self.dir_blocks(inode)? {
            if !self.is_empty_leaf(&self.dir_block(dir, inode, at, Role::Leaf)?)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_empty_leaf(&self, leaf: &DirBlock) -> Result<bool> {
        for entry in block::entries(&leaf.buffer.bytes()[..self.entry_space()]) {
            if !entry?.is_dots() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Refuses what cannot be a name.
pub(crate) fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > block::LONGEST_NAME {
        return Err(Error::NameTooLong);
    }
    if block::is_name(name) { Ok(()) } else { Err(Error::Invalid) }
}

impl<C: BlockCache> Transaction<'_, C> {
    /// Adds a name that the directory does not have yet; the caller stores the directory's inode.
    ///
    /// Worst case: splits a leaf and an index block; without an index, reads the whole directory.
    ///
    /// # Errors
    /// [`Error::NoSpace`], also when the index is full.
    pub(crate) fn add_name(
        &mut self,
        dir: InodeNumber,
        inode: &mut Inode,
        name: &[u8],
        target: InodeNumber,
        kind: FileType,
    ) -> Result<()> {
        check_name(name)?;
        let code = self.entry_code(kind);
        if !self.is_indexed(inode) {
            // Without the volume's feature the first block is about to become a leaf.
            inode.flags &= !flags::INDEX;
            if self.add_linear(dir, inode, name, target, code)? {
                return Ok(());
            }
            if !self.sb.has_index() || self.dir_blocks(inode)? != 1 {
                let place = self.add_block(dir, inode)?;
                let seed = self.seed(dir, inode);
                let space = self.entry_space();
                let bytes = self.new_leaf(place, seed)?;
                return if block::insert(&mut bytes[..space], name, target, code)? {
                    Ok(())
                } else {
                    Err(Error::NoSpace)
                };
            }
            self.make_index(dir, inode)?;
        }
        self.add_indexed(dir, inode, name, target, code)
    }

    fn add_linear(
        &mut self,
        dir: InodeNumber,
        inode: &Inode,
        name: &[u8],
        target: InodeNumber,
        code: u8,
    ) -> Result<bool> {
        let space = self.entry_space();
        for at in 0..self.dir_blocks(inode)? {
            let block = self.dir_block(dir, inode, at, Role::Leaf)?;
            if self.insert_into(block, name, target, code, space)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Adds an entry to a leaf if there is room.
    fn insert_into(
        &mut self,
        block: DirBlock,
        name: &[u8],
        target: InodeNumber,
        code: u8,
        space: usize,
    ) -> Result<bool> {
        if !block::has_room(&block.buffer.bytes()[..space], name)? {
            return Ok(false);
        }
        drop(block.buffer);
        block::insert(&mut self.edit(block.place, block.kind)?[..space], name, target, code)
    }

    /// Appends a block to a directory; answers its place.
    fn add_block(&mut self, dir: InodeNumber, inode: &mut Inode) -> Result<VolumeBlock> {
        let at = self.dir_blocks(inode)?;
        let goal = match at.checked_sub(1) {
            Some(last) => {
                self.map_block(dir, inode, FileBlock(last))?.start.map_or(VolumeBlock(0), |start| start + 1)
            }
            None => self.inode_goal(dir),
        };
        if inode.size + self.sb.block_size as u64 > u64::from(u32::MAX) {
            return Err(Error::NoSpace);
        }
        let place = self.allocate_block(goal)?;
        inode.add_blocks(&self.sb, 1)?;
        self.insert_extent(
            dir,
            inode,
            Extent { block: FileBlock(at), start: place, count: 1, unwritten: false },
        )?;
        inode.size += self.sb.block_size as u64;
        Ok(place)
    }

    /// An empty leaf in a new block.
    fn new_leaf(&mut self, place: VolumeBlock, seed: u32) -> Result<&mut [u8]> {
        let space = self.entry_space();
        let bytes = self.create(place, Kind::DirLeaf(seed))?;
        block::clear(&mut bytes[..space]);
        if space < bytes.len() {
            put_leaf_tail(bytes);
        }
        Ok(bytes)
    }

    /// Makes the first block of a new directory.
    pub(crate) fn start_dir(
        &mut self,
        dir: InodeNumber,
        inode: &mut Inode,
        parent: InodeNumber,
    ) -> Result<()> {
        let place = self.add_block(dir, inode)?;
        let seed = self.seed(dir, inode);
        let space = self.entry_space();
        let code = self.entry_code(FileType::Directory);
        block::start(&mut self.new_leaf(place, seed)?[..space], dir, parent, code);
        Ok(())
    }

    /// Makes a name that was found point to another inode.
    pub(crate) fn set_name(&mut self, found: &Found, target: InodeNumber, kind: FileType) -> Result<()> {
        let code = self.entry_code(kind);
        block::set(self.edit(found.place, found.kind)?, found.at, target, code);
        Ok(())
    }

    /// Removes a name that was found.
    pub(crate) fn remove_name(&mut self, found: &Found) -> Result<()> {
        let space = self.entry_space();
        block::remove(&mut self.edit(found.place, found.kind)?[..space], found.at)
    }

    /// Makes `..` of a directory point elsewhere.
    pub(crate) fn set_parent(&mut self, dir: InodeNumber, inode: &Inode, parent: InodeNumber) -> Result<()> {
        let first = self.first_block(dir, inode)?;
        block::parent(first.buffer.bytes())?;
        let (place, kind) = (first.place, first.kind);
        drop(first);
        let code = self.entry_code(FileType::Directory);
        block::set(self.edit(place, kind)?, block::PARENT_AT, parent, code);
        Ok(())
    }
}
