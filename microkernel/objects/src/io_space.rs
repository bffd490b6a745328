//! What devices reach: IoSpaces, and which device is under which.
//!
//! An IoSpace is a space as a VSpace is ([`crate::space`]); the IOMMU walks its tables. A device is named by its
//! source (bus << 8 | device << 3 | function), and is a domain of its own to the IOMMU, also where several share
//! an IoSpace. What is unmapped is out of every device's reach before the call ends or gives way, so memory is
//! never used again too early.

use core::cell::Cell;

use abi::object::{IO_INTERRUPTS, IO_TOP};
use abi::{Error, Kind, MapFlags, Rights};

use crate::cpu::Cpu;
use crate::kernel::{Call, Kernel, Outcome, Step, Stop, Words};
use crate::machine::{IoFault, Machine};
use crate::mapping::range_end;
use crate::memory::Ref;
use crate::slot::Slot;
use crate::space::Space;

/// Devices under IoSpaces, at most.
pub const MAX_DEVICES: usize = 64;
/// Faults taken from the IOMMU at once.
const FAULTS_AT_ONCE: usize = 64;
/// Work units of detaching a device, or of waiting for an IOTLB.
const WAIT_UNITS: u32 = 80;

/// A device under an IoSpace. Its place in the kernel's list is its domain.
#[derive(Debug)]
pub struct Device {
    /// Which.
    pub source: Cell<u16>,
    /// What it reaches; `None` for a place that is free.
    pub space: Cell<Option<Ref<Space>>>,
}

impl Device {
    /// A place that is free.
    pub const fn free() -> Device {
        Device { source: Cell::new(0), space: Cell::new(None) }
    }
}

/// What was stopped of the devices of an IoSpace.
#[derive(Debug)]
pub struct Faults {
    /// How often since it was last asked for.
    count: Cell<u64>,
    /// The first time: source, address, reason.
    first: [Cell<u64>; 3],
    /// The Notification that is signalled.
    pub(crate) target: Slot,
}

fn source(word: u64) -> Result<u16, Error> {
    u16::try_from(word).map_err(|_| Error::OutOfRange)
}

impl<M: Machine> Kernel<M> {
    /// IoSpace.map
    pub(crate) fn io_map(&self, by: Call, [frame, address, offset, pages, flags, ..]: Words) -> Outcome {
        let space = self.space_in(by.slot)?;
        let frame = self.find(by.me, frame, Kind::Frame, Rights::NONE)?;
        let flags = MapFlags(flags);
        if !MapFlags::READ.or(MapFlags::WRITE).has(flags) || pages == 0 {
            return Err(Error::InvalidArgument.into());
        }
        let end = io_range_end(address, pages)?;
        if address < IO_INTERRUPTS.end && end > IO_INTERRUPTS.start {
            return Err(Error::OutOfRange.into());
        }
        let mapped = self.map_frame(by.here, by.me, space, frame, [address, offset, pages], flags, 0, true);
        self.flush_devices(space, true);
        mapped
    }

    /// IoSpace.unmap
    pub(crate) fn io_unmap(&self, by: Call, [address, pages, ..]: Words) -> Outcome {
        let space = self.space_in(by.slot)?;
        let end = io_range_end(address, pages)?;
        self.trace(by.here, abi::trace::Event::Unmap, address, pages);
        let reached = self.clear_range(by.here, space, address, end, None);
        if reached < end {
            self.advance(by.me, reached.wrapping_sub(address), 0..1);
            return Err(Stop::Preempted);
        }
        Ok([0; 8])
    }

    /// IoSpace.bind
    pub(crate) fn io_bind(&self, by: Call, [notification, ..]: Words) -> Outcome {
        let space = self.space_in(by.slot)?;
        let found = self.find(by.me, notification, Kind::Notification, Rights::WRITE)?;
        self.set_target(Ref::of(&space.get().faults.target), found);
        Ok([0; 8])
    }

    /// IoSpace.fault
    pub(crate) fn io_fault(&self, by: Call, _: Words) -> Outcome {
        let space = self.space_in(by.slot)?;
        self.take_faults(by.here);
        let [source, address, reason] = space.get().faults.first.each_ref().map(Cell::get);
        match space.faults.count.take() {
            0 => Ok([0; 8]),
            count => Ok([count, source, address, reason, 0, 0, 0, 0]),
        }
    }

