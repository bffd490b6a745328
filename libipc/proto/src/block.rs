//! Block devices, over a channel (see [`crate::channel`]) named for the device.
//!
//! The `rings` Frame is the handshake, then two rings of records (crate `ring`), each in words of its own:
//!
//! | words | ring | record |
//! |---|---|---|
//! | [`SUBMISSIONS`] | requests, client to server | [`RECORD`] words |
//! | [`COMPLETIONS`] | answers, server to client | [`ANSWER`] words |
//!
//! Data lies in the `data` Frame; the device reads and writes it there. A request stays the client's until it is
//! answered: if the server dies, the client submits it again, with all other unanswered ones, in the same order. Reads
//! and writes of the same sectors that are under way at the same time are in no order; a [`Op::Flush`] covers the
//! writes that were answered before it was submitted.

use crate::channel::HANDSHAKE_WORDS;
use crate::codes::codes;

/// Requests under way at a time.
pub const DEPTH: usize = 256;
/// Words of a request: identity, operation, first sector, sectors, then segments.
pub const RECORD: usize = 32;
/// The first word of segments.
pub const SEGMENTS: usize = 4;
/// Segments of a request, at most.
pub const MAX_SEGMENTS: usize = RECORD - SEGMENTS;
/// Words of an answer: identity, [`Status`].
pub const ANSWER: usize = 2;
/// Bytes of a sector, whatever the device calls a block.
pub const SECTOR: u64 = 512;
/// Sectors of a read or write, at most: its bytes are counted in 32 bits by devices.
pub const MAX_SECTORS: u64 = 1 << 22;

/// Words of a ring's own header (crate `ring`).
const RING_HEADER: usize = 32;
/// Where the submissions begin, and behind which they end, in words of the Frame.
pub const SUBMISSIONS: core::ops::Range<usize> =
    HANDSHAKE_WORDS..HANDSHAKE_WORDS + RING_HEADER + DEPTH * RECORD;
/// Where the completions begin, and behind which they end.
pub const COMPLETIONS: core::ops::Range<usize> =
    SUBMISSIONS.end..SUBMISSIONS.end + RING_HEADER + DEPTH * ANSWER;
/// log2 of the bytes of the `rings` Frame.
pub const RINGS_BITS: u8 = 17;

const _: () = assert!(COMPLETIONS.end * 8 <= 1 << RINGS_BITS);

/// Words from `channel::PROPERTIES` on.
pub mod properties {
    use crate::channel::PROPERTIES;

    /// Sectors of the device.
    pub const SECTORS: usize = PROPERTIES;
    /// Bits: see the constants.
    pub const FLAGS: usize = PROPERTIES + 1;
    /// Bytes of the device's block: what it writes whole.
    pub const BLOCK: usize = PROPERTIES + 2;
    /// Sectors of a discard or write-zeroes, at most.
    pub const MOST_CLEARED: usize = PROPERTIES + 3;
    /// Segments of a request that the device takes, at most [`super::MAX_SEGMENTS`].
    pub const MOST_SEGMENTS: usize = PROPERTIES + 4;
    /// How many of these words there are.
    pub const COUNT: usize = 5;
    /// Flag: nothing can be written.
    pub const READ_ONLY: u64 = 1;
    /// Flag: it has a cache that flushes matter to.
    pub const CACHE: u64 = 1 << 1;
    /// Flag: discard is offered.
    pub const DISCARD: u64 = 1 << 2;
    /// Flag: write-zeroes is offered.
    pub const WRITE_ZEROES: u64 = 1 << 3;
}

/// A segment: an offset in the `data` Frame and a length, both in sectors.
pub const fn segment(offset: u64, sectors: u64) -> u64 {
    offset << 20 | sectors
}

/// Offset and length, in sectors, of a segment.
pub const fn segment_parts(word: u64) -> (u64, u64) {
    (word >> 20, word & 0xf_ffff)
}

codes! {
    /// What is asked: the low half of word 1; the high half is the number of segments.
    Op: u32 = from_word {
        /// Read the sectors into the segments.
        Read = 0,
        /// Write them from the segments.
        Write = 1,
        /// Make durable what was written before. No sectors, no segments.
        Flush = 2,
        /// The contents of the sectors do not matter any more. No segments.
        Discard = 3,
        /// The sectors read as zero from now on. No segments.
        WriteZeroes = 4,
    }
}

codes! {
    /// How a request went.
    Status: u64 = from_word {
        /// Done.
        Ok = 0,
        /// The device reports an error.
        DeviceError = 1,
        /// The device does not offer this operation.
        Unsupported = 2,
        /// The request makes no sense: sectors behind the end, segments outside the data, lengths that do not agree.
        Invalid = 3,
        /// The device is read-only.
        ReadOnly = 4,
    }
}
