//! What the file system runs on: a block device, and the block cache that its caller owns.

use crate::buffer::Buffer;
use crate::error::IoError;

/// A disk: bytes at offsets, and a flush after which everything written before survives a power cut.
///
/// Between flushes writes may reach the medium in any order, and a sector is the unit that is written whole.
pub trait BlockDevice {
    /// The size in bytes.
    fn size(&self) -> u64;

    /// Fills `out` from byte `offset` on.
    ///
    /// # Errors
    /// [`IoError::Pending`] when a read was started and the caller should come back.
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), IoError>;

    /// Writes `data` at byte `offset`.
    ///
    /// # Errors
    /// [`IoError::Failed`] when the device refuses.
    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError>;

    /// Makes all earlier writes durable before any later one.
    ///
    /// # Errors
    /// [`IoError::Failed`] when the device refuses, or an earlier write failed.
    fn flush(&mut self) -> Result<(), IoError>;
}

/// The block cache of the caller: the only way in which the file system sees its device.
///
/// File data goes in by [`write`](BlockCache::write) and may be written out whenever the cache likes. Metadata goes in
/// only by [`submit`](BlockCache::submit), in the order in which it must reach the disk, with
/// [`barrier`](BlockCache::barrier) between what must not be mixed. Reads may answer [`IoError::Pending`]; the file
/// system then undoes the operation, and the caller repeats it when the block has come. Writes and barriers may
/// complete later, as long as their order is kept; a failure is reported by the next barrier.
pub trait BlockCache {
    /// Fills `out` from byte `offset` of the device on, past the cache. Used for the superblock at mount, before the
    /// size of blocks is known.
    ///
    /// # Errors
    /// [`IoError::Pending`] or [`IoError::Failed`].
    fn read_bytes(&self, offset: u64, out: &mut [u8]) -> Result<(), IoError>;

    /// Chooses the unit of all block numbers that follow, in bytes (a power of two from 1,024 to 65,536). What is cached
    /// is dropped, unless that is the unit already: a restarted server finds its cache as it was.
    ///
    /// # Errors
    /// [`IoError::Failed`] when the device cannot be used in such units.
    fn set_block_size(&mut self, bytes: usize) -> Result<(), IoError>;

    /// The number of whole blocks of the device.
    fn block_count(&self) -> u64;

    /// The content of `block`, from memory or from the device.
    ///
    /// # Errors
    /// [`IoError::Pending`] or [`IoError::Failed`].
    fn get(&self, block: u64) -> Result<Buffer, IoError>;

    /// Fills `out` (a whole number of blocks) with file data from block `start` on.
    ///
    /// # Errors
    /// [`IoError::Pending`] or [`IoError::Failed`].
    fn read(&self, start: u64, out: &mut [u8]) -> Result<(), IoError>;

    /// Takes whole blocks of file data, to be written out later.
    ///
    /// # Errors
    /// [`IoError::Failed`].
    fn write(&mut self, start: u64, data: &[u8]) -> Result<(), IoError>;

    /// Replaces `data.len()` bytes of one block of file data, from byte `offset` of it on.
    ///
    /// # Errors
    /// [`IoError::Pending`] when the rest of the block is not in memory, or [`IoError::Failed`].
    fn patch(&mut self, block: u64, offset: usize, data: &[u8]) -> Result<(), IoError>;

    /// Sends what [`write`](BlockCache::write) and [`patch`](BlockCache::patch) left in these blocks to the device.
    ///
    /// # Errors
    /// [`IoError::Failed`].
    fn write_back(&mut self, start: u64, count: u64) -> Result<(), IoError>;

    /// Forgets these blocks, written or not: the file system has freed them.
    fn discard(&mut self, start: u64, count: u64);

    /// Sends one whole block to the device, after everything sent before.
    ///
    /// # Errors
    /// [`IoError::Failed`].
    fn submit(&mut self, block: u64, content: &Buffer) -> Result<(), IoError>;

    /// Offers a block that is on the disk already, for `get` to find later; the cache may ignore it.
    fn offer(&mut self, block: u64, content: &Buffer);

    /// Makes everything sent so far durable before anything sent later.
    ///
    /// # Errors
    /// [`IoError::Failed`] when the device refuses, or anything sent before failed.
    fn barrier(&mut self) -> Result<(), IoError>;
}
