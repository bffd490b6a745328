//! Devices and their drivers: who drives what, and how a device is stopped when its driver dies.
//!
//! init and `pci` agree on devices by two Frames of words and never wait for each other (`proto::pci`). What a driver gets
//! (registers, interrupts, an IoSpace) is made once, when `pci` has said where its device is, and outlives it.
//!
//! The order at a driver's death: its interrupts are masked; `pci` is asked to stop the device, and init goes on with other
//! things; when that is done, what the device could reach is taken from its IoSpace, and only then the driver's memory is used
//! again. Before a driver begins, `pci` is asked to reset the device and let it master the bus. A `pci` that dies meanwhile
//! finds the orders in its next life.
//!
//! Where an IOMMU bounds the device, one order does for both: `pci` resets it and has it ready for the next driver. It has
//! forgotten all addresses then, and behind its emptied IoSpace it would find nothing. Without an IOMMU it also loses the
//! bus, until the next driver begins.

extern crate alloc;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use abi::boot::slots;
use abi::object::{IO_TOP, PAGE_SIZE};
use abi::{CPtr, Error, Kind, Rights};
use ipc::{IoControl, IoSpace, IrqControl, IrqHandler};
use proto::control::{Cause, State, recovery};
use proto::life::bell;
use proto::pci::{Outcome, Wanted, orders, table};
use rt::alloc::AllocError;
use rt::{clock, memory};

use crate::component::Parts;
use crate::crash::Record;
use crate::device_memory::{CutError, DeviceMemory, Slots, give_back};
use crate::durable::{Page, badged};
use crate::functions::{self, At, Function, Unusable, Words};
use crate::log;
use crate::machine::{CNODE, Machine};
use crate::manifest::{self, Manifest, Right};
use crate::resources::{Maker, Resources, Vector};
use crate::restart::Why;
use crate::supervisor::{Console, Ending, Supervisor};

/// Bits of init's Notification: `pci` has written; the IOMMU has stopped a device.
pub const PCI_BIT: u8 = bell::OWN;
/// Likewise.
pub const IOMMU_BIT: u8 = bell::OWN + 1;
/// log2 of the bytes of the table and of the orders of `proto::pci`.
const TABLE_BITS: u32 = 15;
const ORDERS_BITS: u32 = 14;
/// log2 of the memory for the tables of an IoSpace: enough for channels of some hundred MiB.
const SPACE_BITS: u32 = 18;
const IO_CONTROL: IoControl = IoControl(CPtr(slots::IO_CONTROL));

/// Everything about devices.
#[derive(Debug)]
pub struct Devices {
    memory: DeviceMemory,
    /// Where the two agree, if the manifest has a `pci`.
    pub bus: Option<Bus>,
    /// The drivers that the manifest names.
    pub drivers: Vec<Driver>,
    /// Whether there is an IOMMU.
    iommu: bool,
    /// The right to signal init of the IOMMU's faults.
    faults: CPtr,
    /// What was a driver whose device could not be stopped: its memory is not used again.
    quarantine: Vec<Parts>,
}

/// What init and `pci` share.
#[derive(Debug)]
pub struct Bus {
    /// The place of `pci`.
    pub place: usize,
    /// The Frame with configuration space, and log2 of its bytes.
    pub ecam: Option<(CPtr, u32)>,
    /// What devices there are.
    pub table: Page,
    /// What they shall be.
    pub orders: Page,
    /// The right to signal init.
    pub signal: CPtr,
}

/// A driver, and how its device stands.
#[derive(Debug)]
pub struct Driver {
    /// Its place in the manifest.
    pub place: usize,
    wanted: manifest::Device,
    phase: Phase,
    /// What it is given.
    pub resources: Option<Box<Resources>>,
    /// What there is of that after an attempt that failed.
    begun: Option<Resources>,
    /// Who is to begin when the device is on.
    pending: Option<Pending>,
    /// What is left of its last life until the device is stopped, and why that ended.
    grave: Option<(Parts, Why)>,
}

/// How a device stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// `pci` has not said where it is.
    Unknown,
    /// It cannot be had.
    Unusable,
    /// It is stopped.
    Off,
    /// `pci` is to stop it: the order's number.
    Stopping(u64),
    /// `pci` is to start it: the order's number.
    Starting(u64),
    /// Its driver is dead; `pci` is to stop it, and to start it for the next one: the order's number.
    Resetting(u64),
    /// Its driver has it.
    On,
}

