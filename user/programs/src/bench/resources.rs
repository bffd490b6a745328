//! What the benchmarks work with: one Untyped, empty slots, and rights over processor time.

use core::cell::Cell;

use abi::object::PAGE_SIZE;
use abi::{CPtr, Kind, MapFlags};
use ipc::{CNode, SchedControl, Tcb, Untyped, VSpace};
use proto::start::{FREE, names};
use rt::alloc::AllocError;
use rt::memory;

use crate::Failure;

/// log2 of the bytes that a benchmark's objects can take.
const MEMORY_BITS: u32 = 23;
/// Slots that a benchmark can use.
const SLOTS: usize = 160;
/// Where a benchmark maps what it likes in the program's own address space.
const AREA: u64 = FREE;

/// What the benchmarks work with.
#[derive(Debug)]
pub struct Resources {
    untyped: CPtr,
    slots: [CPtr; SLOTS],
    used: Cell<usize>,
    /// The program's CSpace.
    pub cnode: CNode,
    /// The program's address space.
    pub vspace: VSpace,
    /// The main thread.
    pub tcb: Tcb,
    /// Over processor time.
    pub sched_control: SchedControl,
    /// The main thread's priority.
    pub priority: u64,
    /// CPUs that run.
    pub cpus: u64,
    /// TSC ticks of a turn of ten milliseconds.
    pub turn: u64,
}

impl Resources {
    /// Takes them out of what the component was given.
    pub fn take() -> Result<Resources, Failure> {
        let mut slots = [CPtr::NULL; SLOTS];
        let untyped = memory::with(|objects| {
            for slot in &mut slots {
                *slot = objects.take_slot()?;
            }
            objects.take_memory(MEMORY_BITS)
        })?;
        let tcb = Tcb(rt::env::required(names::TCB));
        let [_, _, priority, _] = tcb.status()?;
        Ok(Resources {
            untyped,
            slots,
            used: Cell::new(0),
            cnode: memory::cnode()?,
            vspace: memory::vspace()?,
            tcb,
            sched_control: SchedControl(rt::env::required(rt::thread::SCHED_CONTROL)),
            priority,
            cpus: u64::from(rt::env::cpus()),
            turn: rt::env::tsc_hz() / 100,
        })
    }

    /// Destroys everything made since the last time, and all capabilities and mappings of it.
    pub fn clear(&self) -> Result<(), Failure> {
        self.used.set(0);
        Ok(self.cnode.revoke(u64::from(self.untyped.0))?)
    }

    /// An empty slot.
    pub fn slot(&self) -> Result<CPtr, Failure> {
        let at = self.used.get();
        self.used.set(at + 1);
        Ok(*self.slots.get(at).ok_or(AllocError::NoSlots)?)
    }

    /// Makes an object.
    pub fn make(&self, kind: Kind, bits: u32) -> Result<CPtr, Failure> {
        let slot = self.slot()?;
        Untyped(self.untyped).retype(kind, u64::from(bits), self.cnode.0, u64::from(slot.0), 1)?;
        Ok(slot)
    }

    /// Maps `frame` into the program's own address space, `at` bytes into the benchmarks' area: its address.
    pub fn map(&self, frame: CPtr, at: u64, size: u64) -> Result<u64, Failure> {
        memory::map(frame, AREA + at, 0, size / PAGE_SIZE, MapFlags::WRITE)?;
        Ok(AREA + at)
    }

    /// Unmaps it.
    pub fn unmap(&self, address: u64, size: u64) -> Result<(), Failure> {
        Ok(self.vspace.unmap(address, size / PAGE_SIZE)?)
    }
}
