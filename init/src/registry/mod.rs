//! The registry: what runs, and what is remembered of what ran.

pub mod crash;
pub mod records;
