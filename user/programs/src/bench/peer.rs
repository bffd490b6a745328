//! The other side of a benchmark: a thread with a CSpace of its own, most in an address space of their own.
//!
//! The programs of these threads are the functions of this file. The linker gathers them in section `peer`
//! and says where it begins and ends; its pages are copied into a Frame, which is mapped into the other
//! address space at the same address. So they reach nothing but registers, stack and system calls: all they
//! call is inlined, and where they give up is an undefined instruction.

use core::arch::asm;
use core::hint::black_box;

use abi::object::PAGE_SIZE;
use abi::{CPtr, IpcBuffer, Kind, MapFlags, MsgInfo, Registers, Rights};
use ipc::{CNode, Message, SchedContext, Tcb, VSpace};
use proto::start::names;

use crate::Failure;
use crate::resources::Resources;

/// Slots of a peer's CSpace.
pub mod slots {
    use abi::CPtr;

    /// What it serves.
    pub const ENDPOINT: CPtr = CPtr(2);
    /// What it waits for.
    pub const WAIT: CPtr = CPtr(3);
    /// What it signals.
    pub const SIGNAL: CPtr = CPtr(4);
    /// Its own address space.
    pub const SPACE: CPtr = CPtr(5);
    /// A page to map.
    pub const FRAME: CPtr = CPtr(6);
    /// What its partner waits for.
    pub const OTHER: CPtr = CPtr(7);
    /// The first of [`RECEIVED_COUNT`] slots for capabilities it receives.
    pub const RECEIVED: u32 = 16;
    /// How many.
    pub const RECEIVED_COUNT: u32 = 32;
}

/// log2 of the slots of a peer's CSpace.
const CNODE_BITS: u32 = 6;
/// log2 of the bytes of a peer's address space, page tables included.
const VSPACE_BITS: u32 = 16;
/// log2 of the bytes of a peer's stack with the IPC buffer above it.
const STACK_BITS: u32 = 13;
/// Where the stack lies in an address space of the peer's own: near the program, in the same page table.
const STACK: u64 = 0x5f_0000;
/// Where a peer maps a page: in the page table of its stack.
const PAGE: u64 = STACK + 0x8000;
/// How far apart the stacks of peers in the program's own address space lie, in the benchmarks' area.
const STACK_AREA: u64 = 0x10_0000;

unsafe extern "C" {
    /// The first byte of section `peer`, named by the linker.
    static __start_peer: u8;
    /// The byte after its last.
    static __stop_peer: u8;
}

/// Where a peer's program begins; the arguments come in rdi and rsi.
pub type Entry = extern "C" fn(u64, u64) -> !;

/// The pages of the programs: address of the first and how many.
pub fn program() -> (u64, u64) {
    let first = &raw const __start_peer as u64 & !(PAGE_SIZE - 1);
    let end = (&raw const __stop_peer as u64).next_multiple_of(PAGE_SIZE);
    (first, (end - first) / PAGE_SIZE)
}

/// The bytes of those pages.
pub fn program_bytes() -> &'static [u8] {
    let (first, pages) = program();
    // SAFETY: the pages belong to the program's text, which stays mapped and unchanged.
    unsafe { core::slice::from_raw_parts(first as *const u8, (pages * PAGE_SIZE) as usize) }
}

/// Copies the programs' pages into the Frame mapped (writable, at least as large) at `address`.
pub fn copy_program(address: u64) {
    let bytes = program_bytes();
    // SAFETY: the caller has just mapped a Frame there that nothing else uses.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, bytes.len()) };
}

/// A peer's address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// The program's own.
    Same,
    /// One of its own.
    Other,
}

/// A thread to measure against.
#[derive(Debug)]
pub struct Peer {
    /// The thread.
    pub tcb: Tcb,
    /// Its time.
    pub context: SchedContext,
    cnode: CNode,
    vspace: VSpace,
    buffer: u64,
}

