//! The kernel's logic on the host.

#![allow(dead_code, reason = "a bench for many tests")]
#![allow(clippy::manual_is_multiple_of, reason = "chances are remainders of a random number")]

mod boot;
mod capabilities;
mod devices;
mod explore;
mod fastpath;
mod interrupts;
mod invariants;
mod iommu;
mod ipc;
mod loans;
mod locks;
mod machine;
mod memory;
mod model;
mod random;
mod schedule;
mod seed;
mod spaces;
mod threads;
mod world;
