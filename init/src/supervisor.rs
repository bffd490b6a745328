//! What init does all day: serves what its components ask, hears their faults, starts and ends them.

extern crate alloc;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use abi::boot::slots;
use abi::{CPtr, Kind};
use ipc::serve::Serve;
use ipc::{Message, Received, Tcb};
use proto::control::{Cause, recovery};
use proto::host::{HOST_BY_PORT, HOST_PORT, LOG_PORT, ToHost};
use proto::life::bell;
use rt::alloc::AllocError;
use rt::{clock, memory};

use crate::build::component::{BuildError, Code, FAULT_BADGE, Order, Parts};
use crate::build::durable::Durable;
use crate::build::elf::Program;
use crate::build::image::Images;
use crate::console::channel::Channel;
use crate::console::log_port::LogPort;
use crate::console::operator::Terminal;
use crate::console::port::Port;
use crate::console::serial::{COM1, COM2, Serial};
use crate::log;
use crate::machine::Machine;
use crate::manifest::{BUILT_IN, Entry, INIT, Manifest, Restart, Start};
use crate::registry::crash::Record;
use crate::registry::records::{Crash, Crashes, Tail};
use crate::requests::Asked;
use crate::supervision::devices::{self, Devices};
use crate::supervision::restart::{Fate, Why};

/// Components at a time that are not supervised.
pub const MAX_COMPONENTS: usize = 64;
/// Bytes of input that wait for a program before the line is left alone.
pub const INPUT_LIMIT: usize = 64 * 1024;
/// The bits of init's own bell that channels have.
const CHANNELS: u64 = (1 << bell::IRQ) - 1;
/// The exit status reported of a program that crashed: as a shell has it for one that aborted.
pub const STATUS_CRASHED: u8 = 134;

/// Where a component's output goes, and its input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// The host's tool.
    Host,
    /// The operator's terminal, in the foreground or not.
    Operator,
    /// The log; there is no input.
    Log,
}

/// A running component.
#[derive(Debug)]
pub struct Component {
    /// Its name.
    pub name: &'static str,
    /// What it consists of.
    pub parts: Parts,
    /// Where it prints and reads.
    pub console: Console,
    /// Its place in the manifest.
    pub place: usize,
    /// What the manifest gives it.
    pub entry: &'static Entry<'static>,
    /// The component that started it, which is told of its end; none: whoever `console` stands for.
    pub parent: Option<u32>,
    /// The ends of components that it started and has not asked about yet.
    pub ended: Vec<(u32, u8, bool)>,
    /// What it has not read yet.
    pub input: VecDeque<u8>,
    /// No more will come.
    pub input_ended: bool,
    /// It was told "not now".
    pub waits: bool,
    /// A line for the log that is not complete.
    line: heapless::Vec<u8, 200>,
    /// What it has printed last, wherever that went.
    pub tail: Tail,
}

/// How a component ended.
pub enum Ending {
    /// By itself, with this status.
    Exited(u8),
    /// By a fault, or because init found that it must.
    Crashed(Box<Record>),
    /// By the operator.
    Killed,
}

/// Why a program was not started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunError {
    /// The boot archive has none of that name.
    NoSuchProgram,
    /// The manifest has neither a component of that name nor one for any program.
    NotInManifest,
    /// Too many components run.
    TooMany,
    /// It runs already, and serves or keeps something that there is only once.
    Runs,
    /// init starts it by itself, and again.
    Restarts,
    /// It could not be built.
    Build(BuildError),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            RunError::NoSuchProgram => f.write_str("no such program; `ls` lists them"),
            RunError::NotInManifest => f.write_str("the manifest does not provide for it"),
            RunError::TooMany => f.write_str("too many components run"),
            RunError::Runs => f.write_str("it runs already"),
            RunError::Restarts => f.write_str("init itself starts it; `svc restart NAME` does so by hand"),
            RunError::Build(error) => error.fmt(f),
        }
    }
}

/// init's state.
pub struct Supervisor {
    /// The machine.
    pub machine: Machine,
    /// The manifest in force.
    pub manifest: &'static Manifest<'static>,
    /// As it was read.
    pub manifest_text: &'static str,
    /// What outlives components.
    pub durable: Durable,
    /// Devices and their drivers.
    pub devices: Devices,
    /// How the manifest's components fare, by place.
    pub fates: Vec<Fate>,
    /// The last crashes.
    pub crashes: Crashes,
    /// Who is told of the end of lives: component, and the right to signal its bell.
    pub watchers: Vec<(u32, CPtr)>,
    endpoint: CPtr,
    images: Images,
    /// The running components: the supervised ones at their places in the manifest, behind those all others. A
    /// component's number is one more than where it is, so that of a supervised one is the same in each life.
    pub components: Vec<Option<Component>>,
    /// The channel to the host's tool.
    pub host: Option<Channel>,
    /// The port that the log goes out by.
    pub log_port: Option<LogPort>,
    /// The operator's terminal.
    pub terminal: Option<Terminal>,
}

