//! Streams of bytes to and from a device (a serial line, a port of a console), over a channel (see [`crate::channel`])
//! named for what is at the other end.
//!
//! The `rings` Frame is the handshake, then two rings of bytes (crate `ring`, `stream`). The `data` Frame is not used.
//!
//! | ring | from | its consumer's index says |
//! |---|---|---|
//! | [`OUT`] | client | which bytes the device has taken: the server goes on past a byte no earlier |
//! | [`IN`] | server | which bytes the client has taken |
//!
//! Bytes go out in order. When the server dies, the client keeps what was not taken and sends it again; what the device
//! had taken when the server had not said so yet goes out twice, or in part. What had come in and was not passed
//! on is lost. So a stream that must lose and double nothing needs numbers on top (`net::wire::link` has them).

use crate::channel::HANDSHAKE_WORDS;

/// Bytes of each ring.
pub const BYTES: usize = 16 * 1024;

/// A ring's own header (crate `ring`), then the bytes.
const RING: usize = 32 + BYTES / 8;
/// Where the ring of bytes to go out begins, and behind which it ends, in words of the Frame.
pub const OUT: core::ops::Range<usize> = HANDSHAKE_WORDS..HANDSHAKE_WORDS + RING;
/// Likewise, of bytes that have come in.
pub const IN: core::ops::Range<usize> = OUT.end..OUT.end + RING;
/// log2 of the bytes of the `rings` Frame.
pub const RINGS_BITS: u8 = 16;

const _: () = assert!(IN.end * 8 <= 1 << RINGS_BITS);

/// Words from `channel::PROPERTIES` on.
pub mod properties {
    use crate::channel::PROPERTIES;

    /// Bits: see the constants. They may change at any time; the server rings the client's bell then.
    pub const FLAGS: usize = PROPERTIES;
    /// Flag: somebody is at the other end. Bytes to go out wait until then.
    pub const OPEN: u64 = 1;
}
