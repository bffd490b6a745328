//! What `storm` puts drivers and servers through, and how it judges what came of it: no hardware, no system calls.
//!
//! [`arguments`] is the command line; [`sweep`] the places where a victim is to die. [`disk`] writes a [`pattern`] to a
//! disk and reads it back, whoever carries its requests; [`wire`] exchanges frames and a stream of bytes with a peer on
//! the network, and is that peer, too; [`bank`] moves money and knows what must be left. What they find goes into a
//! [`tally`]; [`times`] sums up how long recoveries took, and [`report`] tells it all.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod arguments;
pub mod bank;
pub mod disk;
pub mod pattern;
pub mod random;
pub mod report;
pub mod sweep;
pub mod tally;
pub mod times;
pub mod wire;
