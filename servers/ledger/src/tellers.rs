//! `tellers DEATHS` moves money in several threads while the ledger is made to die in every way at so many of its
//! messages, and at any instant: 0 if no client has seen an error and every account holds what its owner knows it holds.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Display;
use core::sync::atomic::{AtomicBool, Ordering};

use ledger::Client;
use ledger::client::Account;
use proto::life::Injection;
use recover::guest::caller;
use rt::thread::{Builder, JoinHandle};
use rt::{clock, control, env, life};

rt::entry!(main);

/// Tellers: each has a lane, and two accounts of its own beside one that all share.
const TELLERS: u16 = 3;
const DEPOSIT: u64 = 1_000_000;
const SHARED: &str = "shared";

/// What one of them has done. Its accounts are closed then.
#[derive(Default)]
struct Done {
    transfers: u64,
    repeats: u64,
    /// Moved into the shared account.
    shared: u64,
}

fn main() -> Result<(), String> {
    let deaths = env::arguments().nth(1).and_then(|count| count.parse().ok()).unwrap_or(4);
    let place = control::find("ledger").map_err(text)?.ok_or("the manifest has no component ledger")?;
    let mut client = Client::new(caller("ledger", TELLERS).map_err(text)?);
    let shared = match client.find(SHARED) {
        Ok((account, _)) => account,
        Err(_) => client.open(SHARED, 0).map_err(text)?,
    };
    let before = client.balance(shared).map_err(text)?;
    let stop = Arc::new(AtomicBool::new(false));
    let tellers =
        (0..TELLERS).map(|lane| start(lane, shared, Arc::clone(&stop))).collect::<Result<Vec<_>, _>>()?;
    let died = shoot(place as usize, deaths);
    stop.store(true, Ordering::Relaxed);
    let mut all = Done::default();
    for teller in tellers {
        let done = teller.join().map_err(text)??;
        all.transfers += done.transfers;
        all.repeats += done.repeats;
        all.shared += done.shared;
    }
    let died = died?;
    let moved = client.balance(shared).map_err(text)? - before;
    let totals = client.totals().map_err(text)?;
    if moved != all.shared || totals.sum != totals.deposited {
        return Err(alloc::format!("{moved} of {} arrived; {totals:?}", all.shared));
    }
    rt::println!(
        "{died} deaths, {} transfers, {} repeated, none lost or doubled",
        all.transfers,
        all.repeats
    );
    Ok(())
}

/// Has the ledger die in every way at each of its first `count` messages, and as often at any instant; how often it did.
fn shoot(place: usize, count: u64) -> Result<u64, String> {
    let mut died = 0;
    for what in Injection::ALL {
        for at in 0..count {
            let before = life::life_of(place);
            let given_up = clock::now() + clock::microseconds(20_000_000);
            control::inject(place as u64, what, at, false).map_err(text)?;
            while life::life_of(place) == before {
                if clock::now() > given_up {
                    return Err(alloc::format!("the ledger outlives {} at message {at}", what.name()));
                }
                let a_while = clock::now() + clock::microseconds(1_000);
                // A bit of the bell ends the wait early, which is no matter.
                let _ = ipc::wait_until(life::bell(), a_while);
            }
            // And once more, at an instant of nobody's choice: the wait is only for the time to pass.
            let soon = 50 + died * 379 % 2_000;
            let _ = ipc::wait_until(life::bell(), clock::now() + clock::microseconds(soon));
            control::kill(place as u64).map_err(text)?;
            died += 2;
        }
    }
    Ok(died)
}

fn start(
    lane: u16,
    shared: Account,
    stop: Arc<AtomicBool>,
) -> Result<JoinHandle<Result<Done, String>>, String> {
    // Less urgent than who shoots.
    let like = Builder { priority: 90, ..Builder::default() };
    like.spawn(move || teller(lane, shared, &stop)).map_err(text)
}

/// Moves money to and fro, and some of it into the shared account, and knows how much is where.
fn teller(lane: u16, shared: Account, stop: &AtomicBool) -> Result<Done, String> {
    let mut client = Client::new(caller("ledger", lane).map_err(text)?);
    let mut open = |half, deposit| client.open(&alloc::format!("{half} of {lane}"), deposit).map_err(text);
    let (left, right) = (open("left", DEPOSIT)?, open("right", 0)?);
    let (mut in_left, mut done) = (DEPOSIT, Done::default());
    while !stop.load(Ordering::Relaxed) && in_left > 3 {
        let kept = client.transfer(left, right, 3).map_err(text)?.left;
        check(kept, in_left - 3)?;
        let kept = client.transfer(right, left, 2).map_err(text)?.left;
        check(kept, 1)?;
        let kept = client.transfer(right, shared, 1).map_err(text)?.left;
        check(kept, 0)?;
        in_left -= 1;
        check(client.balance(left).map_err(text)?, in_left)?;
        done.shared += 1;
        done.transfers += 3;
    }
    client.transfer(left, shared, in_left).map_err(text)?;
    done.shared += in_left;
    client.close(left).map_err(text)?;
    client.close(right).map_err(text)?;
    done.repeats = client.caller().repeats();
    Ok(done)
}

fn check(there: u64, known: u64) -> Result<(), String> {
    if there == known { Ok(()) } else { Err(alloc::format!("{there} where {known} should be")) }
}

fn text(error: impl Display) -> String {
    error.to_string()
}