impl Supervisor {
    /// Sets everything up: the manifest, the serial lines, the components that start at boot.
    pub fn new(machine: Machine) -> Result<Supervisor, AllocError> {
        let endpoint = memory::make(Kind::Endpoint, 0)?;
        let notification = memory::make(Kind::Notification, 0)?;
        Tcb(CPtr(slots::TCB)).bind_notification(notification)?;
        let manifest_text = manifest_text(&machine);
        let manifest: &'static Manifest = Box::leak(Box::new(read_manifest(manifest_text)));
        let entries = manifest.components.len();
        let devices = Devices::make(&machine, manifest, notification)?;
        let mut supervisor = Supervisor {
            machine,
            manifest,
            manifest_text,
            durable: Durable::make(manifest, notification)?,
            devices,
            fates: manifest.components.iter().map(|entry| Fate::new(entry.is_supervised())).collect(),
            crashes: Crashes::new(),
            watchers: Vec::new(),
            endpoint,
            images: Images::default(),
            components: (0..entries + MAX_COMPONENTS).map(|_| None).collect(),
            host: None,
            log_port: None,
            terminal: None,
        };
        supervisor.open_host(notification);
        if !supervisor.machine.asked_for("channel=only") {
            match Serial::open(COM1, notification) {
                Ok(serial) => supervisor.terminal = Some(Terminal::new(serial)),
                Err(error) => log!("init: no operator's terminal: COM1: {error}"),
            }
        }
        supervisor.start_components();
        supervisor.greet();
        Ok(supervisor)
    }

    /// Opens the channel to the host's tool, and the port for the log, as the machine and the manifest have it.
    fn open_host(&mut self, notification: CPtr) {
        if self.machine.asked_for(HOST_BY_PORT) {
            self.log_port = self.open_port(LOG_PORT).map(LogPort::new);
            self.host = self.open_port(HOST_PORT).map(Channel::over_port);
        }
        if self.host.is_some() {
            return log!("init: speaks with the host over {HOST_PORT}");
        }
        match Serial::open(COM2, notification) {
            Ok(serial) => self.host = Some(Channel::over_serial(serial)),
            Err(error) => log!("init: no channel to the host: COM2: {error}"),
        }
    }

    /// init's end of the channel called `name`, if the manifest gives it one.
    fn open_port(&self, name: &str) -> Option<Port> {
        let end = self.durable.ends(self.manifest.place(INIT)?).find(|end| end.wire.name == name)?;
        match Port::open(&self.machine, &end, self.durable.life_word(end.peer)) {
            Ok(port) => Some(port),
            Err(error) => {
                log!("init: {name} cannot be used: {error}");
                None
            }
        }
    }

    /// The Endpoint to serve.
    pub fn endpoint(&self) -> CPtr {
        self.endpoint
    }

    fn start_components(&mut self) {
        let manifest = self.manifest;
        for (place, entry) in manifest.components.iter().enumerate() {
            if entry.start == Start::Boot
                && let Err(error) = self.start(place, entry.name, "", Console::Log)
            {
                log!("init: {} is not started: {error}", entry.name);
            }
        }
    }

    /// Starts the program that `arguments` (each ended by NUL) name.
    pub fn run(&mut self, arguments: &str, console: Console) -> Result<u32, RunError> {
        let wanted = arguments.split('\0').next().unwrap_or_default();
        let manifest = self.manifest;
        let name = match manifest.find(wanted) {
            Some(entry) if entry.restart == Restart::Always => return Err(RunError::Restarts),
            Some(entry) if self.program(entry.program).is_some() => Some(entry.name),
            _ => self.machine.archive.programs().find(|name| *name == wanted),
        };
        let name = name.ok_or(RunError::NoSuchProgram)?;
        let place = manifest.for_program(name).ok_or(RunError::NotInManifest)?;
        self.start(place, name, arguments, console)
    }

