//! The protocols between Skink's components, one file each.
#![no_std]
#![forbid(unsafe_code)]

pub mod component;
pub mod host;
pub mod start;
