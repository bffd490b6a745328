//! Never ends.
#![no_std]
#![no_main]

rt::entry!(main);

fn main() {
    loop {
        core::hint::spin_loop();
    }
}
