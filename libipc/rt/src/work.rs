//! The loop of a component that serves: it sleeps until its bell rings, or somebody calls, and then does all there is to
//! do.
//!
//! What it does is a [`Work`], which makes no system call: host tests turn it, too, in a [`World`] of theirs. Whatever
//! keeps it from going on ends this life of the component, with a panic that says why; init sees to the next one.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::{CPtr, Error};
use ipc::serve::{self, Serve};
use ipc::{Message, Received};

use crate::channel::Clients;
use crate::{clock, life};

/// What a server needs of the world around it: of init, and of its clients, which go by the place of their channel.
pub trait World {
    /// Which life a client is in; 0 before its first.
    fn life(&self, client: usize) -> u32;
    /// Rings a client's bell.
    fn ring(&mut self, client: usize);
    /// A request, an answer of a device, or whatever else is handled one by one, is begun with.
    fn begun(&mut self);
    /// A request is answered.
    fn served(&mut self);
    /// Tells init that a client has written what it cannot mean; `what` is the protocol's.
    fn report(&mut self, client: usize, what: u64);

    /// Reports a client that has written in its life `life` what it cannot mean, unless that has ended: what was read
    /// may then be the beginning of the next one, of which there is nothing to say.
    fn accuse(&mut self, client: usize, life: u32, what: u64) {
        if self.life(client) == life {
            self.report(client, what);
        }
    }
}

/// What a component does when it is awake.
pub trait Work {
    /// Why it cannot go on.
    type Error: fmt::Display;

    /// These bits of the component's bell have rung, such as a device's interrupts (`proto::life::bell`). Comes with all
    /// of them before the first turn.
    fn rung(&mut self, bits: u64, world: &mut impl World) -> Result<(), Self::Error>;

    /// Does what there is to do for the clients. True: there is nothing more, and whoever brings something rings.
    fn turn(&mut self, world: &mut impl World) -> Result<bool, Self::Error>;

    /// Until when to sleep, now that it is `now`, even if nothing rings. Asked before every sleep.
    fn deadline(&mut self, now: u64) -> Result<Option<u64>, Self::Error> {
        let _ = now;
        Ok(None)
    }
}

/// Work that also answers calls.
pub trait Answer: Work {
    /// The answer to a message. `None` leaves a caller without one (`ipc::serve`).
    fn answer(&mut self, received: &Received) -> Result<Option<Message>, Self::Error>;
}

/// Works for `clients`, who ring, until the life ends.
pub fn work(work: &mut impl Work, clients: Clients) -> ! {
    let mut at_work = AtWork::begin(work, clients);
    loop {
        let rung = match at_work.deadline {
            None => ipc::wait(life::bell()),
            Some(deadline) => ipc::wait_until(life::bell(), deadline),
        };
        match rung {
            Ok(bits) => at_work.wake(bits),
            Err(Error::TimedOut) => at_work.wake(0),
            Err(error) => panic!("the bell cannot be waited for: {}", error.name()),
        }
    }
}

/// The same for one that `endpoint` brings calls to, too.
pub fn answer(endpoint: CPtr, work: &mut impl Answer, clients: Clients) -> ! {
    if let Err(error) = life::bind_bell() {
        panic!("its bell cannot be bound: {error}");
    }
    let error = serve::serve(endpoint, &mut AtWork::begin(work, clients));
    panic!("it cannot receive: {}", error.name());
}

/// It was ordered to write nonsense into its rings.
static CORRUPT: AtomicBool = AtomicBool::new(false);

/// A component that serves.
struct AtWork<'w, W> {
    work: &'w mut W,
    clients: Clients,
    /// When to wake even if nothing rings.
    deadline: Option<u64>,
}

impl<'w, W: Work> AtWork<'w, W> {
    fn begin(work: &'w mut W, clients: Clients) -> AtWork<'w, W> {
        if !clients.ends().is_empty() {
            life::on_corrupt(|| CORRUPT.store(true, Ordering::Relaxed));
        }
        life::ready();
        let mut new = AtWork { work, clients, deadline: None };
        // What was rung for before this life is looked at in any case.
        new.wake(u64::MAX);
        new
    }

    /// Does all there is to do, and says until when to sleep.
    fn wake(&mut self, bits: u64) {
        life::beat();
        or_die(self.work.rung(bits, &mut self.clients));
        while !self.turn() {
            life::beat();
        }
        self.deadline = or_die(self.work.deadline(clock::now()));
    }

    fn turn(&mut self) -> bool {
        let idle = or_die(self.work.turn(&mut self.clients));
        self.corrupt_if_ordered();
        idle
    }

    /// To be called whenever something is done: it would put right again what it publishes. So the life stays out of its
    /// mind until a client notices.
    fn corrupt_if_ordered(&self) {
        if CORRUPT.load(Ordering::Relaxed) {
            self.clients.corrupt();
        }
    }
}

impl<W: Answer> Serve for AtWork<'_, W> {
    fn message(&mut self, received: &Received) -> Option<Message> {
        life::begun();
        let answer = or_die(self.work.answer(received));
        if answer.is_some() {
            life::served();
        }
        self.corrupt_if_ordered();
        answer
    }

    fn notified(&mut self, bits: u64) {
        self.wake(bits);
    }

    fn deadline(&self) -> Option<u64> {
        self.deadline
    }

    fn expired(&mut self) {
        self.wake(0);
    }
}

fn or_die<T>(result: Result<T, impl fmt::Display>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client in this life, and what was reported of it.
    struct Around(u32, Vec<u64>);

    impl World for Around {
        fn life(&self, _: usize) -> u32 {
            self.0
        }

        fn ring(&mut self, _: usize) {}

        fn begun(&mut self) {}

        fn served(&mut self) {}

        fn report(&mut self, _: usize, what: u64) {
            self.1.push(what);
        }
    }

    #[test]
    fn of_a_life_that_has_ended_there_is_nothing_to_say() {
        let mut around = Around(3, Vec::new());
        around.accuse(0, 2, 7);
        assert_eq!(around.1, []);
        around.accuse(0, 3, 8);
        assert_eq!(around.1, [8]);
    }
}
