//! The operator's terminal: a prompt on COM1.

extern crate alloc;

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use abi::Kind;
use abi::object::FIRST_SLOT;

use super::line::{Line, Typed};
use super::serial::Serial;
use super::{Allowance, Consoles, INPUT_LIMIT};
use crate::log;
use crate::machine;
use crate::registry::{Component, Console};
use crate::system::System;

const PROMPT: &str = "skink> ";
const BELL: &[u8] = b"\x07";

const HELP: &str = "\
NAME ARGS...  run a program; Ctrl-D ends its input, Ctrl-C ends it; with & at the end it runs beside
ls            programs in the boot archive
ps            components that run
caps [NAME]   every capability of a component, of all of them without NAME
kill NUMBER   end a component
mem           memory and slots
log           the kernel's log
manifest      components and what they are given
help          this
poweroff      end the machine
";

/// The terminal.
pub struct Terminal {
    /// The line it hangs on.
    pub serial: Serial,
    line: Line,
    foreground: Option<u32>,
    /// A command is being carried out: the prompt comes when it is done.
    busy: bool,
    /// Keys that come before those of the line: typed while a program ran that did not read them.
    ahead: VecDeque<u8>,
    /// Lines for a program in the foreground that has not begun.
    held: Vec<u8>,
}

impl Terminal {
    /// A terminal without a prompt yet.
    pub fn new(serial: Serial) -> Terminal {
        Terminal {
            serial,
            line: Line::new(),
            foreground: None,
            busy: false,
            ahead: VecDeque::new(),
            held: Vec::new(),
        }
    }

    /// Shows text, with the line ends of a terminal.
    pub fn show(&mut self, text: &[u8]) {
        let mut lines = text.split(|&byte| byte == b'\n').peekable();
        while let Some(line) = lines.next() {
            self.serial.uart.send(line);
            if lines.peek().is_some() {
                self.serial.uart.send(b"\r\n");
            }
        }
    }

    fn next_key(&mut self) -> Option<u8> {
        self.ahead.pop_front().or_else(|| self.serial.uart.receive())
    }

    /// Forgets what was typed for programs.
    fn forget_ahead(&mut self) {
        self.ahead.clear();
        self.held.clear();
    }

    /// Shows the prompt and what was typed behind it, unless something else is to come first.
    fn prompt(&mut self) {
        if self.busy || self.foreground.is_some() {
            return;
        }
        self.show(PROMPT.as_bytes());
        self.serial.uart.send(self.line.text());
    }
}

impl Write for Terminal {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.show(text.as_bytes());
        Ok(())
    }
}

impl Consoles {
    /// Shows the banner and the first prompt.
    pub fn greet(&mut self, system: &System) {
        let (cpus, version) = (system.machine().cpus, env!("CARGO_PKG_VERSION"));
        let [free, _] = machine::inventory();
        let plural = if cpus == 1 { "" } else { "s" };
        self.say(format_args!(
            "Skink {version}, {cpus} CPU{plural}, {} MiB free. \"help\" lists commands.\n",
            free >> 20
        ));
        if let Some(terminal) = &mut self.terminal {
            terminal.prompt();
        }
    }

    fn say(&mut self, text: fmt::Arguments) {
        if let Some(terminal) = &mut self.terminal {
            // The terminal takes everything.
            let _ = terminal.write_fmt(text);
        }
    }

    /// The terminal's line has interrupted.
    pub fn operator_typed(&mut self, system: &mut System) {
        self.take_keys(system);
        let Some(terminal) = &mut self.terminal else { return };
        if let Err(error) = terminal.serial.let_through() {
            log!("init: COM1's interrupt stays off: {}", error.name());
        }
        // What came between the last look and here made no edge that anyone saw.
        self.take_keys(system);
        system.registry_mut().wake_writers(Console::Operator);
    }

    pub(super) fn take_keys(&mut self, system: &mut System) {
        if let Some(terminal) = &mut self.terminal {
            terminal.serial.uart.interrupt();
        }
        for _ in 0..Allowance::ITEMS {
            let key = self.terminal.as_mut().and_then(Terminal::next_key);
            let Some(key) = key else { return };
            self.key(system, key);
        }
        self.has_more = true;
    }

