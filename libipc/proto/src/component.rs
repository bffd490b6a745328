//! What a native component asks of init, on the capability that its start block calls `init`.
//!
//! Plain words in registers, no serialisation: the label says what is asked, the answer's label how it went
//! ([`OK`] or a [`Refusal`]). init never lets a caller wait: what cannot be done yet is refused with
//! [`Refusal::NotNow`], and the caller waits for its notification `ready`, then asks again. Bytes travel in the words of the IPC buffer, at most [`MAX_BYTES`] a message.

use crate::codes::codes;

/// The most bytes in one message.
pub const MAX_BYTES: usize = 512;

codes! {
    /// What is asked.
    Request: u32 = from_label {
        /// Write word 1's number of bytes to the stream in word 0. [`Refusal::NotNow`]: nothing was taken.
        Write = 1,
        /// Read up to word 0's number of bytes from standard input: word 0 of the answer says how many came, and
        /// is 0 at the end. [`Refusal::NotNow`]: there is nothing yet.
        Read = 2,
        /// End, with the status in word 0. Not answered.
        Exit = 3,
        /// What init has left, for tests that look for leaks: words 0 and 1 of the answer are free bytes and free
        /// slots. [`Refusal::NotNow`]: a component is between two lives, or waits for its device. Asked by components that hold the right `inventory` only.
        Inventory = 4,
        /// Start the program that word 0's number of bytes name: arguments, each ended by NUL. Word 0 of the answer is
        /// the number of the new component, which prints where the caller does. Asked by components that hold the
        /// right `control` only, as are the following.
        Run = 5,
        /// How the component of number word 0, which the caller had started, has ended: word 0 of the answer is the
        /// exit status, word 1 is not 0 if it crashed or was ended. It is told once. [`Refusal::NotNow`]: it runs.
        Ended = 6,
        /// End the component of number word 0, which the caller had started.
        End = 7,
    }
}

codes! {
    /// A stream that takes bytes.
    Stream: u64 = from_word {
        /// Standard output.
        Output = 1,
        /// Standard error.
        Error = 2,
    }
}

/// The answer's label where all went well.
pub const OK: u32 = 0;

codes! {
    /// The answer's label otherwise.
    Refusal: u32 = from_label {
        /// Wait for `ready`, then ask again.
        NotNow = 1,
        /// No such request, or words that make no sense in it.
        Malformed = 2,
        /// The manifest does not give the component this right.
        NotAllowed = 3,
        /// No such program or component.
        Unknown = 4,
        /// There is not enough memory for it, or something else that it needs.
        Short = 5,
    }
}

/// How a panic becomes a crash record: the runtime executes `ud2` with these registers.
pub mod panic {
    /// In rax: the thread panicked, and rdi and rsi are address and length of its message (UTF-8).
    pub const MAGIC: u64 = u64::from_le_bytes(*b"panicked");
    /// The most bytes of a message.
    pub const MAX_MESSAGE: usize = 512;
}
