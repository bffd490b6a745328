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
use ipc::{Message, Received, System, Tcb, Untyped, buffer, bytes};
use proto::component::{MAX_BYTES, OK, Refusal, Request, Stream};
use proto::host::{EXIT_SHUTDOWN, ToHost};
use rt::alloc::AllocError;
use rt::memory;

use crate::channel::{Channel, Command};
use crate::component::{BuildError, FAULT_BADGE, Order, Parts};
use crate::crash::Record;
use crate::log;
use crate::machine::{self, CNODE, Machine};
use crate::manifest::{BUILT_IN, Entry, Manifest, Right, Start};
use crate::operator::Terminal;
use crate::serial::{COM1, COM2, Serial};

/// Components at a time.
pub const MAX_COMPONENTS: usize = 64;
/// Bytes of input that wait for a program before the line is left alone.
const INPUT_LIMIT: usize = 64 * 1024;
/// The exit status reported of a program that crashed: as a shell has it for one that aborted.
pub const STATUS_CRASHED: u8 = 134;
/// The exit status reported of a program that could not be started: as a shell has it.
const STATUS_NOT_STARTED: u8 = 126;

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
    /// What the manifest gives it.
    entry: &'static Entry<'static>,
    /// The component that started it, which is told of its end; none: whoever `console` stands for.
    parent: Option<u32>,
    /// The ends of components that it started and has not asked about yet.
    ended: Vec<(u32, u8, bool)>,
    input: VecDeque<u8>,
    input_ended: bool,
    /// It was told "not now".
    waits: bool,
    /// A line for the log that is not complete.
    line: heapless::Vec<u8, 200>,
}

/// How a component ended.
pub enum Ending {
    /// By itself, with this status.
    Exited(u8),
    /// By a fault.
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
            RunError::Build(error) => error.fmt(f),
        }
    }
}

/// Durable memory of a component.
struct Durable {
    component: &'static str,
    /// The memory itself.
    root: CPtr,
    /// The Untyped made of it that the component has while it runs; here while it does not.
    kept: CPtr,
    bits: u32,
}

