//! The network device, by its channel, and an exchange with the peer.

use core::sync::atomic::{AtomicU32, Ordering};

use net::client::{Client, LONGEST, Update, Wrong};
use rt::{channel, clock, control, env};
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
    end: channel::End,
    client: Client<'static>,
}

impl Wire {
    /// The device, once its driver has said what it is like.
    pub fn open() -> Result<Wire, WorkError> {
        let end = channel::client(CHANNEL)?.ok_or(WorkError::NoChannel(CHANNEL))?;
        let client =
            Client::new(end.rings, end.data, env::life()).map_err(|_| WorkError::TooSmall(CHANNEL))?;
        let mut wire = Wire { end, client };
        let give_up = clock::now() + PATIENCE * env::tsc_hz();
        while wire.client.link().is_none() {
            wire.update();
            if clock::now() > give_up {
                return Err(WorkError::Stalled(PATIENCE));
            }
            if !wire.client.is_together() {
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
        let link = self.client.link().ok_or(WorkError::NoChannel(CHANNEL))?;
        Ok(Exchange::new(link.mac, session(), amount, env::tsc_hz()))
    }

    /// Takes an exchange on as far as it goes without waiting. True: nothing more can be done before the bell rings or
    /// the exchange's deadline comes.
    pub fn step(&mut self, exchange: &mut Exchange) -> bool {
        match self.carry(exchange) {
            Ok(idle) => idle,
            Err(wrong) => {
                self.complain(wrong, exchange);
                false
            }
        }
    }

    fn carry(&mut self, exchange: &mut Exchange) -> Result<bool, Wrong> {
        self.meet(exchange)?;
        let mut moved = false;
        let mut bytes = [0; LONGEST];
        while let Some(frame) = self.client.receive()? {
            exchange.receive(clock::now(), self.client.copy_out(&frame, &mut bytes));
            self.client.give_back(frame);
            moved = true;
        }
        let mut is_full = true;
        while let Some(room) = self.client.room()? {
            let Some(length) = exchange.poll(clock::now(), &mut bytes) else {
                self.client.discard(room);
                is_full = false;
                break;
            };
            let length = self.client.copy_in(&room, &bytes[..length]);
            self.client.send(room, length, None);
            moved = true;
        }
        if self.client.flush()? {
            self.end.ring_bell();
        }
        Ok(!moved && self.client.sleep(is_full)?)
    }

    /// Sees to it that there is a driver, and has the exchange send again what one that died may have lost.
    fn meet(&mut self, exchange: &mut Exchange) -> Result<(), Wrong> {
        match self.client.update(self.end.peer_life())? {
            Update::Same => {}
            Update::Apart => self.end.ring_bell(),
            Update::Begun => {
                exchange.resume();
                self.end.ring_bell();
            }
        }
        Ok(())
    }

    /// The driver did wrong: it is reported, unless what looked wrong was another life's beginning.
    fn complain(&mut self, wrong: Wrong, exchange: &mut Exchange) {
        match self.client.update(self.end.peer_life()) {
            Ok(Update::Same) | Err(_) => {
                // A report that init refuses is about a driver that is dead already.
                let _ = control::report(self.end.peer as u64, wrong as u64);
            }
            Ok(Update::Apart) => self.end.ring_bell(),
            Ok(Update::Begun) => {
                exchange.resume();
                self.end.ring_bell();
            }
        }
    }

    fn update(&mut self) {
        if let Ok(Update::Apart | Update::Begun) = self.client.update(self.end.peer_life()) {
            self.end.ring_bell();
        }
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
