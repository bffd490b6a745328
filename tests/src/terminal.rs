//! `run`: the guest on a terminal.

use std::io::{Read, Write};
use std::process::Stdio;

use crate::harness::{Outcome, Test};
use crate::tool::{Run, Tool};

/// QEMU's escape key, then the key that ends it.
const CTRL_A_X: &[u8] = b"\x01x";

/// What is promised of it.
pub const TESTS: &[Test] =
    &[Test::case("run/the_guest_greets_and_ctrl_a_x_leaves_as_the_tool_says", ctrl_a_x_leaves)];

fn ctrl_a_x_leaves(tool: &Tool) -> Outcome {
    let told = |error: std::io::Error| error.to_string();
    let mut command = tool.command(["run", "--timeout", "120"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(told)?;
    let (Some(mut stdin), Some(mut stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("the tool has no console".to_owned());
    };
    let mut first = [0; 1];
    let greeted = stdout.read(&mut first).map_err(told)? == 1;
    stdin.write_all(CTRL_A_X).map_err(told)?;
    let mut rest = String::new();
    // The console may hold any bytes; only that it speaks and ends counts here.
    let _ = stdout.read_to_string(&mut rest);
    let output = child.wait_with_output().map_err(told)?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let run = Run { status: output.status.code(), stdout: rest, stderr };
    if !greeted {
        return Err(run.told("the guest should have written to its console"));
    }
    run.ended_with(0)?;
    run.complained_of(&["Ctrl-A X"])
}
