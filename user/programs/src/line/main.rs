//! `line say TEXT...` sends words over the serial line, each with an end of line, and prints the first line that comes back.
//! The next life of a driver that dies meanwhile gets all of it again.
//!
//! `line exchange BYTES [DEATHS]` passes a stream both ways between here and a peer at the line's other end (the one of
//! `storm`), and has the driver die so often meanwhile, in all the ways there are: 0 if nothing was lost, wrong or doubled.
#![no_std]
#![no_main]

extern crate alloc;

mod exchange;
mod say;

use alloc::string::String;

use channel::{Peer, Update};
use rt::channel::{Outside, open};
use rt::env;
use stream::Client;

rt::entry!(main);

fn main() -> Result<(), String> {
    let mut words = env::arguments().skip(1);
    let line = Line::open()?;
    match (words.next(), words.next()) {
        (Some("say"), Some(first)) => say::say(line, core::iter::once(first).chain(words)),
        (Some("exchange"), Some(bytes)) => {
            exchange::exchange(line, number(bytes)?, words.next().map_or(Ok(0), number)?)
        }
        _ => Err("say: line say TEXT..., or line exchange BYTES [DEATHS]".into()),
    }
}

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| alloc::format!("`{word}` is no number"))
}

/// The line, by its channel.
struct Line {
    peer: Peer<Client<'static>, Outside>,
}

impl Line {
    fn open() -> Result<Line, String> {
        let peer = open("serial", |end, life| Client::new(end.rings, life));
        Ok(Line { peer: peer.map_err(|error| alloc::format!("{error}"))? })
    }

    /// Sees to it that there is a driver. True: it is a new one, which has nothing of what was written.
    fn meet(&mut self) -> bool {
        self.peer.turn() == Update::Begun
    }

    /// Writes what there is room for, and says how much it was.
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.peer.act(|client| client.write(bytes)).unwrap_or(0)
    }

    /// Reads what has come.
    fn read(&mut self, place: &mut [u8]) -> usize {
        self.peer.act(|client| client.read(place)).unwrap_or(0)
    }

    /// Shows the driver what was written and read. True: nothing is to be done before the bell rings.
    fn flush(&mut self, for_room: bool) -> bool {
        self.peer.flush();
        // A wrong driver rings no more; its next life does.
        self.peer.act(|client| client.sleep(for_room)).unwrap_or(true)
    }
}
