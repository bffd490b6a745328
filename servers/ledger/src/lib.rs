//! Named accounts, transfers between them, and a history: a small server with state, and the worked example of one
//! that can be killed between any two instructions.
//!
//! [`accounts`] and [`history`] are its tables in the words of a state frame, [`service`] the protocol over them.
//! Neither knows how it survives: that is `recover`'s. [`client`] is what a program calls it by.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod accounts;
pub mod client;
pub mod history;
pub mod service;

pub use client::Client;
pub use service::Ledger;

/// The clients of the running system's ledger: all components that there can be.
pub const BOUNDS: recover::sessions::Bounds =
    recover::sessions::Bounds { slots: proto::principal::COMPONENTS as u32, pool: 64, each: 8 };

#[cfg(test)]
mod tests;
