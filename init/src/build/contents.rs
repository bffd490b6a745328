//! What Frames hold: init maps one in its own address space for as long as it fills or clears it.

use abi::object::PAGE_SIZE;
use abi::{CPtr, MapFlags};
use rt::memory;

use crate::build::error::BuildError;
use crate::machine::FILL;

/// Writes `data` into `frame`, from byte `offset` on.
pub fn fill(frame: CPtr, offset: u64, data: &[u8]) -> Result<(), BuildError> {
    let pages = (offset + data.len() as u64).div_ceil(PAGE_SIZE);
    memory::map(frame, FILL, 0, pages, MapFlags::WRITE)?;
    // SAFETY: just mapped there, writable, with room for `offset` and `data`; nothing else of init's lies there
    // and no component that could write to the Frame runs yet.
    let place = unsafe { core::slice::from_raw_parts_mut((FILL + offset) as *mut u8, data.len()) };
    place.copy_from_slice(data);
    Ok(memory::unmap(FILL, pages)?)
}

/// Pages of a Frame that are cleared at a time.
const CLEARED: u64 = 512;

/// Clears a Frame of 2^`bits` bytes.
pub fn clear(frame: CPtr, bits: u32) -> Result<(), BuildError> {
    let pages = (1u64 << bits) / PAGE_SIZE;
    for first in (0..pages).step_by(CLEARED as usize) {
        let count = (pages - first).min(CLEARED);
        memory::map(frame, FILL, first, count, MapFlags::WRITE)?;
        // SAFETY: just mapped there, writable, so many pages; nothing else of init's lies there, and the component that
        // could write to the Frame is dead.
        let place = unsafe { core::slice::from_raw_parts_mut(FILL as *mut u8, (count * PAGE_SIZE) as usize) };
        place.fill(0);
        memory::unmap(FILL, count)?;
    }
    Ok(())
}
