//! A disk in memory, and empty volumes on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ext4::{BlockDevice, FormatOptions, IoError, Time, WriteBackCache};

/// A disk in memory that counts flushes.
pub struct Memory {
    pub bytes: Vec<u8>,
    pub flushes: Arc<AtomicU64>,
}

impl Memory {
    pub fn new(bytes: Vec<u8>) -> Self {
        Memory { bytes, flushes: Arc::default() }
    }
}

impl BlockDevice for Memory {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), IoError> {
        let start = offset as usize;
        out.copy_from_slice(self.bytes.get(start..start + out.len()).ok_or(IoError::Failed)?);
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        let start = offset as usize;
        self.bytes.get_mut(start..start + data.len()).ok_or(IoError::Failed)?.copy_from_slice(data);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), IoError> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

pub fn now() -> Time {
    Time { seconds: 1_700_000_000, nanoseconds: 0 }
}

/// An empty volume of `size` bytes with room for so many inodes.
pub fn made_by_us(size: usize, inodes: u32) -> Vec<u8> {
    let mut cache = WriteBackCache::new(Memory::new(vec![0; size]), 64);
    let options = FormatOptions { inodes: Some(inodes), ..FormatOptions::new([3; 16], now()) };
    ext4::format(&mut cache, &options).unwrap();
    cache.into_device().bytes
}