    fn key(&mut self, system: &mut System, key: u8) {
        let Some(terminal) = &mut self.terminal else { return };
        let foreground = terminal.foreground;
        match terminal.line.key(key) {
            Typed::Show(text) => {
                terminal.serial.uart.send(text.as_bytes());
                if text.starts_with('\r') {
                    terminal.prompt();
                }
            }
            Typed::Echo(byte) => terminal.serial.uart.send(&[byte]),
            Typed::Complete => {
                terminal.show(b"\n");
                let line = terminal.line.take();
                match foreground {
                    Some(number) => self.line_for(system, number, &line),
                    None => self.command(system, &String::from_utf8_lossy(&line)),
                }
            }
            Typed::Interrupt => {
                terminal.show(b"^C\n");
                terminal.forget_ahead();
                match foreground {
                    Some(number) => {
                        if let Some(component) = system.registry_mut().get_mut(u64::from(number)) {
                            component.input.clear();
                        }
                        system.kill(number);
                    }
                    None => terminal.prompt(),
                }
            }
            Typed::End => self.input(system, Console::Operator, foreground, None),
            Typed::Nothing => {}
        }
    }

    /// Gives a line to the program in the foreground. It waits here until the program has begun.
    fn line_for(&mut self, system: &mut System, number: u32, line: &[u8]) {
        let Some(terminal) = &mut self.terminal else { return };
        let program = system.registry().get(u64::from(number));
        let unread = program.map_or(0, |program| program.input.len());
        if terminal.held.len() + unread + line.len() >= INPUT_LIMIT {
            return terminal.serial.uart.send(BELL);
        }
        terminal.held.extend_from_slice(line);
        terminal.held.push(b'\n');
        if program.is_some() {
            let text = core::mem::take(&mut terminal.held);
            self.input(system, Console::Operator, Some(number), Some(&text));
        }
    }

    /// A program has ended: if it was the one in the foreground, what it has not read of what was typed is for the
    /// prompt, before the line that is being typed.
    pub(super) fn typed_ahead(&mut self, number: u32, unread: VecDeque<u8>) {
        let Some(terminal) = self.terminal.as_mut().filter(|terminal| terminal.foreground == Some(number))
        else {
            return;
        };
        let mut keys = unread;
        keys.extend(core::mem::take(&mut terminal.held));
        keys.extend(terminal.line.take());
        keys.append(&mut terminal.ahead);
        terminal.ahead = keys;
        self.has_more |= !terminal.ahead.is_empty();
    }

