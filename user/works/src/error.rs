//! Why a work cannot go on.

use alloc::string::String;
use core::fmt;

use rt::alloc::AllocError;
use rt::channel::OpenError;
use rt::io::IoError;
use rt::thread::ThreadError;

/// Why a work cannot go on. What it finds wrong with its data is no reason: that is counted.
#[derive(Clone, Debug)]
pub enum WorkError {
    /// The manifest gives the program no channel of that name.
    NoChannel(&'static str),
    /// The channel's Frames are too small for what is spoken on it.
    TooSmall(&'static str),
    /// The disk has fewer sectors than are to be written.
    SmallDisk(u64),
    /// The disk cannot be written.
    ReadOnly,
    /// Nothing came of it for so many seconds.
    Stalled(u64),
    /// There is no component of that name, or none that can be killed.
    NoVictim(&'static str),
    /// There is no such thing.
    NotOffered(&'static str),
    /// The ledger, in its words.
    Ledger(String),
    /// A thread.
    Thread(ThreadError),
    /// Memory, slots or addresses.
    Alloc(AllocError),
    /// init.
    Io(IoError),
    /// The kernel.
    Kernel(ipc::Error),
}

impl WorkError {
    /// There is no client of the channel called `name`.
    pub fn of_channel(name: &'static str, error: OpenError) -> WorkError {
        match error {
            OpenError::NoChannel => WorkError::NoChannel(name),
            OpenError::Map(error) => WorkError::Alloc(error),
            OpenError::TooSmall => WorkError::TooSmall(name),
        }
    }
}

impl From<AllocError> for WorkError {
    fn from(error: AllocError) -> WorkError {
        WorkError::Alloc(error)
    }
}

impl From<IoError> for WorkError {
    fn from(error: IoError) -> WorkError {
        WorkError::Io(error)
    }
}

impl From<ipc::Error> for WorkError {
    fn from(error: ipc::Error) -> WorkError {
        WorkError::Kernel(error)
    }
}

impl fmt::Display for WorkError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            WorkError::NoChannel(name) => write!(f, "the manifest gives no channel `{name}`"),
            WorkError::TooSmall(name) => write!(f, "the channel `{name}` has too little memory"),
            WorkError::SmallDisk(sectors) => {
                write!(f, "the disk has only {sectors} sectors: ask for less, or for a larger one")
            }
            WorkError::ReadOnly => f.write_str("the disk cannot be written"),
            WorkError::Stalled(seconds) => write!(f, "nothing has moved for {seconds} s"),
            WorkError::NoVictim(name) => write!(f, "{name}: no component of that name that can be killed"),
            WorkError::NotOffered(what) => f.write_str(what),
            WorkError::Ledger(error) => write!(f, "ledger: {error}"),
            WorkError::Thread(error) => error.fmt(f),
            WorkError::Alloc(error) => error.fmt(f),
            WorkError::Io(error) => error.fmt(f),
            WorkError::Kernel(error) => f.write_str(error.meaning().trim_start()),
        }
    }
}
