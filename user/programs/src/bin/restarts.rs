//! `restarts COUNT NAME...` kills each of the components so many times, and looks whether init has as much memory and as
//! many slots left afterwards as before: 0 if so, 1 if not. It says how long they were away. `NAME+NAME` are killed
//! together, one while the other has only begun to come back.
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
        let mut places = Vec::new();
        for each in name.split('+') {
            let place = control::find(each).map_err(refused)?;
            places.push(place.ok_or_else(|| alloc::format!("the manifest has no component {each}"))?);
        }
        if !comes_back(name, &places, count).map_err(refused)? {
            status = 1;
        }
    }
    Ok(status)
}

fn refused(error: IoError) -> String {
    alloc::format!("{error}")
}

/// Whether everything is there again after `count` lives of components.
fn comes_back(name: &str, places: &[u64], count: u64) -> Result<bool, IoError> {
    for _ in 0..FIRST {
        once(places)?;
    }
    let before = io::inventory()?;
    let mut away = Vec::new();
    for _ in 0..count {
        away.push(once(places)?);
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

/// Kills the components, waits until all are ready again, and says for how many ticks one of them was not.
fn once(places: &[u64]) -> Result<u64, IoError> {
    for place in places {
        while control::about(*place)?.is_some_and(|about| about.state == State::Fencing) {
            ipc::yield_now();
        }
        control::kill(*place)?;
    }
    let mut longest = 0;
    for place in places {
        longest = longest.max(away(*place)?);
    }
    Ok(longest)
}

/// Waits until a component is ready again: for how many ticks it was not.
fn away(place: u64) -> Result<u64, IoError> {
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
