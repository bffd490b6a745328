//! A block cache for callers without one of their own: bounded, write-back, second-chance replacement.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::HashMap;
use spin::Mutex;

use crate::buffer::{Block, Buffer, allocate};
use crate::device::{BlockCache, BlockDevice};
use crate::error::IoError;

/// Transfers of at least this many bytes go past the cache, straight between caller and device.
const BYPASS_BYTES: usize = 64 * 1024;

/// A cache of `limit` blocks over a device, twice as many while most are dirty.
#[derive(Debug)]
pub struct WriteBackCache<D> {
    device: D,
    block_size: usize,
    limit: usize,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    map: HashMap<u64, Slot>,
    clock: VecDeque<u64>,
}

#[derive(Debug)]
struct Slot {
    content: Buffer,
    dirty: bool,
    used: bool,
}

impl<D: BlockDevice> WriteBackCache<D> {
    /// A cache over `device` that holds at most `limit` blocks (at least 16).
    pub fn new(device: D, limit: usize) -> Self {
        WriteBackCache { device, block_size: 1024, limit: limit.max(16), slots: Mutex::default() }
    }

    /// The device; what is still to be written is lost unless a barrier came last.
    pub fn into_device(self) -> D {
        self.device
    }

    /// The device, to look at.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// The device, for tests that make it fail.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    fn offset(&self, block: u64) -> Result<u64, IoError> {
        block.checked_mul(self.block_size as u64).ok_or(IoError::Failed)
    }

    /// Makes room for one more if that is easy; a dirty block is never dropped here, so readers need no write access to the device.
    fn insert_clean(&self, slots: &mut Slots, block: u64, content: Buffer) {
        if slots.map.len() >= self.limit {
            for _ in 0..16 {
                let Some(victim) = slots.clock.pop_front() else { break };
                match slots.map.get_mut(&victim) {
                    Some(slot) if slot.used || slot.dirty => {
                        slot.used = false;
                        slots.clock.push_back(victim);
                    }
                    Some(_) => {
                        slots.map.remove(&victim);
                        break;
                    }
                    None => {}
                }
            }
            // Where all is dirty or in use the limit gives way: a reader that waits for several blocks must find the
            // first when the last has come.
            if slots.map.len() >= 2 * self.limit {
                return;
            }
        }
        if slots.map.insert(block, Slot { content, dirty: false, used: false }).is_none() {
            slots.clock.push_back(block);
        }
    }

    /// Writes out or drops blocks until there is room.
    fn make_room(&mut self) -> Result<(), IoError> {
        let slots = self.slots.get_mut();
        while slots.map.len() >= self.limit {
            let Some(victim) = slots.clock.pop_front() else { break };
            let Some(slot) = slots.map.get_mut(&victim) else { continue };
            if slot.used {
                slot.used = false;
                slots.clock.push_back(victim);
                continue;
            }
            if slot.dirty {
                self.device.write(victim * self.block_size as u64, slot.content.bytes())?;
            }
            slots.map.remove(&victim);
        }
        Ok(())
    }

    fn put_dirty(&mut self, block: u64, content: Buffer) -> Result<(), IoError> {
        if let Some(slot) = self.slots.get_mut().map.get_mut(&block) {
            *slot = Slot { content, dirty: true, used: true };
            return Ok(());
        }
        self.make_room()?;
        let slots = self.slots.get_mut();
        slots.map.insert(block, Slot { content, dirty: true, used: false });
        slots.clock.push_back(block);
        Ok(())
    }

    /// The cached copy of `block` to be changed, if nobody else holds it.
    fn own(&mut self, block: u64) -> Option<&mut Block> {
        let slot = self.slots.get_mut().map.get_mut(&block)?;
        let content = Arc::get_mut(&mut slot.content)?;
        slot.dirty = true;
        slot.used = true;
        Some(content)
    }

    fn cached(&self, block: u64) -> Option<Buffer> {
        let mut slots = self.slots.lock();
        let slot = slots.map.get_mut(&block)?;
        slot.used = true;
        Some(slot.content.clone())
    }

    /// Reads blocks that are not cached; small runs are kept.
    fn read_run(&self, start: u64, out: &mut [u8]) -> Result<(), IoError> {
        self.device.read(self.offset(start)?, out)?;
        if out.len() < BYPASS_BYTES {
            let mut slots = self.slots.lock();
            for (block, bytes) in (start..).zip(out.chunks_exact(self.block_size)) {
                self.insert_clean(&mut slots, block, Arc::new(Block::new(bytes.into())));
            }
        }
        Ok(())
    }
}

impl<D: BlockDevice> BlockCache for WriteBackCache<D> {
    fn read_bytes(&self, offset: u64, out: &mut [u8]) -> Result<(), IoError> {
        self.device.read(offset, out)
    }

