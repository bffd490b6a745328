//! A whole system on the host: memory, CPUs, a kernel, and a root thread that holds all of it.
//!
//! Where to start reading: [`World::syscall`], in `calls`; what it goes through is in `entries`.

mod calls;
mod entries;
mod others;
mod reach;

use std::cell::Cell;

use abi::message::REGISTER_WORDS;
use abi::{CPtr, Error, Kind, MsgInfo};
use objects::endpoint::Endpoint;
use objects::memory::Memory;
use objects::sched_context::SchedContext;
use objects::slot::{Capability, Flags};
use objects::tcb::slots as thread_slots;
use objects::{Cpu, Kernel, Ref, Slot, Tcb, tree};

use crate::machine::{self, Fake};

/// Physical address of the first byte of memory.
pub const MEMORY_START: u64 = 1 << 32;
/// Physical address of the device memory, which is not there.
pub const DEVICE_START: u64 = 1 << 40;
/// log2 of its bytes.
pub const DEVICE_BITS: u8 = 32;
/// Ticks of a turn.
pub const TURN: u64 = 10_000;
/// The priority threads start with.
pub const PRIORITY: u8 = 100;

/// Slots of the root thread's CSpace that are filled at first.
pub mod root {
    pub const CNODE: u32 = 2;
    pub const UNTYPED: u32 = 3;
    pub const TCB: u32 = 4;
    pub const CONTEXT: u32 = 5;
    pub const SCHED_CONTROL: u32 = 6;
    pub const IRQ_CONTROL: u32 = 7;
    pub const IO_PORT: u32 = 8;
    pub const SYSTEM: u32 = 9;
    pub const DEVICE: u32 = 10;
    pub const VSPACE: u32 = 11;
    pub const BUFFER: u32 = 12;
    pub const IO_CONTROL: u32 = 13;
    /// The first that is free.
    pub const FREE: u32 = 14;
}

/// A page of memory.
#[repr(C, align(4096))]
struct Page([Cell<u8>; 4096]);

/// How a system is made.
#[derive(Clone, Copy)]
pub struct Size {
    pub cpus: usize,
    /// log2 of the root thread's CSpace.
    pub slots: u32,
    /// log2 of the bytes of its Untyped.
    pub untyped: u32,
}

/// What a system call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It ended.
    With(Result<Message, Error>),
    /// The thread waits, or is no more.
    Blocked,
}

/// What a thread finds in its registers after a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    pub badge: u64,
    pub info: MsgInfo,
    pub words: [u64; REGISTER_WORDS],
}

/// A system.
pub struct World {
    pub kernel: &'static Kernel<Fake>,
    pub machine: &'static machine::State,
    pub cpus: &'static [Cpu],
    pub memory: Memory,
    /// Window addresses of the first and after the last byte of memory.
    pub window: (u64, u64),
    pub root: Ref<Tcb>,
    cnode: u64,
    next_slot: Cell<u32>,
    /// Whether the fast path is tried first.
    pub fast: Cell<bool>,
    /// Whether what belongs to other CPUs is compared around operations under one CPU's lock.
    pub watched: Cell<bool>,
}

impl World {
    /// A system with one CPU and room for everything.
    pub fn new() -> World {
        World::with_cpus(1)
    }

    pub fn with_cpus(cpus: usize) -> World {
        World::of_size(Size { cpus, slots: 9, untyped: 22 })
    }

    pub fn of_size(size: Size) -> World {
        let pages = 2 * (1usize << (size.untyped - 12));
        let arena = Box::leak(Box::<[Page]>::new_uninit_slice(pages));
        for page in arena.iter_mut() {
            // Old content that nobody must ever see.
            page.write(Page([const { Cell::new(0xa5) }; 4096]));
        }
        let start = arena.as_ptr().addr() as u64;
        // SAFETY: the arena lives as long as the kernel (see `drop`), which alone uses it.
        let memory = unsafe { Memory::new(start.wrapping_sub(MEMORY_START)) };
        let machine = Box::leak(Box::new(machine::State::new()));
        let cpus: Vec<Cpu> = (0..size.cpus).map(|_| objects::memory::zeroed()).collect();
        let cpus = Box::leak(cpus.into_boxed_slice());
        let kernel = Box::leak(Box::new(Kernel::new(Fake(machine), memory, cpus)));
        kernel.tsc_hz.set(1_000_000_000);
        let window = (start, start + (pages as u64) * 4096);
        World::found(kernel, machine, cpus, memory, window, size)
    }

