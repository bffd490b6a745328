//! Memory that driver and device share.
//!
//! It is seen as atomics of the widths that the standard's structures have: the device may change it at any time, and
//! no Rust reference to plain data ever points there.

use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

/// Memory, and where the device finds it.
#[derive(Clone, Copy, Debug)]
pub struct DmaMemory<'m> {
    words: &'m [AtomicU64],
    address: u64,
}

/// There is no memory left for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// Gives memory that the device can reach.
pub trait Dma<'m> {
    /// New memory, cleared, contiguous for the device and aligned to pages, of at least so many bytes. It is the
    /// driver's for the rest of its life.
    fn allocate(&mut self, bytes: usize) -> Result<DmaMemory<'m>, NoMemory>;
}

macro_rules! views {
    ($($(#[doc = $doc:literal])* $name:ident: $atomic:ty;)*) => { $(
        $(#[doc = $doc])*
        pub fn $name(&self) -> &'m [$atomic] {
            let length = size_of_val(self.words) / size_of::<$atomic>();
            // SAFETY: the same bytes, which are as well aligned for narrower atomics; any bits are valid, and all
            // changes from anywhere are allowed. Each structure is accessed by one width only.
            unsafe { core::slice::from_raw_parts(self.words.as_ptr().cast(), length) }
        }
    )* };
}

impl<'m> DmaMemory<'m> {
    /// The memory `words`, which is at `address` for the device.
    pub fn new(words: &'m [AtomicU64], address: u64) -> DmaMemory<'m> {
        DmaMemory { words, address }
    }

    /// Where the device finds it.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        size_of_val(self.words)
    }

    /// The first `bytes`, a multiple of 8, and the rest. `None` if there are not as many.
    pub fn split_at(&self, bytes: usize) -> Option<(DmaMemory<'m>, DmaMemory<'m>)> {
        let (first, rest) = self.words.split_at_checked(bytes / 8)?;
        Some((DmaMemory::new(first, self.address), DmaMemory::new(rest, self.address + bytes as u64)))
    }

    /// As words.
    pub fn words(&self) -> &'m [AtomicU64] {
        self.words
    }

    views! {
        /// As units of 4 bytes.
        u32s: AtomicU32;
        /// As units of 2 bytes.
        u16s: AtomicU16;
        /// As bytes.
        u8s: AtomicU8;
    }
}
