//! Network frames, over a channel (see [`crate::channel`]) named for the device.
//!
//! The `rings` Frame is the handshake, then four rings of records of [`RECORD`] words (crate `ring`):
//!
//! | ring | from | record |
//! |---|---|---|
//! | [`RX_FREE`] | client | a buffer to receive into |
//! | [`RX_DONE`] | server | the same buffer, with a frame in it |
//! | [`TX`] | client | a buffer with a frame to send |
//! | [`TX_DONE`] | server | the same buffer, sent (or given up) |
//!
//! Buffers are pieces of the `data` Frame, which the device reads and writes itself; the client divides it. A buffer
//! begins with [`HEADROOM`] bytes for a device that wants its header there (virtio-net keeps its own elsewhere), then the Ethernet frame without its check sequence. Frames may
//! be lost when the server dies; buffers are not: in a new pairing all of them are the client's again.

use crate::channel::HANDSHAKE_WORDS;

/// Buffers under way at a time, in each direction.
pub const DEPTH: usize = 256;
/// Words of a record: offset of the buffer in the `data` Frame, lengths, checksums, 0.
pub const RECORD: usize = 4;
/// Bytes at the beginning of each buffer that are the server's: for the device's own header, if it needs room there.
pub const HEADROOM: usize = 16;
/// Bytes of a buffer for receiving, at least: headroom and the largest frame.
pub const RX_BUFFER: usize = 2048;

const RING: usize = 32 + DEPTH * RECORD;
/// Where the ring begins, and behind which it ends, in words of the Frame.
pub const RX_FREE: core::ops::Range<usize> = HANDSHAKE_WORDS..HANDSHAKE_WORDS + RING;
/// Likewise.
pub const RX_DONE: core::ops::Range<usize> = RX_FREE.end..RX_FREE.end + RING;
/// Likewise.
pub const TX: core::ops::Range<usize> = RX_DONE.end..RX_DONE.end + RING;
/// Likewise.
pub const TX_DONE: core::ops::Range<usize> = TX.end..TX.end + RING;
/// log2 of the bytes of the `rings` Frame.
pub const RINGS_BITS: u8 = 16;

const _: () = assert!(TX_DONE.end * 8 <= 1 << RINGS_BITS);

/// Word 0: where the buffer begins in the `data` Frame, a multiple of 8.
pub const OFFSET: usize = 0;
/// Word 1: bytes of the buffer (low half) and of the frame in it (high half; 0 in [`RX_FREE`]).
pub const LENGTHS: usize = 1;
/// Word 2: of a frame to send: 0, or where the device is to put the Internet checksum: the byte from which on it is
/// computed (low half) and where it goes from there (high half). Of a received one: 1 if the device has checked it.
pub const CHECKSUM: usize = 2;

/// Words from `channel::PROPERTIES` on.
pub mod properties {
    use crate::channel::PROPERTIES;

    /// The MAC address, first byte lowest.
    pub const MAC: usize = PROPERTIES;
    /// Bits: see the constants. The link's may change at any time; the server rings the client's bell then.
    pub const FLAGS: usize = PROPERTIES + 1;
    /// Bytes of a frame's payload, at most.
    pub const MTU: usize = PROPERTIES + 2;
    /// Flag: the link is up. It is down, too, for a client whose device another client has taken over.
    pub const LINK_UP: u64 = 1;
    /// Flag: the device computes checksums of frames to send.
    pub const TX_CHECKSUM: u64 = 1 << 1;
    /// Flag: the device checks those of received ones.
    pub const RX_CHECKSUM: u64 = 1 << 2;
}
