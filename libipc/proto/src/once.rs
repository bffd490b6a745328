//! What requests that must take effect exactly once have in common, whatever they ask.
//!
//! Word 0 of such a request is its [`Stamp`]: lane and number. The client itself is known by its badge
//! ([`crate::principal`]), which it cannot choose. A lane is one thread of the client: it numbers its requests 1, 2, 3,
//! ... and has at most one of them under way. A request that ended without an answer (PeerDied) is sent again with the
//! same stamp, and the server answers it from what it has stored if it had taken effect. A request that only looks is
//! executed again; it carries the stamp that the lane's next request will have, and does not use its number.
//!
//! Labels of answers from [`FIRST_REFUSAL`] on mean that the request was refused before the protocol's own server saw
//! it ([`Refusal`]).

use crate::codes::codes;

/// Words of a request that the stamp takes; the protocol's own begin here.
pub const STAMP_WORDS: usize = 1;
/// The largest number of a request.
pub const MAX_NUMBER: u64 = (1 << NUMBER_BITS) - 1;
/// Labels of answers from here on are refusals.
pub const FIRST_REFUSAL: u32 = 0xffff_ff00;

const NUMBER_BITS: u32 = 48;

/// Which request this is of a client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The lane.
    pub lane: u16,
    /// Its number in the lane, from 1 on.
    pub number: u64,
}

impl Stamp {
    /// As word 0 of a message.
    pub const fn word(self) -> u64 {
        (self.lane as u64) << NUMBER_BITS | self.number
    }

    /// Returns the stamp in word 0 of a message, or `None` if the word is none.
    #[inline]
    pub const fn from_word(word: u64) -> Option<Stamp> {
        let stamp = Stamp { lane: (word >> NUMBER_BITS) as u16, number: word & MAX_NUMBER };
        if stamp.number != 0 { Some(stamp) } else { None }
    }
}

codes! {
    /// Why a request was refused.
    Refusal: u32 = from_label, meaning {
        /// Word 0 is no stamp.
        NoStamp = FIRST_REFUSAL => "the request carries no stamp",
        /// The client has as many lanes as the server gives it, or the server's pool of lanes is empty. Nothing was done; the
        /// same request may be sent again later.
        TooManyLanes = FIRST_REFUSAL + 1 => "the server has no more lanes for this client",
        /// The server has no place for this client's slot. Nothing was done.
        NoSuchSlot = FIRST_REFUSAL + 2 => "the server has no place for this client",
        /// The client's slot has another holder by now. Nothing was done.
        OldGeneration = FIRST_REFUSAL + 3 => "the client's slot belongs to another by now",
        /// The lane has got beyond this number, and the answer is not kept any more. Nothing was done.
        OldNumber = FIRST_REFUSAL + 4 => "the lane has got beyond this number",
        /// The lane's requests before this one have not come. Nothing was done.
        NumberAhead = FIRST_REFUSAL + 5 => "the requests before this one have not come",
        /// The server died of this request too often; it will not be tried again. Nothing was done. The number is used,
        /// unless the request only looks.
        Poison = FIRST_REFUSAL + 6 => "the server died of this request too often",
        /// The request would change more than a transaction can hold. Nothing was done. The number is used.
        TooLarge = FIRST_REFUSAL + 7 => "the request changes more than a transaction can hold",
        /// Another server has done what it was asked for this request, but this one could not take note of it: the service
        /// has announced fewer changes than it makes, or died of the answer too often. The number is used.
        HalfDone = FIRST_REFUSAL + 8 => "another server has acted, and this one could not take note of it",
        /// The badge is no principal's: nobody tells the lives of this client apart. Nothing was done.
        NoPrincipal = FIRST_REFUSAL + 9 => "nobody tells this client's lives apart",
        /// The server died of too many of this client's requests, and tries none of them any more. Nothing was done.
        Banned = FIRST_REFUSAL + 10 => "the server died of too many requests of this client",
        /// Something that the request needs is not in memory yet. Nothing was done; the same request may be sent again,
        /// best when the server has signalled readiness.
        TryAgain = FIRST_REFUSAL + 11 => "something that the request needs is not there yet",
    }
}

impl Refusal {
    /// Whether the request's number is used up, so that the lane's next request takes the next one.
    pub const fn uses_number(self) -> bool {
        matches!(self, Refusal::Poison | Refusal::TooLarge | Refusal::HalfDone)
    }
}
