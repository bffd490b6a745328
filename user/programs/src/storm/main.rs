//! `storm`: a work goes on while the components below it die, and looks whether anything of it was lost.
//!
//! The work is done once undisturbed, then while victims die at times, at messages or at instructions. What came of
//! it is printed, as one line of JSON if so wished; the status is 0 only if the work saw nothing of the deaths.
#![no_std]
#![no_main]

extern crate alloc;

mod demo;
mod instructions;
mod measure;

use alloc::boxed::Box;

use rt::{clock, env};
use storm::arguments::{Arguments, USAGE, When, Work as Kind};
use storm::report::Report;
use storm::tally::Tally;
use works::bank::BankWork;
use works::disk::{Disk, DiskWork};
use works::rounds::{self, Outcome};
use works::victims::{Event, Killer, PARTS};
use works::wire::{Wire, WireWork};
use works::{Work, WorkError};

rt::entry!(main);

fn main() -> u8 {
    let mut words = env::arguments().skip(1);
    match (words.next(), words.next()) {
        (Some("--measure"), Some(what)) => return ended(measure::measure(what).map(|()| 0)),
        (Some("--demo"), Some(seconds)) => {
            let shown =
                seconds.parse().map_err(|_| WorkError::NotOffered("--demo wants a number of seconds"));
            return ended(shown.and_then(demo::show).map(|()| 0));
        }
        _ => {}
    }
    let arguments = match Arguments::read(env::arguments().skip(1)) {
        Ok(arguments) => arguments,
        Err(complaint) => {
            rt::eprintln!("storm: {complaint}\n{USAGE}");
            return 2;
        }
    };
    ended(run(&arguments).map(|report| {
        tell(&report, arguments.json);
        u8::from(!report.is_clean())
    }))
}

fn ended(result: Result<u8, WorkError>) -> u8 {
    result.unwrap_or_else(|error| {
        rt::eprintln!("storm: {error}");
        1
    })
}

fn tell(report: &Report, json: bool) {
    if json {
        rt::println!("{}", report.json());
        rt::eprintln!("{report}");
    } else {
        rt::println!("{report}");
    }
}

fn run(arguments: &Arguments<'static>) -> Result<Report, WorkError> {
    let mut killer = Killer::new(arguments)?;
    if let When::AtInstruction(range) = arguments.when {
        return instructions::sweep(arguments, range, &mut killer);
    }
    let mut work = begun(arguments)?;
    // The first pass warms up: what is behind the device may be slower when something is touched for the first time.
    let first = rounds::run(&mut *work, None)?;
    let quiet = rounds::run(&mut *work, None)?;
    rt::eprintln!(
        "storm: {} without kills: {} bytes, {} requests",
        arguments.work.name(),
        quiet.tally.bytes,
        quiet.tally.requests
    );
    // Its times begin now.
    let mut killer = Killer::new(arguments)?;
    let stormy = rounds::run(&mut *work, Some(&mut killer))?;
    // The last life serves its first request in this pass at the latest.
    let calm = rounds::run(&mut *work, None)?;
    killer.book()?;
    Ok(report(&[first, quiet, stormy, calm], &mut killer))
}

fn begun(arguments: &Arguments) -> Result<Box<dyn Work>, WorkError> {
    Ok(match arguments.work {
        Kind::Block => Box::new(DiskWork::new(Disk::open()?, arguments.size, arguments.seed)?),
        Kind::Net => Box::new(WireWork::new(Wire::open()?, arguments.size)?),
        Kind::Ledger => Box::new(BankWork::new(arguments.size, arguments.seed)?),
    })
}

/// The report on runs: before the one that the others are compared with, that one, with kills, and after.
fn report([first, quiet, stormy, calm]: &[Outcome; 4], killer: &mut Killer) -> Report {
    while let Some(event) = killer.event() {
        match event {
            Event::Killed(name, how) => rt::eprintln!("storm: {name} dies: {}", how.name()),
            Event::Recovered(name, ticks) => {
                rt::eprintln!("storm: {name} serves again after {} us", clock::to_microseconds(ticks));
            }
            Event::WouldNotDie(name, how) => rt::eprintln!("storm: {name} did not die of: {}", how.name()),
        }
    }
    for ((part, _), times) in PARTS.iter().zip(killer.parts()) {
        let [p50, max] = [times.summary().p50, times.summary().max].map(clock::to_microseconds);
        rt::eprintln!("storm: of a recovery, to {part} took {p50} us (p50), {max} us at most");
    }
    let mut tally = Tally { errors: killer.refused(), ..Tally::default() };
    for outcome in [first, quiet, stormy, calm] {
        tally.add(&outcome.tally);
    }
    Report {
        kills: killer.kills(),
        recoveries: killer.recoveries(),
        tally,
        quiet: quiet.rate,
        stormy: stormy.rate,
        recovery: killer.times().summary(),
        tsc_hz: env::tsc_hz(),
    }
}
