//! Readable reports of guests that crashed, hung or vanished.

use std::fmt::Write as _;

use crate::qemu::Ending;
use crate::qmp::Stopped;
use crate::session::Crash;
use crate::symbols::{Component, Symbols};

/// How many of the last lines of the kernel log a report shows.
const LOG_LINES: usize = 30;
/// The first word of the kernel's panic screen.
const PANIC: &str = "PANIC";
/// What the panic screen's list of return addresses begins with.
const BACKTRACE: &str = "backtrace:";

/// The names of a crash record's registers, in its order.
const REGISTERS: [&str; 18] = [
    "rip", "rsp", "rflags", "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12",
    "r13", "r14", "r15",
];

/// The kernel's panic screen within its log: from the line that begins with PANIC to the end.
pub fn panic_screen(log: &str) -> Option<&str> {
    let mut start = 0;
    for line in log.split_inclusive('\n') {
        if line.starts_with(PANIC) {
            return Some(&log[start..]);
        }
        start += line.len();
    }
    None
}

/// The report of a kernel panic: the screen, its backtrace with functions and lines, the log before it.
pub fn kernel_panic(log: &str, symbols: &mut Symbols) -> String {
    // A screen that began behind other text, such as a prompt, is still shown.
    let behind_text = || log.rfind(PANIC).map(|start| &log[start..]);
    let screen = panic_screen(log).or_else(behind_text).unwrap_or_default();
    let mut report = String::from("the kernel panicked\n\n");
    for line in screen.lines().filter(|line| !line.starts_with(BACKTRACE)) {
        let _ = writeln!(report, "    {line}");
    }
    let addresses: Vec<u64> =
        screen.lines().filter_map(|line| line.strip_prefix(BACKTRACE)).flat_map(addresses).collect();
    report += &backtrace(&addresses, Component("init"), symbols);
    let before = &log[..log.len() - screen.len()];
    report + &last_lines(before)
}

/// The report of a component that crashed.
pub fn component_crash(crash: &Crash, log: &str, symbols: &mut Symbols) -> String {
    let mut report = format!("component {} crashed: {}", crash.component, crash.what);
    if crash.address != 0 {
        let _ = write!(report, " at address {:#x}", crash.address);
    }
    if !crash.message.is_empty() {
        let _ = write!(report, ": {}", crash.message);
    }
    report.push_str("\n\n");
    for row in REGISTERS.iter().zip(crash.registers).collect::<Vec<_>>().chunks(3) {
        let cells: Vec<_> = row.iter().map(|(name, value)| format!("{name:>6} {value:016x}")).collect();
        let _ = writeln!(report, "    {}", cells.join("  "));
    }
    let component = Component(&crash.component);
    let _ = writeln!(report, "\nat");
    report += &frame(crash.registers[0], crash.registers[0], component, symbols);
    report += &backtrace(&crash.backtrace, component, symbols);
    report + &last_lines(log)
}

/// The report of a guest that vanished: it was reset, or QEMU failed.
pub fn lost(ending: &Ending) -> String {
    let mut report = if ending.reset {
        "the guest reset itself: a triple fault, or a reset nobody asked for\n".to_owned()
    } else {
        format!("QEMU ended unexpectedly: {}\n", ending.status)
    };
    for line in ending.complaints.lines() {
        let _ = writeln!(report, "    {line}");
    }
    report + &last_lines(&ending.log)
}

/// The report of a guest that does not go on: where each CPU is, and the log. Addresses of user programs are
/// looked up in `component`, the one most likely to run.
pub fn hung(stopped: &Stopped, component: Component, log: &str, symbols: &mut Symbols) -> String {
    let mut report = String::from("where the CPUs are\n");
    for (cpu, stack) in stopped.stacks.iter().enumerate() {
        let _ = writeln!(report, "\n  CPU {cpu}");
        for (depth, &address) in stack.iter().enumerate() {
            let probe = if depth == 0 { address } else { call_before(address) };
            report += &frame(address, probe, component, symbols);
        }
    }
    report.push_str("\nregisters\n");
    for line in stopped.registers.lines().filter(|line| is_of_interest(line)) {
        let _ = writeln!(report, "    {line}");
    }
    report + &last_lines(log)
}

/// Prints a report, set off from what the guest wrote.
pub fn tell(report: &str) {
    eprintln!("\nskink: {report}");
}

/// QEMU prints vector and descriptor registers too, which say little and fill a screen.
fn is_of_interest(line: &str) -> bool {
    ["CPU#", "R", "E", "CR"].iter().any(|start| line.starts_with(start)) && !line.starts_with("ES ")
}

fn addresses(line: &str) -> impl Iterator<Item = u64> {
    line.split_whitespace()
        .filter_map(|word| u64::from_str_radix(word.strip_prefix("0x").unwrap_or(word), 16).ok())
}

