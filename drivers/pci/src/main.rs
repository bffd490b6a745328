//! The component `pci`: wiring and the loop. What it does is in the library beside it.
#![no_std]
#![no_main]

mod hardware;

use core::fmt;

use ipc::{CPtr, Error};
use pci::Pci;
use proto::life::bell;
use proto::pci::names;
use rt::alloc::AllocError;
use rt::{clock, env, life, memory};

use hardware::Hardware;

rt::entry!(main);

/// Why it cannot do its work.
enum Failure {
    /// Its Frames cannot be mapped.
    Map(AllocError),
    /// A Frame that it shares with init is too small.
    TooSmall,
    /// Its bell, or init's, is none.
    Bell(Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Map(error) => write!(f, "its Frames cannot be mapped: {error}"),
            Failure::TooSmall => f.write_str("a Frame that it shares with init is too small"),
            Failure::Bell(error) => write!(f, "it cannot wait or signal: {error:?}"),
        }
    }
}

fn main() -> Result<(), Failure> {
    let init_bell = env::required(names::INIT_BELL);
    let frame = |name| {
        let frame = env::required(name);
        hardware::bits(frame).map(|bits| (frame, bits))
    };
    let (table, bits) = frame(names::TABLE).map_err(Failure::Map)?;
    let table = memory::map_words(table, bits).map_err(Failure::Map)?;
    let (orders, bits) = frame(names::ORDERS).map_err(Failure::Map)?;
    let orders = memory::map_words_to_read(orders, bits).map_err(Failure::Map)?;
    let hardware = Hardware::new(env::capability(names::ECAM)).map_err(Failure::Map)?;
    let ecam = hardware.ecam();
    let mut pci = Pci::begin(hardware, ecam, table, orders).map_err(|_| Failure::TooSmall)?;
    if env::life() == 1 {
        for (at, identity) in pci.functions() {
            rt::println!("pci: {at} is {:04x}:{:04x}", identity & 0xffff, identity >> 16);
        }
    }
    ipc::signal(init_bell).map_err(Failure::Bell)?;
    life::ready();
    loop {
        let progress = pci.step();
        for _ in 0..progress.answered {
            life::served();
        }
        if progress.answered > 0 {
            ipc::signal(init_bell).map_err(Failure::Bell)?;
        }
        wait(progress.next)?;
    }
}

/// Waits for the bell, or until `next`, in microseconds.
fn wait(next: Option<u64>) -> Result<(), Failure> {
    let bell: CPtr = life::bell();
    let rung = match next {
        Some(time) => ipc::wait_until(bell, clock::microseconds(time)),
        None => ipc::wait(bell),
    };
    match rung {
        Ok(bits) if bits & 1 << bell::ORDERS != 0 => {
            life::beat();
            life::begun();
            Ok(())
        }
        Ok(_) | Err(Error::TimedOut) => Ok(()),
        Err(error) => Err(Failure::Bell(error)),
    }
}
