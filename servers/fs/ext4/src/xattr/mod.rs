//! Extended attributes: in the spare bytes of an inode, and in one block more.

mod area;
mod lists;

use alloc::vec::Vec;

use crate::block_number::VolumeBlock;
use crate::bytes::{le32, put_le32};
use crate::device::BlockCache;
use crate::error::{Error, Result};
use crate::features::compat;
use crate::inode::{Inode, InodeNumber, stored_extra_bytes};
use crate::metadata::Kind;
use crate::transaction::Transaction;
use crate::volume::Ext4;

pub(crate) use area::Attribute;
use area::{Area, MAGIC};

/// The name space of a name by its number in the format; a name without a dot at its end is a whole name.
const NAME_SPACES: [(u8, &[u8]); 6] = [
    (lists::ACCESS, b"system.posix_acl_access"),
    (lists::DEFAULT, b"system.posix_acl_default"),
    (1, b"user."),
    (4, b"trusted."),
    (6, b"security."),
    (7, b"system."),
];
/// Metadata blocks that changing an attribute can change.
pub(crate) const XATTR_CREDITS: usize = 10;

/// Whether [`Ext4::set_xattr`] makes a new attribute or changes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetXattr {
    /// Either.
    Any,
    /// The attribute must not exist.
    Create,
    /// The attribute must exist.
    Replace,
}

/// Splits a full name into the number of its name space and the rest.
fn split_name(name: &[u8]) -> Result<(u8, &[u8])> {
    for (index, prefix) in NAME_SPACES {
        let whole = prefix.last() != Some(&b'.');
        match name.strip_prefix(prefix) {
            Some([]) if whole => return Ok((index, &[])),
            Some(rest) if !whole && !rest.is_empty() && rest.len() <= 255 => return Ok((index, rest)),
            _ => {}
        }
    }
    Err(Error::Invalid)
}

fn prefix(index: u8) -> &'static [u8] {
    NAME_SPACES.iter().find(|(known, _)| *known == index).map_or(b"unknown.", |(_, prefix)| prefix)
}

impl<C: BlockCache> Ext4<C> {
    fn attributes_in_inode(&self, number: InodeNumber) -> Result<Vec<Attribute>> {
        let (buffer, place) = self.raw_inode(number)?;
        let raw = &buffer.bytes()[place.offset..place.offset + self.sb.inode_size];
        let extra = usize::from(stored_extra_bytes(raw));
        let spare = raw.get(128 + extra..).unwrap_or(&[]);
        if extra == 0 || spare.len() < 8 || le32(spare, 0) != MAGIC {
            return Ok(Vec::new());
        }
        area::parse(&spare[4..], Area::Inode)
    }

    fn attributes_in_block(&self, block: VolumeBlock) -> Result<Vec<Attribute>> {
        if block.0 == 0 {
            return Ok(Vec::new());
        }
        let buffer = self.load(block, Kind::Xattr(block))?;
        if le32(buffer.bytes(), 0) != MAGIC || le32(buffer.bytes(), 8) != 1 {
            return Err(Error::Corrupt("attribute block"));
        }
        area::parse(buffer.bytes(), Area::Block)
    }

    fn all_attributes(&self, number: InodeNumber, inode: &Inode) -> Result<Vec<Attribute>> {
        let mut all = self.attributes_in_inode(number)?;
        all.extend(self.attributes_in_block(inode.xattr_block)?);
        Ok(all)
    }

    /// Copies the value of the attribute `name` (with its name space, such as `user.`) into `out`; answers its length.
    /// An empty `out` only asks for the length. Access control lists come in the format of Linux's attributes: version 2, 8
    /// bytes an entry.
    ///
    /// Worst case: reads two blocks.
    ///
    /// # Errors
    /// [`Error::NoAttribute`], [`Error::BufferTooSmall`], [`Error::Invalid`] for an unknown name space.
    pub fn get_xattr(&self, number: InodeNumber, name: &[u8], out: &mut [u8]) -> Result<usize> {
        let (index, rest) = split_name(name)?;
        let inode = self.inode(number)?;
        let all = self.all_attributes(number, &inode)?;
        let found = all.iter().find(|a| a.index == index && a.name == rest).ok_or(Error::NoAttribute)?;
        let value = lists::for_caller(found)?;
        if !out.is_empty() {
            out.get_mut(..value.len()).ok_or(Error::BufferTooSmall)?.copy_from_slice(&value);
        }
        Ok(value.len())
    }

