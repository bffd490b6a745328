//! One client's channel: its rings, and the requests taken out of them.
//!
//! The rings belong to a pairing of lives (`proto::channel`). When the client dies, the device may still have requests
//! of its: only when they are back is the next life joined, as it may use the same memory for something else. Their
//! answers are nobody's.

use core::sync::atomic::AtomicU64;

use channel::{End, Role, Step};
use proto::block::{ANSWER, COMPLETIONS, RECORD, SUBMISSIONS, Status};
use proto::channel::HANDSHAKE_WORDS;
use ring::index::{self, clear};
use ring::records::{Consumer, Producer};
use ring::{Begin, Corrupt, TooSmall, Word};

use crate::request::Request;

/// What a client did that it must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Wrong {
    /// An index of its rings cannot be.
    Index = 1,
    /// It has more requests under way than it may.
    TooMany = 2,
}

impl From<Corrupt> for Wrong {
    fn from(_: Corrupt) -> Wrong {
        Wrong::Index
    }
}

/// What the server says of itself: the words from `proto::channel::PROPERTIES` on.
pub type Properties = [u64; proto::block::properties::COUNT];

/// The rings of one pairing.
#[derive(Debug)]
struct Rings<'m, W> {
    submissions: Consumer<'m, RECORD, W>,
    completions: Producer<'m, ANSWER, W>,
}

/// Where a client's data is.
#[derive(Clone, Copy, Debug)]
pub struct Data {
    /// For the device.
    pub address: u64,
    /// Sectors.
    pub sectors: u64,
}

/// A client's channel.
#[derive(Debug)]
pub struct Client<'m, W = AtomicU64> {
    /// Its data.
    pub data: Data,
    words: &'m [W],
    end: End<'m, W>,
    /// None: there is no client, or only one that did something [`Wrong`].
    rings: Option<Rings<'m, W>>,
    /// Requests that the device has.
    under_way: u32,
    /// A request that has no room at the device.
    waiting: Option<Request>,
}

impl<'m, W: Word> Client<'m, W> {
    /// The channel to a client, by the words of its `rings` Frame and its data; this component is in its life `own`.
    pub fn new(words: &'m [W], data: Data, own: u32) -> Result<Client<'m, W>, TooSmall> {
        let handshake: &[W; HANDSHAKE_WORDS] = words.first_chunk().ok_or(TooSmall)?;
        if words.len() < COMPLETIONS.end {
            return Err(TooSmall);
        }
        let end = End::new(handshake, Role::Server, own);
        Ok(Client { data, words, end, rings: None, under_way: 0, waiting: None })
    }

    /// Whether there is a client that can be served.
    pub fn is_served(&self) -> bool {
        self.rings.is_some()
    }

    /// Looks whether the client, now in its life `life`, is the one that is served, and begins with a new one. True:
    /// ring its bell.
    #[inline]
    pub fn meet(&mut self, life: u32, properties: &Properties) -> bool {
        match self.end.update(life) {
            Step::Together | Step::Wait => false,
            Step::Begin => {
                self.begin();
                false
            }
            Step::Reset => self.reset(life, properties),
        }
    }

    fn reset(&mut self, life: u32, properties: &Properties) -> bool {
        self.rings = None;
        self.waiting = None;
        if self.under_way > 0 {
            return false;
        }
        clear(&self.words[SUBMISSIONS], index::Role::Consumer);
        clear(&self.words[COMPLETIONS], index::Role::Producer);
        self.say(properties);
        self.end.joined();
        if self.end.update(life) == Step::Begin {
            self.begin();
        }
        true
    }

    /// The client's life that was met last.
    pub fn life(&self) -> u32 {
        self.end.peer()
    }

    /// Shows the client what is served.
    pub fn say(&self, properties: &Properties) {
        for (word, value) in self.words[proto::channel::PROPERTIES..].iter().zip(properties) {
            word.write(*value);
        }
    }

    fn begin(&mut self) {
        let submissions = Consumer::new(&self.words[SUBMISSIONS], Begin::New);
        let completions = Producer::new(&self.words[COMPLETIONS], Begin::New);
        if let (Ok(submissions), Ok(completions)) = (submissions, completions) {
            self.rings = Some(Rings { submissions, completions });
        }
    }

    /// Takes the next request out of the ring, as the client wrote it.
    #[inline]
    pub fn take(&mut self) -> Result<Option<[u64; RECORD]>, Wrong> {
        match &mut self.rings {
            Some(rings) => Ok(rings.submissions.pop()?),
            None => Ok(None),
        }
    }

    /// Keeps a request that has no room at the device.
    pub fn set_aside(&mut self, request: Request) {
        self.waiting = Some(request);
    }

    /// The request that was set aside, if there is one.
    #[inline]
    pub fn waiting(&mut self) -> Option<Request> {
        self.waiting.take()
    }

    /// The device has one more request of this client.
    #[inline]
    pub fn given(&mut self) {
        self.under_way += 1;
    }

    /// The device is done with one.
    #[inline]
    pub fn done(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Answers request `id`, if there still is who asked. The client sees it after the next [`Self::publish`].
    #[inline]
    pub fn answer(&mut self, id: u64, status: Status) -> Result<(), Wrong> {
        let Some(rings) = &mut self.rings else { return Ok(()) };
        match rings.completions.push(&[id, status as u64]) {
            Ok(()) => Ok(()),
            Err(ring::records::PushError::Full) => Err(Wrong::TooMany),
            Err(ring::records::PushError::Corrupt) => Err(Wrong::Index),
        }
    }

    /// Shows the client what was taken and answered. True: it sleeps, ring its bell.
    #[inline]
    pub fn publish(&mut self) -> bool {
        match &mut self.rings {
            // In this order, so that who has an answer also has the request's place back.
            Some(rings) => rings.submissions.publish() | rings.completions.publish(),
            None => false,
        }
    }

    /// True: there is nothing to take, and the client rings when there is; or a request is set aside, for which room
    /// must come first.
    pub fn sleep(&mut self) -> Result<bool, Wrong> {
        match &mut self.rings {
            Some(rings) if self.waiting.is_none() => Ok(rings.submissions.sleep()?),
            _ => Ok(true),
        }
    }

    /// Has nothing to do with this client until its next life.
    pub fn give_up(&mut self) {
        self.rings = None;
        self.waiting = None;
    }
}
