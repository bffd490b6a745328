//! A list of attributes as bytes: entries from the front, values from the end.
//!
//! Source: Documentation/filesystems/ext4/attributes.rst of Linux.

use alloc::vec::Vec;

use crate::bytes::{le16, le32, put_le16, put_le32};
use crate::error::{Error, Result};

pub(super) const MAGIC: u32 = 0xea02_0000;
/// The bytes before the first entry of a block.
pub(super) const BLOCK_HEADER: usize = 32;
const ENTRY: usize = 16;

/// One attribute; its name without the name space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attribute {
    pub(super) index: u8,
    pub(super) name: Vec<u8>,
    pub(super) value: Vec<u8>,
}

/// Where a list lies: decides where entries begin, and from where values are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Area {
    /// Behind the fields of an inode, without the magic number.
    Inode,
    /// In a whole block.
    Block,
}

impl Area {
    fn first_entry(self) -> usize {
        if self == Area::Block { BLOCK_HEADER } else { 0 }
    }
}

/// The bytes that these entries, their end mark and their values take.
pub(super) fn bytes_needed(attributes: &[Attribute]) -> usize {
    let entries: usize = attributes
        .iter()
        .map(|a| (ENTRY + a.name.len()).next_multiple_of(4) + a.value.len().next_multiple_of(4))
        .sum();
    entries + 4
}

/// Reads a list.
pub(super) fn parse(bytes: &[u8], area: Area) -> Result<Vec<Attribute>> {
    let corrupt = Error::Corrupt("extended attribute");
    let mut attributes = Vec::new();
    let mut at = area.first_entry();
    loop {
        if at + 4 > bytes.len() {
            return Err(corrupt);
        }
        if le32(bytes, at) == 0 {
            return Ok(attributes);
        }
        let entry = bytes.get(at..).filter(|entry| entry.len() >= ENTRY).ok_or(corrupt)?;
        let name = entry.get(ENTRY..ENTRY + usize::from(entry[0])).ok_or(corrupt)?;
        if le32(entry, 4) != 0 {
            return Err(Error::Unsupported("attribute values in inodes of their own"));
        }
        let (offset, size) = (usize::from(le16(entry, 2)), le32(entry, 8) as usize);
        let end = offset.checked_add(size).ok_or(corrupt)?;
        let value = if size == 0 { &[] } else { bytes.get(offset..end).ok_or(corrupt)? };
        attributes.push(Attribute { index: entry[1], name: name.into(), value: value.into() });
        at += (ENTRY + name.len()).next_multiple_of(4);
    }
}

/// Writes a list that fits into zeroed bytes (behind the header, in a block).
pub(super) fn encode(bytes: &mut [u8], area: Area, attributes: &[Attribute]) {
    let mut at = area.first_entry();
    let mut end = bytes.len();
    let mut all = 0_u32;
    for attribute in attributes {
        end -= attribute.value.len().next_multiple_of(4);
        bytes[end..end + attribute.value.len()].copy_from_slice(&attribute.value);
        let hash = entry_hash(&attribute.name, &bytes[end..end + attribute.value.len().next_multiple_of(4)]);
        all = all.rotate_left(16) ^ hash;
        let entry = &mut bytes[at..];
        entry[0] = attribute.name.len() as u8;
        entry[1] = attribute.index;
        put_le16(entry, 2, if attribute.value.is_empty() { 0 } else { end as u16 });
        put_le32(entry, 8, attribute.value.len() as u32);
        put_le32(entry, 12, hash);
        entry[ENTRY..ENTRY + attribute.name.len()].copy_from_slice(&attribute.name);
        at += (ENTRY + attribute.name.len()).next_multiple_of(4);
    }
    if area == Area::Block {
        put_le32(bytes, 0xc, all);
    }
}

/// The hash of a name and its value, padded to words.
fn entry_hash(name: &[u8], value: &[u8]) -> u32 {
    let named = name.iter().fold(0_u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
    value.chunks_exact(4).fold(named, |hash, word| hash.rotate_left(16) ^ le32(word, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_read_back_from_both_places() {
        let list: Vec<Attribute> = (0..5_u8)
            .map(|n| Attribute {
                index: 1,
                name: alloc::vec![b'a' + n; 3 + n as usize],
                value: alloc::vec![n; n as usize * 7],
            })
            .collect();
        for area in [Area::Inode, Area::Block] {
            let mut bytes = [0; 1024];
            encode(&mut bytes, area, &list);
            assert_eq!(parse(&bytes, area).unwrap(), list);
        }
    }

    #[test]
    fn a_list_without_end_or_with_a_value_outside_is_damage() {
        assert!(parse(&[1; 64], Area::Inode).is_err());
        let mut bytes = [0; 64];
        let one = [Attribute { index: 1, name: b"x".to_vec(), value: b"value".to_vec() }];
        encode(&mut bytes, Area::Inode, &one);
        put_le16(&mut bytes, 2, 62);
        assert!(parse(&bytes, Area::Inode).is_err());
    }
}
