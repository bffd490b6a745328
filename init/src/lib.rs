//! init, the root task.
//!
//! The kernel gives it all memory and all authority ([`machine`]). It reads the [`manifest`], builds the
//! components that it names, each with exactly the authority it is given there ([`build::component`], [`build::plan`],
//! [`build::elf`]), serves what they ask ([`supervisor`]), reports how they die ([`registry::crash`]), and takes commands from
//! the host's tool ([`console::channel`], over a [`console::port`] of the console) and from an operator ([`console::operator`]).
//!
//! What happens to a component that dies is in [`supervision::restart`], [`supervision::policy`], [`supervision::heartbeat`] and, for drivers, [`supervision::devices`].
//!
//! It is one thread that waits for whatever comes next and never for a component; a second one only waits for the death of the
//! first ([`guardian`]).
#![cfg_attr(not(test), no_std)]

pub mod build;
pub mod console;
pub mod control;
pub mod guardian;
pub mod log;
pub mod machine;
pub mod manifest;
pub mod registry;
pub mod requests;
pub mod supervision;
pub mod supervisor;
