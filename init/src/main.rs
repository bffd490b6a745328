//! The root task.
#![no_std]
#![no_main]

rt::root!(main);

fn main() -> ! {
    loop {}
}
