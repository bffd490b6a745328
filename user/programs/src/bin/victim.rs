//! A server that is there to die: what its recovery shows holds for every server that is built like it.
//!
//! It answers calls on `victim`, counting them in its state, and echoes on channels `echo` the number that the client
//! writes behind the handshake.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering};

use abi::CPtr;
use channel::{End, Role, Step};
use ipc::serve::{Serve, serve};
use ipc::{Message, Received};
use proto::channel::HANDSHAKE_WORDS;
use proto::life::bell;
use rt::alloc::AllocError;
use rt::lock::Mutex;
use rt::{env, life, memory};

rt::entry!(main);

/// Behind the handshake: the client's number, and the server's echo of it.
const ASKED: usize = HANDSHAKE_WORDS;
const ECHOED: usize = HANDSHAKE_WORDS + 8;

/// Where nonsense is written when that is ordered.
static ENDS: Mutex<heapless::Vec<rt::channel::End, 16>> = Mutex::new(heapless::Vec::new());

struct Victim {
    ends: heapless::Vec<(rt::channel::End, End<'static>), 16>,
    /// Calls answered in all lives.
    state: &'static [AtomicU64],
}

fn main() -> Result<(), AllocError> {
    let state = match env::state() {
        Some(frame) => memory::map_words(CPtr(frame.slot), u32::from(frame.bits))?,
        None => panic!("the manifest gives the victim no state"),
    };
    let mut victim = Victim { ends: heapless::Vec::new(), state };
    for mapped in rt::channel::servers("echo") {
        let mapped = mapped?;
        // A component has no more ends than there is room for.
        let _ = ENDS.lock().push(mapped);
        let _ = victim.ends.push((mapped, End::new(mapped.handshake(), Role::Server, env::life())));
    }
    life::bind_bell()?;
    life::on_corrupt(corrupt);
    victim.look_at_channels();
    life::ready();
    panic!("it cannot receive: {}", serve(env::required("victim"), &mut victim).name());
}

fn corrupt() {
    for end in ENDS.lock().iter() {
        end.rings[ECHOED].store(u64::MAX, Ordering::Release);
        end.ring_bell();
    }
}

impl Victim {
    fn look_at_channels(&mut self) {
        for (mapped, end) in &mut self.ends {
            loop {
                match end.update(mapped.peer_life()) {
                    Step::Reset => {
                        mapped.rings[ECHOED].store(0, Ordering::Relaxed);
                        end.joined();
                        mapped.ring_bell();
                    }
                    Step::Wait => break,
                    Step::Begin => {}
                    Step::Together => {
                        echo(mapped);
                        break;
                    }
                }
            }
        }
    }
}

fn echo(end: &rt::channel::End) {
    let asked = end.rings[ASKED].load(Ordering::Acquire);
    if end.rings[ECHOED].load(Ordering::Relaxed) < asked {
        life::begun();
        if end.rings[ECHOED].load(Ordering::Relaxed) < asked {
            end.rings[ECHOED].store(asked, Ordering::Release);
            end.ring_bell();
        }
        life::served();
    }
}

impl Serve for Victim {
    fn message(&mut self, received: &Received) -> Option<Message> {
        life::begun();
        let calls = self.state[0].load(Ordering::Relaxed) + 1;
        self.state[0].store(calls, Ordering::Relaxed);
        life::served();
        Some(Message::of(0, [received.message.words[0] + 1, calls, u64::from(env::life())]))
    }

    fn notified(&mut self, bits: u64) {
        if bits & 1 << bell::ORDERS != 0 {
            life::beat();
        }
        self.look_at_channels();
    }
}
