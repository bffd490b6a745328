//! `paging DEATHS` uses the server `pages`, which dies in every way at so many of its messages, and more often at an
//! instant of nobody's choice: 0 if its heap holds what was added, no more and no less.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt::Display;
use core::sync::atomic::{AtomicBool, Ordering};

use proto::life::Injection;
use recover::Extra;
use recover::guest::caller;
use rt::thread::Builder;
use rt::{clock, control, env, life};

rt::entry!(main);

/// As `pages` has them.
const ADD: u32 = 1;
const SUM: u32 = 2;
const PAGES: u64 = 8;

/// Kills at an instant of nobody's choice, for each message.
const INSTANTS: u64 = 8;

fn main() -> Result<(), String> {
    let deaths = env::arguments().nth(1).and_then(|count| count.parse().ok()).unwrap_or(4);
    let place = control::find("pages").map_err(text)?.ok_or("the manifest has no component pages")?;
    let stop = Arc::new(AtomicBool::new(false));
    let of_adder = Arc::clone(&stop);
    // Less urgent than who shoots.
    let adder = Builder { priority: 90, ..Builder::default() }.spawn(move || add(&of_adder)).map_err(text)?;
    let died = shoot(place as usize, deaths);
    stop.store(true, Ordering::Relaxed);
    let (added, repeats) = adder.join().map_err(text)??;
    rt::println!("{} deaths, {added} additions, {repeats} repeated, none lost or doubled", died?);
    Ok(())
}

fn shoot(place: usize, count: u64) -> Result<u64, String> {
    let mut died = 0;
    for at in 0..count {
        for what in Injection::ALL.into_iter().filter(|what| *what != Injection::Corrupt) {
            let before = life::life_of(place);
            control::inject(place as u64, what, at, false).map_err(text)?;
            ends(place, before)?;
            died += 1;
        }
        for instant in 0..INSTANTS {
            // Only for the time to pass: into the midst of a transaction, as often as not.
            let soon = 100 + (at * INSTANTS + instant) * 379 % 3_000;
            let _ = ipc::wait_until(life::bell(), clock::now() + clock::microseconds(soon));
            control::kill(place as u64).map_err(text)?;
            died += 1;
        }
    }
    Ok(died)
}

/// Waits until the component is in another life.
fn ends(place: usize, before: u32) -> Result<(), String> {
    let given_up = clock::now() + clock::microseconds(20_000_000);
    while life::life_of(place) == before {
        if clock::now() > given_up {
            return Err("the server outlives its orders".into());
        }
        let a_while = clock::now() + clock::microseconds(1_000);
        // A bit of the bell ends the wait early, which is no matter.
        let _ = ipc::wait_until(life::bell(), a_while);
    }
    Ok(())
}

/// Adds until it is stopped, and checks after each addition: how many, and how many were repeated.
fn add(stop: &AtomicBool) -> Result<(u64, u64), String> {
    let mut server = caller("pages", 0).map_err(text)?;
    let mut look = Extra::new();
    let [mut sum, mut count, ..] = server.look(SUM, [], &[], &mut look).map_err(text)?.words;
    let before = count;
    while !stop.load(Ordering::Relaxed) {
        let amount = count % 5 + 1;
        let [now, ..] = server.request(ADD, [amount], &[]).map_err(text)?.words;
        (sum, count) = (sum + amount * PAGES, count + 1);
        let [there, added, ..] = server.look(SUM, [], &[], &mut look).map_err(text)?.words;
        if (now, added, there) != (count, count, sum) {
            return Err(alloc::format!("addition {count}: {now}, {added}; {there} where {sum} should be"));
        }
    }
    Ok((count - before, server.repeats()))
}

fn text(error: impl Display) -> String {
    error.to_string()
}
