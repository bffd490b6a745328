//! Network frames, from the side of who uses them.
//!
//! [`client`] is the client's side of a channel with a network driver, [`data`] the memory that they share. [`wire`] is
//! what two programs can speak over raw Ethernet, without TCP/IP: numbered echo frames, and a reliable stream.
#![cfg_attr(not(test), no_std)]

pub mod client;
pub mod data;
pub mod wire;
