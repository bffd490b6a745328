//! How a component's transient memory is divided.
//!
//! Everything a component consists of is made from one Untyped, largest objects first so that no room is lost
//! between them; what remains becomes Untypeds of its own, each as large as its place allows.

extern crate alloc;

use alloc::vec::Vec;

use abi::Kind;
use abi::object::{PAGE_SIZE, object_bits};
use proto::start::{MAX_UNTYPEDS, records_bits};

use crate::build::elf::{Program, Segment};

/// What an object is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The component's CSpace.
    CNode,
    /// Its address space.
    VSpace,
    /// Its main thread.
    Tcb,
    /// That thread's processor time.
    SchedContext,
    /// What it waits on for init.
    Ready,
    /// The pages of start block and IPC buffer.
    Pages,
    /// Memory for its allocator's records.
    Records,
    /// Part of its stack, from this page on.
    Stack(u64),
    /// Part of a segment of its program (index, first page of the part).
    Segment(usize, u64),
}

/// An object to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What for.
    pub role: Role,
    /// Its kind.
    pub kind: Kind,
    /// `bits` of its retype.
    pub bits: u32,
}

impl Piece {
    fn size_bits(&self) -> u32 {
        // The planner makes no kind without a size.
        object_bits(self.kind, self.bits).unwrap_or(0)
    }
}

/// What to make, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The objects.
    pub pieces: Vec<Piece>,
    /// log2 of the sizes of the component's own Untypeds, after them.
    pub untypeds: heapless::Vec<u32, MAX_UNTYPEDS>,
}

/// The memory does not suffice: so many bytes are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall(pub u64);

/// log2 of the page size.
const PAGE_BITS: u32 = PAGE_SIZE.ilog2();
/// log2 of a table of an address space together with its records.
const TABLE_BITS: u32 = 13;
/// Tables of every component's address space: the root, the two below it, one each for what lies under
/// 2 MiB and for records of mappings, one for the heap's first 2 MiB, one to spare.
const TABLES: u64 = 7;

impl Plan {
    /// Divides 2^`bits` bytes. Of the program, only the segments that are `own` are made of them.
    pub fn new(
        bits: u32,
        program: &Program,
        own: impl Fn(&Segment) -> bool,
        stack: u64,
        slot_bits: u8,
    ) -> Result<Plan, TooSmall> {
        let program_tables = program.size().div_ceil(2 << 20) + 1;
        let space_bits = ((TABLES + program_tables) << TABLE_BITS).next_power_of_two().ilog2();
        let mut pieces: Vec<Piece> = [
            (Role::CNode, Kind::CNode, u32::from(slot_bits)),
            (Role::VSpace, Kind::VSpace, space_bits),
            (Role::Tcb, Kind::Tcb, 0),
            (Role::SchedContext, Kind::SchedContext, 0),
            (Role::Ready, Kind::Notification, 0),
            (Role::Pages, Kind::Frame, PAGE_BITS + 1),
            (Role::Records, Kind::Untyped, u32::from(records_bits(slot_bits))),
        ]
        .map(|(role, kind, bits)| Piece { role, kind, bits })
        .into();
        let frame = |role, bits| Piece { role, kind: Kind::Frame, bits };
        pieces.extend(frames(stack / PAGE_SIZE).map(|(page, bits)| frame(Role::Stack(page), bits)));
        for (index, segment) in program.segments.iter().enumerate().filter(|(_, segment)| own(segment)) {
            let parts = frames(segment.pages);
            pieces.extend(parts.map(|(page, bits)| frame(Role::Segment(index, page), bits)));
        }
        pieces.sort_by_key(|piece| core::cmp::Reverse(piece.size_bits()));
        let used: u64 = pieces.iter().map(|piece| 1 << piece.size_bits()).sum();
        let untypeds = rest(used.next_multiple_of(PAGE_SIZE), bits).ok_or(TooSmall(used))?;
        Ok(Plan { pieces, untypeds })
    }
}

