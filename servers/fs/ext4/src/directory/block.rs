//! One block of directory entries, as bytes.
//!
//! An entry is: inode (4 bytes, 0 for unused), its length to the next entry (2), the name's length (1), the file type
//! (1), the name. Source: Documentation/filesystems/ext4/directory.rst of Linux.

use crate::bytes::{le16, le32, put_le16, put_le32};
use crate::error::{Error, Result};
use crate::inode::InodeNumber;

const HEADER: usize = 8;
/// The longest name in bytes.
pub(crate) const LONGEST_NAME: usize = 255;

/// An entry in use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawEntry<'a> {
    /// Where it begins in the block.
    pub(crate) at: usize,
    pub(crate) inode: InodeNumber,
    /// The type byte; 0 where the volume stores no types.
    pub(crate) code: u8,
    pub(crate) name: &'a [u8],
}

impl RawEntry<'_> {
    /// Returns true for the directory's own two names.
    pub(crate) fn is_dots(&self) -> bool {
        matches!(self.name, b"." | b"..")
    }

    /// Refuses a name that no caller could have given: such an entry means damage.
    pub(crate) fn check_name(&self) -> Result<()> {
        if is_name(self.name) { Ok(()) } else { Err(Error::Corrupt("directory entry name")) }
    }
}

/// Returns true if `name` is neither empty nor too long and holds neither `/` nor NUL.
pub(crate) fn is_name(name: &[u8]) -> bool {
    (1..=LONGEST_NAME).contains(&name.len()) && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

/// The bytes that an entry with such a name needs.
pub(crate) fn entry_bytes(name: &[u8]) -> usize {
    (HEADER + name.len()).next_multiple_of(4)
}

/// All entries of a block, unused ones too, as (offset, length to the next); errors end it.
struct Slots<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Iterator for Slots<'_> {
    type Item = Result<(usize, usize)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let at = self.at;
        let rest = &self.bytes[at..];
        let length = if rest.len() < HEADER + 4 { 0 } else { usize::from(le16(rest, 4)) };
        let needed = if length == 0 { usize::MAX } else { HEADER + usize::from(rest[6]) };
        if length < HEADER + 4 || length % 4 != 0 || length > rest.len() || needed > length {
            self.at = self.bytes.len();
            return Some(Err(Error::Corrupt("directory entry")));
        }
        self.at += length;
        Some(Ok((at, length)))
    }
}

/// The entries in use; `bytes` is the block without its checksum tail.
pub(crate) fn entries(bytes: &[u8]) -> impl Iterator<Item = Result<RawEntry<'_>>> {
    Slots { bytes, at: 0 }.filter_map(move |slot| match slot {
        Err(error) => Some(Err(error)),
        Ok((at, _)) if le32(bytes, at) == 0 => None,
        Ok((at, _)) => Some(Ok(RawEntry {
            at,
            inode: InodeNumber(le32(bytes, at)),
            code: bytes[at + 7],
            name: &bytes[at + HEADER..at + HEADER + usize::from(bytes[at + 6])],
        })),
    })
}

