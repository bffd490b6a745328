//! What is put right when a signal ends the tool: QEMU ends first, then the terminal gets its settings back and the
//! temporary folder goes.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::terminal::Terminal;

/// What Ctrl-C does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CtrlC {
    /// It ends the tool, and the guest with it.
    Ends,
    /// It is for a program that the tool attends to.
    IsForAnother,
}

/// How long QEMU may take to end when it is asked to, before it is killed.
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// What a signal that ends the tool leaves to be done.
pub struct Cleanup {
    folder: PathBuf,
    terminal: Terminal,
    qemu: Mutex<Option<OwnedFd>>,
    begun: AtomicBool,
}

impl Cleanup {
    /// Listens for signals that end the tool. `folder` is removed when one comes.
    pub fn on_signals(folder: PathBuf, ctrl_c: CtrlC) -> Result<Arc<Self>> {
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).context("cannot listen for signals")?;
        let cleanup = Arc::new(Cleanup {
            folder,
            terminal: Terminal::kept(),
            qemu: Mutex::new(None),
            begun: AtomicBool::new(false),
        });
        let for_signals = Arc::clone(&cleanup);
        thread::spawn(move || {
            let ending = |signal: &i32| *signal != SIGINT || ctrl_c == CtrlC::Ends;
            if let Some(signal) = signals.forever().find(ending) {
                for_signals.all();
                std::process::exit(128 + signal);
            }
        });
        Ok(cleanup)
    }

    /// Notes the QEMU that is to end before the rest is done.
    pub fn qemu_runs(&self, id: u32) {
        // A kernel without pidfds (before Linux 5.3) has only the signal that QEMU gets when the tool is gone.
        let process = i32::try_from(id).ok().and_then(Pid::from_raw);
        let handle = process.and_then(|process| pidfd_open(process, PidfdFlags::empty()).ok());
        *self.qemu.lock().unwrap_or_else(PoisonError::into_inner) = handle;
    }

    /// Does not return if a signal is ending the tool: a guest that is gone for that reason is not to be reported.
    pub fn give_way(&self) {
        while self.begun.load(Ordering::Acquire) {
            thread::park();
        }
    }

    fn all(&self) {
        self.begun.store(true, Ordering::Release);
        if let Some(qemu) = &*self.qemu.lock().unwrap_or_else(PoisonError::into_inner) {
            end(qemu);
        }
        self.terminal.restore();
        // What cannot be removed is left to whoever cleans temporary folders.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Asks a process to end, and kills it if it does not. Returns when it has ended.
fn end(process: &OwnedFd) {
    for (signal, patience) in [(Signal::TERM, Some(&PATIENCE)), (Signal::KILL, None)] {
        // A process that has ended already takes no signal, and is seen to have ended.
        let _ = pidfd_send_signal(process, signal);
        if poll(&mut [PollFd::new(process, PollFlags::IN)], patience) != Ok(0) {
            return;
        }
    }
}
