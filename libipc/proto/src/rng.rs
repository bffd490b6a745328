//! Random bytes: calls on the endpoint `rng`. Plain words in registers, no serialisation.
//!
//! A call is answered at once. It can be repeated as often as one likes: each answer has bytes that nobody else gets.

use crate::codes::codes;

codes! {
    /// What is asked: the label of the message.
    Request: u32 = from_label {
        /// Up to word 0's number of bytes (1 to [`MAX_BYTES`]). The answer has the label [`OK`] and the bytes in its
        /// words, the first in the lowest byte of word 0; the rest is 0.
        Read = 1,
    }
}

/// The most bytes in one answer: what fits into a message's registers.
pub const MAX_BYTES: usize = 64;

/// The answer's label where all went well: as many bytes as were asked for.
pub const OK: u32 = 0;

codes! {
    /// The answer's label otherwise.
    Refusal: u32 = from_label {
        /// The device has not given as many yet: ask again in a millisecond.
        NotNow = 1,
        /// No such request, or no such number of bytes.
        Malformed = 2,
    }
}
