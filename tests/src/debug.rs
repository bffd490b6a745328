//! `debug`: the guest under gdb.

use crate::harness::{Outcome, Test};
use crate::tool::Tool;

/// What is promised of it.
pub const TESTS: &[Test] =
    &[Test::case("debug/gdb_stops_in_the_kernel_and_shows_its_source", stops_in_the_kernel)];

fn stops_in_the_kernel(tool: &Tool) -> Outcome {
    let script = ["-batch", "-ex", "hbreak microkernel::kernel_main", "-ex", "continue", "-ex", "backtrace"];
    let run = tool.run([&["debug", "--"], &script[..]].concat())?;
    run.ended_with(0)?;
    for part in ["\nBreakpoint 1, ", "microkernel::kernel_main () at microkernel/src/main.rs"] {
        if !run.stdout.contains(part) {
            return Err(run.told(&format!("gdb should have said {part:?}")));
        }
    }
    Ok(())
}
