//! What two programs speak over raw Ethernet: [`frame`]s that carry numbered [`echo`]es and a reliable [`stream`].
//!
//! Pure logic, the same on both sides: frames come in and go out as bytes, and time is whatever the caller counts.

pub mod echo;
pub mod frame;
pub mod stream;