impl Peer {
    /// Makes one that could run, on CPU `cpu`.
    pub fn new(resources: &Resources, space: Space, priority: u64, cpu: u64) -> Result<Peer, Failure> {
        let r = resources;
        let tcb = Tcb(r.make(Kind::Tcb, 0)?);
        let context = SchedContext(r.make(Kind::SchedContext, 0)?);
        let cnode = CNode(r.make(Kind::CNode, CNODE_BITS)?);
        let stack = r.make(Kind::Frame, STACK_BITS)?;
        let size = 1 << STACK_BITS;
        let (vspace, address) = match space {
            Space::Same => (r.vspace, r.map(stack, STACK_AREA, size)?),
            Space::Other => {
                let vspace = VSpace(r.make(Kind::VSpace, VSPACE_BITS)?);
                let (program, pages) = program();
                let text = r.make(Kind::Frame, (pages * PAGE_SIZE).next_power_of_two().ilog2())?;
                let copy = r.map(text, 0, pages * PAGE_SIZE)?;
                copy_program(copy);
                r.unmap(copy, pages * PAGE_SIZE)?;
                vspace.map(text, program, 0, pages, MapFlags::EXECUTE)?;
                vspace.map(stack, STACK, 0, size / PAGE_SIZE, MapFlags::WRITE)?;
                (vspace, STACK)
            }
        };
        let buffer = size - size_of::<IpcBuffer>() as u64;
        tcb.configure(cnode.0, vspace.0, stack, buffer)?;
        tcb.set_fault_handler(rt::env::required(names::FAULT))?;
        r.sched_control.configure(context.0, cpu, r.turn, r.turn, 0)?;
        r.sched_control.set_priority(tcb.0, priority)?;
        context.bind(tcb.0)?;
        Ok(Peer { tcb, context, cnode, vspace, buffer: address + buffer })
    }

    /// Gives it a capability, with all rights, in a slot of its own.
    pub fn give(&self, resources: &Resources, slot: CPtr, capability: CPtr) -> Result<(), Failure> {
        self.give_badged(resources, slot, capability, Rights::ALL, 0)
    }

    /// Gives it a capability with these rights and this badge.
    pub fn give_badged(
        &self,
        resources: &Resources,
        slot: CPtr,
        capability: CPtr,
        rights: Rights,
        badge: u64,
    ) -> Result<(), Failure> {
        let own = resources.cnode.0;
        Ok(self.cnode.mint(u64::from(slot.0), own, u64::from(capability.0), rights, badge)?)
    }

    /// Gives it its own address space.
    pub fn give_space(&self, resources: &Resources) -> Result<(), Failure> {
        self.give(resources, slots::SPACE, self.vspace.0)
    }

    /// Starts it.
    pub fn start(&self, entry: Entry) -> Result<(), Failure> {
        self.start_with(entry, [0; 2])
    }

    /// Starts it with arguments.
    pub fn start_with(&self, entry: Entry, [rdi, rsi]: [u64; 2]) -> Result<(), Failure> {
        let registers = Registers {
            rdi,
            rsi,
            rip: entry as usize as u64,
            // As after a call: the stack is aligned to 16 where the return address would lie.
            rsp: self.buffer - 8,
            gs_base: self.buffer,
            ..Registers::default()
        };
        Ok(rt::thread::write_registers(self.tcb, &registers, true)?)
    }
}

/// Nothing else to be done: a fault, which nobody handles.
#[inline(always)]
fn give_up() -> ! {
    // SAFETY: the instruction only faults.
    unsafe { asm!("ud2", options(noreturn, nostack)) }
}

/// Sends every message back.
#[unsafe(link_section = "peer")]
pub extern "C" fn echo(_: u64, _: u64) -> ! {
    let Ok(mut received) = ipc::recv(slots::ENDPOINT, CPtr::NULL) else { give_up() };
    loop {
        match ipc::reply_recv(slots::ENDPOINT, received.message) {
            Ok(next) => received = next,
            Err(_) => give_up(),
        }
    }
}

/// Sends every capability back, each received into the next of its slots.
#[unsafe(link_section = "peer")]
pub extern "C" fn echo_capability(_: u64, _: u64) -> ! {
    // (Opaque, so that no constant is loaded from memory that is not here.)
    let mut at = black_box(0);
    let buffer = ipc::buffer();
    buffer.receive_into(&[CPtr(slots::RECEIVED + at)]);
    let Ok(mut received) = ipc::recv(slots::ENDPOINT, CPtr::NULL) else { give_up() };
    loop {
        if received.message.info.caps() != 1 {
            give_up();
        }
        buffer.send_caps(&[CPtr(slots::RECEIVED + at)]);
        at = (at + 1) % slots::RECEIVED_COUNT;
        buffer.receive_into(&[CPtr(slots::RECEIVED + at)]);
        let answer = Message { info: MsgInfo::new(0, 0, 1), ..received.message };
        match ipc::reply_recv(slots::ENDPOINT, answer) {
            Ok(next) => received = next,
            Err(_) => give_up(),
        }
    }
}

