//! Registers and memory of real hardware, as init has handed them to the driver.

use core::fmt;
use core::sync::atomic::AtomicU64;

use ipc::{CPtr, Error, Frame, IoSpace, Kind, MapFlags};
use proto::start::{Device, Memory};
use rt::alloc::AllocError;
use rt::memory;

use crate::registers::{Area, Registers};
use crate::{DeviceError, Dma, DmaMemory, NoMemory, Transport};

/// Why a device cannot be begun with.
#[derive(Clone, Copy, Debug)]
pub enum OpenError {
    /// Its registers cannot be mapped.
    Map(AllocError),
    /// It is none to work with.
    Device(DeviceError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            OpenError::Map(error) => write!(f, "the device's registers cannot be mapped: {error}"),
            OpenError::Device(error) => error.fmt(f),
        }
    }
}

/// Maps the registers of `device`.
pub fn open(device: &Device) -> Result<Transport<Mapped>, OpenError> {
    let registers = Mapped::new(device).map_err(OpenError::Map)?;
    Transport::new(registers, device.identity.1).map_err(OpenError::Device)
}

/// An area of registers that is mapped.
#[derive(Clone, Copy, Debug)]
struct Mapping {
    first: *mut u8,
    bytes: u32,
}

/// Registers that are mapped.
#[derive(Debug)]
pub struct Mapped {
    areas: [Mapping; Area::ALL.len()],
    multiplier: u32,
}

impl Mapped {
    fn new(device: &Device) -> Result<Mapped, AllocError> {
        let mut bars = [Mapping { first: core::ptr::null_mut(), bytes: 0 }; 6];
        for bar in &device.bars {
            if let Some(place) = bars.get_mut(usize::from(bar.index)) {
                let first = memory::map_registers(CPtr(bar.frame.slot), u32::from(bar.frame.bits))?;
                *place = Mapping { first, bytes: 1 << bar.frame.bits.min(31) };
            }
        }
        let mut mapped =
            Mapped { areas: [Mapping { first: core::ptr::null_mut(), bytes: 0 }; 4], multiplier: 0 };
        for (area, place) in Area::ALL.into_iter().zip(&mut mapped.areas) {
            // The first of a kind is the one that the device prefers (VirtIO 1.2, 4.1.4).
            let Some(region) = device.regions.iter().find(|region| region.kind == area as u8) else {
                continue;
            };
            let bar = bars.get(usize::from(region.bar)).copied();
            let end = region.offset.checked_add(region.length);
            if let (Some(bar), Some(end)) = (bar, end)
                && end <= bar.bytes
                && region.offset.is_multiple_of(4)
            {
                *place =
                    Mapping { first: bar.first.wrapping_add(region.offset as usize), bytes: region.length };
            }
            if area == Area::Notify {
                mapped.multiplier = region.multiplier;
            }
        }
        Ok(mapped)
    }

    /// The register at `offset`, if there is one as wide.
    #[inline]
    fn register<T>(&self, area: Area, offset: u32) -> Option<*mut T> {
        let Mapping { first, bytes } = self.areas[area as usize - 1];
        let width = size_of::<T>() as u32;
        let there = offset.is_multiple_of(width) && offset < bytes && width <= bytes - offset;
        there.then(|| first.wrapping_add(offset as usize).cast())
    }

    #[inline]
    fn read<T>(&self, area: Area, offset: u32, nothing: T) -> T {
        match self.register::<T>(area, offset) {
            // SAFETY: inside an area that is mapped for good, aligned; `T` is an integer.
            Some(register) => unsafe { register.read_volatile() },
            None => nothing,
        }
    }

    #[inline]
    fn write<T>(&self, area: Area, offset: u32, value: T) {
        if let Some(register) = self.register::<T>(area, offset) {
            // SAFETY: as for reading. Nothing of Rust's own lies there; what the device does upon it, the driver's
            // IoSpace bounds.
            unsafe { register.write_volatile(value) }
        }
    }
}

impl Registers for Mapped {
    fn bytes(&self, area: Area) -> u32 {
        self.areas[area as usize - 1].bytes
    }

    fn notify_multiplier(&self) -> u32 {
        self.multiplier
    }

    #[inline]
    fn read8(&self, area: Area, offset: u32) -> u8 {
        self.read(area, offset, u8::MAX)
    }

    #[inline]
    fn read16(&self, area: Area, offset: u32) -> u16 {
        self.read(area, offset, u16::MAX)
    }

    #[inline]
    fn read32(&self, area: Area, offset: u32) -> u32 {
        self.read(area, offset, u32::MAX)
    }

    #[inline]
    fn write8(&self, area: Area, offset: u32, value: u8) {
        self.write(area, offset, value);
    }

    #[inline]
    fn write16(&self, area: Area, offset: u32, value: u16) {
        self.write(area, offset, value);
    }

    #[inline]
    fn write32(&self, area: Area, offset: u32, value: u32) {
        self.write(area, offset, value);
    }
}

/// Memory for a device, out of the component's own, and a way to let the device at memory of others.
///
/// The device finds memory at its physical address, also where an IOMMU translates: there it finds only what is mapped
/// into the driver's IoSpace, which init empties when the driver dies.
#[derive(Debug)]
pub struct DeviceMemory {
    space: Option<IoSpace>,
}

impl DeviceMemory {
    /// The memory that `device` can reach.
    pub fn new(device: &Device) -> DeviceMemory {
        DeviceMemory { space: device.io_space.map(|slot| IoSpace(CPtr(slot))) }
    }

    /// Lets the device at all of a Frame, such as a channel's data; where it finds it.
    pub fn share(&mut self, frame: Memory) -> Result<u64, Error> {
        let address = Frame(CPtr(frame.slot)).physical()?;
        if let Some(space) = self.space {
            let pages = (1 << frame.bits) / abi::object::PAGE_SIZE;
            space.map(CPtr(frame.slot), address, 0, pages, MapFlags::WRITE)?;
        }
        Ok(address)
    }
}

impl Dma<'static> for DeviceMemory {
    fn allocate(&mut self, bytes: usize) -> Result<DmaMemory<'static>, NoMemory> {
        let bits = bytes.next_power_of_two().ilog2().max(abi::object::PAGE_SIZE.ilog2());
        let frame = memory::make(Kind::Frame, bits).map_err(|_| NoMemory)?;
        let words: &'static [AtomicU64] = memory::map_words(frame, bits).map_err(|_| NoMemory)?;
        let address = self.share(Memory { slot: frame.0, bits: bits as u8 }).map_err(|_| NoMemory)?;
        Ok(DmaMemory::new(words, address))
    }
}
