//! Network frames, from the side of who uses them.
//!
//! [`wire`] is what two programs can speak over raw Ethernet, without TCP/IP: numbered echo frames, and a reliable
//! stream.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod wire;
