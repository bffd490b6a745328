//! What the program was given, in one place.

use core::fmt;

use abi::{CPtr, Kind};
use ipc::{CNode, IoPort, IrqControl, SchedControl, System, Tcb};
use proto::start::names;
use rt::alloc::AllocError;
use rt::{env, memory};

/// Everything the tests stand on.
#[derive(Clone, Copy, Debug)]
pub struct Resources {
    /// The program's CSpace.
    pub cnode: CNode,
    /// Its thread.
    pub tcb: Tcb,
    /// Over processor time.
    pub sched_control: SchedControl,
    /// Over interrupts.
    pub irq_control: IrqControl,
    /// All I/O ports.
    pub io_port: IoPort,
    /// The machine.
    pub system: System,
    /// The kernel's log, and the trace rings (read-only Frames), if given.
    pub kernel_log: Option<CPtr>,
    /// See `kernel_log`.
    pub trace: Option<CPtr>,
    /// Over the IOMMU, if there is one.
    pub io_control: Option<CPtr>,
    /// Device memory, if given.
    pub device: Option<CPtr>,
    /// Memory for the sandboxes, and log2 of its size.
    pub untyped: CPtr,
    /// See `untyped`.
    pub untyped_bits: u32,
    /// CPUs that run.
    pub cpus: u64,
    /// TSC ticks in a second.
    pub tsc_hz: u64,
    /// Prints to the standard output.
    pub print: fn(fmt::Arguments),
}

impl Resources {
    /// What init gave.
    pub fn from_start_block() -> Result<Resources, AllocError> {
        let (untyped, untyped_bits) = largest_memory()?;
        Ok(Resources {
            cnode: memory::cnode()?,
            tcb: Tcb(env::required(names::TCB)),
            sched_control: SchedControl(env::required(rt::thread::SCHED_CONTROL)),
            irq_control: IrqControl(env::required("irq-control")),
            io_port: IoPort(env::required("io-ports")),
            system: System(env::required("system")),
            kernel_log: env::capability("kernel-log"),
            trace: env::capability("trace"),
            io_control: env::capability("io-control"),
            device: env::capability("device-memory"),
            untyped,
            untyped_bits,
            cpus: u64::from(env::cpus()),
            tsc_hz: env::tsc_hz(),
            print: |text| rt::io::print(rt::io::OUTPUT, text),
        })
    }

    /// The number of capabilities in slots of the program's own CSpace.
    pub fn filled_slots(&self) -> u64 {
        let bits = self.cnode.describe(u64::from(self.cnode.0.0)).map_or(0, |own| own.bits);
        let filled = |&slot: &u64| self.cnode.describe(slot).is_ok_and(|found| found.kind != Kind::Null);
        (0..1u64 << bits).filter(filled).count() as u64
    }
}

/// Takes the largest block of memory there is, but leaves a quarter of a smaller one's size for the rest.
pub fn largest_memory() -> Result<(CPtr, u32), AllocError> {
    memory::with(|objects| {
        let largest = objects.largest().ok_or(AllocError::NoMemory)?;
        let rest = objects.free_bytes() - (1 << largest);
        // The program itself needs some: the arena, its copy, its heap.
        let bits = if rest < 16 << 20 { largest - 1 } else { largest };
        Ok((objects.take_memory(bits)?, bits))
    })
}
