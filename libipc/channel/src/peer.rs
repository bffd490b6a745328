//! A client of a channel in the world around it: the server's lives and bell, init, sleep.
//!
//! What is spoken on the channel is a [`Protocol`]: logic over shared words, which says what it found and makes no
//! system call. [`Peer`] does what follows of it, the same for all of them: it rings a server that sleeps, and reports
//! one that does wrong, unless what looked wrong was the beginning of its next life.

use ring::Corrupt;

/// What a client knows of its server: its words in `proto::life::lives`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// Which life it is in, 0 before the first.
    pub life: u32,
    /// How many of its lives have ended by its own fault.
    pub faults: u64,
}

/// What the server did that it must not. Until its next life the rings are not used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Wrong {
    /// A ring's index that cannot be.
    Index = 1,
    /// An answer to what it was not asked, or has answered already.
    Id = 2,
    /// An answer that has no meaning.
    Status = 3,
    /// It describes a device that there cannot be.
    Properties = 4,
    /// A buffer that it does not have.
    Buffer = 5,
    /// A length that does not fit into the buffer.
    Length = 6,
    /// Words that have no meaning.
    Record = 7,
}

impl From<Corrupt> for Wrong {
    fn from(_: Corrupt) -> Wrong {
        Wrong::Index
    }
}

/// What a look at the server's life has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Nothing new.
    Same,
    /// The server is in another life, or has none yet: ring its bell, and go on.
    Apart,
    /// There is a server, which has nothing of what was handed to the former one. Ring its bell.
    Begun,
}

/// What is to be done after a turn of a client that has looked at the server's life by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "a server that sleeps is to be rung, and one that does wrong reported"]
pub struct Turn {
    /// Ring the server's bell.
    pub ring: bool,
    /// Report the server to init.
    pub wrong: Option<Wrong>,
}

/// What a client needs of the world around it.
pub trait World {
    /// Returns the server's words in the page of lives.
    fn server(&self) -> Server;
    /// Rings the server's bell.
    fn ring(&mut self);
    /// Tells init that the server did wrong.
    fn report(&mut self, wrong: Wrong);
    /// Sleeps until the client's bell is rung for the channel or for lives, or until `deadline` (TSC ticks).
    fn sleep(&mut self, deadline: Option<u64>);

    /// Does what is to be done after a turn.
    fn settle(&mut self, turn: Turn) {
        if turn.ring {
            self.ring();
        }
        if let Some(wrong) = turn.wrong {
            self.report(wrong);
        }
    }
}

/// What is spoken on a channel, from the client's side.
pub trait Protocol {
    /// Sees to it that the rings are those of the server's present life.
    fn meet(&mut self, server: Server) -> Result<Update, Wrong>;

    /// Shows the server what was written and read. Returns true if its bell is to be rung.
    fn flush(&mut self) -> Result<bool, Wrong>;
}

/// A client and its world.
#[derive(Debug)]
pub struct Peer<P, W> {
    /// The client.
    pub client: P,
    /// What it needs of the world.
    pub world: W,
    /// A server was met while another one was looked into, and nobody was told of it yet.
    has_begun: bool,
}

impl<P: Protocol, W: World> Peer<P, W> {
    /// A client that has not met its server.
    pub fn new(client: P, world: W) -> Peer<P, W> {
        Peer { client, world, has_begun: false }
    }

    /// Meets the server, whichever life it is in, and hands it what waits: to be called after each sleep.
    /// [`Update::Begun`] is returned once for each life of the server.
    pub fn turn(&mut self) -> Update {
        let found = self.meet().unwrap_or(Update::Same);
        self.flush();
        match core::mem::take(&mut self.has_begun) {
            true => Update::Begun,
            false => found,
        }
    }

    /// Hands the server what waits.
    pub fn flush(&mut self) {
        if self.act(P::flush) == Some(true) {
            self.world.ring();
        }
    }

