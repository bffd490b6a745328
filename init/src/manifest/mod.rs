//! The manifest: every component, and all the authority it has.
//!
//! A text of lines. `component NAME` begins a component, and the lines up to the next say what it is given;
//! `#` begins a comment. What a line does not say has the value in the table; what a component is not given it
//! does not have. `component *` describes programs that are started by hand and have no component of their own;
//! `component init` says which channels init is the client on, and nothing else.
//!
//! | line | meaning | without it |
//! |---|---|---|
//! | `program NAME` | it is `bin/NAME` of the boot archive | its own name |
//! | `start boot` or `start demand` | started at boot, or by hand | `demand` |
//! | `memory SIZE` or `memory half` | transient memory: all of it goes when the component does | `1M` |
//! | `durable SIZE` | memory that stays when it goes, as an Untyped | none |
//! | `state SIZE` | memory that stays when it goes, as one Frame, cleared before its first life only | none |
//! | `stack SIZE` | of the main thread | `64K` |
//! | `slots NUMBER` | in its CSpace | 512 |
//! | `cpu NUMBER` | where it runs | 0 |
//! | `priority NUMBER` | 0 (lowest) to 254 | 100 |
//! | `budget TIME of TIME [strict]` | the time it may run in every period (`us`, `ms`); `strict`: running out is a fault | turns of 10 ms |
//! | `serves NAME...` | endpoints that it receives from | none |
//! | `calls NAME...` | endpoints of components further up that it may call | none |
//! | `offers NAME rings SIZE` | it is the server of channels NAME, whose rings take so much | none |
//! | `channel NAME SIZE` | it is the client on a channel, with so much data, to the component further up that offers NAME | none |
//! | `holds RIGHT...` | `sched-control`, `irq-control`, `io-control`, `io-ports`, `system`, `device-memory`, `inventory`, `control`, `supervise`, `pci`, `trace` | none |
//! | `ports FIRST-LAST` | I/O ports | none |
//! | `irq NUMBER...` | interrupts | none |
//! | `device VENDOR:DEVICE [INDEX] vectors NUMBER` | the PCI function it drives, the INDEXth of its kind, from 0 on | none |
//! | `restart never` or `restart always` | what happens when it dies | `never` |
//! | `heartbeat TIME` or `heartbeat none` | it answers init once in every such time, or counts as hung | 20ms with `restart always` |
//!
//! `offers` and `channel` can be said several times. Programs under `component *` can run several times at once, so nothing
//! can be said there of what exists once or is kept: `program`, `durable`, `state`, `serves`, `offers`, `channel`,
//! `device`, `heartbeat`, `start boot`, `restart always`, `holds pci`. As calls and channels go only to components further up, no two
//! components can wait for each other. A component with `restart always`, an end of a channel, state, a device, the right
//! `pci` or a heartbeat is *supervised*: it exists once at a time, and has a bell and pages of `proto::life`.

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

mod parse;
mod words;

/// The manifest that init is built with.
pub const BUILT_IN: &str = include_str!("../../manifest");

/// The name of the component that describes programs without one of their own.
pub const ANY: &str = "*";

/// The name of init itself.
pub const INIT: &str = "init";

/// Components, in the manifest's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest<'a> {
    /// The components.
    pub components: Vec<Entry<'a>>,
}

/// When a component is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At boot.
    Boot,
    /// By hand.
    Demand,
}

/// How much transient memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// 2^this bytes.
    Bits(u32),
    /// About half of what there is.
    Half,
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Budget::Bits(bits) => write!(f, "{} KiB", (1u64 << bits) / 1024),
            Budget::Half => f.write_str("half"),
        }
    }
}

/// A right over the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Over processor time: `sched-control`.
    SchedControl,
    /// Over interrupts: `irq-control`.
    IrqControl,
    /// Over the IOMMU: `io-control`. Nothing where there is none.
    IoControl,
    /// Over all I/O ports: `io-ports`.
    IoPorts,
    /// Over log, trace and power: `system`.
    System,
    /// Over a large piece of device memory where nothing is, while it runs: `device-memory`.
    DeviceMemory,
    /// To ask what init has left: `inventory`.
    Inventory,
    /// To start and end programs: `control`.
    Control,
    /// To see, kill and restart components: `supervise`.
    Supervise,
    /// Over PCI configuration space, and to say what devices there are: `pci`.
    Pci,
    /// To read the kernel's trace: `trace`.
    Trace,
}

impl Right {
    const ALL: [Right; 11] = [
        Right::SchedControl,
        Right::IrqControl,
        Right::IoControl,
        Right::IoPorts,
        Right::System,
        Right::DeviceMemory,
        Right::Inventory,
        Right::Control,
        Right::Supervise,
        Right::Pci,
        Right::Trace,
    ];

    /// As in the manifest and the start block.
    pub const fn name(self) -> &'static str {
        match self {
            Right::SchedControl => "sched-control",
            Right::IrqControl => "irq-control",
            Right::IoControl => "io-control",
            Right::IoPorts => "io-ports",
            Right::System => "system",
            Right::DeviceMemory => "device-memory",
            Right::Inventory => "inventory",
            Right::Control => "control",
            Right::Supervise => "supervise",
            Right::Pci => "pci",
            Right::Trace => "trace",
        }
    }
}

