//! The registers themselves. The one place of this driver with unsafe code.

use edu::Registers;
use ipc::CPtr;
use proto::start::Device;
use rt::alloc::AllocError;
use rt::memory;

/// Bytes of registers that are used.
const LENGTH: u32 = 0xa0;

/// Registers that are mapped for good.
pub struct Mapped(*mut u8);

impl Mapped {
    /// Maps the device's only BAR; `None` if it has none that is large enough.
    pub fn new(device: &Device) -> Result<Option<Mapped>, AllocError> {
        let bar = device.bars.iter().find(|bar| bar.index == 0 && 1 << bar.frame.bits >= u64::from(LENGTH));
        let first = bar.map(|bar| memory::map_registers(CPtr(bar.frame.slot), u32::from(bar.frame.bits)));
        Ok(first.transpose()?.map(Mapped))
    }

    fn register<T>(&self, offset: u32) -> Option<*mut T> {
        let width = size_of::<T>() as u32;
        let there = offset.is_multiple_of(width) && offset < LENGTH;
        there.then(|| self.0.wrapping_add(offset as usize).cast())
    }
}

impl Registers for Mapped {
    fn read(&mut self, offset: u32) -> u32 {
        // SAFETY: inside registers that are mapped for good, aligned.
        self.register::<u32>(offset).map_or(u32::MAX, |register| unsafe { register.read_volatile() })
    }

    fn write(&mut self, offset: u32, value: u32) {
        if let Some(register) = self.register::<u32>(offset) {
            // SAFETY: as for reading. No memory of Rust's is there.
            unsafe { register.write_volatile(value) }
        }
    }

    fn write64(&mut self, offset: u32, value: u64) {
        if let Some(register) = self.register::<u64>(offset) {
            // SAFETY: as for 4 bytes. What the device copies then is bounded by its IoSpace, if there is one.
            unsafe { register.write_volatile(value) }
        }
    }
}
