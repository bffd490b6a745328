//! Ends with status 1.
#![no_std]
#![no_main]

rt::entry!(main);

fn main() -> u8 {
    1
}
