//! The driver between a client and a device of software, in one process: as it should go, with sides that misbehave,
//! and with sides that die at any step.

mod bench;
mod death;
mod frames;
mod misbehaviour;
