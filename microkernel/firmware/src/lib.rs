//! What the firmware tells the kernel, decoded: the PVH start information, the memory map, ACPI's tables.
//!
//! Pure functions over [`Physical`], a checked view of physical memory. Nothing here trusts what it reads:
//! garbled tables give less information, never a crash, and never an endless loop.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects))]

pub mod acpi;
pub mod clock;
pub mod cpio;
pub mod pvh;
pub mod region;
pub mod vtd;

pub use region::{Region, Regions};

/// Physical memory, as far as it can be read.
pub trait Physical {
    /// The `size` bytes at physical address `at`, or `None` where they are not all memory.
    fn bytes(&self, at: u64, size: usize) -> Option<&[u8]>;
}

/// The `N` bytes from `offset` on.
fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

fn byte_at(bytes: &[u8], offset: usize) -> Option<u8> {
    bytes.get(offset).copied()
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    array(bytes, offset).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    array(bytes, offset).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    array(bytes, offset).map(u64::from_le_bytes)
}

#[cfg(test)]
#[path = "../tests/fake.rs"]
pub(crate) mod fake;
