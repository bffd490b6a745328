//! What requests that must take effect exactly once have in common, whatever they ask.
//!
//! Words 0 and 1 of such a request are its [`Stamp`]. A client numbers the requests of each of its lanes 1, 2, 3, ...
//! and has at most one of them under way in a lane; who wants several under way uses several lanes. A request that
//! ended without an answer (PeerDied) is sent again with the same stamp, and the server answers it from what it has
//! stored if it had taken effect. A request that only looks is just done again; it carries the stamp that the lane's
//! next request will have, and does not use its number. A client in a new life begins a new epoch, its life's number, with number 1 in each
//! lane; with that the server forgets the old one. The client itself is known by the badge, which it cannot choose.
//!
//! Labels of answers from [`FIRST_REFUSAL`] on mean that the request was refused before the protocol's own server saw
//! it ([`Refusal`]).

/// Words of a request that the stamp takes; the protocol's own begin here.
pub const STAMP_WORDS: usize = 2;
/// Lanes of a client are below this, whatever a server allows.
pub const MAX_LANES: u32 = 256;
/// The largest number of a request.
pub const MAX_NUMBER: u64 = (1 << 55) - 1;
/// Labels of answers from here on are refusals.
pub const FIRST_REFUSAL: u32 = 0xffff_ff00;

/// Which request this is of a client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The client's epoch, from 1 on.
    pub epoch: u32,
    /// The lane.
    pub lane: u32,
    /// Its number in the lane, from 1 on.
    pub number: u64,
}

impl Stamp {
    /// As words 0 and 1 of a message.
    pub const fn words(self) -> [u64; STAMP_WORDS] {
        [(self.epoch as u64) << 32 | self.lane as u64, self.number]
    }

    /// Out of words 0 and 1 of a message; `None` if they are no stamp.
    pub const fn from_words([place, number]: [u64; STAMP_WORDS]) -> Option<Stamp> {
        let stamp = Stamp { epoch: (place >> 32) as u32, lane: place as u32, number };
        let valid = stamp.epoch != 0 && stamp.lane < MAX_LANES && number != 0 && number <= MAX_NUMBER;
        if valid { Some(stamp) } else { None }
    }
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Refusal {
    /// Words 0 and 1 are no stamp.
    NoStamp = FIRST_REFUSAL,
    /// The server gives a client fewer lanes. Nothing was done.
    NoSuchLane = FIRST_REFUSAL + 1,
    /// The server knows as many clients as it can. Nothing was done; the same request may be sent again later.
    TooManyClients = FIRST_REFUSAL + 2,
    /// The client has begun a later epoch. Nothing was done.
    OldEpoch = FIRST_REFUSAL + 3,
    /// The lane has got beyond this number, and the answer is not kept any more. Nothing was done.
    OldNumber = FIRST_REFUSAL + 4,
    /// The lane's requests before this one have not come. Nothing was done.
    NumberAhead = FIRST_REFUSAL + 5,
    /// The server died of this request too often; it will not be tried again. Nothing was done. The number is used,
    /// unless the request only looks.
    Poison = FIRST_REFUSAL + 6,
    /// The request would change more than a transaction can hold. Nothing was done. The number is used.
    TooLarge = FIRST_REFUSAL + 7,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Refusal; 8] = [
        Refusal::NoStamp,
        Refusal::NoSuchLane,
        Refusal::TooManyClients,
        Refusal::OldEpoch,
        Refusal::OldNumber,
        Refusal::NumberAhead,
        Refusal::Poison,
        Refusal::TooLarge,
    ];

    /// The refusal with this label.
    pub fn from_label(label: u32) -> Option<Refusal> {
        Refusal::ALL.into_iter().find(|each| *each as u32 == label)
    }

    /// Whether the request's number is used up, so that the lane's next request takes the next one.
    pub const fn uses_number(self) -> bool {
        matches!(self, Refusal::Poison | Refusal::TooLarge)
    }

    /// In words.
    pub const fn meaning(self) -> &'static str {
        match self {
            Refusal::NoStamp => "the request carries no stamp",
            Refusal::NoSuchLane => "the server gives a client fewer lanes",
            Refusal::TooManyClients => "the server knows as many clients as it can",
            Refusal::OldEpoch => "the client has begun a later epoch",
            Refusal::OldNumber => "the lane has got beyond this number",
            Refusal::NumberAhead => "the requests before this one have not come",
            Refusal::Poison => "the server died of this request too often",
            Refusal::TooLarge => "the request changes more than a transaction can hold",
        }
    }
}