/// The entry of this name.
pub(crate) fn find<'a>(bytes: &'a [u8], name: &[u8]) -> Result<Option<RawEntry<'a>>> {
    for entry in entries(bytes) {
        let entry = entry?;
        if entry.name == name {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// Adds an entry; answers whether there was room.
pub(crate) fn insert(bytes: &mut [u8], name: &[u8], inode: InodeNumber, code: u8) -> Result<bool> {
    let Some((at, length, used)) = place_for(bytes, name)? else { return Ok(false) };
    if used > 0 {
        put_le16(bytes, at + 4, used as u16);
    }
    put_entry(bytes, at + used, length - used, name, inode, code);
    Ok(true)
}

/// Whether an entry of this name fits.
pub(crate) fn has_room(bytes: &[u8], name: &[u8]) -> Result<bool> {
    place_for(bytes, name).map(|place| place.is_some())
}

/// The first entry with room behind it for this name: (offset, length to the next, bytes used).
fn place_for(bytes: &[u8], name: &[u8]) -> Result<Option<(usize, usize, usize)>> {
    let needed = entry_bytes(name);
    for slot in (Slots { bytes, at: 0 }) {
        let (at, length) = slot?;
        let used =
            if le32(bytes, at) == 0 { 0 } else { (HEADER + usize::from(bytes[at + 6])).next_multiple_of(4) };
        if length >= used + needed {
            return Ok(Some((at, length, used)));
        }
    }
    Ok(None)
}

/// Writes an entry that reaches `length` bytes far.
pub(crate) fn put_entry(
    bytes: &mut [u8],
    at: usize,
    length: usize,
    name: &[u8],
    inode: InodeNumber,
    code: u8,
) {
    put_le32(bytes, at, inode.0);
    put_le16(bytes, at + 4, length as u16);
    bytes[at + 6] = name.len() as u8;
    bytes[at + 7] = code;
    bytes[at + HEADER..at + HEADER + name.len()].copy_from_slice(name);
}

/// Makes the entry at `at` point to another inode.
pub(crate) fn set(bytes: &mut [u8], at: usize, inode: InodeNumber, code: u8) {
    put_le32(bytes, at, inode.0);
    bytes[at + 7] = code;
}

/// Removes the entry at `at`: the one before it takes its room.
pub(crate) fn remove(bytes: &mut [u8], at: usize) -> Result<()> {
    let mut before = None;
    for slot in (Slots { bytes, at: 0 }) {
        let (here, length) = slot?;
        if here == at {
            match before {
                Some((previous, reach)) => put_le16(bytes, previous, (reach + length) as u16),
                None => put_le32(bytes, at, 0),
            }
            return Ok(());
        }
        before = Some((here + 4, length));
    }
    Err(Error::Corrupt("directory entry"))
}

/// Makes a block of one unused entry.
pub(crate) fn clear(bytes: &mut [u8]) {
    let length = bytes.len();
    bytes.fill(0);
    put_le16(bytes, 4, length as u16);
}

/// Makes the first block of a new directory; `code` is the type byte of a directory.
pub(crate) fn start(bytes: &mut [u8], own: InodeNumber, parent: InodeNumber, code: u8) {
    let length = bytes.len();
    put_entry(bytes, 0, 12, b".", own, code);
    put_entry(bytes, 12, length - 12, b"..", parent, code);
}

/// Where the entry `..` lies in the first block.
pub(crate) const PARENT_AT: usize = 12;

/// The inode of `..` in the first block of a directory.
pub(crate) fn parent(bytes: &[u8]) -> Result<InodeNumber> {
    let dot = le16(bytes, 4) == 12 && bytes[6] == 1 && bytes[8] == b'.';
    let dot_dot = bytes[PARENT_AT + 6] == 2 && bytes[PARENT_AT + 8..PARENT_AT + 10] == *b"..";
    if dot && dot_dot {
        Ok(InodeNumber(le32(bytes, PARENT_AT)))
    } else {
        Err(Error::Corrupt("directory without . and .."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_gives_back_what_was_put_in() {
        let mut bytes = [0; 1012];
        clear(&mut bytes);
        let names: alloc::vec::Vec<[u8; 20]> = (0..36).map(|n| [b'a' + n; 20]).collect();
        let mut count = 0;
        for (n, name) in names.iter().enumerate() {
            count += usize::from(insert(&mut bytes, name, InodeNumber(n as u32 + 1), 1).unwrap());
        }
        assert_eq!(count, 36);
        assert!(!insert(&mut bytes, b"x", InodeNumber(9), 1).unwrap());
        for n in [0, 3, 4, 35] {
            let at = find(&bytes, &names[n]).unwrap().unwrap().at;
            remove(&mut bytes, at).unwrap();
        }
        assert!(find(&bytes, &names[3]).unwrap().is_none());
        assert_eq!(entries(&bytes).count(), 32);
        assert!(insert(&mut bytes, &[b'z'; 48], InodeNumber(9), 5).unwrap());
    }

    #[test]
    fn damaged_entries_are_errors() {
        for (at, value) in [(4, 0), (4, 7), (4, 0xff), (6, 0xff)] {
            let mut bytes = [0; 64];
            clear(&mut bytes);
            put_le32(&mut bytes, 0, 1);
            bytes[at] = value;
            assert!(find(&bytes, b"x").is_err(), "{at} {value}");
        }
    }
}