/// Yields for ever.
#[unsafe(link_section = "peer")]
pub extern "C" fn yield_always(_: u64, _: u64) -> ! {
    loop {
        ipc::yield_now();
    }
}

/// Waits for ever.
#[unsafe(link_section = "peer")]
pub extern "C" fn wait_always(_: u64, _: u64) -> ! {
    while ipc::wait(slots::WAIT).is_ok() {}
    give_up()
}

/// Answers every signal with one.
#[unsafe(link_section = "peer")]
pub extern "C" fn answer_signals(_: u64, _: u64) -> ! {
    while ipc::wait(slots::WAIT).and_then(|_| ipc::signal(slots::SIGNAL)).is_ok() {}
    give_up()
}

/// Reads where nothing is mapped, again and again.
#[unsafe(link_section = "peer")]
pub extern "C" fn fault_always(_: u64, _: u64) -> ! {
    // SAFETY: nothing is ever mapped at address 0; whoever answers the fault lets it happen again.
    unsafe { asm!("2:", "mov rax, [rax]", "jmp 2b", in("rax") 0u64, options(noreturn, nostack)) }
}

/// Keeps the CPU busy.
#[unsafe(link_section = "peer")]
pub extern "C" fn spin(_: u64, _: u64) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// Signals once and is done.
#[unsafe(link_section = "peer")]
pub extern "C" fn signal_once(_: u64, _: u64) -> ! {
    let _ = ipc::signal(slots::SIGNAL);
    let _ = ipc::wait(slots::WAIT);
    give_up()
}

/// Takes turns of `rounds` operations, each on a signal, and signals when it is through with one.
#[inline(always)]
fn in_turns(rounds: u64, mut operation: impl FnMut() -> Result<(), abi::Error>) -> ! {
    while ipc::wait(slots::WAIT).is_ok() {
        for _ in 0..rounds {
            if operation().is_err() {
                give_up();
            }
        }
        if ipc::signal(slots::SIGNAL).is_err() {
            give_up();
        }
    }
    give_up()
}

/// Calls, in turns.
#[unsafe(link_section = "peer")]
pub extern "C" fn call_in_turns(rounds: u64, _: u64) -> ! {
    let mut message = Message::new(0);
    in_turns(rounds, || {
        message = ipc::call(slots::ENDPOINT, message)?;
        Ok(())
    })
}

/// Signals its partner, in turns.
#[unsafe(link_section = "peer")]
pub extern "C" fn signal_in_turns(rounds: u64, _: u64) -> ! {
    in_turns(rounds, || ipc::signal(slots::OTHER))
}

/// Yields, in turns.
#[unsafe(link_section = "peer")]
pub extern "C" fn yield_in_turns(rounds: u64, _: u64) -> ! {
    in_turns(rounds, || {
        ipc::yield_now();
        Ok(())
    })
}

/// Answers its partner's faults, in turns.
#[unsafe(link_section = "peer")]
pub extern "C" fn handle_in_turns(rounds: u64, _: u64) -> ! {
    let Ok(mut received) = ipc::recv(slots::ENDPOINT, CPtr::NULL) else { give_up() };
    in_turns(rounds, || {
        // Only the label of the answer counts.
        let answer = Message { info: MsgInfo::plain(0), ..received.message };
        received = ipc::reply_recv(slots::ENDPOINT, answer)?;
        Ok(())
    })
}

/// Maps a page and unmaps it, in turns.
#[unsafe(link_section = "peer")]
pub extern "C" fn map_in_turns(rounds: u64, _: u64) -> ! {
    let space = VSpace(slots::SPACE);
    in_turns(rounds, || {
        space.map(slots::FRAME, PAGE, 0, 1, MapFlags::WRITE)?;
        space.unmap(PAGE, 1)
    })
}
