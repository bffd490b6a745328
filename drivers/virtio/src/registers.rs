//! Registers of a device.

/// The structures that a VirtIO device has in its registers (VirtIO 1.2, 4.1.4; the numbers are `cfg_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Area {
    /// What all devices have.
    Common = 1,
    /// Where queues are notified.
    Notify = 2,
    /// Which kind of interrupt came; of no use with MSI-X.
    Isr = 3,
    /// What the kind of device has.
    Config = 4,
}

impl Area {
    /// Every area.
    pub const ALL: [Area; 4] = [Area::Common, Area::Notify, Area::Isr, Area::Config];

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Area::Common => "common",
            Area::Notify => "notification",
            Area::Isr => "interrupt status",
            Area::Config => "configuration",
        }
    }
}

/// Access to a device's registers. Offsets are multiples of the width. As on a bus, what is not there reads as all
/// ones, and a write to it does nothing.
pub trait Registers {
    /// Bytes of the area; 0 where there is none.
    fn bytes(&self, area: Area) -> u32;
    /// `notify_off_multiplier` (VirtIO 1.2, 4.1.4.4).
    fn notify_multiplier(&self) -> u32;
    /// Reads a byte.
    fn read8(&self, area: Area, offset: u32) -> u8;
    /// Reads two bytes.
    fn read16(&self, area: Area, offset: u32) -> u16;
    /// Reads four bytes.
    fn read32(&self, area: Area, offset: u32) -> u32;
    /// Writes a byte.
    fn write8(&self, area: Area, offset: u32, value: u8);
    /// Writes two bytes.
    fn write16(&self, area: Area, offset: u32, value: u16);
    /// Writes four bytes.
    fn write32(&self, area: Area, offset: u32, value: u32);
}
