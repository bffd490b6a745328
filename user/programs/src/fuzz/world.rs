//! A world: the fuzzing thread's CSpace with capabilities for objects of every kind, several levels of
//! derivation deep, its address space, and other threads that share both. All of it is made from one Untyped.

use core::ops::Range;

use abi::object::PAGE_SIZE;
use abi::{CPtr, Error, Kind, MapFlags, Rights};
use ipc::{CNode, IrqControl, SchedContext, SchedControl, Tcb, Untyped, VSpace};
use rt::thread::write_registers;

use crate::arena;
use crate::program::Program;
use crate::random::Random;
use crate::sandbox;

/// Slots of a world's CSpace.
pub mod slots {
    /// The first of the slots that a world begins with empty.
    pub const EMPTY: u32 = 128;
    /// The end of the CSpace.
    pub const END: u32 = 256;
}

/// Where a world begins with capabilities for objects of a kind.
#[derive(Clone, Debug)]
pub struct Place {
    /// The kind.
    kind: Kind,
    /// The fuzzing thread's own; 0 for none.
    pub own: u32,
    /// Objects made for this world.
    pub made: Range<u32>,
    /// `bits` of those, in turn.
    bits: &'static [u64],
    /// Derived from both.
    pub derived: Range<u32>,
}

const fn at(kind: Kind, own: u32, made: Range<u32>, bits: &'static [u64], derived: Range<u32>) -> Place {
    Place { kind, own, made, bits, derived }
}

/// Where a world has the right to put devices under its IoSpaces.
const IO_CONTROL: u32 = 63;

/// In the order in which they are made.
static PLACES: [Place; 16] = [
    at(Kind::CNode, 2, 44..47, &[4, 6, 2], 102..106),
    at(Kind::VSpace, 4, 42..44, &[OTHER_SPACE_BITS, 14], 114..117),
    at(Kind::Tcb, 5, 30..36, &[0], 88..94),
    at(Kind::SchedContext, 6, 24..30, &[0], 106..110),
    at(Kind::Endpoint, 0, 12..16, &[0], 64..76),
    at(Kind::Notification, 0, 16..20, &[0], 76..88),
    at(Kind::Reply, 0, 20..24, &[0], 110..114),
    at(Kind::Frame, 11, 36..42, &[12, 12, 13, 14, 12, 16], 94..102),
    at(Kind::Untyped, 3, 47..53, &[12, 14, 16, 13, 6, 18], 0..0),
    at(Kind::IrqHandler, 0, 53..56, &[0], 122..125),
    at(Kind::IrqControl, 8, 0..0, &[], 125..126),
    at(Kind::SchedControl, 7, 0..0, &[], 117..119),
    at(Kind::IoPort, 9, 0..0, &[], 119..121),
    at(Kind::System, 10, 0..0, &[], 121..122),
    at(Kind::IoSpace, 0, 56..60, &[16, 14, 15, 14], 60..63),
    // (Nothing where the machine has no IOMMU.)
    at(Kind::IoControl, IO_CONTROL, 0..0, &[], 0..0),
];

/// Where the world has capabilities for objects of this kind. (For those that nobody has: empty slots.)
pub fn place(kind: Kind) -> Place {
    let found = PLACES.iter().find(|place| place.kind == kind);
    found.cloned().unwrap_or_else(|| at(kind, slots::EMPTY, 0..0, &[], 0..0))
}

/// The highest priority that a world can give.
pub const CEILING: u64 = 120;
/// The fuzzing thread's at first.
const PRIORITY: u64 = 100;
/// log2 of the memory of a world.
pub const BITS: u32 = 22;
/// log2 of the slots of its CSpace.
const SLOT_BITS: u64 = slots::END.ilog2() as u64;
const SPACE_BITS: u64 = 17;
const OTHER_SPACE_BITS: u64 = 17;
/// Threads beside the fuzzing one; as many of them as there are stacks run from the beginning.
const OTHERS: Range<u32> = 30..36;
/// See `OTHERS`.
pub const RUNNING: usize = 4;

