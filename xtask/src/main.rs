//! The host tool behind `cargo run`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use xtask::cli::{Cli, Command};
use xtask::{bench, debug, exec, reference, run};

fn main() -> ExitCode {
    let done = match Cli::parse().command() {
        Command::Run(options) => run::run(&options),
        Command::Exec(options) => exec::exec(&options),
        Command::Bench(options) => bench::bench(&options),
        Command::Debug(options) => debug::debug(&options),
        Command::Reference => reference::write(),
    };
    done.map_or_else(
        |error| {
            eprintln!("error: {error:#}");
            ExitCode::from(xtask::cli::STATUS_TOOL_FAILED)
        },
        ExitCode::from,
    )
}
