//! init, the root task.
//!
//! The kernel gives it all memory and all authority ([`machine`]). It reads the [`manifest`], builds the
//! components that it names, each with exactly the authority it is given there ([`component`], [`plan`],
//! [`elf`]), serves what they ask ([`supervisor`]), reports how they die ([`crash`]), and takes commands from
//! the host's tool ([`channel`], over a [`port`] of the console) and from an operator ([`operator`]).
//!
//! What happens to a component that dies is in [`restart`], [`policy`], [`heartbeat`] and, for drivers, [`devices`].
//!
//! It is one thread that waits for whatever comes next and never for a component; a second one only waits for the death of the
//! first ([`guardian`]).
#![cfg_attr(not(test), no_std)]

pub mod archive;
pub mod channel;
pub mod commands;
pub mod component;
pub mod control;
pub mod crash;
pub mod device_memory;
pub mod devices;
pub mod durable;
pub mod elf;
pub mod functions;
pub mod guardian;
pub mod heartbeat;
pub mod image;
pub mod line;
pub mod log;
pub mod log_port;
pub mod machine;
pub mod manifest;
pub mod operator;
pub mod plan;
pub mod policy;
pub mod port;
pub mod records;
pub mod requests;
pub mod resources;
pub mod restart;
pub mod serial;
pub mod supervisor;
pub mod symbols;
pub mod uart;
pub mod wiring;
