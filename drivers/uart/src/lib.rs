//! The device of a serial line: a 16550 (National Semiconductor PC16550D data sheet).
//!
//! [`Line`] waits in place for nobody: what the device does not take now its user sends again when it has interrupted. Its
//! interrupt is edge-triggered where PCs have it, so [`Line::interrupt`] and [`Line::listen`] leave no cause standing that
//! nobody has seen.
#![cfg_attr(not(any(test, feature = "fake")), no_std)]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod line;
mod ports;

pub use line::{FIFO, Gone, Line, Registers};
pub use ports::Ports;
