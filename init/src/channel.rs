//! The channel to the host's tool: frames of `proto::host` over COM2.

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;

use proto::host::{self, FrameReader, MAX_FRAME, ToGuest, ToHost};

use crate::log;
use crate::serial::Serial;

/// What the host asks.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Run a program with these arguments, each ended by NUL.
    Exec(String),
    /// Bytes for its standard input.
    Stdin(Vec<u8>),
    /// Its standard input ends here.
    StdinEnd,
    /// End the guest.
    Shutdown,
}

/// The channel.
pub struct Channel {
    /// The line it goes over.
    pub serial: Serial,
    reader: FrameReader,
}

impl Channel {
    /// Opens the channel and greets the host.
    pub fn new(serial: Serial) -> Channel {
        let mut channel = Channel { serial, reader: FrameReader::new() };
        // Ends whatever stood on the line before.
        channel.serial.uart.send(&[0]);
        channel.tell(&ToHost::Hello { version: host::VERSION });
        channel
    }

    /// Sends a message.
    pub fn tell(&mut self, message: &ToHost) {
        let mut buffer = [0; MAX_FRAME];
        match host::encode(message, &mut buffer) {
            Ok(frame) => self.serial.uart.send(frame),
            Err(host::TooLong) => log!("init: a message for the host was too long and is lost"),
        }
    }

    /// The next command that has come whole.
    pub fn take(&mut self) -> Option<Command> {
        while let Some(byte) = self.serial.uart.receive() {
            match self.reader.push::<ToGuest>(byte) {
                None => {}
                Some(Ok(message)) => return Some(owned(&message)),
                Some(Err(bad)) => log!("init: a frame from the host makes no sense ({bad:?}) and is dropped"),
            }
        }
        None
    }
}

fn owned(message: &ToGuest) -> Command {
    match *message {
        ToGuest::Exec { argv } => Command::Exec(argv.into()),
        ToGuest::Stdin(bytes) => Command::Stdin(bytes.into()),
        ToGuest::StdinEnd => Command::StdinEnd,
        ToGuest::Shutdown => Command::Shutdown,
    }
}
