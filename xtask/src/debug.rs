//! `debug`: boot stopped, with gdb attached.

use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::cleanup::CtrlC;
use crate::cli::GuestOptions;
use crate::guest::Guest;
use crate::machine::{Machine, quoted};
use crate::qemu::Console;
use crate::session::{Crash, Event, Session};
use crate::{hosttools, report};

/// How often to look whether gdb has ended.
const GLANCE: Duration = Duration::from_millis(100);

/// Options of `debug`.
#[derive(Debug, Args)]
pub struct DebugOptions {
    /// The machine and what it boots.
    #[command(flatten)]
    pub guest: GuestOptions,
    /// Load this program's symbols too (`init`, or the name of a program)
    #[arg(long, value_name = "NAME")]
    pub server: Option<String>,
    /// Further arguments for gdb
    #[arg(last = true, value_name = "GDB-ARGUMENT")]
    pub gdb: Vec<String>,
}

/// The command `debug`.
pub fn debug(options: &DebugOptions) -> Result<u8> {
    let machine = Machine::new(&options.guest, 1)?;
    hosttools::ensure(hosttools::GDB)?;
    // Ctrl-C is for gdb, which stops the guest with it; this tool stays to look after both.
    let guest = Guest::ready(&options.guest, CtrlC::IsForAnother)?;
    let socket = guest.scratch_file("gdb");
    let stopped = [
        "-S".to_owned(),
        "-chardev".to_owned(),
        format!("socket,id=gdb,path={},server=on,wait=off", quoted(&socket)),
        "-gdb".to_owned(),
        "chardev:gdb".to_owned(),
    ];
    let mut gdb = Command::new(hosttools::GDB.program);
    gdb.args(["-q", "-iex", "set confirm off"]).arg(&guest.programs.kernel);
    if let Some(name) = &options.server {
        let Some(program) = guest.programs.find(name) else {
            bail!("there is no program {name}; there are: init {}", guest.programs.names());
        };
        gdb.arg("-ex").arg(format!("add-symbol-file {}", program.display()));
    }
    gdb.arg("-ex").arg(format!("target remote {}", socket.display())).args(&options.gdb);
    let session = guest.start(&machine, Console::Kept { echo: true }, &stopped)?;
    eprintln!("skink: stopped before the first instruction: set breakpoints with hbreak, then continue");
    let status = attended(&mut gdb, &session, |log, crash| {
        report::tell(&report::component_crash(crash, log, &mut guest.symbols()));
    })?;
    session.end()?;
    if !status.success() {
        bail!("gdb failed ({status})");
    }
    Ok(0)
}

/// Runs gdb to its end, and tells of components that crash meanwhile.
fn attended(gdb: &mut Command, session: &Session, tell_crash: impl Fn(&str, &Crash)) -> Result<ExitStatus> {
    let mut gdb = gdb.spawn().context("cannot start gdb")?;
    let mut there = true;
    loop {
        if let Some(status) = gdb.try_wait().context("cannot wait for gdb")? {
            return Ok(status);
        }
        if !there {
            return gdb.wait().context("cannot wait for gdb");
        }
        match session.next(Some(Instant::now() + GLANCE)) {
            Some(Event::Crash(crash)) => tell_crash(&session.log(), &crash),
            Some(Event::Gone) => there = false,
            _ => {}
        }
    }
}
