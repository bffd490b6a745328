//! Names: creating, linking, unlinking and renaming.

use alloc::vec::Vec;

use crate::device::BlockCache;
use crate::directory::{ADD_CREDITS, Found, check_name};
use crate::error::{Error, Result};
use crate::inode::{FileType, Inode, InodeNumber, flags};
use crate::symlink::LINK_CREDITS;
use crate::transaction::Transaction;
use crate::volume::Ext4;
use crate::xattr::{Attribute, XATTR_CREDITS};

/// More links than this are refused for files; directories stop counting.
const MOST_LINKS: u16 = 65_000;
/// Creating: the name, the inode, its lists, its bitmap, the directory, and a new directory's block.
const CREATE_CREDITS: usize = ADD_CREDITS + LINK_CREDITS + XATTR_CREDITS + 8;
const RENAME_CREDITS: usize = ADD_CREDITS + 16;
/// A chain of parents longer than this is a circle.
const DEEPEST_PATH: usize = 1 << 16;

/// What a new inode is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewInode {
    /// Its type; [`FileType::Symlink`] is made by [`Ext4::symlink`].
    pub kind: FileType,
    /// Its permissions: the lower 12 bits of the mode.
    pub permissions: u16,
    /// Permissions that are taken away, unless the directory has a default access control list: that one decides then.
    pub umask: u16,
    /// Its owner.
    pub uid: u32,
    /// Its group; in a directory with the set-group-ID bit that directory's group is taken.
    pub gid: u32,
    /// For device files: (major below 4,096, minor below 1,048,576).
    pub device: (u32, u32),
}

impl NewInode {
    /// A regular file of the superuser with these permissions.
    pub fn file(permissions: u16) -> Self {
        NewInode { kind: FileType::Regular, permissions, umask: 0, uid: 0, gid: 0, device: (0, 0) }
    }

    /// A directory of the superuser with these permissions.
    pub fn directory(permissions: u16) -> Self {
        NewInode { kind: FileType::Directory, ..Self::file(permissions) }
    }
}

/// What [`Ext4::rename`] does when the new name exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rename {
    /// Replaces it.
    Replace,
    /// Fails.
    NoReplace,
    /// Swaps the two.
    Exchange,
}

impl<C: BlockCache> Ext4<C> {
    /// The inode that `name` names in `dir`.
    ///
    /// Worst case: in an indexed directory two index blocks and one leaf (more only where hashes collide), otherwise
    /// all of the directory.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotDirectory`], [`Error::NameTooLong`], [`Error::Invalid`].
    pub fn lookup(&self, dir: InodeNumber, name: &[u8]) -> Result<InodeNumber> {
        let inode = self.directory(dir)?;
        self.find_name(dir, &inode, name)?.map(|found| found.inode).ok_or(Error::NotFound)
    }

    /// Makes a new inode and its name. A directory gets its own two names.
    ///
    /// Worst case: one transaction: the search of all groups' counts and bitmaps, a split of a directory leaf and index
    /// block.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::NoSpace`], [`Error::NotFound`], [`Error::NotDirectory`],
    /// [`Error::NameTooLong`], [`Error::Invalid`], [`Error::TooManyLinks`].
    pub fn create(&mut self, dir: InodeNumber, name: &[u8], new: &NewInode) -> Result<InodeNumber> {
        if new.kind == FileType::Symlink {
            return Err(Error::Invalid);
        }
        self.transact(CREATE_CREDITS, |t| {
            let (number, mut inode, lists) = t.new_inode(dir, new)?;
            match new.kind {
                FileType::Directory => t.start_dir(number, &mut inode, dir)?,
                FileType::CharDevice | FileType::BlockDevice => inode.set_device(new.device.0, new.device.1),
                _ => {}
            }
            t.create_inode(number, &inode)?;
            if !lists.is_empty() {
                t.store_attributes(number, inode, lists)?;
            }
            t.enter_name(dir, name, number, new.kind)?;
            Ok(number)
        })
    }

    /// Makes a symbolic link to `target`, any bytes but NUL.
    ///
    /// Worst case: like [`create`](Self::create).
    ///
    /// # Errors
    /// Those of [`create`](Self::create); [`Error::NameTooLong`] for targets of a block or more.
    pub fn symlink(
        &mut self,
        dir: InodeNumber,
        name: &[u8],
        target: &[u8],
        new: &NewInode,
    ) -> Result<InodeNumber> {
        let new = NewInode { kind: FileType::Symlink, permissions: 0o777, ..*new };
        self.transact(CREATE_CREDITS, |t| {
            let (number, mut inode, _) = t.new_inode(dir, &new)?;
            t.store_target(number, &mut inode, target)?;
            t.create_inode(number, &inode)?;
            t.enter_name(dir, name, number, FileType::Symlink)?;
            Ok(number)
        })
    }

