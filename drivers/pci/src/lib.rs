//! PCI Express: finds the functions, hands them out, and stops each when its driver dies.
//!
//! [`Pci`] is the whole component but for the hardware, which it sees as a [`Machine`]: the configuration space, the
//! few registers that belong to it alone (MSI-X tables, and VirtIO's common configuration for its reset), and a clock.
//! So all of it runs on the host, against a fake machine that lies, vanishes, and kills it at any store.
//!
//! A device is not believed: what it says is read once, checked, and kept in the table (`proto::pci`), which outlives the
//! component. A device that answers with all ones, or differently each time, is refused; nothing of it is followed.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod acs;
mod bar;
mod bdf;
mod buses;
mod capability;
mod component;
mod config;
mod function;
mod msi;
mod order;
mod reset;
mod table;
mod virtio;
mod windows;

pub use bdf::Bdf;
pub use component::{Pci, Progress, TooSmall};
pub use config::{ConfigSpace, Machine, Register, Width};

#[cfg(test)]
mod tests;
