//! Speaks raw Ethernet through the driver of a network device, by hand.
//!
//!     ether info                  what the device is
//!     ether ping [COUNT [SIZE]]   asks the peer on the wire for numbered echoes, and waits for each
//!
//! The device is the one behind the channel `net`. Echoes that are lost (with a driver that was killed meanwhile, say)
//! are counted, not asked for again; the exit status is 1 if there are any.
#![no_std]
#![no_main]

use core::fmt;

use net::client::LONGEST;
use net::guest::Connection;
use net::wire::echo::{Asker, Verdict};
use net::wire::frame::{ETHERNET, Frame, HEADER, Mac};
use rt::channel::OpenError;
use rt::{clock, env};
use storm::wire::PEER;

rt::entry!(main);

/// Bytes of an echo, unless it is said.
const SIZE: usize = 1000;
/// How long to wait for an echo, and for the driver.
const PATIENCE: u64 = 1_000_000;
const DRIVER_PATIENCE: u64 = 30_000_000;

enum Error {
    Usage,
    Open(OpenError),
    NoDriver,
    TooLong(usize),
    Lost { asked: u64, came: u64 },
    Wrong { number: u64, byte: usize },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Usage => f.write_str("say: ether info, or ether ping [COUNT [SIZE]]"),
            Error::Open(error) => error.fmt(f),
            Error::NoDriver => f.write_str("no driver says what the device is"),
            Error::TooLong(most) => write!(f, "an echo has at most {most} bytes on this wire"),
            Error::Lost { asked, came } => write!(f, "{} of {asked} echoes did not come", asked - came),
            Error::Wrong { number, byte } => write!(f, "byte {byte} of echo {number} is wrong"),
        }
    }
}

fn main() -> Result<(), Error> {
    let mut arguments = env::arguments().skip(1);
    let what = arguments.next().ok_or(Error::Usage)?;
    let mut number =
        |or: usize| arguments.next().map_or(Ok(or), |word| word.parse().map_err(|_| Error::Usage));
    match what {
        "info" => info(&mut open()?),
        "ping" => ping(&mut open()?, number(4)? as u64, number(SIZE)?),
        _ => Err(Error::Usage),
    }
}

/// The connection, once there is a driver.
fn open() -> Result<Connection, Error> {
    let mut connection = Connection::open("net").map_err(Error::Open)?;
    let give_up = clock::now() + clock::microseconds(DRIVER_PATIENCE);
    loop {
        connection.turn();
        if connection.is_together() {
            return Ok(connection);
        }
        if clock::now() > give_up {
            return Err(Error::NoDriver);
        }
        connection.wait(false, give_up);
    }
}

fn info(connection: &mut Connection) -> Result<(), Error> {
    let link = connection.link().ok_or(Error::NoDriver)?;
    let yes = |on: bool| if on { "yes" } else { "no" };
    let [a, b, c, d, e, f] = link.mac.0;
    rt::println!("address {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    rt::println!("mtu {}", link.mtu);
    rt::println!("link {}", if link.up { "up" } else { "down" });
    rt::println!("checksums computed: {}, checked: {}", yes(link.tx_checksum), yes(link.rx_checksum));
    Ok(())
}

fn ping(connection: &mut Connection, count: u64, size: usize) -> Result<(), Error> {
    let link = connection.link().ok_or(Error::NoDriver)?;
    let most = link.mtu + ETHERNET - HEADER;
    if size > most {
        return Err(Error::TooLong(most));
    }
    let mut asker = Asker::new(PEER, link.mac, session(link.mac));
    let mut slowest = 0;
    for _ in 0..count {
        slowest = slowest.max(ask(connection, &mut asker, size)?.unwrap_or(0));
    }
    rt::println!("{} of {count} echoes of {size} bytes came, the slowest in {slowest} us", asker.answers());
    match asker.answers() == count {
        true => Ok(()),
        false => Err(Error::Lost { asked: count, came: asker.answers() }),
    }
}

/// Asks for one echo, and waits for it: how many microseconds it took, if it came.
fn ask(connection: &mut Connection, asker: &mut Asker, size: usize) -> Result<Option<u64>, Error> {
    let asked = clock::now();
    let give_up = asked + clock::microseconds(PATIENCE);
    let mut room = [0; LONGEST];
    let Some(length) = asker.ask(&mut room, size) else { return Err(Error::TooLong(LONGEST - HEADER)) };
    let mut sent = false;
    while clock::now() < give_up {
        sent = sent || connection.send(&room[..length]);
        connection.turn();
        while let Some(frame) = connection.receive(&mut [0; LONGEST]) {
            match Frame::parse(frame).ok().and_then(|frame| asker.receive(&frame)) {
                Some(Verdict::First) => return Ok(Some(clock::to_microseconds(clock::now() - asked))),
                Some(Verdict::Wrong(byte)) => return Err(Error::Wrong { number: asker.sent() - 1, byte }),
                Some(Verdict::Again | Verdict::Unknown) | None => {}
            }
        }
        connection.wait(!sent, give_up);
    }
    Ok(None)
}

/// A number that no exchange before it had: the time, in which the address tells machines apart.
fn session(mac: Mac) -> u32 {
    let own = mac.0.iter().fold(0u32, |all, byte| all.rotate_left(5) ^ u32::from(*byte));
    clock::to_microseconds(clock::now()) as u32 ^ own
}
