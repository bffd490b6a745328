//! The driver of VirtIO entropy devices (VirtIO 1.2, 5.4): random bytes, each given out once.
//!
//! [`Entropy`] has the device fill a buffer, and gives out what was in it from a copy of its own. The device fills the
//! next one while the last is given out. What it says of lengths the queue checks; whether its bytes are random nobody can.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod answer;
mod entropy;

pub use answer::answer;
pub use entropy::{Entropy, vectors};

#[cfg(test)]
mod tests;
