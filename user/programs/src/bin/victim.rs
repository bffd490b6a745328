//! A server that is there to die: what its recovery shows holds for every server that is built like it.
//!
//! It answers calls on `victim`, counting them in its state, and echoes on channels `echo` the number that the client
//! writes behind the handshake.
#![no_std]
#![no_main]

use core::convert::Infallible;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::CPtr;
use channel::{End, Role, Step};
use heapless::Vec;
use ipc::{Message, Received};
use proto::channel::HANDSHAKE_WORDS;
use proto::start::MAX_CHANNELS;
use rt::alloc::AllocError;
use rt::channel::Clients;
use rt::work::{Answer, Work, World};
use rt::{env, memory};

rt::entry!(main);

/// Behind the handshake: the client's number, and the server's echo of it.
const ASKED: usize = HANDSHAKE_WORDS;
const ECHOED: usize = HANDSHAKE_WORDS + 8;
/// What it writes.
const WRITTEN: Range<usize> = ECHOED..ECHOED + 1;

/// A client's channel.
struct Client {
    words: &'static [AtomicU64],
    end: End<'static>,
}

struct Victim {
    clients: Vec<Client, MAX_CHANNELS>,
    /// Calls answered in all lives.
    state: &'static [AtomicU64],
}

fn main() -> Result<(), AllocError> {
    let state = match env::state() {
        Some(frame) => memory::map_words(CPtr(frame.slot), u32::from(frame.bits))?,
        None => panic!("the manifest gives the victim no state"),
    };
    let channels = Clients::map(&[WRITTEN]);
    let client = |end: &rt::channel::End| Client {
        words: end.rings,
        end: End::new(end.handshake(), Role::Server, env::life()),
    };
    let clients = channels.ends().iter().map(client).collect();
    rt::work::answer(env::required("victim"), &mut Victim { clients, state }, channels)
}

impl Work for Victim {
    type Error = Infallible;

    fn rung(&mut self, _: u64, _: &mut impl World) -> Result<(), Infallible> {
        Ok(())
    }

    fn turn(&mut self, world: &mut impl World) -> Result<bool, Infallible> {
        for (at, client) in self.clients.iter_mut().enumerate() {
            client.meet(at, world);
        }
        Ok(true)
    }
}

impl Client {
    fn meet(&mut self, at: usize, world: &mut impl World) {
        loop {
            match self.end.update(world.life(at)) {
                Step::Reset => {
                    self.words[ECHOED].store(0, Ordering::Relaxed);
                    self.end.joined();
                    world.ring(at);
                }
                Step::Wait => return,
                Step::Begin => {}
                Step::Together => return self.echo(at, world),
            }
        }
    }

    fn echo(&mut self, at: usize, world: &mut impl World) {
        let asked = self.words[ASKED].load(Ordering::Acquire);
        if self.words[ECHOED].load(Ordering::Relaxed) < asked {
            world.begun();
            self.words[ECHOED].store(asked, Ordering::Release);
            world.ring(at);
            world.served();
        }
    }
}

impl Answer for Victim {
    fn answer(&mut self, received: &Received) -> Result<Option<Message>, Infallible> {
        let calls = self.state[0].load(Ordering::Relaxed) + 1;
        self.state[0].store(calls, Ordering::Relaxed);
        Ok(Some(Message::of(0, [received.message.words[0] + 1, calls, u64::from(env::life())])))
    }
}