fn backtrace(addresses: &[u64], component: Component, symbols: &mut Symbols) -> String {
    let mut text = String::from("\nbacktrace\n");
    if addresses.is_empty() {
        text.push_str("    (none)\n");
    }
    for &address in addresses {
        text += &frame(address, call_before(address), component, symbols);
    }
    text
}

/// An address within the call that returns to `address`, which itself may be another function's.
fn call_before(address: u64) -> u64 {
    address.saturating_sub(1)
}

fn frame(shown: u64, probe: u64, component: Component, symbols: &mut Symbols) -> String {
    let mut lines = symbols.look_up(component, probe);
    if lines.is_empty() {
        lines.push("?".to_owned());
    }
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        let address = if index == 0 { format!("{shown:#018x}") } else { " ".repeat(18) };
        let _ = writeln!(text, "    {address}  {line}");
    }
    text
}

fn last_lines(log: &str) -> String {
    let lines: Vec<_> = log.trim_end().lines().collect();
    let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
    let mut text = String::from("\nlast lines of the kernel log\n");
    if last.is_empty() {
        text.push_str("    (it is empty)\n");
    }
    for line in last {
        let _ = writeln!(text, "    {line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs::Programs;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    fn no_programs() -> Programs {
        Programs { kernel: "/nowhere".into(), init: "/nowhere".into(), programs: Vec::new() }
    }

    const LOG: &str = "booting\nready\nPANIC at microkernel/src/main.rs:7: no more\nrip 1 rsp 2\nbacktrace: 0xffffffff80001000 0xffffffff80002000\n";

    #[test]
    fn the_panic_screen_begins_at_its_line_not_at_the_word() {
        assert!(panic_screen(LOG).expect("there").starts_with("PANIC at"));
        assert_eq!(panic_screen("no PANIC here\n"), None);
    }

    #[test]
    fn a_kernel_panic_shows_message_registers_backtrace_and_log() {
        let report = kernel_panic(LOG, &mut Symbols::new(&no_programs()));
        for part in ["no more", "rip 1 rsp 2", "0xffffffff80001000  ?", "0xffffffff80002000", "    ready"] {
            assert!(report.contains(part), "{part} in\n{report}");
        }
        assert_eq!(report.matches("PANIC").count(), 1, "{report}");
    }

    #[test]
    fn a_panic_screen_behind_a_prompt_is_shown_too() {
        let report = kernel_panic("# PANIC gone\nbacktrace: 0x10\n", &mut Symbols::new(&no_programs()));
        assert!(report.contains("    PANIC gone") && report.contains("0x0000000000000010"), "{report}");
    }

    #[test]
    fn a_component_crash_shows_what_where_and_the_registers() {
        let mut registers = [0; 18];
        registers[0] = 0x40_1000;
        registers[17] = 0xf15;
        let crash = Crash {
            component: "spin".into(),
            what: "page fault".into(),
            message: String::new(),
            address: 0xdead,
            registers,
            backtrace: vec![0x40_2000],
        };
        let report = component_crash(&crash, "log line\n", &mut Symbols::new(&no_programs()));
        for part in [
            "component spin crashed: page fault at address 0xdead",
            "rip 0000000000401000",
            "r15 0000000000000f15",
            "0x0000000000402000",
            "log line",
        ] {
            assert!(report.contains(part), "{part} in\n{report}");
        }
    }

    #[test]
    fn a_reset_is_told_from_a_failure_of_qemu() {
        let mut ending = Ending {
            status: ExitStatus::from_raw(0),
            complaints: "qemu: no such device\n".into(),
            reset: true,
            log: "the last words\n".into(),
        };
        assert!(lost(&ending).contains("triple fault"));
        ending.reset = false;
        let failed = lost(&ending);
        for part in ["QEMU ended", "no such device", "the last words"] {
            assert!(failed.contains(part), "{part} in\n{failed}");
        }
    }

    #[test]
    fn a_hung_guest_shows_where_each_cpu_is() {
        let stopped = Stopped {
            registers: "\nCPU#0\nRAX=0 RBX=1\nRIP=ffffffff80001234 RFL=00000002\nXMM00=0\n\nCPU#1\n".into(),
            stacks: vec![vec![0xffff_ffff_8000_1234, 0xffff_ffff_8000_2000], vec![0x40_1000]],
        };
        let report = hung(&stopped, Component("spin"), "", &mut Symbols::new(&no_programs()));
        for part in [
            "CPU 0",
            "0xffffffff80001234",
            "0xffffffff80002000",
            "CPU 1",
            "0x0000000000401000",
            "(it is empty)",
        ] {
            assert!(report.contains(part), "{part} in\n{report}");
        }
        assert!(!report.contains("XMM"));
    }

    #[test]
    fn only_the_last_lines_of_a_long_log_are_shown() {
        let log: String = (0..100).map(|number| format!("line {number}\n")).collect();
        let text = last_lines(&log);
        assert!(text.contains("line 70\n") && text.contains("line 99\n") && !text.contains("line 69\n"));
    }
}