    fn program(&self, name: &str) -> Option<&'static [u8]> {
        self.machine.archive.file(&alloc::format!("bin/{name}"))
    }

    /// Starts a component as the manifest has it at `place`, called `name`.
    pub fn start(
        &mut self,
        place: usize,
        name: &'static str,
        arguments: &str,
        console: Console,
    ) -> Result<u32, RunError> {
        let entry = &self.manifest.components[place];
        if entry.name == INIT {
            return Err(RunError::Runs);
        }
        let at = self.free_place(place, entry)?;
        let number = at as u32 + 1;
        if self.waits_for_device(place, name, arguments, console) {
            return Ok(number);
        }
        let life = self.begin_life(place);
        let order = Order {
            entry,
            name,
            code: self.code(entry, name)?,
            arguments,
            number,
            endpoint: self.endpoint,
            durable: &self.durable,
            devices: &self.devices,
            untyped: self.durable.untyped_of(entry.name).map_err(|error| RunError::Build(error.into()))?,
            place,
            life,
        };
        let parts = Parts::build(&self.machine, &order).map_err(RunError::Build)?;
        drop(order);
        self.components[at] = Some(Component {
            name,
            parts,
            console,
            place,
            entry,
            parent: None,
            ended: Vec::new(),
            input: VecDeque::new(),
            input_ended: console == Console::Log,
            waits: false,
            line: heapless::Vec::new(),
            tail: Tail::default(),
        });
        if entry.is_supervised() {
            self.has_begun(place);
        }
        Ok(number)
    }

    /// Where among the components a new one goes.
    fn free_place(&self, place: usize, entry: &'static Entry<'static>) -> Result<usize, RunError> {
        let only_once = entry.is_supervised() || entry.durable.is_some() || !entry.serves.is_empty();
        if only_once && self.components().any(|(_, each)| core::ptr::eq(each.entry, entry)) {
            return Err(RunError::Runs);
        }
        if entry.is_supervised() {
            return Ok(place);
        }
        let supervised = self.manifest.components.len();
        let free = self.components.iter().skip(supervised).position(Option::is_none);
        free.map(|at| supervised + at).ok_or(RunError::TooMany)
    }

    fn code(&mut self, entry: &'static Entry<'static>, name: &str) -> Result<Code<'static>, RunError> {
        let known = if entry.is_supervised() { self.images.known(entry.program) } else { None };
        if let Some(image) = known {
            return Ok(Code::Image(image));
        }
        let program = if entry.name == name { entry.program } else { name };
        let file = self.program(program).ok_or(RunError::NoSuchProgram)?;
        if entry.is_supervised() {
            return self.images.get(entry.program, file).map(Code::Image).map_err(RunError::Build);
        }
        let program = Program::parse(file).map_err(BuildError::Program);
        program.map(|program| Code::File(Box::new(program))).map_err(RunError::Build)
    }

    /// The running components, with their numbers.
    pub fn components(&self) -> impl Iterator<Item = (u32, &Component)> {
        (1..).zip(&self.components).filter_map(|(number, component)| Some((number, component.as_ref()?)))
    }

    /// The number of the component that runs as the manifest has it at `place`.
    pub fn running_at(&self, place: usize) -> Option<u32> {
        self.components().find(|(_, each)| each.place == place).map(|(number, _)| number)
    }

    /// The running component of this number.
    pub fn component(&mut self, number: u64) -> Option<&mut Component> {
        let place = usize::try_from(number).ok()?.checked_sub(1)?;
        self.components.get_mut(place)?.as_mut()
    }

    /// Ends a component: takes it apart, starts it again if that is its policy, and tells those who wait for its end.
    pub fn end(&mut self, number: u32, ending: Ending) {
        let when = clock::now();
        let Some(at) = (number as usize).checked_sub(1) else { return };
        let Some(component) = self.components.get_mut(at).and_then(Option::take) else { return };
        let Component { name, parts, console, line, tail, parent, entry, place, .. } = component;
        // It may run on another CPU, and must not meet its successor's life. It is there, so this is not refused.
        let _ = parts.tcb.suspend();
        self.forget_watcher(number);
        let supervised = entry.is_supervised();
        let why = self.why(place, &ending);
        if supervised {
            self.life_ends(place, why, when, &parts);
        }
        self.fence_driver(place, parts, why);
        // What is said of it takes longer than its next life's beginning, so it comes after that.
        if !line.is_empty() {
            log_line(name, &line);
        }
        let (how, status, by_itself) =
            (alloc::format!("{ending}"), ending.status(), matches!(ending, Ending::Exited(_)));
        match ending {
            Ending::Crashed(record) => {
                self.report(Crash { name, place, when, record: *record, log: tail }, why);
            }
            Ending::Exited(_) if entry.restart == Restart::Always => {
                let record = Record::of_ended(Cause::Ended);
                self.report(Crash { name, place, when, record, log: tail }, why);
            }
            _ => {}
        }
        self.orphan(number);
        if let Some(parent) = parent {
            return self.tell_parent(parent, (number, status, !by_itself));
        }
        match (console, &mut self.host) {
            (Console::Host, Some(host)) => {
                host.tell(&ToHost::Exited { status });
                // What it has not read is in the way of the next command.
                self.host_may_send();
            }
            (Console::Operator, _) => {
                self.operators_program_ended(number, name, &how, by_itself && status == 0)
            }
            // Who has it killed knows of it, and may do so often.
            _ if why != Why::Ordered || entry.restart == Restart::Never => log!("init: {name} {how}"),
            _ => {}
        }
    }

    /// Takes apart what was a component, and decides whether it begins again.
    pub fn bury(&mut self, place: usize, parts: Parts, why: Why) {
        let entry = &self.manifest.components[place];
        if let Err(error) = parts.take_apart() {
            log!("init: {} could not be taken apart: {error}", entry.name);
        }
        if entry.is_supervised() {
            self.fates[place].recoveries.note(recovery::REVOKED, clock::now());
            self.decide(place, why);
        }
    }

    /// Tells of a crash: to who asks later, and, if nobody had ordered it, in the log and to the host.
    fn report(&mut self, crash: Crash, why: Why) {
        if why != Why::Ordered {
            crash.record.log(crash.name);
            if let Some(host) = &mut self.host {
                host.tell(&ToHost::Crash(crash.record.for_host(crash.name)));
            }
        }
        self.crashes.add(crash);
    }

    fn tell_parent(&mut self, parent: u32, end: (u32, u8, bool)) {
        let Some(parent) = self.component(u64::from(parent)) else { return };
        // At most as many as there are components: each number once.
        parent.ended.retain(|(number, ..)| *number != end.0);
        parent.ended.push(end);
        parent.wake();
    }

    /// What a component started that is no more goes with it.
    fn orphan(&mut self, parent: u32) {
        let children = self.components().filter(|(_, each)| each.parent == Some(parent));
        for child in children.map(|(number, _)| number).collect::<Vec<_>>() {
            self.end(child, Ending::Killed);
        }
    }
}

