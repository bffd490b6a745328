//! What init does all day: serves what its components ask, hears their faults, and passes on between system and consoles.

use abi::boot::slots;
use abi::{CPtr, Kind};
use ipc::serve::Serve;
use ipc::{Message, Received, Tcb, buffer, bytes};
use proto::component::MAX_BYTES;
use proto::life::bell;
use rt::alloc::AllocError;
use rt::memory;

use crate::build::component::FAULT_BADGE;
use crate::build::equipment::{IOMMU_BIT, PCI_BIT};
use crate::console::Consoles;
use crate::console::serial::{COM1, COM2};
use crate::machine::Machine;
use crate::system::{Notice, System};

mod control;
mod requests;

use requests::Asked;

/// The bits of init's own bell that channels have.
const CHANNELS: u64 = (1 << bell::IRQ) - 1;

/// init.
pub struct Init {
    system: System,
    consoles: Consoles,
    /// The component that has the kernel trace events.
    tracer: Option<u32>,
    endpoint: CPtr,
    /// The bytes that go with the answer to the message in service.
    outgoing: heapless::Vec<u8, MAX_BYTES>,
}

impl Init {
    /// Sets everything up: the manifest, the consoles, the components that start at boot.
    pub fn new(machine: Machine) -> Result<Init, AllocError> {
        let endpoint = memory::make(Kind::Endpoint, 0)?;
        let notification = memory::make(Kind::Notification, 0)?;
        Tcb(CPtr(slots::TCB)).bind_notification(notification)?;
        let system = System::new(machine, endpoint, notification)?;
        let consoles = Consoles::open(&system, notification);
        let mut init = Init { system, consoles, tracer: None, endpoint, outgoing: heapless::Vec::new() };
        init.system.boot();
        init.pass_on();
        init.consoles.greet(&init.system);
        Ok(init)
    }

    /// Returns the Endpoint to serve.
    pub fn endpoint(&self) -> CPtr {
        self.endpoint
    }

    /// Shows consoles what has happened. That takes longer than the next life's beginning, so it comes after it.
    fn pass_on(&mut self) {
        while let Some(notice) = self.system.take_notice() {
            if let Notice::Ended(ended) = &notice {
                self.stop_tracing_for(ended.number);
            }
            self.consoles.notice(&mut self.system, notice);
        }
    }

    /// A component that traced and is no more leaves no trace on: the fast path is out of service meanwhile.
    fn stop_tracing_for(&mut self, number: u32) {
        if self.tracer == Some(number) {
            self.tracer = None;
            // It was on, so it can be off.
            let _ = control::trace(0);
        }
    }
}

impl Serve for Init {
    fn message(&mut self, received: &Received) -> Option<Message> {
        let number = received.badge & (FAULT_BADGE - 1);
        if received.badge & FAULT_BADGE == 0 {
            self.outgoing.clear();
            let answer = self.handle(number, &Asked::taken(&received.message));
            self.pass_on();
            // Last: the line above may have logged, which goes through the buffer as well.
            return answer.map(|answer| match self.outgoing.is_empty() {
                true => answer,
                false => answer.with(bytes::put(&buffer().words, &self.outgoing), 0),
            });
        }
        // Whoever sends here has faulted, or wants it to be believed: the end is the same.
        self.system.faulted(number, &received.message.words);
        self.pass_on();
        None
    }

    fn notified(&mut self, bits: u64) {
        if bits >> PCI_BIT & 1 == 1 {
            self.system.pci_has_written();
        }
        if bits >> IOMMU_BIT & 1 == 1 {
            self.system.iommu_has_stopped_some();
        }
        // What has happened so far is shown before a console gives the next order.
        self.pass_on();
        if bits & COM2.badge() != 0 {
            self.consoles.host_interrupted(&mut self.system);
        }
        if bits & (CHANNELS | 1 << bell::LIVES) != 0 {
            self.consoles.turn(&mut self.system);
        }
        if bits & COM1.badge() != 0 {
            self.consoles.operator_typed(&mut self.system);
        }
        self.pass_on();
    }

    fn deadline(&self) -> Option<u64> {
        self.system.due().into_iter().chain(self.consoles.due()).min()
    }

    fn expired(&mut self) {
        self.system.expired();
        self.pass_on();
        self.consoles.turn(&mut self.system);
        self.pass_on();
    }
}
