//! Supervision: when components begin, end and begin again. Pure state machines: events in, actions out.
//!
//! [`life`] is one component's, [`devices`] that of a driver's device, with [`policy`] and [`heartbeat`] as their parts.
//! They know neither the kernel nor each other: `crate::system` performs the actions, and tells what came of them.

pub mod bucket;
pub mod devices;
pub mod heartbeat;
pub mod life;
pub mod policy;

#[cfg(test)]
mod tests;
