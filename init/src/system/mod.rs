//! The system: what runs, and that it keeps running.
//!
//! Events go to the state machines of [`crate::supervision`], whose actions are performed here with what
//! [`crate::build`] makes and [`crate::registry`] keeps. Events that follow from actions wait in a queue, so that no
//! chain of deaths nests on init's stack. What consoles show of it is a queue of [`Notice`]s: the system knows no
//! console.

extern crate alloc;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use abi::CPtr;
use proto::control::State;
use rt::alloc::AllocError;
use rt::clock;

use crate::build::component::{Code, Parts};
use crate::build::durable::Durable;
use crate::build::elf::Program;
use crate::build::equipment::Equipment;
use crate::build::error::BuildError;
use crate::build::image::Images;
use crate::log;
use crate::machine::Machine;
use crate::manifest::{BUILT_IN, Entry, INIT, Manifest, Restart, Start};
use crate::registry::crash::Record;
use crate::registry::family::End;
use crate::registry::records::{Crash, Crashes, Recoveries};
use crate::registry::{Console, Ending, Printed, Registry};
use crate::supervision::devices::{self, Device};
use crate::supervision::life::{self, Clock, Life, Role, Why};

mod devices_of;
mod orders;
mod perform;
mod watch;

pub use orders::Disbelieved;

/// Events that can wait without taking memory.
const MOST_EVENTS: usize = 256;
/// The exit status reported of a program that could not be started: as a shell has it.
pub const STATUS_NOT_STARTED: u8 = 126;

/// The system.
pub struct System {
    machine: Machine,
    manifest: &'static Manifest<'static>,
    manifest_text: &'static str,
    durable: Durable,
    equipment: Equipment,
    images: Images,
    /// The Endpoint that init serves.
    endpoint: CPtr,
    registry: Registry,
    /// One for each number of the registry.
    seats: Vec<Seat>,
    crashes: Crashes,
    /// Who is told of the end of lives: component, and the right to signal its bell.
    watchers: Vec<(u32, CPtr)>,
    /// What was a driver whose device could not be stopped: its memory is not used again.
    quarantine: Vec<Parts>,
    events: VecDeque<(usize, Event)>,
    performing: bool,
    /// `pci` runs, or will by itself.
    bus_is_up: bool,
    notices: VecDeque<Notice>,
}

/// An event for one of a seat's machines.
#[derive(Clone, Copy, Debug)]
enum Event {
    Life(life::Event),
    Device(devices::Event),
}

/// A place for one component at a time.
struct Seat {
    life: Life,
    device: Option<Device>,
    history: History,
    /// How it is to begin, if not as the manifest alone has it.
    start: Option<Beginning>,
    /// How the life that is about to end has ended.
    ending: Option<Ending>,
    /// What is left of its last life.
    grave: Option<Parts>,
    /// What a peer says of it.
    reported: String,
}

/// What is counted over all lives of a component.
#[derive(Debug)]
struct History {
    recoveries: Recoveries,
    /// TSC ticks of processor time, as far as they were asked for.
    time: u64,
    /// The same when a look last found that it had had its turn.
    time_counted: u64,
    /// Lives ended by the operator.
    kills: u64,
    /// What the operator ordered it to do to itself counts as its own fault.
    injection_counts: bool,
}

/// How a component is to begin.
#[derive(Debug)]
struct Beginning {
    place: usize,
    name: &'static str,
    arguments: String,
    console: Console,
    /// A component has started it.
    is_child: bool,
}

/// Something that consoles show.
#[derive(Debug)]
pub enum Notice {
    /// A life has ended.
    Ended(Box<Ended>),
    /// A component was not started.
    NotStarted {
        /// Its number.
        number: u32,
        /// Its name.
        name: &'static str,
        /// Who is to be told; none where a component that wanted it was told.
        console: Option<Console>,
        /// Why.
        error: RunError,
    },
}

/// The end of a life.
#[derive(Debug)]
pub struct Ended {
    /// The component's number.
    pub number: u32,
    /// Its name.
    pub name: &'static str,
    /// Its place in the manifest.
    pub place: usize,
    /// Who is to be told; none where a component that had started it was told.
    pub console: Option<Console>,
    /// When it was noticed, in TSC ticks.
    pub when: u64,
    /// Why, as far as policy goes.
    pub why: Why,
    /// How.
    pub ending: Ending,
    /// It is started again.
    pub restarts: bool,
    /// What it had printed.
    pub printed: Printed,
    /// The input that it has not read.
    pub unread: VecDeque<u8>,
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
    /// Its device cannot be had: why.
    Device(String),
    /// It was ended before its device was ready.
    Withdrawn,
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
            RunError::Device(why) => f.write_str(why),
            RunError::Withdrawn => f.write_str("it was ended before its device was ready"),
            RunError::Build(error) => error.fmt(f),
        }
    }
}

