//! Consoles: the operator's terminal, the channel to the host's tool, the port that the log goes out by.
//!
//! They give orders to the system and show what happens there; the system knows none of them.

extern crate alloc;

use alloc::collections::VecDeque;

use abi::CPtr;
use proto::component::Stream;
use proto::host::{HOST_BY_PORT, HOST_PORT, LOG_PORT, ToHost};

use crate::log;
use crate::manifest::INIT;
use crate::registry::records::Crash;
use crate::registry::{Console, Ending};
use crate::supervision::life::Why;
use crate::system::{Ended, Notice, RunError, System};

pub mod carrier;
pub mod frames;
pub mod host;
pub mod line;
pub mod log_port;
pub mod operator;
pub mod port;
pub mod serial;
pub mod uart;

use crate::registry::crash::Record;
use carrier::{Allowance, Carrier};
use frames::{Channel, Way};
use log_port::LogPort;
use operator::Terminal;
use port::Port;
use proto::control::Cause;
use serial::{COM1, COM2, Serial};

/// Bytes of input that wait for a program before the line is left alone.
pub const INPUT_LIMIT: usize = 64 * 1024;
/// The consoles.
pub struct Consoles {
    /// The channel to the host's tool.
    host: Option<Channel<Way>>,
    /// The port that the log goes out by.
    log_port: Option<LogPort<Port>>,
    /// The operator's terminal.
    terminal: Option<Terminal>,
    /// More has come in than an [`Allowance`] lets be taken at a time.
    has_more: bool,
}

impl Consoles {
    /// Opens the consoles that the machine and the manifest have. `notification` is init's own bell.
    pub fn open(system: &System, notification: CPtr) -> Consoles {
        let mut consoles = Consoles { host: None, log_port: None, terminal: None, has_more: false };
        consoles.open_host(system, notification);
        if !system.machine().asked_for("channel=only") {
            match Serial::open(COM1, notification) {
                Ok(serial) => consoles.terminal = Some(Terminal::new(serial)),
                Err(error) => log!("init: no operator's terminal: COM1: {error}"),
            }
        }
        consoles
    }

    fn open_host(&mut self, system: &System, notification: CPtr) {
        if system.machine().asked_for(HOST_BY_PORT) {
            self.log_port = open_port(system, LOG_PORT).map(LogPort::new);
            self.host = open_port(system, HOST_PORT).map(Channel::over_port);
        }
        if self.host.is_some() {
            return log!("init: speaks with the host over {HOST_PORT}");
        }
        match Serial::open(COM2, notification) {
            Ok(serial) => self.host = Some(Channel::over_serial(serial)),
            Err(error) => log!("init: no channel to the host: COM2: {error}"),
        }
    }

    /// Returns when to call [`Self::turn`] at the latest, in TSC ticks.
    pub fn due(&self) -> Option<u64> {
        if self.has_more {
            return Some(0);
        }
        let log = self.log_port.as_ref().and_then(LogPort::deadline);
        let host = self.host.as_ref().and_then(Channel::deadline);
        log.into_iter().chain(host).min()
    }

    /// A port's driver has something or begins another life, a port's timer is due, or more has come in than was taken.
    pub fn turn(&mut self, system: &mut System) {
        if core::mem::take(&mut self.has_more) {
            self.take_keys(system);
            self.take_commands(system);
        }
        if let Some(log) = &mut self.log_port {
            log.turn(|from| system.machine().log_from(from));
        }
        if let Some(port) = self.host.as_mut().and_then(Channel::port) {
            port.turn();
            self.take_commands(system);
            system.registry_mut().wake_writers(Console::Host);
        }
        let accused = [
            self.log_port.as_mut().and_then(LogPort::accused),
            self.host.as_mut().and_then(Channel::port).and_then(Port::accused),
        ];
        // Both ports have the same driver, which has one death to die.
        if let Some(place) = accused.into_iter().flatten().next() {
            system.corrupt(place, "init reports its rings");
        }
    }

