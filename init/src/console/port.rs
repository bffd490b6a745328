//! init's end of a port of the console: a stream that loses and doubles nothing, whatever becomes of the driver.
//!
//! The host's tool has the other end. init never waits for either: what cannot go out yet is kept, and moved when the
//! driver rings, begins another life, or the stream's timer is due.

extern crate alloc;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use net::wire::link::{Link, Side};
use net::wire::stream::Patience;
use proto::start::{Channel, Memory};
use ring::{Corrupt, TooSmall};
use rt::alloc::AllocError;
use rt::clock;
use stream::{Client, Update};

use super::carrier::Carrier;
use crate::build::durable::{self, badged};
use crate::machine::Machine;

/// Bytes of the stream on their way, each way.
const ON_THE_WAY: usize = 16 * 1024;
/// Bytes that may wait before a port has no room.
const LIMIT: usize = 16 * 1024;
/// Microseconds until what was not acknowledged is sent again. Only a driver's death loses bytes, and of that init
/// knows, so the timer is for what nobody foresaw.
const FIRST_WAIT: u64 = 1_000_000;
const LONGEST_WAIT: u64 = 30_000_000;
/// Pieces that are moved at a time. A driver that has bytes without end does not keep init from the rest of its work.
const MOST_AT_A_TIME: usize = 256;

/// The end.
pub struct Port {
    end: rt::channel::End,
    client: Client<'static>,
    link: Link<Box<[u8]>>,
    /// Which life the driver is in.
    life: &'static AtomicU64,
    waiting: VecDeque<u8>,
    is_corrupt: bool,
    /// There was more to move than [`MOST_AT_A_TIME`].
    has_more: bool,
}

/// Why a port cannot be used.
#[derive(Clone, Copy, Debug)]
pub enum OpenError {
    /// Memory, slots or the kernel.
    Refused(AllocError),
    /// The manifest gives its rings less than streams take.
    TooSmall,
}

impl From<AllocError> for OpenError {
    fn from(error: AllocError) -> OpenError {
        OpenError::Refused(error)
    }
}

impl From<TooSmall> for OpenError {
    fn from(_: TooSmall) -> OpenError {
        OpenError::TooSmall
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            OpenError::Refused(error) => error.fmt(f),
            OpenError::TooSmall => f.write_str("its rings are too small"),
        }
    }
}

impl Carrier for Port {
    // What memory does not suffice for is lost.
    fn send(&mut self, bytes: &[u8]) {
        if self.waiting.try_reserve(bytes.len()).is_ok() {
            self.waiting.extend(bytes);
        }
        self.turn();
    }

    fn has_room(&self) -> bool {
        self.waiting.len() < LIMIT
    }

    fn receive(&mut self, to: &mut [u8]) -> usize {
        let count = self.link.stream().read(to);
        if count > 0 {
            // The other end may have stopped for want of room.
            self.turn();
        }
        count
    }

    fn turn(&mut self) {
        if self.meet() != Update::Same {
            self.end.ring_bell();
        }
        if self.shuttle().is_err() {
            self.has_more = false;
            self.is_corrupt = self.meet() == Update::Same;
        }
    }

    fn deadline(&self) -> Option<u64> {
        if self.has_more {
            return Some(0);
        }
        // Without a driver nothing can be sent, whether the timer is due or not; its next life is told of.
        if self.client.is_together() { self.link.deadline() } else { None }
    }
}

impl Port {
    /// Opens init's end of a channel with the console's driver, which is in life `life`.
    pub fn open(machine: &Machine, end: &durable::End, life: &'static AtomicU64) -> Result<Port, OpenError> {
        let memory = |frame: abi::CPtr, bits: u32| Memory { slot: frame.0, bits: bits as u8 };
        let end = rt::channel::End::map(&Channel {
            name: end.wire.name,
            peer: end.peer as u16,
            client: end.is_client,
            rings: memory(end.rings, end.wire.rings),
            data: memory(end.data, end.wire.data),
            signal: badged(end.peer_bell, end.peer_bit)?.0,
            bit: end.bit,
        })?;
        let patience = Patience { first: machine.ticks(FIRST_WAIT), most: machine.ticks(LONGEST_WAIT) };
        let buffer = || alloc::vec![0; ON_THE_WAY].into_boxed_slice();
        Ok(Port {
            end,
            // init has one life.
            client: Client::new(end.rings, 1)?,
            link: Link::new(Side::Guest, patience, buffer(), buffer()),
            life,
            waiting: VecDeque::new(),
            is_corrupt: false,
            has_more: false,
        })
    }

    /// The driver's place in the manifest, if it has made nonsense of its rings and is not known to be dead. Said once.
    pub fn accused(&mut self) -> Option<usize> {
        core::mem::take(&mut self.is_corrupt).then_some(self.end.peer)
    }

    fn meet(&mut self) -> Update {
        let update = self.client.update(self.life.load(Ordering::Acquire) as u32);
        if update == Update::Begun {
            self.link.resume();
        }
        update
    }

    fn shuttle(&mut self) -> Result<(), Corrupt> {
        self.has_more = true;
        for _ in 0..MOST_AT_A_TIME {
            let mut bytes = [0; 1024];
            let count = self.client.read(&mut bytes)?;
            self.link.arrived(clock::now(), &bytes[..count]);
            self.feed();
            let bytes = self.link.to_send(clock::now());
            let waits = !bytes.is_empty();
            let count = self.client.write(bytes)?;
            self.link.sent(count);
            if count > 0 {
                continue;
            }
            if self.client.flush() {
                self.end.ring_bell();
            }
            if self.client.sleep(waits)? {
                self.has_more = false;
                break;
            }
        }
        Ok(())
    }

    /// Gives the stream what waits for it, as far as it has room.
    fn feed(&mut self) {
        while let (bytes @ [_, ..], _) = self.waiting.as_slices() {
            let count = self.link.stream().write(bytes);
            if count == 0 {
                return;
            }
            self.waiting.drain(..count);
        }
    }
}
