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
//! `offers` and `channel` can be said several times. As calls and channels go only to components further up, no two
//! components can wait for each other. A component with `restart always`, an end of a channel, state, a device, the right
//! `pci` or a heartbeat is *supervised*: it exists once at a time, and has a bell and pages of `proto::life`.

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use proto::channel::HANDSHAKE_WORDS;
use proto::start::{MAX_CHANNELS, MAX_SLOT_BITS, MAX_STACK, names};

/// The manifest that init is built with.
pub const BUILT_IN: &str = include_str!("../manifest");

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
    /// It is started again, as [`crate::policy`] has it.
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
    /// Microseconds between heartbeats; `None` where nothing is said, 0 for none.
    heartbeat: Option<u64>,
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

macro_rules! wrong {
    ($($text:tt)*) => { Err(alloc::format!($($text)*)) };
}

/// Lists in one line, and ranges of ports, interrupts and the like for one component, at most. (The start
/// block has to hold a name for each.)
const MAX_LIST: usize = 8;
/// What can be said several times of one component.
const SAID_AGAIN: [&str; 2] = ["offers", "channel"];
/// Microseconds between heartbeats of what is restarted, where nothing else is said.
const HEARTBEAT: u64 = 20_000;
/// Components, at most.
const MAX_COMPONENTS: usize = 64;

impl<'a> Manifest<'a> {
    /// Reads a manifest.
    pub fn parse(text: &'a str) -> Result<Manifest<'a>, Complaint> {
        let mut manifest = Manifest { components: Vec::new() };
        let mut seen = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            if let Some(keyword) = words.next() {
                let words: Vec<&str> = words.collect();
                manifest.line(keyword, &words, &mut seen).map_err(|what| Complaint { line: at + 1, what })?;
            }
        }
        Ok(manifest)
    }

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

    fn line(&mut self, keyword: &'a str, words: &[&'a str], seen: &mut Vec<&'a str>) -> Result<(), String> {
        if keyword == "component" {
            seen.clear();
            return self.begin(one(words)?);
        }
        if seen.contains(&keyword) && !SAID_AGAIN.contains(&keyword) {
            return wrong!("`{keyword}` is said twice of one component");
        }
        seen.push(keyword);
        let Some((entry, above)) = self.components.split_last_mut() else {
            return wrong!("`{keyword}` comes before the first `component`");
        };
        entry.set(keyword, words, above)
    }

    fn begin(&mut self, name: &'a str) -> Result<(), String> {
        if name != ANY {
            check_name(name)?;
        }
        if self.find(name).is_some() {
            return wrong!("there is a component `{name}` already");
        }
        if self.components.len() >= MAX_COMPONENTS {
            return wrong!("more than {MAX_COMPONENTS} components");
        }
        self.components.push(Entry::new(name));
        Ok(())
    }
}

impl<'a> Entry<'a> {
    /// Returns true if it is told physical addresses: a driver needs them, and so does what holds rights to hardware.
    pub fn sees_physical(&self) -> bool {
        use Right::{DeviceMemory, IoControl, IrqControl, Pci, System};
        let of_hardware = [DeviceMemory, IoControl, IrqControl, Pci, System];
        self.device.is_some() || self.holds.iter().any(|right| of_hardware.contains(right))
    }