/// What happens when a component dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// It stays dead.
    Never,
    /// It is started again, as [`crate::supervision::policy`] has it.
    Always,
}

/// The time that a component may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// Microseconds, in every period.
    pub budget: u64,
    /// Microseconds of a period.
    pub period: u64,
    /// Running out of it is a fault, not a pause.
    pub strict: bool,
}

/// What a server of channels promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer<'a> {
    /// What is spoken on them.
    pub name: &'a str,
    /// log2 of the bytes of each one's rings.
    pub rings: u32,
}

/// A channel to a component further up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish<'a> {
    /// What that one offers.
    pub name: &'a str,
    /// log2 of the bytes of its data.
    pub data: u32,
}

/// The device that a component drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Vendor and device.
    pub identity: (u16, u16),
    /// Which of those with this identity.
    pub index: usize,
    /// Interrupt vectors.
    pub vectors: u32,
}

/// A component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Whom it describes.
    pub subject: Subject,
    /// Its name.
    pub name: &'a str,
    /// The program in the boot archive.
    pub program: &'a str,
    /// When it is started.
    pub start: Start,
    /// Its transient memory.
    pub memory: Budget,
    /// log2 of its durable memory.
    pub durable: Option<u32>,
    /// log2 of its state.
    pub state: Option<u32>,
    /// Bytes of the main thread's stack.
    pub stack: u64,
    /// log2 of the slots in its CSpace.
    pub slot_bits: u8,
    /// The CPU it runs on.
    pub cpu: u32,
    /// Its priority.
    pub priority: u8,
    /// The time it may run.
    pub time: Option<Time>,
    /// Endpoints it receives from.
    pub serves: Vec<&'a str>,
    /// Endpoints it may call.
    pub calls: Vec<&'a str>,
    /// Channels that it serves.
    pub offers: Vec<Offer<'a>>,
    /// Channels that it is the client of.
    pub channels: Vec<Wish<'a>>,
    /// Rights over the machine.
    pub holds: Vec<Right>,
    /// I/O ports: first and last of each range.
    pub ports: Vec<(u16, u16)>,
    /// Interrupts.
    pub irqs: Vec<u8>,
    /// The device it drives.
    pub device: Option<Device>,
    /// What happens when it dies.
    pub restart: Restart,
    /// What is said of its heartbeats.
    heartbeat: Heartbeat,
}

/// Whom an entry describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// init itself, as the client of channels.
    Init,
    /// Any program without an entry of its own.
    Any,
    /// A component, or a program, of the entry's name.
    Named,
}

/// What an entry says of heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heartbeat {
    /// Nothing: a component that is restarted has them.
    Unsaid,
    /// There are none.
    None,
    /// One in so many microseconds.
    Every(u64),
}

/// What is wrong with a manifest, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// Microseconds between heartbeats of what is restarted, where nothing else is said.
const HEARTBEAT: u64 = 20_000;

impl<'a> Manifest<'a> {
    /// The component called `name`.
    pub fn find(&self, name: &str) -> Option<&Entry<'a>> {
        self.components.iter().find(|entry| entry.name == name)
    }

    /// Returns the places of the components that serve what the one at `place` calls: they keep something for it in each
    /// of its lives.
    pub fn servers_of(&self, place: usize) -> impl Iterator<Item = usize> {
        let calls = &self.components[place].calls;
        let serves = move |server: &&Entry| server.serves.iter().any(|name| calls.contains(name));
        self.components.iter().enumerate().filter(move |(_, server)| serves(server)).map(|(at, _)| at)
    }

    /// The place of the component called `name`.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.components.iter().position(|entry| entry.name == name)
    }

    /// The place of what the program called `name` is given when it is started by hand.
    pub fn for_program(&self, name: &str) -> Option<usize> {
        self.place(name).or_else(|| self.place(ANY))
    }
}

impl Entry<'_> {
    /// Returns true if it is told physical addresses: a driver needs them, and so does what holds rights to hardware.
    pub fn sees_physical(&self) -> bool {
        use Right::{DeviceMemory, IoControl, IrqControl, Pci, System};
        let of_hardware = [DeviceMemory, IoControl, IrqControl, Pci, System];
        self.device.is_some() || self.holds.iter().any(|right| of_hardware.contains(right))
    }

    /// Returns true if init supervises it: it exists once at a time, and has a bell and pages of its own.
    pub fn is_supervised(&self) -> bool {
        self.restart == Restart::Always
            || self.heartbeat().is_some()
            || !self.offers.is_empty()
            || !self.channels.is_empty()
            || self.state.is_some()
            || self.device.is_some()
            || self.holds.contains(&Right::Pci)
    }

    /// Returns the microseconds between heartbeats, if it has any.
    pub fn heartbeat(&self) -> Option<u64> {
        match (self.heartbeat, self.restart) {
            (Heartbeat::Unsaid, Restart::Always) => Some(HEARTBEAT),
            (Heartbeat::Unsaid, Restart::Never) | (Heartbeat::None, _) => None,
            (Heartbeat::Every(time), _) => Some(time),
        }
    }
}

#[cfg(test)]
mod tests;
