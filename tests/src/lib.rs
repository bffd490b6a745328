//! Everything `cargo test` runs, under one count: the host crates' own tests, then the system in QEMU.
//!
//! A test is one case with a sentence for a name, or a run of many: a crate's tests, or the guest's `selftest`,
//! whose tests are counted one by one as they report. Each file has its table of them.
#![forbid(unsafe_code)]

mod bench;
mod components;
mod debug;
mod devices;
mod disks;
mod drivers;
mod exec;
mod fuzz;
mod harness;
mod host;
mod lines;
mod options;
mod selftest;
mod serial;
mod shows;
mod size;
mod storm;
mod supervision;
mod survival;
mod terminal;
mod tool;

use std::process::ExitCode;

use clap::Parser;

use harness::{Report, Test};
use tool::Tool;

/// All there is, in the order it runs: what is quick and says most comes first.
const SUITES: [&[Test]; 18] = [
    size::TESTS,
    host::TESTS,
    options::TESTS,
    exec::TESTS,
    components::TESTS,
    disks::TESTS,
    drivers::TESTS,
    supervision::TESTS,
    devices::TESTS,
    serial::TESTS,
    storm::TESTS,
    survival::TESTS,
    terminal::TESTS,
    debug::TESTS,
    selftest::TESTS,
    fuzz::TESTS,
    bench::TESTS,
    shows::TESTS,
];

/// Runs Skink's tests.
#[derive(Parser)]
#[command(bin_name = "cargo test --")]
struct Arguments {
    /// Only tests whose name contains one of these; `SUITE/NAME` reaches into a run of many
    filter: Vec<String>,
    /// List the tests, run none
    #[arg(long)]
    list: bool,
    /// The long versions: more operations, more seeds
    #[arg(long)]
    long: bool,
}

/// The whole of `cargo test`.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let chosen = harness::chosen(&SUITES.concat(), &arguments.filter);
    if chosen.is_empty() {
        eprintln!("no test has {} in its name: --list lists them", arguments.filter.join(" or "));
    }
    if arguments.list {
        for (test, _) in &chosen {
            println!("{}", test.name);
        }
        return ExitCode::SUCCESS;
    }
    let tool = match Tool::built(arguments.long) {
        Ok(tool) => tool,
        Err(error) => {
            eprintln!("error: {error}");
            println!("0 passed, 1 failed");
            return ExitCode::FAILURE;
        }
    };
    let mut report = Report::default();
    for (test, inner) in &chosen {
        test.run(&tool, inner.as_deref(), &mut report);
    }
    report.close()
}
