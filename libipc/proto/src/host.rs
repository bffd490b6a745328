//! The protocol between the host tool and the guest, over a byte stream (COM2).
//!
//! Each message is postcard-encoded and framed with COBS (Consistent Overhead Byte Stuffing; Cheshire and
//! Baker, 1999), ended by a zero byte: a receiver that starts in the middle, or meets a damaged frame,
//! is in step again at the next zero byte.

use serde::{Deserialize, Serialize};

/// The version both sides state in their first message; a difference is reported, not guessed around.
pub const VERSION: u16 = 1;

/// The longest frame either side sends, in bytes, the closing zero included.
pub const MAX_FRAME: usize = 2048;

/// The most bytes of output or input in one frame.
pub const MAX_CHUNK: usize = 1024;

/// What the host tool tells the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToGuest<'a> {
    /// Run a program and report its output and status. `argv` holds the arguments, each ended by NUL;
    /// the first is the program's name.
    Exec {
        /// NUL-ended arguments, UTF-8.
        argv: &'a str,
    },
    /// Bytes for the running program's standard input.
    Stdin(&'a [u8]),
    /// Standard input is at its end.
    StdinEnd,
    /// End the guest in order.
    Shutdown,
}

/// What the guest tells the host tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToHost<'a> {
    /// The guest is up and takes commands.
    Hello {
        /// [`VERSION`] of the guest.
        version: u16,
    },
    /// Bytes the program wrote to its standard output.
    Stdout(&'a [u8]),
    /// Bytes the program wrote to its standard error.
    Stderr(&'a [u8]),
    /// The program named in [`ToGuest::Exec`] ended with this status (0 to 255).
    Exited {
        /// The exit status.
        status: u8,
    },
    /// There is no program of that name.
    NoSuchCommand,
    /// A component crashed: one frame for each, sent before any `Exited` that it causes.
    Crash(Crash<'a>),
}

/// A crash record: what is needed to say where and why, symbolised by the host tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crash<'a> {
    /// The component's name: the name of its program in the boot archive.
    pub component: &'a str,
    /// What happened, in words ("page fault", "panic").
    pub what: &'a str,
    /// The message of a panic, or empty.
    pub message: &'a str,
    /// The faulting address (page faults), else 0.
    pub address: u64,
    /// rip, rsp, rflags, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8 to r15.
    pub registers: [u64; 18],
    /// Return addresses, innermost first, ended by the first zero.
    pub backtrace: [u64; 16],
}
