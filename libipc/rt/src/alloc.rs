//! Objects out of a component's own memory: which slots are free, which memory is, and how both come back.
//!
//! Memory is a buddy system of Untypeds. A block is an Untyped in a slot; a block too large is split into two
//! halves made from it, and when both halves are free again a revoke of the block makes it whole. An object
//! fills a block of exactly its size. So everything an object took, slots included, comes back when it is
//! destroyed, in whatever order that happens.
//!
//! What is known of a slot is its [`Record`]. The records lie in memory that the owner brings, so that the
//! allocator of objects needs none. It relies on nobody else to fill or empty the slots it was given.

use abi::object::object_bits;
use abi::{CPtr, Error, Kind};

#[cfg(test)]
mod tests;

/// What the allocator asks of the kernel.
pub trait Kernel {
    /// Makes one object of `kind` and `bits` from the Untyped in slot `untyped`, into `slot`.
    fn retype(&mut self, untyped: u32, kind: Kind, bits: u32, slot: u32) -> Result<(), Error>;

    /// Destroys everything made from the Untyped in slot `untyped`, which is free memory again then.
    fn revoke(&mut self, untyped: u32) -> Result<(), Error>;
}

/// Why there is no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocError {
    /// The memory that is left has no block of that size.
    NoMemory,
    /// No slot is left.
    NoSlots,
    /// There is no object of that kind and size.
    NoSuchObject,
    /// The slot holds nothing that was allocated here.
    NotAllocated,
    /// The kernel refused.
    Kernel(Error),
}

impl From<Error> for AllocError {
    fn from(error: Error) -> AllocError {
        AllocError::Kernel(error)
    }
}

impl core::fmt::Display for AllocError {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        f.write_str(match self {
            AllocError::NoMemory => "the memory budget is used up",
            AllocError::NoSlots => "no capability slot is left",
            AllocError::NoSuchObject => "no object has that kind and size",
            AllocError::NotAllocated => "it was not allocated here",
            AllocError::Kernel(error) => error.meaning().trim_start(),
        })
    }
}

/// What a slot is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum State {
    /// Not the allocator's.
    Foreign = 0,
    /// Empty; `next` links the empty slots.
    Empty,
    /// Given out as a slot.
    Taken,
    /// A block with nothing in it; `next` and `previous` link the free blocks of its size.
    Free,
    /// A block in two halves: `next` and `previous`.
    Split,
    /// A block given out, or filled by an object in slot `next`.
    Used,
    /// An object, filling block `parent`.
    Object,
}

/// What the allocator knows of one slot. All zero bytes are a record.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Record {
    next: u32,
    previous: u32,
    parent: u32,
    bits: u8,
    state: State,
}

impl Record {
    /// Of a slot that is not the allocator's.
    pub const FOREIGN: Record = Record { next: 0, previous: 0, parent: 0, bits: 0, state: State::Foreign };
}

/// Sizes of blocks: 2^0 to 2^47 bytes.
const SIZES: usize = 48;

/// A component's slots and memory.
#[derive(Debug)]
pub struct Objects<'r, K> {
    kernel: K,
    records: &'r mut [Record],
    empty: u32,
    free: [u32; SIZES],
    empty_slots: u64,
    free_bytes: u64,
}

impl<'r, K: Kernel> Objects<'r, K> {
    /// An allocator without slots and memory. `records` has one record for each slot of the CSpace, all
    /// [`Record::FOREIGN`].
    pub const fn new(kernel: K, records: &'r mut [Record]) -> Self {
        Objects { kernel, records, empty: 0, free: [0; SIZES], empty_slots: 0, free_bytes: 0 }
    }

    /// Gives it the empty slots from `first` to the end of the CSpace.
    pub fn add_slots(&mut self, first: u32) {
        for slot in (first.max(abi::object::FIRST_SLOT)..self.records.len() as u32).rev() {
            if self.record(slot).state == State::Foreign {
                self.put_empty(slot);
            }
        }
    }

    /// Gives it the Untyped of 2^`bits` bytes in `slot`, of which nothing has been made.
    pub fn add_memory(&mut self, slot: u32, bits: u32) -> Result<(), AllocError> {
        let known = self.records.get(slot as usize).ok_or(AllocError::NotAllocated)?;
        if known.state != State::Foreign || bits as usize >= SIZES {
            return Err(AllocError::NotAllocated);
        }
        self.records[slot as usize] = Record { bits: bits as u8, ..Record::FOREIGN };
        self.put_free(slot);
        Ok(())
    }

    /// Bytes in free blocks.
    pub fn free_bytes(&self) -> u64 {
        self.free_bytes
    }

    /// Empty slots.
    pub fn free_slots(&self) -> u64 {
        self.empty_slots
    }

    /// log2 of the largest free block.
    pub fn largest(&self) -> Option<u32> {
        (0..SIZES).rev().find(|&bits| self.free[bits] != 0).map(|bits| bits as u32)
    }

    /// Takes an empty slot.
    pub fn take_slot(&mut self) -> Result<CPtr, AllocError> {
        self.take_empty(State::Taken).map(CPtr)
    }

    /// Gives a slot back that [`Self::take_slot`] gave and that is empty again.
    pub fn return_slot(&mut self, slot: CPtr) -> Result<(), AllocError> {
        self.expect(slot.0, State::Taken)?;
        self.put_empty(slot.0);
        Ok(())
    }

    /// Takes an Untyped of 2^`bits` bytes.
    pub fn take_memory(&mut self, bits: u32) -> Result<CPtr, AllocError> {
        object_bits(Kind::Untyped, bits).ok_or(AllocError::NoSuchObject)?;
        self.take_block(bits).map(CPtr)
    }