    /// Gives an inode that is not a directory one more name. An open file without a name gets one again.
    ///
    /// Worst case: adding a name, like [`create`](Self::create).
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::IsDirectory`], [`Error::TooManyLinks`], [`Error::NoSpace`],
    /// [`Error::NotPermitted`] and those of a name.
    pub fn link(&mut self, target: InodeNumber, dir: InodeNumber, name: &[u8]) -> Result<()> {
        self.transact(CREATE_CREDITS, |t| {
            let mut inode = t.unlinkable(target)?;
            if inode.is_dir() {
                return Err(Error::IsDirectory);
            }
            if inode.links >= MOST_LINKS {
                return Err(Error::TooManyLinks);
            }
            if inode.links == 0 {
                t.drop_orphan(target, &mut inode)?;
            }
            inode.links += 1;
            inode.changed = t.now;
            t.write_inode(target, &inode, true)?;
            t.enter_name(dir, name, target, inode.file_type()?)
        })
    }

    /// Removes a name of something that is not a directory. Without another name and unless it is open, its space is
    /// freed.
    ///
    /// Worst case: one transaction for the name, then one for every few extents.
    ///
    /// # Errors
    /// [`Error::IsDirectory`], [`Error::NotPermitted`], [`Error::NotFound`] and those of a name.
    pub fn unlink(&mut self, dir: InodeNumber, name: &[u8]) -> Result<()> {
        self.remove(dir, name, |inode| if inode.is_dir() { Err(Error::IsDirectory) } else { Ok(()) })
    }

    /// Removes an empty directory.
    ///
    /// Worst case: reads all of its blocks; then like [`unlink`](Self::unlink).
    ///
    /// # Errors
    /// [`Error::NotEmpty`], [`Error::NotDirectory`], [`Error::Invalid`] for `.` and `..`, [`Error::NotPermitted`],
    /// [`Error::NotFound`] and those of a name.
    pub fn rmdir(&mut self, dir: InodeNumber, name: &[u8]) -> Result<()> {
        self.remove(dir, name, |inode| if inode.is_dir() { Ok(()) } else { Err(Error::NotDirectory) })
    }

    fn remove(
        &mut self,
        dir: InodeNumber,
        name: &[u8],
        allowed: impl Fn(&Inode) -> Result<()>,
    ) -> Result<()> {
        let gone = self.transact(RENAME_CREDITS, |t| {
            let (mut parent, found) = t.find_to_change(dir, name)?;
            let inode = t.unlinkable(found.inode)?;
            allowed(&inode)?;
            t.remove_name(&found)?;
            let gone = t.lose_name(found.inode, inode, dir, &mut parent)?;
            (parent.modified, parent.changed) = (t.now, t.now);
            t.write_inode(dir, &parent, true)?;
            Ok(gone.then_some(found.inode))
        })?;
        self.delete_unused(gone)
    }

    fn delete_unused(&mut self, gone: Option<InodeNumber>) -> Result<()> {
        match gone {
            Some(number) if !self.open.contains_key(&number) => self.free_soon(number),
            _ => Ok(()),
        }
    }

    /// Gives what `from.1` names in `from.0` the name `to.1` in `to.0`.
    ///
    /// Worst case: one transaction; when a directory moves, a walk from its new place up to the root; then the space of
    /// what was replaced, like [`unlink`](Self::unlink).
    ///
    /// # Errors
    /// [`Error::Exists`] (`NoReplace`), [`Error::Invalid`] when a directory would come to lie in itself,
    /// [`Error::IsDirectory`], [`Error::NotDirectory`], [`Error::NotEmpty`] for what cannot be replaced by it,
    /// [`Error::NoSpace`], [`Error::NotPermitted`], [`Error::TooManyLinks`], [`Error::NotFound`] and those of a name.
    pub fn rename(
        &mut self,
        from: (InodeNumber, &[u8]),
        to: (InodeNumber, &[u8]),
        how: Rename,
    ) -> Result<()> {
        check_name(to.1)?;
        if [from.1, to.1].iter().any(|name| matches!(*name, b"." | b"..")) {
            return Err(Error::Invalid);
        }
        let gone = self.transact(RENAME_CREDITS, |t| t.rename(from, to, how))?;
        self.delete_unused(gone)
    }

    /// Whether `dir` is `ancestor` or lies below it.
    fn is_within(&self, dir: InodeNumber, ancestor: InodeNumber) -> Result<bool> {
        let mut at = dir;
        for _ in 0..DEEPEST_PATH {
            if at == ancestor {
                return Ok(true);
            }
            if at == InodeNumber::ROOT {
                return Ok(false);
            }
            at = self.parent_of(at, &self.directory(at)?)?;
        }
        Err(Error::Corrupt("directories form a circle"))
    }
}

impl<C: BlockCache> Transaction<'_, C> {
    /// Takes an inode, which is to be stored by the caller, with the access control lists that it inherits.
    fn new_inode(
        &mut self,
        dir: InodeNumber,
        new: &NewInode,
    ) -> Result<(InodeNumber, Inode, Vec<Attribute>)> {
        let parent = self.directory(dir)?;
        let is_dir = new.kind == FileType::Directory;
        let number = self.allocate_inode(dir, is_dir)?;
        let inherits = parent.mode & 0o2000 != 0;
        let gid = if inherits { parent.gid } else { new.gid };
        let mut mode = new.kind.mode_bits() | new.permissions & 0o7777;
        if is_dir && inherits {
            mode |= 0o2000;
        }
        let generation = self.next_generation(number);
        let mut inode = Inode::new(&self.sb, mode, new.uid, gid, self.now, generation);
        if matches!(new.kind, FileType::Regular | FileType::Directory) {
            self.start_map(&mut inode);
        }
        inode.links = if is_dir { 2 } else { 1 };
        let lists = self.inherited_lists(dir, &parent, &mut inode, new.umask)?;
        Ok((number, inode, lists))
    }

    /// Adds a name to a directory that may not have it, and counts a directory's link to its parent.
    fn enter_name(
        &mut self,
        dir: InodeNumber,
        name: &[u8],
        target: InodeNumber,
        kind: FileType,
    ) -> Result<()> {
        let mut parent = self.changeable_dir(dir)?;
        if self.find_name(dir, &parent, name)?.is_some() {
            return Err(Error::Exists);
        }
        self.add_name(dir, &mut parent, name, target, kind)?;
        if kind == FileType::Directory {
            self.add_subdir(&mut parent)?;
        }
        (parent.modified, parent.changed) = (self.now, self.now);
        self.write_inode(dir, &parent, true)
    }

    fn changeable_dir(&self, dir: InodeNumber) -> Result<Inode> {
        let inode = self.directory(dir)?;
        if inode.links == 0 {
            return Err(Error::NotFound);
        }
        if inode.has(flags::IMMUTABLE) { Err(Error::NotPermitted) } else { Ok(inode) }
    }

    /// An inode whose names may change.
    fn unlinkable(&self, number: InodeNumber) -> Result<Inode> {
        let inode = self.inode(number)?;
        if number.0 < self.sb.first_inode && number != InodeNumber::ROOT {
            return Err(Error::Corrupt("a name for a reserved inode"));
        }
        if inode.has(flags::IMMUTABLE | flags::APPEND) { Err(Error::NotPermitted) } else { Ok(inode) }
    }

    fn find_to_change(&self, dir: InodeNumber, name: &[u8]) -> Result<(Inode, Found)> {
        if matches!(name, b"." | b"..") {
            return Err(Error::Invalid);
        }
        let parent = self.changeable_dir(dir)?;
        if parent.has(flags::APPEND) {
            return Err(Error::NotPermitted);
        }
        let found = self.find_name(dir, &parent, name)?.ok_or(Error::NotFound)?;
        Ok((parent, found))
    }

    fn add_subdir(&self, parent: &mut Inode) -> Result<()> {
        if parent.links == 1 {
            return Ok(());
        }
        parent.links += 1;
        if parent.links >= MOST_LINKS {
            let stops_counting = self.sb.ro_compat & crate::features::ro_compat::DIR_NLINK != 0;
            parent.links = if stops_counting { 1 } else { return Err(Error::TooManyLinks) };
        }
        Ok(())
    }

    /// One name less; answers whether it was the last one. The caller stores the parent.
    fn lose_name(
        &mut self,
        number: InodeNumber,
        mut inode: Inode,
        dir: InodeNumber,
        parent: &mut Inode,
    ) -> Result<bool> {
        if inode.is_dir() {
            if number == dir || number == InodeNumber::ROOT {
                return Err(Error::Corrupt("a directory that contains itself"));
            }
            if !self.is_empty_dir(number, &inode)? {
                return Err(Error::NotEmpty);
            }
            inode.links = 0;
            lose_subdir(parent);
        } else {
            inode.links = inode.links.saturating_sub(1);
        }
        inode.changed = self.now;
        let gone = inode.links == 0;
        if gone {
            self.add_orphan(number, &mut inode)?;
        }
        self.write_inode(number, &inode, true)?;
        Ok(gone)
    }

    fn rename(
        &mut self,
        from: (InodeNumber, &[u8]),
        to: (InodeNumber, &[u8]),
        how: Rename,
    ) -> Result<Option<InodeNumber>> {
        let (_, source) = self.find_to_change(from.0, from.1)?;
        let moved = self.unlinkable(source.inode)?;
        let parent = self.changeable_dir(to.0)?;
        if moved.is_dir() && from.0 != to.0 && self.is_within(to.0, source.inode)? {
            return Err(Error::Invalid);
        }
        match (self.find_name(to.0, &parent, to.1)?, how) {
            (Some(_), Rename::NoReplace) => Err(Error::Exists),
            (None, Rename::Exchange) => Err(Error::NotFound),
            (Some(target), _) if target.inode == source.inode => Ok(None),
            (Some(target), Rename::Exchange) => self.exchange(from.0, source, moved, to.0, target),
            (Some(target), _) => self.replace(from, source, moved, to.0, target),
            (None, _) => self.move_name(from, source.inode, moved, to, parent),
        }
    }

    /// Moves a directory's `..` and the links of its parents; the caller stores neither parent before.
    fn change_parent(
        &mut self,
        number: InodeNumber,
        inode: &Inode,
        from: InodeNumber,
        to: InodeNumber,
    ) -> Result<()> {
        if !inode.is_dir() || from == to {
            return Ok(());
        }
        self.set_parent(number, inode, to)?;
        let mut old = self.directory(from)?;
        lose_subdir(&mut old);
        self.write_inode(from, &old, true)?;
        let mut new = self.directory(to)?;
        self.add_subdir(&mut new)?;
        self.write_inode(to, &new, true)
    }

    /// Stores the times of an inode that moved, and of the directories.
    fn touch_moved(&mut self, moved: InodeNumber, dirs: [InodeNumber; 2]) -> Result<()> {
        let mut inode = self.inode(moved)?;
        inode.changed = self.now;
        self.write_inode(moved, &inode, true)?;
        for dir in dirs {
            let mut inode = self.directory(dir)?;
            (inode.modified, inode.changed) = (self.now, self.now);
            self.write_inode(dir, &inode, true)?;
        }
        Ok(())
    }

    fn move_name(
        &mut self,
        from: (InodeNumber, &[u8]),
        number: InodeNumber,
        moved: Inode,
        to: (InodeNumber, &[u8]),
        mut parent: Inode,
    ) -> Result<Option<InodeNumber>> {
        self.add_name(to.0, &mut parent, to.1, number, moved.file_type()?)?;
        self.write_inode(to.0, &parent, true)?;
        // Adding may have split the block that held the old name.
        let (_, source) = self.find_to_change(from.0, from.1)?;
        self.remove_name(&source)?;
        self.change_parent(number, &moved, from.0, to.0)?;
        self.touch_moved(number, [from.0, to.0])?;
        Ok(None)
    }

    fn exchange(
        &mut self,
        from: InodeNumber,
        source: Found,
        moved: Inode,
        to: InodeNumber,
        target: Found,
    ) -> Result<Option<InodeNumber>> {
        let other = self.unlinkable(target.inode)?;
        if other.is_dir() && from != to && self.is_within(from, target.inode)? {
            return Err(Error::Invalid);
        }
        self.set_name(&target, source.inode, moved.file_type()?)?;
        self.set_name(&source, target.inode, other.file_type()?)?;
        self.change_parent(source.inode, &moved, from, to)?;
        self.change_parent(target.inode, &other, to, from)?;
        self.touch_moved(source.inode, [from, to])?;
        self.touch_moved(target.inode, [from, to])?;
        Ok(None)
    }

    fn replace(
        &mut self,
        from: (InodeNumber, &[u8]),
        source: Found,
        moved: Inode,
        to: InodeNumber,
        target: Found,
    ) -> Result<Option<InodeNumber>> {
        let victim = self.unlinkable(target.inode)?;
        match (moved.is_dir(), victim.is_dir()) {
            (false, true) => return Err(Error::IsDirectory),
            (true, false) => return Err(Error::NotDirectory),
            // Before the old name goes: it may be the only one in the directory to be replaced.
            (true, true) if !self.is_empty_dir(target.inode, &victim)? => return Err(Error::NotEmpty),
            _ => {}
        }
        self.set_name(&target, source.inode, moved.file_type()?)?;
        self.remove_name(&source)?;
        let mut parent = self.directory(to)?;
        let gone = self.lose_name(target.inode, victim, to, &mut parent)?;
        self.write_inode(to, &parent, true)?;
        self.change_parent(source.inode, &moved, from.0, to)?;
        self.touch_moved(source.inode, [from.0, to])?;
        Ok(gone.then_some(target.inode))
    }
}

/// One subdirectory less, where they are counted.
fn lose_subdir(parent: &mut Inode) {
    if parent.links > 2 {
        parent.links -= 1;
    }
}