    /// IoControl.attach
    pub(crate) fn io_attach(&self, by: Call, [space, word, ..]: Words) -> Outcome {
        let found = self.find(by.me, space, Kind::IoSpace, Rights::WRITE)?;
        let (space, source) = (self.space_in(found)?, source(word)?);
        if self.device(source).is_some() {
            return Err(Error::Busy.into());
        }
        if space.is_closed() {
            return Err(Error::OutOfTables.into());
        }
        let free = self.devices.iter().zip(1u16..).find(|(device, _)| device.space.get().is_none());
        let (device, domain) = free.ok_or(Error::Unavailable)?;
        let root = match self.machine.io_levels() {
            0 => return Err(Error::Unavailable.into()),
            // The tables have four levels; what the first entry of the root leads to covers all up to IO_TOP, and
            // is given back with the IoSpace only.
            3 => self.memory.physical(self.make_table(space, 0, 2)?.address()),
            _ => space.root.get(),
        };
        if let Some(table) = self.table(root) {
            self.written(space, table, 0, 512);
        }
        device.source.set(source);
        device.space.set(Some(space));
        self.machine.set_domain(source, domain, root);
        Ok([0; 8])
    }

    /// IoControl.detach
    pub(crate) fn io_detach(&self, _: Call, [word, ..]: Words) -> Outcome {
        if let Some((device, domain)) = self.device(source(word)?) {
            self.detach(device, domain);
        }
        Ok([0; 8])
    }

    /// IoControl.status
    pub(crate) fn io_status(&self, _: Call, _: Words) -> Outcome {
        let (translates, remaps) = (self.machine.io_levels() > 0, self.machine.remaps_interrupts());
        Ok([u64::from(translates), u64::from(remaps), 0, 0, 0, 0, 0, 0])
    }

    /// The device that has this source, with its domain.
    fn device(&self, source: u16) -> Option<(&Device, u16)> {
        let mut devices = self.devices.iter().zip(1..);
        devices.find(|(device, _)| device.space.get().is_some() && device.source.get() == source)
    }

    /// The devices under `space`, with their domains.
    fn devices_of(&self, space: Ref<Space>) -> impl Iterator<Item = (&Device, u16)> {
        self.devices.iter().zip(1..).filter(move |(device, _)| device.space.get() == Some(space))
    }

    fn detach(&self, device: &Device, domain: u16) {
        device.space.set(None);
        self.machine.set_domain(device.source.get(), domain, 0);
    }

    /// Lets no device reach `space` any more: its tables are about to go.
    pub(crate) fn detach_all(&self, space: Ref<Space>) -> Step<()> {
        if space.is_io() {
            for (device, domain) in self.devices_of(space) {
                self.spend(WAIT_UNITS)?;
                self.detach(device, domain);
            }
        }
        Ok(())
    }

    /// Has the IOMMU forget what it knows of the tables of `space`; with `made` only that something is not there.
    pub(crate) fn flush_devices(&self, space: Ref<Space>, made: bool) {
        for (_, domain) in self.devices_of(space) {
            self.spent(WAIT_UNITS);
            self.machine.flush_domain(domain, made);
        }
    }

    /// The IOMMU has stopped something: notes what, and tells the owners. A device under no IoSpace has none; what
    /// it tries is not even worth a look.
    pub fn take_faults(&self, here: &Cpu) {
        for IoFault { source, address, reason } in
            core::iter::from_fn(|| self.machine.next_fault()).take(FAULTS_AT_ONCE)
        {
            let Some(space) = self.device(source).and_then(|(device, _)| device.space.get()) else {
                continue;
            };
            let faults = &space.get().faults;
            if faults.count.replace(faults.count.get().saturating_add(1)) == 0 {
                let first = [u64::from(source), address, reason];
                faults.first.iter().zip(first).for_each(|(cell, word)| cell.set(word));
            }
            self.signal_target(here, Ref::of(&faults.target));
        }
    }
}

/// The end of a range of pages in an IoSpace.
fn io_range_end(address: u64, pages: u64) -> Result<u64, Error> {
    range_end(address, pages).and_then(|end| if end > IO_TOP { Err(Error::OutOfRange) } else { Ok(end) })
}
