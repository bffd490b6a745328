//! Random system calls with random arguments: the kernel stays whole. Reproducible by seed.

use crate::harness::{Outcome, Test};
use crate::tool::Tool;

/// The fuzzer.
pub const TESTS: &[Test] =
    &[Test::case("fuzz/the_kernel_withstands_random_system_calls", withstands_random_calls)];

/// Seeds and numbers of calls: what `cargo test` runs.
const RUNS: [(&str, &str); 1] = [("7", "1000000")];
/// And with --long.
const LONG_RUNS: [(&str, &str); 4] =
    [("7", "1000000"), ("8", "10000000"), ("9", "10000000"), ("10", "10000000")];

/// How long one run may take, in seconds: some ten times what it needs on a busy host.
const PATIENCE: &str = "900";
/// The same with --long.
const LONG_PATIENCE: &str = "7200";

fn withstands_random_calls(tool: &Tool) -> Outcome {
    let (runs, patience) = if tool.long() { (&LONG_RUNS[..], LONG_PATIENCE) } else { (&RUNS[..], PATIENCE) };
    for (seed, calls) in runs {
        let manifest = crate::selftest::MANIFEST;
        tool.run([
            "exec",
            "--manifest",
            manifest,
            "--timeout",
            patience,
            "--",
            "fuzz",
            "--seed",
            seed,
            "--calls",
            calls,
        ])?
        .ended_with(0)?;
    }
    Ok(())
}
