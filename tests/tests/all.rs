//! What `cargo test` at the root runs: everything. The last line counts.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    tests::main()
}
