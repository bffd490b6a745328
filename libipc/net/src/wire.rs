//! What two programs speak over raw Ethernet: [`frame`]s that carry numbered [`echo`]es and a reliable [`stream`].
//!
//! A [`line`] of bytes can carry the same frames, where there is no Ethernet: a [`link`] makes of a line that loses and
//! doubles bytes one that does not.
//!
//! Pure logic, the same on both sides: frames come in and go out as bytes, and time is whatever the caller counts.

pub mod echo;
pub mod frame;
pub mod line;
pub mod link;
pub mod stream;
