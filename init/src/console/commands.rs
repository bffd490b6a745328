//! What the host's tool asks of init, over [`crate::console::channel`]: to run programs, to pass them input, to end.

extern crate alloc;

use abi::CPtr;
use abi::boot::slots;
use ipc::System;
use proto::control::Cause;
use proto::host::{EXIT_SHUTDOWN, ToHost};

use crate::console::channel::{Channel, Command};
use crate::console::log_port::LogPort;
use crate::console::port::Port;
use crate::log;
use crate::supervisor::{Console, INPUT_LIMIT, RunError, Supervisor};

/// The exit status reported of a program that could not be started: as a shell has it.
const STATUS_NOT_STARTED: u8 = 126;

impl Supervisor {
    /// Adds to a component's input; `None` ends it.
    pub fn input(&mut self, console: Console, foreground: Option<u32>, text: Option<&[u8]>) {
        let wanted =
            (1..).zip(&mut self.components).filter_map(|(number, each)| Some((number, each.as_mut()?)));
        let mut wanted = wanted.filter(|(number, each)| {
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
    pub fn host_may_send(&mut self) {
        if let Some(host) = &mut self.host {
            host.listen(true);
        }
        // Where no interrupt tells of what waits, it is looked at here; a serial line tells of it itself.
        if self.host.as_mut().and_then(Channel::port).is_some() {
            self.take_commands();
        }
    }

    /// The serial line to the host's tool has interrupted.
    pub fn host_interrupted(&mut self) {
        let Some(serial) = self.host.as_mut().and_then(Channel::serial) else { return };
        serial.uart.interrupt();
        self.take_commands();
        let Some(serial) = self.host.as_mut().and_then(Channel::serial) else { return };
        if let Err(error) = serial.let_through() {
            log!("init: COM2's interrupt stays off: {}", error.name());
        }
        // What came between the last look and here made no edge that anyone saw.
        serial.uart.interrupt();
        self.take_commands();
        self.wake_writers(Console::Host);
    }

    /// A port's driver has something, or begins another life, or a port's timer is due.
    pub fn turn_ports(&mut self) {
        if let Some(log) = &mut self.log_port {
            log.turn(&self.machine);
        }
        if let Some(port) = self.host.as_mut().and_then(Channel::port) {
            port.turn();
            self.take_commands();
            self.wake_writers(Console::Host);
        }
        let accused = [
            self.log_port.as_mut().and_then(LogPort::accused),
            self.host.as_mut().and_then(Channel::port).and_then(Port::accused),
        ];
        // Both ports have the same driver, which has one death to die.
        if let Some(place) = accused.into_iter().flatten().next() {
            self.end_halted(place, Cause::Corrupt, "init reports its rings");
        }
    }

    /// When to look at the ports at the latest.
    pub fn ports_due(&self) -> Option<u64> {
        let log = self.log_port.as_ref().and_then(LogPort::deadline);
        let host = self.host.as_ref().and_then(Channel::deadline);
        log.into_iter().chain(host).min()
    }

    fn take_commands(&mut self) {
        while let Some(command) = self.host.as_mut().and_then(Channel::take) {
            match command {
                Command::Exec(arguments) => self.exec(&arguments),
                Command::Stdin(text) => self.input(Console::Host, None, Some(&text)),
                Command::StdinEnd => self.input(Console::Host, None, None),
                Command::Shutdown => self.shut_down(),
            }
        }
    }

    fn exec(&mut self, arguments: &str) {
        let started = self.run(arguments, Console::Host);
        let (Err(error), Some(host)) = (started, &mut self.host) else { return };
        if error == RunError::NoSuchProgram {
            return host.tell(&ToHost::NoSuchCommand);
        }
        let name = arguments.split('\0').next().unwrap_or_default();
        self.tell_host_not_started(name, &alloc::format!("{error}"));
    }

    /// Tells the host's tool that what it wanted to run is not started.
    pub fn tell_host_not_started(&mut self, name: &str, why: &str) {
        let Some(host) = &mut self.host else { return };
        host.tell(&ToHost::Stderr(alloc::format!("skink: {name}: {why}\n").as_bytes()));
        host.tell(&ToHost::Exited { status: STATUS_NOT_STARTED });
    }

    /// Tells components that were told "not now" by the line of `console` to ask again.
    pub fn wake_writers(&mut self, console: Console) {
        for component in self.components.iter_mut().flatten().filter(|each| each.console == console) {
            component.wake();
        }
    }

    /// Ends the machine.
    pub fn shut_down(&mut self) {
        if let Err(error) = System(CPtr(slots::SYSTEM)).shutdown(u64::from(EXIT_SHUTDOWN)) {
            log!("init: the machine does not go down: {}", error.name());
        }
    }
}