/// A start that waits for the device.
#[derive(Debug)]
struct Pending {
    name: &'static str,
    arguments: String,
    console: Console,
}

/// Why a device cannot be had.
#[derive(Clone, Copy, Debug)]
enum NoDevice {
    NotFound(manifest::Device),
    Unusable(Unusable),
    Registers(CutError),
    Vectors(u32),
    Short(AllocError),
}

impl fmt::Display for NoDevice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            NoDevice::NotFound(wanted) => {
                let (vendor, device) = wanted.identity;
                write!(f, "the machine has no device {vendor:04x}:{device:04x} number {}", wanted.index)
            }
            NoDevice::Unusable(why) => write!(f, "its device cannot be used: {why}"),
            NoDevice::Registers(error) => write!(f, "its device cannot be used: {error}"),
            NoDevice::Vectors(has) => write!(f, "its device has only {has} interrupt vectors"),
            NoDevice::Short(error) => write!(f, "init cannot make what it needs: {error}"),
        }
    }
}

impl From<AllocError> for NoDevice {
    fn from(error: AllocError) -> NoDevice {
        NoDevice::Short(error)
    }
}

impl From<Error> for NoDevice {
    fn from(error: Error) -> NoDevice {
        NoDevice::Short(error.into())
    }
}

impl Words for Page {
    fn word(&self, at: usize) -> u64 {
        self.read(at)
    }
}

/// Makes what a driver is given, of the machine and of init's own memory.
struct Own<'d> {
    memory: &'d mut DeviceMemory,
    iommu: bool,
    /// The right to signal init of the IOMMU's faults.
    faults: CPtr,
    /// The driver's bell and CPU, and where its device is.
    bell: CPtr,
    cpu: u64,
    source: u16,
}

impl Maker for Own<'_> {
    type Error = NoDevice;

    fn registers(&mut self, range: &Range<u64>) -> Result<(CPtr, u32), NoDevice> {
        self.memory.cut(&mut Slots, range).map_err(NoDevice::Registers)
    }

    fn vector(&mut self, number: u8) -> Result<Vector, NoDevice> {
        let signal = badged(self.bell, bell::IRQ + number)?;
        let made = memory::with(|objects| objects.take_slot()).and_then(|handler| {
            let control = IrqControl(CPtr(slots::IRQ_CONTROL));
            let message = control.msi(CNODE.0, u64::from(handler.0), self.cpu, u64::from(self.source));
            message.map(|message| Vector { handler, signal, message }).map_err(|error| {
                give_back(handler);
                error.into()
            })
        });
        made.map_err(|error| {
            // init's own capability, which nothing is derived from.
            let _ = CNODE.delete(u64::from(signal.0));
            give_back(signal);
            error.into()
        })
    }

    fn space(&mut self) -> Result<Option<CPtr>, NoDevice> {
        if !self.iommu {
            return Ok(None);
        }
        let space = memory::make(Kind::IoSpace, SPACE_BITS)?;
        let ready = IoSpace(space).bind(self.faults);
        match ready.and_then(|()| IO_CONTROL.attach(space, u64::from(self.source))) {
            Ok(()) => Ok(Some(space)),
            Err(error) => {
                memory::destroy(space)?;
                Err(error.into())
            }
        }
    }
}

impl Devices {
    /// Makes what the manifest asks for. `notification` is init's.
    pub fn make(
        machine: &Machine,
        manifest: &Manifest<'static>,
        notification: CPtr,
    ) -> Result<Devices, AllocError> {
        let mut devices = Devices {
            memory: DeviceMemory::default(),
            bus: None,
            drivers: Vec::new(),
            iommu: IO_CONTROL.status().is_ok_and(|[translates, _]| translates != 0),
            faults: badged(notification, IOMMU_BIT)?,
            quarantine: Vec::new(),
        };
        for (slot, untyped) in machine.device_untypeds() {
            devices.memory.add(slot, untyped.physical, untyped.bits);
        }
        for (place, entry) in manifest.components.iter().enumerate() {
            if entry.holds.contains(&Right::Pci) {
                devices.bus = Some(devices.bus(machine, place, badged(notification, PCI_BIT)?)?);
            }
            if let Some(wanted) = entry.device {
                devices.drivers.push(Driver::new(place, wanted));
            }
        }
        if !devices.drivers.is_empty() && !devices.iommu {
            log!("init: no IOMMU: drivers are trusted with all memory");
        }
        Ok(devices)
    }

