//! `cycles COUNT NAME ARGS...` runs a program so many times, one after the other, and looks whether init has as
//! much memory and as many slots left afterwards as before: 0 if so, 1 if not.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::String;

use rt::env;
use rt::io::{self, IoError};

rt::entry!(main);

fn main() -> Result<u8, IoError> {
    let mut arguments = env::arguments().skip(1);
    let Some(count) = arguments.next().and_then(|count| count.parse::<u64>().ok()) else {
        rt::eprintln!("cycles: say: cycles COUNT NAME ARGS...");
        return Ok(2);
    };
    let command: String = arguments.flat_map(|argument| [argument, "\0"]).collect();
    // The first one leaves init's heap and address space as large as it needs them.
    let first = once(&command)?;
    let before = io::inventory()?;
    let start = rt::clock::now();
    for _ in 0..count {
        if once(&command)? != first {
            rt::eprintln!("cycles: it does not always end the same way");
            return Ok(1);
        }
    }
    let each = rt::clock::to_microseconds(rt::clock::now() - start) / count.max(1);
    let after = io::inventory()?;
    let [bytes, slots] = after;
    rt::println!("{count} times, {each} us each; init has {bytes} bytes and {slots} slots free");
    if after != before {
        rt::eprintln!("cycles: before it had {} bytes and {} slots", before[0], before[1]);
    }
    Ok(u8::from(after != before))
}

fn once(command: &str) -> Result<io::Ended, IoError> {
    io::wait_for(io::run(command)?)
}
