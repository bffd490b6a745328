//! The client in a component: its channel, its bell, init.

use core::sync::atomic::AtomicU64;

use proto::life::bell;
use rt::alloc::AllocError;
use rt::channel::{End, client};
use rt::{control, env, life};

use crate::blocking::Blocking;
use crate::client::{Client, Peer, World, Wrong};
use crate::data::Data;

/// Why there is no disk.
#[derive(Clone, Copy, Debug)]
pub enum OpenError {
    /// The manifest gives the component no such channel.
    NoChannel,
    /// The channel's memory cannot be mapped.
    Map(AllocError),
    /// The channel's rings are too small.
    TooSmall,
}

impl core::fmt::Display for OpenError {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        match self {
            OpenError::NoChannel => f.write_str("the manifest gives this component no such channel"),
            OpenError::Map(error) => write!(f, "the channel cannot be mapped: {error}"),
            OpenError::TooSmall => f.write_str("the channel's rings are too small"),
        }
    }
}

/// The world around a client.
#[derive(Debug)]
pub struct Outside {
    end: End,
    others: u64,
}

impl Outside {
    /// The bits of the bell that were rung for others than this client while it slept, which are forgotten by that.
    pub fn take_others(&mut self) -> u64 {
        core::mem::take(&mut self.others)
    }

    /// The bits of the bell that are this client's affair.
    pub fn bits(&self) -> u64 {
        1 << self.end.bit | 1 << bell::LIVES
    }
}

impl World for Outside {
    #[inline]
    fn peer(&self) -> Peer {
        Peer { life: self.end.peer_life(), faults: life::faults_of(self.end.peer) }
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
    fn sleep(&mut self) {
        match ipc::wait(life::bell()) {
            Ok(bits) => {
                if bits & 1 << bell::ORDERS != 0 {
                    life::beat();
                }
                self.others |= bits & !(self.bits() | 1 << bell::ORDERS);
            }
            Err(error) => panic!("it cannot wait for its bell: {}", error.name()),
        }
    }
}

/// The parts of a client of the channel called `name`.
pub fn open(name: &str) -> Result<(Client<'static, AtomicU64>, Outside, Data<'static>), OpenError> {
    let end = client(name).map_err(OpenError::Map)?.ok_or(OpenError::NoChannel)?;
    let client = Client::new(end.rings, env::life()).map_err(|_| OpenError::TooSmall)?;
    Ok((client, Outside { end, others: 0 }, Data::new(end.data)))
}

/// The disk behind the channel called `name`, for who wants to wait for each transfer. Waits for its driver.
pub fn open_blocking(name: &str) -> Result<Blocking<'static, AtomicU64, Outside>, OpenError> {
    open(name).map(|(client, outside, data)| Blocking::new(client, outside, data))
}
