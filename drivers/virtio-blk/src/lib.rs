//! The driver of VirtIO block devices (VirtIO 1.2, section 5.2), but for its loop.
//!
//! [`disk`] is the device, [`request`] what a client asks, looked at once; [`client`] one client's channel, and
//! [`server`] the whole: requests go from the rings to the device, and answers back, in whatever order the device
//! finishes them. Data never passes through here: the device reads and writes it in the clients' Frames.
//!
//! All of it runs on the host too, against crate `virtio`'s fake device.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod client;
pub mod disk;
pub mod request;
pub mod server;

pub use client::Client;
pub use disk::Disk;
pub use server::Server;

#[cfg(test)]
mod tests;
