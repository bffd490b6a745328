//! The driver, its client and a device of software in one process.

mod device;
mod fuse;
mod medium;
mod poison;
mod program;
mod recovery;
mod requests;
mod rig;
