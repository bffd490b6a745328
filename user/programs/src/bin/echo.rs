//! Prints its arguments, separated by blanks.
#![no_std]
#![no_main]

rt::entry!(main);

fn main() {
    for (at, argument) in rt::env::arguments().skip(1).enumerate() {
        rt::print!("{}{argument}", if at == 0 { "" } else { " " });
    }
    rt::println!();
}
