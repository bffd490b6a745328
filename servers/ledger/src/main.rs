//! Serves the ledger on the endpoint `ledger`, from its state frame.
#![no_std]
#![no_main]

use ledger::{BOUNDS, Ledger};
use recover::guest::{self, NoService};

rt::entry!(main);

fn main() -> Result<(), NoService> {
    let ledger = Ledger::default();
    let mut server = guest::open(ledger.layout(BOUNDS), ledger)?;
    Err(guest::serve("ledger", &mut server))
}