    fn command(&mut self, system: &mut System, line: &str) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        self.busy(true);
        match words[..] {
            [] => {}
            ["help"] => self.say(format_args!("{HELP}")),
            ["ls"] => self.list_programs(system),
            ["ps"] => self.list_components(system),
            ["caps"] => self.list_capabilities(system, None),
            ["caps", name] => self.list_capabilities(system, Some(name)),
            ["kill", number] => self.kill(system, number),
            ["mem"] => self.tell_memory(system),
            ["log"] => self.show_log(system),
            ["manifest"] => self.show_manifest(system),
            ["poweroff"] => system.machine().shut_down(),
            [ref words @ .., "&"] => self.run_command(system, words, false),
            ref words => self.run_command(system, words, true),
        }
        self.busy(false);
        if let Some(terminal) = &mut self.terminal {
            terminal.prompt();
        }
    }

    fn busy(&mut self, busy: bool) {
        if let Some(terminal) = &mut self.terminal {
            terminal.busy = busy;
        }
    }

    fn run_command(&mut self, system: &mut System, words: &[&str], foreground: bool) {
        let arguments: String = words.iter().flat_map(|word| [word, "\0"]).collect();
        match system.run(&arguments, Console::Operator, None) {
            Ok(number) => {
                if let Some(terminal) = self.terminal.as_mut().filter(|_| foreground) {
                    terminal.foreground = Some(number);
                }
            }
            Err(error) => {
                let name = words.first().copied().unwrap_or_default();
                self.say(format_args!("{name}: {error}\n"));
            }
        }
    }

    /// A program that the operator started has ended.
    pub fn operators_program_ended(&mut self, number: u32, name: &str, how: &str, well: bool) {
        let Some(terminal) = &mut self.terminal else { return };
        let was_foreground = terminal.foreground == Some(number);
        if was_foreground {
            terminal.foreground = None;
        }
        if !was_foreground || !well {
            let start = if was_foreground || terminal.busy { "" } else { "\n" };
            // The terminal takes everything.
            let _ = writeln!(terminal, "{start}[{name} {how}]");
        }
        terminal.prompt();
    }

    fn list_programs(&mut self, system: &System) {
        let names: Vec<&str> = system.machine().archive.programs().collect();
        self.say(format_args!("{}\n", names.join("  ")));
    }

    fn list_components(&mut self, system: &System) {
        let line = |(number, each): (u32, &Component)| {
            let [state, cpu, priority, _] = each.parts.tcb.status().unwrap_or_default();
            let state = ["inactive", "ready", "waiting", "out of budget"].get(state as usize).unwrap_or(&"?");
            alloc::format!("{number:3} {:16} {state:13} CPU {cpu}, priority {priority}\n", each.name)
        };
        let list: String = system.registry().iter().map(line).collect();
        self.say(format_args!("{list}"));
    }

    fn list_capabilities(&mut self, system: &System, name: Option<&str>) {
        let wanted = system.registry().iter().filter(|(_, each)| name.is_none_or(|name| name == each.name));
        let lists: Vec<String> = wanted.map(|(number, each)| capabilities(number, each)).collect();
        match name {
            Some(name) if lists.is_empty() => self.say(format_args!("{name} does not run\n")),
            _ => self.say(format_args!("{}", lists.concat())),
        }
    }

    fn kill(&mut self, system: &mut System, number: &str) {
        match number.parse() {
            Ok(number) if system.registry().iter().any(|(each, _)| each == number) => {
                system.kill(number);
            }
            _ => self.say(format_args!("no component has the number {number}; `ps` lists them\n")),
        }
    }

    fn tell_memory(&mut self, system: &System) {
        let ([free, slots], [counted, counted_slots]) = (machine::inventory(), system.machine().counted());
        let all = system.machine().memory;
        self.say(format_args!("{} KiB of {} KiB free, {slots} slots free\n", free >> 10, all >> 10));
        self.say(format_args!(
            "the kernel counts {} KiB in Untypeds and {counted_slots} empty slots\n",
            counted >> 10
        ));
    }

    fn show_log(&mut self, system: &System) {
        let log: Vec<u8> = system.machine().log_bytes().collect();
        self.say(format_args!("{}", String::from_utf8_lossy(&log)));
    }

    fn show_manifest(&mut self, system: &System) {
        let manifest = system.manifest();
        for entry in &manifest.components {
            let holds: Vec<&str> = entry.holds.iter().map(|right| right.name()).collect();
            self.say(format_args!(
                "{:12} memory {}, priority {}, CPU {}; holds {}; serves {}; calls {}\n",
                entry.name,
                entry.memory,
                entry.priority,
                entry.cpu,
                or_nothing(&holds),
                or_nothing(&entry.serves),
                or_nothing(&entry.calls),
            ));
        }
    }
}

fn or_nothing(names: &[&str]) -> String {
    if names.is_empty() { "nothing".into() } else { names.join(" ") }
}

/// Every capability in a component's CSpace.
fn capabilities(number: u32, component: &Component) -> String {
    let mut list = alloc::format!("{} ({number}):\n", component.name);
    let cnode = component.parts.cnode;
    for slot in u64::from(FIRST_SLOT)..1 << component.parts.slot_bits {
        if let Ok(found) = cnode.describe(slot)
            && found.kind != Kind::Null
        {
            let rights: String = "rwgx"
                .chars()
                .enumerate()
                .map(|(bit, c)| if found.rights.0 >> bit & 1 == 1 { c } else { '-' })
                .collect();
            // Writing to a string does not fail.
            let _ = writeln!(
                list,
                "{slot:6} {:12} {rights} bits {:2} badge {:#x} identity {:#x}",
                found.kind.name(),
                found.bits,
                found.badge,
                found.identity
            );
        }
    }
    list
}
