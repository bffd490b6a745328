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

use ring::Corrupt;
use rt::channel::End;
use rt::{control, env};
use stream::{Client, Update};

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
    end: End,
    client: Client<'static>,
}

impl Line {
    fn open() -> Result<Line, String> {
        let end = rt::channel::client("serial").map_err(|error| alloc::format!("{error}"))?;
        let end = end.ok_or("the manifest gives no channel `serial`")?;
        let client = Client::new(end.rings, env::life()).map_err(|_| "rings too small for a stream")?;
        Ok(Line { end, client })
    }

    /// Sees to it that there is a driver. True: it is a new one, which has nothing of what was written.
    fn meet(&mut self) -> bool {
        let update = self.client.update(self.end.peer_life());
        if update != Update::Same {
            self.end.ring_bell();
        }
        update == Update::Begun
    }

    /// What is not corrupt. What is so in a life that goes on, init is told of.
    fn unless_corrupt<T: Default>(&mut self, result: Result<T, Corrupt>) -> T {
        if result.is_err() && self.client.update(self.end.peer_life()) == Update::Same {
            // A report that init refuses is about a driver that is dead already.
            let _ = control::report(self.end.peer as u64, 0);
        }
        result.unwrap_or_default()
    }

    /// Writes what there is room for, and says how much it was.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let written = self.client.write(bytes);
        self.unless_corrupt(written)
    }

    /// Reads what has come.
    fn read(&mut self, place: &mut [u8]) -> usize {
        let count = self.client.read(place);
        self.unless_corrupt(count)
    }

    /// Shows the driver what was written and read. True: nothing is to be done before the bell rings.
    fn flush(&mut self, for_room: bool) -> bool {
        if self.client.flush() {
            self.end.ring_bell();
        }
        let awake = self.client.sleep(for_room).map(|asleep| !asleep);
        !self.unless_corrupt(awake)
    }
}
