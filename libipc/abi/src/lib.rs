//! The kernel's interface, declared once.
//!
//! [`table`] holds the one table of system calls and of methods on objects; numbers, the kernel's dispatch,
//! the user stubs (crate `ipc`) and the reference page (docs/kernel.md) are generated from it. The other
//! modules hold what both sides of the boundary must agree on: errors, object kinds, the layout of
//! messages, registers, boot information and trace records.
#![no_std]
#![forbid(unsafe_code)]

pub mod boot;
pub mod error;
pub mod message;
pub mod object;
pub mod reference;
pub mod registers;
pub mod table;
pub mod trace;

pub use boot::BootInfo;
pub use error::Error;
pub use message::{IpcBuffer, MsgInfo};
pub use object::{CPtr, Kind, MapFlags, PAGE_SIZE, Rights, USER_TOP};
pub use registers::Registers;
pub use table::Syscall;
