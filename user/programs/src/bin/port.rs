//! Writes to a port of the console device, through its driver. It is for manifests in which init does not do so itself.
//!
//!     port fill BYTES    writes so many bytes to the log's port, and says when the device has taken all of them
#![no_std]
#![no_main]

use core::fmt;

use channel::{Peer, Update, World};
use proto::host::LOG_PORT;
use rt::channel::{OpenError, Outside, open};
use rt::{clock, env};
use stream::Client;

rt::entry!(main);

const PATIENCE: u64 = 30_000_000;

enum Error {
    Usage,
    Open(OpenError),
    NobodyTakesIt(usize),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Usage => f.write_str("say: port fill BYTES"),
            Error::Open(error) => error.fmt(f),
            Error::NobodyTakesIt(left) => write!(f, "{left} bytes were not taken"),
        }
    }
}

fn main() -> Result<(), Error> {
    let mut arguments = env::arguments().skip(1);
    let (what, value) = (arguments.next().ok_or(Error::Usage)?, arguments.next().ok_or(Error::Usage)?);
    if what != "fill" {
        return Err(Error::Usage);
    }
    let count: usize = value.parse().map_err(|_| Error::Usage)?;
    write(LOG_PORT, (0..count).map(|at| at as u8))?;
    rt::println!("{count} bytes were taken");
    Ok(())
}

/// A port.
type Port = Peer<Client<'static>, Outside>;

/// Writes all bytes, from the first one on for each new driver, and waits until the device has taken them.
fn write(name: &str, bytes: impl Iterator<Item = u8> + Clone) -> Result<(), Error> {
    let mut port: Port = open(name, |end, life| Client::new(end.rings, life)).map_err(Error::Open)?;
    let give_up = clock::now() + clock::microseconds(PATIENCE);
    let mut rest = bytes.clone();
    let mut part = heapless::Vec::<u8, 1024>::new();
    while clock::now() < give_up {
        if port.turn() == Update::Begun {
            rest = bytes.clone();
            part.clear();
        }
        loop {
            if part.is_empty() {
                part.extend(rest.by_ref().take(part.capacity()));
            }
            match port.act(|client| client.write(&part)) {
                None | Some(0) => break,
                Some(count) => part = part[count..].iter().copied().collect(),
            }
        }
        port.flush();
        if port.act(Client::is_taken) == Some(true) && part.is_empty() && rest.clone().next().is_none() {
            return Ok(());
        }
        if port.act(|client| client.sleep(true)).unwrap_or(true) {
            // Whatever comes, it is looked at anew.
            port.world.sleep(Some(give_up.min(clock::now() + clock::microseconds(10_000))));
        }
    }
    Err(Error::NobodyTakesIt(part.len() + rest.count()))
}
