//! The hardware as this component sees it: configuration space (PCIe 5.0, 7.5.1), a few registers, a clock.

use crate::Bdf;

/// The configuration space of all functions. Where there is no function, reads give all ones and writes do nothing.
pub trait ConfigSpace {
    /// How many buses it covers, from bus 0 on: 1 to 256.
    fn buses(&self) -> u16;
    /// Reads the four bytes at `offset`, a multiple of 4 below 4096.
    fn read(&mut self, function: Bdf, offset: u16) -> u32;
    /// Writes them.
    fn write(&mut self, function: Bdf, offset: u16, value: u32);
}

/// Bytes that a register is accessed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// One.
    Byte,
    /// Four.
    Word,
}

/// A register of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// The slot, in this component's CSpace, of the Frame that it should lie in. An order said so: it may be wrong.
    pub slot: u32,
    /// Its physical address.
    pub address: u64,
    /// How it is accessed.
    pub width: Width,
}

/// Everything that is not logic.
pub trait Machine: ConfigSpace {
    /// Reads a register; `None` if the slot holds no Frame with that address in it.
    fn register(&mut self, register: Register) -> Option<u32>;
    /// Writes a register.
    fn set_register(&mut self, register: Register, value: u32) -> Option<()>;
    /// Microseconds since the machine started.
    fn now(&self) -> u64;
}

/// What a read gives where nothing answers.
pub const NOTHING: u32 = u32::MAX;

/// Offsets of four bytes each.
pub mod offset {
    /// Vendor, and device << 16.
    pub const IDENTITY: u16 = 0x00;
    /// Command (low half), status (high half, whose bits are cleared by writing 1: write it as 0).
    pub const COMMAND: u16 = 0x04;
    /// Class code in the upper three bytes.
    pub const CLASS: u16 = 0x08;
    /// Header type in byte 2.
    pub const HEADER: u16 = 0x0c;
    /// The first base address.
    pub const BARS: u16 = 0x10;
    /// Of a bridge: primary, secondary, subordinate bus; latency timer.
    pub const BUSES: u16 = 0x18;
    /// Of a bridge: base and limit of its memory window.
    pub const MEMORY_WINDOW: u16 = 0x20;
    /// Of a bridge: base and limit of its prefetchable window, then their upper halves.
    pub const PREFETCHABLE_WINDOW: u16 = 0x24;
    /// The first capability, in the lowest byte.
    pub const CAPABILITIES: u16 = 0x34;
    /// Of a bridge: bridge control in the high half.
    pub const BRIDGE_CONTROL: u16 = 0x3c;
}

/// Bits of command and status.
pub mod command {
    /// It answers to its memory addresses.
    pub const MEMORY: u32 = 1 << 1;
    /// It may read and write memory, and send messages.
    pub const BUS_MASTER: u32 = 1 << 2;
    /// It may not raise its interrupt line.
    pub const NO_INTX: u32 = 1 << 10;
    /// The half with the command.
    pub const MASK: u32 = 0xffff;
    /// Status: it has capabilities.
    pub const CAPABILITIES: u32 = 1 << 20;
}

/// Bit of bridge control: the bus behind it is reset as long as it is set.
pub const SECONDARY_BUS_RESET: u32 = 1 << 22;

/// Sets and clears bits of the command; the status stays as it is. What it reads back, `None` for a function that is
/// gone.
pub fn change_command(space: &mut impl ConfigSpace, at: Bdf, clear: u32, set: u32) -> Option<u32> {
    let now = space.read(at, offset::COMMAND);
    if now == NOTHING {
        return None;
    }
    let wanted = (now & command::MASK & !clear) | set;
    // A write makes a machine work out anew what leads where, even if nothing changes.
    if wanted == now & command::MASK {
        return Some(now);
    }
    space.write(at, offset::COMMAND, wanted);
    let after = space.read(at, offset::COMMAND);
    (after != NOTHING).then_some(after)
}
