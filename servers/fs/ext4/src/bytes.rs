//! Little-endian fields at fixed offsets of on-disk structures.
//!
//! Offsets must lie inside the slice: callers use constants within structures whose length was checked, and check
//! every offset that comes from the disk before they use it.

pub(crate) fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn put_le16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_le32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_be32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// The low half of a value that the format splits in two.
pub(crate) fn low16(value: u32) -> u16 {
    (value & 0xffff) as u16
}

/// The high half of a value that the format splits in two.
pub(crate) fn high16(value: u32) -> u16 {
    (value >> 16) as u16
}

/// The low half of a block number.
pub(crate) fn low32(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

/// The high half of a block number.
pub(crate) fn high32(value: u64) -> u32 {
    (value >> 32) as u32
}
