//! The kernel's own state, and how its operations end.

use core::cell::Cell;

use abi::{Error, Kind, Rights};

use crate::cpu::{Cpu, Held};
use crate::delete::Graves;
use crate::endpoint::Endpoint;
use crate::io_space::{Device, MAX_DEVICES};
use crate::irq::IrqHandler;
use crate::machine::Machine;
use crate::memory::{Memory, Ref, zeroed};
use crate::notification::Notification;
use crate::reply::Reply;
use crate::sched_context::SchedContext;
use crate::slot::{Flags, Slot};
use crate::tcb::Tcb;

/// Why an operation did not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It was refused.
    Refused(Error),
    /// It did a share of its work and gives way: the system call is to be issued again, and goes on from there.
    Preempted,
    /// The thread waits (or is gone): nothing is to be written to its registers.
    Blocked,
    /// Nothing is left to do: the CPU has gone over to another thread, or stays.
    Switched,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Refused(error)
    }
}

/// How a step of an operation ends.
pub type Step<T> = Result<T, Stop>;

/// Arguments or results of a method.
pub type Words = [u64; 8];

/// How a method ends: with its result words.
pub type Outcome = Step<Words>;

/// What a method is called by.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The CPU.
    pub here: &'a Cpu,
    /// Its current thread.
    pub me: Ref<Tcb>,
    /// The capability that the thread named.
    pub slot: Ref<Slot>,
}

/// Interrupt vectors for devices: 0x30 to 0xef.
pub const IRQ_VECTORS: usize = 0xc0;
/// The first of them.
pub const FIRST_IRQ_VECTOR: usize = 0x30;

/// Work units in one entry to the kernel; a unit is about ten instructions.
pub const WORK_UNITS: u32 = 800;

/// The kernel's state: everything that is not in objects.
#[derive(Debug)]
pub struct Kernel<M: Machine> {
    /// The machine below.
    pub machine: M,
    /// The window on physical memory.
    pub memory: Memory,
    /// Physical address of the kernel's own root table.
    pub root: Cell<u64>,
    /// The entries of the kernel half that every root table has: 256 and 511.
    pub kernel_entries: [Cell<u64>; 2],
    /// Ancestor of every capability of the boot.
    pub universe: Slot,
    /// Dead CNodes whose thread has deleted itself.
    pub graves: Graves,
    /// The thread that graves are opened for.
    pub(crate) burier: Cell<Option<Ref<Tcb>>>,
    /// A capability under revocation that gave way: whoever derives capabilities meanwhile helps it along.
    pub revoking: Cell<Option<Ref<Slot>>>,
    /// The thread that revokes it.
    pub(crate) revoker: Cell<Option<Ref<Tcb>>>,
    /// A chain of calls being walked: the Reply it starts with, and one that can be reached from there.
    pub(crate) walk: Cell<Option<(Ref<Reply>, Ref<Reply>)>>,
    /// The work units this entry has left.
    pub work: Cell<u32>,
    /// Device interrupts.
    pub irqs: [IrqHandler; IRQ_VECTORS],
    /// Devices under IoSpaces.
    pub devices: [Device; MAX_DEVICES],
    /// Which events are traced.
    pub trace_mask: Cell<u64>,
    /// Where trace rings lie in the window; 0 for nowhere.
    pub trace_rings: Cell<u64>,
    /// TSC ticks in a second.
    pub tsc_hz: Cell<u64>,
    cpus: &'static [Cpu],
    cpu_count: Cell<usize>,
}

