//! The terminal's settings, which QEMU changes and a QEMU that dies does not put back.

use std::io::IsTerminal;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// The settings of the terminal on standard input, if there is one. Dropping it restores them.
pub struct Terminal(Option<Termios>);

impl Terminal {
    /// Keeps the settings as they are now.
    pub fn kept() -> Self {
        let stdin = std::io::stdin();
        Terminal(if stdin.is_terminal() { tcgetattr(&stdin).ok() } else { None })
    }

    /// Puts the settings back.
    pub fn restore(&self) {
        if let Some(settings) = &self.0 {
            // A terminal that is gone needs no settings.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, settings);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.restore();
    }
}
