//! What a server asks of another for a client: written down before it goes, and asked again under the same number.
//!
//! | words | what |
//! |---|---|
//! | 0 | 1 from the commit that logs the request on, until the commit that stores the answer to the client |
//! | 1 | the number of the next request, or of the one under way |
//! | 2 | the epoch: the life in which the first was logged; like the number, it outlives the server |
//! | 3 to 12 | the client's request: badge, label, register words |
//! | 13 to 19 | the server's own: label, words behind the stamp |
//!
//! A server works on one request at a time, so one is enough. The words from 3 on are plain stores: they mean
//! something while word 0 is 1 only, and that one is a change of the transaction.

use ipc::Message;
use proto::once::{STAMP_WORDS, Stamp};

use crate::Memory;
use crate::server::Request;
use crate::state::{JournalFull, State};

const UNDER_WAY: usize = 0;
const NUMBER: usize = 1;
const EPOCH: usize = 2;
const CLIENTS: usize = 3;
const OWN: usize = CLIENTS + 2 + 8;

/// Words behind the stamp.
pub const OWN_WORDS: usize = 8 - STAMP_WORDS;
/// Words of state that this takes.
pub const WORDS: usize = OWN + 1 + OWN_WORDS;
/// Changes of state that it makes in a transaction, at most.
pub const JOURNAL: usize = 3;

/// A request to another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Its label.
    pub label: u32,
    /// Its words behind the stamp.
    pub words: [u64; OWN_WORDS],
}

/// The words of the request under way, from `first` on.
#[derive(Clone, Copy, Debug)]
pub struct Intent {
    /// Where they begin.
    pub first: usize,
}

impl Intent {
    /// Logs what is to be asked for a client's request. It may go when this is committed.
    pub fn log<M: Memory>(
        &self,
        state: &mut State<M>,
        life: u32,
        request: &Request,
        ask: &Ask,
    ) -> Result<(), JournalFull> {
        let clients = [request.badge, u64::from(request.message.label())].into_iter();
        let own = core::iter::once(u64::from(ask.label)).chain(ask.words);
        for (at, word) in clients.chain(request.message.words).chain(own).enumerate() {
            state.set_now(self.first + CLIENTS + at, word);
        }
        if state.word(self.first + NUMBER) == 0 {
            state.set(self.first + NUMBER, 1)?;
            state.set(self.first + EPOCH, u64::from(life))?;
        }
        state.set(self.first + UNDER_WAY, 1)
    }

    /// Whether something is asked.
    pub fn is_under_way<M: Memory>(&self, state: &State<M>) -> bool {
        state.word(self.first + UNDER_WAY) != 0
    }

    /// The client's request for which it is asked: its badge and message, without what it had beside the register
    /// words.
    pub fn request<M: Memory>(&self, state: &State<M>) -> (u64, Message) {
        let at = self.first + CLIENTS;
        let mut message = Message::new(state.word(at + 1) as u32);
        message.words = core::array::from_fn(|word| state.word(at + 2 + word));
        (state.word(at), message)
    }

    /// What is asked, with its stamp.
    pub fn message<M: Memory>(&self, state: &State<M>) -> Message {
        let epoch = state.word(self.first + EPOCH) as u32;
        let stamp = Stamp { epoch, lane: 0, number: state.word(self.first + NUMBER) };
        let mut message = Message::new(state.word(self.first + OWN) as u32);
        let own = (0..OWN_WORDS).map(|word| state.word(self.first + OWN + 1 + word));
        for (place, word) in message.words.iter_mut().zip(stamp.words().into_iter().chain(own)) {
            *place = word;
        }
        message
    }

    /// It is answered, and what follows of it is in the same transaction. `used`: so is its number.
    pub fn end<M: Memory>(&self, state: &mut State<M>, used: bool) -> Result<(), JournalFull> {
        if used {
            state.set(self.first + NUMBER, state.word(self.first + NUMBER) + 1)?;
        }
        state.set(self.first + UNDER_WAY, 0)
    }
}
