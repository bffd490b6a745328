//! The loop of a server with state: take requests, work on the state, commit, and only then release the answers.
//!
//! An author writes a [`Service`]; [`Server`] does the rest, so that it can be killed between any two of its stores:
//! a request has taken effect, with its answer stored, or nothing of it has happened and its client repeats it.

use heapless::Vec;
use ipc::Message;
use proto::once::{Refusal, STAMP_WORDS, Stamp};

use crate::Memory;
use crate::intent::{self, Intent};
use crate::sessions::{Bounds, Known, Sessions, Ticket};
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
        let [_, _, words @ ..] = self.message.words;
        words
    }

    fn stamp(&self) -> Option<Stamp> {
        let [place, number, ..] = self.message.words;
        Stamp::from_words([place, number])
    }
}

/// The words of state that are the service's own, to look at.
#[derive(Debug)]
pub struct View<'s, M> {
    state: &'s State<M>,
    first: usize,
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
}

/// The words of state that are the service's own, to change in a transaction.
#[derive(Debug)]
pub struct Work<'s, M> {
    pub(crate) state: &'s mut State<M>,
    pub(crate) first: usize,
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

    /// The same words, to look at.
    #[inline]
    pub fn view(&self) -> View<'_, M> {
        View { state: self.state, first: self.first }
    }
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
}

impl Layout {
    /// As the state is divided: the sessions first.
    pub const fn shape(self) -> Shape {
        // Beside what the service changes: the lane's number, what it asks, or the taking on of a client.
        let journal = self.journal as usize + 1 + intent::JOURNAL + self.bounds.journal();
        Shape { journal: journal as u32, words: (self.own() - FIRST) as u32 + self.words }
    }

    /// log2 of the bytes of a Frame that holds it.
    pub const fn frame_bits(self) -> u32 {
        let bytes = (self.shape().frame_words() * 8).next_power_of_two();
        if bytes < 4096 { 12 } else { bytes.ilog2() }
    }

    const fn own(self) -> usize {
        FIRST + self.bounds.words() + intent::WORDS
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
    pub(crate) own: usize,
    pub(crate) life: u32,
    pub(crate) service: S,
}

impl<M: Memory, S: Service> Server<M, S> {
    /// The server whose state lies in `memory`, which is all zero in its first life.
    pub fn open(memory: M, layout: Layout, life: Life, service: S) -> Result<Server<M, S>, BadState> {
        let own = layout.own();
        let upgrade = |from, state: &mut State<M>| service.upgrade(from, &mut Work { state, first: own });
        let mut state = State::open(memory, layout.shape(), S::VERSION, life.number, upgrade)?;
        // Two words at most: a layout whose journal holds less is none.
        let sessions = Sessions::open(&mut state, FIRST, layout.bounds, life.faults)
            .map_err(|JournalFull| BadState::OtherShape)?;
        let intent = Intent { first: FIRST + layout.bounds.words() };
        Ok(Server { state, sessions, intent, own, life: life.number, service })
    }

    /// The service.
    pub fn service(&self) -> &S {
        &self.service
    }

    /// The service's own words.
    pub fn view(&self) -> View<'_, M> {
        View { state: &self.state, first: self.own }
    }

    /// Forgets a client that is known not to come again.
    pub fn forget(&mut self, badge: u64) {
        // One word: it always fits.
        let _ = self.sessions.forget(&mut self.state, badge);
        self.state.commit();
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
        let ticket = self.sessions.ticket_of_look(&self.state, request.badge, request.stamp());
        if self.sessions.is_poison(&self.state, ticket) {
            // One word: it always fits. The number is not used, so the lane's next look is another one.
            let _ = self.sessions.acquit(&mut self.state, ticket);
            self.state.commit();
            return refuse(Refusal::Poison);
        }
        self.sessions.begin(&mut self.state, ticket);
        let answer = self.service.look(&self.view(), request, extra);
        self.sessions.end(&mut self.state);
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
        let ticket = match self.sessions.look(&self.state, request.badge, stamp) {
            Known::New(ticket) if !self.sessions.is_poison(&self.state, ticket) => ticket,
            Known::Answered(answer) => return Some(answer),
            Known::Refused(refusal) => return Some(refuse(refusal)),
            Known::New(_) | Known::Stranger => return None,
        };
        let before = self.state.position();
        let answer = self.work(request, ticket);
        if answer.is_err() {
            self.state.undo_to(before);
        }
        answer.ok()
    }

    /// Whether a request is to be served; otherwise its answer. Takes on its client.
    pub(crate) fn known(&mut self, request: &Request) -> Result<Ticket, Message> {
        let stamp = request.stamp().ok_or(refuse(Refusal::NoStamp))?;
        let mut known = self.sessions.look(&self.state, request.badge, stamp);
        if known == Known::Stranger {
            self.take_on(request.badge, stamp).map_err(refuse)?;
            known = self.sessions.look(&self.state, request.badge, stamp);
        }
        match known {
            Known::New(ticket) => Ok(ticket),
            Known::Answered(answer) => Err(answer),
            Known::Refused(refusal) => Err(refuse(refusal)),
            // It was just taken on.
            Known::Stranger => Err(refuse(Refusal::TooManyClients)),
        }
    }

    fn take_on(&mut self, badge: u64, stamp: Stamp) -> Result<(), Refusal> {
        let before = self.state.position();
        let taken = self.sessions.take_on(&mut self.state, badge, stamp);
        if taken.is_err() {
            self.state.undo_to(before);
        }
        self.state.commit();
        // The journal has room for it (`Layout::shape`).
        taken.unwrap_or(Err(Refusal::TooLarge))
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
        let answer = self.service.work(&mut Work { state: &mut self.state, first: self.own }, request);
        self.sessions.end(&mut self.state);
        let answer = answer?;
        self.sessions.answer(&mut self.state, ticket, &answer)?;
        Ok(answer)
    }

    /// Answers a request by a refusal that uses its number.
    pub(crate) fn refuse_for_good(&mut self, ticket: Ticket, refusal: Refusal) -> Message {
        let answer = refuse(refusal);
        // One word, and nothing else is in the transaction: it always fits.
        let _ = self.sessions.answer(&mut self.state, ticket, &answer);
        answer
    }
}

pub(crate) fn refuse(refusal: Refusal) -> Message {
    Message::new(refusal as u32)
}
