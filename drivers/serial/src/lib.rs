//! The driver of a serial line: a 16550 (National Semiconductor PC16550D data sheet), offered as a stream of bytes.
//!
//! [`Line`] is the device, over a trait for its registers; [`Port`] brings it and the client's rings together. Neither
//! waits in place for the line: what it does not take now follows by interrupt. A line that is not there, or never takes
//! anything, or never stops giving, holds up nobody for longer than a FIFO takes.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod line;
mod port;

pub use line::{Gone, Line, Registers};
pub use port::Port;

#[cfg(test)]
mod tests;
