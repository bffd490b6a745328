//! Random bytes: calls on the endpoint `rng`. Plain words in registers, no serialisation.
//!
//! A call is answered at once. It can be repeated as often as one likes: each answer has bytes that nobody else gets.

/// What is asked: the label of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Request {
    /// Up to word 0's number of bytes (1 to [`MAX_BYTES`]). The answer has the label [`OK`] and the bytes in its
    /// words, the first in the lowest byte of word 0; the rest is 0.
    Read = 1,
}

impl Request {
    /// The request with this label.
    pub const fn from_label(label: u32) -> Option<Request> {
        match label {
            1 => Some(Request::Read),
            _ => None,
        }
    }
}

/// The most bytes in one answer: what fits into a message's registers.
pub const MAX_BYTES: usize = 64;

/// The answer's label where all went well: as many bytes as were asked for.
pub const OK: u32 = 0;

/// The answer's label otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Refusal {
    /// The device has not given as many yet: ask again in a millisecond.
    NotNow = 1,
    /// No such request, or no such number of bytes.
    Malformed = 2,
}

impl Refusal {
    /// The refusal with this label.
    pub const fn from_label(label: u32) -> Option<Refusal> {
        match label {
            1 => Some(Refusal::NotNow),
            2 => Some(Refusal::Malformed),
            _ => None,
        }
    }
}
