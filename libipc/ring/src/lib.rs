//! Rings in shared memory: one producer, one consumer, neither trusting the other.
//!
//! [`records`] passes records of a fixed size, [`stream`] bytes. Both stand on the same pair of [`index`]es with
//! the same protocol: each side publishes how far it has come and, before it sleeps, from where on it wants to be
//! signalled; so signals are sent only to who sleeps.
//!
//! The other side may be hostile: it can write anything anywhere in the shared memory, at any time. What it
//! can do by that is to pass wrong data and to miss signals of its own. Every index is read once, checked against
//! what is possible, and kept privately; an impossible one is reported as [`Corrupt`] and never followed. What a
//! side has published itself it does not read back. Shared words are atomics, so there is no data race to begin
//! with and nothing here is unsafe: whoever maps the memory makes the slice of words of it.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod index;
pub mod records;
pub mod stream;
mod word;

pub use index::HEADER_WORDS;
pub use word::Word;

/// The other side has written an index that it cannot have. The ring is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

/// The memory is too small for a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall;

/// How a side begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With memory that is all zero, and another side that begins so, too.
    New,
    /// Where it was: with the index that it had published last, and the one of the other side that it had
    /// seen then, as [`index::Side::position`] gave them.
    Again {
        /// The side's own.
        own: u64,
        /// The other's.
        seen: u64,
    },
}
