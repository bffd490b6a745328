//! The registry: what runs, and what is remembered of what ran.

extern crate alloc;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::build::component::Parts;
use crate::log;
use crate::manifest::Entry;

pub mod crash;
pub mod family;
pub mod records;

use crash::Record;
use family::Family;
use records::Tail;

/// Components at a time that are not supervised.
pub const MAX_PROGRAMS: usize = 64;
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
    /// What it has not read yet.
    pub input: VecDeque<u8>,
    /// No more will come.
    pub input_ended: bool,
    /// What it has printed.
    pub printed: Printed,
    /// It was told "not now".
    waits: bool,
}

/// What a component has printed.
#[derive(Debug, Default)]
pub struct Printed {
    /// A line for the log that is not complete.
    line: heapless::Vec<u8, 200>,
    /// The last of it, wherever it went.
    pub tail: Tail,
}

/// How a component ended.
#[derive(Debug)]
pub enum Ending {
    /// By itself, with this status.
    Exited(u8),
    /// By a fault, or because init found that it must.
    Crashed(Box<Record>),
    /// By the operator, or the component that started it.
    Killed,
}

impl Ending {
    /// Returns the exit status that is reported.
    pub fn status(&self) -> u8 {
        match self {
            Ending::Exited(status) => *status,
            Ending::Crashed(_) | Ending::Killed => STATUS_CRASHED,
        }
    }

    /// Returns true if the component ended by itself.
    pub fn is_own(&self) -> bool {
        matches!(self, Ending::Exited(_))
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

/// The running components.
#[derive(Debug)]
pub struct Registry {
    /// The supervised ones at their places in the manifest, behind those all others. A component's number is one more
    /// than where it is, so that of a supervised one is the same in each life.
    components: Vec<Option<Component>>,
    /// Entries of the manifest.
    entries: usize,
    /// Who has started whom.
    pub family: Family,
}

impl Registry {
    /// Returns an empty registry for a manifest of so many entries.
    pub fn new(entries: usize) -> Registry {
        Registry {
            components: (0..entries + MAX_PROGRAMS).map(|_| None).collect(),
            entries,
            family: Family::default(),
        }
    }

    /// Returns how many numbers there are: from 1 on.
    pub fn numbers(&self) -> usize {
        self.components.len()
    }

    /// Returns a free number for a component that is not supervised.
    pub fn free_number(&self) -> Option<u32> {
        let free = self.components.iter().skip(self.entries).position(Option::is_none)?;
        Some((self.entries + free) as u32 + 1)
    }

    /// Puts a component under its number.
    pub fn put(&mut self, number: u32, component: Component) {
        if let Some(place) = index(u64::from(number)).and_then(|at| self.components.get_mut(at)) {
            *place = Some(component);
        }
    }

    /// Takes a component out.
    pub fn take(&mut self, number: u32) -> Option<Component> {
        self.components.get_mut(index(u64::from(number))?)?.take()
    }

    /// Returns the running component of this number.
    pub fn get(&self, number: u64) -> Option<&Component> {
        self.components.get(index(number)?)?.as_ref()
    }

    /// Returns the running component of this number, to change.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut Component> {
        self.components.get_mut(index(number)?)?.as_mut()
    }

    /// Returns the running components, with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Component)> {
        (1..).zip(&self.components).filter_map(|(number, component)| Some((number, component.as_ref()?)))
    }

    /// Returns the running components, with their numbers, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Component)> {
        (1..).zip(&mut self.components).filter_map(|(number, component)| Some((number, component.as_mut()?)))
    }

    /// Returns the number of a component that runs as the manifest has it at `place`.
    pub fn running_at(&self, place: usize) -> Option<u32> {
        self.iter().find(|(_, each)| each.place == place).map(|(number, _)| number)
    }

    /// Tells components that were told "not now" by the line of `console` to ask again.
    pub fn wake_writers(&mut self, console: Console) {
        self.iter_mut().filter(|(_, each)| each.console == console).for_each(|(_, each)| each.wake());
    }
}

/// Where the component of this number is.
fn index(number: u64) -> Option<usize> {
    usize::try_from(number).ok()?.checked_sub(1)
}

impl Component {
    /// Returns a component that has just been built.
    pub fn new(
        name: &'static str,
        parts: Parts,
        console: Console,
        place: usize,
        entry: &'static Entry<'static>,
    ) -> Component {
        Component {
            name,
            parts,
            console,
            place,
            entry,
            input: VecDeque::new(),
            input_ended: console == Console::Log,
            printed: Printed::default(),
            waits: false,
        }
    }

    /// Notes that it was told "not now".
    pub fn is_to_wait(&mut self) {
        self.waits = true;
    }

    /// Tells it to ask again, if it was told "not now".
    pub fn wake(&mut self) {
        if core::mem::take(&mut self.waits) {
            // It was made with the component, and init may signal it.
            let _ = ipc::signal(self.parts.ready);
        }
    }
}

impl Printed {
    /// Takes text for the log, which gets it line by line.
    pub fn log(&mut self, name: &str, text: &[u8]) {
        for &byte in text {
            let ended = byte == b'\n';
            if !ended {
                // There is room: a full line is passed on below.
                let _ = self.line.push(byte);
            }
            if ended || self.line.is_full() {
                self.end_line(name);
            }
        }
    }

    /// Passes on what waits for the end of its line.
    pub fn flush(&mut self, name: &str) {
        if !self.line.is_empty() {
            self.end_line(name);
        }
    }

    /// The log goes to terminals: nothing in a component's line controls those.
    fn end_line(&mut self, name: &str) {
        let line = String::from_utf8_lossy(&self.line).replace(|c: char| c.is_control() && c != '\t', "?");
        log!("{name}: {line}");
        self.line.clear();
    }
}
