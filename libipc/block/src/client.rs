//! The client.
//!
//! Requests are the client's until they are answered ([`Requests`]). When the server begins another life, what the dead
//! one had answered is taken, for it is true, and all others go out again in their order as soon as the new server is
//! there. So every request gets one answer, and to the program above it only takes longer.
//!
//! A flush is a barrier: it goes out when all requests made before it are answered, and what was made behind it goes
//! out when it is answered. That holds across deaths, too.
//!
//! A request that makes its server die would make the next one die, too. Requests that two servers had when they died
//! by their own fault are sent one at a time; the one that a third dies of is answered with [`Failure::Poisoned`],
//! and the others live. The answer is given when the fourth server is there: only then is it certain that the device
//! does not use the request's data any more.
//!
//! What the server writes is not trusted: answers to what was not asked, or is answered already, and words without a
//! meaning are [`Wrong`], and nothing of the rings is used until the server's next life.

use channel::{End, Role, Server, Step, Turn, World, Wrong};
use proto::block::{ANSWER, COMPLETIONS, MAX_SEGMENTS, Op, RECORD, SECTOR, SUBMISSIONS, Status, properties};
use proto::channel::HANDSHAKE_WORDS;
use ring::index::{self, clear};
use ring::records::{Consumer, Producer, PushError};
use ring::{Begin, TooSmall, Word};

use crate::requests::{Id, Refused, Request, Requests};

/// A request that has seen so many servers die is sent alone.
const SUSPECT: u8 = 2;
/// One that has seen so many die is given up.
const POISON: u8 = 3;

/// Why a request was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The device reports an error.
    Device,
    /// The device does not offer this.
    Unsupported,
    /// It makes no sense: sectors behind the end, segments outside the data, lengths that do not agree.
    Invalid,
    /// Nothing can be written there.
    ReadOnly,
    /// Three servers have died of it.
    Poisoned,
}

impl core::fmt::Display for Failure {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        f.write_str(match self {
            Failure::Device => "the device reports an error",
            Failure::Unsupported => "the device does not offer this",
            Failure::Invalid => "no request for this device",
            Failure::ReadOnly => "the device is read-only",
            Failure::Poisoned => "the driver dies of this request",
        })
    }
}

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which.
    pub id: Id,
    /// How it went.
    pub result: Result<(), Failure>,
}

/// The device, as the server describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Its sectors.
    pub sectors: u64,
    /// Bytes of a block, a multiple of the sector's: it reads and writes whole ones only.
    pub block: u64,
    /// Nothing can be written.
    pub read_only: bool,
    /// It has a cache that flushes matter to.
    pub cache: bool,
    /// It offers to discard.
    pub discard: bool,
    /// It offers to write zeroes.
    pub write_zeroes: bool,
    /// Sectors of either, at most.
    pub most_cleared: u64,
    /// Segments of a request, at most.
    pub most_segments: usize,
}

/// The rings of one pairing.
#[derive(Debug)]
struct Rings<'m, W> {
    submissions: Producer<'m, RECORD, W>,
    completions: Consumer<'m, ANSWER, W>,
}

/// The client.
#[derive(Debug)]
pub struct Client<'m, W> {
    words: &'m [W],
    end: End<'m, W>,
    /// None: there is no server, or only one that did wrong.
    rings: Option<Rings<'m, W>>,
    requests: Requests,
    /// What the server has is one request that goes alone.
    alone: bool,
    /// The server's faults when it was met.
    faults: u64,
    geometry: Option<Geometry>,
}

