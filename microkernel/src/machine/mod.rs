//! The machine below the kernel's logic. Ring 0 runs with interrupts off throughout.

pub mod apic;
pub mod boot;
pub mod clock;
pub mod cpu;
pub mod ioapic;
pub mod iommu;
mod lang;
pub mod log;
pub mod paging;
pub mod panic;
pub mod power;
pub mod smp;
pub mod stacks;

/// The layout of physical memory and of the kernel's half of every address space.
pub mod layout {
    /// Where physical address 0 is mapped: all RAM, and the registers the kernel uses.
    pub const WINDOW: u64 = 0xffff_8000_0000_0000;
    /// Where the kernel's image is linked, less its physical address.
    pub const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;
    /// Bytes in a page.
    pub const PAGE: u64 = 4096;
}

/// Where physical address `physical` is mapped in the window.
pub const fn window(physical: u64) -> u64 {
    layout::WINDOW.wrapping_add(physical)
}
