//! Printing, reading and ending: what a program asks of init.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, Ordering};

use abi::{CPtr, Error};
use ipc::{Message, buffer, bytes};
use proto::component::{MAX_BYTES, OK, Refusal, Request, Stream};
use proto::start::names;

use crate::{clock, env, panic};

fn init() -> CPtr {
    static INIT: AtomicU32 = AtomicU32::new(0);
    match INIT.load(Ordering::Relaxed) {
        0 => {
            let init = env::required(names::INIT);
            INIT.store(init.0, Ordering::Relaxed);
            init
        }
        known => CPtr(known),
    }
}

/// Why init did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoError {
    /// It refused.
    Refused(Refusal),
    /// The call did not reach it.
    Kernel(Error),
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            IoError::Refused(Refusal::NotNow) => "not now",
            IoError::Refused(Refusal::Malformed) => "init did not understand the request",
            IoError::Refused(Refusal::NotAllowed) => "the manifest does not allow it",
            IoError::Refused(Refusal::Unknown) => "no such program or component",
            IoError::Refused(Refusal::Short) => "init is short of something that it needs",
            IoError::Kernel(error) => error.meaning().trim_start(),
        })
    }
}

/// Asks init until it does not answer "not now".
pub(crate) fn ask(message: Message) -> Result<Message, IoError> {
    loop {
        let answer = ipc::call(init(), message).map_err(IoError::Kernel)?;
        match (answer.label(), Refusal::from_label(answer.label())) {
            (OK, _) => return Ok(answer),
            (_, Some(Refusal::NotNow)) => wait_until_ready()?,
            (_, refusal) => return Err(IoError::Refused(refusal.unwrap_or(Refusal::Malformed))),
        }
    }
}

/// Waits until init says that it is worth asking again. It says so once, and another thread may have heard it:
/// so not for ever.
fn wait_until_ready() -> Result<(), IoError> {
    let a_while = clock::now().saturating_add(clock::microseconds(10_000));
    match ipc::wait_until(env::required(names::READY), a_while) {
        Ok(_) | Err(Error::TimedOut) => Ok(()),
        Err(error) => Err(IoError::Kernel(error)),
    }
}

/// Writes all of `text` to a stream.
pub fn write(stream: Stream, text: &[u8]) -> Result<(), IoError> {
    for chunk in text.chunks(MAX_BYTES) {
        let words = bytes::put(&buffer().words, chunk);
        let request = Message::of(Request::Write as u32, [stream as u64, chunk.len() as u64]);
        ask(request.with(words, 0))?;
    }
    Ok(())
}

/// Reads from standard input what is there, at least a byte: how many came, 0 at the end.
pub fn read(place: &mut [u8]) -> Result<usize, IoError> {
    let wanted = place.len().min(MAX_BYTES);
    let answer = ask(Message::of(Request::Read as u32, [wanted as u64]))?;
    let came = (answer.words[0] as usize).min(wanted);
    Ok(bytes::take(&buffer().words, &mut place[..came]))
}

/// What init has left: free bytes, free slots. For components with the right `inventory`.
pub fn inventory() -> Result<[u64; 2], IoError> {
    let answer = ask(Message::new(Request::Inventory as u32))?;
    Ok([answer.words[0], answer.words[1]])
}

/// Starts a program: `arguments` are each ended by NUL, the first is its name. For components with the right
/// `control`, as are the following. Gives its number.
pub fn run(arguments: &str) -> Result<u64, IoError> {
    let length = arguments.len();
    if length > MAX_BYTES {
        return Err(IoError::Refused(Refusal::Malformed));
    }
    let words = bytes::put(&buffer().words, arguments.as_bytes());
    let answer = ask(Message::of(Request::Run as u32, [length as u64]).with(words, 0))?;
    Ok(answer.words[0])
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status.
    pub status: u8,
    /// It did not end by itself.
    pub crashed: bool,
}

/// Waits for the end of a program that [`run`] started.
pub fn wait_for(number: u64) -> Result<Ended, IoError> {
    let answer = ask(Message::of(Request::Ended as u32, [number]))?;
    Ok(Ended { status: answer.words[0] as u8, crashed: answer.words[1] != 0 })
}

/// Ends a program that [`run`] started, wherever it is. [`wait_for`] tells of it all the same.
pub fn end(number: u64) -> Result<(), IoError> {
    ask(Message::of(Request::End as u32, [number])).map(|_| ())
}

/// Ends the program with this status (0: all went well).
pub fn exit(status: u8) -> ! {
    // Where init does not end the component, nothing is left to be done but to crash.
    let _ = ipc::call(init(), Message::of(Request::Exit as u32, [u64::from(status)]));
    panic::crash("init did not take the exit")
}

/// Collects what a `print!` writes, so that it travels in few messages.
struct Collected {
    stream: Stream,
    bytes: [u8; MAX_BYTES],
    used: usize,
}

impl Collected {
    fn pass_on(&mut self) -> fmt::Result {
        let used = core::mem::take(&mut self.used);
        write(self.stream, &self.bytes[..used]).map_err(|_| fmt::Error)
    }
}

impl Write for Collected {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let room = &mut self.bytes[self.used..];
            let (now, later) = rest.split_at(rest.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            self.used += now.len();
            rest = later;
            if self.used == MAX_BYTES {
                self.pass_on()?;
            }
        }
        Ok(())
    }
}

/// Prints to a stream: what `print!` and its like stand on. What init does not take is lost.
pub fn print(stream: Stream, text: fmt::Arguments) {
    let mut collected = Collected { stream, bytes: [0; MAX_BYTES], used: 0 };
    // A program goes on without its output.
    let _ = collected.write_fmt(text).and_then(|()| collected.pass_on());
}

/// Prints to standard output.
#[macro_export]
macro_rules! print {
    ($($text:tt)*) => { $crate::io::print($crate::io::OUTPUT, ::core::format_args!($($text)*)) };
}

/// Prints a line to standard output.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($text:tt)*) => { $crate::print!("{}\n", ::core::format_args!($($text)*)) };
}

/// Prints a line to standard error.
#[macro_export]
macro_rules! eprintln {
    ($($text:tt)*) => {
        $crate::io::print($crate::io::ERROR, ::core::format_args!("{}\n", ::core::format_args!($($text)*)))
    };
}

/// Standard output.
pub const OUTPUT: Stream = Stream::Output;
/// Standard error.
pub const ERROR: Stream = Stream::Error;
