//! What drivers get of their devices: registers, interrupts, an IoSpace; and what init and `pci` share.
//!
//! init and `pci` agree on devices by two Frames of words and never wait for each other (`proto::pci`). What a driver gets
//! is made once, when `pci` has said where its device is, and outlives the driver.

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use abi::boot::slots;
use abi::object::{IO_TOP, PAGE_SIZE};
use abi::{CPtr, Error, Kind, Rights};
use ipc::{IoControl, IoSpace, IrqControl, IrqHandler};
use proto::life::bell;
use proto::pci::{Outcome, Wanted, orders, table};
use rt::alloc::AllocError;
use rt::memory;

use crate::build::device_memory::{CutError, Cutter, DeviceMemory};
use crate::build::durable::{Page, badged};
use crate::build::functions::{self, Function, Unusable, Words};
use crate::log;
use crate::machine::{CNODE, Machine};
use crate::manifest::{self, Manifest, Right};

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
pub struct Equipment {
    memory: DeviceMemory,
    /// Where the two agree, if the manifest has a `pci`.
    pub bus: Option<Bus>,
    /// The drivers that the manifest names.
    pub drivers: Vec<Driver>,
    /// Whether there is an IOMMU.
    pub iommu: bool,
    /// The right to signal init of the IOMMU's faults.
    faults: CPtr,
}

/// A driver, and what it is given.
#[derive(Debug)]
pub struct Driver {
    /// Its place in the manifest.
    pub place: usize,
    wanted: manifest::Device,
    /// What it is given, as soon as `pci` has said where its device is.
    pub resources: Option<Box<Resources>>,
    /// The number of the last order, until it is answered.
    order: Option<u64>,
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

/// What a driver is given, for all of its lives.
#[derive(Debug)]
pub struct Resources {
    /// The function.
    pub function: Function,
    /// Its registers: BAR, Frame, log2 of the bytes.
    pub frames: Vec<(u8, CPtr, u32)>,
    /// Its interrupts.
    pub vectors: Vec<Vector>,
    /// What it reaches, if there is an IOMMU.
    pub space: Option<CPtr>,
}

/// An interrupt of a device.
#[derive(Clone, Copy, Debug)]
pub struct Vector {
    /// Its handler.
    pub handler: CPtr,
    /// The right to signal the driver's bell.
    signal: CPtr,
    /// Where the device writes what.
    message: [u64; 2],
}

/// Why a device cannot be had.
#[derive(Clone, Copy, Debug)]
pub enum NoDevice {
    /// The machine has none.
    NotFound(manifest::Device),
    /// What `pci` says of it makes no sense.
    Unusable(Unusable),
    /// Its registers cannot be given out.
    Registers(CutError),
    /// It has only so many interrupt vectors.
    Vectors(u32),
    /// init is short of something.
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

/// Cuts with init's own slots.
struct Own;

impl Cutter for Own {
    fn slot(&mut self) -> Result<CPtr, AllocError> {
        memory::with(|objects| objects.take_slot())
    }

    fn retype(&mut self, from: CPtr, kind: Kind, bits: u32, slot: CPtr) -> Result<(), Error> {
        ipc::Untyped(from).retype(kind, u64::from(bits), CNODE.0, u64::from(slot.0), 1)
    }
}

impl Equipment {
    /// Makes what the manifest asks for. `notification` is init's.
    pub fn make(
        machine: &Machine,
        manifest: &Manifest<'static>,
        notification: CPtr,
    ) -> Result<Equipment, AllocError> {
        let mut equipment = Equipment {
            memory: DeviceMemory::default(),
            bus: None,
            drivers: Vec::new(),
            iommu: IO_CONTROL.status().is_ok_and(|[translates, _]| translates != 0),
            faults: badged(notification, IOMMU_BIT)?,
        };
        for (slot, untyped) in machine.device_untypeds() {
            equipment.memory.add(slot, untyped.physical, untyped.bits);
        }
        for (place, entry) in manifest.components.iter().enumerate() {
            if entry.holds.contains(&Right::Pci) {
                equipment.bus = Some(equipment.bus(machine, place, badged(notification, PCI_BIT)?)?);
            }
            if let Some(wanted) = entry.device {
                equipment.drivers.push(Driver { place, wanted, resources: None, order: None });
            }
        }
        if !equipment.drivers.is_empty() && !equipment.iommu {
            log!("init: no IOMMU: drivers are trusted with all memory");
        }
        Ok(equipment)
    }

