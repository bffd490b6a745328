//! The host tool as its user has it: a program, run with arguments.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use xtask::{programs, workspace};

use crate::harness::Outcome;

/// The variable that tells tests to run their long versions.
pub const LONG: &str = "SKINK_LONG";

/// How long a run may take before it counts as standing still: many times what any takes on a busy host.
const PATIENCE: Duration = Duration::from_secs(1200);
/// The same with --long.
const LONG_PATIENCE: Duration = Duration::from_secs(6 * 3600);
/// How often to look whether it has ended.
const GLANCE: Duration = Duration::from_millis(5);

/// The host tool, built.
pub struct Tool {
    path: PathBuf,
    long: bool,
}

/// What came of a run.
pub struct Run {
    /// The exit status; none after a signal.
    pub status: Option<i32>,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

impl Tool {
    /// Builds the tool as `cargo run` does.
    pub fn built(long: bool) -> Result<Self, String> {
        let target = workspace::target();
        let mut cargo = programs::cargo();
        cargo.args(["build", "--quiet", "-p", "xtask", "--target-dir"]).arg(&target);
        match cargo.status() {
            Ok(status) if status.success() => Ok(Tool { path: target.join("debug").join("xtask"), long }),
            Ok(status) => Err(format!("the host tool does not build ({status})")),
            Err(error) => Err(format!("cannot start cargo: {error}")),
        }
    }

    /// Whether the long versions are to run.
    pub fn long(&self) -> bool {
        self.long
    }

    /// A nested cargo, which tells tests whether their long versions are to run.
    pub fn cargo(&self) -> Command {
        let mut cargo = programs::cargo();
        if self.long {
            cargo.env(LONG, "1");
        }
        cargo
    }

    /// The tool, to be run with these arguments.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(&self.path);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs the tool to its end.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<Run, String> {
        self.run_with_input(arguments, Vec::new())
    }

    /// Runs the tool to its end with `input` as its standard input.
    pub fn run_with_input<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        input: Vec<u8>,
    ) -> Result<Run, String> {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let writer = thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)));
        let [stdout, stderr] = [read_to_end(stdout), read_to_end(stderr)];
        let patience = if self.long { LONG_PATIENCE } else { PATIENCE };
        let status = ended_within(&mut child, patience).map_err(|error| error.to_string())?;
        let written = writer.join().unwrap_or_default();
        let [stdout, stderr] = [stdout, stderr].map(|reader| reader.join().unwrap_or_default());
        let run = Run { status: status.and_then(|status| status.code()), stdout, stderr };
        match (status, written) {
            // A tool that has ended before it has read everything shows in what it printed.
            (Some(_), Some(Err(error))) if error.kind() != ErrorKind::BrokenPipe => {
                Err(run.told(&format!("it does not take its input: {error}")))
            }
            (Some(_), _) => Ok(run),
            (None, _) => Err(run.told(&format!("it did not end within {} s", patience.as_secs()))),
        }
    }
}

/// Waits for its end, and ends it when that takes too long: then there is no status.
fn ended_within(child: &mut Child, patience: Duration) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(GLANCE);
    }
}

fn read_to_end(source: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    thread::spawn(move || source.map(all_of).unwrap_or_default())
}

/// All that comes from a source, and the error that ended it, if one did.
fn all_of(mut source: impl Read) -> String {
    let mut bytes = Vec::new();
    let read = source.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    match read {
        Ok(_) => text.into_owned(),
        Err(error) => format!("{text}\n(reading on failed: {error})\n"),
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Run {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Run { status: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

impl Run {
    /// Fails unless the run ended with `status`.
    pub fn ended_with(&self, status: i32) -> Outcome {
        if self.status == Some(status) {
            return Ok(());
        }
        Err(self.told(&format!("it should have ended with status {status}")))
    }

    /// Fails unless standard error has all of these.
    pub fn complained_of(&self, parts: &[&str]) -> Outcome {
        match parts.iter().find(|&&part| !self.stderr.contains(part)) {
            None => Ok(()),
            Some(part) => Err(self.told(&format!("standard error should have said {part:?}"))),
        }
    }

    /// Fails unless standard output is just this.
    pub fn printed(&self, text: &str) -> Outcome {
        if self.stdout == text {
            return Ok(());
        }
        Err(self.told(&format!("standard output should have been {text:?}")))
    }

    /// A complaint, with all that the run showed.
    pub fn told(&self, complaint: &str) -> String {
        format!(
            "{complaint}\nstatus: {:?}\n-- standard output --\n{}\n-- standard error --\n{}",
            self.status,
            self.stdout.trim_end(),
            self.stderr.trim_end()
        )
    }
}

/// Runs a command, giving each line of its output as it comes; then its status and standard error.
pub fn follow(command: &mut Command, mut line: impl FnMut(&str)) -> Result<(ExitStatus, String), String> {
    let mut child: Child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start {command:?}: {error}"))?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err("no output to read".to_owned());
    };
    let complaints = thread::spawn(move || all_of(stderr));
    for bytes in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
        line(&String::from_utf8_lossy(&bytes));
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    Ok((status, complaints.join().unwrap_or_default()))
}