/// Frames for `pages` pages, no more, largest first: the first page of each, and log2 of its bytes.
pub fn frames(pages: u64) -> impl Iterator<Item = (u64, u32)> {
    let mut done = 0;
    core::iter::from_fn(move || {
        let bits = (pages - done).checked_ilog2()?;
        let first = done;
        done += 1 << bits;
        Some((first, bits + PAGE_BITS))
    })
}

/// The Untypeds that fill 2^`bits` bytes from `used` on, each at a multiple of its size; `None` where `used` is
/// more than that.
fn rest(used: u64, bits: u32) -> Option<heapless::Vec<u32, MAX_UNTYPEDS>> {
    let (mut at, mut untypeds) = (used, heapless::Vec::new());
    while at < 1 << bits {
        let size = at.trailing_zeros();
        // Sizes grow from one to the next, so there are fewer than bits in an address; what might not fit is
        // left unused.
        let _ = untypeds.push(size);
        at += 1 << size;
    }
    (at == 1 << bits).then_some(untypeds)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::build::elf::Segment;

    fn program(pages: &[u64]) -> Program<'static> {
        let segments = pages.iter().map(|&pages| Segment {
            address: 0,
            pages,
            offset: 0,
            data: &[],
            flags: abi::MapFlags::READ,
        });
        Program { entry: 0, segments: segments.collect() }
    }

    proptest! {
        #[test]
        fn all_memory_is_used_nothing_twice_and_every_object_lies_at_its_size(
            bits in 16..30u32,
            pages in proptest::collection::vec(1..300u64, 1..5),
            stack in 1..64u64,
            slot_bits in 6..15u8,
        ) {
            let program = program(&pages);
            let Ok(plan) = Plan::new(bits, &program, |_| true, stack * PAGE_SIZE, slot_bits) else {
                // Whatever is refused would indeed not have fitted into half of it.
                prop_assert!(program.size() + (stack << 12) + (64 << slot_bits) + (1 << 20) > 1 << (bits - 1));
                return Ok(());
            };
            let mut at = 0u64;
            for size in plan.pieces.iter().map(Piece::size_bits) {
                prop_assert!(at.is_multiple_of(1 << size));
                at += 1 << size;
            }
            at = at.next_multiple_of(PAGE_SIZE);
            for &size in &plan.untypeds {
                prop_assert!(at.is_multiple_of(1 << size));
                at += 1 << size;
            }
            prop_assert_eq!(at, 1 << bits);
            let frames = |wanted: fn(&Role) -> bool| -> u64 {
                plan.pieces.iter().filter(|piece| wanted(&piece.role)).map(|piece| 1 << piece.bits).sum()
            };
            prop_assert_eq!(frames(|role| matches!(role, Role::Stack(_))), stack * PAGE_SIZE);
            prop_assert_eq!(frames(|role| matches!(role, Role::Segment(..))), program.size());
        }
    }

    #[test]
    fn a_program_that_does_not_fit_is_told_what_it_needs() {
        let needed = Plan::new(16, &program(&[100]), |_| true, 65536, 9).expect_err("too small").0;
        assert!(needed > 100 * PAGE_SIZE + 65536);
    }

    #[test]
    fn a_segment_that_is_not_its_own_takes_nothing() {
        let mut program = program(&[300, 3]);
        program.segments[1].flags = abi::MapFlags::WRITE;
        let own = |segment: &Segment| segment.flags == abi::MapFlags::WRITE;
        let plan = Plan::new(18, &program, own, 4096, 6).expect("room for what is its own");
        assert!(plan.pieces.iter().all(|piece| !matches!(piece.role, Role::Segment(0, _))));
        let pages: u64 = plan
            .pieces
            .iter()
            .filter(|piece| matches!(piece.role, Role::Segment(1, _)))
            .map(|piece| (1 << piece.bits) / PAGE_SIZE)
            .sum();
        assert_eq!(pages, 3);
    }
}