    fn bus(&mut self, machine: &Machine, place: usize, signal: CPtr) -> Result<Bus, AllocError> {
        let ecam = match machine.ecam.as_ref().map(|range| self.memory.cut(&mut Own, range)) {
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

    /// Returns which of the drivers is at `place`.
    pub fn at(&self, place: usize) -> Option<usize> {
        self.drivers.iter().position(|driver| driver.place == place)
    }

    /// What the driver at `place` is given.
    pub fn resources(&self, place: usize) -> Option<&Resources> {
        self.drivers[self.at(place)?].resources.as_deref()
    }

    /// Returns true if `pci` has said what there is.
    pub fn is_complete(&self) -> bool {
        self.bus.as_ref().is_some_and(|bus| functions::is_complete(&bus.table))
    }

    /// Makes what the driver number `at` is given, now that `pci` has said what there is.
    pub fn find(&mut self, at: usize, bell: CPtr, cpu: u64) -> Result<(), NoDevice> {
        let resources = self.discover(at, bell, cpu)?;
        self.drivers[at].resources = Some(Box::new(resources));
        Ok(())
    }

    fn discover(&mut self, at: usize, bell: CPtr, cpu: u64) -> Result<Resources, NoDevice> {
        let wanted = self.drivers[at].wanted;
        let not_found = NoDevice::NotFound(wanted);
        let table = self.bus.as_ref().map(|bus| &bus.table).ok_or(not_found)?;
        let number = functions::find(table, wanted.identity, wanted.index).ok_or(not_found)?;
        let function = Function::read(table, number).map_err(NoDevice::Unusable)?;
        if wanted.vectors > function.vectors {
            return Err(NoDevice::Vectors(function.vectors));
        }
        let mut resources = Resources { function, frames: Vec::new(), vectors: Vec::new(), space: None };
        for (bar, range) in &resources.function.bars {
            let (frame, bits) = self.memory.cut(&mut Own, range).map_err(NoDevice::Registers)?;
            resources.frames.push((*bar, frame, bits));
        }
        let source = u64::from(resources.function.address);
        for vector in 0..wanted.vectors {
            resources.vectors.push(Vector::make(bell, vector as u8, cpu, source)?);
        }
        if self.iommu {
            let space = memory::make(Kind::IoSpace, SPACE_BITS)?;
            IoSpace(space).bind(self.faults)?;
            IO_CONTROL.attach(space, source)?;
            resources.space = Some(space);
        }
        Ok(resources)
    }

    /// Writes an order of the driver number `at`, whose resources are there.
    pub fn order(&mut self, at: usize, wanted: Wanted) {
        let (Some(bus), Some(resources)) = (&self.bus, self.drivers[at].resources.as_deref()) else { return };
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
        self.drivers[at].order = Some(number);
    }

    /// Returns, once, how the last order went, if it has been carried out.
    pub fn answer(&mut self, at: usize) -> Option<Outcome> {
        let (bus, driver) = (self.bus.as_ref()?, &mut self.drivers[at]);
        let base = (driver.resources.as_deref()?.function.number + 1) * table::STRIDE;
        if bus.table.read(base + table::DONE) != driver.order? {
            return None;
        }
        driver.order = None;
        // What makes no sense says at least that the device is not known to be stopped.
        Some(Outcome::from_word(bus.table.read(base + table::OUTCOME)).unwrap_or(Outcome::NotStopped))
    }
}

/// The slots, from the first that `pci` has for it on, of the Frames that `pci` needs for the driver number `at`.
pub fn bus_slots(resources: &Resources, at: usize) -> [u32; 2] {
    let first = crate::build::component::BUS_SLOTS + 2 * at as u32;
    let of = |bar: Option<u8>, slot| if bar.is_some() { slot } else { 0 };
    [of(resources.function.msix, first), of(resources.function.common(), first + 1)]
}

impl Resources {
    /// The Frame of a BAR.
    pub fn frame(&self, bar: u8) -> Option<CPtr> {
        self.frames.iter().find(|(number, ..)| *number == bar).map(|(_, frame, _)| *frame)
    }

    /// Lets interrupts through to the driver's bell.
    pub fn connect(&self) -> Result<(), Error> {
        self.vectors.iter().try_for_each(|vector| IrqHandler(vector.handler).bind(vector.signal))
    }

    /// Lets none through.
    pub fn mask(&self) {
        for vector in &self.vectors {
            // init made the handler.
            let _ = IrqHandler(vector.handler).unbind();
        }
    }

    /// Takes from the device everything that its driver has let it reach, and waits until that is so.
    pub fn fence(&self) -> Result<(), Error> {
        let Some(space) = self.space.map(IoSpace) else { return Ok(()) };
        space.unmap(0, IO_TOP / PAGE_SIZE)?;
        // What it was stopped from until now is no fault of the next driver.
        space.fault().map(|_| ())
    }
}

impl Vector {
    fn make(bell: CPtr, number: u8, cpu: u64, source: u64) -> Result<Vector, NoDevice> {
        let handler = memory::with(|objects| objects.take_slot())?;
        let control = IrqControl(CPtr(slots::IRQ_CONTROL));
        let message = control.msi(CNODE.0, u64::from(handler.0), cpu, source)?;
        Ok(Vector { handler, signal: badged(bell, bell::IRQ + number)?, message })
    }
}

/// What a device was stopped from.
pub struct Forbidden {
    /// The address.
    pub address: u64,
    /// The IOMMU's reason, with the kind of access.
    pub reason: u64,
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
