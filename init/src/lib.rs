//! init, the root task.
//!
//! The kernel gives it all memory and all authority ([`machine`]). It reads the [`manifest`], builds the components that it
//! names, each with exactly the authority it is given there, looks after them, and takes orders from the host's tool and
//! an operator.
//!
//! | module | what it holds | uses |
//! |---|---|---|
//! | [`build`] | from a program and a manifest entry to threads, memory and capabilities | machine, manifest |
//! | [`registry`] | what runs, and what is remembered of what ran | build |
//! | [`supervision`] | when components begin, end and begin again: pure state machines | nothing |
//! | [`system`] | performs what supervision decides | all above |
//! | [`console`] | the operator's terminal, the host's tool, the log's port | system |
//! | [`serve`] | the loop: messages of components, faults, interrupts | console |
//!
//! It is one thread that waits for whatever comes next and never for a component; a second one only waits for the death of
//! the first ([`guardian`]).
#![cfg_attr(not(test), no_std)]

pub mod archive;
pub mod build;
pub mod console;
pub mod guardian;
#[cfg(test)]
mod layers;
pub mod log;
pub mod machine;
pub mod manifest;
pub mod registry;
pub mod serve;
pub mod supervision;
pub mod system;
