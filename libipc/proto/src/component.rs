//! What a native component asks of init, on the capability that its start block calls `init`.
//!
//! Plain words in registers, no serialisation: the label says what is asked, the answer's label how it went
//! ([`OK`] or a [`Refusal`]). init never lets a caller wait: what cannot be done yet is refused with
//! [`Refusal::NotNow`], and the caller waits for its notification `ready`, then asks again. Bytes travel in the words of the IPC buffer, at most [`MAX_BYTES`] a message.

/// The most bytes in one message.
pub const MAX_BYTES: usize = 512;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Request {
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

impl Request {
    /// The request with this label.
    pub const fn from_label(label: u32) -> Option<Request> {
        match label {
            1 => Some(Request::Write),
            2 => Some(Request::Read),
            3 => Some(Request::Exit),
            4 => Some(Request::Inventory),
            5 => Some(Request::Run),
            6 => Some(Request::Ended),
            7 => Some(Request::End),
            _ => None,
        }
    }
}

/// A stream that takes bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Stream {
    /// Standard output.
    Output = 1,
    /// Standard error.
    Error = 2,
}

impl Stream {
    /// The stream with this number.
    pub const fn from_word(word: u64) -> Option<Stream> {
        match word {
            1 => Some(Stream::Output),
            2 => Some(Stream::Error),
            _ => None,
        }
    }
}

/// The answer's label where all went well.
pub const OK: u32 = 0;

/// The answer's label otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Refusal {
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

impl Refusal {
    /// The refusal with this label; `None` for [`OK`] and labels of no meaning.
    pub const fn from_label(label: u32) -> Option<Refusal> {
        match label {
            1 => Some(Refusal::NotNow),
            2 => Some(Refusal::Malformed),
            3 => Some(Refusal::NotAllowed),
            4 => Some(Refusal::Unknown),
            5 => Some(Refusal::Short),
            _ => None,
        }
    }
}

/// How a panic becomes a crash record: the runtime executes `ud2` with these registers.
pub mod panic {
    /// In rax: the thread panicked, and rdi and rsi are address and length of its message (UTF-8).
    pub const MAGIC: u64 = u64::from_le_bytes(*b"panicked");
    /// The most bytes of a message.
    pub const MAX_MESSAGE: usize = 512;
}
