//! The component's ends of channels, mapped: memory shared with a peer, and the peer's bell.
//!
//! What the two sides agree on is `proto::channel`'s affair (and crate `channel`'s), what they say to each other the
//! protocol's. This module only brings the pieces together.

use core::sync::atomic::AtomicU64;

use abi::CPtr;
use proto::channel::HANDSHAKE_WORDS;
use proto::start::{Channel, Memory};

use crate::alloc::AllocError;
use crate::{env, life, memory};

/// One end of a channel.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// What is spoken on it.
    pub name: &'static str,
    /// The place of the component at the other end.
    pub peer: usize,
    /// Whether this is the client's end.
    pub is_client: bool,
    /// The bit of the component's bell that the peer signals.
    pub bit: u8,
    /// The Frame with handshake and rings, as words. The peer may change them at any time.
    pub rings: &'static [AtomicU64],
    /// The Frame with the data, likewise.
    pub data: &'static [AtomicU64],
    /// The capability for the data's Frame, for who maps it into an IoSpace.
    pub data_frame: Memory,
    signal: CPtr,
}

impl End {
    /// Maps an end that the start block names.
    pub fn map(channel: &Channel<'static>) -> Result<End, AllocError> {
        let words = |of: Memory| memory::map_words(CPtr(of.slot), u32::from(of.bits));
        Ok(End {
            name: channel.name,
            peer: usize::from(channel.peer),
            is_client: channel.client,
            bit: channel.bit,
            rings: words(channel.rings)?,
            data: words(channel.data)?,
            data_frame: channel.data,
            signal: CPtr(channel.signal),
        })
    }

    /// The words of the handshake.
    pub fn handshake(&self) -> &'static [AtomicU64; HANDSHAKE_WORDS] {
        match self.rings.first_chunk() {
            Some(words) => words,
            // The manifest's reader sees to it that rings have room for it.
            None => panic!("a channel without room for its handshake"),
        }
    }

    /// Rings the peer's bell.
    #[inline]
    pub fn ring_bell(&self) {
        // init gave the right to it, and the bell outlives both.
        let _ = ipc::signal(self.signal);
    }

    /// Which life the peer is in.
    #[inline]
    pub fn peer_life(&self) -> u32 {
        life::life_of(self.peer)
    }
}

/// The component's end, as the client, of the channel called `name`.
pub fn client(name: &str) -> Result<Option<End>, AllocError> {
    let channels = env::channels();
    channels.iter().find(|channel| channel.client && channel.name == name).map(End::map).transpose()
}

/// The component's ends, as the server, of channels called `name`: one for each client.
pub fn servers(name: &str) -> impl Iterator<Item = Result<End, AllocError>> + use<'_> {
    env::channels()
        .into_iter()
        .filter(move |channel| !channel.client && channel.name == name)
        .map(|channel| End::map(&channel))
}