impl<'m, W: Word> Client<'m, W> {
    /// The client in life `own` of its component, by the words of the channel's `rings` Frame.
    pub fn new(words: &'m [W], own: u32) -> Result<Client<'m, W>, TooSmall> {
        let handshake: &[W; HANDSHAKE_WORDS] = words.first_chunk().ok_or(TooSmall)?;
        if words.len() < COMPLETIONS.end {
            return Err(TooSmall);
        }
        let end = End::new(handshake, Role::Client, own);
        let requests = Requests::new();
        Ok(Client { words, end, rings: None, requests, alone: false, faults: 0, geometry: None })
    }

    /// The device, as the latest server describes it (it may grow); none before the first server is there. Until then
    /// the `data` Frame must not be touched, as the device may still use it for this component's last life.
    pub fn geometry(&self) -> Option<Geometry> {
        match self.rings.is_some() {
            true => self.read_geometry().ok().or(self.geometry),
            false => self.geometry,
        }
    }

    /// Requests that were not answered yet.
    pub fn under_way(&self) -> usize {
        self.requests.count()
    }

    /// Whether there is a server that can be used.
    pub fn is_together(&self) -> bool {
        self.rings.is_some()
    }

    /// Makes a request. It goes out at the next [`Self::turn`]. The data is the device's until the answer.
    pub fn submit(&mut self, request: &Request) -> Result<Id, Refused> {
        if self.geometry.is_some_and(|geometry| request.segments.len() > geometry.most_segments) {
            return Err(Refused::TooManySegments);
        }
        self.requests.add(request)
    }

    /// Does what there is to do: takes answers, which go to `answer`, and sends requests. `peer` looks at the page of
    /// lives.
    pub fn turn(&mut self, peer: impl Fn() -> Server, mut answer: impl FnMut(Answer)) -> Turn {
        let mut turn = Turn::default();
        // A second time, if what went wrong was that the server has begun another life.
        for _ in 0..2 {
            let now = peer();
            let done =
                self.meet(now, &mut turn, &mut answer).and_then(|()| self.exchange(&mut turn, &mut answer));
            let Err(wrong) = done else { break };
            self.rings = None;
            if peer().life == now.life {
                turn.wrong = Some(wrong);
                break;
            }
        }
        turn
    }

    /// True: there is nothing to do until the bell rings for the channel, or for lives.
    pub fn sleep(&mut self) -> bool {
        let Some(rings) = &mut self.rings else { return true };
        // What is wrong the next turn finds again.
        let nothing_came = rings.completions.sleep().unwrap_or(false);
        let is_blocked =
            self.requests.next().is_none_or(|next| !may_go(next, self.requests.sent(), self.alone));
        nothing_came && (is_blocked || rings.submissions.sleep().unwrap_or(false))
    }

    /// [`Self::turn`], with what it asks to be done.
    pub fn work(&mut self, world: &mut impl World, answer: impl FnMut(Answer)) {
        let turn = self.turn(|| world.server(), answer);
        world.settle(turn);
    }

    /// Works and sleeps until there is a server, and says what its device is. From then on the `data` Frame can be used.
    /// Answers, if there are requests already, go to `answer`.
    pub fn wait_for_device(&mut self, world: &mut impl World, mut answer: impl FnMut(Answer)) -> Geometry {
        loop {
            self.work(world, &mut answer);
            match self.geometry() {
                Some(geometry) => return geometry,
                None if self.sleep() => world.sleep(None),
                None => {}
            }
        }
    }

    /// Works and sleeps until request `id` is answered; other answers go to `others`.
    pub fn wait(
        &mut self,
        world: &mut impl World,
        id: Id,
        mut others: impl FnMut(Answer),
    ) -> Result<(), Failure> {
        let mut result = None;
        loop {
            self.work(world, |answer| match answer.id == id {
                true => result = Some(answer.result),
                false => others(answer),
            });
            match result {
                Some(result) => return result,
                None if self.sleep() => world.sleep(None),
                None => {}
            }
        }
    }

    /// Sees to it that server and client use the same rings.
    fn meet(&mut self, peer: Server, turn: &mut Turn, answer: &mut impl FnMut(Answer)) -> Result<(), Wrong> {
        match self.end.update(peer.life) {
            Step::Together | Step::Wait => Ok(()),
            Step::Begin => self.begin(peer, answer),
            Step::Reset => {
                self.take_what_is_true(answer);
                clear(&self.words[SUBMISSIONS], index::Role::Producer);
                clear(&self.words[COMPLETIONS], index::Role::Consumer);
                self.end.joined();
                turn.ring = true;
                match self.end.update(peer.life) {
                    Step::Begin => self.begin(peer, answer),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Takes the answers of a server that has died, as far as its words make sense. The next one may have cleared them
    /// already: then the requests go out again.
    fn take_what_is_true(&mut self, answer: &mut impl FnMut(Answer)) {
        if let Some(mut rings) = self.rings.take() {
            while let Ok(Some([id, status])) = rings.completions.pop() {
                if let Some(result) = Status::from_word(status).map(result)
                    && let Some(id) = self.requests.answered(id)
                {
                    answer(Answer { id, result });
                }
            }
        }
    }

    fn begin(&mut self, peer: Server, answer: &mut impl FnMut(Answer)) -> Result<(), Wrong> {
        let at_fault = peer.faults != self.faults;
        self.faults = peer.faults;
        self.alone = false;
        while let Some(id) = self.requests.server_died(at_fault, POISON) {
            answer(Answer { id, result: Err(Failure::Poisoned) });
        }
        self.geometry = Some(self.read_geometry()?);
        let submissions = Producer::new(&self.words[SUBMISSIONS], Begin::New);
        let completions = Consumer::new(&self.words[COMPLETIONS], Begin::New);
        if let (Ok(submissions), Ok(completions)) = (submissions, completions) {
            self.rings = Some(Rings { submissions, completions });
        }
        Ok(())
    }

    /// Takes answers and sends requests.
    fn exchange(&mut self, turn: &mut Turn, answer: &mut impl FnMut(Answer)) -> Result<(), Wrong> {
        let Some(rings) = &mut self.rings else { return Ok(()) };
        while let Some([id, status]) = rings.completions.pop()? {
            let status = Status::from_word(status).ok_or(Wrong::Status)?;
            let id = self.requests.answered(id).ok_or(Wrong::Id)?;
            answer(Answer { id, result: result(status) });
        }
        turn.ring |= rings.completions.publish();
        self.alone &= self.requests.sent() > 0;
        while let Some((record, deaths)) = self.requests.next() {
            if !may_go((record, deaths), self.requests.sent(), self.alone) {
                break;
            }
            match rings.submissions.push_part(record) {
                Ok(()) => {}
                Err(PushError::Full) => break,
                Err(PushError::Corrupt) => return Err(Wrong::Index),
            }
            self.alone = goes_alone(record, deaths);
            self.requests.next_is_sent();
        }
        turn.ring |= rings.submissions.publish();
        Ok(())
    }

    fn read_geometry(&self) -> Result<Geometry, Wrong> {
        let word = |at: usize| self.end.properties()[at].read();
        let flags = word(properties::FLAGS);
        let geometry = Geometry {
            sectors: word(properties::SECTORS),
            block: word(properties::BLOCK),
            read_only: flags & properties::READ_ONLY != 0,
            cache: flags & properties::CACHE != 0,
            discard: flags & properties::DISCARD != 0,
            write_zeroes: flags & properties::WRITE_ZEROES != 0,
            most_cleared: word(properties::MOST_CLEARED),
            most_segments: word(properties::MOST_SEGMENTS).min(MAX_SEGMENTS as u64) as usize,
        };
        let possible = geometry.sectors <= u64::MAX / SECTOR
            && geometry.block.is_power_of_two()
            && geometry.block >= SECTOR
            && geometry.most_segments > 0;
        if possible { Ok(geometry) } else { Err(Wrong::Properties) }
    }
}

/// Whether a request that has seen so many deaths goes alone.
fn goes_alone(record: &[u64], deaths: u8) -> bool {
    deaths >= SUSPECT || record.get(1).is_some_and(|what| *what as u32 == Op::Flush as u32)
}

/// Whether it may go while the server has `sent` others, which is one that goes alone if `alone` says so.
fn may_go((record, deaths): (&[u64], u8), sent: usize, alone: bool) -> bool {
    sent == 0 || !(alone || goes_alone(record, deaths))
}

fn result(status: Status) -> Result<(), Failure> {
    match status {
        Status::Ok => Ok(()),
        Status::DeviceError => Err(Failure::Device),
        Status::Unsupported => Err(Failure::Unsupported),
        Status::Invalid => Err(Failure::Invalid),
        Status::ReadOnly => Err(Failure::ReadOnly),
    }
}

#[cfg(test)]
mod tests;
