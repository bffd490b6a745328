//! The kernel's objects and the rules between them.
//!
//! Everything the kernel decides is here and knows no hardware: capabilities and their derivation tree
//! ([`slot`], [`tree`], [`cnode`], [`delete`]), memory ([`untyped`], [`space`], [`mapping`], [`vspace`], [`io_space`]), threads and time ([`tcb`],
//! [`scheduler`], [`timer`], [`sched_context`]), and communication ([`endpoint`], [`notification`], [`reply`]).
//! [`dispatch`] is the entry for a system call that the fast path did not take. What needs a machine is behind
//! the [`Machine`] trait, so that all of it runs on the host over a byte array, too.
//!
//! Objects lie in memory that user space handed over ([`memory`]): there is no heap, and nothing here can run
//! out of memory half way. Fields are Cells and objects are reached by [`Ref`]; one lock, held by the machine
//! layer, makes every entry exclusive.
#![cfg_attr(not(test), no_std)]
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod boot;
pub mod cnode;
pub mod cpu;
pub mod delete;
pub mod dispatch;
pub mod endpoint;
pub mod fault;
pub mod frame;
pub mod io_port;
pub mod io_space;
pub mod irq;
pub mod kernel;
pub mod local;
pub mod locks;
pub mod machine;
pub mod mapping;
pub mod memory;
pub mod notification;
pub mod queue;
pub mod reply;
pub mod sched_context;
pub mod scheduler;
pub mod slot;
pub mod space;
pub mod system;
pub mod tcb;
pub mod timer;
pub mod trace;
pub mod tree;
pub mod untyped;
#[cfg(feature = "checks")]
#[path = "../tests/invariants/verify.rs"]
pub mod verify;
pub mod vspace;

pub use cpu::Cpu;
pub use kernel::{Kernel, Stop};
pub use machine::Machine;
pub use memory::Ref;
pub use slot::Slot;
pub use tcb::Tcb;
