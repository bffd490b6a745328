//! Copies its input to its output, as `cat` does, while a component that it all goes through dies. What passes is to be
//! the same all the while.
//!
//!     underfire NAME every BYTES          NAME dies each time that so many bytes have passed
//!     underfire NAME at-message FIRST-LAST
//!                                         it dies at its FIRST message in a life, in the next life at one more, and so on
//!
//! Each death is another one of those that there are: killed, a fault, a hang, nonsense in its rings, a panic. At the end it
//! says on the error output how often NAME has died; the end is that of the input, so a range may not have been gone
//! through, which is an error.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::String;
use core::iter::Cycle;
use core::ops::RangeInclusive;

use proto::life::Injection;
use rt::io::{self, IoError};
use rt::{control, env};

rt::entry!(main);

const USAGE: &str = "say: underfire NAME every BYTES, or underfire NAME at-message FIRST-LAST";

fn main() -> Result<(), String> {
    let mut arguments = env::arguments().skip(1);
    let [name, when, value] = [(); 3].map(|()| arguments.next());
    let name = name.ok_or(USAGE)?;
    let place = control::find(name).map_err(refused)?.ok_or("the manifest has no such component")?;
    let ways = Injection::ALL;
    let plan = when.zip(value).and_then(|(when, value)| Plan::read(when, value)).ok_or(USAGE)?;
    let first = lives(place)?;
    let mut killer = Killer { place, ways: ways.into_iter().cycle(), plan, life: first, ordered: false };
    let mut bytes = [0; 512];
    loop {
        let length = io::read(&mut bytes).map_err(refused)?;
        if length == 0 {
            break;
        }
        killer.passed(length)?;
        io::write(io::OUTPUT, &bytes[..length]).map_err(refused)?;
    }
    rt::eprintln!("{name} died {} times", lives(place)? - first);
    match killer.plan {
        Plan::AtMessage(messages) if !messages.is_empty() => {
            Err(alloc::format!("the input ended before message {}", messages.start()))
        }
        _ => Ok(()),
    }
}

/// When the victim is to die.
enum Plan {
    /// When so many bytes have passed; so many have.
    Every(usize, usize),
    /// At these messages.
    AtMessage(RangeInclusive<u64>),
}

impl Plan {
    fn read(when: &str, value: &str) -> Option<Plan> {
        match when {
            "every" => value.parse().ok().filter(|&bytes| bytes > 0).map(|bytes| Plan::Every(bytes, 0)),
            "at-message" => {
                let (first, last) = value.split_once('-')?;
                Some(Plan::AtMessage(first.parse().ok()?..=last.parse().ok()?))
            }
            _ => None,
        }
    }
}

struct Killer {
    place: u64,
    ways: Cycle<core::array::IntoIter<Injection, { Injection::ALL.len() }>>,
    plan: Plan,
    /// The victim's life as it was last seen, and whether that is to end.
    life: u64,
    ordered: bool,
}

impl Killer {
    /// So many bytes more pass.
    fn passed(&mut self, length: usize) -> Result<(), String> {
        match &mut self.plan {
            Plan::Every(every, passed) => {
                *passed += length;
                if *passed >= *every {
                    *passed = 0;
                    // It may be dead already, and is not told then.
                    let _ = self.order(0);
                }
            }
            Plan::AtMessage(messages) => {
                let life = lives(self.place)?;
                if life != self.life {
                    self.life = life;
                    self.ordered = false;
                    messages.next();
                }
                if !self.ordered && !messages.is_empty() {
                    let at = *messages.start();
                    // It may not have begun to live again.
                    self.ordered = self.order(at).is_ok();
                }
            }
        }
        Ok(())
    }

    /// Orders the victim to die at message `at`.
    fn order(&mut self, at: u64) -> Result<(), IoError> {
        self.ways.next().map_or(Ok(()), |way| control::inject(self.place, way, at, false))
    }
}

/// Which life the component is in.
fn lives(place: u64) -> Result<u64, String> {
    Ok(control::about(place).map_err(refused)?.map_or(0, |about| about.life))
}

fn refused(error: IoError) -> String {
    alloc::format!("{error}")
}
