//! `restarts COUNT NAME...` kills each of the components so many times, and looks whether init has as much memory and as
//! many slots left afterwards as before: 0 if so, 1 if not. It says how long they were away.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;

use proto::control::{State, recovery};
use rt::io::{self, IoError};
use rt::{clock, control, env};

rt::entry!(main);

/// Lives that go before what is counted: they leave init's heap and address space as large as it needs them.
const FIRST: u64 = 10;

fn main() -> Result<u8, String> {
    let mut arguments = env::arguments().skip(1);
    let Some(count) = arguments.next().and_then(|count| count.parse::<u64>().ok()) else {
        return Err("say: restarts COUNT NAME...".into());
    };
    let mut status = 0;
    for name in arguments {
        let place = control::find(name).map_err(refused)?;
        let place = place.ok_or_else(|| alloc::format!("the manifest has no component {name}"))?;
        if !comes_back(name, place, count).map_err(refused)? {
            status = 1;
        }
    }
    Ok(status)
}

fn refused(error: IoError) -> String {
    alloc::format!("{error}")
}

/// Whether everything is there again after `count` lives of a component.
fn comes_back(name: &str, place: u64, count: u64) -> Result<bool, IoError> {
    for _ in 0..FIRST {
        once(place)?;
    }
    let before = io::inventory()?;
    let mut away = Vec::new();
    for _ in 0..count {
        away.push(once(place)?);
    }
    let [bytes, slots] = io::inventory()?;
    away.sort_unstable();
    let at = |percent: usize| clock::to_microseconds(away[(away.len() * percent / 100).min(away.len() - 1)]);
    if !away.is_empty() {
        rt::println!("{name}: {count} lives; away {} us (median), {} us (worst)", at(50), at(100));
    }
    if [bytes, slots] != before {
        rt::eprintln!(
            "restarts: {name}: init had {} bytes and {} slots, and has {bytes} and {slots}",
            before[0],
            before[1]
        );
    }
    Ok([bytes, slots] == before)
}

/// Kills the component, waits until it is ready again, and says for how many ticks it was not.
fn once(place: u64) -> Result<u64, IoError> {
    control::kill(place)?;
    loop {
        if let Some(times) = control::recovery(place, 0)?
            && times[recovery::READY] != 0
        {
            return Ok(times[recovery::READY] - times[recovery::DETECTED]);
        }
        match control::about(place)?.map(|about| about.state) {
            Some(State::Runs | State::Waits | State::Fencing) => ipc::yield_now(),
            _ => panic!("it does not come back"),
        }
    }
}