/// init's state.
pub struct Supervisor {
    /// The machine.
    pub machine: Machine,
    /// The manifest in force.
    pub manifest: &'static Manifest<'static>,
    endpoint: CPtr,
    served: Vec<(&'static str, CPtr)>,
    durable: Vec<Durable>,
    components: Vec<Option<Component>>,
    host: Option<Channel>,
    /// The operator's terminal.
    pub terminal: Option<Terminal>,
}

impl Supervisor {
    /// Sets everything up: the manifest, the serial lines, the components that start at boot.
    pub fn new(machine: Machine) -> Result<Supervisor, AllocError> {
        let endpoint = memory::make(Kind::Endpoint, 0)?;
        let notification = memory::make(Kind::Notification, 0)?;
        Tcb(CPtr(slots::TCB)).bind_notification(notification)?;
        let manifest: &'static Manifest = Box::leak(Box::new(read_manifest(&machine)));
        let mut supervisor = Supervisor {
            machine,
            manifest,
            endpoint,
            served: Vec::new(),
            durable: Vec::new(),
            components: (0..MAX_COMPONENTS).map(|_| None).collect(),
            host: None,
            terminal: None,
        };
        supervisor.make_durable()?;
        match Serial::open(COM2, notification) {
            Ok(serial) => supervisor.host = Some(Channel::new(serial)),
            Err(error) => log!("init: no channel to the host: COM2: {error}"),
        }
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

    /// The Endpoint to serve.
    pub fn endpoint(&self) -> CPtr {
        self.endpoint
    }

    /// Makes what outlives components: Endpoints and durable memory.
    fn make_durable(&mut self) -> Result<(), AllocError> {
        for entry in &self.manifest.components {
            for &name in &entry.serves {
                self.served.push((name, memory::make(Kind::Endpoint, 0)?));
            }
            if let Some(bits) = entry.durable {
                let [root, kept] =
                    memory::with(|objects| Ok([objects.take_memory(bits)?, objects.take_slot()?]))?;
                self.durable.push(Durable { component: entry.name, root, kept, bits });
            }
        }
        Ok(())
    }

    fn start_components(&mut self) {
        for entry in self.manifest.components.iter().filter(|entry| entry.start == Start::Boot) {
            if let Err(error) = self.start(entry, entry.name, entry.program, "", Console::Log) {
                log!("init: {} is not started: {error}", entry.name);
            }
        }
    }

    /// The durable Untyped of a component, ready to be given to it.
    fn durable_of(&self, component: &str) -> Result<Option<CPtr>, AllocError> {
        let Some(durable) = self.durable.iter().find(|durable| durable.component == component) else {
            return Ok(None);
        };
        if CNODE.describe(u64::from(durable.kept.0))?.kind == Kind::Null {
            // Never made yet, or the component's last life did not leave it where it was given it.
            CNODE.revoke(u64::from(durable.root.0))?;
            let bits = u64::from(durable.bits);
            Untyped(durable.root).retype(Kind::Untyped, bits, CNODE.0, u64::from(durable.kept.0), 1)?;
        }
        Ok(Some(durable.kept))
    }

    /// Starts the program that `arguments` (each ended by NUL) name.
    pub fn run(&mut self, arguments: &str, console: Console) -> Result<u32, RunError> {
        let wanted = arguments.split('\0').next().unwrap_or_default();
        let program = self.machine.archive.programs().find(|name| *name == wanted);
        let program = program.ok_or(RunError::NoSuchProgram)?;
        let entry = self.manifest.for_program(program).ok_or(RunError::NotInManifest)?;
        self.start(entry, program, program, arguments, console)
    }

    fn start(
        &mut self,
        entry: &'static Entry<'static>,
        name: &'static str,
        program: &str,
        arguments: &str,
        console: Console,
    ) -> Result<u32, RunError> {
        let file =
            self.machine.archive.file(&alloc::format!("bin/{program}")).ok_or(RunError::NoSuchProgram)?;
        let only_once = entry.durable.is_some() || !entry.serves.is_empty();
        if only_once && self.components().any(|(_, each)| each.entry.name == entry.name) {
            return Err(RunError::Runs);
        }
        let place = self.components.iter().position(Option::is_none).ok_or(RunError::TooMany)?;
        let number = place as u32 + 1;
        let durable = self.durable_of(entry.name).map_err(|error| RunError::Build(error.into()))?;
        let order = Order {
            entry,
            name,
            file,
            arguments,
            number,
            endpoint: self.endpoint,
            served: &self.served,
            durable,
        };
        let parts = Parts::build(&self.machine, &order).map_err(RunError::Build)?;
        self.components[place] = Some(Component {
            name,
            parts,
            console,
            entry,
            parent: None,
            ended: Vec::new(),
            input: VecDeque::new(),
            input_ended: console == Console::Log,
            waits: false,
            line: heapless::Vec::new(),
        });
        Ok(number)
    }

    /// The running components, with their numbers.
    pub fn components(&self) -> impl Iterator<Item = (u32, &Component)> {
        (1..).zip(&self.components).filter_map(|(number, component)| Some((number, component.as_ref()?)))
    }

    fn component(&mut self, number: u64) -> Option<&mut Component> {
        let place = usize::try_from(number).ok()?.checked_sub(1)?;
        self.components.get_mut(place)?.as_mut()
    }

    /// Ends a component: takes it apart and tells those who wait for its end.
    pub fn end(&mut self, number: u32, ending: &Ending) {
        let Some(place) = (number as usize).checked_sub(1).and_then(|at| self.components.get_mut(at)) else {
            return;
        };
        let Some(component) = place.take() else { return };
        let Component { name, parts, console, line, parent, .. } = component;
        if !line.is_empty() {
            log_line(name, &line);
        }
        if let Ending::Crashed(record) = ending {
            record.log(name);
            if let Some(host) = &mut self.host {
                host.tell(&ToHost::Crash(record.for_host(name)));
            }
        }
        if let Err(error) = parts.take_apart() {
            log!("init: {name} could not be taken apart: {error}");
        }
        self.orphan(number);
        if let Some(parent) = parent {
            return self.tell_parent(parent, (number, ending.status(), !matches!(ending, Ending::Exited(_))));
        }
        match (console, &mut self.host) {
            (Console::Host, Some(host)) => {
                host.tell(&ToHost::Exited { status: ending.status() });
                host.serial.uart.listen(true);
            }
            (Console::Operator, _) => self.operators_program_ended(number, name, ending),
            _ => log!("init: {name} {ending}"),
        }
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
            self.end(child, &Ending::Killed);
        }
    }