    /// Gives an Untyped back, and destroys everything made from it.
    pub fn return_memory(&mut self, untyped: CPtr) -> Result<(), AllocError> {
        self.expect(untyped.0, State::Used)?;
        if self.record(untyped.0).next != 0 {
            return Err(AllocError::NotAllocated);
        }
        self.put_block(untyped.0)
    }

    /// Makes an object.
    pub fn make(&mut self, kind: Kind, bits: u32) -> Result<CPtr, AllocError> {
        let size = object_bits(kind, bits).ok_or(AllocError::NoSuchObject)?;
        let block = self.take_block(size)?;
        match self.fill(block, kind, bits) {
            Ok(slot) => Ok(CPtr(slot)),
            Err(error) => {
                self.put_block(block)?;
                Err(error)
            }
        }
    }

    /// Destroys an object that [`Self::make`] made, and everything derived from it.
    pub fn destroy(&mut self, object: CPtr) -> Result<(), AllocError> {
        self.expect(object.0, State::Object)?;
        let block = self.record(object.0).parent;
        self.put_block(block)?;
        self.put_empty(object.0);
        Ok(())
    }

    fn fill(&mut self, block: u32, kind: Kind, bits: u32) -> Result<u32, AllocError> {
        let slot = self.take_empty(State::Object)?;
        if let Err(error) = self.kernel.retype(block, kind, bits, slot) {
            self.put_empty(slot);
            return Err(error.into());
        }
        self.record_mut(slot).parent = block;
        self.record_mut(block).next = slot;
        Ok(slot)
    }

    fn take_block(&mut self, bits: u32) -> Result<u32, AllocError> {
        let found = (bits as usize..SIZES).find(|&size| self.free[size] != 0);
        let mut block = self.free[found.ok_or(AllocError::NoMemory)?];
        self.take_free(block);
        while u32::from(self.record(block).bits) > bits {
            match self.split(block) {
                Ok((low, high)) => {
                    self.put_free(high);
                    block = low;
                }
                Err(error) => {
                    self.put_block(block)?;
                    return Err(error);
                }
            }
        }
        *self.record_mut(block) = Record { state: State::Used, next: 0, previous: 0, ..*self.record(block) };
        Ok(block)
    }

    /// Makes two halves of a block that is in no list.
    fn split(&mut self, block: u32) -> Result<(u32, u32), AllocError> {
        let low = self.half(block)?;
        let high = match self.half(block) {
            Ok(high) => high,
            Err(error) => {
                self.kernel.revoke(block)?;
                self.put_empty(low);
                return Err(error);
            }
        };
        *self.record_mut(block) =
            Record { state: State::Split, next: low, previous: high, ..*self.record(block) };
        Ok((low, high))
    }

    fn half(&mut self, block: u32) -> Result<u32, AllocError> {
        let bits = self.record(block).bits - 1;
        let slot = self.take_empty(State::Used)?;
        if let Err(error) = self.kernel.retype(block, Kind::Untyped, u32::from(bits), slot) {
            self.put_empty(slot);
            return Err(error.into());
        }
        *self.record_mut(slot) = Record { bits, parent: block, state: State::Used, next: 0, previous: 0 };
        Ok(slot)
    }

    /// Empties a block that is in no list, joins it with its other half as long as that is free, and lists it.
    fn put_block(&mut self, mut block: u32) -> Result<(), AllocError> {
        self.kernel.revoke(block)?;
        loop {
            let parent = self.record(block).parent;
            let Record { next: low, previous: high, .. } = *self.record(parent);
            let other = if low == block { high } else { low };
            if parent == 0 || self.record(other).state != State::Free {
                self.put_free(block);
                return Ok(());
            }
            if let Err(error) = self.kernel.revoke(parent) {
                self.put_free(block);
                return Err(error.into());
            }
            self.take_free(other);
            self.put_empty(low);
            self.put_empty(high);
            block = parent;
        }
    }

    fn put_free(&mut self, block: u32) {
        let bits = self.record(block).bits;
        let head = core::mem::replace(&mut self.free[usize::from(bits)], block);
        let parent = self.record(block).parent;
        *self.record_mut(block) = Record { next: head, previous: 0, parent, bits, state: State::Free };
        if head != 0 {
            self.record_mut(head).previous = block;
        }
        self.free_bytes += 1 << bits;
    }

    fn take_free(&mut self, block: u32) {
        let Record { next, previous, bits, .. } = *self.record(block);
        match previous {
            0 => self.free[usize::from(bits)] = next,
            _ => self.record_mut(previous).next = next,
        }
        if next != 0 {
            self.record_mut(next).previous = previous;
        }
        self.record_mut(block).state = State::Used;
        self.free_bytes -= 1 << bits;
    }

    fn put_empty(&mut self, slot: u32) {
        let next = core::mem::replace(&mut self.empty, slot);
        *self.record_mut(slot) = Record { next, state: State::Empty, ..Record::FOREIGN };
        self.empty_slots += 1;
    }

    fn take_empty(&mut self, state: State) -> Result<u32, AllocError> {
        let slot = self.empty;
        if slot == 0 {
            return Err(AllocError::NoSlots);
        }
        self.empty = self.record(slot).next;
        self.empty_slots -= 1;
        *self.record_mut(slot) = Record { state, ..Record::FOREIGN };
        Ok(slot)
    }

    fn expect(&self, slot: u32, state: State) -> Result<(), AllocError> {
        match self.records.get(slot as usize) {
            Some(record) if record.state == state => Ok(()),
            _ => Err(AllocError::NotAllocated),
        }
    }

    // Slots in records are the allocator's own, so these stay in range.
    fn record(&self, slot: u32) -> &Record {
        &self.records[slot as usize]
    }

    fn record_mut(&mut self, slot: u32) -> &mut Record {
        &mut self.records[slot as usize]
    }
}
