//! I/O ports. The badge of the capability is its range: the first port, and the last one << 16.

use abi::Error;

use crate::kernel::{Call, Kernel, Outcome, Words};
use crate::machine::Machine;
use crate::memory::Ref;
use crate::slot::Slot;

/// All ports.
pub const ALL_PORTS: u64 = 0xffff_0000;

fn range(badge: u64) -> (u64, u64) {
    (badge & 0xffff, badge >> 16)
}

/// `to` as a range within that of `from`.
pub fn narrow(from: u64, to: u64) -> Result<u64, Error> {
    let ((first, last), (new_first, new_last)) = (range(from), range(to));
    if new_first < first || new_last > last || new_first > new_last {
        return Err(Error::InvalidArgument);
    }
    Ok(to)
}

/// Checks an access of `width` bytes.
fn check(slot: Ref<Slot>, port: u64, width: u64) -> Result<u16, Error> {
    if !matches!(width, 1 | 2 | 4) {
        return Err(Error::InvalidArgument);
    }
    let (first, last) = range(slot.badge.get());
    let end = port.checked_add(width).and_then(|end| end.checked_sub(1)).ok_or(Error::OutOfRange)?;
    if port < first || end > last {
        return Err(Error::OutOfRange);
    }
    u16::try_from(port).map_err(|_| Error::OutOfRange)
}

impl<M: Machine> Kernel<M> {
    /// IoPort.read
    pub(crate) fn port_read(&self, by: Call, [port, width, ..]: Words) -> Outcome {
        let port = check(by.slot, port, width)?;
        Ok([self.machine.port_read(port, width), 0, 0, 0, 0, 0, 0, 0])
    }

    /// IoPort.write
    pub(crate) fn port_write(&self, by: Call, [port, width, value, ..]: Words) -> Outcome {
        let port = check(by.slot, port, width)?;
        self.machine.port_write(port, width, value);
        Ok([0; 8])
    }
}
