//! A VirtIO network device and its one client (VirtIO 1.2, section 5.1).
//!
//! [`device`] is the device: its features, queues, link. [`port`] is the server's end of the channel that speaks
//! `proto::net`. [`driver`] passes buffers from one to the other, and is all that [`main`](../virtio_net/index.html)'s
//! loop calls.
//!
//! Neither side is trusted. What the client asks for is checked and copied once; a record that makes no sense is dropped
//! and counted, and a ring that makes none ends the pairing. What the device says is checked by crate `virtio`; a
//! device that cannot be right ends this life of the driver.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod device;
pub mod driver;
pub mod port;

#[cfg(test)]
mod tests;