impl Seat {
    fn new(role: Role, clock: Clock, bounded: bool, has_history: bool) -> Seat {
        Seat {
            life: Life::new(role, clock),
            device: role.drives.then(|| Device::new(bounded)),
            history: History {
                recoveries: Recoveries::new(has_history),
                time: 0,
                time_counted: 0,
                kills: 0,
                injection_counts: true,
            },
            start: None,
            ending: None,
            grave: None,
            reported: String::new(),
        }
    }
}

/// Returns the number of the component in a seat.
fn number_of(seat: usize) -> u32 {
    seat as u32 + 1
}

impl System {
    /// Makes what outlives components. `notification` is init's own bell, `endpoint` what init serves.
    pub fn new(machine: Machine, endpoint: CPtr, notification: CPtr) -> Result<System, AllocError> {
        let manifest_text = manifest_text(&machine);
        let manifest: &'static Manifest = Box::leak(Box::new(read_manifest(manifest_text)));
        let registry = Registry::new(manifest.components.len());
        let equipment = Equipment::make(&machine, manifest, notification)?;
        let clock = Clock { hz: machine.tsc_hz };
        let seat = |at: usize| {
            let entry = manifest.components.get(at).filter(|entry| entry.is_supervised());
            let role = entry.map_or(Role::default(), role);
            Seat::new(role, clock, equipment.iommu, entry.is_some())
        };
        Ok(System {
            seats: (0..registry.numbers()).map(seat).collect(),
            durable: Durable::make(manifest, notification)?,
            machine,
            manifest,
            manifest_text,
            equipment,
            images: Images::default(),
            endpoint,
            registry,
            crashes: Crashes::new(),
            watchers: Vec::new(),
            quarantine: Vec::new(),
            events: VecDeque::with_capacity(MOST_EVENTS),
            performing: false,
            bus_is_up: false,
            notices: VecDeque::new(),
        })
    }

    /// Starts the components that start at boot.
    pub fn boot(&mut self) {
        let manifest = self.manifest;
        for (place, entry) in manifest.components.iter().enumerate() {
            if entry.start == Start::Boot
                && let Err(error) = self.start(place, entry.name, "", Console::Log, None)
            {
                log!("init: {} is not started: {error}", entry.name);
            }
        }
    }

    /// Returns the machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Returns the manifest in force.
    pub fn manifest(&self) -> &'static Manifest<'static> {
        self.manifest
    }

