//! The ledger and its clients in one process, with a ledger that is shot.

mod hostile;
mod kills;
mod model;
mod requests;

use std::cell::Cell;
use std::rc::Rc;

use ipc::{Error, Message};
use proto::principal::Principal;
use recover::mortal::Mortal;
use recover::server::Life;
use recover::sessions::Bounds;
use recover::{Caller, Extra, Link, Request, Server};

use crate::client::Totals;
use crate::{Client, Ledger};

const LEDGER: Ledger = Ledger::new(4, 8);
const BOUNDS: Bounds = Bounds { slots: 5, pool: 3, each: 1 };
/// The slot of who only looks.
const LOOKER: u16 = 4;

fn memory() -> Mortal {
    Mortal::new(LEDGER.layout(BOUNDS).shape().frame_words())
}

fn open(memory: &Mortal) -> Server<&Mortal, Ledger> {
    Server::open(memory, LEDGER.layout(BOUNDS), Life { number: 1, faults: 0 }, LEDGER).expect("a whole state")
}

/// How the ledger dies over the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shot {
    /// After so many stores, if it lives that long.
    After(u64),
    /// When all is done, before the answer is out.
    BeforeTheAnswer,
    /// Not.
    Missed,
}

/// A ledger in a state frame, which begins a new life with every call.
struct Range {
    memory: Mortal,
    next: Cell<Shot>,
    deaths: Cell<u64>,
}

impl Range {
    fn new() -> Rc<Range> {
        Rc::new(Range { memory: memory(), next: Cell::new(Shot::Missed), deaths: Cell::new(0) })
    }

    /// A lane of the client in a slot, in its life `life`.
    fn client(self: &Rc<Range>, slot: u16, life: u64, lane: u16) -> Client<Line> {
        Client::new(Caller::new(Line { range: Rc::clone(self), badge: badge(slot, life) }, lane))
    }

    /// Seen by nobody's request.
    fn totals(self: &Rc<Range>) -> Totals {
        self.next.set(Shot::Missed);
        self.client(LOOKER, 1, 0).totals().expect("it lives")
    }

    /// No money has come from nowhere or gone there.
    fn check_conservation(self: &Rc<Range>) {
        let totals = self.totals();
        assert_eq!(totals.sum, totals.deposited, "{totals:?}");
    }
}

fn badge(slot: u16, generation: u64) -> u64 {
    Principal { slot, generation }.badge()
}

/// A client's way to it.
struct Line {
    range: Rc<Range>,
    badge: u64,
}

impl Link for Line {
    fn call(&mut self, message: Message, extra: &[u64], answer: &mut Extra) -> Result<Message, Error> {
        let shot = self.range.next.replace(Shot::Missed);
        let stores = if let Shot::After(stores) = shot { stores } else { u64::MAX };
        let memory = &self.range.memory;
        let request = Request { badge: self.badge, message, extra };
        let served = memory.live(stores, || open(memory).serve(&request, answer));
        match served {
            Some(message) if shot != Shot::BeforeTheAnswer => Ok(message),
            _ => {
                self.range.deaths.set(self.range.deaths.get() + 1);
                Err(Error::PeerDied)
            }
        }
    }
}
