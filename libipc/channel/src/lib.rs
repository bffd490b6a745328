//! One end of a channel: memory shared with another component, of which either can die at any instant.
//!
//! `proto::channel` says how the two agree on when to begin anew; [`End`] is that agreement's one implementation.
//! It knows neither what is spoken on the channel nor how bells are rung: it is asked what to do, and told when it
//! is done. What it reads of the other side it compares and never follows.
//!
//! A peer that begins another life resets its words of the rings before this side knows of it, which looks like
//! corruption. So who finds a ring corrupt looks at the page of lives first: init writes a life there before it begins.
//!
//! ```text
//!          update() = Reset                    joined()                    update() = Together
//!  apart ------------------> taking back -----------------> waiting ----------------------------> together
//!    ^                                                                                              |
//!    +------------------------------- the peer begins another life ---------------------------------+
//! ```
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod peer;

use core::sync::atomic::AtomicU64;

use proto::channel::{CLIENT, HANDSHAKE_WORDS, SERVER, pairing};
use ring::Word;

pub use peer::{Peer, Protocol, Server, Turn, Update, World, Wrong};

/// Which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Submits.
    Client,
    /// Serves.
    Server,
}

/// What the holder of an end is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The peer is in another life (or this end has just begun): stop using what is shared, take back what is still
    /// in use elsewhere, make every word that this side writes 0, call [`End::joined`], and ring the peer's bell.
    Reset,
    /// Nothing: the peer is not ready yet, and rings when it is.
    Wait,
    /// The rings are new and both sides are ready: use them from index 0 on. Said once for each pairing.
    Begin,
    /// Go on.
    Together,
}

/// One end of a channel.
#[derive(Debug)]
pub struct End<'m, W = AtomicU64> {
    words: &'m [W; HANDSHAKE_WORDS],
    role: Role,
    /// The life of the component that holds this end.
    own: u32,
    /// The life of the peer that this side has reset for; 0 for none yet.
    peer: u32,
    /// This side has said that it is ready for that life.
    ready: bool,
    /// So has the peer.
    together: bool,
}

impl<'m, W: Word> End<'m, W> {
    /// The end of a component in its life `own`, which has used nothing of the channel yet.
    pub fn new(words: &'m [W; HANDSHAKE_WORDS], role: Role, own: u32) -> End<'m, W> {
        End { words, role, own, peer: 0, ready: false, together: false }
    }

    /// What to do, now that the peer is in life `peer` (from the page of lives; 0: it has never begun one).
    #[inline]
    pub fn update(&mut self, peer: u32) -> Step {
        if peer == 0 {
            return Step::Wait;
        }
        if peer != self.peer || !self.ready {
            self.peer = peer;
            self.ready = false;
            self.together = false;
            return Step::Reset;
        }
        if self.together {
            return Step::Together;
        }
        self.together = self.words[self.other()].read_acquire() == self.pairing();
        if self.together { Step::Begin } else { Step::Wait }
    }

    /// The reset that [`Step::Reset`] asked for is done: says so to the peer.
    pub fn joined(&mut self) {
        self.ready = true;
        self.words[self.mine()].write_release(self.pairing());
    }

    /// The life of the peer that [`Self::update`] was last told of; 0 for none yet.
    pub fn peer(&self) -> u32 {
        self.peer
    }

    /// Both sides use the rings.
    #[inline]
    pub fn is_together(&self) -> bool {
        self.together
    }

    /// The words in which the server says what it serves: valid for the client while [`Self::is_together`].
    pub fn properties(&self) -> &'m [W; HANDSHAKE_WORDS] {
        self.words
    }

    fn pairing(&self) -> u64 {
        match self.role {
            Role::Client => pairing(self.own, self.peer),
            Role::Server => pairing(self.peer, self.own),
        }
    }

    fn mine(&self) -> usize {
        match self.role {
            Role::Client => CLIENT,
            Role::Server => SERVER,
        }
    }

    fn other(&self) -> usize {
        match self.role {
            Role::Client => SERVER,
            Role::Server => CLIENT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> [AtomicU64; HANDSHAKE_WORDS] {
        core::array::from_fn(|_| AtomicU64::new(0))
    }

    fn reset(end: &mut End, peer: u32) {
        assert_eq!(end.update(peer), Step::Reset);
        end.joined();
    }

    #[test]
    fn two_lives_meet_whoever_comes_first() {
        for client_first in [true, false] {
            let words = words();
            let mut client = End::new(&words, Role::Client, 3);
            let mut server = End::new(&words, Role::Server, 5);
            let (first, its_peer, second, own) = if client_first {
                (&mut client, 5, &mut server, 3)
            } else {
                (&mut server, 3, &mut client, 5)
            };
            reset(first, its_peer);
            assert_eq!(first.update(its_peer), Step::Wait);
            reset(second, own);
            assert_eq!(second.update(own), Step::Begin);
            assert_eq!(second.update(own), Step::Together);
            assert_eq!(first.update(its_peer), Step::Begin);
            assert_eq!(first.update(its_peer), Step::Together);
        }
    }

    #[test]
    fn what_a_dead_life_has_left_pairs_with_nobody() {
        let words = words();
        let mut client = End::new(&words, Role::Client, 1);
        let mut server = End::new(&words, Role::Server, 1);
        reset(&mut client, 1);
        reset(&mut server, 1);
        assert_eq!(client.update(1), Step::Begin);
        // The server dies. Its word of the handshake is still there.
        assert_eq!(client.update(2), Step::Reset);
        client.joined();
        assert_eq!(client.update(2), Step::Wait);
        let mut again = End::new(&words, Role::Server, 2);
        assert_eq!(again.update(1), Step::Reset);
        again.joined();
        assert_eq!((client.update(2), again.update(1)), (Step::Begin, Step::Begin));
    }

    #[test]
    fn a_peer_that_dies_while_this_side_resets_is_reset_for_again() {
        let words = words();
        let mut client = End::new(&words, Role::Client, 1);
        assert_eq!(client.update(1), Step::Reset);
        assert_eq!(client.update(2), Step::Reset);
        client.joined();
        assert_eq!(client.update(2), Step::Wait);
        assert_eq!(client.update(3), Step::Reset);
    }

    #[test]
    fn nonsense_in_the_handshake_is_waited_on() {
        let words = words();
        let mut client = End::new(&words, Role::Client, 1);
        reset(&mut client, 1);
        for nonsense in [0, 1, u64::MAX, pairing(1, 2), pairing(2, 1)] {
            words[SERVER].write(nonsense);
            assert_eq!(client.update(1), Step::Wait);
        }
        words[SERVER].write(pairing(1, 1));
        assert_eq!(client.update(1), Step::Begin);
    }

    #[test]
    fn a_peer_without_a_life_is_waited_for() {
        let words = words();
        assert_eq!(End::new(&words, Role::Client, 1).update(0), Step::Wait);
    }
}
