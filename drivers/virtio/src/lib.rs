//! What VirtIO drivers stand on, below the meaning of any one device.
//!
//! [`transport`] is a device on PCI as VirtIO 1.2, section 4.1 has it: features, status, configuration, vectors, queues.
//! [`queue`] is a split virtqueue (section 2.7), [`memory`] the memory that driver and device share. Both stand on
//! traits ([`registers::Registers`], [`memory::Dma`]), so that the same code runs against real hardware ([`guest`]) and,
//! in host tests, against a device of software that misbehaves as it is told ([`fake`]).
//!
//! The device is not trusted: whatever it says is checked once, and what cannot be is a [`DeviceError`], after which
//! the driver has the device reset. It can crash its driver at worst.
#![cfg_attr(not(any(test, feature = "fake")), no_std)]

pub mod component;
pub mod error;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod features;
#[cfg(any(test, feature = "fake"))]
pub mod fragile;
pub mod guest;
pub mod memory;
pub mod patience;
pub mod queue;
pub mod registers;
pub mod transport;

pub use error::{BeginError, DeviceError};
pub use features::Features;
pub use memory::{Dma, DmaMemory, NoMemory};
pub use patience::Patience;
pub use queue::{Queue, Segment, Used};
pub use registers::{Area, Registers};
pub use transport::Transport;
pub use virtio_drivers::transport::{DeviceStatus, DeviceType};
