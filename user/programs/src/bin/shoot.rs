//! `shoot COUNT` uses the server `victim` by calls and over a channel, while it is made to die in every way at every one
//! of its first COUNT messages: no call may fail, no answer be missing or wrong.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::String;
use core::sync::atomic::Ordering;

use abi::{CPtr, Error};
use channel::{End, Role, Step};
use ipc::Message;
use proto::channel::HANDSHAKE_WORDS;
use proto::life::Injection;
use rt::{clock, control, env, life};

rt::entry!(main);

/// Behind the handshake: this side's number, and the victim's echo of it.
const ASKED: usize = HANDSHAKE_WORDS;
const ECHOED: usize = HANDSHAKE_WORDS + 8;

struct Client {
    victim: CPtr,
    place: u64,
    mapped: rt::channel::End,
    end: End<'static>,
    /// The last number that was sent, and whether its echo is awaited.
    number: u64,
    answered: u64,
    reports: u64,
}

fn main() -> Result<(), String> {
    let count = env::arguments().nth(1).and_then(|count| count.parse().ok()).unwrap_or(4);
    let mapped = rt::channel::client("echo").map_err(|error| alloc::format!("{error}"))?;
    let mapped = mapped.ok_or("the manifest gives no channel `echo`")?;
    let place = control::find("victim").map_err(|error| alloc::format!("{error}"))?;
    let mut client = Client {
        victim: env::required("victim"),
        place: place.ok_or("no victim")?,
        mapped,
        end: End::new(mapped.handshake(), Role::Client, env::life()),
        number: 0,
        answered: 0,
        reports: 0,
    };
    let mut deaths = 0;
    for what in Injection::ALL {
        for at in 0..=count {
            client.shoot(what, at)?;
            deaths += 1;
        }
    }
    rt::println!("{deaths} deaths, {} calls answered, {} reports", client.answered, client.reports);
    Ok(())
}

impl Client {
    /// Has the victim die when it begins message `at`, and works with it until it has come back.
    fn shoot(&mut self, what: Injection, at: u64) -> Result<(), String> {
        let before = life::life_of(self.place as usize);
        let given_up = clock::now() + clock::microseconds(10_000_000);
        control::inject(self.place, what, at, false).map_err(|error| alloc::format!("{error}"))?;
        while life::life_of(self.place as usize) == before {
            self.work(what)?;
            if clock::now() > given_up {
                return Err(alloc::format!("the victim outlives {} at message {at}", what.name()));
            }
        }
        // Its next life serves.
        self.work(what)
    }

    fn work(&mut self, what: Injection) -> Result<(), String> {
        self.call()?;
        self.echo(what)
    }

    /// A call that a death in its middle does not end: it is repeated.
    fn call(&mut self) -> Result<(), String> {
        let number = self.answered;
        loop {
            match ipc::call(self.victim, Message::of(7, [number])) {
                Ok(answer) if answer.words[0] == number + 1 => {
                    self.answered += 1;
                    return Ok(());
                }
                Ok(answer) => return Err(alloc::format!("wrong answer {:?}", answer.words)),
                Err(Error::PeerDied) => {}
                Err(error) => return Err(alloc::format!("call: {}", error.name())),
            }
        }
    }

    /// One number there and back over the channel, whatever happens to the victim.
    fn echo(&mut self, what: Injection) -> Result<(), String> {
        self.number += 1;
        loop {
            match self.end.update(self.mapped.peer_life()) {
                Step::Reset => {
                    self.mapped.rings[ASKED].store(0, Ordering::Relaxed);
                    self.end.joined();
                    self.mapped.ring_bell();
                }
                Step::Begin => {}
                Step::Wait => self.wait()?,
                Step::Together => {
                    self.mapped.rings[ASKED].store(self.number, Ordering::Release);
                    self.mapped.ring_bell();
                    match self.mapped.rings[ECHOED].load(Ordering::Acquire) {
                        echo if echo == self.number => return Ok(()),
                        echo if echo > self.number && what != Injection::Corrupt => {
                            return Err(alloc::format!("echo {echo:#x} of {}", self.number));
                        }
                        echo if echo > self.number => self.complain(echo)?,
                        _ => self.wait()?,
                    }
                }
            }
        }
    }

    fn complain(&mut self, echo: u64) -> Result<(), String> {
        self.reports += 1;
        control::report(self.place, echo).map_err(|error| alloc::format!("report: {error}"))
    }

    fn wait(&mut self) -> Result<(), String> {
        match ipc::wait_until(life::bell(), clock::now() + clock::microseconds(2_000_000)) {
            Ok(_) => Ok(()),
            Err(error) => {
                let about = control::about(self.place).ok().flatten();
                Err(alloc::format!("nothing comes of the victim: {}; {about:?}", error.name()))
            }
        }
    }
}
