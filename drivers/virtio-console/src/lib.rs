//! A VirtIO console with several ports (VirtIO 1.2, section 5.3): each port that has a name is a stream of bytes for the
//! client whose channel has that name.
//!
//! [`control`] is what driver and device tell each other of ports, [`port`] one port's queues, [`console`] the whole
//! device. [`line`] is the server's end of a client's channel, and [`driver`] brings ports and lines together.
//!
//! Neither side is trusted: what the device says of ports is parsed from a private copy, and what makes no sense is
//! dropped and counted; what it says of queues is checked by crate `virtio`, and what cannot be ends this life.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod console;
pub mod control;
pub mod driver;
pub mod line;
pub mod port;

#[cfg(test)]
mod tests;
