//! Reading a manifest: each line once, checked against what stands above it.

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;

use proto::start::{MAX_CHANNELS, MAX_SLOT_BITS};

use super::words::*;
use super::*;

/// A kind of line.
struct Line {
    keyword: &'static str,
    /// Of whom it can be said.
    of: &'static [Subject],
    /// It can be said several times of one component.
    again: bool,
}

/// What has a meaning for programs that can run several times, too.
const EACH: &[Subject] = &[Subject::Any, Subject::Named];
/// What exists once.
const ONE: &[Subject] = &[Subject::Named];
/// What init can have, too.
const CLIENT: &[Subject] = &[Subject::Named, Subject::Init];

/// The lines of an entry.
const LINES: [Line; 20] = [
    Line::new("program", ONE),
    Line::new("start", EACH),
    Line::new("memory", EACH),
    Line::new("durable", ONE),
    Line::new("state", ONE),
    Line::new("stack", EACH),
    Line::new("slots", EACH),
    Line::new("cpu", EACH),
    Line::new("priority", EACH),
    Line::new("budget", EACH),
    Line::new("serves", ONE),
    Line::new("calls", EACH),
    Line { again: true, ..Line::new("offers", ONE) },
    Line { again: true, ..Line::new("channel", CLIENT) },
    Line::new("holds", EACH),
    Line::new("ports", EACH),
    Line::new("irq", EACH),
    Line::new("device", ONE),
    Line::new("restart", EACH),
    Line::new("heartbeat", ONE),
];

/// Components, at most.
const MAX_COMPONENTS: usize = 64;

impl Line {
    const fn new(keyword: &'static str, of: &'static [Subject]) -> Line {
        Line { keyword, of, again: false }
    }
}

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

    fn line(&mut self, keyword: &'a str, words: &[&'a str], seen: &mut Vec<&'a str>) -> Result<(), String> {
        if keyword == "component" {
            seen.clear();
            return self.begin(one(words)?);
        }
        let Some(line) = LINES.iter().find(|line| line.keyword == keyword) else {
            return wrong!("`{keyword}` means nothing here");
        };
        if seen.contains(&keyword) && !line.again {
            return wrong!("`{keyword}` is said twice of one component");
        }
        seen.push(keyword);
        let Some((entry, above)) = self.components.split_last_mut() else {
            return wrong!("`{keyword}` comes before the first `component`");
        };
        if !line.of.contains(&entry.subject) {
            return wrong!("`{keyword}` cannot be said of `{}`", entry.name);
        }
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
        let subject = match name {
            INIT => Subject::Init,
            ANY => Subject::Any,
            _ => Subject::Named,
        };
        Entry {
            subject,
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
            heartbeat: Heartbeat::Unsaid,
        }
    }

    fn set(&mut self, keyword: &str, words: &[&'a str], above: &[Entry<'a>]) -> Result<(), String> {
        match keyword {
            "program" => self.program = check_name(one(words)?)?,
            "start" => self.start = start(self.subject, one(words)?)?,
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
            "restart" if words == ["always"] && self.subject != Subject::Any => {
                self.restart = Restart::Always
            }
            "restart" => return wrong!("`restart` can be: never, always (not of `{ANY}`)"),
            "heartbeat" if words == ["none"] => self.heartbeat = Heartbeat::None,
            "heartbeat" => self.heartbeat = Heartbeat::Every(heartbeat(one(words)?)?),
            _ => return wrong!("`{keyword}` means nothing here"),
        }
        Ok(())
    }

    fn offer(&mut self, offer: Offer<'a>) -> Result<(), String> {
        if self.offers.iter().any(|each| each.name == offer.name) {
            return wrong!("`{}` is offered twice", offer.name);
        }
        self.offers.push(offer);
        Ok(())
    }

    fn wish(&mut self, wish: Wish<'a>, above: &[Entry]) -> Result<(), String> {
        if self.channels.iter().any(|each| each.name == wish.name) {
            return wrong!("there is a channel `{}` already", wish.name);
        }
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
            if self.subject == Subject::Any {
                return wrong!("`holds pci` cannot be said of `{ANY}`");
            }
            if let Some(other) = above.iter().find(|entry| entry.holds.contains(&Right::Pci)) {
                return wrong!("`{}` holds `pci` already", other.name);
            }
        }
        Ok(rights)
    }
}