    fn bus(&mut self, machine: &Machine, place: usize, signal: CPtr) -> Result<Bus, AllocError> {
        let ecam = match machine.ecam.as_ref().map(|range| self.memory.cut(&mut Slots, range)) {
            Some(Ok(ecam)) => Some(ecam),
            Some(Err(error)) => {
                log!("init: PCI configuration space cannot be given out: {error}");
                None
            }
            None => {
                log!("init: the machine has no PCI configuration space");
                None
            }
        };
        Ok(Bus { place, ecam, table: Page::make(TABLE_BITS)?, orders: Page::make(ORDERS_BITS)?, signal })
    }

    /// Which of the drivers is at `place`.
    fn at(&self, place: usize) -> Option<usize> {
        self.drivers.iter().position(|driver| driver.place == place)
    }

    /// What the driver at `place` is given.
    pub fn resources(&self, place: usize) -> Option<&Resources> {
        self.drivers[self.at(place)?].resources.as_deref()
    }

    /// Makes what the driver is given, now that `pci` has said what there is.
    fn discover(&mut self, at: usize, bell: CPtr, cpu: u64) -> Result<Resources, NoDevice> {
        let wanted = self.drivers[at].wanted;
        let not_found = NoDevice::NotFound(wanted);
        let table = self.bus.as_ref().map(|bus| &bus.table).ok_or(not_found)?;
        let number = functions::find(table, wanted.identity, wanted.index).ok_or(not_found)?;
        let function = Function::read(table, number).map_err(NoDevice::Unusable)?;
        if wanted.vectors > function.vectors {
            return Err(NoDevice::Vectors(function.vectors));
        }
        let mut resources = self.drivers[at].begun.take().unwrap_or_else(|| Resources::of(function));
        let source = resources.function.address;
        let mut maker =
            Own { memory: &mut self.memory, iommu: self.iommu, faults: self.faults, bell, cpu, source };
        let completed = resources.complete(wanted.vectors, &mut maker);
        match completed {
            Ok(()) => Ok(resources),
            Err(why) => {
                self.drivers[at].begun = Some(resources);
                Err(why)
            }
        }
    }

    /// Writes an order, if there is a `pci`: its number.
    fn order(&self, at: usize, wanted: Wanted) -> Option<u64> {
        let bus = self.bus.as_ref()?;
        let resources = self.drivers[at].resources.as_deref()?;
        let base = (resources.function.number + 1) * orders::STRIDE;
        let [table, common] = bus_slots(resources, at);
        bus.orders.write(base + orders::WANTED, wanted as u64);
        bus.orders.write(base + orders::FRAMES, u64::from(table) | u64::from(common) << 32);
        bus.orders.write(base + orders::VECTORS, resources.vectors.len() as u64);
        for (number, vector) in resources.vectors.iter().enumerate() {
            for (part, word) in vector.message.iter().enumerate() {
                bus.orders.write(base + orders::MESSAGES + number * 2 + part, *word);
            }
        }
        let number = bus.orders.read(base + orders::NUMBER) + 1;
        bus.orders.write(base + orders::NUMBER, number);
        Some(number)
    }

    /// How an order went, if it has been carried out.
    fn answer(&self, at: usize, order: u64) -> Option<Outcome> {
        let bus = self.bus.as_ref()?;
        let resources = self.drivers[at].resources.as_deref()?;
        let base = (resources.function.number + 1) * table::STRIDE;
        if bus.table.read(base + table::DONE) != order {
            return None;
        }
        // What makes no sense says at least that the device is not known to be stopped.
        Some(Outcome::from_word(bus.table.read(base + table::OUTCOME)).unwrap_or(Outcome::NotStopped))
    }
}

/// The slots, from the first that `pci` has for it on, of the Frames that `pci` needs for the driver number `at`.
pub fn bus_slots(resources: &Resources, at: usize) -> [u32; 2] {
    let first = crate::component::BUS_SLOTS + 2 * at as u32;
    let of = |bar: Option<u8>, slot| if bar.is_some() { slot } else { 0 };
    [of(resources.function.msix, first), of(resources.function.common(), first + 1)]
}