    fn handle(&mut self, number: u64, request: &Asked) -> Option<Message> {
        match request.what {
            Some(Request::Write) => Some(self.write(number, request)),
            Some(Request::Read) => Some(self.read(number, request.words[0])),
            Some(Request::Exit) => {
                self.end(number as u32, &Ending::Exited(request.words[0] as u8));
                None
            }
            Some(Request::Inventory) if self.holds(number, Right::Inventory) => {
                Some(Message::of(OK, machine::inventory()))
            }
            Some(Request::Run) if self.holds(number, Right::Control) => Some(self.run_child(number, request)),
            Some(Request::Ended) if self.holds(number, Right::Control) => {
                Some(self.child_ended(number, request.words[0]))
            }
            Some(Request::End) if self.holds(number, Right::Control) => {
                Some(self.end_child(number, request.words[0]))
            }
            Some(_) => Some(refused(Refusal::NotAllowed)),
            None => Some(refused(Refusal::Malformed)),
        }
    }

    fn write(&mut self, number: u64, request: &Asked) -> Message {
        let Some(stream) = Stream::from_word(request.words[0]) else { return refused(Refusal::Malformed) };
        let length = usize::try_from(request.words[1]).unwrap_or(usize::MAX);
        let Some(text) = request.bytes.get(..length) else { return refused(Refusal::Malformed) };
        let Some(console) = self.component(number).map(|component| component.console) else {
            return refused(Refusal::Malformed);
        };
        let line = match console {
            Console::Host => self.host.as_mut().map(|host| &mut host.serial),
            Console::Operator => self.terminal.as_mut().map(|terminal| &mut terminal.serial),
            Console::Log => None,
        };
        if line.is_some_and(|serial| !serial.uart.has_room()) {
            return self.not_now(number);
        }
        match console {
            Console::Host => {
                if let Some(host) = &mut self.host {
                    host.tell(&match stream {
                        Stream::Output => ToHost::Stdout(text),
                        Stream::Error => ToHost::Stderr(text),
                    });
                }
            }
            Console::Operator => {
                if let Some(terminal) = &mut self.terminal {
                    terminal.show(text);
                }
            }
            Console::Log => {
                if let Some(component) = self.component(number) {
                    component.log(text);
                }
            }
        }
        Message::new(OK)
    }

    fn read(&mut self, number: u64, wanted: u64) -> Message {
        let Some(component) = self.component(number) else { return refused(Refusal::Malformed) };
        if component.input.is_empty() && !component.input_ended {
            return self.not_now(number);
        }
        let length = wanted.min(MAX_BYTES as u64).min(component.input.len() as u64) as usize;
        let mut text = [0; MAX_BYTES];
        for (place, byte) in text.iter_mut().zip(component.input.drain(..length)) {
            *place = byte;
        }
        let room = component.input.len() < INPUT_LIMIT;
        if component.console == Console::Host && room {
            self.host_may_send();
        }
        // Last: the lines above may have logged, which goes through the buffer as well.
        let words = bytes::put(&buffer().words, &text[..length]);
        Message::of(OK, [length as u64]).with(words, 0)
    }

    fn not_now(&mut self, number: u64) -> Message {
        if let Some(component) = self.component(number) {
            component.waits = true;
        }
        refused(Refusal::NotNow)
    }

    fn holds(&mut self, number: u64, right: Right) -> bool {
        self.component(number).is_some_and(|component| component.entry.holds.contains(&right))
    }

