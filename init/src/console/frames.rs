//! The channel to the host's tool: frames of `proto::host` over a port of the console, or over COM2.

extern crate alloc;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use proto::host::{self, FrameReader, MAX_FRAME, ToGuest, ToHost};

use super::carrier::{Allowance, Carrier};
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

/// What the channel to the host goes over.
pub enum Way {
    /// COM2: a line that loses nothing.
    Serial(Serial),
    /// A port of the console.
    Port(Box<Port>),
}

impl Carrier for Way {
    fn send(&mut self, bytes: &[u8]) {
        match self {
            Way::Serial(serial) => serial.uart.send(bytes),
            Way::Port(port) => port.send(bytes),
        }
    }

    fn has_room(&self) -> bool {
        match self {
            Way::Serial(serial) => serial.uart.has_room(),
            Way::Port(port) => port.has_room(),
        }
    }

    fn receive(&mut self, to: &mut [u8]) -> usize {
        match self {
            // A byte at a time: what waits in the line interrupts again, what was taken does not.
            Way::Serial(serial) => {
                to.iter_mut().zip(serial.uart.receive()).map(|(to, byte)| *to = byte).count()
            }
            Way::Port(port) => port.receive(to),
        }
    }

    fn turn(&mut self) {
        match self {
            Way::Serial(serial) => serial.uart.interrupt(),
            Way::Port(port) => port.turn(),
        }
    }

    fn deadline(&self) -> Option<u64> {
        match self {
            // It interrupts.
            Way::Serial(_) => None,
            Way::Port(port) => port.deadline(),
        }
    }
}

/// The channel.
pub struct Channel<C> {
    way: C,
    reader: FrameReader,
    /// What has come in and was not looked at yet.
    unread: heapless::Deque<u8, 256>,
    listening: bool,
}

impl Channel<Way> {
    /// Opens the channel over COM2, and greets the host.
    pub fn over_serial(serial: Serial) -> Channel<Way> {
        let mut channel = Channel::over(Way::Serial(serial));
        // Ends whatever stood on the line before.
        channel.way.send(&[0]);
        channel.greeting()
    }

    /// Opens the channel over a port, and greets the host.
    pub fn over_port(port: Port) -> Channel<Way> {
        Channel::over(Way::Port(Box::new(port))).greeting()
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
}

impl<C: Carrier> Channel<C> {
    fn over(way: C) -> Channel<C> {
        Channel { way, reader: FrameReader::new(), unread: heapless::Deque::new(), listening: true }
    }

    fn greeting(mut self) -> Channel<C> {
        self.tell(&ToHost::Hello { version: host::VERSION });
        self
    }

    /// Sends a message.
    pub fn tell(&mut self, message: &ToHost) {
        let mut buffer = [0; MAX_FRAME];
        match host::encode(message, &mut buffer) {
            Ok(frame) => self.way.send(frame),
            Err(host::TooLong) => log!("init: a message for the host was too long and is lost"),
        }
    }

    /// When what it goes over is to be looked at at the latest.
    pub fn deadline(&self) -> Option<u64> {
        self.way.deadline()
    }

    /// Returns true if the host keeps up; whatever can wait is told only then.
    pub fn has_room(&self) -> bool {
        self.way.has_room()
    }

    /// Returns the next command that has come whole, as far as the allowance goes.
    pub fn take(&mut self, allowance: &mut Allowance) -> Option<Command> {
        while self.listening
            && !allowance.is_used_up()
            && let Some(byte) = self.receive()
        {
            allowance.count_byte();
            match self.reader.push::<ToGuest>(byte) {
                None => {}
                Some(Ok(message)) => {
                    allowance.count_item();
                    return Some(owned(&message));
                }
                Some(Err(bad)) => log!("init: a frame from the host makes no sense ({bad:?}) and is dropped"),
            }
        }
        None
    }

    fn receive(&mut self) -> Option<u8> {
        if self.unread.is_empty() {
            let mut bytes = [0; 256];
            let count = self.way.receive(&mut bytes);
            // As many places as bytes.
            self.unread.extend(bytes[..count].iter().copied());
        }
        self.unread.pop_front()
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

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::console::carrier::Endless;

    fn frame(message: &ToGuest) -> Vec<u8> {
        host::encode(message, &mut [0; MAX_FRAME]).expect("short").to_vec()
    }

    fn flooded(brings: &[u8]) -> Channel<Endless> {
        Channel::over(Endless { brings: brings.into(), ..Endless::default() })
    }

    /// Takes what a turn does.
    fn turn(channel: &mut Channel<Endless>) -> (Vec<Command>, Allowance) {
        let mut allowance = Allowance::new();
        let commands = core::iter::from_fn(|| channel.take(&mut allowance)).collect();
        (commands, allowance)
    }

    #[test]
    fn a_flood_of_commands_ends_a_turn_and_the_next_one_goes_on() {
        let all: Vec<u8> =
            ["a\0", "b\0", "c\0"].iter().flat_map(|argv| frame(&ToGuest::Exec { argv })).collect();
        let mut channel = flooded(&all);
        let mut expected = ["a\0", "b\0", "c\0"].into_iter().cycle();
        for _ in 0..3 {
            let (commands, allowance) = turn(&mut channel);
            assert!(allowance.is_used_up());
            assert_eq!(commands.len(), Allowance::ITEMS);
            for command in commands {
                assert_eq!(Some(command), expected.next().map(|argv| Command::Exec(argv.into())));
            }
        }
    }

    #[test]
    fn a_flood_of_bytes_that_make_up_no_command_ends_a_turn() {
        // Without an end, there is no frame that could be refused.
        let mut channel = flooded(&[1]);
        for turns in 1..=3 {
            let (commands, allowance) = turn(&mut channel);
            assert!(commands.is_empty() && allowance.is_used_up());
            assert_eq!(channel.way.brought, turns * Allowance::BYTES);
        }
    }

    #[test]
    fn a_channel_that_does_not_listen_takes_nothing_and_is_no_reason_for_another_turn() {
        let mut channel = flooded(&frame(&ToGuest::StdinEnd));
        channel.listening = false;
        let (commands, allowance) = turn(&mut channel);
        assert!(commands.is_empty() && !allowance.is_used_up() && channel.way.brought == 0);
    }
}
