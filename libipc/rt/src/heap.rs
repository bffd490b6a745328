//! The heap: `talc` over memory that grows, Frame by Frame, out of the component's budget.
//!
//! An allocation that the budget does not allow fails as such: `try_reserve` and its like return an error; what
//! cannot return one ends as a crash. Memory once in the heap stays there.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;

use abi::object::PAGE_SIZE;
use proto::start::{HEAP, HEAP_END};
use talc::base::Talc;
use talc::base::binning::{Binning, DefaultBinning};
use talc::source::Source;
use talc::sync::TalcLock;

use crate::lock::Lock;
use crate::memory;

/// The least the heap grows by.
const STEP: u64 = 64 * 1024;
/// What an allocation costs beside its size and alignment, at most, with the heap's own beginning.
const OVERHEAD: u64 = PAGE_SIZE;

/// A global allocator.
pub struct Heap(TalcLock<Lock, Growing, DefaultBinning>);

/// The heap's extent: mapped from `HEAP` on, claimed by the allocator up to `claimed` (0: not yet).
#[derive(Debug)]
struct Growing {
    mapped: u64,
    claimed: usize,
}

impl Heap {
    /// A heap that has nothing yet.
    pub const fn new() -> Heap {
        Heap(TalcLock::new(Growing { mapped: HEAP, claimed: 0 }))
    }
}

impl Default for Heap {
    fn default() -> Heap {
        Heap::new()
    }
}

// SAFETY: everything is handed to `TalcLock`, which keeps the contract as its memory is its own.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps this contract.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps this contract.
        unsafe { self.0.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps this contract.
        unsafe { self.0.realloc(block, layout, size) }
    }
}

// SAFETY: `acquire` and what it calls (`memory`) never allocate from the heap.
unsafe impl Source for Growing {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let wanted = (layout.size() as u64).checked_add(layout.align() as u64 + OVERHEAD).ok_or(())?;
        let wanted = wanted.max(STEP).checked_next_multiple_of(PAGE_SIZE).ok_or(())?;
        let from = talc.source.mapped;
        if wanted > HEAP_END - from {
            return Err(());
        }
        let grown = memory::map_new(from, wanted / PAGE_SIZE) * PAGE_SIZE;
        if grown == 0 {
            return Err(());
        }
        let end = from + grown;
        talc.source.mapped = end;
        let claimed = match NonNull::new(talc.source.claimed as *mut u8) {
            // SAFETY: the range from `HEAP` to `end` has been mapped writable, is nobody else's, and stays mapped.
            None => unsafe { talc.claim(HEAP as *mut u8, (end - HEAP) as usize) },
            // SAFETY: the same; `claimed` is the end that the last claim or extension gave.
            Some(last) => Some(unsafe { talc.extend(last, end as *mut u8) }),
        };
        talc.source.claimed = claimed.map_or(0, |end| end.as_ptr() as usize);
        // Less than wanted may still do; asking again without gain ends above.
        Ok(())
    }
}
