//! What drivers get of their devices: registers, interrupts, an IoSpace; and what init and `pci` share.
//!
//! init and `pci` agree on devices by two Frames of words and never wait for each other (`proto::pci`). What a driver gets
//! is made once, when `pci` has said where its device is, and outlives the driver.

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use abi::boot::slots;
use abi::object::{IO_TOP, PAGE_SIZE};
use abi::{CPtr, Error, Kind, Rights};
use ipc::{IoControl, IoSpace, IrqControl, IrqHandler};
use proto::life::bell;
use proto::pci::{Outcome, Wanted, orders, table};
use rt::alloc::AllocError;
use rt::memory;

use crate::build::device_memory::{CutError, DeviceMemory, Slots, give_back};
use crate::build::durable::{Page, badged};
use crate::build::functions::{self, Function, Unusable, Words};
use crate::build::resources::{Maker, Resources, Vector};
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
    /// What there is of that after an attempt that failed.
    begun: Option<Resources>,
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
                equipment.drivers.push(Driver { place, wanted, resources: None, begun: None, order: None });
            }
        }
        if !equipment.drivers.is_empty() && !equipment.iommu {
            log!("init: no IOMMU: drivers are trusted with all memory");
        }
        Ok(equipment)
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
    let first = crate::build::cspace::BUS_SLOTS + 2 * at as u32;
    let of = |bar: Option<u8>, slot| if bar.is_some() { slot } else { 0 };
    [of(resources.function.msix, first), of(resources.function.common(), first + 1)]
}

impl Resources {
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
