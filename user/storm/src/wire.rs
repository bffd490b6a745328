//! What passes between the guest and its peer on the wire: numbered frames that come back, and a stream of bytes that
//! comes back too, with the peer's own account of it at the end.
//!
//! Frames may be lost when a driver dies, as on any Ethernet; of the stream nothing may. Both sides know what every
//! byte of it should be.

mod exchange;
mod peer;

pub use exchange::{Amount, Exchange};
pub use peer::Peer;

pub use net::wire::frame::Mac;

use crate::random::mixed_two;

/// The peer's address.
pub const PEER: Mac = Mac([0x52, 0x54, 0, 0x73, 0x6b, 2]);
/// Bytes of a stream on their way at a time.
const WINDOW: usize = 64 << 10;
/// Bytes of a frame's payload, at most: with all headers, Ethernet's usual MTU.
const PAYLOAD: usize = 1460;

/// The byte of a stream at a place.
fn byte(session: u32, place: u64) -> u8 {
    let word = mixed_two(u64::from(session), place / 8).to_le_bytes();
    word[(place % 8) as usize]
}

/// How many of some bytes of a stream are not what they should be.
fn wrong(session: u32, from: u64, bytes: &[u8]) -> u64 {
    (from..).zip(bytes).filter(|&(place, &is)| is != byte(session, place)).count() as u64
}

/// The peer's account of a stream: its last bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Account {
    /// Bytes that arrived before the end.
    arrived: u64,
    /// How many of them were wrong.
    wrong: u64,
}

impl Account {
    /// Bytes of an account.
    const BYTES: usize = 16;

    fn to_bytes(self) -> [u8; Account::BYTES] {
        let mut bytes = [0; Account::BYTES];
        for (place, word) in bytes.as_chunks_mut().0.iter_mut().zip([self.arrived, self.wrong]) {
            *place = word.to_le_bytes();
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; Account::BYTES]) -> Account {
        let word = |at: usize| bytes.as_chunks().0.get(at).map_or(0, |word| u64::from_le_bytes(*word));
        Account { arrived: word(0), wrong: word(1) }
    }
}

#[cfg(test)]
mod tests;
