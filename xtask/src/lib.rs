//! The host tool behind `cargo run`: builds the guest, boots it in QEMU, talks to it, measures it.
//!
//! Where to start reading: [`cli`] has the commands and options, [`exec`] the life of one headless run,
//! [`machine`] what QEMU is told, [`session`] the guest while it runs.
#![forbid(unsafe_code)]

pub mod archive;
pub mod bench;
pub mod cleanup;
pub mod cli;
pub mod cpio;
pub mod debug;
pub mod devices;
pub mod elf;
pub mod exec;
pub mod guest;
pub mod hosttools;
pub mod machine;
pub mod peer;
pub mod placed;
pub mod port;
pub mod programs;
pub mod qemu;
pub mod qmp;
pub mod reference;
pub mod report;
pub mod run;
pub mod session;
pub mod short_path;
pub mod symbol_table;
pub mod symbols;
pub mod terminal;
pub mod workspace;
