//! The user side of the kernel's interface.
//!
//! [`trap`] is the one way into the kernel. On it stand the system calls ([`calls`]) and, generated from
//! `abi`'s table, the methods on objects ([`methods`]); [`message`] is what a message is for Rust, [`buffer`]
//! the part of it that lies in memory, [`serve`] the loop of a server, [`bytes`] how bytes travel in messages.
//!
//! Relies on the thread's GS base to point at its IPC buffer (the runtime sees to it) for everything that
//! says so; plain messages and methods do not touch it.
#![no_std]

pub mod buffer;
pub mod bytes;
pub mod calls;
pub mod message;
pub mod methods;
pub mod serve;
pub mod trap;

pub use abi::{CPtr, Error, Kind, MapFlags, MsgInfo, Rights};
pub use buffer::buffer;
pub use calls::{
    call, nop, poll, recv, recv_until, reply, reply_recv, reply_recv_until, send, signal, try_recv, try_send,
    wait, wait_until, yield_now,
};
pub use message::{Message, Received};
pub use methods::*;
