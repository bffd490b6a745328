//! The loop of a server with state: take requests, work on the state, commit, and only then release the answers.
//!
//! An author writes a [`Service`]; [`Server`] does the rest, so that it can be killed between any two of its stores:
//! a request has taken effect, with its answer stored, or nothing of it has happened and its client repeats it.

use heapless::Vec;
use ipc::Message;
use proto::once::{Refusal, STAMP_WORDS, Stamp};
use proto::principal::Principal;

use crate::Memory;
use crate::intent::{self, Intent};
use crate::sessions::{Bounds, Glance, Known, Sessions, Ticket};
use crate::state::{BadState, FIRST, JournalFull, Shape, State};

/// Words of a message beside those in registers, at most.
pub const MAX_EXTRA: usize = abi_extra();

const fn abi_extra() -> usize {
    ipc::bytes::MAX_BYTES / 8
}

/// Words of a message beside those in registers.
pub type Extra = Vec<u64, MAX_EXTRA>;

/// A request, as it came.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Whose: the badge of the capability it came by.
    pub badge: u64,
    /// Label and register words, the stamp's first.
    pub message: Message,
    /// Its further words.
    pub extra: &'a [u64],
}

impl Request<'_> {
    /// Its register words behind the stamp.
    #[inline]
    pub fn words(&self) -> [u64; 8 - STAMP_WORDS] {
        let [_, words @ ..] = self.message.words;
        words
    }

    fn stamp(&self) -> Option<Stamp> {
        let [stamp, ..] = self.message.words;
        Stamp::from_word(stamp)
    }

    /// Returns what tells this request from others of its client but for the stamp. A client that has two requests agree
    /// in it deceives itself only.
    #[inline]
    fn print(&self) -> u64 {
        let start = u64::from(self.message.label()) << 8;
        let words = self.words().into_iter().chain(self.extra.iter().copied());
        words.fold(start, |print, word| print.rotate_left(9) ^ word)
    }
}

/// The words of state that are the service's own, to look at.
#[derive(Debug)]
pub struct View<'s, M> {
    state: &'s State<M>,
    first: usize,
    scratch: usize,
}

impl<M: Memory> View<'_, M> {
    /// What a word holds.
    ///
    /// # Panics
    /// If there is no such word, as a slice does.
    #[inline]
    pub fn get(&self, at: usize) -> u64 {
        self.state.word(self.first + at)
    }

    /// What a word of the scratch memory holds.
    ///
    /// # Panics
    /// If there is no such word, as a slice does.
    #[inline]
    pub fn scratch(&self, at: usize) -> u64 {
        self.state.word(self.scratch + at)
    }
}

/// The words of state that are the service's own, to change in a transaction.
#[derive(Debug)]
pub struct Work<'s, M> {
    state: &'s mut State<M>,
    first: usize,
    scratch: usize,
}

impl<M: Memory> Work<'_, M> {
    /// What a word holds.
    ///
    /// # Panics
    /// If there is no such word, as a slice does.
    #[inline]
    pub fn get(&self, at: usize) -> u64 {
        self.state.word(self.first + at)
    }

    /// Changes a word.
    ///
    /// # Panics
    /// If there is no such word, as a slice does.
    #[inline]
    pub fn set(&mut self, at: usize, value: u64) -> Result<(), JournalFull> {
        self.state.set(self.first + at, value)
    }

    /// What a word of the scratch memory holds.
    ///
    /// # Panics
    /// If there is no such word, as a slice does.
    #[inline]
    pub fn scratch(&self, at: usize) -> u64 {
        self.state.word(self.scratch + at)
    }

    /// Writes a word of the scratch memory: at once, without the journal, and not taken back if the transaction is. So
    /// what is written must mean nothing before a word of the state says so ([`Layout::scratch`]).
    ///
    /// # Panics
    /// If there is no such word, as a slice does.
    #[inline]
    pub fn write_scratch(&mut self, at: usize, value: u64) {
        self.state.set_now(self.scratch + at, value);
    }

    /// The same words, to look at.
    #[inline]
    pub fn view(&self) -> View<'_, M> {
        View { state: self.state, first: self.first, scratch: self.scratch }
    }
}

/// Whether a request can be served now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// All that it needs is in memory.
    Now,
    /// Something is missing, and the service has taken note of what. The request is answered with
    /// [`Refusal::TryAgain`]; its client asks again when readiness is signalled ([`crate::readiness`]).
    Later,
}

/// Whether a service has forgotten a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retired {
    /// It keeps nothing for it any more.
    Whole,
    /// There is more, for another transaction.
    Partly,
}

/// What a server does, without anything about how it survives.
pub trait Service {
    /// The version of what it keeps in its words.
    const VERSION: u32;

