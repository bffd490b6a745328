//! `run`: boot with the guest's console on this terminal.

use std::time::Instant;

use anyhow::Result;
use proto::host::EXIT_SHUTDOWN;

use crate::cleanup::CtrlC;
use crate::cli::{self, RunOptions};
use crate::exec::after_the_end;
use crate::guest::Guest;
use crate::machine::Machine;
use crate::qemu::Console;
use crate::report;
use crate::session::Event;
use crate::terminal::Terminal;

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
