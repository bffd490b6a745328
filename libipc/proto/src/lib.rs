//! The protocols between Skink's components, one file each.
#![no_std]
#![forbid(unsafe_code)]

pub mod block;
pub mod channel;
mod codes;
pub mod component;
pub mod control;
pub mod edu;
pub mod host;
pub mod ledger;
pub mod life;
pub mod net;
pub mod once;
pub mod pci;
pub mod principal;
pub mod requests;
pub mod rng;
pub mod start;
pub mod stream;
