//! The client's side of a channel with a block driver (`proto::block`).
//!
//! [`client::Client`] is handed requests and hands back their answers, each exactly once, whatever becomes of the driver
//! meanwhile; [`requests`] is its memory of what was not answered yet. It is pure logic over shared words: who calls
//! it rings the bells and sleeps.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod client;
pub mod requests;

pub use client::{Answer, Client, Failure, Geometry, Peer, Turn, World, Wrong};
pub use requests::{Id, Refused, Request};