    /// Makes the root thread by hand, as `Kernel::boot` does in earnest.
    fn found(
        kernel: &'static Kernel<Fake>,
        machine: &'static machine::State,
        cpus: &'static [Cpu],
        memory: Memory,
        window: (u64, u64),
        size: Size,
    ) -> World {
        let untyped = MEMORY_START + (1 << size.untyped);
        let mut next = MEMORY_START;
        let mut take = |bits: u32| {
            let at = next.next_multiple_of(1 << bits);
            next = at + (1 << bits);
            assert!(next <= untyped);
            memory.clear(at, 1 << bits);
            at
        };
        let kernel_root = take(12);
        machine.kernel_root.set(kernel_root);
        kernel.root.set(kernel_root);
        kernel.kernel_entries[0].set(0xaaaa_0001);
        kernel.kernel_entries[1].set(0xbbbb_0001);
        kernel.start_cpus(size.cpus);
        for cpu in cpus {
            machine.load_root_on(cpu.number.get(), kernel_root);
        }
        let cnode_at = memory.address(take(size.slots + 6));
        let slot = |at: u32| Ref::<Slot>::at(cnode_at + 64 * u64::from(at)).unwrap();
        let fill = |at: u32, capability: Capability| {
            slot(at).fill(capability);
            tree::insert(Ref::of(&kernel.universe), slot(at));
        };
        let owner =
            |kind, at, bits: u8| Capability { bits, flags: Flags::OWNER, ..Capability::whole(kind, at) };
        fill(root::CNODE, owner(Kind::CNode, cnode_at, size.slots as u8));
        let memory_cap = Capability { bits: size.untyped as u8, ..Capability::whole(Kind::Untyped, untyped) };
        fill(root::UNTYPED, memory_cap);
        let device = Capability::whole(Kind::Untyped, DEVICE_START);
        fill(root::DEVICE, Capability { bits: DEVICE_BITS, flags: Flags::DEVICE, ..device });
        let tcb: Ref<Tcb> = memory.object(take(11)).unwrap();
        Tcb::init(tcb, kernel_root);
        fill(root::TCB, owner(Kind::Tcb, tcb.address(), 11));
        let context: Ref<SchedContext> = memory.object(take(7)).unwrap();
        fill(root::CONTEXT, owner(Kind::SchedContext, context.address(), 7));
        for (at, kind, badge) in [
            (root::SCHED_CONTROL, Kind::SchedControl, 255),
            (root::IRQ_CONTROL, Kind::IrqControl, 0),
            (root::IO_PORT, Kind::IoPort, objects::io_port::ALL_PORTS),
            (root::SYSTEM, Kind::System, 0),
            (root::IO_CONTROL, Kind::IoControl, 0),
        ] {
            fill(at, Capability { badge, ..Capability::whole(kind, 0) });
        }
        let buffer = take(12);
        fill(root::BUFFER, owner(Kind::Frame, buffer, 12));
        for (index, from) in [(thread_slots::CSPACE, root::CNODE), (thread_slots::BUFFER, root::BUFFER)] {
            let own = tcb.slot(index).unwrap();
            let mut capability = slot(from).capability();
            capability.flags = Flags::empty();
            own.fill(capability);
            tree::insert(slot(from), own);
        }
        tcb.cspace.set(cnode_at);
        tcb.cspace_slots.set(1 << size.slots);
        tcb.buffer.set(memory.address(buffer));
        tcb.priority.set(PRIORITY);
        for cell in [&context.budget, &context.period, &context.left] {
            cell.set(TURN);
        }
        context.tcb.set(Some(tcb));
        tcb.sched_context.set(Some(context));
        tcb.runs_on.set(Some(context));
        let world = World {
            kernel,
            machine,
            cpus,
            memory,
            window,
            root: tcb,
            cnode: cnode_at,
            next_slot: Cell::new(root::FREE),
            fast: Cell::new(false),
            watched: Cell::new(true),
        };
        kernel.ready(&cpus[0], tcb);
        world.look(0);
        assert_eq!(cpus[0].thread(), tcb);
        kernel.verify();
        world
    }

    /// A slot of the root thread's CSpace.
    pub fn slot(&self, cptr: u32) -> Ref<Slot> {
        Ref::at(self.cnode + 64 * u64::from(cptr)).unwrap()
    }

    /// A slot of the CNode in slot `cnode`.
    pub fn slot_of(&self, cnode: u32, at: u64) -> Ref<Slot> {
        self.kernel.slot_at(self.slot(cnode).object.get(), at).unwrap()
    }

    /// An empty slot that was never handed out before.
    pub fn free_slot(&self) -> u32 {
        self.free_slots(1)
    }

    /// The first of `count` such.
    pub fn free_slots(&self, count: u32) -> u32 {
        let first = self.next_slot.get();
        self.next_slot.set(first + count);
        first
    }

    pub fn tcb(&self, cptr: u32) -> Ref<Tcb> {
        assert_eq!(self.slot(cptr).kind.get(), Kind::Tcb);
        Ref::at(self.slot(cptr).object.get()).unwrap()
    }

    pub fn endpoint(&self, cptr: u32) -> Ref<Endpoint> {
        Ref::at(self.slot(cptr).object.get()).unwrap()
    }

    pub fn context(&self, cptr: u32) -> Ref<SchedContext> {
        Ref::at(self.slot(cptr).object.get()).unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let pages = (self.window.1 - self.window.0) as usize / 4096;
        let arena = core::ptr::slice_from_raw_parts_mut(self.window.0 as *mut Page, pages);
        // SAFETY: made by Box::leak in `of_size`; with the World goes whoever could name it.
        drop(unsafe { Box::from_raw(arena) });
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(core::ptr::from_ref(self.kernel).cast_mut()) });
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(core::ptr::from_ref(self.cpus).cast_mut()) });
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(core::ptr::from_ref(self.machine).cast_mut()) });
    }
}

/// A capability pointer as an argument.
pub const NONE: u64 = CPtr::NULL.0 as u64;
