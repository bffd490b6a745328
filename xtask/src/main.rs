//! The host tool behind `cargo run`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use xtask::cli::{Cli, Command, STATUS_READER_GONE, STATUS_TOOL_FAILED};
use xtask::{bench, debug, exec, reference, run};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => return usage(&told),
    };
    let done = match cli.command() {
        Command::Run(options) => run::run(&options),
        Command::Exec(options) => exec::exec(&options),
        Command::Bench(options) => bench::bench(&options),
        Command::Debug(options) => debug::debug(&options),
        Command::Reference => reference::write(),
    };
    done.map_or_else(
        |error| {
            if is_broken_pipe(&error) {
                return ExitCode::from(STATUS_READER_GONE);
            }
            eprintln!("error: {error:#}");
            ExitCode::from(STATUS_TOOL_FAILED)
        },
        ExitCode::from,
    )
}

/// Prints help, or what is wrong with the command line. A wrong one ends with the tool's own status, as any other may be
/// a guest program's.
fn usage(told: &clap::Error) -> ExitCode {
    // Nobody is left to be told if this fails.
    let _ = told.print();
    if told.use_stderr() { ExitCode::from(STATUS_TOOL_FAILED) } else { ExitCode::SUCCESS }
}

/// Returns true if whoever reads the tool's output has gone, as `head` does: no error of anybody's.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_one = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(is_one))
}
