//! The layout of messages.
//!
//! | register | into the kernel | out of it |
//! |---|---|---|
//! | rax | number of the call | status: 0, or an [`Error`](crate::Error) |
//! | rdx | capability (low half); for a receive the Reply to use in the high half, 0 for the thread's own | badge |
//! | rsi | [`MsgInfo`] (of `invoke`: the method) | [`MsgInfo`] |
//! | rdi r8 r9 r10 r12 r13 r14 r15 | words 0 to 7 | words 0 to 7 |
//! | rcx r11 | | lost (SYSCALL and SYSRET use them) |
//! | rbx rbp rsp, FS and GS bases | | kept |
//! | vector registers, MXCSR, x87 | | lost, as across any C call; in their initial state after a switch between protection domains |
//!
//! All eight words always travel: whoever sends fewer clears the rest.

/// Words of a message that travel in registers.
pub const REGISTER_WORDS: usize = 8;
/// Words of a message that lie in the IPC buffer, at most.
pub const BUFFER_WORDS: usize = 64;
/// Capabilities that travel with one message, at most.
pub const MAX_CAPS: usize = 3;

/// Describes a message: a label of 32 bits, how many words lie in the IPC buffer (0 to 64) and how many
/// capabilities travel along (0 to 3). A message without either is [plain](Self::is_plain): its low half is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct MsgInfo(pub u64);

impl MsgInfo {
    /// Bits of the number of words in the buffer.
    pub const EXTRA_MASK: u64 = 0x7f;
    /// First bit of the number of capabilities.
    pub const CAPS_SHIFT: u32 = 8;
    /// The receive ends at [`IpcBuffer::deadline`].
    pub const DEADLINE: u64 = 1 << 12;
    /// Out of a receive: no message, but the bound Notification's bits (word 0).
    pub const NOTIFIED: u64 = 1 << 13;

    /// A plain message with this label.
    pub const fn plain(label: u32) -> MsgInfo {
        MsgInfo((label as u64) << 32)
    }

    /// A message with `extra` words in the buffer and `caps` capabilities.
    pub const fn new(label: u32, extra: usize, caps: usize) -> MsgInfo {
        MsgInfo((label as u64) << 32 | (caps as u64) << Self::CAPS_SHIFT | extra as u64)
    }

    /// The label.
    pub const fn label(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Words in the IPC buffer; more than [`BUFFER_WORDS`] is refused by the kernel.
    pub const fn extra(self) -> usize {
        (self.0 & Self::EXTRA_MASK) as usize
    }

    /// Capabilities that travel along: asked for on the way in, arrived on the way out.
    pub const fn caps(self) -> usize {
        (self.0 >> Self::CAPS_SHIFT & 3) as usize
    }

    /// Registers only, no deadline: what the fast path takes.
    pub const fn is_plain(self) -> bool {
        self.0 as u32 == 0
    }

    /// Whether the receive part has a deadline.
    pub const fn has_deadline(self) -> bool {
        self.0 & Self::DEADLINE != 0
    }

    /// Whether a receive ended with the bound Notification's bits.
    pub const fn is_notified(self) -> bool {
        self.0 & Self::NOTIFIED != 0
    }

    /// Whether every bit has a meaning and every count is in range.
    pub const fn is_valid(self) -> bool {
        let known = Self::EXTRA_MASK | 3 << Self::CAPS_SHIFT | Self::DEADLINE;
        (self.0 as u32) as u64 & !known == 0 && self.extra() <= BUFFER_WORDS
    }
}

/// The part of a message that is not in registers: 1 KiB, aligned to it, in a Frame named when the thread was
/// configured. The kernel reads and writes it at any address the thread gave it.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(1024))]
pub struct IpcBuffer {
    /// Words 8 and on of the message.
    pub words: [u64; BUFFER_WORDS],
    /// Sent along: slots of the sender's CSpace.
    pub caps: [u32; 4],
    /// Where to receive: empty slots of the receiver's CSpace, the first 0 ends the list.
    pub receive_slots: [u32; 4],
    /// When a receive with [`MsgInfo::DEADLINE`] ends, in TSC ticks.
    pub deadline: u64,
    /// What a foreign system call and a kick leave for the library (see [`Foreign`]).
    pub foreign: Foreign,
    /// Free for user space (the native runtime keeps its thread's own data here).
    pub user: [u64; 32],
}

/// What passes between the kernel and a thread's foreign-call library.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Foreign {
    /// Where the foreign system call returns to (SYSCALL put it in rcx).
    pub return_address: u64,
    /// The flags at the call (SYSCALL put them in r11).
    pub return_flags: u64,
    /// Where the kick struck.
    pub kick_address: u64,
    /// The flags there.
    pub kick_flags: u64,
    /// Not 0 while the thread is inside its library: set by the kernel at a bounce and at a kick, cleared by
    /// the library when it leaves.
    pub inside: u64,
    /// Not 0 when a kick came while inside: the library looks here when it leaves.
    pub kick_pending: u64,
}

/// Bytes of an IPC buffer.
pub const IPC_BUFFER_SIZE: usize = core::mem::size_of::<IpcBuffer>();

/// Labels of messages that the kernel itself sends.
pub mod fault {
    /// A fault message has this label. Words: [`KIND`], error code, rip, address (cr2), rsp, rflags, 0, 0.
    /// The answer's label says how to go on: 0 resumes the thread.
    pub const LABEL: u32 = 0xffff_fa17;
    /// Word 0: what happened: the vector of the exception (SDM vol. 3, table 6-1) or [`BUDGET`] or
    /// [`FOREIGN_CALL`].
    pub const KIND: usize = 0;
    /// Word 1: the exception's error code; of a foreign call its number.
    pub const CODE: usize = 1;
    /// Word 2: rip at the exception; the thread's own may have been redirected since, by a kick.
    pub const RIP: usize = 2;
    /// Word 3: the address of a page fault.
    pub const ADDRESS: usize = 3;
    /// Word 4: rsp.
    pub const RSP: usize = 4;
    /// Word 5: rflags.
    pub const RFLAGS: usize = 5;
    /// The budget of the thread's SchedContext ran out (only where the SchedContext asks for the message).
    pub const BUDGET: u64 = 256;
    /// A system call that is not the kernel's, from a thread without a foreign-call library.
    pub const FOREIGN_CALL: u64 = 257;

    /// A word for a fault kind, for people.
    pub const fn name(kind: u64) -> &'static str {
        match kind {
            0 => "divide error",
            1 => "debug exception",
            3 => "breakpoint",
            4 => "overflow",
            5 => "bound range exceeded",
            6 => "invalid opcode",
            7 => "device not available",
            10 => "invalid TSS",
            11 => "segment not present",
            12 => "stack fault",
            13 => "general protection fault",
            14 => "page fault",
            16 => "x87 floating-point error",
            17 => "alignment check",
            19 => "SIMD floating-point exception",
            BUDGET => "budget exhausted",
            FOREIGN_CALL => "foreign system call",
            _ => "exception",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_info_keeps_its_parts() {
        let info = MsgInfo::new(0xdead_beef, 64, 3);
        assert_eq!((info.label(), info.extra(), info.caps()), (0xdead_beef, 64, 3));
        assert!(info.is_valid() && !info.is_plain());
        assert!(MsgInfo::plain(7).is_plain());
        assert!(!MsgInfo(65).is_valid());
        assert!(!MsgInfo(1 << 20).is_valid());
    }

    #[test]
    fn the_ipc_buffer_is_one_kibibyte() {
        assert_eq!(IPC_BUFFER_SIZE, 1024);
    }
}
