//! The network device, by its channel, and an exchange with the peer.

use core::sync::atomic::{AtomicU32, Ordering};

use net::client::{Client, LONGEST, Update};
use net::guest::Connection;
use rt::{clock, env};
use storm::tally::Tally;
use storm::wire::{Amount, Exchange};

use crate::{Work, WorkError, wait};

/// The channel's name.
pub const CHANNEL: &str = "net";
/// Bytes of the stream for each echo.
const BYTES_PER_ECHO: u64 = 8192;
/// Seconds until a device that does not answer is given up.
const PATIENCE: u64 = 30;

/// The device.
#[derive(Debug)]
pub struct Wire {
    connection: Connection,
}

impl Wire {
    /// The device, once its driver has said what it is like.
    pub fn open() -> Result<Wire, WorkError> {
        let mut wire = Wire {
            connection: Connection::open(CHANNEL).map_err(|error| WorkError::of_channel(CHANNEL, error))?,
        };
        let give_up = clock::now() + PATIENCE * env::tsc_hz();
        while wire.connection.link().is_none() {
            wire.connection.turn();
            if clock::now() > give_up {
                return Err(WorkError::Stalled(PATIENCE));
            }
            if !wire.connection.is_together() {
                wait(give_up)?;
            }
        }
        Ok(wire)
    }

    /// An exchange of so many bytes each way, and echoes besides.
    pub fn exchange(&mut self, bytes: u64) -> Result<Exchange, WorkError> {
        self.exchange_of(Amount { bytes, echoes: (bytes / BYTES_PER_ECHO).max(16), under_way: 16 })
    }

    /// An exchange of so much.
    pub fn exchange_of(&mut self, amount: Amount) -> Result<Exchange, WorkError> {
        let link = self.connection.link().ok_or(WorkError::NoChannel(CHANNEL))?;
        Ok(Exchange::new(link.mac, session(), amount, env::tsc_hz()))
    }

    /// Takes an exchange on as far as it goes without waiting. True: nothing more can be done before the bell rings or
    /// the exchange's deadline comes.
    pub fn step(&mut self, exchange: &mut Exchange) -> bool {
        if self.connection.turn() == Update::Begun {
            // The driver that died may have lost what was on its way.
            exchange.resume();
        }
        let mut moved = false;
        let mut bytes = [0; LONGEST];
        while let Some(frame) = self.connection.receive(&mut bytes) {
            exchange.receive(clock::now(), frame);
            moved = true;
        }
        let mut is_full = true;
        let peer = self.connection.peer();
        while let Some(Some(room)) = peer.act(Client::room) {
            let Some(length) = exchange.poll(clock::now(), &mut bytes) else {
                peer.client.discard(room);
                is_full = false;
                break;
            };
            let length = peer.client.copy_in(&room, &bytes[..length]);
            peer.client.send(room, length, None);
            moved = true;
        }
        self.connection.flush();
        !moved && self.connection.sleep(is_full)
    }
}

/// A session's number: above those of all before it, whoever had them.
fn session() -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    // Steps of half a millisecond, which wrap around after some days.
    let now = (clock::to_microseconds(clock::now()) >> 9) as u32;
    let next = LAST.load(Ordering::Relaxed).saturating_add(1).max(now);
    LAST.store(next, Ordering::Relaxed);
    next
}

/// Exchanges with the peer, one after the other.
#[derive(Debug)]
pub struct WireWork {
    wire: Wire,
    bytes: u64,
    exchange: Exchange,
}

impl WireWork {
    /// Exchanges of so many bytes each way. (A channel has one client in each life of the program.)
    pub fn new(mut wire: Wire, bytes: u64) -> Result<WireWork, WorkError> {
        let exchange = wire.exchange(bytes)?;
        Ok(WireWork { wire, bytes, exchange })
    }
}

impl Work for WireWork {
    fn begin(&mut self) -> Result<(), WorkError> {
        self.exchange = self.wire.exchange(self.bytes)?;
        Ok(())
    }

    fn step(&mut self) -> Result<bool, WorkError> {
        Ok(self.wire.step(&mut self.exchange))
    }

    fn deadline(&self) -> Option<u64> {
        self.exchange.deadline()
    }

    fn is_done(&self) -> bool {
        self.exchange.is_done()
    }

    fn tally(&self) -> Tally {
        self.exchange.tally()
    }
}
