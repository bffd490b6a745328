//! Supervision: what happens when a component dies.

pub mod devices;
pub mod heartbeat;
pub mod policy;
pub mod restart;
