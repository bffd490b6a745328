//! The driver of a serial line: a 16550 (crate `uart`), offered as a stream of bytes.
//!
//! [`Port`] brings the line and the client's rings together. It waits in place for nobody: what the line does not take now
//! follows by interrupt. A line that is not there, or never takes anything, or never stops giving, holds up nobody for longer
//! than a FIFO takes.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod port;

pub use port::Port;

#[cfg(test)]
mod tests;
