//! Says hello, and what it knows of the machine.
#![no_std]
#![no_main]

rt::entry!(main);

fn main() {
    rt::println!("Hello from {} on a machine with {} CPU(s).", rt::env::name(), rt::env::cpus());
}
