//! Access control lists as attributes: converted between caller and disk, kept in step with the mode, and inherited.

use alloc::vec::Vec;

use super::Attribute;
use crate::acl::Acl;
use crate::device::BlockCache;
use crate::error::{Error, Result};
use crate::inode::{FileType, Inode, InodeNumber};
use crate::transaction::Transaction;
use crate::volume::Ext4;

/// The name space's number of the list that decides about access, and of the one that new inodes inherit.
pub(super) const ACCESS: u8 = 2;
pub(super) const DEFAULT: u8 = 3;

/// A stored attribute's value as callers see it.
pub(super) fn for_caller(attribute: &Attribute) -> Result<Vec<u8>> {
    match attribute.index {
        ACCESS | DEFAULT => Ok(Acl::from_disk(&attribute.value)?.to_caller()),
        _ => Ok(attribute.value.clone()),
    }
}

/// A caller's value as it is stored, or `None` where nothing is to be. An access list sets the inode's permission bits.
pub(super) fn to_store(inode: &mut Inode, index: u8, value: &[u8]) -> Result<Option<Vec<u8>>> {
    if !matches!(index, ACCESS | DEFAULT) {
        return Ok(Some(value.into()));
    }
    let list = Acl::from_caller(value)?;
    match inode.file_type()? {
        FileType::Symlink => return Err(Error::Unsupported("access control lists of symbolic links")),
        FileType::Directory => {}
        _ if index == DEFAULT && list.is_some() => return Err(Error::NotPermitted),
        _ => {}
    }
    match list {
        Some(list) if index == ACCESS => {
            inode.mode = inode.mode & !0o777 | list.mode();
            Ok((!list.is_mode()).then(|| list.to_disk()))
        }
        other => Ok(other.map(|list| list.to_disk())),
    }
}

fn list(all: &[Attribute], index: u8) -> Result<Option<Acl>> {
    let found = all.iter().find(|attribute| attribute.index == index && attribute.name.is_empty());
    found.map(|attribute| Acl::from_disk(&attribute.value)).transpose()
}

fn attribute(index: u8, list: &Acl) -> Attribute {
    Attribute { index, name: Vec::new(), value: list.to_disk() }
}

impl<C: BlockCache> Ext4<C> {
    /// The list that decides about access to an inode, if it has one.
    pub(crate) fn access_acl(&self, number: InodeNumber) -> Result<Option<Acl>> {
        list(&self.all_attributes(number, &self.inode(number)?)?, ACCESS)
    }

    /// The lists of a new inode in `dir`, whose mode they restrict. Without a default list of the directory `umask`
    /// restricts the mode.
    pub(crate) fn inherited_lists(
        &self,
        dir: InodeNumber,
        parent: &Inode,
        inode: &mut Inode,
        umask: u16,
    ) -> Result<Vec<Attribute>> {
        let default = match inode.file_type()? {
            FileType::Symlink => return Ok(Vec::new()),
            _ => list(&self.all_attributes(dir, parent)?, DEFAULT)?,
        };
        let Some(default) = default else {
            inode.mode &= !(umask & 0o777);
            return Ok(Vec::new());
        };
        let mut access = default.clone();
        access.set_mode(access.mode() & inode.mode);
        inode.mode = inode.mode & !0o777 | access.mode();
        let mut lists = Vec::new();
        if !access.is_mode() {
            lists.push(attribute(ACCESS, &access));
        }
        if inode.is_dir() {
            lists.push(attribute(DEFAULT, &default));
        }
        Ok(lists)
    }
}

impl<C: BlockCache> Transaction<'_, C> {
    /// Stores an inode whose permission bits were set, and makes its access list follow them.
    pub(crate) fn write_mode(&mut self, number: InodeNumber, inode: Inode) -> Result<()> {
        let mut all = self.all_attributes(number, &inode)?;
        let Some(mut access) = list(&all, ACCESS)? else { return self.write_inode(number, &inode, true) };
        access.set_mode(inode.mode);
        all.retain(|attribute| attribute.index != ACCESS);
        all.push(attribute(ACCESS, &access));
        self.store_attributes(number, inode, all)
    }
}
