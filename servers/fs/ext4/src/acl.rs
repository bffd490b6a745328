//! POSIX access control lists: three encodings of one list, and what a list means.
//!
//! Callers see the format of Linux's extended attributes `system.posix_acl_access` and `system.posix_acl_default`:
//! version 2, 8 bytes an entry. The disk holds version 1, where entries without an ID take 4 bytes. Sources: POSIX
//! 1003.1e draft 17, section 23; Documentation/filesystems/ext4/attributes.rst of Linux; acl(5).

use alloc::vec::Vec;

use crate::bytes::{le16, le32};
use crate::error::{Error, Result};
use crate::permission::Credentials;

const CALLERS_VERSION: u32 = 2;
const DISK_VERSION: u32 = 1;
const HEADER: usize = 4;
const SHORT_ENTRY: usize = 4;
const ENTRY: usize = 8;
/// The ID that callers see in entries without one.
const NO_ID: u32 = u32::MAX;

/// Whom an entry is for; in the order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tag {
    Owner,
    User(u32),
    OwningGroup,
    Group(u32),
    /// What users, the owning group and groups may have at most.
    Mask,
    Other,
}

impl Tag {
    fn parse(code: u16, id: impl FnOnce() -> Result<u32>) -> Result<Self> {
        Ok(match code {
            0x01 => Tag::Owner,
            0x02 => Tag::User(id()?),
            0x04 => Tag::OwningGroup,
            0x08 => Tag::Group(id()?),
            0x10 => Tag::Mask,
            0x20 => Tag::Other,
            _ => return Err(Error::Invalid),
        })
    }

    fn code(self) -> u16 {
        match self {
            Tag::Owner => 0x01,
            Tag::User(_) => 0x02,
            Tag::OwningGroup => 0x04,
            Tag::Group(_) => 0x08,
            Tag::Mask => 0x10,
            Tag::Other => 0x20,
        }
    }

    fn id(self) -> Option<u32> {
        match self {
            Tag::User(id) | Tag::Group(id) => Some(id),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: Tag,
    /// Read 4, write 2, execute 1.
    permissions: u16,
}

/// A valid list: one entry each for owner, owning group and others, and a mask where users or groups are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acl {
    entries: Vec<Entry>,
}

impl Acl {
    /// Reads what a caller gives; `None` for a list without entries.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Unsupported`] for another version.
    pub(crate) fn from_caller(bytes: &[u8]) -> Result<Option<Self>> {
        let (header, entries) = bytes.split_first_chunk::<HEADER>().ok_or(Error::Invalid)?;
        if u32::from_le_bytes(*header) != CALLERS_VERSION {
            return Err(Error::Unsupported("an access control list of another version than 2"));
        }
        let (entries, []) = entries.as_chunks::<ENTRY>() else { return Err(Error::Invalid) };
        if entries.is_empty() {
            return Ok(None);
        }
        let entry = |entry: &[u8; ENTRY]| {
            let tag = Tag::parse(le16(entry, 0), || Ok(le32(entry, 4)))?;
            Ok(Entry { tag, permissions: le16(entry, 2) })
        };
        Self::checked(entries.iter().map(entry).collect::<Result<_>>()?).map(Some)
    }

    /// Writes the list for a caller.
    pub(crate) fn to_caller(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = CALLERS_VERSION.to_le_bytes().into();
        for entry in &self.entries {
            bytes.extend(entry.tag.code().to_le_bytes());
            bytes.extend(entry.permissions.to_le_bytes());
            bytes.extend(entry.tag.id().unwrap_or(NO_ID).to_le_bytes());
        }
        bytes
    }

    /// Reads what the disk holds.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub(crate) fn from_disk(bytes: &[u8]) -> Result<Self> {
        Self::parse_disk(bytes).map_err(|_| Error::Corrupt("access control list"))
    }

