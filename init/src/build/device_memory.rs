//! Device memory by address: Frames of registers are cut out of the Untypeds that the kernel hands over.
//!
//! An Untyped of device memory gives out what it covers from its beginning on. So one that holds what is wanted gives out
//! its lower half as another Untyped, and itself goes on as the upper one; and one of these again, until the half is what
//! is wanted. Each piece of device memory is given out once; so no two drivers have the same registers, whatever `pci`
//! says of them. A cut that fails leaves every piece where it can be had by the next.

extern crate alloc;

use alloc::vec::Vec;
use core::ops::Range;

use abi::{CPtr, Error, Kind};
use rt::alloc::AllocError;
use rt::memory;

use crate::machine::CNODE;

/// log2 of a page.
const PAGE_BITS: u32 = 12;

/// What cutting takes: slots, and the kernel.
pub trait Cutter {
    /// An empty slot.
    fn slot(&mut self) -> Result<CPtr, AllocError>;

    /// Gives back a slot that stayed empty.
    fn return_slot(&mut self, slot: CPtr);

    /// Makes an object of 2^`bits` bytes from the Untyped in `from`, in `slot`.
    fn retype(&mut self, from: CPtr, kind: Kind, bits: u32, slot: CPtr) -> Result<(), Error>;
}

/// Why there is no Frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutError {
    /// It is no device memory, or given out already.
    NotThere,
    /// Not 2^k pages at a multiple of their size.
    Odd,
    /// init is short of something.
    Alloc(AllocError),
}

impl core::fmt::Display for CutError {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        match self {
            CutError::NotThere => f.write_str("its registers are no device memory, or another's"),
            CutError::Odd => f.write_str("its registers are not whole pages at a multiple of their size"),
            CutError::Alloc(error) => error.fmt(f),
        }
    }
}

impl From<AllocError> for CutError {
    fn from(error: AllocError) -> CutError {
        CutError::Alloc(error)
    }
}

/// An Untyped of device memory: what it has left to give out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    slot: CPtr,
    physical: u64,
    bits: u32,
}

/// The device memory that is left.
#[derive(Debug, Default)]
pub struct DeviceMemory(Vec<Piece>);

impl DeviceMemory {
    /// Adds an Untyped of 2^`bits` bytes from `physical` on.
    pub fn add(&mut self, slot: CPtr, physical: u64, bits: u32) {
        self.0.push(Piece { slot, physical, bits });
    }

    /// Makes a Frame of the registers at `range`.
    pub fn cut(&mut self, cutter: &mut impl Cutter, range: &Range<u64>) -> Result<(CPtr, u32), CutError> {
        let size = range.end.saturating_sub(range.start);
        let bits = size.checked_ilog2().unwrap_or(0);
        if !size.is_power_of_two() || bits < PAGE_BITS || !range.start.is_multiple_of(size) {
            return Err(CutError::Odd);
        }
        let holds =
            |piece: &Piece| piece.bits >= bits && range.start >> piece.bits == piece.physical >> piece.bits;
        let mut at = self.0.iter().position(holds).ok_or(CutError::NotThere)?;
        while self.0[at].bits > bits {
            at = self.halve(cutter, at, range.start)?;
        }
        let frame = make(cutter, self.0[at].slot, Kind::Frame, bits)?;
        self.0.swap_remove(at);
        Ok((frame, bits))
    }

    /// Makes two halves of a piece: which one holds `address`.
    fn halve(&mut self, cutter: &mut impl Cutter, at: usize, address: u64) -> Result<usize, CutError> {
        let Piece { slot, physical, bits } = self.0[at];
        let bits = bits - 1;
        let low = make(cutter, slot, Kind::Untyped, bits)?;
        self.0[at] = Piece { slot: low, physical, bits };
        self.0.push(Piece { slot, physical: physical + (1 << bits), bits });
        Ok(if address >> bits & 1 == 0 { at } else { self.0.len() - 1 })
    }
}

fn make(cutter: &mut impl Cutter, from: CPtr, kind: Kind, bits: u32) -> Result<CPtr, CutError> {
    let slot = cutter.slot()?;
    match cutter.retype(from, kind, bits, slot) {
        Ok(()) => Ok(slot),
        Err(error) => {
            cutter.return_slot(slot);
            Err(AllocError::from(error).into())
        }
    }
}

/// Cuts with init's own slots.
#[derive(Debug)]
pub struct Slots;

impl Cutter for Slots {
    fn slot(&mut self) -> Result<CPtr, AllocError> {
        memory::with(|objects| objects.take_slot())
    }

    fn return_slot(&mut self, slot: CPtr) {
        give_back(slot);
    }

    fn retype(&mut self, from: CPtr, kind: Kind, bits: u32, slot: CPtr) -> Result<(), Error> {
        ipc::Untyped(from).retype(kind, u64::from(bits), CNODE.0, u64::from(slot.0), 1)
    }
}

