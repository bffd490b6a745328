//! The tests that run inside QEMU: one table, one boot.
//!
//! `selftest [--list] [--filter TEXT] [--long] [--icount]`. Where to start reading: [`table`] lists the tests,
//! [`bench`] runs them, [`world`] is what a test finds.
#![no_std]
#![no_main]

mod arena;
mod bench;
mod bounces;
mod capabilities;
mod components;
mod deadlines;
mod devices;
mod domains;
mod edu;
mod entries;
mod errors;
mod exceptions;
mod faults;
mod foreign;
mod iommu;
mod ipc_tests;
mod latency;
mod loans;
mod mapping;
mod notifications;
mod privileges;
mod program;
mod replies;
mod resources;
mod run;
mod scheduling;
mod smp;
mod stops;
mod subject;
mod system;
mod table;
mod vector_state;
mod vectors;
mod world;

use resources::Resources;

rt::entry!(main);

fn main() -> u8 {
    let arguments = run::Arguments::parse(rt::env::arguments().skip(1));
    match Resources::from_start_block() {
        Ok(resources) => run::run(resources, arguments),
        Err(error) => {
            rt::println!("selftest: cannot start: {error}");
            1
        }
    }
}