    /// Calls `each` with the full name of every attribute.
    ///
    /// Worst case: reads two blocks.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn list_xattrs(&self, number: InodeNumber, mut each: impl FnMut(&[u8])) -> Result<()> {
        let inode = self.inode(number)?;
        for attribute in self.all_attributes(number, &inode)? {
            let full: Vec<u8> = [prefix(attribute.index), &attribute.name].concat();
            each(&full);
        }
        Ok(())
    }

    /// Gives an attribute a value. An access control list (in the format of [`get_xattr`](Self::get_xattr)) changes the
    /// permission bits, too, and is removed when they say all of it; one without entries is removed.
    ///
    /// Worst case: a new block, and a search for it in all bitmaps.
    ///
    /// # Errors
    /// [`Error::Exists`] (`Create`), [`Error::NoAttribute`] (`Replace`), [`Error::NoSpace`] when inode and block cannot
    /// hold all attributes, [`Error::Invalid`] for an unknown name space or a wrong access control list,
    /// [`Error::NotPermitted`] for a default list of what is no directory, [`Error::Unsupported`] for a list of a symbolic
    /// link.
    pub fn set_xattr(&mut self, number: InodeNumber, name: &[u8], value: &[u8], how: SetXattr) -> Result<()> {
        let (index, rest) = split_name(name)?;
        if value.len() > self.sb.block_size {
            return Err(Error::NoSpace);
        }
        self.transact(XATTR_CREDITS, |t| {
            let mut inode = t.inode(number)?;
            let mut all = t.all_attributes(number, &inode)?;
            let found = all.iter().position(|a| a.index == index && a.name == rest);
            match (found, how) {
                (Some(_), SetXattr::Create) => return Err(Error::Exists),
                (None, SetXattr::Replace) => return Err(Error::NoAttribute),
                _ => {}
            }
            match (lists::to_store(&mut inode, index, value)?, found) {
                (Some(value), Some(at)) => all[at].value = value,
                (Some(value), None) => all.push(Attribute { index, name: rest.into(), value }),
                (None, Some(at)) => drop(all.remove(at)),
                (None, None) => {}
            }
            t.store_attributes(number, inode, all)
        })
    }

    /// Removes an attribute.
    ///
    /// Worst case: two metadata blocks and a bitmap.
    ///
    /// # Errors
    /// [`Error::NoAttribute`], [`Error::Invalid`] for an unknown name space.
    pub fn remove_xattr(&mut self, number: InodeNumber, name: &[u8]) -> Result<()> {
        let (index, rest) = split_name(name)?;
        self.transact(XATTR_CREDITS, |t| {
            let inode = t.inode(number)?;
            let mut all = t.all_attributes(number, &inode)?;
            let at = all.iter().position(|a| a.index == index && a.name == rest).ok_or(Error::NoAttribute)?;
            all.remove(at);
            t.store_attributes(number, inode, all)
        })
    }
}

impl<C: BlockCache> Transaction<'_, C> {
    /// Stores all attributes of an inode: as many as fit in it, the rest in its block.
    pub(crate) fn store_attributes(
        &mut self,
        number: InodeNumber,
        mut inode: Inode,
        all: Vec<Attribute>,
    ) -> Result<()> {
        let spare = self.sb.inode_size.saturating_sub(128 + usize::from(inode.extra_bytes));
        let room = if self.sb.inode_size > 128 { spare.saturating_sub(4) } else { 0 };
        let (inside, outside) = distribute(all, room);
        if !inside.is_empty() || !outside.is_empty() {
            self.counters_mut().compat |= compat::EXT_ATTR;
        }
        self.store_in_block(number, &mut inode, outside)?;
        inode.changed = self.now;
        self.write_inode(number, &inode, true)?;
        if room == 0 {
            return Ok(());
        }
        self.edit_inode_tail(number, |spare| {
            spare.fill(0);
            if !inside.is_empty() {
                put_le32(spare, 0, MAGIC);
                area::encode(&mut spare[4..], Area::Inode, &inside);
            }
        })
    }

    fn store_in_block(
        &mut self,
        number: InodeNumber,
        inode: &mut Inode,
        mut outside: Vec<Attribute>,
    ) -> Result<()> {
        let space = self.sb.block_size - area::BLOCK_HEADER;
        if area::bytes_needed(&outside) > space {
            return Err(Error::NoSpace);
        }
        if outside.is_empty() {
            return self.release_xattr_block(number, inode);
        }
        outside.sort_by(|a, b| (a.index, a.name.len(), &a.name).cmp(&(b.index, b.name.len(), &b.name)));
        if inode.xattr_block.0 != 0 && self.references(inode.xattr_block)? > 1 {
            self.release_xattr_block(number, inode)?;
        }
        if inode.xattr_block.0 == 0 {
            inode.xattr_block = self.allocate_block(self.inode_goal(number))?;
            inode.add_blocks(&self.sb, 1)?;
            self.create(inode.xattr_block, Kind::Xattr(inode.xattr_block))?;
        }
        let block = inode.xattr_block;
        let bytes = self.edit(block, Kind::Xattr(block))?;
        bytes.fill(0);
        put_le32(bytes, 0, MAGIC);
        put_le32(bytes, 4, 1);
        put_le32(bytes, 8, 1);
        area::encode(bytes, Area::Block, &outside);
        Ok(())
    }

    /// How many inodes share an attribute block.
    fn references(&self, block: VolumeBlock) -> Result<u32> {
        Ok(le32(self.load(block, Kind::Xattr(block))?.bytes(), 4))
    }

    /// Gives up an inode's attribute block; the last one to share it frees it. The caller stores the inode.
    pub(crate) fn release_xattr_block(&mut self, _number: InodeNumber, inode: &mut Inode) -> Result<()> {
        let block = inode.xattr_block;
        if block.0 == 0 {
            return Ok(());
        }
        match self.references(block)? {
            0 => return Err(Error::Corrupt("attribute block")),
            1 => self.free_metadata(block)?,
            more => put_le32(self.edit(block, Kind::Xattr(block))?, 4, more - 1),
        }
        inode.xattr_block = VolumeBlock(0);
        inode.add_blocks(&self.sb, -1)
    }
}

/// Chooses which attributes lie in the inode: in their order, while they fit.
fn distribute(all: Vec<Attribute>, room: usize) -> (Vec<Attribute>, Vec<Attribute>) {
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for attribute in all {
        inside.push(attribute);
        if area::bytes_needed(&inside) > room {
            outside.extend(inside.pop());
        }
    }
    (inside, outside)
}
