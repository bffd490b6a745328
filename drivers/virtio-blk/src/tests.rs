//! The driver, its client and a device of software in one process.

mod device;
mod medium;
mod poison;
mod program;
mod recovery;
mod requests;
mod rig;
mod word;
