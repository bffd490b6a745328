//! The client's side of exactly once: numbers requests, and repeats those that the server died over.

use ipc::{Error, Message};
use proto::once::{Refusal, STAMP_WORDS, Stamp};

use crate::server::Extra;

/// How often a request is sent before its caller gives up for now.
pub const MAX_REPEATS: u32 = 1000;

/// The way to a server: waits for the answer, however long the server is away.
pub trait Link {
    /// Sends `message` with `extra` words, and waits for the answer; its further words go to `answer`.
    fn call(&mut self, message: Message, extra: &[u64], answer: &mut Extra) -> Result<Message, Error>;
}

/// Why there is no answer of the server's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The request was refused.
    Refused(Refusal),
    /// The server has died [`MAX_REPEATS`] times over it. It may have taken effect: [`Caller::finish`] goes on trying.
    Unanswered,
    /// An earlier request is unanswered: [`Caller::finish`] it first.
    Unfinished,
    /// The kernel refused the call. Whether it took effect is known after [`Caller::finish`].
    Kernel(Error),
}

impl core::fmt::Display for CallError {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        f.write_str(match self {
            CallError::Refused(refusal) => refusal.meaning(),
            CallError::Unanswered => "the server died over the request again and again",
            CallError::Unfinished => "an earlier request is unanswered",
            CallError::Kernel(error) => error.meaning().trim_start(),
        })
    }
}

/// One lane to a server.
#[derive(Debug)]
pub struct Caller<L> {
    link: L,
    /// Of the next request, or of the unanswered one.
    stamp: Stamp,
    unanswered: Option<(Message, Extra)>,
    repeats: u64,
}

impl<L: Link> Caller<L> {
    /// A lane of a client in its present generation, none of whose requests have been made. Each lane of a client is one
    /// caller.
    pub fn new(link: L, lane: u16) -> Caller<L> {
        Caller { link, stamp: Stamp { lane, number: 1 }, unanswered: None, repeats: 0 }
    }

    /// A request that takes effect exactly once. `extra` are its words beside those in registers.
    pub fn request<const N: usize>(
        &mut self,
        label: u32,
        words: [u64; N],
        extra: &[u64],
    ) -> Result<Message, CallError> {
        const { assert!(N + STAMP_WORDS <= 8, "more words than a stamped message has") };
        if self.unanswered.is_some() {
            return Err(CallError::Unfinished);
        }
        let message = self.stamped(label, &words);
        let extra = Extra::from_slice(extra).map_err(|_| CallError::Kernel(Error::InvalidArgument))?;
        self.unanswered = Some((message, extra));
        self.finish()
    }

    /// Goes on with the request that is unanswered, under its old number.
    pub fn finish(&mut self) -> Result<Message, CallError> {
        let Some((message, extra)) = self.unanswered.clone() else { return Err(CallError::Unfinished) };
        let answer = self.send(message, &extra, &mut Extra::new())?;
        let refusal = Refusal::from_label(answer.label());
        self.unanswered = None;
        if refusal.is_none_or(Refusal::uses_number) {
            self.stamp.number += 1;
        }
        refusal.map_or(Ok(answer), |refusal| Err(CallError::Refused(refusal)))
    }

    /// A request that only looks, and uses no number. `answer` gets its words beside those in registers.
    pub fn look<const N: usize>(
        &mut self,
        label: u32,
        words: [u64; N],
        extra: &[u64],
        answer: &mut Extra,
    ) -> Result<Message, CallError> {
        const { assert!(N + STAMP_WORDS <= 8, "more words than a stamped message has") };
        let message = self.stamped(label, &words);
        let message = self.send(message, extra, answer)?;
        Refusal::from_label(message.label()).map_or(Ok(message), |refusal| Err(CallError::Refused(refusal)))
    }

    /// How often a request was sent again.
    pub fn repeats(&self) -> u64 {
        self.repeats
    }

    fn stamped(&self, label: u32, words: &[u64]) -> Message {
        let mut message = Message::new(label);
        let stamped = core::iter::once(self.stamp.word()).chain(words.iter().copied());
        for (place, word) in message.words.iter_mut().zip(stamped) {
            *place = word;
        }
        message
    }

    fn send(&mut self, message: Message, extra: &[u64], answer: &mut Extra) -> Result<Message, CallError> {
        for _ in 0..MAX_REPEATS {
            answer.clear();
            match self.link.call(message, extra, answer) {
                Err(Error::PeerDied) => self.repeats += 1,
                result => return result.map_err(CallError::Kernel),
            }
        }
        Err(CallError::Unanswered)
    }
}
