//! What goes into a component's CSpace: the capabilities that its manifest entry names, and those that every component
//! has over itself (`proto::start::names`).

extern crate alloc;

use abi::boot::slots;
use abi::object::FIRST_SLOT;
use abi::{CPtr, Error, Kind, Rights};
use ipc::{IrqControl, Untyped};
use proto::life::bell;
use proto::pci;
use proto::principal::{self, Principal};
use proto::start::{self, Memory, names};
use rt::alloc::AllocError;

use crate::build::component::{Builder, FAULT_BADGE};
use crate::build::durable::End;
use crate::build::equipment;
use crate::build::error::BuildError;
use crate::build::plan::Plan;
use crate::machine::CNODE;
use crate::manifest::Right;

/// The highest priority that a component with `sched-control` can give: below init's own.
const CEILING: u64 = 254;

/// The first of the slots in which `pci` gets registers of devices, two for each driver in the manifest: the only component
/// with something at fixed places.
pub const BUS_SLOTS: u32 = FIRST_SLOT;

/// What a component gets of memory that it shares with another.
const READ_WRITE: Rights = Rights(Rights::READ.0 | Rights::WRITE.0);

/// What has been put into the component's CSpace.
pub(super) struct Given {
    pub(super) next: u32,
    pub(super) state: Option<Memory>,
    pub(super) device: Option<start::Device>,
    pub(super) channels: heapless::Vec<start::Channel<'static>, { start::MAX_CHANNELS }>,
    pub(super) untypeds: heapless::Vec<Memory, { start::MAX_UNTYPEDS }>,
    pub(super) records: Memory,
}

impl Builder<'_, '_> {
    /// Fills the component's CSpace.
    pub(super) fn give(&mut self, plan: &Plan, records: CPtr) -> Result<Given, BuildError> {
        let mut given = Given {
            next: FIRST_SLOT,
            state: None,
            device: None,
            channels: heapless::Vec::new(),
            untypeds: heapless::Vec::new(),
            records: Memory { slot: 0, bits: start::records_bits(self.parts.slot_bits) },
        };
        self.give_bus(&mut given)?;
        self.give_own(&mut given)?;
        self.give_rights(&mut given)?;
        self.give_endpoints(&mut given)?;
        self.give_durable(&mut given)?;
        self.give_kept(&mut given)?;
        self.give_device(&mut given)?;
        for &bits in &plan.untypeds {
            let slot = self.next(&mut given)?;
            let place = u64::from(slot);
            let transient = Untyped(self.parts.transient);
            transient.retype(Kind::Untyped, u64::from(bits), self.parts.cnode.0, place, 1)?;
            // There are as many places as the plan can have.
            let _ = given.untypeds.push(Memory { slot, bits: bits as u8 });
        }
        given.records.slot = self.next(&mut given)?;
        self.parts.cnode.relocate(u64::from(given.records.slot), CNODE.0, u64::from(records.0))?;
        Ok(given)
    }

    /// What the component may do with its CSpace.
    pub(super) fn cspace_rights(&self) -> Rights {
        let hidden = if self.order.entry.sees_physical() { Rights::NONE } else { Rights::PHYSICAL };
        Rights::ALL.without(hidden)
    }

    fn give_own(&mut self, given: &mut Given) -> Result<(), BuildError> {
        let (number, endpoint) = (u64::from(self.order.number), self.order.endpoint);
        let to_init = Rights::WRITE.or(Rights::GRANT);
        self.mint(given, names::CNODE, self.parts.cnode.0, self.cspace_rights(), 0)?;
        self.mint(given, names::VSPACE, self.parts.vspace.0, Rights::ALL, 0)?;
        self.mint(given, names::TCB, self.parts.tcb.0, Rights::ALL, 0)?;
        self.mint(given, names::INIT, endpoint, to_init, number)?;
        self.mint(given, names::FAULT, endpoint, to_init, number | FAULT_BADGE)?;
        self.mint(given, names::READY, self.parts.ready, Rights::READ, 0)?;
        Ok(())
    }

    fn give_device_memory(&mut self, given: &mut Given) -> Result<(), BuildError> {
        let name = Right::DeviceMemory.name();
        let refused = |error| BuildError::Grant(name, error);
        let (from, bits) = self.machine.device_memory.ok_or(refused(Error::Unavailable))?;
        let slot = self.next(given)?;
        let cnode = self.parts.cnode.0;
        // Refused while another component has it.
        Untyped(from).retype(Kind::Untyped, u64::from(bits), cnode, u64::from(slot), 1).map_err(refused)?;
        self.parts.device_memory = Some(from);
        self.name(name, slot)
    }

