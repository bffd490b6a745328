//! The end of init itself: a second thread that does nothing but wait for a fault of the first.
//!
//! Nobody can start init again, for it owns everything that outlives the others. So its death is the end of the system,
//! which says why and stops, instead of standing still. (A panic is told by init itself: `main.rs`.)

use abi::boot::slots;
use abi::message::fault;
use abi::object::PAGE_SIZE;
use abi::{CPtr, IpcBuffer, Kind, MapFlags, Registers, Rights};
use core::sync::atomic::{AtomicU32, Ordering};
use ipc::{SchedContext, System, Tcb};
use proto::host::EXIT_INIT_PANIC;
use rt::alloc::AllocError;
use rt::memory;

use crate::log;
use crate::machine::{CNODE, GUARDIAN, Machine, PRIORITY, SCHED_CONTROL};

/// log2 of the bytes of its stack and IPC buffer.
const FRAME_BITS: u32 = 14;
/// Where init's faults arrive.
static ENDPOINT: AtomicU32 = AtomicU32::new(0);

/// Starts it. From here on a fault of init is told.
pub fn start(machine: &Machine) -> Result<(), AllocError> {
    let [endpoint, tcb, context, frame] =
        [(Kind::Endpoint, 0), (Kind::Tcb, 0), (Kind::SchedContext, 0), (Kind::Frame, FRAME_BITS)]
            .map(|(kind, bits)| memory::make(kind, bits));
    let (endpoint, tcb, context, frame) = (endpoint?, Tcb(tcb?), SchedContext(context?), frame?);
    let (size, buffer) = (1u64 << FRAME_BITS, size_of::<IpcBuffer>() as u64);
    memory::map(frame, GUARDIAN, 0, size / PAGE_SIZE, MapFlags::WRITE)?;
    ENDPOINT.store(endpoint.0, Ordering::Release);
    hear_init(endpoint)?;
    tcb.configure(CNODE.0, CPtr(slots::VSPACE), frame, size - buffer)?;
    let turn = machine.ticks(10_000);
    SCHED_CONTROL.configure(context.0, 0, turn, turn, 0)?;
    SCHED_CONTROL.set_priority(tcb.0, PRIORITY)?;
    context.bind(tcb.0)?;
    let top = GUARDIAN + size - buffer;
    let registers = Registers {
        rip: enter as *const () as u64,
        // As after a call: the stack is aligned to 16 where the return address would lie.
        rsp: top - 8,
        gs_base: top,
        ..Registers::default()
    };
    Ok(rt::thread::write_registers(tcb, &registers, true)?)
}

/// Lets faults of init's thread go to `endpoint`.
fn hear_init(endpoint: CPtr) -> Result<(), AllocError> {
    let badged = memory::with(|objects| objects.take_slot())?;
    let rights = Rights::WRITE.or(Rights::GRANT);
    CNODE.mint(u64::from(badged.0), CNODE.0, u64::from(endpoint.0), rights, 1)?;
    Ok(Tcb(CPtr(slots::TCB)).set_fault_handler(badged)?)
}

extern "C" fn enter() -> ! {
    loop {
        if let Ok(received) = ipc::recv(CPtr(ENDPOINT.load(Ordering::Acquire)), CPtr::NULL) {
            last_words(&received.message.words);
        }
    }
}

/// Says why init is dead, and stops the machine.
fn last_words(words: &[u64; 8]) -> ! {
    let (what, at) = (fault::name(words[fault::KIND]), words[fault::ADDRESS]);
    log!(
        "init: {what} at {at:#x}, rip {:#x}: init is dead, and nobody can start it again",
        words[fault::RIP]
    );
    loop {
        // Where the machine does not go down, nothing is left to do.
        let _ = System(CPtr(slots::SYSTEM)).shutdown(u64::from(EXIT_INIT_PANIC));
        ipc::yield_now();
    }
}

/// The word of the kernel's command line by which init dies at once, so that what follows can be tested.
const DIE: &str = "init=fault";

/// Dies, if that is asked for.
pub fn die_if_asked(machine: &Machine) {
    if machine.asked_for(DIE) {
        // SAFETY: the instruction only faults, which is the purpose.
        unsafe { core::arch::asm!("ud2", options(nomem, nostack)) };
    }
}
