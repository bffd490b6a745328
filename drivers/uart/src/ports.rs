//! The registers themselves: eight I/O ports, by the kernel's leave.

use ipc::{CPtr, IoPort};

use crate::Registers;

/// The registers from port `base` on.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// The right to them.
    pub ports: CPtr,
    /// The first.
    pub base: u16,
}

impl Registers for Ports {
    fn read(&mut self, number: u8) -> u8 {
        let port = u64::from(self.base) + u64::from(number);
        // What may not be read looks like a device that is not there.
        IoPort(self.ports).read(port, 1).map_or(u8::MAX, |value| value as u8)
    }

    fn write(&mut self, number: u8, value: u8) {
        // A refusal is noticed when the device does not read back what it was told.
        let _ = IoPort(self.ports).write(u64::from(self.base) + u64::from(number), 1, value.into());
    }
}
