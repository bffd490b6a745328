//! The features that belong to no device in particular.

use bitflags::bitflags;

bitflags! {
    /// Reserved feature bits (VirtIO 1.2, section 6); bits of devices are kept as they are.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Features: u64 {
        /// A descriptor can refer to a table of descriptors.
        const INDIRECT_DESC = 1 << 28;
        /// Both sides say from which index on they want to be notified.
        const EVENT_IDX = 1 << 29;
        /// The device is of the standard, not older. Demanded.
        const VERSION_1 = 1 << 32;
        /// The device's accesses are translated by an IOMMU like those of any other.
        const ACCESS_PLATFORM = 1 << 33;
        /// What this crate can do, and asks for where it is offered.
        const OURS = Self::INDIRECT_DESC.bits() | Self::EVENT_IDX.bits() | Self::VERSION_1.bits()
            | Self::ACCESS_PLATFORM.bits();
        const _ = !0;
    }
}