impl Driver {
    fn new(place: usize, wanted: manifest::Device) -> Driver {
        Driver {
            place,
            wanted,
            phase: Phase::Unknown,
            resources: None,
            begun: None,
            pending: None,
            grave: None,
        }
    }
}

impl Resources {
    /// Lets interrupts through to the driver's bell.
    fn connect(&self) -> Result<(), Error> {
        self.vectors.iter().try_for_each(|vector| IrqHandler(vector.handler).bind(vector.signal))
    }

    /// Lets none through.
    fn mask(&self) {
        for vector in &self.vectors {
            // init made the handler.
            let _ = IrqHandler(vector.handler).unbind();
        }
    }

    /// Takes from the device everything that its driver has let it reach, and waits until that is so.
    fn fence(&self) -> Result<(), Error> {
        let Some(space) = self.space.map(IoSpace) else { return Ok(()) };
        space.unmap(0, IO_TOP / PAGE_SIZE)?;
        // What it was stopped from until now is no fault of the next driver.
        space.fault().map(|_| ())
    }
}

impl Supervisor {
    /// Whether a start at `place` has to wait for the device; if so, it happens by itself when that is on.
    pub fn waits_for_device(
        &mut self,
        place: usize,
        name: &'static str,
        arguments: &str,
        console: Console,
    ) -> bool {
        let Some(at) = self.devices.at(place) else { return false };
        let driver = &mut self.devices.drivers[at];
        if driver.phase == Phase::On {
            return false;
        }
        driver.pending = Some(Pending { name, arguments: arguments.into(), console });
        self.fates[place].state = State::Fencing;
        match driver.phase {
            Phase::Off => self.power_on(at),
            // Once more: what was missing may be there now.
            Phase::Unknown | Phase::Unusable => self.look_for_device(at),
            Phase::Stopping(_) | Phase::Starting(_) | Phase::Resetting(_) | Phase::On => {}
        }
        true
    }

    /// `pci` has written: looks for devices that were not there yet, and at the answers to orders.
    pub fn pci_has_written(&mut self) {
        for at in 0..self.devices.drivers.len() {
            match self.devices.drivers[at].phase {
                Phase::Unknown => self.look_for_device(at),
                Phase::Stopping(order) => self.look_whether_stopped(at, order),
                Phase::Starting(order) => self.look_whether_started(at, order),
                Phase::Resetting(order) => self.look_whether_reset(at, order),
                Phase::Unusable | Phase::Off | Phase::On => {}
            }
        }
    }

    fn look_for_device(&mut self, at: usize) {
        let complete = self.devices.bus.as_ref().is_some_and(|bus| functions::is_complete(&bus.table));
        let place = self.devices.drivers[at].place;
        let Some(kept) = self.durable.kept(place).filter(|_| complete) else { return };
        let cpu = u64::from(self.manifest.components[place].cpu);
        match self.devices.discover(at, kept.bell, cpu) {
            Ok(resources) => {
                let driver = &mut self.devices.drivers[at];
                driver.resources = Some(Box::new(resources));
                driver.phase = Phase::Off;
                let wanted = driver.pending.is_some();
                self.give_pci_its_frames(at);
                if wanted {
                    self.power_on(at);
                }
            }
            Err(why) => {
                self.devices.drivers[at].phase = Phase::Unusable;
                self.start_failed(at, &alloc::format!("{why}"));
            }
        }
    }

    /// Gives the running `pci` what it needs for a device that has just been found.
    fn give_pci_its_frames(&mut self, at: usize) {
        let Some(place) = self.devices.bus.as_ref().map(|bus| bus.place) else { return };
        let number = self.running_at(place).map(u64::from);
        let cnode = number.and_then(|number| self.component(number)).map(|pci| pci.parts.cnode);
        let Some(resources) = self.devices.drivers[at].resources.as_deref() else { return };
        // A dead `pci` gets them with its next life.
        let Some(cnode) = cnode else { return };
        if let Err(error) = give_frames(cnode, resources, at) {
            log!(
                "init: pci cannot be given registers of {}: {}",
                At(resources.function.address),
                error.name()
            );
        }
    }

