//! Who may do what: the permission bits and access control lists of POSIX.

use alloc::vec::Vec;

use crate::acl::Acl;
use crate::attributes::Attributes;
use crate::device::BlockCache;
use crate::error::Result;
use crate::inode::{FileType, InodeNumber};
use crate::volume::Ext4;

/// Someone who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user; 0 is the superuser.
    pub uid: u32,
    /// The first group.
    pub gid: u32,
    /// More groups.
    pub groups: Vec<u32>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Reading, or listing a directory.
    pub read: bool,
    /// Writing, or changing a directory's names.
    pub write: bool,
    /// Executing, or looking up in a directory.
    pub execute: bool,
}

impl Access {
    fn bits(self) -> u16 {
        u16::from(self.read) << 2 | u16::from(self.write) << 1 | u16::from(self.execute)
    }
}

impl<C: BlockCache> Ext4<C> {
    /// Returns true if `who` may use the inode so: by its access control list where it has one, else by its permission
    /// bits. The superuser may do everything, but execute a file only where someone may.
    ///
    /// A mask without any permission takes all from the users and groups that a list names, as POSIX has it; Linux treats
    /// them as others then.
    ///
    /// Worst case: reads two blocks.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`].
    pub fn permits(&self, who: &Credentials, number: InodeNumber, access: Access) -> Result<bool> {
        let target = self.attributes(number)?;
        let acl = if who.uid == 0 { None } else { self.access_acl(number)? };
        Ok(who.may(&target, acl.as_ref(), access))
    }
}

impl Credentials {
    /// Whether it is one of the groups.
    pub(crate) fn is_in(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }

    /// Whether the access control list or else the permission bits allow it.
    fn may(&self, target: &Attributes, acl: Option<&Acl>, access: Access) -> bool {
        if self.uid == 0 {
            let executable = target.permissions & 0o111 != 0 || target.kind == FileType::Directory;
            return !access.execute || executable;
        }
        if let Some(acl) = acl {
            return acl.allows(self, (target.uid, target.gid), access.bits());
        }
        let shift = if self.uid == target.uid {
            6
        } else if self.is_in(target.gid) {
            3
        } else {
            0
        };
        target.permissions >> shift & access.bits() == access.bits()
    }

    /// Whether someone may remove or rename `target` in `dir`, given that the directory may be written: in one with the
    /// sticky bit only the owner of either may.
    pub fn may_remove(&self, dir: &Attributes, target: &Attributes) -> bool {
        dir.permissions & 0o1000 == 0 || self.uid == 0 || self.uid == dir.uid || self.uid == target.uid
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inode::InodeNumber;
    use crate::time::Time;

    fn target(permissions: u16, kind: FileType) -> Attributes {
        Attributes {
            inode: InodeNumber(12),
            kind,
            permissions,
            links: 1,
            uid: 10,
            gid: 20,
            size: 0,
            sectors: 0,
            device: (0, 0),
            generation: 0,
            accessed: Time::default(),
            modified: Time::default(),
            changed: Time::default(),
            created: Time::default(),
        }
    }

    const WRITE: Access = Access { read: false, write: true, execute: false };
    const EXECUTE: Access = Access { read: false, write: false, execute: true };

    #[test]
    fn the_first_class_that_fits_decides() {
        let who = |uid, gid, groups: &[u32]| Credentials { uid, gid, groups: groups.into() };
        let file = target(0o062, FileType::Regular);
        assert!(!who(10, 20, &[]).may(&file, None, WRITE), "the owner has no bits, whatever the group may");
        assert!(who(11, 1, &[5, 20]).may(&file, None, WRITE));
        assert!(who(11, 1, &[5]).may(&file, None, WRITE));
        assert!(!who(11, 1, &[5]).may(&file, None, EXECUTE));
    }

    #[test]
    fn the_superuser_executes_only_what_someone_may() {
        let root = Credentials { uid: 0, gid: 0, groups: Vec::new() };
        assert!(root.may(&target(0, FileType::Regular), None, WRITE));
        assert!(!root.may(&target(0o666, FileType::Regular), None, EXECUTE));
        assert!(root.may(&target(0, FileType::Directory), None, EXECUTE));
    }

    #[test]
    fn a_sticky_directory_protects_names_of_others() {
        let dir = target(0o1777, FileType::Directory);
        let mut file = target(0o666, FileType::Regular);
        file.uid = 30;
        let who = |uid| Credentials { uid, gid: 0, groups: Vec::new() };
        assert!(
            who(0).may_remove(&dir, &file)
                && who(10).may_remove(&dir, &file)
                && who(30).may_remove(&dir, &file)
        );
        assert!(!who(31).may_remove(&dir, &file));
    }
}
