//! `storm`: a work goes on while the components below it die, and looks whether anything of it was lost.
//!
//! The work is done once undisturbed, then while victims die at times, at messages or at instructions. What came of
//! it is printed, as one line of JSON if so wished; the status is 0 only if the work saw nothing of the deaths.
#![no_std]
#![no_main]

extern crate alloc;

mod instructions;

use alloc::boxed::Box;

use rt::env;
use storm::arguments::{Arguments, USAGE, When, Work as Kind};
use storm::report::Report;
use works::disk::DiskWork;
use works::rounds::{self, Outcome};
use works::victims::{Event, Killer};
use works::wire::WireWork;
use works::{Work, WorkError};

rt::entry!(main);

fn main() -> u8 {
    let arguments = match Arguments::read(env::arguments().skip(1)) {
        Ok(arguments) => arguments,
        Err(complaint) => {
            rt::eprintln!("storm: {complaint}\n{USAGE}");
            return 2;
        }
    };
    match run(&arguments) {
        Ok(report) => {
            tell(&report, arguments.json);
            u8::from(!report.is_clean())
        }
        Err(error) => {
            rt::eprintln!("storm: {error}");
            1
        }
    }
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
    Ok(report(quiet, stormy, calm, &mut killer))
}

fn begun(arguments: &Arguments) -> Result<Box<dyn Work>, WorkError> {
    Ok(match arguments.work {
        Kind::Block => Box::new(DiskWork::new(arguments.size, arguments.seed)?),
        Kind::Net => Box::new(WireWork::new(arguments.size)?),
        Kind::Ledger => return Err(WorkError::NotOffered("there is no ledger")),
    })
}

fn report(quiet: Outcome, stormy: Outcome, calm: Outcome, killer: &mut Killer) -> Report {
    while let Some(event) = killer.event() {
        match event {
            Event::Killed(name, how) => rt::eprintln!("storm: {name} dies: {}", how.name()),
            Event::Recovered(name, ticks) => {
                let microseconds = rt::clock::to_microseconds(ticks);
                rt::eprintln!("storm: {name} serves again after {microseconds} us");
            }
            Event::WouldNotDie(name, how) => rt::eprintln!("storm: {name} did not die of: {}", how.name()),
        }
    }
    let mut tally = stormy.tally;
    tally.add(&calm.tally);
    tally.add(&quiet.tally);
    tally.errors += killer.refused();
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