    /// Has the client do something, and returns what it did; `None` if it found the server wrong. init hears of that,
    /// unless it was the beginning of the server's next life that looked wrong.
    pub fn act<T, E: Into<Wrong>>(&mut self, act: impl FnOnce(&mut P) -> Result<T, E>) -> Option<T> {
        let error = match act(&mut self.client) {
            Ok(done) => return Some(done),
            Err(error) => error,
        };
        if self.meet() == Some(Update::Same) {
            self.world.report(error.into());
        }
        None
    }

    /// Looks at the server's life; `None` if that is a new one and wrong from the start.
    fn meet(&mut self) -> Option<Update> {
        match self.client.meet(self.world.server()) {
            Ok(Update::Same) => Some(Update::Same),
            Ok(update) => {
                self.has_begun |= update == Update::Begun;
                self.world.ring();
                Some(update)
            }
            Err(wrong) => {
                self.world.report(wrong);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server's life, and what was done to it.
    struct Around {
        life: u32,
        rung: u32,
        reported: Vec<Wrong>,
    }

    impl World for Around {
        fn server(&self) -> Server {
            Server { life: self.life, faults: 0 }
        }

        fn ring(&mut self) {
            self.rung += 1;
        }

        fn report(&mut self, wrong: Wrong) {
            self.reported.push(wrong);
        }

        fn sleep(&mut self, _: Option<u64>) {}
    }

    /// Knows one life at a time; that of a server with number 9 is wrong from the start.
    #[derive(Default)]
    struct Knows {
        life: u32,
        has_something: bool,
    }

    impl Protocol for Knows {
        fn meet(&mut self, server: Server) -> Result<Update, Wrong> {
            match server.life {
                9 => Err(Wrong::Properties),
                life if life == self.life => Ok(Update::Same),
                life => {
                    self.life = life;
                    Ok(Update::Begun)
                }
            }
        }

        fn flush(&mut self) -> Result<bool, Wrong> {
            Ok(core::mem::take(&mut self.has_something))
        }
    }

    fn peer() -> Peer<Knows, Around> {
        let mut peer = Peer::new(Knows::default(), Around { life: 1, rung: 0, reported: Vec::new() });
        assert_eq!(peer.turn(), Update::Begun);
        peer.world.rung = 0;
        peer
    }

    #[test]
    fn a_server_is_rung_when_it_has_to_look() {
        let mut peer = peer();
        assert_eq!((peer.turn(), peer.world.rung), (Update::Same, 0));
        peer.client.has_something = true;
        assert_eq!((peer.turn(), peer.world.rung), (Update::Same, 1));
        peer.world.life = 2;
        assert_eq!((peer.turn(), peer.world.rung), (Update::Begun, 2));
    }

    #[test]
    fn what_is_wrong_is_reported_if_the_life_goes_on() {
        let mut peer = peer();
        assert_eq!(peer.act(|_| Err::<(), _>(Wrong::Buffer)), None);
        assert_eq!(peer.act(|_| Err::<(), _>(Corrupt)), None);
        assert_eq!(peer.act(|_| Ok::<_, Wrong>(5)), Some(5));
        assert_eq!(peer.world.reported, [Wrong::Buffer, Wrong::Index]);
    }

    #[test]
    fn the_beginning_of_the_next_life_is_nothing_wrong_and_not_missed() {
        let mut peer = peer();
        peer.world.life = 2;
        assert_eq!(peer.act(|_| Err::<(), _>(Wrong::Buffer)), None);
        assert_eq!((peer.world.reported.len(), peer.world.rung), (0, 1));
        assert_eq!(peer.turn(), Update::Begun, "told by the next turn");
        assert_eq!(peer.turn(), Update::Same, "and once");
    }

    #[test]
    fn a_server_that_is_wrong_from_the_start_is_reported() {
        let mut peer = peer();
        peer.world.life = 9;
        assert_eq!(peer.turn(), Update::Same);
        assert_eq!(peer.world.reported, [Wrong::Properties]);
    }
}
