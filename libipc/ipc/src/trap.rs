//! The one way into the kernel: a `syscall` instruction with eleven registers.
//!
//! It relies on `abi::message` for what each register holds, and on the kernel to keep rbx, rbp, rsp and the
//! FS and GS bases.

use core::arch::asm;
use core::mem::MaybeUninit;

use abi::message::REGISTER_WORDS;
use abi::{Error, Syscall};

/// The word registers of a system call. One left uninitialised costs no instruction; the kernel ignores it
/// where the call has no use for it.
pub type Words = [MaybeUninit<u64>; REGISTER_WORDS];

/// Word registers that hold nothing.
pub const NO_WORDS: Words = [MaybeUninit::uninit(); REGISTER_WORDS];

/// What comes back from the kernel in registers.
#[derive(Clone, Copy, Debug)]
pub struct Returned {
    /// rax: 0, or an [`Error`].
    pub status: u64,
    /// rdx.
    pub badge: u64,
    /// rsi.
    pub info: u64,
    /// Words 0 to 7.
    pub words: [u64; REGISTER_WORDS],
}

impl Returned {
    /// These registers, or the error their status word names.
    #[inline(always)]
    pub fn checked(self) -> Result<Returned, Error> {
        match self.status {
            0 => Ok(self),
            status => Err(refusal(status)),
        }
    }
}

/// The error a status word names. A status that no version of the table assigns comes from something that is
/// not this kernel and knows none of its calls.
#[cold]
#[inline(never)]
fn refusal(status: u64) -> Error {
    Error::from_status(status).unwrap_or(Error::NoSuchMethod)
}

/// Enters the kernel.
#[inline(always)]
pub fn trap(number: Syscall, capability: u64, info: u64, words: Words) -> Returned {
    let (status, badge, info_out): (u64, u64, u64);
    let (w0, w1, w2, w3, w4, w5, w6, w7): (u64, u64, u64, u64, u64, u64, u64, u64);
    // SAFETY: the kernel changes no memory of the caller's but its IPC buffer, which is reached through cells
    // only, and what the caller's capabilities say (mappings, threads): those who hold capabilities to change
    // mappings answer for what Rust keeps there. Every register it changes is an output or in the C clobbers.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") u64::from(number.number()) => status,
            inlateout("rdx") capability => badge,
            inlateout("rsi") info => info_out,
            inlateout("rdi") words[0] => w0,
            inlateout("r8") words[1] => w1,
            inlateout("r9") words[2] => w2,
            inlateout("r10") words[3] => w3,
            inlateout("r12") words[4] => w4,
            inlateout("r13") words[5] => w5,
            inlateout("r14") words[6] => w6,
            inlateout("r15") words[7] => w7,
            clobber_abi("C"),
            options(nostack),
        );
    }
    Returned { status, badge, info: info_out, words: [w0, w1, w2, w3, w4, w5, w6, w7] }
}
