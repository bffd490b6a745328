//! Network frames, from the side of who uses them.
//!
//! [`client`] is the client's side of a channel with a network driver, [`data`] the memory that they share, and
//! [`guest`] (feature `guest`) both in a component. [`wire`] is
//! what two programs can speak over raw Ethernet, without TCP/IP: numbered echo frames, and a reliable stream.
#![cfg_attr(not(test), no_std)]

pub mod client;
pub mod data;
#[cfg(feature = "guest")]
pub mod guest;
pub mod wire;
