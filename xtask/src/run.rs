//! `run`: boot with the guest's console on this terminal.

use std::io::IsTerminal;
use std::time::Instant;

use anyhow::Result;
use proto::host::EXIT_SHUTDOWN;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::cli::{self, RunOptions};
use crate::exec::after_the_end;
use crate::guest::{CtrlC, Guest};
use crate::machine::Machine;
use crate::qemu::Console;
use crate::report;
use crate::session::Event;

/// The command `run`.
pub fn run(options: &RunOptions) -> Result<u8> {
    let machine = Machine::new(&options.guest, 2)?;
    let guest = Guest::ready(&options.guest, CtrlC::Ends)?;
    eprintln!("skink: Ctrl-A X ends the guest, Ctrl-A C is QEMU's monitor");
    let _terminal = Terminal::kept();
    let session = guest.start(&machine, Console::Terminal, &[])?;
    let mut deadline = None;
    loop {
        match session.next(deadline) {
            Some(Event::Hello(_)) => deadline = options.limit.timeout.map(|time| Instant::now() + time),
            Some(Event::Crash(crash)) => {
                report::tell(&report::component_crash(&crash, &session.log(), &mut guest.symbols()));
            }
            Some(Event::Gone) => break,
            Some(_) => {}
            None => {
                session.end()?;
                return Ok(cli::STATUS_TIMED_OUT);
            }
        }
    }
    let ending = session.ended()?;
    match ending.status.code() {
        Some(0) if !ending.reset => Ok(0),
        Some(code) if code == i32::from(EXIT_SHUTDOWN) * 2 + 1 => Ok(0),
        _ => Ok(after_the_end(&ending, &guest)?.status()),
    }
}

/// The terminal's settings, put back when QEMU could not do so itself.
struct Terminal(Option<Termios>);

impl Terminal {
    fn kept() -> Self {
        let stdin = std::io::stdin();
        Terminal(if stdin.is_terminal() { tcgetattr(&stdin).ok() } else { None })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(settings) = &self.0 {
            // A terminal that is gone needs no settings.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, settings);
        }
    }
}
