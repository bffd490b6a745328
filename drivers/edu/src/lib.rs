//! The driver of QEMU's `edu` device (its `docs/specs/edu`), which copies memory wherever it is told to.
//!
//! A driver that does what it is told, forbidden things too, is what `dma-fence` needs: it shows that what stops a
//! device is the fence around it and not its driver's good will. [`Edu`] is the device, [`Server`] answers the calls.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod device;
mod server;

pub use device::{Copy, Edu, Failure, Registers};
pub use server::{Page, Server};

#[cfg(test)]
mod tests;
