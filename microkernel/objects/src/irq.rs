//! Interrupts: each vector for devices has an IrqHandler; a capability for one is made by IrqControl.
//!
//! An interrupt signals the Notification bound to its handler. A line of the I/O APIC is held until the
//! handler's owner acknowledges; message-signalled interrupts need no holding.

use core::cell::Cell;

use abi::object::ANY_SOURCE;
use abi::{Error, Kind, Rights};

use crate::cpu::Cpu;
use crate::kernel::{Call, FIRST_IRQ_VECTOR, Kernel, Outcome, Words};
use crate::machine::Machine;
use crate::memory::{Ref, zeroed};
use crate::slot::{Capability, Flags, Home, Slot};
use crate::tcb::Tcb;
use crate::tree;

/// Where the interrupts of a vector come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The vector is free.
    Free,
    /// A line of the I/O APIC.
    Line(u32),
    /// A device that signals by message.
    Message,
}

/// One interrupt vector. (In the kernel's own memory: there are as many as vectors.)
#[derive(Debug)]
pub struct IrqHandler {
    /// Where its interrupts come from.
    pub source: Cell<Source>,
    /// Its number, once it is not free.
    vector: Cell<u8>,
    /// The Notification it signals.
    pub target: Slot,
}

impl IrqHandler {
    /// A free one.
    pub const fn free() -> IrqHandler {
        IrqHandler { source: Cell::new(Source::Free), vector: Cell::new(0), target: zeroed() }
    }
}

impl<M: Machine> Kernel<M> {
    /// An empty slot of `cnode` for a new capability.
    fn new_slot(&self, me: Ref<Tcb>, cnode: u64, at: u64) -> Result<Ref<Slot>, Error> {
        let slot = self.slot_in(self.find(me, cnode, Kind::CNode, Rights::WRITE)?, at)?;
        if slot.is_empty() { Ok(slot) } else { Err(Error::SlotOccupied) }
    }

    /// A free vector and its handler, which is filled into `slot`.
    fn take_vector(&self, control: Ref<Slot>, slot: Ref<Slot>, source: Source) -> Result<u8, Error> {
        let free = self.irqs.iter().enumerate().find(|(_, irq)| irq.source.get() == Source::Free);
        let (at, handler) = free.ok_or(Error::Unavailable)?;
        let vector = at.saturating_add(FIRST_IRQ_VECTOR) as u8;
        handler.source.set(source);
        handler.vector.set(vector);
        handler.target.home.set(Home::IrqTarget);
        let mut capability = Capability::whole(Kind::IrqHandler, Ref::of(handler).address());
        capability.flags = Flags::OWNER;
        slot.fill(capability);
        tree::insert(control, slot);
        Ok(vector)
    }

    /// IrqControl.handler
    pub(crate) fn irq_handler(&self, by: Call, [cnode, at, gsi, cpu, flags, ..]: Words) -> Outcome {
        let slot = self.new_slot(by.me, cnode, at)?;
        let gsi = u32::try_from(gsi).map_err(|_| Error::OutOfRange)?;
        if cpu >= self.cpu_count() as u64 || flags > 3 {
            return Err(Error::InvalidArgument.into());
        }
        if self.irqs.iter().any(|irq| irq.source.get() == Source::Line(gsi)) {
            return Err(Error::Busy.into());
        }
        let vector = self.take_vector(by.slot, slot, Source::Line(gsi))?;
        if !self.machine.route(gsi, vector, cpu as usize, flags & 1 != 0, flags & 2 != 0) {
            self.destroy_irq(slot);
            self.unlink(slot);
            return Err(Error::OutOfRange.into());
        }
        Ok([0; 8])
    }

    /// IrqControl.msi
    pub(crate) fn irq_msi(&self, by: Call, [cnode, at, cpu, source, ..]: Words) -> Outcome {
        let slot = self.new_slot(by.me, cnode, at)?;
        let is_any = source == ANY_SOURCE && !self.machine.remaps_interrupts();
        if cpu >= self.cpu_count() as u64 || source > 0xffff && !is_any {
            return Err(Error::InvalidArgument.into());
        }
        let vector = self.take_vector(by.slot, slot, Source::Message)?;
        let (address, data) = self.machine.msi(vector, cpu as usize, source);
        Ok([address, data, 0, 0, 0, 0, 0, 0])
    }

    /// IrqHandler.bind
    pub(crate) fn irq_bind(&self, by: Call, [notification, ..]: Words) -> Outcome {
        let irq = self.handler_in(by.slot)?;
        let found = self.find(by.me, notification, Kind::Notification, Rights::WRITE)?;
        self.set_target(Ref::of(&irq.get().target), found);
        self.let_through(irq);
        Ok([0; 8])
    }

    /// IrqHandler.ack
    pub(crate) fn irq_ack(&self, by: Call, _: Words) -> Outcome {
        self.let_through(self.handler_in(by.slot)?);
        Ok([0; 8])
    }

    /// IrqHandler.unbind
    pub(crate) fn irq_unbind(&self, by: Call, _: Words) -> Outcome {
        let irq = self.handler_in(by.slot)?;
        self.hold(irq);
        self.clear_target(Ref::of(&irq.get().target));
        Ok([0; 8])
    }

    /// Empties the own slot of something that signals.
    pub(crate) fn clear_target(&self, target: Ref<Slot>) {
        if !target.is_empty() {
            tree::remove(target);
            target.clear();
        }
    }

    /// Puts a capability derived from `from` there.
    pub(crate) fn set_target(&self, target: Ref<Slot>, from: Ref<Slot>) {
        self.clear_target(target);
        self.keep(from, target);
    }

    /// Signals the Notification there, if there is one.
    pub(crate) fn signal_target(&self, here: &Cpu, target: Ref<Slot>) {
        if target.kind.get() == Kind::Notification
            && let Some(notification) = Ref::at(target.object.get())
        {
            self.notify(here, notification, target.badge.get().max(1));
        }
    }

    fn let_through(&self, irq: Ref<IrqHandler>) {
        if let Source::Line(gsi) = irq.source.get()
            && !irq.target.is_empty()
        {
            self.machine.mask(gsi, false);
        }
    }

    fn hold(&self, irq: Ref<IrqHandler>) {
        if let Source::Line(gsi) = irq.source.get() {
            self.machine.mask(gsi, true);
        }
    }

    /// Frees the vector of the IrqHandler that `slot` owns.
    pub(crate) fn destroy_irq(&self, slot: Ref<Slot>) {
        let Ok(irq) = self.handler_in(slot) else { return };
        self.hold(irq);
        self.clear_target(Ref::of(&irq.get().target));
        irq.source.set(Source::Free);
        self.machine.free_vector(irq.vector.get());
    }

    /// A device interrupt came.
    pub fn interrupt(&self, here: &Cpu, vector: u8) {
        self.trace(here, abi::trace::Event::Irq, u64::from(vector), 0);
        let Some(irq) = usize::from(vector).checked_sub(FIRST_IRQ_VECTOR).and_then(|at| self.irqs.get(at))
        else {
            return;
        };
        self.hold(Ref::of(irq));
        self.signal_target(here, Ref::of(&irq.target));
    }
}