/// What worlds are made with; the slots are the supervisor's, and empty when there is no world.
#[derive(Debug)]
pub struct Means {
    /// The supervisor's CSpace.
    pub own: CNode,
    /// All memory of worlds.
    pub memory: Untyped,
    /// For the world's Untyped.
    pub untyped: CPtr,
    /// For the CSpace as it was made, and a copy.
    pub made_cspace: CPtr,
    /// See `made_cspace`.
    pub cspace: CPtr,
    /// For copies of the address spaces.
    pub spaces: [CPtr; 2],
    /// For copies of the Tcbs: of the fuzzing thread, of the others.
    pub threads: [CPtr; 1 + OTHERS.end as usize - OTHERS.start as usize],
    /// For copies of their SchedContexts.
    pub contexts: [CPtr; 1 + OTHERS.end as usize - OTHERS.start as usize],
    /// For something that is needed for a moment.
    pub spare: CPtr,
    /// Where faults are heard.
    pub endpoint: CPtr,
    /// What the world shares: the program, the arena, a Frame of 2 MiB.
    pub program: Program,
    /// See `program`.
    pub arena: CPtr,
    /// See `program`.
    pub shared: CPtr,
    /// Over processor time.
    pub sched_control: SchedControl,
    /// Over interrupts.
    pub irq_control: IrqControl,
    /// Over the IOMMU, if there is one.
    pub io_control: Option<CPtr>,
    /// Some I/O ports that do no harm.
    pub io_port: CPtr,
    /// The machine.
    pub system: CPtr,
    /// TSC ticks in a second.
    pub tsc_hz: u64,
    /// CPUs that run.
    pub cpus: u64,
}

fn slot(slot: CPtr) -> u64 {
    u64::from(slot.0)
}

impl Means {
    /// Builds a world and starts its threads.
    pub fn build(&self, mut random: Random) -> Result<(), Error> {
        let untyped = Untyped(self.untyped);
        self.memory.retype(Kind::Untyped, BITS.into(), self.own.0, slot(self.untyped), 1)?;
        untyped.retype(Kind::CNode, SLOT_BITS, self.own.0, slot(self.made_cspace), 1)?;
        self.own.copy(slot(self.cspace), self.own.0, slot(self.made_cspace))?;
        let cspace = CNode(self.cspace);
        for (kind, own, bits) in
            [(Kind::VSpace, 4, SPACE_BITS), (Kind::Tcb, 5, 0), (Kind::SchedContext, 6, 0)]
        {
            untyped.retype(kind, bits, self.cspace, own, 1)?;
        }
        for place in &PLACES {
            for (at, &bits) in place.made.clone().zip(place.bits.iter().cycle()) {
                if place.kind == Kind::IrqHandler {
                    self.interrupt(&mut random, at)?;
                } else {
                    untyped.retype(place.kind, bits, self.cspace, at.into(), 1)?;
                }
            }
        }
        self.share(cspace, &mut random)?;
        self.spaces(cspace)?;
        self.threads(cspace, &mut random)?;
        // Last, as the supervisor needs them until here.
        if random.once_in(2) {
            cspace.relocate(2, self.own.0, slot(self.made_cspace))?;
        } else {
            cspace.copy(2, self.own.0, slot(self.made_cspace))?;
        }
        cspace.relocate(3, self.own.0, slot(self.untyped))?;
        self.derive(cspace, &mut random)?;
        self.start(&mut random)
    }

    /// Makes an IrqHandler for an interrupt that no device raises.
    fn interrupt(&self, random: &mut Random, at: u32) -> Result<(), Error> {
        let cpu = random.below(self.cpus);
        if at.is_multiple_of(2) {
            return self.irq_control.msi(self.cspace, at.into(), cpu, 0xf000).map(|_| ());
        }
        self.irq_control.handler(self.cspace, at.into(), u64::from(at % 8) + 16, cpu, random.below(4))
    }

    /// Fills in what is not made of the world's memory.
    fn share(&self, cspace: CNode, random: &mut Random) -> Result<(), Error> {
        let shared = [
            (7, self.sched_control.0, Rights::ALL, CEILING),
            (8, self.irq_control.0, Rights::ALL, 0),
            (9, self.io_port, Rights::ALL, 0),
            // Not WRITE: that would be the power switch.
            (10, self.system, Rights::READ.or(Rights::GRANT), 0),
            (11, self.shared, random.pick(&[Rights::ALL, Rights(3), Rights(7), Rights(1)]), 0),
        ];
        for (at, from, rights, badge) in shared {
            cspace.mint(at, self.own.0, slot(from), rights, badge)?;
        }
        if let Some(control) = self.io_control {
            cspace.copy(IO_CONTROL.into(), self.own.0, slot(control))?;
        }
        Ok(())
    }