    fn power_on(&mut self, at: usize) {
        match self.devices.order(at, Wanted::On) {
            Some(order) => {
                self.devices.drivers[at].phase = Phase::Starting(order);
                self.ring_pci();
            }
            None => self.start_failed(at, "nothing drives the bus of its device"),
        }
    }

    fn ring_pci(&self) {
        let kept = self.devices.bus.as_ref().and_then(|bus| self.durable.kept(bus.place));
        if let Some(kept) = kept {
            kept.tell_orders();
        }
    }

    fn look_whether_started(&mut self, at: usize, order: u64) {
        let Some(outcome) = self.devices.answer(at, order) else { return };
        if outcome != Outcome::Done {
            self.devices.drivers[at].phase = Phase::Off;
            return self.start_failed(at, "pci cannot start its device");
        }
        self.devices.drivers[at].phase = Phase::On;
        self.begin_driver(at);
    }

    /// The device is on: whoever waits for that begins. If nobody does, it is stopped.
    fn begin_driver(&mut self, at: usize) {
        let driver = &mut self.devices.drivers[at];
        let connected = driver.resources.as_deref().map_or(Ok(()), Resources::connect);
        let Some(Pending { name, arguments, console }) = driver.pending.take() else {
            return self.stop_device(at);
        };
        let place = driver.place;
        let started = match connected {
            Ok(()) => self.start(place, name, &arguments, console).map_err(|error| alloc::format!("{error}")),
            Err(error) => Err(alloc::format!("its interrupts cannot be connected: {}", error.name())),
        };
        if let Err(why) = started {
            self.devices.drivers[at].pending = Some(Pending { name, arguments, console });
            self.start_failed(at, &why);
            self.stop_device(at);
        }
    }

    /// Who waits for the device waits in vain.
    fn start_failed(&mut self, at: usize, why: &str) {
        let driver = &mut self.devices.drivers[at];
        let place = driver.place;
        let name = self.manifest.components[place].name;
        let console = driver.pending.take().map(|pending| pending.console);
        if console.is_some() {
            self.fates[place].state = State::Parked;
        }
        match console {
            Some(Console::Host) => self.tell_host_not_started(name, why),
            Some(_) => log!("init: {name} is not started: {why}"),
            None => {}
        }
    }

    /// A component has died, and stands still: is taken apart, a driver as soon as its device is stopped.
    pub fn fence_driver(&mut self, place: usize, parts: Parts, why: Why) {
        let Some(at) = self.devices.at(place) else { return self.bury(place, parts, why) };
        let driver = &mut self.devices.drivers[at];
        driver.grave = Some((parts, why));
        self.fates[place].state = State::Fencing;
        match driver.resources.as_deref().and_then(|resources| resources.space) {
            Some(_) => self.reset_device(at),
            None => self.stop_device(at),
        }
    }

    fn stop_device(&mut self, at: usize) {
        if let Some(order) = self.mask_and_order(at, Wanted::Off) {
            self.devices.drivers[at].phase = Phase::Stopping(order);
        }
    }

    fn reset_device(&mut self, at: usize) {
        if let Some(order) = self.mask_and_order(at, Wanted::On) {
            self.devices.drivers[at].phase = Phase::Resetting(order);
        }
    }

    /// A device that runs was found, and by a `pci`: so there is an order.
    fn mask_and_order(&mut self, at: usize, wanted: Wanted) -> Option<u64> {
        if let Some(resources) = &self.devices.drivers[at].resources {
            resources.mask();
        }
        let order = self.devices.order(at, wanted);
        self.ring_pci();
        order
    }

    fn look_whether_stopped(&mut self, at: usize, order: u64) {
        let Some(outcome) = self.devices.answer(at, order) else { return };
        self.devices.drivers[at].phase = Phase::Off;
        self.device_stands_still(at, outcome == Outcome::Done);
    }

    fn look_whether_reset(&mut self, at: usize, order: u64) {
        let Some(outcome) = self.devices.answer(at, order) else { return };
        let driver = &mut self.devices.drivers[at];
        let connected = driver.resources.as_deref().map_or(Ok(()), Resources::connect);
        match outcome {
            Outcome::Done if connected.is_ok() => {
                driver.phase = Phase::On;
                self.device_stands_still(at, true);
            }
            // The next driver cannot begin with it, and whether it stands still is not said.
            Outcome::Done | Outcome::Refused => self.stop_device(at),
            Outcome::NotStopped => {
                driver.phase = Phase::Off;
                self.device_stands_still(at, false);
            }
        }
    }