    fn give_rights(&mut self, given: &mut Given) -> Result<(), BuildError> {
        for right in &self.order.entry.holds {
            let (from, badge) = match right {
                Right::SchedControl => (slots::SCHED_CONTROL, CEILING),
                Right::IrqControl => (slots::IRQ_CONTROL, 0),
                Right::IoControl => {
                    let there = CNODE.describe(u64::from(slots::IO_CONTROL))?.kind == Kind::IoControl;
                    if !there {
                        continue;
                    }
                    (slots::IO_CONTROL, 0)
                }
                Right::IoPorts => (slots::IO_PORT, 0),
                Right::System => (slots::SYSTEM, 0),
                Right::Trace => {
                    self.mint(given, right.name(), CPtr(slots::TRACE), Rights::READ, 0)?;
                    continue;
                }
                Right::DeviceMemory => {
                    self.give_device_memory(given)?;
                    continue;
                }
                // Not capabilities: init knows by the number who may ask.
                Right::Inventory | Right::Control | Right::Supervise | Right::Pci => continue,
            };
            self.mint(given, right.name(), CPtr(from), Rights::ALL, badge)?;
        }
        for &(first, last) in &self.order.entry.ports {
            let badge = u64::from(first) | u64::from(last) << 16;
            let name = alloc::format!("ports-{first:#x}");
            self.mint(given, &name, CPtr(slots::IO_PORT), Rights::ALL, badge)?;
        }
        for &irq in &self.order.entry.irqs {
            let slot = self.next(given)?;
            let (control, cpu) = (IrqControl(CPtr(slots::IRQ_CONTROL)), u64::from(self.order.entry.cpu));
            control
                .handler(self.parts.cnode.0, u64::from(slot), u64::from(irq), cpu, 0)
                .map_err(|error| BuildError::Grant("its interrupt", error))?;
            self.name(&alloc::format!("irq-{irq}"), slot)?;
        }
        self.give_bells_of_irqs(given)
    }

    /// The right to have an interrupt ring the component's own bell, with the bit of the first, second, ... vector of a
    /// device.
    fn give_bells_of_irqs(&mut self, given: &mut Given) -> Result<(), BuildError> {
        let Some(kept) = self.order.durable.kept(self.order.place) else { return Ok(()) };
        for (number, irq) in self.order.entry.irqs.iter().take(8).enumerate() {
            let name = alloc::format!("irq-{irq}-bell");
            self.mint(given, &name, kept.bell, Rights::WRITE, 1 << (usize::from(bell::IRQ) + number))?;
        }
        Ok(())
    }

    fn give_endpoints(&mut self, given: &mut Given) -> Result<(), BuildError> {
        let entry = self.order.entry;
        for &(name, endpoint) in self.order.durable.served() {
            if entry.serves.contains(&name) {
                self.mint(given, name, endpoint, Rights::READ, 0)?;
            }
            if entry.calls.contains(&name) {
                self.give_call(given, name, endpoint)?;
            }
        }
        Ok(())
    }

    /// The right to call a server: as the client that the component is in this life; and, if it has a state Frame, as
    /// the one that the state Frame makes it over all of its lives (`proto::principal`).
    fn give_call(&mut self, given: &mut Given, name: &str, endpoint: CPtr) -> Result<(), BuildError> {
        let (order, rights) = (self.order, Rights::WRITE.or(Rights::GRANT));
        // The manifest has fewer components than there are places.
        let place = order.place as u16;
        let badge = match order.entry.is_supervised() {
            true => Principal::of_component(place, order.life).badge(),
            false => principal::stranger(order.number),
        };
        self.mint(given, name, endpoint, rights, badge)?;
        let durable = order.entry.state.and_then(|_| principal::durable_name(name));
        if let Some(durable) = durable {
            let client = Principal::of_state(place, order.durable.emptied(order.place) as u32);
            self.mint(given, &durable, endpoint, rights, client.badge())?;
        }
        Ok(())
    }

    fn give_durable(&mut self, given: &mut Given) -> Result<(), BuildError> {
        let Some(kept) = self.order.untyped else { return Ok(()) };
        let slot = self.next(given)?;
        self.parts.cnode.relocate(u64::from(slot), CNODE.0, u64::from(kept.0))?;
        self.parts.durable = Some((kept, slot));
        self.name(names::DURABLE, slot)
    }

    /// What a supervised component has beside: its bell, its state, its ends of channels.
    fn give_kept(&mut self, given: &mut Given) -> Result<(), BuildError> {
        let durable = self.order.durable;
        let Some(kept) = durable.kept(self.order.place) else { return Ok(()) };
        self.mint(given, names::BELL, kept.bell, Rights::READ, 0)?;
        if let Some((frame, bits)) = kept.state {
            let slot = self.mint(given, names::STATE, frame, READ_WRITE, 0)?;
            given.state = Some(Memory { slot, bits: bits as u8 });
        }
        for end in durable.ends(self.order.place) {
            self.give_end(given, &end)?;
        }
        Ok(())
    }

