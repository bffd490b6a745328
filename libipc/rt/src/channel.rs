//! The component's ends of channels, mapped: memory shared with a peer, and the peer's bell.
//!
//! What the two sides agree on is `proto::channel`'s affair (and crate `channel`'s), what they say to each other the
//! protocol's. This module only brings the pieces together.

use core::ops::Range;
use core::sync::atomic::AtomicU64;

use ::channel::{Peer, Protocol, Server, Wrong};
use abi::{CPtr, Error};
use heapless::Vec;
use proto::channel::HANDSHAKE_WORDS;
use proto::life::bell;
use proto::start::{Channel, MAX_CHANNELS, Memory};
use ring::TooSmall;
use ring::index::garble;

use crate::alloc::AllocError;
use crate::work::World;
use crate::{control, env, life, memory};

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

/// Why there is no client of a channel.
#[derive(Clone, Copy, Debug)]
pub enum OpenError {
    /// The manifest gives the component no such channel.
    NoChannel,
    /// The channel's memory cannot be mapped.
    Map(AllocError),
    /// The channel's memory is too small for what is spoken on it.
    TooSmall,
}

impl core::fmt::Display for OpenError {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        match self {
            OpenError::NoChannel => f.write_str("the manifest gives this component no such channel"),
            OpenError::Map(error) => write!(f, "the channel cannot be mapped: {error}"),
            OpenError::TooSmall => f.write_str("the channel's memory is too small"),
        }
    }
}

/// The world around a client: the page of lives, the server's bell and its own, init.
#[derive(Debug)]
pub struct Outside {
    /// The channel's end.
    pub end: End,
    others: u64,
}

impl Outside {
    /// The world around a client of the channel called `name`.
    pub fn of(name: &str) -> Result<Outside, OpenError> {
        let end = client(name).map_err(OpenError::Map)?.ok_or(OpenError::NoChannel)?;
        Ok(Outside { end, others: 0 })
    }

    /// Returns the bits of the bell that were rung for others than this client while it slept, which are forgotten by
    /// that.
    pub fn take_others(&mut self) -> u64 {
        core::mem::take(&mut self.others)
    }

    /// Returns the bits of the bell that are this client's affair.
    pub fn bits(&self) -> u64 {
        1 << self.end.bit | 1 << bell::LIVES
    }
}

impl ::channel::World for Outside {
    #[inline]
    fn server(&self) -> Server {
        Server { life: self.end.peer_life(), faults: life::faults_of(self.end.peer) }
    }

    #[inline]
    fn ring(&mut self) {
        self.end.ring_bell();
    }

    fn report(&mut self, wrong: Wrong) {
        // Whatever init thinks of it, this side has done what it can: it waits for the server's next life.
        let _ = control::report(self.end.peer as u64, wrong as u64);
    }

    /// Answers heartbeats, too.
    fn sleep(&mut self, deadline: Option<u64>) {
        let rung = match deadline {
            None => ipc::wait(life::bell()),
            Some(deadline) => ipc::wait_until(life::bell(), deadline),
        };
        match rung {
            Ok(bits) => {
                if bits & 1 << bell::ORDERS != 0 {
                    life::beat();
                }
                self.others |= bits & !(self.bits() | 1 << bell::ORDERS);
            }
            Err(Error::TimedOut) => {}
            Err(error) => panic!("it cannot wait for its bell: {}", error.name()),
        }
    }
}

/// The client of the channel called `name` in this life of the component; `client` makes it of the channel's memory.
pub fn open<P: Protocol>(
    name: &str,
    client: impl FnOnce(&End, u32) -> Result<P, TooSmall>,
) -> Result<Peer<P, Outside>, OpenError> {
    let outside = Outside::of(name)?;
    let client = client(&outside.end, env::life()).map_err(|TooSmall| OpenError::TooSmall)?;
    Ok(Peer::new(client, outside))
}

/// The component's ends as a server: all of them, one for each client.
#[derive(Debug)]
pub struct Clients {
    ends: Vec<End, MAX_CHANNELS>,
    /// The rings that this side puts something into.
    written: &'static [Range<usize>],
}

impl Clients {
    /// Maps the ends. `written` are the rings of such a channel that a server puts something into: where nonsense goes, if
    /// it is ordered to write some.
    ///
    /// # Panics
    /// Where an end cannot be mapped: without it the component cannot do its work.
    pub fn map(written: &'static [Range<usize>]) -> Clients {
        let served = env::channels().into_iter().filter(|channel| !channel.client);
        let map = |channel| match End::map(&channel) {
            Ok(end) => end,
            Err(error) => panic!("the channel {} cannot be mapped: {error}", channel.name),
        };
        Clients { ends: served.map(map).collect(), written }
    }

    /// The ends, by their place.
    pub fn ends(&self) -> &[End] {
        &self.ends
    }

    /// Writes nonsense into the rings, as a component out of its mind would, and has the clients look at it.
    pub(crate) fn corrupt(&self) {
        for end in &self.ends {
            for ring in self.written {
                garble(end.rings.get(ring.clone()).unwrap_or_default());
            }
            end.ring_bell();
        }
    }
}

impl World for Clients {
    #[inline]
    fn life(&self, client: usize) -> u32 {
        self.ends[client].peer_life()
    }

    #[inline]
    fn ring(&mut self, client: usize) {
        self.ends[client].ring_bell();
    }

    #[inline]
    fn begun(&mut self) {
        life::begun();
    }

    #[inline]
    fn served(&mut self) {
        life::served();
    }

    fn report(&mut self, client: usize, what: u64) {
        // init ends that life; where it does not, it knows better.
        let _ = control::report(self.ends[client].peer as u64, what);
    }
}