    /// Returns the manifest's text.
    pub fn manifest_text(&self) -> &'static str {
        self.manifest_text
    }

    /// Returns what outlives components.
    pub fn durable(&self) -> &Durable {
        &self.durable
    }

    /// Returns what runs.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Returns what runs, for its input and output.
    pub fn registry_mut(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// Returns the last crashes.
    pub fn crashes(&self) -> &Crashes {
        &self.crashes
    }

    /// Remembers a crash.
    pub fn remember(&mut self, crash: Crash) {
        self.crashes.add(crash);
    }

    /// Returns the next thing that consoles show.
    pub fn take_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Returns what the supervised component at `place` is doing.
    pub fn state(&self, place: usize) -> State {
        self.seats[place].life.state()
    }

    /// Returns true if a component is dead and about to be started, or waits for its device.
    pub fn is_unsettled(&self) -> bool {
        self.seats.iter().any(|seat| matches!(seat.life.state(), State::Fencing | State::Waits))
    }

    /// Starts the program that `arguments` (each ended by NUL) name, for the component `parent` if there is one.
    pub fn run(&mut self, arguments: &str, console: Console, parent: Option<u32>) -> Result<u32, RunError> {
        let wanted = arguments.split('\0').next().unwrap_or_default();
        let manifest = self.manifest;
        let name = match manifest.find(wanted) {
            Some(entry) if entry.restart == Restart::Always => return Err(RunError::Restarts),
            Some(entry) if self.program(entry.program).is_some() => Some(entry.name),
            _ => self.machine.archive.programs().find(|name| *name == wanted),
        };
        let name = name.ok_or(RunError::NoSuchProgram)?;
        let place = manifest.for_program(name).ok_or(RunError::NotInManifest)?;
        self.start(place, name, arguments, console, parent)
    }

    fn program(&self, name: &str) -> Option<&'static [u8]> {
        self.machine.archive.file(&alloc::format!("bin/{name}"))
    }

    /// Starts a component as the manifest has it at `place`, called `name`. A driver begins when its device is ready.
    fn start(
        &mut self,
        place: usize,
        name: &'static str,
        arguments: &str,
        console: Console,
        parent: Option<u32>,
    ) -> Result<u32, RunError> {
        let entry = &self.manifest.components[place];
        let number = self.free_number(place, entry)?;
        let seat = number as usize - 1;
        let is_child = parent.is_some();
        self.seats[seat].start =
            Some(Beginning { place, name, arguments: arguments.into(), console, is_child });
        if let Some(parent) = parent {
            self.registry.family.adopt(parent, number);
        }
        self.tell(seat, life::Event::Wanted);
        match self.refused(number, parent) {
            Some(error) => Err(error),
            None => Ok(number),
        }
    }

    /// Returns why the component of this number, which `parent` wanted just now, was not started. The answer says so, and
    /// nothing else does.
    fn refused(&mut self, number: u32, parent: Option<u32>) -> Option<RunError> {
        let is_it =
            |notice: &Notice| matches!(notice, Notice::NotStarted { number: of, .. } if *of == number);
        let at = self.notices.iter().position(is_it)?;
        if let Some(parent) = parent {
            self.registry.family.take_end(parent, number);
        }
        match self.notices.remove(at)? {
            Notice::NotStarted { error, .. } => Some(error),
            Notice::Ended(_) => None,
        }
    }

    /// Returns the number of a component that is about to begin.
    fn free_number(&self, place: usize, entry: &'static Entry<'static>) -> Result<u32, RunError> {
        let only_once = entry.is_supervised() || entry.durable.is_some() || !entry.serves.is_empty();
        if entry.name == INIT || (only_once && self.registry.running_at(place).is_some()) {
            return Err(RunError::Runs);
        }
        if !entry.is_supervised() {
            return self.registry.free_number().ok_or(RunError::TooMany);
        }
        match self.seats[place].life.state() {
            State::Idle | State::Parked => Ok(number_of(place)),
            State::Runs | State::Fencing | State::Waits => Err(RunError::Runs),
        }
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

    /// Notes that a component was not started, for whoever wanted it.
    fn not_started(&mut self, seat: usize, beginning: &Beginning, error: RunError) {
        let (number, name) = (number_of(seat), beginning.name);
        let told = self.tell_parent(number, End { status: STATUS_NOT_STARTED, crashed: true });
        let console = if told { None } else { Some(beginning.console) };
        self.notices.push_back(Notice::NotStarted { number, name, console, error });
    }

    /// Tells the component that has started this one, if it lives, of its end. Returns false if none has.
    fn tell_parent(&mut self, number: u32, end: End) -> bool {
        let Some(parent) = self.registry.family.ended(number, end) else { return false };
        match self.registry.get_mut(u64::from(parent)) {
            Some(parent) => parent.wake(),
            None => self.registry.family.forget_ends(parent),
        }
        true
    }

    /// Has a component asked to wait for its notification.
    pub fn is_to_wait(&mut self, number: u64) {
        if let Some(component) = self.registry.get_mut(number) {
            component.is_to_wait();
        }
    }

    /// Ends the component of this number, which has ended so, or has to.
    pub fn end(&mut self, number: u32, ending: Ending) {
        let Some(seat) = (number as usize).checked_sub(1).filter(|seat| *seat < self.seats.len()) else {
            return;
        };
        if self.registry.get(u64::from(number)).is_none() {
            return;
        }
        let why = self.why(seat, &ending);
        self.seats[seat].ending = Some(ending);
        self.tell(seat, life::Event::Died(why));
    }

    /// Ends the component of this number, of which a thread has faulted as `words` of the fault message say.
    pub fn faulted(&mut self, number: u64, words: &[u64; 8]) {
        if let Some(component) = self.registry.get(number) {
            let record = Record::examine(&component.parts, words);
            self.end(number as u32, Ending::Crashed(Box::new(record)));
        }
    }

    /// Ends a component that somebody else wants to end: one that has not begun yet, too.
    pub fn kill(&mut self, number: u32) {
        if let Some(seat) = (number as usize).checked_sub(1).filter(|seat| *seat < self.seats.len()) {
            self.tell(seat, life::Event::Kill);
        }
    }

    /// Returns why a life ends so, as far as policy goes.
    fn why(&self, seat: usize, ending: &Ending) -> Why {
        match ending {
            Ending::Killed => Why::Ordered,
            Ending::Crashed(_) if self.injection_was_due(seat) => Why::Ordered,
            Ending::Exited(_) if !self.restarts(seat) => Why::Done,
            Ending::Exited(_) | Ending::Crashed(_) => Why::Fault,
        }
    }

    fn restarts(&self, seat: usize) -> bool {
        self.manifest.components.get(seat).is_some_and(|entry| entry.restart == Restart::Always)
    }

    /// Gives an event to a component's life, and does all that follows.
    fn tell(&mut self, seat: usize, event: life::Event) {
        self.events.push_back((seat, Event::Life(event)));
        self.work_off();
    }

    /// Gives an event to a driver's device, and does all that follows.
    fn tell_device(&mut self, seat: usize, event: devices::Event) {
        self.events.push_back((seat, Event::Device(event)));
        self.work_off();
    }

    fn work_off(&mut self) {
        if self.performing {
            return;
        }
        self.performing = true;
        while let Some((seat, event)) = self.events.pop_front() {
            match event {
                Event::Life(event) => {
                    let actions = self.seats[seat].life.on(clock::now(), event);
                    actions.into_iter().for_each(|action| self.perform(seat, action));
                }
                Event::Device(event) => self.perform_on_device(seat, event),
            }
            self.look_at_bus();
        }
        self.performing = false;
    }
}

/// What the manifest makes of a supervised component.
fn role(entry: &Entry) -> Role {
    Role {
        restarts: entry.restart == Restart::Always,
        drives: entry.device.is_some(),
        heartbeat: entry.heartbeat(),
    }
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
