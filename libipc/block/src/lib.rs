//! The client's side of a channel with a block driver (`proto::block`).
//!
//! [`client::Client`] is handed requests and hands back their answers, each exactly once, whatever becomes of the driver
//! meanwhile; [`requests`] is its memory of what was not answered yet. It is pure logic over shared words; what it needs
//! of the world around it (bells, lives, sleep) is `channel::World`. [`guest`] opens it in a component. [`blocking`] is for who
//! wants to wait for each transfer.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod blocking;
pub mod client;
pub mod data;
pub mod guest;
pub mod requests;

pub use blocking::Blocking;
pub use client::{Answer, Client, Failure, Geometry};
pub use data::Data;
pub use requests::{Id, Refused, Request};