    /// Maps program and arena.
    fn spaces(&self, cspace: CNode) -> Result<(), Error> {
        for (at, &space) in [4, place(Kind::VSpace).made.start].into_iter().zip(&self.spaces) {
            self.own.copy(slot(space), cspace.0, at.into())?;
            let space = VSpace(space);
            self.program.map(space)?;
            space.map(self.arena, arena::ADDRESS, 0, (1 << arena::BITS) / PAGE_SIZE, MapFlags::WRITE)?;
        }
        Ok(())
    }

    /// Equips all threads.
    fn threads(&self, cspace: CNode, random: &mut Random) -> Result<(), Error> {
        let tcbs = core::iter::once(5).chain(place(Kind::Tcb).made);
        let contexts = core::iter::once(6).chain(place(Kind::SchedContext).made);
        for (index, (tcb, context)) in tcbs.zip(contexts).enumerate() {
            self.own.copy(slot(self.threads[index]), cspace.0, tcb.into())?;
            self.own.copy(slot(self.contexts[index]), cspace.0, context.into())?;
            self.thread(cspace, index, random)?;
        }
        Ok(())
    }

    fn thread(&self, cspace: CNode, index: usize, random: &mut Random) -> Result<(), Error> {
        let (tcb, context) = (Tcb(self.threads[index]), SchedContext(self.contexts[index]));
        let first = index == 0;
        let space = if first || random.once_in(2) { self.spaces[0] } else { self.spaces[1] };
        tcb.configure(self.cspace, space, self.arena, arena::buffer_offset(index))?;
        let handler = if first || random.once_in(2) { self.endpoint } else { cspace.0 };
        if handler == self.endpoint {
            self.own.mint(slot(self.spare), self.own.0, slot(handler), Rights::ALL, index as u64 + 1)?;
        } else {
            // One of the world's own.
            let endpoint = place(Kind::Endpoint).made.start + index as u32 % 4;
            self.own.mint(slot(self.spare), cspace.0, endpoint.into(), Rights::ALL, index as u64 + 1)?;
        }
        tcb.set_fault_handler(self.spare)?;
        // (Derived from it, the thread's own capability stays.)
        self.own.delete(slot(self.spare))?;
        let (cpu, flags) = (random.below(self.cpus), u64::from(random.once_in(8)));
        let millisecond = self.tsc_hz / 1000;
        if first && !random.once_in(4) {
            self.sched_control.configure(context.0, cpu, 10 * millisecond, 10 * millisecond, 0)?;
        } else if first {
            self.sched_control.configure(context.0, cpu, millisecond / 2, millisecond, flags)?;
        } else {
            self.sched_control.configure(context.0, cpu, millisecond / 10, millisecond, flags)?;
        }
        let priority = if first { PRIORITY } else { u64::from(random.within(60, CEILING as u32)) };
        self.sched_control.set_priority(tcb.0, priority)
    }

    /// Derives capabilities, from what was made and from one another.
    fn derive(&self, cspace: CNode, random: &mut Random) -> Result<(), Error> {
        for place in &PLACES {
            for at in place.derived.clone() {
                let made = if place.made.is_empty() { place.own..place.own + 1 } else { place.made.clone() };
                let mut from = random.within(made.start, made.end);
                let mut badge = 0;
                if at > place.derived.start && random.once_in(2) {
                    from = random.within(place.derived.start, at);
                } else if matches!(place.kind, Kind::Endpoint | Kind::Notification) {
                    badge = random.pick(&[0, 1, 2, 1 << 63, 0xffff]);
                }
                let rights = Rights(random.pick(&[15, 15, 15, 7, 3, 1, 2]));
                cspace.mint(at.into(), cspace.0, from.into(), rights, badge)?;
            }
        }
        Ok(())
    }

    /// Lets the threads run.
    fn start(&self, random: &mut Random) -> Result<(), Error> {
        for index in 1..=RUNNING {
            // Some without time of their own: they run on what is lent to them.
            if !random.once_in(4) {
                SchedContext(self.contexts[index]).bind(self.threads[index])?;
            }
            self.restart(index, random.next())?;
        }
        SchedContext(self.contexts[0]).bind(self.threads[0])?;
        self.restart(0, 0)
    }

    /// Lets a thread begin anew.
    pub fn restart(&self, index: usize, seed: u64) -> Result<(), Error> {
        let registers = match index {
            0 => sandbox::fuzzing_registers(),
            _ => sandbox::other_registers(index, seed),
        };
        write_registers(Tcb(self.threads[index]), &registers, true)
    }

    /// Takes a world apart, whatever has become of it.
    pub fn take_apart(&self) -> Result<(), Error> {
        self.own.revoke(slot(self.memory.0))
    }
}
