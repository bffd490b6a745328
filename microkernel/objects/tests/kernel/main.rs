//! The kernel's logic on the host.

#![allow(dead_code, reason = "a bench for many tests")]

mod capabilities;
mod explore;
mod fastpath;
mod invariants;
mod ipc;
mod loans;
mod machine;
mod memory;
mod model;
mod random;
mod schedule;
mod seed;
mod spaces;
mod threads;
mod world;
