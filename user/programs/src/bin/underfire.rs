//! `underfire NAME BYTES` copies its input to its output, as `cat` does, and has the component NAME die each time that so
//! many bytes have passed, in each way there is, one after the other. What passes is to be the same all the while. At the
//! end it says on the error output how often NAME has died.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::String;

use proto::life::Injection;
use rt::io::{self, IoError};
use rt::{control, env};

rt::entry!(main);

fn main() -> Result<(), String> {
    let mut arguments = env::arguments().skip(1);
    let name = arguments.next().ok_or("say: underfire NAME BYTES")?;
    let every = arguments.next().and_then(|bytes| bytes.parse::<usize>().ok()).filter(|&bytes| bytes > 0);
    let every = every.ok_or("after how many bytes it is to die: a number, not 0")?;
    let victim = control::find(name).map_err(refused)?.ok_or("the manifest has no such component")?;
    let mut ways = Injection::ALL.into_iter().cycle();
    let before = lives(victim)?;
    let (mut bytes, mut passed) = ([0; 512], 0);
    loop {
        let length = io::read(&mut bytes).map_err(refused)?;
        if length == 0 {
            rt::eprintln!("{name} died {} times", lives(victim)? - before);
            return Ok(());
        }
        passed += length;
        if passed >= every {
            passed = 0;
            // It may be dead already, and is not told then.
            let _ = ways.next().map(|way| control::inject(victim, way, 0, false));
        }
        io::write(io::OUTPUT, &bytes[..length]).map_err(refused)?;
    }
}

/// Which life the component is in.
fn lives(place: u64) -> Result<u64, String> {
    Ok(control::about(place).map_err(refused)?.map_or(0, |about| about.life))
}

fn refused(error: IoError) -> String {
    alloc::format!("{error}")
}