    fn set_block_size(&mut self, bytes: usize) -> Result<(), IoError> {
        if bytes != self.block_size {
            self.block_size = bytes;
            *self.slots.get_mut() = Slots::default();
        }
        Ok(())
    }

    fn block_count(&self) -> u64 {
        self.device.size() / self.block_size as u64
    }

    fn get(&self, block: u64) -> Result<Buffer, IoError> {
        if let Some(content) = self.cached(block) {
            return Ok(content);
        }
        let mut content = allocate(self.block_size).map_err(|_| IoError::Failed)?;
        let bytes = Arc::get_mut(&mut content).ok_or(IoError::Failed)?.bytes_mut();
        self.device.read(self.offset(block)?, bytes)?;
        self.insert_clean(&mut self.slots.lock(), block, content.clone());
        Ok(content)
    }

    fn read(&self, start: u64, out: &mut [u8]) -> Result<(), IoError> {
        let size = self.block_size;
        let count = out.len() / size;
        let mut from = 0;
        for n in 0..count {
            if let Some(content) = self.cached(start + n as u64) {
                if from < n {
                    self.read_run(start + from as u64, &mut out[from * size..n * size])?;
                }
                out[n * size..(n + 1) * size].copy_from_slice(content.bytes());
                from = n + 1;
            }
        }
        if from < count {
            self.read_run(start + from as u64, &mut out[from * size..])?;
        }
        Ok(())
    }

    fn write(&mut self, start: u64, data: &[u8]) -> Result<(), IoError> {
        if data.len() >= BYPASS_BYTES {
            self.discard(start, (data.len() / self.block_size) as u64);
            return self.device.write(self.offset(start)?, data);
        }
        for (block, bytes) in (start..).zip(data.chunks_exact(self.block_size)) {
            match self.own(block) {
                Some(content) => content.bytes_mut().copy_from_slice(bytes),
                None => self.put_dirty(block, Arc::new(Block::new(bytes.into())))?,
            }
        }
        Ok(())
    }

    fn patch(&mut self, block: u64, offset: usize, data: &[u8]) -> Result<(), IoError> {
        let end =
            offset.checked_add(data.len()).filter(|end| *end <= self.block_size).ok_or(IoError::Failed)?;
        if let Some(content) = self.own(block) {
            content.bytes_mut()[offset..end].copy_from_slice(data);
            return Ok(());
        }
        let old = self.get(block)?;
        let mut bytes: alloc::boxed::Box<[u8]> = old.bytes().into();
        bytes[offset..end].copy_from_slice(data);
        self.put_dirty(block, Arc::new(Block::new(bytes)))
    }

    fn write_back(&mut self, start: u64, count: u64) -> Result<(), IoError> {
        let slots = self.slots.get_mut();
        let mut write = |block: u64, slot: &mut Slot| {
            if slot.dirty {
                self.device.write(block * self.block_size as u64, slot.content.bytes())?;
                slot.dirty = false;
            }
            Ok(())
        };
        if count > slots.map.len() as u64 {
            let mut blocks: Vec<u64> =
                slots.map.keys().copied().filter(|b| b.wrapping_sub(start) < count).collect();
            blocks.sort_unstable();
            return blocks
                .into_iter()
                .try_for_each(|b| slots.map.get_mut(&b).map_or(Ok(()), |slot| write(b, slot)));
        }
        (start..start.saturating_add(count))
            .try_for_each(|b| slots.map.get_mut(&b).map_or(Ok(()), |slot| write(b, slot)))
    }

    fn discard(&mut self, start: u64, count: u64) {
        let slots = self.slots.get_mut();
        if count > slots.map.len() as u64 {
            slots.map.retain(|block, _| block.wrapping_sub(start) >= count);
        } else {
            for block in start..start.saturating_add(count) {
                slots.map.remove(&block);
            }
        }
        // Dropped blocks leave their numbers in the clock; without this they would add up.
        if slots.clock.len() > slots.map.len() * 2 + 1024 {
            let Slots { map, clock } = slots;
            clock.clear();
            clock.extend(map.keys());
        }
    }

    fn submit(&mut self, block: u64, content: &Buffer) -> Result<(), IoError> {
        self.device.write(self.offset(block)?, content.bytes())?;
        let slots = self.slots.get_mut();
        if let Some(slot) = slots.map.get_mut(&block) {
            *slot = Slot { content: content.clone(), dirty: false, used: true };
        }
        Ok(())
    }

    fn offer(&mut self, block: u64, content: &Buffer) {
        self.insert_clean(&mut self.slots.lock(), block, content.clone());
    }

    fn barrier(&mut self) -> Result<(), IoError> {
        self.device.flush()
    }
}
