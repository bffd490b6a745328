//! The machine itself: configuration space mapped as ECAM (PCIe 5.0, 7.2.2), registers in Frames that init gives, the
//! clock. The one place of this driver with unsafe code.

extern crate alloc;

use alloc::vec::Vec;
use core::ops::Range;

use ipc::{CPtr, Error, Frame, Kind};
use pci::{Bdf, ConfigSpace, Machine, Register, Width};
use rt::alloc::AllocError;
use rt::{clock, memory};

/// Bytes of the configuration spaces of a bus.
const BUS: u64 = 1 << 20;

/// A Frame of registers that is mapped.
struct Mapped {
    slot: u32,
    physical: Range<u64>,
    first: *mut u8,
}

/// The machine.
pub struct Hardware {
    /// The configuration space; none on a machine that has no ECAM.
    ecam: Option<Mapped>,
    registers: Vec<Mapped>,
}

/// log2 of the bytes of a Frame.
pub fn bits(frame: CPtr) -> Result<u32, AllocError> {
    let found = memory::cnode()?.describe(u64::from(frame.0))?;
    match found.kind {
        Kind::Frame => Ok(found.bits as u32),
        _ => Err(Error::WrongKind.into()),
    }
}

/// Maps the Frame in a slot.
fn map(frame: CPtr) -> Result<Mapped, AllocError> {
    let bits = bits(frame)?;
    let physical = Frame(frame).physical()?;
    let first = memory::map_registers(frame, bits)?;
    Ok(Mapped { slot: frame.0, physical: physical..physical + (1 << bits), first })
}

impl Mapped {
    fn register<T>(&self, offset: u64) -> Option<*mut T> {
        let width = size_of::<T>() as u64;
        let there = offset.is_multiple_of(width) && offset < self.physical.end - self.physical.start;
        there.then(|| self.first.wrapping_add(offset as usize).cast())
    }

    fn read<T: Copy>(&self, offset: u64) -> Option<T> {
        // SAFETY: inside a Frame of registers that is mapped for good, aligned; `T` is an integer.
        self.register::<T>(offset).map(|register| unsafe { register.read_volatile() })
    }

    fn write<T: Copy>(&self, offset: u64, value: T) -> Option<()> {
        // SAFETY: as for reading. No memory of Rust's is there; what devices do upon it is this component's trade.
        self.register::<T>(offset).map(|register| unsafe { register.write_volatile(value) })
    }
}

impl Hardware {
    /// The machine, with the Frame of its configuration space.
    pub fn new(ecam: Option<CPtr>) -> Result<Hardware, AllocError> {
        Ok(Hardware { ecam: ecam.map(map).transpose()?, registers: Vec::new() })
    }

    /// The physical addresses of the configuration space.
    pub fn ecam(&self) -> Range<u64> {
        self.ecam.as_ref().map_or(0..0, |ecam| ecam.physical.clone())
    }

    /// The Frame in `slot`, mapped, if it holds `address`: where in it that is.
    fn find(&mut self, slot: u32, address: u64) -> Option<(&Mapped, u64)> {
        let physical = Frame(CPtr(slot)).physical().ok()?;
        let known =
            self.registers.iter().position(|each| each.slot == slot && each.physical.start == physical);
        let index = match known {
            Some(index) => index,
            None => {
                self.registers.push(map(CPtr(slot)).ok()?);
                self.registers.len() - 1
            }
        };
        let mapped = &self.registers[index];
        mapped.physical.contains(&address).then(|| (mapped, address - mapped.physical.start))
    }
}

impl ConfigSpace for Hardware {
    fn buses(&self) -> u16 {
        let ecam = self.ecam();
        ((ecam.end - ecam.start) / BUS).clamp(1, 256) as u16
    }

    fn read(&mut self, function: Bdf, offset: u16) -> u32 {
        let at = function.offset() as u64 + u64::from(offset);
        self.ecam.as_ref().and_then(|ecam| ecam.read(at)).unwrap_or(u32::MAX)
    }

    fn write(&mut self, function: Bdf, offset: u16, value: u32) {
        let at = function.offset() as u64 + u64::from(offset);
        if let Some(ecam) = &self.ecam {
            // What lies behind the end has no function.
            let _ = ecam.write(at, value);
        }
    }
}

impl Machine for Hardware {
    fn register(&mut self, register: Register) -> Option<u32> {
        let (mapped, at) = self.find(register.slot, register.address)?;
        match register.width {
            Width::Byte => mapped.read::<u8>(at).map(u32::from),
            Width::Word => mapped.read(at),
        }
    }

    fn set_register(&mut self, register: Register, value: u32) -> Option<()> {
        let (mapped, at) = self.find(register.slot, register.address)?;
        match register.width {
            Width::Byte => mapped.write(at, value as u8),
            Width::Word => mapped.write(at, value),
        }
    }

    fn now(&self) -> u64 {
        clock::to_microseconds(clock::now())
    }
}
