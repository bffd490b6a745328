//! A server with state, without the messages to it: what it adds to a request to be killed at any instruction.

use core::cell::Cell;
use core::sync::atomic::AtomicU64;

use abi::Kind;
use ipc::Message;
use proto::once::Stamp;
use proto::principal::Principal;
use recover::server::{Layout, Life};
use recover::sessions::Bounds;
use recover::{Extra, JournalFull, Memory, Request, Server, Service, View, Work};

use crate::meter::{Amount, Samples};
use crate::{Bench, Failure};

/// Adds word 0 to the one word that there is; what is in it.
const ADD: u32 = 1;
const READ: u32 = 2;
const LAYOUT: Layout = Layout::new(1, Bounds { slots: 512, pool: 16, each: 4 }, 1);

struct Counter;

impl Service for Counter {
    const VERSION: u32 = 1;

    fn only_looks(&self, label: u32) -> bool {
        label != ADD
    }

    fn look<M: Memory>(&self, words: &View<M>, _: &Request, _: &mut Extra) -> Message {
        Message::of(0, [words.get(0)])
    }

    fn work<M: Memory>(&self, words: &mut Work<M>, request: &Request) -> Result<Message, JournalFull> {
        let [amount, ..] = request.words();
        let sum = words.get(0).wrapping_add(amount);
        words.set(0, sum)?;
        Ok(Message::of(0, [sum]))
    }
}

type Words = &'static [AtomicU64];

fn server(bench: &Bench) -> Result<Server<Words, Counter>, Failure> {
    let (r, bits) = (&bench.resources, LAYOUT.frame_bits());
    let frame = r.make(Kind::Frame, bits)?;
    let address = r.map(frame, 1 << bits, 1 << bits)?;
    // SAFETY: as many words were just mapped there, for nobody else; they are unmapped when this benchmark is over.
    let words: Words = unsafe { core::slice::from_raw_parts(address as *const AtomicU64, 1 << (bits - 3)) };
    Server::open(words, LAYOUT, Life { number: 1, faults: 0 }, Counter)
        .map_err(|_| Failure::Wrong("a new state frame is none"))
}

fn ask(server: &mut Server<Words, Counter>, slot: u16, label: u32, number: u64) -> Message {
    let badge = Principal { slot, generation: 1 }.badge();
    let message = Message::of(label, [Stamp { lane: 0, number }.word(), 1]);
    server.serve(&Request { badge, message, extra: &[] }, &mut Extra::new())
}

/// A request of each of so many clients in turn.
pub fn request<const CLIENTS: u16>(bench: &Bench) -> Result<Samples, Failure> {
    let mut server = server(bench)?;
    let (mut slot, mut number) = (0, 1);
    let refused = Cell::new(0);
    let mut next = || {
        let answer = ask(&mut server, slot, ADD, number);
        refused.set(refused.get() + u64::from(answer.label()));
        slot += 1;
        if slot == CLIENTS {
            (slot, number) = (0, number + 1);
        }
        Ok(())
    };
    // The first of each is taken on.
    (0..CLIENTS).try_for_each(|_| next())?;
    let samples = bench.meter.measure(Amount::SHORT, next)?;
    if refused.get() == 0 { Ok(samples) } else { Err(Failure::Wrong("a request was refused")) }
}

/// A request that only looks.
pub fn look(bench: &Bench) -> Result<Samples, Failure> {
    let mut server = server(bench)?;
    ask(&mut server, 3, ADD, 1);
    let refused = Cell::new(0);
    let samples = bench.meter.measure(Amount::SHORT, || {
        refused.set(refused.get() + u64::from(ask(&mut server, 3, READ, 2).label()));
        Ok(())
    })?;
    if refused.get() == 0 { Ok(samples) } else { Err(Failure::Wrong("a look was refused")) }
}
