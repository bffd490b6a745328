//! The protocol between the host tool and the guest, over a stream of bytes: a port of the console, where the tool says
//! that there is one ([`HOST_BY_PORT`]), else COM2. A port's stream is carried by the links of crate `net`, so that it
//! survives the console's driver; COM2, which init drives itself, carries the bytes as they are.
//!
//! Each message is postcard-encoded and framed with COBS (Consistent Overhead Byte Stuffing; Cheshire and
//! Baker, 1999), ended by a zero byte: a receiver that starts in the middle, or meets a damaged frame,
//! is in step again at the next zero byte.

use serde::{Deserialize, Serialize};

/// The version both sides state in their first message; a difference is reported, not guessed around.
pub const VERSION: u16 = 1;

/// The word of the kernel's command line that says that the machine has a console with these ports.
pub const HOST_BY_PORT: &str = "host=port";

/// The channel with the port for this protocol.
pub const HOST_PORT: &str = "skink-host";

/// The channel with the port for the log.
pub const LOG_PORT: &str = "skink-log";

/// The longest frame either side sends, in bytes, the closing zero included.
pub const MAX_FRAME: usize = 2048;

/// The most bytes of output or input in one frame.
pub const MAX_CHUNK: usize = 1024;

/// The I/O port of QEMU's isa-debug-exit device: a byte `v` written there ends QEMU with status `2 * v + 1`.
pub const EXIT_PORT: u16 = 0xf4;

/// Written to [`EXIT_PORT`] by the kernel after its panic screen.
pub const EXIT_PANIC: u8 = 0x10;

/// Written to [`EXIT_PORT`] at the end of an orderly shutdown.
pub const EXIT_SHUTDOWN: u8 = 0x11;

/// Written to [`EXIT_PORT`] when init has panicked; its message is in the log.
pub const EXIT_INIT_PANIC: u8 = 0x12;

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
#[expect(
    clippy::large_enum_variant,
    reason = "one message at a time exists, and there is no heap to box it on"
)]
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

/// Why bytes from the other side did not make a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadFrame {
    /// More than [`MAX_FRAME`] bytes without a zero among them.
    Overlong,
    /// Damaged framing, an unknown message, or bytes left over behind one.
    Malformed,
}

/// A message that does not fit into [`MAX_FRAME`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// Writes `message` as one frame into `buffer` and gives the part to send.
pub fn encode<'b, M: Serialize>(message: &M, buffer: &'b mut [u8; MAX_FRAME]) -> Result<&'b [u8], TooLong> {
    postcard::to_slice_cobs(message, buffer).map(|frame| &*frame).map_err(|_| TooLong)
}

/// Writes `crash` without a frame, for who asks init for it, and gives the part used.
pub fn plain<'b>(crash: &Crash, place: &'b mut [u8]) -> Result<&'b [u8], TooLong> {
    postcard::to_slice(crash, place).map(|used| &*used).map_err(|_| TooLong)
}

/// Reads what [`plain`] has written.
pub fn from_plain(bytes: &[u8]) -> Result<Crash<'_>, BadFrame> {
    match postcard::take_from_bytes(bytes) {
        Ok((crash, [])) => Ok(crash),
        _ => Err(BadFrame::Malformed),
    }
}

/// Reads one message out of `frame` (without its closing zero), which is decoded in place.
pub fn decode<'f, M: Deserialize<'f>>(frame: &'f mut [u8]) -> Result<M, BadFrame> {
    let length = cobs::decode_in_place(frame).map_err(|_| BadFrame::Malformed)?;
    let message = frame.get(..length).ok_or(BadFrame::Malformed)?;
    match postcard::take_from_bytes(message) {
        Ok((message, [])) => Ok(message),
        _ => Err(BadFrame::Malformed),
    }
}

/// Collects bytes as they arrive and gives each message as its frame is complete.
pub struct FrameReader {
    bytes: [u8; MAX_FRAME],
    /// Bytes received since the last zero; those beyond `MAX_FRAME` are counted, not kept.
    received: usize,
}

impl FrameReader {
    /// A reader that has seen nothing yet.
    pub const fn new() -> Self {
        FrameReader { bytes: [0; MAX_FRAME], received: 0 }
    }

    /// Takes one byte and gives the message it completes, if it does. Empty frames are nothing: a sender
    /// may send a zero first, to end whatever the line held before.
    pub fn push<'f, M: Deserialize<'f>>(&'f mut self, byte: u8) -> Option<Result<M, BadFrame>> {
        if byte != 0 {
            if let Some(place) = self.bytes.get_mut(self.received) {
                *place = byte;
            }
            self.received = self.received.saturating_add(1);
            return None;
        }
        let length = core::mem::take(&mut self.received);
        if length == 0 {
            return None;
        }
        Some(self.bytes.get_mut(..length).ok_or(BadFrame::Overlong).and_then(decode))
    }
}

impl Default for FrameReader {
    fn default() -> Self {
        Self::new()
    }
}
