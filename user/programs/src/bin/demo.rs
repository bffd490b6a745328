//! `demo [SECONDS]`: a live view of work on disk and network while their drivers are shot. `storm`, which has the
//! channels to both, draws it.
#![no_std]
#![no_main]

extern crate alloc;

use rt::io::IoError;

rt::entry!(main);

/// How long it goes on if nothing is said.
const SECONDS: &str = "20";

fn main() -> Result<u8, IoError> {
    let seconds = rt::env::arguments().nth(1).unwrap_or(SECONDS);
    let ended = rt::io::run(&alloc::format!("storm\0--demo\0{seconds}\0")).and_then(rt::io::wait_for)?;
    Ok(if ended.crashed { 1 } else { ended.status })
}
