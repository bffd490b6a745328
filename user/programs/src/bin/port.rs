//! Writes to a port of the console device, through its driver. It is for manifests in which init does not do so itself.
//!
//!     port fill BYTES    writes so many bytes to the log's port, and says when the device has taken all of them
#![no_std]
#![no_main]

use core::fmt;

use proto::host::LOG_PORT;
use ring::Corrupt;
use rt::channel::{self, End};
use rt::{clock, control, env, life};
use stream::{Client, Update};

rt::entry!(main);

const PATIENCE: u64 = 30_000_000;

enum Error {
    Usage,
    NoChannel,
    Map,
    NobodyTakesIt(usize),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Usage => f.write_str("say: port fill BYTES"),
            Error::NoChannel => f.write_str("the manifest gives this program no channel to that port"),
            Error::Map => f.write_str("the channel's memory cannot be mapped, or is too small"),
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
struct Port {
    end: End,
    client: Client<'static>,
}

impl Port {
    fn open(name: &str) -> Result<Port, Error> {
        let end = channel::client(name).map_err(|_| Error::Map)?.ok_or(Error::NoChannel)?;
        let client = Client::new(end.rings, env::life()).map_err(|_| Error::Map)?;
        Ok(Port { end, client })
    }

    /// True: there is a driver that has nothing of what was written.
    fn meet(&mut self) -> bool {
        let update = self.client.update(self.end.peer_life());
        if update != Update::Same {
            self.end.ring_bell();
        }
        update == Update::Begun
    }

    /// What is not corrupt. What is so in a life that goes on, init is told of.
    fn unless_corrupt<T>(&mut self, result: Result<T, Corrupt>) -> Option<T> {
        if result.is_err() && self.client.update(self.end.peer_life()) == Update::Same {
            // A report that init refuses is about a driver that is dead already.
            let _ = control::report(self.end.peer as u64, 0);
        }
        result.ok()
    }
}

/// Writes all bytes, from the first one on for each new driver, and waits until the device has taken them.
fn write(name: &str, bytes: impl Iterator<Item = u8> + Clone) -> Result<(), Error> {
    let mut port = Port::open(name)?;
    let give_up = clock::now() + clock::microseconds(PATIENCE);
    let mut rest = bytes.clone();
    let mut part = heapless::Vec::<u8, 1024>::new();
    while clock::now() < give_up {
        if port.meet() {
            rest = bytes.clone();
            part.clear();
        }
        loop {
            if part.is_empty() {
                part.extend(rest.by_ref().take(part.capacity()));
            }
            let written = port.client.write(&part);
            match port.unless_corrupt(written) {
                None | Some(0) => break,
                Some(count) => part = part[count..].iter().copied().collect(),
            }
        }
        if port.client.flush() {
            port.end.ring_bell();
        }
        let taken = port.client.is_taken();
        if port.unless_corrupt(taken) == Some(true) && part.is_empty() && rest.clone().next().is_none() {
            return Ok(());
        }
        let asleep = port.client.sleep(true);
        if port.unless_corrupt(asleep).unwrap_or(true) {
            // Whatever comes, it is looked at anew.
            let _ = ipc::wait_until(life::bell(), give_up.min(clock::now() + clock::microseconds(10_000)));
            life::beat();
        }
    }
    Err(Error::NobodyTakesIt(part.len() + rest.count()))
}
