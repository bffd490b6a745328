//! What two components that share a channel have in common, whatever they speak on it.
//!
//! A channel is two Frames of init's: `rings`, which begins with the handshake below and goes on with what the
//! protocol says, and `data`, to whose bytes requests refer by offset. Both outlive client and server, and so does
//! the right to ring the other's bell. init clears both Frames once, before the first life of either.
//!
//! # Handshake
//!
//! The rings of a channel belong to a *pairing*: one life of the client with one life of the server. Each side, when it
//! begins and whenever [`crate::life::lives`] shows another life of its peer:
//!
//! 1. stops using what is shared (a driver takes back what its device still has of it; a client takes the completions
//!    that a dead server had published, for they are true);
//! 2. writes 0 to every word that it is the one to write: its ring indexes, its wishes;
//! 3. writes the pairing to its word of the handshake ([`pairing`] of the two lives), and rings the other's bell;
//! 4. uses the rings, from index 0 on, as soon as the other's word holds the same pairing.
//!
//! So each pairing begins with rings that nobody has used, whatever the dead have left in them; the client then
//! submits again, in their order, the requests that were not answered. A word that holds no pairing of known lives is
//! waited on, never believed.

/// Words of the handshake, at the beginning of the `rings` Frame.
pub const HANDSHAKE_WORDS: usize = 64;
/// The client's word: the pairing that it is ready for.
pub const CLIENT: usize = 0;
/// The server's word.
pub const SERVER: usize = 8;
/// From here to [`HANDSHAKE_WORDS`] the server says what it serves, before it writes its pairing: what the words
/// mean is the protocol's.
pub const PROPERTIES: usize = 16;

/// The pairing of a life of the client (from 1 on) with one of the server (from 1 on): never 0.
pub const fn pairing(client_life: u32, server_life: u32) -> u64 {
    (client_life as u64) << 32 | server_life as u64
}