    fn new(name: &'a str) -> Entry<'a> {
        Entry {
            name,
            program: name,
            start: Start::Demand,
            memory: Budget::Bits(20),
            durable: None,
            state: None,
            stack: 64 * 1024,
            slot_bits: 9,
            cpu: 0,
            priority: 100,
            time: None,
            serves: Vec::new(),
            calls: Vec::new(),
            offers: Vec::new(),
            channels: Vec::new(),
            holds: Vec::new(),
            ports: Vec::new(),
            irqs: Vec::new(),
            device: None,
            restart: Restart::Never,
            heartbeat: None,
        }
    }

    /// Whether init keeps an eye on it: it exists once at a time, and has a bell and pages of its own.
    pub fn is_supervised(&self) -> bool {
        self.restart == Restart::Always
            || self.heartbeat().is_some()
            || !self.offers.is_empty()
            || !self.channels.is_empty()
            || self.state.is_some()
            || self.device.is_some()
            || self.holds.contains(&Right::Pci)
    }

    /// Microseconds between heartbeats, if it has any.
    pub fn heartbeat(&self) -> Option<u64> {
        match (self.heartbeat, self.restart) {
            (None, Restart::Always) => Some(HEARTBEAT),
            (given, _) => given.filter(|&time| time != 0),
        }
    }

    fn set(&mut self, keyword: &str, words: &[&'a str], above: &[Entry<'a>]) -> Result<(), String> {
        if self.name == INIT && keyword != "channel" {
            return wrong!("of `{INIT}` only `channel` can be said");
        }
        match keyword {
            "program" => self.program = check_name(one(words)?)?,
            "start" => self.start = start(self.name, one(words)?)?,
            "memory" if words == ["half"] => self.memory = Budget::Half,
            "memory" => self.memory = Budget::Bits(power(size(one(words)?)?, 16, 40)?),
            "durable" => self.durable = Some(power(size(one(words)?)?, 12, 40)?),
            "state" => self.state = Some(power(size(one(words)?)?, 12, 30)?),
            "stack" => self.stack = stack(one(words)?)?,
            "slots" => self.slot_bits = power(number(one(words)?)?, 6, u32::from(MAX_SLOT_BITS))? as u8,
            "cpu" => self.cpu = ranged(one(words)?, 0, 7)? as u32,
            "priority" => self.priority = ranged(one(words)?, 0, 254)? as u8,
            "budget" => self.time = Some(budget(words)?),
            "serves" => self.serves = list(words, |name| served(name, above))?,
            "calls" => self.calls = list(words, |name| called(name, above))?,
            "offers" => self.offer(offer(words, above)?)?,
            "channel" => self.wish(wish(words, above)?, above)?,
            "holds" => self.holds = self.rights(list(words, right)?, above)?,
            "ports" => self.ports = list(words, ports)?,
            "irq" => self.irqs = list(words, |word| Ok(ranged(word, 0, 239)? as u8))?,
            "device" => self.device = Some(self.drives(device(words)?, above)?),
            "restart" if words == ["never"] => self.restart = Restart::Never,
            "restart" if words == ["always"] && self.name != ANY => self.restart = Restart::Always,
            "restart" => return wrong!("`restart` can be: never, always (not of `{ANY}`)"),
            "heartbeat" if words == ["none"] => self.heartbeat = Some(0),
            "heartbeat" => self.heartbeat = Some(heartbeat(one(words)?)?),
            _ => return wrong!("`{keyword}` means nothing here"),
        }
        Ok(())
    }

    fn offer(&mut self, offer: Offer<'a>) -> Result<(), String> {
        if self.offers.iter().any(|each| each.name == offer.name) {
            return wrong!("`{}` is offered twice", offer.name);
        }
        self.not_any("offers")?;
        self.offers.push(offer);
        Ok(())
    }

    fn wish(&mut self, wish: Wish<'a>, above: &[Entry]) -> Result<(), String> {
        if self.channels.iter().any(|each| each.name == wish.name) {
            return wrong!("there is a channel `{}` already", wish.name);
        }
        self.not_any("channel")?;
        self.channels.push(wish);
        let server = above.iter().find(|entry| entry.offers.iter().any(|each| each.name == wish.name));
        let to = |server: &Entry, of: &Entry| {
            let offered = |wish: &&Wish| server.offers.iter().any(|each| each.name == wish.name);
            of.channels.iter().filter(offered).count()
        };
        let ends = server.map_or(0, |server| {
            server.channels.len()
                + above.iter().map(|each| to(server, each)).sum::<usize>()
                + to(server, self)
        });
        if ends > MAX_CHANNELS || self.channels.len() > MAX_CHANNELS {
            return wrong!("a component has at most {MAX_CHANNELS} ends of channels");
        }
        Ok(())
    }

    fn drives(&self, device: Device, above: &[Entry]) -> Result<Device, String> {
        self.not_any("device")?;
        let same = |other: &Device| (other.identity, other.index) == (device.identity, device.index);
        if let Some(other) = above.iter().find(|entry| entry.device.as_ref().is_some_and(same)) {
            return wrong!("`{}` drives that device already", other.name);
        }
        if !above.iter().any(|entry| entry.holds.contains(&Right::Pci)) {
            return wrong!("no component further up holds `pci`");
        }
        Ok(device)
    }

    fn rights(&self, rights: Vec<Right>, above: &[Entry]) -> Result<Vec<Right>, String> {
        if rights.contains(&Right::Pci) {
            self.not_any("pci")?;
            if let Some(other) = above.iter().find(|entry| entry.holds.contains(&Right::Pci)) {
                return wrong!("`{}` holds `pci` already", other.name);
            }
        }
        Ok(rights)
    }

    /// Of what exists once: programs under the `*` can run several times.
    fn not_any(&self, keyword: &str) -> Result<(), String> {
        if self.name == ANY {
            return wrong!("`{keyword}` cannot be said of `{ANY}`");
        }
        Ok(())
    }
}

fn one<'a>(words: &[&'a str]) -> Result<&'a str, String> {
    match words {
        [word] => Ok(word),
        [] => wrong!("a value is missing"),
        [_, more, ..] => wrong!("`{more}` is one word too many"),
    }
}

