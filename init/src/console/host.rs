//! What the host's tool asks of init, over [`crate::console::frames`]: to run programs, to pass them input, to end.

use proto::host::ToHost;

use super::frames::{Channel, Command};
use super::{Allowance, Consoles, INPUT_LIMIT};
use crate::log;
use crate::registry::Console;
use crate::system::{RunError, System};

impl Consoles {
    /// Adds to a component's input; `None` ends it.
    pub(super) fn input(
        &mut self,
        system: &mut System,
        console: Console,
        foreground: Option<u32>,
        text: Option<&[u8]>,
    ) {
        let mut wanted = system.registry_mut().iter_mut().filter(|(number, each)| {
            each.console == console && foreground.is_none_or(|only| only == *number)
        });
        let Some((_, component)) = wanted.next() else { return };
        match text {
            Some(text) if component.input.try_reserve(text.len()).is_ok() => component.input.extend(text),
            Some(_) => log!("init: no memory for the input of {}", component.name),
            None => component.input_ended = true,
        }
        let full = component.input.len() >= INPUT_LIMIT;
        component.wake();
        if let (Console::Host, true, Some(host)) = (console, full, &mut self.host) {
            host.listen(false);
        }
    }

    /// There is room for more of the host's input.
    pub fn host_may_send(&mut self, system: &mut System) {
        if let Some(host) = &mut self.host {
            host.listen(true);
        }
        // Where no interrupt tells of what waits, it is looked at here; a serial line tells of it itself.
        if self.host.as_mut().and_then(Channel::port).is_some() {
            self.take_commands(system);
        }
    }

    /// The serial line to the host's tool has interrupted.
    pub fn host_interrupted(&mut self, system: &mut System) {
        let Some(serial) = self.host.as_mut().and_then(Channel::serial) else { return };
        serial.uart.interrupt();
        self.take_commands(system);
        let Some(serial) = self.host.as_mut().and_then(Channel::serial) else { return };
        if let Err(error) = serial.let_through() {
            log!("init: COM2's interrupt stays off: {}", error.name());
        }
        // What came between the last look and here made no edge that anyone saw.
        serial.uart.interrupt();
        self.take_commands(system);
        system.registry_mut().wake_writers(Console::Host);
    }

    pub(super) fn take_commands(&mut self, system: &mut System) {
        let mut allowance = Allowance::new();
        while let Some(command) = self.host.as_mut().and_then(|host| host.take(&mut allowance)) {
            match command {
                Command::Exec(arguments) => self.exec(system, &arguments),
                Command::Stdin(text) => self.input(system, Console::Host, None, Some(&text)),
                Command::StdinEnd => self.input(system, Console::Host, None, None),
                Command::Shutdown => system.machine().shut_down(),
            }
        }
        self.has_more |= allowance.is_used_up();
    }

    fn exec(&mut self, system: &mut System, arguments: &str) {
        match system.run(arguments, Console::Host, None) {
            Ok(_) => {}
            Err(RunError::NoSuchProgram) => self.tell_host(&ToHost::NoSuchCommand),
            Err(error) => {
                let name = arguments.split('\0').next().unwrap_or_default();
                self.tell_host_not_started(name, &error);
            }
        }
    }
}
