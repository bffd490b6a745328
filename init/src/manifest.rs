//! The manifest: every component, and all the authority it has.
//!
//! A text of lines. `component NAME` begins a component, and the lines up to the next say what it is given;
//! `#` begins a comment. What a line does not say has the value in the table; what a component is not given it
//! does not have. `component *` describes programs that are started by hand and have no component of their own.
//!
//! | line | meaning | without it |
//! |---|---|---|
//! | `program NAME` | it is `bin/NAME` of the boot archive | its own name |
//! | `start boot` or `start demand` | started at boot, or by hand | `demand` |
//! | `memory SIZE` or `memory half` | transient memory: all of it goes when the component does | `1M` |
//! | `durable SIZE` | memory that stays when it goes | none |
//! | `stack SIZE` | of the main thread | `64K` |
//! | `slots NUMBER` | in its CSpace | 512 |
//! | `cpu NUMBER` | where it runs | 0 |
//! | `priority NUMBER` | 0 (lowest) to 254 | 100 |
//! | `budget TIME of TIME` | the time it may run in every period (`us`, `ms`) | turns of 10 ms |
//! | `serves NAME...` | endpoints that it receives from | none |
//! | `calls NAME...` | endpoints of components further up that it may call | none |
//! | `holds RIGHT...` | `sched-control`, `irq-control`, `io-control`, `io-ports`, `system`, `device-memory`, `inventory`, `control` | none |
//! | `ports FIRST-LAST` | I/O ports | none |
//! | `irq NUMBER...` | interrupts | none |
//! | `restart never` | what happens when it dies (reserved for supervision) | `never` |
//!
//! As calls go only to components further up, no two components can wait for each other.

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use proto::start::{MAX_SLOT_BITS, MAX_STACK, names};

/// The manifest that init is built with.
pub const BUILT_IN: &str = include_str!("../manifest");

/// The name of the component that describes programs without one of their own.
pub const ANY: &str = "*";

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
    /// Over the largest piece of device memory below 4 GiB, while it runs: `device-memory`.
    DeviceMemory,
    /// To ask what init has left: `inventory`.
    Inventory,
    /// To start and end programs: `control`.
    Control,
}

impl Right {
    const ALL: [Right; 8] = [
        Right::SchedControl,
        Right::IrqControl,
        Right::IoControl,
        Right::IoPorts,
        Right::System,
        Right::DeviceMemory,
        Right::Inventory,
        Right::Control,
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
        }
    }
}

/// What happens when a component dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// It stays dead.
    Never,
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
    /// Bytes of the main thread's stack.
    pub stack: u64,
    /// log2 of the slots in its CSpace.
    pub slot_bits: u8,
    /// The CPU it runs on.
    pub cpu: u32,
    /// Its priority.
    pub priority: u8,
    /// Microseconds it may run, in a period of so many.
    pub budget: Option<(u64, u64)>,
    /// Endpoints it receives from.
    pub serves: Vec<&'a str>,
    /// Endpoints it may call.
    pub calls: Vec<&'a str>,
    /// Rights over the machine.
    pub holds: Vec<Right>,
    /// I/O ports: first and last of each range.
    pub ports: Vec<(u16, u16)>,
    /// Interrupts.
    pub irqs: Vec<u8>,
    /// What happens when it dies.
    pub restart: Restart,
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

    /// What the program called `name` is given when it is started by hand.
    pub fn for_program(&self, name: &str) -> Option<&Entry<'a>> {
        self.find(name).or_else(|| self.find(ANY))
    }

    fn line(&mut self, keyword: &'a str, words: &[&'a str], seen: &mut Vec<&'a str>) -> Result<(), String> {
        if keyword == "component" {
            seen.clear();
            return self.begin(one(words)?);
        }
        if seen.contains(&keyword) {
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
    fn new(name: &'a str) -> Entry<'a> {
        Entry {
            name,
            program: name,
            start: Start::Demand,
            memory: Budget::Bits(20),
            durable: None,
            stack: 64 * 1024,
            slot_bits: 9,
            cpu: 0,
            priority: 100,
            budget: None,
            serves: Vec::new(),
            calls: Vec::new(),
            holds: Vec::new(),
            ports: Vec::new(),
            irqs: Vec::new(),
            restart: Restart::Never,
        }
    }

    fn set(&mut self, keyword: &str, words: &[&'a str], above: &[Entry<'a>]) -> Result<(), String> {
        match keyword {
            "program" => self.program = check_name(one(words)?)?,
            "start" => self.start = start(self.name, one(words)?)?,
            "memory" if words == ["half"] => self.memory = Budget::Half,
            "memory" => self.memory = Budget::Bits(power(size(one(words)?)?, 16, 40)?),
            "durable" => self.durable = Some(power(size(one(words)?)?, 12, 40)?),
            "stack" => self.stack = stack(one(words)?)?,
            "slots" => self.slot_bits = power(number(one(words)?)?, 6, u32::from(MAX_SLOT_BITS))? as u8,
            "cpu" => self.cpu = ranged(one(words)?, 0, 7)? as u32,
            "priority" => self.priority = ranged(one(words)?, 0, 254)? as u8,
            "budget" => self.budget = Some(budget(words)?),
            "serves" => self.serves = list(words, |name| served(name, above))?,
            "calls" => self.calls = list(words, |name| called(name, above))?,
            "holds" => self.holds = list(words, right)?,
            "ports" => self.ports = list(words, ports)?,
            "irq" => self.irqs = list(words, |word| Ok(ranged(word, 0, 239)? as u8))?,
            "restart" if words == ["never"] => self.restart = Restart::Never,
            "restart" => return wrong!("`restart` can be: never"),
            _ => return wrong!("`{keyword}` means nothing here"),
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

fn budget(words: &[&str]) -> Result<(u64, u64), String> {
    let &[budget, "of", period] = words else { return wrong!("say: budget TIME of TIME") };
    let time = |word| with_unit(word, &[("us", 1), ("ms", 1000)]);
    match (time(budget)?, time(period)?) {
        (budget, period) if (1..=period).contains(&budget) && period <= 10_000_000 => Ok((budget, period)),
        _ => wrong!("a budget is at most its period, and that at most 10000ms"),
    }
}

#[cfg(test)]
mod tests;
