//! Where a function is: bus, device, function.

use core::fmt;

/// Bus, device and function: 8, 5 and 3 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bdf(pub u16);

impl Bdf {
    /// The function with these numbers; more than 5 and 3 bits of the last two are dropped.
    pub const fn new(bus: u8, device: u8, function: u8) -> Bdf {
        Bdf((bus as u16) << 8 | ((device & 31) as u16) << 3 | (function & 7) as u16)
    }

    /// The bus.
    pub const fn bus(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// The device on its bus.
    pub const fn device(self) -> u8 {
        (self.0 >> 3) as u8 & 31
    }

    /// The function of its device.
    pub const fn function(self) -> u8 {
        self.0 as u8 & 7
    }

    /// Where its configuration space begins in the enhanced configuration area (PCIe 5.0, 7.2.2).
    pub const fn offset(self) -> usize {
        (self.0 as usize) << 12
    }
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus(), self.device(), self.function())
    }
}

impl fmt::Debug for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
