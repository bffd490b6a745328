//! What a server asks of another for a client: written down before it goes, and asked again under the same number.
//!
//! | words | what |
//! |---|---|
//! | 0 | which of the other servers is asked (from 1 on), from the commit that logs the request until the one that stores the answer to the client |
//! | 1 to 10 | the client's request: badge, label, register words |
//! | 11 to 18 | the server's own: label, words behind the stamp |
//! | one for each other server | the number of the last request to it that is done with |
//!
//! A server works on one request at a time, so one is enough. Words 1 to 18 are plain stores: they mean something
//! while word 0 is not 0 only, and that one is a change of the transaction. Each of the other servers counts the
//! requests of a lane, so each has its own sequence of numbers.

use ipc::Message;
use proto::once::{STAMP_WORDS, Stamp};

use crate::Memory;
use crate::server::Request;
use crate::state::{JournalFull, State};

const UNDER_WAY: usize = 0;
const CLIENTS: usize = 1;
const OWN: usize = CLIENTS + 2 + 8;
const NUMBERS: usize = OWN + 1 + OWN_WORDS;

/// Words behind the stamp.
pub const OWN_WORDS: usize = 8 - STAMP_WORDS;
/// Changes of state that this makes in a transaction, at most.
pub const JOURNAL: u32 = 2;

/// Words of state that this takes, of a server that asks so many others.
pub const fn words(others: u32) -> usize {
    if others == 0 { 0 } else { NUMBERS + others as usize }
}

/// A request to another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Which of the others: its place among the links.
    pub server: u32,
    /// The request's label.
    pub label: u32,
    /// Its words behind the stamp.
    pub words: [u64; OWN_WORDS],
    /// How many words [`crate::Relay::answered`] changes, at most. More than a transaction holds is refused before
    /// anything is asked.
    pub changes: u32,
}

/// The words of the request under way, from `first` on.
#[derive(Clone, Copy, Debug)]
pub struct Intent {
    /// Where they begin.
    pub first: usize,
    /// How many other servers are asked.
    pub others: u32,
}

impl Intent {
    /// Logs what is to be asked for a client's request. It may go when this is committed.
    ///
    /// # Panics
    /// If there is no such other server: the layout counts them.
    pub fn log<M: Memory>(
        &self,
        state: &mut State<M>,
        request: &Request,
        ask: &Ask,
    ) -> Result<(), JournalFull> {
        assert!(ask.server < self.others, "a server that the layout does not count is asked");
        let clients = [request.badge, u64::from(request.message.label())].into_iter();
        let own = core::iter::once(u64::from(ask.label)).chain(ask.words);
        for (at, word) in clients.chain(request.message.words).chain(own).enumerate() {
            state.set_now(self.first + CLIENTS + at, word);
        }
        state.set(self.first + UNDER_WAY, u64::from(ask.server) + 1)
    }

    /// Returns which of the other servers is asked, if one is.
    pub fn under_way<M: Memory>(&self, state: &State<M>) -> Option<usize> {
        if self.others == 0 {
            return None;
        }
        (state.word(self.first + UNDER_WAY).min(u64::from(self.others)) as usize).checked_sub(1)
    }

    /// Returns the client's request for which it is asked: its badge and message, without what it had beside the
    /// register words.
    pub fn request<M: Memory>(&self, state: &State<M>) -> (u64, Message) {
        let at = self.first + CLIENTS;
        let mut message = Message::new(state.word(at + 1) as u32);
        message.words = core::array::from_fn(|word| state.word(at + 2 + word));
        (state.word(at), message)
    }

    /// Returns what the other server is asked, with its stamp.
    pub fn message<M: Memory>(&self, state: &State<M>, server: usize) -> Message {
        let stamp = Stamp { lane: 0, number: state.word(self.number_at(server)) + 1 };
        let mut message = Message::new(state.word(self.first + OWN) as u32);
        let own = (0..OWN_WORDS).map(|word| state.word(self.first + OWN + 1 + word));
        for (place, word) in message.words.iter_mut().zip(core::iter::once(stamp.word()).chain(own)) {
            *place = word;
        }
        message
    }

    /// The other server has answered, and what follows of it is in the same transaction. `used`: so is its number.
    pub fn end<M: Memory>(&self, state: &mut State<M>, server: usize, used: bool) -> Result<(), JournalFull> {
        if used {
            let number = self.number_at(server);
            state.set(number, state.word(number) + 1)?;
        }
        state.set(self.first + UNDER_WAY, 0)
    }

    fn number_at(&self, server: usize) -> usize {
        self.first + NUMBERS + server
    }
}
