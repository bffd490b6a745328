//! `run`: the guest on a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use crate::harness::{Outcome, Test};
use crate::tool::{Run, Tool};

/// QEMU's escape key, then the key that ends it.
const CTRL_A_X: &[u8] = b"\x01x";
/// The operator's prompt.
const PROMPT: &[u8] = b"skink> ";

/// What is promised of it.
pub const TESTS: &[Test] = &[
    Test::case("run/the_guest_greets_and_ctrl_a_x_leaves_as_the_tool_says", ctrl_a_x_leaves),
    Test::case("run/the_terminal_is_as_before_when_the_tool_is_terminated", |tool| {
        ended_by(tool, Signal::TERM)
    }),
    Test::case("run/the_terminal_is_as_before_when_the_tool_is_hung_up", |tool| ended_by(tool, Signal::HUP)),
    Test::case("run/the_terminal_is_as_before_when_the_tool_is_interrupted", |tool| {
        ended_by(tool, Signal::INT)
    }),
];

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
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).map_err(told)?;
    let output = child.wait_with_output().map_err(told)?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let run =
        Run { status: output.status.code(), stdout: String::from_utf8_lossy(&rest).into_owned(), stderr };
    if !greeted {
        return Err(run.told("the guest should have written to its console"));
    }
    run.ended_with(0)?;
    run.complained_of(&["Ctrl-A X"])
}

/// A signal ends the tool while the guest has the terminal: its settings come back, and no file is left.
fn ended_by(tool: &Tool, signal: Signal) -> Outcome {
    let told = |error: std::io::Error| error.to_string();
    let (mut ours, theirs) = terminal().map_err(told)?;
    let folder = tempfile::tempdir().map_err(told)?;
    let settings = || tcgetattr(&theirs).map(|settings| settings.local_modes);
    let before = settings().map_err(|error| error.to_string())?;
    let mut command = tool.command(["run", "--timeout", "120"]);
    command.env("TMPDIR", folder.path()).stderr(Stdio::null());
    command.stdin(theirs.try_clone().map_err(told)?).stdout(theirs.try_clone().map_err(told)?);
    let mut child = command.spawn().map_err(told)?;
    let (mut shown, mut bytes) = (Vec::new(), [0; 1024]);
    while !shown.windows(PROMPT.len()).any(|part| part == PROMPT) {
        let count = ours.read(&mut bytes).map_err(told)?;
        shown.extend_from_slice(&bytes[..count]);
    }
    let during = settings().map_err(|error| error.to_string())?;
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or("no process")?;
    kill_process(id, signal).map_err(|error| error.to_string())?;
    let status = child.wait().map_err(told)?;
    let after = settings().map_err(|error| error.to_string())?;
    if during.contains(LocalModes::ICANON) {
        return Err("QEMU should have had the terminal without line editing".to_owned());
    }
    if after != before {
        return Err(format!("the terminal was {before:?}, and is left with {after:?}"));
    }
    if status.code() != Some(128 + signal.as_raw()) {
        return Err(format!("the tool ended with {status}"));
    }
    match std::fs::read_dir(folder.path()).map_err(told)?.next() {
        None => Ok(()),
        Some(left) => Err(format!("{left:?} is left behind")),
    }
}

/// The two ends of a new terminal.
fn terminal() -> std::io::Result<(File, File)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let theirs = rustix::fs::open(name, flags, Mode::empty())?;
    Ok((ours.into(), theirs.into()))
}