    /// Whether requests with this label only look at the state. They are simply done again when they are
    /// repeated.
    fn only_looks(&self, label: u32) -> bool;

    /// Answers a request that only looks; `extra` takes what the answer has beside its register words.
    fn look<M: Memory>(&self, words: &View<M>, request: &Request, extra: &mut Extra) -> Message;

    /// Serves any other. All it does to `words` takes effect together with the answer; the label must be below
    /// `proto::once::FIRST_REFUSAL`. It keeps nothing elsewhere that a new life would miss.
    fn work<M: Memory>(&self, words: &mut Work<M>, request: &Request) -> Result<Message, JournalFull>;

    /// Says whether a request can be served from memory alone: neither [`Self::look`] nor [`Self::work`] waits for
    /// anything. What is missing it notes outside of the state, as a new life is asked again.
    fn prepare<M: Memory>(&self, _words: &View<M>, _request: &Request) -> Ready {
        Ready::Now
    }

    /// Forgets what it keeps for the holder of a slot, who is gone: all of it or, where that is more than a transaction
    /// holds, a part.
    fn retire<M: Memory>(&self, _words: &mut Work<M>, _slot: u16) -> Result<Retired, JournalFull> {
        Ok(Retired::Whole)
    }

    /// Changes words of another version into the present one's: `Ok(false)` if it does not know that version.
    fn upgrade<M: Memory>(&self, _from: u64, _words: &mut Work<M>) -> Result<bool, JournalFull> {
        Ok(false)
    }
}

/// What a server's state frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Words of its own that a transaction can change.
    pub journal: u32,
    /// Its clients.
    pub bounds: Bounds,
    /// Words of its own.
    pub words: u32,
    /// Words of scratch memory behind them: written without the journal, for what is too large for it. What lies there
    /// counts up to where a word of the state says, such as a log's length; the lane's number and that word change in
    /// one transaction.
    pub scratch: u32,
    /// Other servers that it asks ([`crate::relay`]).
    pub others: u32,
}

impl Layout {
    /// The layout of a server without scratch memory, which asks no others.
    pub const fn new(journal: u32, bounds: Bounds, words: u32) -> Layout {
        Layout { journal, bounds, words, scratch: 0, others: 0 }
    }

    /// As the state is divided: the sessions first.
    pub const fn shape(self) -> Shape {
        // Beside what the service changes: what the answer does, and the end of what was asked.
        let with_service = self.journal + Bounds::ANSWER_JOURNAL + intent::JOURNAL;
        let journal = if with_service < Bounds::JOURNAL { Bounds::JOURNAL } else { with_service };
        Shape { journal, words: (self.own() - FIRST) as u32 + self.words + self.scratch }
    }

    /// log2 of the bytes of a Frame that holds it.
    pub const fn frame_bits(self) -> u32 {
        let bytes = (self.shape().frame_words() * 8).next_power_of_two();
        if bytes < 4096 { 12 } else { bytes.ilog2() }
    }

    const fn asked(self) -> usize {
        FIRST + self.bounds.words()
    }

    const fn own(self) -> usize {
        self.asked() + intent::words(self.others)
    }

    const fn first_of_scratch(self) -> usize {
        self.own() + self.words as usize
    }
}

/// Which life of the server this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// From 1 on.
    pub number: u32,
    /// How many lives before have ended by the server's own fault.
    pub faults: u64,
}

/// Requests of a batch that are committed together, at most.
pub const MAX_BATCH: usize = 32;

/// A service with its state.
#[derive(Debug)]
pub struct Server<M, S> {
    pub(crate) state: State<M>,
    pub(crate) sessions: Sessions,
    pub(crate) intent: Intent,
    pub(crate) layout: Layout,
    pub(crate) service: S,
}

impl<M: Memory, S: Service> Server<M, S> {
    /// The server whose state lies in `memory`, which is all zero in its first life.
    pub fn open(memory: M, layout: Layout, life: Life, service: S) -> Result<Server<M, S>, BadState> {
        let upgrade = |from, state: &mut State<M>| service.upgrade(from, &mut words(state, layout));
        let mut state = State::open(memory, layout.shape(), S::VERSION, life.number, upgrade)?;
        let sessions = Sessions::open(&mut state, FIRST, layout.bounds, life.faults)?;
        let intent = Intent { first: layout.asked(), others: layout.others };
        Ok(Server { state, sessions, intent, layout, service })
    }

    /// The service.
    pub fn service(&self) -> &S {
        &self.service
    }