    /// What `pci` has beside.
    fn give_bus(&mut self, given: &mut Given) -> Result<(), BuildError> {
        let devices = self.order.devices;
        let Some(bus) = devices.bus.as_ref().filter(|bus| bus.place == self.order.place) else {
            return Ok(());
        };
        given.next = BUS_SLOTS + 2 * devices.drivers.len() as u32;
        if given.next >> self.parts.slot_bits != 0 {
            return Err(AllocError::NoSlots.into());
        }
        for (at, driver) in devices.drivers.iter().enumerate() {
            if let Some(resources) = &driver.resources {
                equipment::give_frames(self.parts.cnode, resources, at)?;
            }
        }
        if let Some((ecam, _)) = bus.ecam {
            self.mint(given, pci::names::ECAM, ecam, READ_WRITE, 0)?;
        }
        self.mint(given, pci::names::TABLE, bus.table.frame, READ_WRITE, 0)?;
        self.mint(given, pci::names::ORDERS, bus.orders.frame, Rights::READ, 0)?;
        self.mint(given, pci::names::INIT_BELL, bus.signal, Rights::WRITE, 0)?;
        Ok(())
    }

    /// What a driver has beside: its device.
    fn give_device(&mut self, given: &mut Given) -> Result<(), BuildError> {
        let Some(resources) = self.order.devices.resources(self.order.place) else { return Ok(()) };
        let function = &resources.function;
        let mut device = start::Device {
            address: function.address,
            identity: function.identity,
            bars: heapless::Vec::new(),
            regions: function.regions.clone(),
            vectors: heapless::Vec::new(),
            io_space: None,
        };
        for &(index, frame, bits) in &resources.frames {
            // Who could write the table could have the device send any message.
            if function.msix != Some(index) {
                let slot = self.mint_unnamed(given, frame, READ_WRITE, 0)?;
                let frame = Memory { slot, bits: bits as u8 };
                device.bars.push(start::Bar { index, frame }).map_err(|_| AllocError::NoSlots)?;
            }
        }
        for vector in &resources.vectors {
            let slot = self.mint_unnamed(given, vector.handler, Rights::WRITE, 0)?;
            device.vectors.push(slot).map_err(|_| AllocError::NoSlots)?;
        }
        if let Some(space) = resources.space {
            device.io_space = Some(self.mint_unnamed(given, space, READ_WRITE, 0)?);
        }
        given.device = Some(device);
        Ok(())
    }

    fn give_end(&mut self, given: &mut Given, end: &End) -> Result<(), BuildError> {
        let rings = self.mint_unnamed(given, end.rings, READ_WRITE, 0)?;
        let data = self.mint_unnamed(given, end.data, READ_WRITE, 0)?;
        let signal = self.mint_unnamed(given, end.peer_bell, Rights::WRITE, 1 << end.peer_bit)?;
        let channel = start::Channel {
            name: end.wire.name,
            peer: end.peer as u16,
            client: end.is_client,
            rings: Memory { slot: rings, bits: end.wire.rings as u8 },
            data: Memory { slot: data, bits: end.wire.data as u8 },
            signal,
            bit: end.bit,
        };
        given.channels.push(channel).map_err(|_| AllocError::NoSlots.into())
    }

    fn next(&self, given: &mut Given) -> Result<u32, BuildError> {
        let slot = given.next;
        if slot >> self.parts.slot_bits != 0 {
            return Err(AllocError::NoSlots.into());
        }
        given.next += 1;
        Ok(slot)
    }

    fn name(&mut self, name: &str, slot: u32) -> Result<(), BuildError> {
        self.parts.names.push((name.into(), slot)).map_err(|_| AllocError::NoSlots.into())
    }

    /// Gives the component a capability derived from init's `from`, under `name`.
    fn mint(
        &mut self,
        given: &mut Given,
        name: &str,
        from: CPtr,
        rights: Rights,
        badge: u64,
    ) -> Result<u32, BuildError> {
        let slot = self.mint_unnamed(given, from, rights, badge)?;
        self.name(name, slot)?;
        Ok(slot)
    }

    fn mint_unnamed(
        &self,
        given: &mut Given,
        from: CPtr,
        rights: Rights,
        badge: u64,
    ) -> Result<u32, BuildError> {
        let slot = self.next(given)?;
        self.parts.cnode.mint(u64::from(slot), CNODE.0, u64::from(from.0), rights, badge)?;
        Ok(slot)
    }
}