    fn parse_disk(bytes: &[u8]) -> Result<Self> {
        let (header, mut rest) = bytes.split_first_chunk::<HEADER>().ok_or(Error::Invalid)?;
        if u32::from_le_bytes(*header) != DISK_VERSION {
            return Err(Error::Invalid);
        }
        let mut entries = Vec::new();
        while !rest.is_empty() {
            let entry = rest.get(..SHORT_ENTRY).ok_or(Error::Invalid)?;
            let id = || rest.get(4..ENTRY).map(|id| le32(id, 0)).ok_or(Error::Invalid);
            let tag = Tag::parse(le16(entry, 0), id)?;
            entries.push(Entry { tag, permissions: le16(entry, 2) });
            rest = &rest[if tag.id().is_some() { ENTRY } else { SHORT_ENTRY }..];
        }
        Self::checked(entries)
    }

    /// Writes the list for the disk.
    pub(crate) fn to_disk(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = DISK_VERSION.to_le_bytes().into();
        for entry in &self.entries {
            bytes.extend(entry.tag.code().to_le_bytes());
            bytes.extend(entry.permissions.to_le_bytes());
            bytes.extend(entry.tag.id().into_iter().flat_map(u32::to_le_bytes));
        }
        bytes
    }

    /// Takes entries that form a list: in order by kind, with all that must be there.
    fn checked(entries: Vec<Entry>) -> Result<Self> {
        let codes: Vec<u16> = entries.iter().map(|entry| entry.tag.code()).collect();
        let count = |tag: Tag| codes.iter().filter(|code| **code == tag.code()).count();
        let named = entries.iter().any(|entry| entry.tag.id().is_some());
        let valid = codes.is_sorted()
            && entries.iter().all(|entry| entry.permissions <= 7 && entry.tag.id() != Some(NO_ID))
            && [Tag::Owner, Tag::OwningGroup, Tag::Other].into_iter().all(|tag| count(tag) == 1)
            && (count(Tag::Mask) == 1 || count(Tag::Mask) == 0 && !named);
        if valid { Ok(Acl { entries }) } else { Err(Error::Invalid) }
    }

    fn permissions(&self, tag: Tag) -> Option<u16> {
        self.entries.iter().find(|entry| entry.tag == tag).map(|entry| entry.permissions)
    }

    /// Whether the permission bits of a mode say all of it.
    pub(crate) fn is_mode(&self) -> bool {
        self.entries.len() == 3
    }

    /// The entry that the group's bits of a mode stand for.
    fn group_class(&self) -> Tag {
        if self.permissions(Tag::Mask).is_some() { Tag::Mask } else { Tag::OwningGroup }
    }

    /// The nine permission bits of a mode that go with the list.
    pub(crate) fn mode(&self) -> u16 {
        let of = |tag| self.permissions(tag).unwrap_or(0);
        of(Tag::Owner) << 6 | of(self.group_class()) << 3 | of(Tag::Other)
    }

    /// Makes the list go with the permission bits of `mode`.
    pub(crate) fn set_mode(&mut self, mode: u16) {
        let group_class = self.group_class();
        for entry in &mut self.entries {
            let shift = match entry.tag {
                Tag::Owner => 6,
                Tag::Other => 0,
                tag if tag == group_class => 3,
                _ => continue,
            };
            entry.permissions = mode >> shift & 7;
        }
    }