/// Gives back an empty slot of init's.
pub fn give_back(slot: CPtr) {
    // It was taken from there.
    let _ = memory::with(|objects| objects.return_slot(slot));
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// A kernel's books: what is in which slot, and how far an Untyped is used up.
    #[derive(Default)]
    struct Books {
        next: u32,
        /// How many calls go well before one fails; 0: all do.
        fails_at: u32,
        calls: u32,
        returned: u32,
        objects: HashMap<u32, (Kind, u64, u32)>,
        used: HashMap<u32, u64>,
    }

    impl Books {
        fn fails(&mut self) -> bool {
            self.calls += 1;
            self.calls == self.fails_at
        }
    }

    impl Cutter for Books {
        fn slot(&mut self) -> Result<CPtr, AllocError> {
            if self.fails() {
                return Err(AllocError::NoMemory);
            }
            self.next += 1;
            Ok(CPtr(1000 + self.next))
        }

        fn return_slot(&mut self, slot: CPtr) {
            assert!(!self.objects.contains_key(&slot.0));
            self.returned += 1;
        }

        fn retype(&mut self, from: CPtr, kind: Kind, bits: u32, slot: CPtr) -> Result<(), Error> {
            if self.fails() {
                return Err(Error::OutOfMemory);
            }
            let (from_kind, start, from_bits) = self.objects[&from.0];
            assert_eq!(from_kind, Kind::Untyped);
            let used = self.used.entry(from.0).or_default();
            let at = used.next_multiple_of(1 << bits);
            if at + (1 << bits) > 1 << from_bits {
                return Err(Error::OutOfMemory);
            }
            *used = at + (1 << bits);
            assert!(self.objects.insert(slot.0, (kind, start + at, bits)).is_none());
            Ok(())
        }
    }

    fn memory() -> (DeviceMemory, Books) {
        let (mut memory, mut books) = (DeviceMemory::default(), Books::default());
        for (slot, physical, bits) in [(1, 0x8000_0000, 31), (2, 0x1_0000_0000, 20), (3, 0x40_0000_0000, 38)]
        {
            memory.add(CPtr(slot), physical, bits);
            books.objects.insert(slot, (Kind::Untyped, physical, bits));
        }
        (memory, books)
    }

    #[test]
    fn a_frame_lies_where_it_was_wanted_and_is_given_out_once() {
        let (mut memory, mut books) = memory();
        for range in [0xfebf_1000..0xfebf_2000, 0xfebf_0000..0xfebf_1000, 0xb000_0000..0xc000_0000] {
            let (frame, bits) = memory.cut(&mut books, &range).expect("there");
            assert_eq!(books.objects[&frame.0], (Kind::Frame, range.start, bits));
            assert_eq!(range.end - range.start, 1 << bits);
            assert_eq!(memory.cut(&mut books, &range), Err(CutError::NotThere));
        }
        // Around and within what is given out.
        assert_eq!(memory.cut(&mut books, &(0xfebe_0000..0xfec0_0000)), Err(CutError::NotThere));
        assert_eq!(memory.cut(&mut books, &(0xb000_0000..0xb000_1000)), Err(CutError::NotThere));
    }

    #[test]
    fn a_cut_that_fails_anywhere_is_made_by_the_next_attempt_and_loses_no_slot() {
        let range = 0xfebf_1000..0xfebf_2000;
        for fails_at in 1.. {
            let (mut memory, mut books) = memory();
            books.fails_at = fails_at;
            let first = memory.cut(&mut books, &range);
            if books.calls < fails_at {
                assert!(fails_at > 20, "so many calls can fail: {fails_at}");
                break;
            }
            assert!(matches!(first, Err(CutError::Alloc(_))), "{first:?} at {fails_at}");
            let (frame, bits) = memory.cut(&mut books, &range).expect("what was short is there");
            assert_eq!(books.objects[&frame.0], (Kind::Frame, range.start, bits), "at {fails_at}");
            let neighbour = 0xfebf_0000..0xfebf_1000;
            let (frame, _) = memory.cut(&mut books, &neighbour).expect("it is there as well");
            assert_eq!(books.objects[&frame.0].1, neighbour.start);
            // Three were there before.
            assert_eq!(books.next - books.returned, books.objects.len() as u32 - 3, "at {fails_at}");
        }
    }

    #[test]
    fn what_is_no_device_memory_is_not_to_be_had() {
        let (mut memory, mut books) = memory();
        for range in [0..0x1000, 0x7fff_f000..0x8000_0000, 0x1_0010_0000..0x1_0010_1000] {
            assert_eq!(memory.cut(&mut books, &range), Err(CutError::NotThere));
        }
        for range in [0x8000_0800..0x8000_1800, 0x8000_0000..0x8000_0800, 0x9000_1000..0x9000_3000] {
            assert_eq!(memory.cut(&mut books, &range), Err(CutError::Odd));
        }
    }

    proptest! {
        #[test]
        fn no_two_frames_overlap(wanted in proptest::collection::vec((0..0x2000u64, 12..16u32), 1..60)) {
            let (mut memory, mut books) = memory();
            let mut given: Vec<Range<u64>> = Vec::new();
            for (page, bits) in wanted {
                let start = (0xfe00_0000 + (page << 12)) >> bits << bits;
                let range = start..start + (1 << bits);
                let free = !given.iter().any(|other| other.start < range.end && range.start < other.end);
                match memory.cut(&mut books, &range) {
                    Ok((frame, _)) => {
                        prop_assert!(free);
                        prop_assert_eq!(books.objects[&frame.0], (Kind::Frame, range.start, bits));
                        given.push(range);
                    }
                    Err(error) => prop_assert!(!free, "{range:x?} {error:?}"),
                }
            }
        }
    }
}
