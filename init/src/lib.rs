//! init
#![cfg_attr(not(test), no_std)]
pub mod archive;
pub mod elf;
pub mod line;
pub mod manifest;
pub mod uart;
