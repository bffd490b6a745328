//! The driver between clients and a console of software, in one process: as it should go, with sides that misbehave,
//! and with sides that die at any step.

mod bench;
mod bytes;
mod death;
mod misbehaviour;
