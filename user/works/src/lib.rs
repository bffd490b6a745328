//! What `storm`, `demo` and the benchmarks share in the guest: works that go on while drivers and servers die, and who
//! kills them.
//!
//! The logic is crate `storm`'s and the protocols' clients'; here they meet bells and init. One thread does all of it:
//! each part takes a step without waiting and says until when it need not be asked again ([`wait`]).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod bank;
pub mod disk;
pub mod error;
pub mod request;
pub mod rounds;
pub mod victims;
pub mod wire;

use proto::life::bell;
use rt::{clock, life};
use storm::tally::Tally;

pub use error::WorkError;

/// What goes on while components die. It never waits: whoever runs it does.
pub trait Work {
    /// Begins the next pass.
    fn begin(&mut self) -> Result<(), WorkError>;

    /// Goes on as far as possible. True: nothing more can be done before the bell rings or [`Self::deadline`] comes.
    fn step(&mut self) -> Result<bool, WorkError>;

    /// When the next step is due, if nothing else happens.
    fn deadline(&self) -> Option<u64> {
        None
    }

    /// The pass has come to its end.
    fn is_done(&self) -> bool;

    /// What the pass has done and found so far.
    fn tally(&self) -> Tally;
}

/// Waits until the component's bell is rung, or until `deadline`, whichever comes first: the bell's bits.
pub fn wait(deadline: u64) -> Result<u64, WorkError> {
    match ipc::wait_until(life::bell(), deadline) {
        Ok(bits) => {
            if bits & 1 << bell::ORDERS != 0 {
                life::beat();
            }
            Ok(bits)
        }
        Err(ipc::Error::TimedOut) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Lets others run for so many ticks. Nobody signals `time`.
pub fn pause(time: ipc::CPtr, ticks: u64) -> Result<(), WorkError> {
    match ipc::wait_until(time, clock::now() + ticks) {
        Ok(_) | Err(ipc::Error::TimedOut) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