fn list<'a, T: PartialEq>(
    words: &[&'a str],
    read: impl Fn(&'a str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    if words.is_empty() || words.len() > MAX_LIST {
        return wrong!("give 1 to {MAX_LIST} values");
    }
    let mut values = Vec::new();
    for word in words {
        let value = read(word)?;
        if values.contains(&value) {
            return wrong!("`{word}` is given twice");
        }
        values.push(value);
    }
    Ok(values)
}

fn check_name(name: &str) -> Result<&str, String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.len() > 32 || !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(good) {
        return wrong!("`{name}` is no name: small letters, digits and -, at most 32");
    }
    Ok(name)
}

fn start(name: &str, word: &str) -> Result<Start, String> {
    match word {
        "boot" if name == ANY => wrong!("`{ANY}` stands for programs started by hand"),
        "boot" => Ok(Start::Boot),
        "demand" => Ok(Start::Demand),
        _ => wrong!("`start` can be: boot, demand"),
    }
}

fn served<'a>(name: &'a str, above: &[Entry]) -> Result<&'a str, String> {
    check_name(name)?;
    if names::ALL.contains(&name) || Right::ALL.map(Right::name).contains(&name) {
        return wrong!("`{name}` is the name of something else");
    }
    match above.iter().find(|entry| entry.serves.contains(&name)) {
        Some(other) => wrong!("`{}` serves `{name}` already", other.name),
        None => Ok(name),
    }
}

fn called<'a>(name: &'a str, above: &[Entry]) -> Result<&'a str, String> {
    if above.iter().any(|entry| entry.serves.contains(&name)) {
        return Ok(name);
    }
    wrong!("no component further up serves `{name}`")
}

fn offer<'a>(words: &[&'a str], above: &[Entry]) -> Result<Offer<'a>, String> {
    let &[name, "rings", bytes] = words else { return wrong!("say: offers NAME rings SIZE") };
    check_name(name)?;
    if let Some(other) = above.iter().find(|entry| entry.offers.iter().any(|each| each.name == name)) {
        return wrong!("`{}` offers `{name}` already", other.name);
    }
    let least = (HANDSHAKE_WORDS * 8).max(4096).ilog2();
    Ok(Offer { name, rings: power(size(bytes)?, least, 30)? })
}

fn wish<'a>(words: &[&'a str], above: &[Entry]) -> Result<Wish<'a>, String> {
    let &[name, bytes] = words else { return wrong!("say: channel NAME SIZE") };
    if !above.iter().any(|entry| entry.offers.iter().any(|each| each.name == name)) {
        return wrong!("no component further up offers `{name}`");
    }
    Ok(Wish { name, data: power(size(bytes)?, 12, 40)? })
}