    /// The service's own words.
    #[inline]
    pub fn view(&self) -> View<'_, M> {
        View { state: &self.state, first: self.layout.own(), scratch: self.layout.first_of_scratch() }
    }

    /// Returns true if another server is asked something and has not answered.
    pub(crate) fn is_asking(&self) -> bool {
        self.intent.under_way(&self.state).is_some()
    }

    /// Forgets the clients that are gone: `current` says which generation a slot's holder is of, where that is known. To
    /// be done at the beginning of each life, and when the bell says that lives have changed. A client that has a
    /// successor and is not forgotten so is forgotten at the successor's first request.
    pub fn sweep(&mut self, mut current: impl FnMut(u16) -> Option<u64>) {
        for slot in 0..self.layout.bounds.slots.min(1 << 16) as u16 {
            let kept = self.sessions.generation(&self.state, slot);
            if kept != 0
                && let Some(generation) = current(slot).filter(|current| *current > kept)
            {
                // One that cannot be forgotten now is forgotten at its successor's first request.
                let _ = self.hand_over(Principal { slot, generation });
            }
        }
    }

    /// Serves one request: a transaction of its own. The answer may be released; `extra` is part of it.
    pub fn serve(&mut self, request: &Request, extra: &mut Extra) -> Message {
        extra.clear();
        if self.service.only_looks(request.message.label()) {
            return self.look(request, extra);
        }
        let answer = match self.known(request) {
            Ok(ticket) if self.sessions.is_poison(&self.state, ticket) => {
                self.refuse_for_good(ticket, Refusal::Poison)
            }
            Ok(ticket) => self.serve_alone(request, ticket),
            Err(answer) => answer,
        };
        self.state.commit();
        answer
    }

    /// Answers a request that only looks. It is marked as in service, so that it can be poison, too.
    fn look(&mut self, request: &Request, extra: &mut Extra) -> Message {
        let print = request.print();
        let mut known = self.sessions.known_look(&self.state, request.badge, print);
        if known == Known::NewHolder {
            if let Err(refusal) = self.hand_over_to(request.badge) {
                return refuse(refusal);
            }
            known = self.sessions.known_look(&self.state, request.badge, print);
        }
        match known {
            Known::New(glance) if self.sessions.is_poison_look(&self.state, glance) => {
                refuse(Refusal::Poison)
            }
            Known::New(glance) => self.look_at(request, glance, extra),
            Known::Answered(answer) => answer,
            Known::Refused(refusal) => refuse(refusal),
            // A look needs no lane, and its client's slot was just handed over.
            Known::NewHolder | Known::NewLane => refuse(Refusal::NoSuchSlot),
        }
    }

    #[inline]
    fn look_at(&mut self, request: &Request, glance: Glance, extra: &mut Extra) -> Message {
        self.sessions.begin_look(&mut self.state, glance);
        let answer = match self.service.prepare(&self.view(), request) {
            Ready::Now => self.service.look(&self.view(), request, extra),
            Ready::Later => refuse(Refusal::TryAgain),
        };
        self.sessions.end(&mut self.state);
        // Two words at most, in an empty journal.
        let _ = self.sessions.acquit_look(&mut self.state, glance);
        answer
    }

    /// Serves several requests in as few transactions as may be. `release` gets each answer, with the token of its
    /// request, in their order and when the transaction is committed: it makes it visible to the client.
    pub fn serve_batch<'r, T>(
        &mut self,
        requests: impl IntoIterator<Item = (T, Request<'r>)>,
        mut release: impl FnMut(T, &Message, &[u64]),
    ) {
        let mut answers = Vec::<(T, Message), MAX_BATCH>::new();
        for (token, request) in requests {
            if self.service.only_looks(request.message.label()) {
                // It sees what is committed only.
                self.release(&mut answers, &mut release);
                let mut extra = Extra::new();
                let answer = self.look(&request, &mut extra);
                release(token, &answer, &extra);
                continue;
            }
            let answer = match self.serve_among(&request) {
                Some(answer) => answer,
                None => {
                    self.release(&mut answers, &mut release);
                    let mut extra = Extra::new();
                    self.serve(&request, &mut extra)
                }
            };
            if answers.is_full() {
                self.release(&mut answers, &mut release);
            }
            // There is room: it was just made.
            let _ = answers.push((token, answer));
            if answers.is_full() {
                self.release(&mut answers, &mut release);
            }
        }
        self.release(&mut answers, &mut release);
    }

    fn release<T>(
        &mut self,
        answers: &mut Vec<(T, Message), MAX_BATCH>,
        release: &mut impl FnMut(T, &Message, &[u64]),
    ) {
        self.state.commit();
        for (token, answer) in core::mem::take(answers) {
            release(token, &answer, &[]);
        }
    }

    /// Serves a request within a transaction that others belong to; `None` if it needs one of its own.
    fn serve_among(&mut self, request: &Request) -> Option<Message> {
        let Some(stamp) = request.stamp() else { return Some(refuse(Refusal::NoStamp)) };
        let ticket = match self.sessions.known(&self.state, request.badge, stamp) {
            Known::New(ticket) if !self.sessions.is_poison(&self.state, ticket) => ticket,
            Known::Answered(answer) => return Some(answer),
            Known::Refused(refusal) => return Some(refuse(refusal)),
            Known::New(_) | Known::NewHolder | Known::NewLane => return None,
        };
        let before = self.state.position();
        let answer = self.work(request, ticket);
        if answer.is_err() {
            self.state.undo_to(before);
        }
        answer.ok()
    }

    /// Whether a request is to be served; otherwise its answer. Takes on its client and its lane.
    pub(crate) fn known(&mut self, request: &Request) -> Result<Ticket, Message> {
        let stamp = request.stamp().ok_or(refuse(Refusal::NoStamp))?;
        // What is not known now, its client and its lane, is known afterwards.
        for _ in 0..3 {
            match self.sessions.known(&self.state, request.badge, stamp) {
                Known::New(ticket) => return Ok(ticket),
                Known::Answered(answer) => return Err(answer),
                Known::Refused(refusal) => return Err(refuse(refusal)),
                Known::NewHolder => self.hand_over_to(request.badge).map_err(refuse)?,
                Known::NewLane => self.take_lane(request.badge, stamp.lane).map_err(refuse)?,
            }
        }
        Err(refuse(Refusal::NoSuchSlot))
    }

    fn take_lane(&mut self, badge: u64, lane: u16) -> Result<(), Refusal> {
        let principal = Principal::from_badge(badge).ok_or(Refusal::NoPrincipal)?;
        // One word, in an empty journal.
        self.sessions.take_lane(&mut self.state, principal.slot, lane).unwrap_or(Err(Refusal::TooManyLanes))
    }

    fn hand_over_to(&mut self, badge: u64) -> Result<(), Refusal> {
        self.hand_over(Principal::from_badge(badge).ok_or(Refusal::NoPrincipal)?)
    }

    /// Lets a slot have another holder, and forgets what is kept for the former one.
    fn hand_over(&mut self, principal: Principal) -> Result<(), Refusal> {
        if self.is_asking() {
            // It is asked for a client of today: the answer must find everything as it was.
            return Err(Refusal::TryAgain);
        }
        if self.sessions.generation(&self.state, principal.slot) != 0 {
            while self.retire(principal.slot)? == Retired::Partly {}
        }
        // At most as many words as the journal has (`Layout::shape`).
        self.sessions
            .hand_over(&mut self.state, principal.slot, principal.generation)
            .map_err(|JournalFull| Refusal::NoSuchSlot)
    }

    /// Has the service forget a part of what it keeps for a client: a transaction.
    fn retire(&mut self, slot: u16) -> Result<Retired, Refusal> {
        let before = self.state.position();
        let retired = self.service.retire(&mut words(&mut self.state, self.layout), slot);
        if retired.is_err() {
            self.state.undo_to(before);
        }
        self.state.commit();
        // A service that changes more than it said keeps the slot closed: nobody gets what was another's.
        retired.map_err(|JournalFull| Refusal::NoSuchSlot)
    }

    fn serve_alone(&mut self, request: &Request, ticket: Ticket) -> Message {
        let before = self.state.position();
        self.work(request, ticket).unwrap_or_else(|JournalFull| {
            self.state.undo_to(before);
            self.refuse_for_good(ticket, Refusal::TooLarge)
        })
    }

    fn work(&mut self, request: &Request, ticket: Ticket) -> Result<Message, JournalFull> {
        self.sessions.begin(&mut self.state, ticket);
        let answer = match self.service.prepare(&self.view(), request) {
            Ready::Now => self.service.work(&mut words(&mut self.state, self.layout), request).map(Some),
            Ready::Later => Ok(None),
        };
        self.sessions.end(&mut self.state);
        let Some(answer) = answer? else { return Ok(refuse(Refusal::TryAgain)) };
        self.sessions.answer(&mut self.state, ticket, &answer)?;
        Ok(answer)
    }

    /// Answers a request by a refusal that uses its number.
    pub(crate) fn refuse_for_good(&mut self, ticket: Ticket, refusal: Refusal) -> Message {
        let answer = refuse(refusal);
        // One word, and nothing else is in the transaction: it always fits.
        let _ = self.sessions.refuse(&mut self.state, ticket, &answer);
        answer
    }
}

/// The service's own words of a state, to change.
pub(crate) fn words<M>(state: &mut State<M>, layout: Layout) -> Work<'_, M> {
    Work { state, first: layout.own(), scratch: layout.first_of_scratch() }
}

pub(crate) fn refuse(refusal: Refusal) -> Message {
    Message::new(refusal as u32)
}
