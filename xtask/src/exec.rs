//! `exec`: boot headless, run one program, exit with its status.

use std::io::{IsTerminal, Write};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use proto::host::{EXIT_PANIC, VERSION};

use crate::cleanup::CtrlC;
use crate::cli::{self, ExecOptions, GuestOptions, Limit};
use crate::guest::Guest;
use crate::machine::Machine;
use crate::qemu::{Console, Ending};
use crate::report;
use crate::session::{BOOT_PATIENCE, Event, Session};
use crate::symbols::Component;

/// QEMU's status when it cannot do what its arguments ask for.
const QEMU_REFUSES: i32 = 1;

/// Where a program's output goes.
pub trait Output {
    /// Takes bytes of its standard output.
    fn stdout(&mut self, bytes: &[u8]) -> std::io::Result<()>;
    /// Takes bytes of its standard error.
    fn stderr(&mut self, bytes: &[u8]) -> std::io::Result<()>;
}

/// How a run came out.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The program ended with this status.
    Exited(u8),
    /// There is no such program.
    NoSuchCommand,
    /// The time was up.
    TimedOut,
    /// The kernel panicked; a report was printed.
    Panicked,
    /// The guest was lost otherwise; a report was printed.
    Lost,
}

impl Outcome {
    /// The status the tool exits with.
    pub fn status(&self) -> u8 {
        match self {
            Outcome::Exited(status) => *status,
            Outcome::NoSuchCommand => cli::STATUS_NO_SUCH_COMMAND,
            Outcome::TimedOut => cli::STATUS_TIMED_OUT,
            Outcome::Panicked => cli::STATUS_KERNEL_PANIC,
            Outcome::Lost => cli::STATUS_GUEST_LOST,
        }
    }
}

/// A program to run in a guest of its own.
pub struct Task<'a> {
    /// The machine and what it boots.
    pub options: &'a GuestOptions,
    /// How long it may run.
    pub limit: Limit,
    /// The program and its arguments.
    pub command: &'a [String],
    /// Whether the tool's standard input is the program's.
    pub stdin: bool,
    /// Whether the kernel log is printed as it comes.
    pub verbose: bool,
}

/// The command `exec`.
pub fn exec(options: &ExecOptions) -> Result<u8> {
    let task = Task {
        options: &options.guest,
        limit: options.limit,
        command: &options.command,
        stdin: true,
        verbose: options.verbose,
    };
    let machine = Machine::new(&options.guest, 1)?;
    Ok(run(&task, &machine, &mut PassThrough)?.status())
}

/// Builds, boots, and runs the task to its end. Reports of crashes go to stderr.
pub fn run(task: &Task, machine: &Machine, output: &mut dyn Output) -> Result<Outcome> {
    let guest = Guest::ready(task.options, CtrlC::Ends)?;
    let session = guest.start(machine, Console::Kept { echo: task.verbose }, &[])?;
    Run { task, guest: &guest, output }.follow(session)
}

struct Run<'a> {
    task: &'a Task<'a>,
    guest: &'a Guest,
    output: &'a mut dyn Output,
}

impl Run<'_> {
    fn follow(&mut self, session: Session) -> Result<Outcome> {
        let mut deadline = Some(Instant::now() + BOOT_PATIENCE);
        let mut up = false;
        loop {
            match session.next(deadline) {
                Some(Event::Hello(version)) if !up => {
                    if version != VERSION {
                        bail!("the guest speaks version {version} of the protocol, this tool {VERSION}");
                    }
                    up = true;
                    deadline = self.task.limit.timeout.map(|time| Instant::now() + time);
                    session.exec(self.task.command)?;
                    if self.task.stdin {
                        forward_stdin(&session);
                    }
                }
                Some(Event::Hello(_)) => bail!("the guest started anew in the middle of the run"),
                Some(Event::Stdout(bytes)) => {
                    self.output.stdout(&bytes).context("cannot write the program's output")?;
                }
                Some(Event::Stderr(bytes)) => {
                    self.output.stderr(&bytes).context("cannot write the program's output")?;
                }
                Some(Event::Exited(status)) => {
                    session.shut_down()?;
                    return Ok(Outcome::Exited(status));
                }
                Some(Event::NoSuchCommand) => {
                    session.shut_down()?;
                    self.tell_no_such_command();
                    return Ok(Outcome::NoSuchCommand);
                }
                Some(Event::Crash(crash)) => {
                    let log = session.log();
                    report::tell(&report::component_crash(&crash, &log, &mut self.guest.symbols()));
                }
                Some(Event::Garbled(bad)) => {
                    eprintln!(
                        "skink: a frame from the guest could not be read ({bad:?}); its content is lost"
                    );
                }
                Some(Event::Gone) => {
                    return after_the_end(&session.ended()?, self.guest);
                }
                None => return self.hung(session, up),
            }
        }
    }

    /// The time is up: says where the guest is, and ends it.
    fn hung(&self, mut session: Session, up: bool) -> Result<Outcome> {
        let program = &self.task.command[0];
        let (headline, outcome) = if up {
            let time = self.task.limit.timeout.unwrap_or_default();
            (format!("{program} did not end within {} s", time.as_secs_f64()), Outcome::TimedOut)
        } else {
            (format!("the guest did not come up within {} s", BOOT_PATIENCE.as_secs()), Outcome::Lost)
        };
        eprintln!("skink: {headline}");
        let stopped = session.stop();
        let ending = session.end()?;
        if report::panic_screen(&ending.log).is_some() {
            return after_the_end(&ending, self.guest);
        }
        match stopped {
            Ok(stopped) => report::tell(&report::hung(
                &stopped,
                Component(if up { program } else { "init" }),
                &ending.log,
                &mut self.guest.symbols(),
            )),
            Err(error) => eprintln!("skink: where it is cannot be told: {error:#}"),
        }
        Ok(outcome)
    }

    fn tell_no_such_command(&self) {
        let (command, names) = (&self.task.command[0], self.guest.programs.names());
        eprintln!("skink: {command}: no such command in the guest; there are: {names}");
    }
}

/// Says why a guest ended that nobody told to.
pub fn after_the_end(ending: &Ending, guest: &Guest) -> Result<Outcome> {
    let panicked = ending.status.code() == Some(i32::from(EXIT_PANIC) * 2 + 1);
    if panicked || report::panic_screen(&ending.log).is_some() {
        report::tell(&report::kernel_panic(&ending.log, &mut guest.symbols()));
        return Ok(Outcome::Panicked);
    }
    if ending.status.code() == Some(QEMU_REFUSES) && ending.log.is_empty() {
        bail!("QEMU does not start this machine: {}", ending.complaints.trim());
    }
    report::tell(&report::lost(ending));
    Ok(Outcome::Lost)
}

/// Passes standard input on, unless it is a terminal: the program then sees its end at once.
fn forward_stdin(session: &Session) {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        session.forward_stdin(std::io::empty());
    } else {
        session.forward_stdin(stdin);
    }
}

/// Output that goes where the tool's own goes.
struct PassThrough;

impl Output for PassThrough {
    fn stdout(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    }

    fn stderr(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        std::io::stderr().write_all(bytes)
    }
}