impl<M: Machine> Kernel<M> {
    /// A kernel that knows `cpus` but runs on none yet.
    pub const fn new(machine: M, memory: Memory, cpus: &'static [Cpu]) -> Kernel<M> {
        Kernel {
            machine,
            memory,
            root: Cell::new(0),
            kernel_entries: [const { Cell::new(0) }; 2],
            universe: zeroed(),
            graves: zeroed(),
            burier: Cell::new(None),
            revoking: Cell::new(None),
            revoker: Cell::new(None),
            walk: Cell::new(None),
            work: Cell::new(0),
            irqs: [const { IrqHandler::free() }; IRQ_VECTORS],
            devices: [const { Device::free() }; MAX_DEVICES],
            trace_mask: Cell::new(0),
            trace_rings: Cell::new(0),
            tsc_hz: Cell::new(0),
            cpus,
            cpu_count: Cell::new(0),
        }
    }

    /// Takes the first `count` CPUs into service.
    pub fn start_cpus(&self, count: usize) {
        for (number, cpu) in self.cpus.iter().take(count).enumerate() {
            cpu.init(number, self.root.get());
            cpu.held.set(if count > 1 { Held::Own } else { Held::Alone });
        }
        self.cpu_count.set(count.min(self.cpus.len()));
    }

    /// The CPUs in service.
    pub fn cpus(&self) -> impl Iterator<Item = &'static Cpu> {
        self.cpus.iter().take(self.cpu_count.get())
    }

    /// How many CPUs are in service.
    pub fn cpu_count(&self) -> usize {
        self.cpu_count.get()
    }

    /// CPU `number`; a Tcb's key never names another than those in service.
    pub fn cpu(&self, number: usize) -> &'static Cpu {
        self.cpus.get(number).or(self.cpus.first()).unwrap_or_else(|| unreachable!("there is a CPU"))
    }

    /// Spends work units, before doing the work.
    pub fn spend(&self, units: u32) -> Step<()> {
        match self.work.get().checked_sub(units) {
            Some(left) => {
                self.work.set(left);
                Ok(())
            }
            None => {
                self.work.set(0);
                Err(Stop::Preempted)
            }
        }
    }

    /// Spends work units after the work, as far as there are any.
    pub fn spent(&self, units: u32) {
        self.work.set(self.work.get().saturating_sub(units));
    }

    /// The slot that `cptr` names in the CSpace of `tcb`.
    pub fn slot(&self, tcb: Ref<Tcb>, cptr: u64) -> Result<Ref<Slot>, Error> {
        if cptr < u64::from(abi::object::FIRST_SLOT) || cptr >= tcb.cspace_slots.get() {
            return Err(Error::NoCapability);
        }
        self.slot_at(tcb.cspace.get(), cptr).ok_or(Error::NoCapability)
    }

    /// Slot `index` of the CNode at `base`.
    pub fn slot_at(&self, base: u64, index: u64) -> Option<Ref<Slot>> {
        Ref::at(base.wrapping_add(index << abi::object::SLOT_BITS))
    }

    /// The capability that `cptr` names, if it is of `kind` and has `rights`.
    pub fn find(&self, tcb: Ref<Tcb>, cptr: u64, kind: Kind, rights: Rights) -> Result<Ref<Slot>, Error> {
        let slot = self.slot(tcb, cptr)?;
        if slot.is_empty() || slot.flags().contains(Flags::DYING) {
            return Err(Error::NoCapability);
        }
        if slot.kind.get() != kind {
            return Err(Error::WrongKind);
        }
        if !slot.rights.get().has(rights) {
            return Err(Error::NoRights);
        }
        Ok(slot)
    }
}

/// For kinds of objects: what a capability of that kind, which its holder has looked up as one, is for.
macro_rules! objects {
    ($($name:ident: $type:ty,)*) => {
        impl<M: Machine> Kernel<M> { $(
            #[doc = concat!("The ", stringify!($type), " that a capability is for.")]
            pub fn $name(&self, slot: Ref<Slot>) -> Result<Ref<$type>, Error> {
                Ref::at(slot.object.get()).ok_or(Error::NoCapability)
            }
        )* }
    };
}

objects! {
    tcb_in: Tcb,
    context_in: SchedContext,
    endpoint_in: Endpoint,
    notification_in: Notification,
    reply_in: Reply,
    handler_in: IrqHandler,
}