    /// The device does nothing any more, or could not be `stopped`: its dead driver's memory is used again, or never.
    fn device_stands_still(&mut self, at: usize, stopped: bool) {
        let driver = &mut self.devices.drivers[at];
        let (place, grave) = (driver.place, driver.grave.take());
        let fenced = driver.resources.as_deref().map_or(Ok(()), Resources::fence);
        self.fates[place].recoveries.note(recovery::FENCED, clock::now());
        match (grave, stopped && fenced.is_ok()) {
            (Some((parts, why)), true) => self.bury(place, parts, why),
            (Some((parts, _)), false) => self.quarantine(at, parts),
            (None, _) => {}
        }
        let begun = self.running_at(place).is_some();
        let driver = &mut self.devices.drivers[at];
        match driver.phase {
            // Its driver runs again: nobody is to wait for that any more.
            Phase::On if begun => driver.pending = None,
            Phase::On => self.begin_driver(at),
            Phase::Off if driver.pending.is_some() => self.power_on(at),
            _ => {}
        }
    }

    fn quarantine(&mut self, at: usize, parts: Parts) {
        let place = self.devices.drivers[at].place;
        self.devices.quarantine.push(parts);
        log!(
            "init: the device of {} could not be stopped: the memory of its driver is not used again",
            self.manifest.components[place].name
        );
        self.fates[place].state = State::Parked;
        self.start_failed(at, "its device could not be stopped");
    }

    /// The IOMMU has stopped a device from what it must not do: its driver is to blame.
    pub fn iommu_has_stopped_some(&mut self) {
        for at in 0..self.devices.drivers.len() {
            let driver = &self.devices.drivers[at];
            let (place, phase) = (driver.place, driver.phase);
            let Some(resources) = driver.resources.as_deref() else { continue };
            let Some(space) = resources.space else { continue };
            let Ok([times, source, address, reason]) = IoSpace(space).fault() else { continue };
            // A device whose driver is dead may still try what that had told it to do.
            if times == 0 || phase != Phase::On {
                continue;
            }
            let told = alloc::format!(
                "device {} was stopped: {}, {times} times",
                At(source as u16),
                Forbidden { address, reason }
            );
            log!("init: {told}");
            self.end_by_device(place, address, &told);
        }
    }

    fn end_by_device(&mut self, place: usize, address: u64, told: &str) {
        let Some(number) = self.running_at(place) else { return };
        let Some(component) = self.component(u64::from(number)) else { return };
        // It is there, so this is not refused.
        let _ = component.parts.tcb.suspend();
        let mut record = Record::of_halted(&component.parts, Cause::Device);
        record.address = address;
        // What does not fit is cut.
        let _ = record.message.push_str(told);
        self.end(number, Ending::Crashed(Box::new(record)));
    }
}

/// What a device was stopped from.
struct Forbidden {
    address: u64,
    reason: u64,
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.reason & 0xff {
            // VT-d specification, table of fault reasons: those of interrupt remapping.
            reason @ 0x20..=0x2f => {
                write!(f, "a forged interrupt, entry {} (reason {reason:#x})", self.address >> 48)
            }
            reason => {
                let kind = if self.reason >> 8 & 1 == 1 { "read" } else { "write" };
                write!(f, "{kind} of address {:#x} (reason {reason:#x})", self.address)
            }
        }
    }
}

/// Gives `pci` the Frames with the MSI-X table and the VirtIO common configuration of driver number `at`.
pub fn give_frames(cnode: ipc::CNode, resources: &Resources, at: usize) -> Result<(), Error> {
    let bars = [resources.function.msix, resources.function.common()];
    for (bar, slot) in bars.into_iter().zip(bus_slots(resources, at)) {
        if let Some(frame) = bar.and_then(|bar| resources.frame(bar)) {
            let rights = Rights::READ.or(Rights::WRITE);
            cnode.mint(u64::from(slot), CNODE.0, u64::from(frame.0), rights, 0)?;
        }
    }
    Ok(())
}