    /// What `who` may do with an object of this owner and group, as bits (read 4, write 2, execute 1). The first kind of
    /// entry that fits decides; of several groups, one that allows all that is asked.
    pub(crate) fn allows(&self, who: &Credentials, owner: (u32, u32), asked: u16) -> bool {
        let of = |tag| self.permissions(tag).unwrap_or(0);
        if who.uid == owner.0 {
            return of(Tag::Owner) & asked == asked;
        }
        let mask = self.permissions(Tag::Mask).unwrap_or(7);
        if let Some(named) = self.permissions(Tag::User(who.uid)) {
            return named & mask & asked == asked;
        }
        let mut groups = self.entries.iter().filter(|entry| match entry.tag {
            Tag::OwningGroup => who.is_in(owner.1),
            Tag::Group(id) => who.is_in(id),
            _ => false,
        });
        match groups.next() {
            None => of(Tag::Other) & asked == asked,
            Some(first) => {
                core::iter::once(first).chain(groups).any(|entry| entry.permissions & mask & asked == asked)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// owner rwx, user 10 rw-, user 11 ---, group r--, group 20 rwx, mask rw-, other --x
    const CALLERS: &[u8] = &[
        2, 0, 0, 0, //
        1, 0, 7, 0, 255, 255, 255, 255, //
        2, 0, 6, 0, 10, 0, 0, 0, //
        2, 0, 0, 0, 11, 0, 0, 0, //
        4, 0, 4, 0, 255, 255, 255, 255, //
        8, 0, 7, 0, 20, 0, 0, 0, //
        16, 0, 6, 0, 255, 255, 255, 255, //
        32, 0, 1, 0, 255, 255, 255, 255,
    ];
    const DISK: &[u8] = &[
        1, 0, 0, 0, //
        1, 0, 7, 0, //
        2, 0, 6, 0, 10, 0, 0, 0, //
        2, 0, 0, 0, 11, 0, 0, 0, //
        4, 0, 4, 0, //
        8, 0, 7, 0, 20, 0, 0, 0, //
        16, 0, 6, 0, //
        32, 0, 1, 0,
    ];

    fn list() -> Acl {
        Acl::from_caller(CALLERS).unwrap().unwrap()
    }

    #[test]
    fn both_encodings_hold_the_same_list() {
        assert_eq!(list().to_caller(), CALLERS);
        assert_eq!(list().to_disk(), DISK);
        assert_eq!(Acl::from_disk(DISK).unwrap(), list());
        assert_eq!(Acl::from_caller(&CALLERS[..4]), Ok(None));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let without = |at: usize| [&CALLERS[..at], &CALLERS[at + 8..]].concat();
        // Owner, owning group, mask, others.
        for at in [4, 28, 44, 52] {
            assert_eq!(Acl::from_caller(&without(at)), Err(Error::Invalid), "without the entry at {at}");
        }
        for (at, byte) in [(4, 3), (6, 8), (12, 1), (20, 8), (36, 4)] {
            let mut bytes = CALLERS.to_vec();
            bytes[at] = byte;
            assert_eq!(Acl::from_caller(&bytes), Err(Error::Invalid), "{byte} at {at}");
        }
        for length in [0, 3, 5, 59] {
            assert_eq!(Acl::from_caller(&CALLERS[..length]), Err(Error::Invalid));
        }
        assert!(matches!(Acl::from_caller(DISK), Err(Error::Unsupported(_))));
        for length in 0..DISK.len() {
            assert!(matches!(Acl::from_disk(&DISK[..length]), Err(Error::Corrupt(_))));
        }
    }

    #[test]
    fn the_first_kind_of_entry_that_fits_decides() {
        let may = |uid, gid, groups: &[u32], asked| {
            list().allows(&Credentials { uid, gid, groups: groups.into() }, (1, 2), asked)
        };
        assert!(may(1, 99, &[], 7), "the owner is not masked");
        assert!(may(10, 99, &[], 6) && !may(10, 99, &[], 1));
        assert!(!may(11, 20, &[], 4), "a named user has no more than that entry, whatever the groups may");
        assert!(may(12, 2, &[], 4) && !may(12, 2, &[], 2));
        assert!(may(12, 2, &[20], 6), "one of the groups allows it");
        assert!(!may(12, 20, &[], 1), "the mask takes execution from the group, and others are not asked");
        assert!(may(12, 99, &[], 1) && !may(12, 99, &[], 4));
    }

    #[test]
    fn a_list_and_a_mode_follow_each_other() {
        let mut list = list();
        assert_eq!(list.mode(), 0o761);
        list.set_mode(0o4540);
        assert_eq!(list.mode(), 0o540);
        assert_eq!(list.permissions(Tag::OwningGroup), Some(4));
        assert!(!list.is_mode());
    }
}
