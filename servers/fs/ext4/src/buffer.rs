//! Blocks in memory: shared, immutable while shared, with a mark for what was already verified.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// One block's content. Shared as [`Buffer`]; only a transaction's private copy is ever written.
#[derive(Debug)]
pub struct Block {
    bytes: Box<[u8]>,
    /// Which parts' checksums were found right: bit n for the n-th inode of an inode table block, bit 0 for others.
    verified: AtomicU64,
}

/// A shared block. Cloning costs one atomic increment; a commit in progress keeps its copy by holding a clone.
pub type Buffer = Arc<Block>;

impl Block {
    /// A block with this content, not verified yet.
    pub fn new(bytes: Box<[u8]>) -> Self {
        Block { bytes, verified: AtomicU64::new(0) }
    }

    /// The content.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The content, to be changed by the one who holds it alone.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    pub(crate) fn is_verified(&self, part: u32) -> bool {
        self.verified.load(Ordering::Relaxed) & (1 << (part & 63)) != 0
    }

    pub(crate) fn set_verified(&self, part: u32) {
        self.verified.fetch_or(1 << (part & 63), Ordering::Relaxed);
    }

    pub(crate) fn copy_from(&mut self, other: &Block) {
        self.bytes.copy_from_slice(&other.bytes);
        *self.verified.get_mut() = other.verified.load(Ordering::Relaxed);
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.fill(0);
        *self.verified.get_mut() = !0;
    }
}

/// A zeroed buffer of `size` bytes.
///
/// # Errors
/// [`Error::NoMemory`] when the content cannot be allocated.
pub fn allocate(size: usize) -> Result<Buffer> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| Error::NoMemory)?;
    bytes.resize(size, 0);
    Ok(Arc::new(Block::new(bytes.into_boxed_slice())))
}

/// Buffers set aside before an operation begins, so that it cannot run out of memory half-way.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    free: Vec<Buffer>,
}

/// More buffers than this are given back to the allocator.
const POOL_KEEP: usize = 256;

impl Pool {
    /// Makes sure that `count` buffers of `size` bytes are at hand.
    pub(crate) fn reserve(&mut self, count: usize, size: usize) -> Result<()> {
        let missing = count.saturating_sub(self.free.len());
        self.free.try_reserve(missing).map_err(|_| Error::NoMemory)?;
        for _ in 0..missing {
            self.free.push(allocate(size)?);
        }
        Ok(())
    }

    pub(crate) fn take(&mut self, size: usize) -> Result<Buffer> {
        match self.free.pop() {
            Some(buffer) => Ok(buffer),
            None => allocate(size),
        }
    }

    /// Takes a buffer back if nobody else holds it.
    pub(crate) fn give(&mut self, mut buffer: Buffer) {
        if self.free.len() < POOL_KEEP && Arc::get_mut(&mut buffer).is_some() {
            self.free.push(buffer);
        }
    }
}
