//! A guest made ready: its programs built, its boot archive written, a place for its sockets.

use std::fs::File;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tempfile::TempDir;

use crate::cli::GuestOptions;
use crate::machine::Machine;
use crate::programs::Programs;
use crate::qemu::{Boot, Console};
use crate::session::Session;
use crate::symbols::Symbols;
use crate::{archive, hosttools, programs};

/// What Ctrl-C does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CtrlC {
    /// It ends the tool, and the guest with it.
    Ends,
    /// It is for a program that the tool attends to.
    IsForAnother,
}

/// Everything a boot needs but the machine.
pub struct Guest {
    /// What was built.
    pub programs: Programs,
    archive: PathBuf,
    scratch: TempDir,
    log: Option<PathBuf>,
}

impl Guest {
    /// Sees to QEMU, builds the programs, makes the boot archive.
    pub fn ready(options: &GuestOptions, ctrl_c: CtrlC) -> Result<Self> {
        hosttools::ensure(hosttools::QEMU)?;
        let programs = programs::build()?;
        let scratch =
            tempfile::Builder::new().prefix("skink-").tempdir().context("cannot make a temporary folder")?;
        clean_up_when_told_to_end(scratch.path().to_owned(), ctrl_c)?;
        let archive = archive::make(&programs, options, scratch.path())?;
        Ok(Guest { programs, archive, scratch, log: options.log.clone() })
    }

    /// Boots it.
    pub fn start(&self, machine: &Machine, console: Console, extra: &[String]) -> Result<Session> {
        let boot = Boot { machine, kernel: &self.programs.kernel, archive: &self.archive, console, extra };
        let create = |path: &PathBuf| {
            File::create(path).with_context(|| format!("cannot write the log to {}", path.display()))
        };
        Session::start(&boot, self.scratch.path(), self.log.as_ref().map(create).transpose()?)
    }

    /// A file in the folder that lasts as long as this.
    pub fn scratch_file(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The symbols of its programs.
    pub fn symbols(&self) -> Symbols<'_> {
        Symbols::new(&self.programs)
    }
}

/// Removes the folder when a signal ends the tool; QEMU, which ends with it, has no more use for it.
fn clean_up_when_told_to_end(folder: PathBuf, ctrl_c: CtrlC) -> Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).context("cannot listen for signals")?;
    thread::spawn(move || {
        let ending = |signal: &i32| *signal != SIGINT || ctrl_c == CtrlC::Ends;
        if let Some(signal) = signals.forever().find(ending) {
            // What cannot be removed is left to whoever cleans temporary folders.
            let _ = std::fs::remove_dir_all(folder);
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}