impl Component {
    /// Tells it to ask again, if it was told "not now".
    pub fn wake(&mut self) {
        if core::mem::take(&mut self.waits) {
            // It was made with the component, and init may signal it.
            let _ = ipc::signal(self.parts.ready);
        }
    }

    /// Takes text for the log, which gets it line by line.
    pub fn log(&mut self, text: &[u8]) {
        for &byte in text {
            let ended = byte == b'\n';
            if !ended {
                // There is room: a full line is passed on below.
                let _ = self.line.push(byte);
            }
            if ended || self.line.is_full() {
                log_line(self.name, &self.line);
                self.line.clear();
            }
        }
    }
}

/// A component's line for the log, which goes to terminals: nothing in it controls those.
fn log_line(name: &str, line: &[u8]) {
    let line = String::from_utf8_lossy(line).replace(|c: char| c.is_control() && c != '\t', "?");
    log!("{name}: {line}");
}

fn manifest_text(machine: &Machine) -> &'static str {
    match machine.archive.file("manifest").map(core::str::from_utf8) {
        Some(Ok(text)) => text,
        Some(Err(_)) => panic!("the boot archive's manifest is not UTF-8"),
        None => BUILT_IN,
    }
}

fn read_manifest(text: &'static str) -> Manifest<'static> {
    Manifest::parse(text).unwrap_or_else(|complaint| panic!("the manifest: {complaint}"))
}

impl Ending {
    fn status(&self) -> u8 {
        match self {
            Ending::Exited(status) => *status,
            Ending::Crashed(_) | Ending::Killed => STATUS_CRASHED,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Ending::Exited(0) => f.write_str("ended"),
            Ending::Exited(status) => write!(f, "ended with status {status}"),
            Ending::Crashed(record) => write!(f, "crashed: {}", record.what),
            Ending::Killed => f.write_str("was killed"),
        }
    }
}

impl Serve for Supervisor {
    fn message(&mut self, received: &Received) -> Option<Message> {
        let number = received.badge & (FAULT_BADGE - 1);
        if received.badge & FAULT_BADGE == 0 {
            return self.handle(number, &Asked::taken(&received.message));
        }
        // Whoever sends here has faulted, or wants it to be believed: the end is the same.
        let words = received.message.words;
        if let Some(component) = self.component(number) {
            let record = Record::examine(&component.parts, &words);
            self.end(number as u32, Ending::Crashed(Box::new(record)));
        }
        None
    }

    fn notified(&mut self, bits: u64) {
        if bits >> devices::PCI_BIT & 1 == 1 {
            self.pci_has_written();
        }
        if bits >> devices::IOMMU_BIT & 1 == 1 {
            self.iommu_has_stopped_some();
        }
        if bits & COM2.badge() != 0 {
            self.host_interrupted();
        }
        if bits & (CHANNELS | 1 << bell::LIVES) != 0 {
            self.turn_ports();
        }
        if bits & COM1.badge() != 0 {
            self.operator_typed();
        }
    }

    fn deadline(&self) -> Option<u64> {
        let due = self.next_restart().into_iter().chain(self.next_heartbeat()).chain(self.ports_due());
        due.min()
    }

    fn expired(&mut self) {
        let now = clock::now();
        self.restart_those_due(now);
        self.ask_for_heartbeats(now);
        self.turn_ports();
    }
}