    fn run_child(&mut self, parent: u64, request: &Asked) -> Message {
        let length = usize::try_from(request.words[0]).unwrap_or(usize::MAX);
        let arguments = request.bytes.get(..length).and_then(|bytes| core::str::from_utf8(bytes).ok());
        let (Some(arguments), Some(parent_is)) = (arguments, self.component(parent)) else {
            return refused(Refusal::Malformed);
        };
        let console = parent_is.console;
        match self.run(arguments, console) {
            Ok(number) => {
                if let Some(child) = self.component(u64::from(number)) {
                    child.parent = Some(parent as u32);
                    child.input_ended = true;
                }
                Message::of(OK, [u64::from(number)])
            }
            Err(RunError::NoSuchProgram | RunError::NotInManifest) => refused(Refusal::Unknown),
            Err(error) => {
                log!("init: {} is not started: {error}", arguments.split('\0').next().unwrap_or_default());
                refused(Refusal::Short)
            }
        }
    }

    fn child_ended(&mut self, parent: u64, child: u64) -> Message {
        if self.is_child(parent, child) {
            return self.not_now(parent);
        }
        let Some(parent) = self.component(parent) else { return refused(Refusal::Malformed) };
        match parent.ended.iter().position(|(number, ..)| u64::from(*number) == child) {
            Some(at) => {
                let (_, status, crashed) = parent.ended.swap_remove(at);
                Message::of(OK, [u64::from(status), u64::from(crashed)])
            }
            None => refused(Refusal::Unknown),
        }
    }

    fn end_child(&mut self, parent: u64, child: u64) -> Message {
        if !self.is_child(parent, child) {
            return refused(Refusal::Unknown);
        }
        self.end(child as u32, &Ending::Killed);
        Message::new(OK)
    }

    fn is_child(&mut self, parent: u64, child: u64) -> bool {
        self.component(child).is_some_and(|each| each.parent.map(u64::from) == Some(parent))
    }

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
            host.serial.uart.listen(false);
        }
    }

    fn host_may_send(&mut self) {
        if let Some(host) = &mut self.host {
            host.serial.uart.listen(true);
        }
    }

    fn host_interrupted(&mut self) {
        let Some(host) = &mut self.host else { return };
        host.serial.uart.interrupt();
        self.take_commands();
        let Some(host) = &mut self.host else { return };
        if let Err(error) = host.serial.let_through() {
            log!("init: COM2's interrupt stays off: {}", error.name());
        }
        // What came between the last look and here made no edge that anyone saw.
        host.serial.uart.interrupt();
        self.take_commands();
        self.wake_writers(Console::Host);
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
        host.tell(&ToHost::Stderr(alloc::format!("skink: {name}: {error}\n").as_bytes()));
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

impl Component {
    fn wake(&mut self) {
        if core::mem::take(&mut self.waits) {
            // It was made with the component, and init may signal it.
            let _ = ipc::signal(self.parts.ready);
        }
    }

    fn log(&mut self, text: &[u8]) {
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

fn refused(refusal: Refusal) -> Message {
    Message::new(refusal as u32)
}

fn read_manifest(machine: &Machine) -> Manifest<'static> {
    let from_archive = machine.archive.file("manifest");
    let text = match from_archive.map(core::str::from_utf8) {
        Some(Ok(text)) => text,
        Some(Err(_)) => panic!("the boot archive's manifest is not UTF-8"),
        None => BUILT_IN,
    };
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

/// A request, taken out of registers and IPC buffer before anything else goes through them.
struct Asked {
    what: Option<Request>,
    words: [u64; 8],
    bytes: heapless::Vec<u8, MAX_BYTES>,
}

impl Asked {
    fn taken(message: &Message) -> Asked {
        let mut bytes = [0; MAX_BYTES];
        let length = (message.info.extra() * 8).min(MAX_BYTES);
        bytes::take(&buffer().words, &mut bytes[..length]);
        let bytes = heapless::Vec::from_slice(&bytes[..length]).unwrap_or_default();
        Asked { what: Request::from_label(message.label()), words: message.words, bytes }
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
            self.end(number as u32, &Ending::Crashed(Box::new(record)));
        }
        None
    }

    fn notified(&mut self, bits: u64) {
        if bits & COM2.badge() != 0 {
            self.host_interrupted();
        }
        if bits & COM1.badge() != 0 {
            self.operator_typed();
        }
    }
}