    /// Returns true if a console keeps up with what is printed there.
    pub fn has_room(&self, console: Console) -> bool {
        match console {
            Console::Host => self.host.as_ref().is_none_or(Channel::has_room),
            Console::Operator => {
                self.terminal.as_ref().is_none_or(|terminal| terminal.serial.uart.has_room())
            }
            Console::Log => true,
        }
    }

    /// Shows what a component prints; the log is not shown here.
    pub fn show(&mut self, console: Console, stream: Stream, text: &[u8]) {
        match console {
            Console::Host => self.tell_host(&match stream {
                Stream::Output => ToHost::Stdout(text),
                Stream::Error => ToHost::Stderr(text),
            }),
            Console::Operator => {
                if let Some(terminal) = &mut self.terminal {
                    terminal.show(text);
                }
            }
            Console::Log => {}
        }
    }

    fn tell_host(&mut self, message: &ToHost) {
        if let Some(host) = &mut self.host {
            host.tell(message);
        }
    }

    /// Shows what has happened in the system.
    pub fn notice(&mut self, system: &mut System, notice: Notice) {
        match notice {
            Notice::Ended(ended) => self.ended(system, *ended),
            Notice::NotStarted { name, console: Some(Console::Host), error, .. } => {
                self.tell_host_not_started(name, &error);
            }
            Notice::NotStarted { number, name, console, error } => {
                log!("init: {name} is not started: {error}");
                if console == Some(Console::Operator) {
                    self.typed_ahead(number, VecDeque::new());
                    self.operators_program_ended(number, name, "is not started", false);
                }
            }
        }
    }

    fn ended(&mut self, system: &mut System, ended: Ended) {
        let Ended { number, name, place, console, when, why, ending, restarts, mut printed, unread } = ended;
        printed.flush(name);
        let (status, how, by_itself) = (ending.status(), alloc::format!("{ending}"), ending.is_own());
        let record = match ending {
            Ending::Crashed(record) => Some(*record),
            Ending::Exited(_) if restarts => Some(Record::of_ended(Cause::Ended)),
            Ending::Exited(_) | Ending::Killed => None,
        };
        if let Some(record) = record {
            let crash = Crash { name, place, when, record, log: printed.tail };
            self.report(&crash, why);
            system.remember(crash);
        }
        match console {
            Some(Console::Host) => {
                self.tell_host(&ToHost::Exited { status });
                // What it has not read is in the way of the next command.
                self.host_may_send(system);
            }
            Some(Console::Operator) => {
                self.typed_ahead(number, unread);
                self.operators_program_ended(number, name, &how, by_itself && status == 0);
            }
            // Whoever has it killed knows of it, and may do so often.
            Some(Console::Log) if why != Why::Ordered || !restarts => log!("init: {name} {how}"),
            Some(Console::Log) | None => {}
        }
    }

    /// Tells of a crash, if the operator had not ordered it, in the log and to the host.
    fn report(&mut self, crash: &Crash, why: Why) {
        if why != Why::Ordered {
            crash.record.log(crash.name);
            self.tell_host(&ToHost::Crash(crash.record.for_host(crash.name)));
        }
    }

    fn tell_host_not_started(&mut self, name: &str, error: &RunError) {
        self.tell_host(&ToHost::Stderr(alloc::format!("skink: {name}: {error}\n").as_bytes()));
        self.tell_host(&ToHost::Exited { status: crate::system::STATUS_NOT_STARTED });
    }
}

/// Opens init's end of the channel called `name`, if the manifest gives it one.
fn open_port(system: &System, name: &str) -> Option<Port> {
    let place = system.manifest().place(INIT)?;
    let end = system.durable().ends(place).find(|end| end.wire.name == name)?;
    match Port::open(system.machine(), &end, system.durable().life_word(end.peer)) {
        Ok(port) => Some(port),
        Err(error) => {
            log!("init: {name} cannot be used: {error}");
            None
        }
    }
}