fn device(words: &[&str]) -> Result<Device, String> {
    let (identity, index, vectors) = match *words {
        [identity, "vectors", vectors] => (identity, "0", vectors),
        [identity, index, "vectors", vectors] => (identity, index, vectors),
        _ => return wrong!("say: device VENDOR:DEVICE [INDEX] vectors NUMBER"),
    };
    let part = |digits: &str| match digits.len() {
        4 => u16::from_str_radix(digits, 16).ok(),
        _ => None,
    };
    let parts = identity.split_once(':').map(|(vendor, device)| (part(vendor), part(device)));
    let Some((Some(vendor), Some(device))) = parts else {
        return wrong!("`{identity}` is not VENDOR:DEVICE, four hexadecimal digits each");
    };
    Ok(Device {
        identity: (vendor, device),
        index: ranged(index, 0, 62)? as usize,
        vectors: ranged(vectors, 0, 8)? as u32,
    })
}

fn heartbeat(word: &str) -> Result<u64, String> {
    match time(word)? {
        time if (1000..=10_000_000).contains(&time) => Ok(time),
        _ => wrong!("`{word}` is not within 1ms to 10000ms"),
    }
}

fn right(word: &str) -> Result<Right, String> {
    match Right::ALL.into_iter().find(|right| right.name() == word) {
        Some(right) => Ok(right),
        None => {
            wrong!("`{word}` is no right: {}", Right::ALL.map(Right::name).join(", "))
        }
    }
}

fn ports(word: &str) -> Result<(u16, u16), String> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let port = |word| ranged(word, 0, 0xffff).map(|port| port as u16);
    match (port(first)?, port(last)?) {
        (_, 0) => wrong!("port 0 cannot be given alone"),
        (first, last) if first <= last => Ok((first, last)),
        _ => wrong!("the ports `{word}` end before they begin"),
    }
}

fn number(word: &str) -> Result<u64, String> {
    let parsed = match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => word.parse(),
    };
    parsed.map_err(|_| alloc::format!("`{word}` is no number"))
}

fn ranged(word: &str, least: u64, most: u64) -> Result<u64, String> {
    match number(word)? {
        value if (least..=most).contains(&value) => Ok(value),
        _ => wrong!("`{word}` is not within {least} to {most}"),
    }
}

/// A number with one of the units.
fn with_unit(word: &str, units: &[(&str, u64)]) -> Result<u64, String> {
    for (unit, factor) in units {
        if let Some(digits) = word.strip_suffix(unit) {
            let value = number(digits)?.checked_mul(*factor);
            return value.ok_or_else(|| alloc::format!("`{word}` is too much"));
        }
    }
    let names: Vec<&str> = units.iter().map(|(unit, _)| *unit).collect();
    wrong!("`{word}` needs a unit: {}", names.join(", "))
}

fn size(word: &str) -> Result<u64, String> {
    with_unit(word, &[("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30)])
}

fn power(value: u64, least: u32, most: u32) -> Result<u32, String> {
    let bits = value.checked_ilog2().unwrap_or(0);
    if !value.is_power_of_two() || !(least..=most).contains(&bits) {
        return wrong!("{value} is not a power of two from {} to {}", 1u64 << least, 1u64 << most);
    }
    Ok(bits)
}

fn stack(word: &str) -> Result<u64, String> {
    match size(word)? {
        size if size.is_multiple_of(4096) && (4096..=MAX_STACK).contains(&size) => Ok(size),
        _ => wrong!("a stack has whole pages, 4K to {}K", MAX_STACK / 1024),
    }
}

fn time(word: &str) -> Result<u64, String> {
    with_unit(word, &[("us", 1), ("ms", 1000)])
}

fn budget(words: &[&str]) -> Result<Time, String> {
    let (&[budget, "of", period], strict) = (match words {
        [front @ .., "strict"] => (front, true),
        all => (all, false),
    }) else {
        return wrong!("say: budget TIME of TIME, or budget TIME of TIME strict");
    };
    match (time(budget)?, time(period)?) {
        (budget, period) if (1..=period).contains(&budget) && period <= 10_000_000 => {
            Ok(Time { budget, period, strict })
        }
        _ => wrong!("a budget is at most its period, and that at most 10000ms"),
    }
}

#[cfg(test)]
#[path = "manifest/tests.rs"]
mod tests;
