//! The channel to the host's tool: frames of `proto::host` over a port of the console, or over COM2.

extern crate alloc;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use proto::host::{self, FrameReader, MAX_FRAME, ToGuest, ToHost};

use super::port::Port;
use super::serial::Serial;
use crate::log;

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

/// What the channel goes over.
enum Way {
    /// COM2: a line that loses nothing.
    Serial(Serial),
    /// A port of the console.
    Port(Box<Port>),
}

/// The channel.
pub struct Channel {
    way: Way,
    reader: FrameReader,
    /// What has come in and was not looked at yet.
    unread: heapless::Deque<u8, 256>,
    listening: bool,
}

impl Channel {
    /// Opens the channel over COM2, and greets the host.
    pub fn over_serial(serial: Serial) -> Channel {
        let mut channel = Channel::over(Way::Serial(serial));
        // Ends whatever stood on the line before.
        channel.send(&[0]);
        channel.greeting()
    }

    /// Opens the channel over a port, and greets the host.
    pub fn over_port(port: Port) -> Channel {
        Channel::over(Way::Port(Box::new(port))).greeting()
    }

    fn over(way: Way) -> Channel {
        Channel { way, reader: FrameReader::new(), unread: heapless::Deque::new(), listening: true }
    }

    fn greeting(mut self) -> Channel {
        self.tell(&ToHost::Hello { version: host::VERSION });
        self
    }

    /// Sends a message.
    pub fn tell(&mut self, message: &ToHost) {
        let mut buffer = [0; MAX_FRAME];
        match host::encode(message, &mut buffer) {
            Ok(frame) => self.send(frame),
            Err(host::TooLong) => log!("init: a message for the host was too long and is lost"),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        match &mut self.way {
            Way::Serial(serial) => serial.uart.send(bytes),
            Way::Port(port) => port.send(bytes),
        }
    }

    /// Whether the host keeps up; who can wait tells it something only then.
    pub fn has_room(&self) -> bool {
        match &self.way {
            Way::Serial(serial) => serial.uart.has_room(),
            Way::Port(port) => port.has_room(),
        }
    }

    /// Whether to take commands. While not, what the host sends waits on its side.
    pub fn listen(&mut self, listening: bool) {
        self.listening = listening;
        if let Way::Serial(serial) = &mut self.way {
            serial.uart.listen(listening);
        }
    }

    /// The line that it goes over, if it is a serial one.
    pub fn serial(&mut self) -> Option<&mut Serial> {
        match &mut self.way {
            Way::Serial(serial) => Some(serial),
            Way::Port(_) => None,
        }
    }

    /// The port that it goes over, if it is one.
    pub fn port(&mut self) -> Option<&mut Port> {
        match &mut self.way {
            Way::Port(port) => Some(port),
            Way::Serial(_) => None,
        }
    }

    /// When the port, if it goes over one, is to be looked at at the latest.
    pub fn deadline(&self) -> Option<u64> {
        match &self.way {
            Way::Port(port) => port.deadline(),
            Way::Serial(_) => None,
        }
    }

    /// The next command that has come whole.
    pub fn take(&mut self) -> Option<Command> {
        while self.listening
            && let Some(byte) = self.receive()
        {
            match self.reader.push::<ToGuest>(byte) {
                None => {}
                Some(Ok(message)) => return Some(owned(&message)),
                Some(Err(bad)) => log!("init: a frame from the host makes no sense ({bad:?}) and is dropped"),
            }
        }
        None
    }

    fn receive(&mut self) -> Option<u8> {
        match &mut self.way {
            Way::Serial(serial) => serial.uart.receive(),
            Way::Port(port) => {
                if self.unread.is_empty() {
                    let mut bytes = [0; 256];
                    let count = port.receive(&mut bytes);
                    // As many places as bytes.
                    self.unread.extend(bytes[..count].iter().copied());
                }
                self.unread.pop_front()
            }
        }
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
