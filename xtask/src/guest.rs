//! A guest made ready: its programs built, its boot archive written, a place for its sockets.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::cleanup::{Cleanup, CtrlC};
use crate::cli::GuestOptions;
use crate::machine::Machine;
use crate::programs::Programs;
use crate::qemu::{Boot, Console};
use crate::session::Session;
use crate::short_path::ShortPath;
use crate::symbols::Symbols;
use crate::{archive, hosttools, programs};

/// Everything a boot needs but the machine.
pub struct Guest {
    /// What was built.
    pub programs: Programs,
    archive: PathBuf,
    folder: ShortPath,
    log: Option<PathBuf>,
    cleanup: Arc<Cleanup>,
    /// Removed with all that is in it when this is dropped.
    _scratch: TempDir,
}

impl Guest {
    /// Sees to QEMU, builds the programs, makes the boot archive.
    pub fn ready(options: &GuestOptions, ctrl_c: CtrlC) -> Result<Self> {
        hosttools::ensure(hosttools::QEMU)?;
        let programs = programs::build()?;
        let scratch =
            tempfile::Builder::new().prefix("skink-").tempdir().context("cannot make a temporary folder")?;
        let cleanup = Cleanup::on_signals(scratch.path().to_owned(), ctrl_c)?;
        let folder = ShortPath::to(scratch.path())?;
        let archive = archive::make(&programs, options, folder.path())?;
        Ok(Guest { programs, archive, folder, log: options.log.clone(), cleanup, _scratch: scratch })
    }

    /// Boots it.
    pub fn start(&self, machine: &Machine, console: Console, extra: &[String]) -> Result<Session> {
        let (kernel, archive) = (&self.programs.kernel, &self.archive);
        let boot = Boot { machine, kernel, archive, console, extra, cleanup: &self.cleanup };
        let create = |path: &PathBuf| {
            File::create(path).with_context(|| format!("cannot write the log to {}", path.display()))
        };
        Session::start(&boot, self.folder.path(), self.log.as_ref().map(create).transpose()?)
    }

    /// A file in the folder that lasts as long as this.
    pub fn scratch_file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The symbols of its programs.
    pub fn symbols(&self) -> Symbols<'_> {
        Symbols::new(&self.programs)
    }
}
