//! What the state machines of devices have decided, done; and what `pci` and the IOMMU say.

extern crate alloc;

use alloc::boxed::Box;
use alloc::string::String;

use ipc::IoSpace;
use proto::control::{Cause, State, recovery};
use proto::pci::{Outcome, Wanted};
use rt::clock;

use super::{RunError, System, number_of};
use crate::build::equipment::{self, Forbidden};
use crate::build::functions::At;
use crate::build::resources::Resources;
use crate::log;
use crate::registry::Ending;
use crate::registry::crash::Record;
use crate::supervision::devices::{Action, Answer, Event, Failure};
use crate::supervision::life;

impl System {
    pub(super) fn perform_on_device(&mut self, seat: usize, event: Event) {
        let Some(device) = &mut self.seats[seat].device else { return };
        let actions = device.on(event);
        let Some(at) = self.equipment.at(seat) else { return };
        for action in actions {
            match action {
                Action::Find => self.find(seat, at),
                Action::Mask => self.with_resources(at, Resources::mask),
                Action::OrderOff => self.order(at, Wanted::Off),
                Action::OrderOn => self.order(at, Wanted::On),
                Action::Connect if self.connected(at) => {}
                Action::Connect => return self.tell_device(seat, Event::NotConnected),
                Action::Fenced => self.fence(seat, at),
                Action::NotFenced => self.tell(seat, life::Event::NotFenced),
                Action::Begin => self.tell(seat, life::Event::DeviceReady),
                Action::Fail(why) => self.fail(seat, why),
            }
        }
    }

    fn with_resources(&self, at: usize, act: impl FnOnce(&Resources)) {
        if let Some(resources) = self.equipment.drivers[at].resources.as_deref() {
            act(resources);
        }
    }

    fn connected(&self, at: usize) -> bool {
        let resources = self.equipment.drivers[at].resources.as_deref();
        resources.is_some_and(|resources| resources.connect().is_ok())
    }

    fn order(&mut self, at: usize, wanted: Wanted) {
        self.equipment.order(at, wanted);
        let kept = self.equipment.bus.as_ref().and_then(|bus| self.durable.kept(bus.place));
        if let Some(kept) = kept {
            kept.tell_orders();
        }
    }

    fn fence(&mut self, seat: usize, at: usize) {
        let resources = self.equipment.drivers[at].resources.as_deref();
        let fenced = resources.map_or(Ok(()), Resources::fence);
        self.seats[seat].history.recoveries.note(recovery::FENCED, clock::now());
        self.tell(seat, if fenced.is_ok() { life::Event::Fenced } else { life::Event::NotFenced });
    }

    fn find(&mut self, seat: usize, at: usize) {
        let Some(kept) = self.durable.kept(seat).filter(|_| self.equipment.is_complete()) else { return };
        let cpu = u64::from(self.manifest.components[seat].cpu);
        match self.equipment.find(at, kept.bell, cpu) {
            Ok(()) => {
                self.give_pci_its_frames(at);
                self.tell_device(seat, Event::Found);
            }
            Err(why) => {
                self.not_to_be_had(seat, alloc::format!("{why}"));
                self.tell_device(seat, Event::Absent);
            }
        }
    }

    /// Gives the running `pci` what it needs for a device that has just been found.
    fn give_pci_its_frames(&mut self, at: usize) {
        let Some(place) = self.equipment.bus.as_ref().map(|bus| bus.place) else { return };
        // A dead `pci` gets them with its next life.
        let Some(pci) = self.registry.get(u64::from(number_of(place))) else { return };
        let Some(resources) = self.equipment.drivers[at].resources.as_deref() else { return };
        if let Err(error) = equipment::give_frames(pci.parts.cnode, resources, at) {
            let device = At(resources.function.address);
            log!("init: pci cannot be given registers of {device}: {}", error.name());
        }
    }

    fn fail(&mut self, seat: usize, why: Failure) {
        let told = match why {
            Failure::Absent => None,
            Failure::NotStarted => Some("pci cannot start its device"),
            Failure::NotConnected => Some("its interrupts cannot be connected"),
            Failure::NoBus => Some("pci, which drives the bus of its device, does not run"),
        };
        if let Some(told) = told {
            self.not_to_be_had(seat, told.into());
        }
        let event = if why == Failure::NoBus { life::Event::NoBus } else { life::Event::NoDevice };
        self.tell(seat, event);
    }

    fn not_to_be_had(&mut self, seat: usize, why: String) {
        match self.seats[seat].start.take() {
            Some(beginning) => self.not_started(seat, &beginning, RunError::Device(why)),
            None => log!("init: {} is not started: {why}", self.manifest.components[seat].name),
        }
    }

    /// Tells drivers when `pci` is left dead, and when it begins again.
    pub(super) fn look_at_bus(&mut self) {
        let Some(place) = self.equipment.bus.as_ref().map(|bus| bus.place) else { return };
        let is_up = !matches!(self.seats[place].life.state(), State::Idle | State::Parked);
        if core::mem::replace(&mut self.bus_is_up, is_up) == is_up {
            return;
        }
        let event = if is_up { Event::BusBack } else { Event::BusLost };
        for at in 0..self.equipment.drivers.len() {
            let seat = self.equipment.drivers[at].place;
            self.events.push_back((seat, super::Event::Device(event)));
        }
    }

    /// `pci` has written: looks for devices that were not there yet, and at the answers to orders.
    pub fn pci_has_written(&mut self) {
        for at in 0..self.equipment.drivers.len() {
            let seat = self.equipment.drivers[at].place;
            let event = match self.equipment.answer(at) {
                Some(Outcome::Done) => Event::Answered(Answer::Done),
                Some(Outcome::Refused) => Event::Answered(Answer::Refused),
                Some(Outcome::NotStopped) => Event::Answered(Answer::NotStopped),
                None => Event::TableWritten,
            };
            self.tell_device(seat, event);
        }
    }

    /// The IOMMU has stopped a device from what it must not do: its driver is to blame.
    pub fn iommu_has_stopped_some(&mut self) {
        for at in 0..self.equipment.drivers.len() {
            let driver = &self.equipment.drivers[at];
            let seat = driver.place;
            let Some(resources) = driver.resources.as_deref() else { continue };
            let Some(space) = resources.space else { continue };
            let Ok([times, source, address, reason]) = IoSpace(space).fault() else { continue };
            // A device whose driver is dead may still try what that had told it to do.
            if times == 0 || !self.seats[seat].device.is_some_and(|device| device.is_on()) {
                continue;
            }
            let told = alloc::format!(
                "device {} was stopped: {}, {times} times",
                At(source as u16),
                Forbidden { address, reason }
            );
            log!("init: {told}");
            self.end_by_device(seat, address, &told);
        }
    }

    fn end_by_device(&mut self, seat: usize, address: u64, told: &str) {
        let Some(component) = self.registry.get(u64::from(number_of(seat))) else { return };
        // It is there, so this is not refused.
        let _ = component.parts.tcb.suspend();
        let mut record = Record::of_halted(&component.parts, Cause::Device);
        record.address = address;
        // What does not fit is cut.
        let _ = record.message.push_str(told);
        self.end(number_of(seat), Ending::Crashed(Box::new(record)));
    }
}
