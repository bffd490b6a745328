//! A simulated disk that remembers every write and flush, so that a power cut can be played at any point.
#![allow(dead_code)]

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use ext4::{BlockDevice, Ext4, IoError, MountOptions, Time, WriteBackCache};

/// What reached the disk, in order.
#[derive(Debug, Clone)]
pub enum Event {
    /// Bytes at an offset.
    Write(u64, Arc<[u8]>),
    /// All writes before are durable.
    Flush,
}

/// A disk in memory. Clones share it.
#[derive(Debug, Clone)]
pub struct Disk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    log: Option<Vec<Event>>,
    flushes: u64,
    /// Every n-th read answers `Pending` first (0: never).
    pending_every: u64,
    reads: u64,
    /// Reads that were answered `Pending`: they are let through from then on.
    arrived: HashSet<u64>,
    /// Writes that still succeed.
    writes_left: Option<u64>,
}

pub type Volume = Ext4<WriteBackCache<Disk>>;

impl Disk {
    pub fn new(bytes: Vec<u8>) -> Self {
        Disk { state: Arc::new(Mutex::new(State { bytes, ..State::default() })) }
    }

    /// A copy of the content.
    pub fn bytes(&self) -> Vec<u8> {
        self.state.lock().unwrap().bytes.clone()
    }

    /// Begins to remember events.
    pub fn record(&self) {
        self.state.lock().unwrap().log = Some(Vec::new());
    }

    /// How many events were remembered.
    pub fn recorded(&self) -> usize {
        self.state.lock().unwrap().log.as_ref().map_or(0, Vec::len)
    }

    /// The events, which are no longer remembered.
    pub fn take_log(&self) -> Vec<Event> {
        self.state.lock().unwrap().log.take().unwrap_or_default()
    }

    pub fn flushes(&self) -> u64 {
        self.state.lock().unwrap().flushes
    }

    /// Makes every `n`-th read answer `Pending` once.
    pub fn delay_reads(&self, n: u64) {
        self.state.lock().unwrap().pending_every = n;
    }

    /// Lets `n` more writes succeed, or all.
    pub fn limit_writes(&self, n: Option<u64>) {
        self.state.lock().unwrap().writes_left = n;
    }

    /// Mounts it for writing with a cache of `blocks` blocks.
    pub fn mount(&self, blocks: usize) -> ext4::Result<Volume> {
        let now = Time { seconds: 1_700_000_000, nanoseconds: 5 };
        Ext4::mount(WriteBackCache::new(self.clone(), blocks), &MountOptions { read_only: false, now })
    }

    pub fn mount_read_only(&self) -> ext4::Result<Volume> {
        let options = MountOptions { read_only: true, ..MountOptions::default() };
        Ext4::mount(WriteBackCache::new(self.clone(), 1024), &options)
    }
}

impl BlockDevice for Disk {
    fn size(&self) -> u64 {
        self.state.lock().unwrap().bytes.len() as u64
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), IoError> {
        let mut state = self.state.lock().unwrap();
        if state.pending_every > 0 && !state.arrived.contains(&offset) {
            state.reads += 1;
            if state.reads.is_multiple_of(state.pending_every) {
                if state.arrived.len() > 1000 {
                    state.arrived.clear();
                }
                state.arrived.insert(offset);
                return Err(IoError::Pending);
            }
        }
        let start = usize::try_from(offset).map_err(|_| IoError::Failed)?;
        let end = start.checked_add(out.len()).ok_or(IoError::Failed)?;
        out.copy_from_slice(state.bytes.get(start..end).ok_or(IoError::Failed)?);
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        let mut state = self.state.lock().unwrap();
        if let Some(left) = &mut state.writes_left {
            *left = left.checked_sub(1).ok_or(IoError::Failed)?;
        }
        let start = usize::try_from(offset).map_err(|_| IoError::Failed)?;
        let end = start.checked_add(data.len()).ok_or(IoError::Failed)?;
        state.bytes.get_mut(start..end).ok_or(IoError::Failed)?.copy_from_slice(data);
        if let Some(log) = &mut state.log {
            log.push(Event::Write(offset, data.into()));
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), IoError> {
        let mut state = self.state.lock().unwrap();
        state.flushes += 1;
        if let Some(log) = &mut state.log {
            log.push(Event::Flush);
        }
        Ok(())
    }
}

/// A small deterministic random generator (xorshift64*).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit.max(1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Bytes that tell where they belong.
pub fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random::new(seed + 1);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Whether the long versions of the tests are asked for.
pub fn is_long() -> bool {
    std::env::var_os("SKINK_LONG").is_some_and(|value| value != "0")
}
