//! The panic screen: who, what, where, the registers if a trap led here, a backtrace, what the kernel adds;
//! then the end of the machine.

use core::arch::asm;
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

use abi::trace::{RECORDS, Ring};
use x86_64::instructions::{hlt, interrupts};
use x86_64::registers::control::Cr2;

use super::log::Writer;
use super::{apic, boot, power, stacks};

/// What a trap found in the registers, in the order in which asm/entry.s leaves it on the stack.
#[derive(Debug)]
#[repr(transparent)]
pub struct TrapFrame([u64; REGISTERS.len()]);

const REGISTERS: [&str; 22] = [
    "r15", "r14", "r13", "r12", "r11", "r10", "r9", "r8", "rbp", "rdi", "rsi", "rdx", "rcx", "rbx", "rax",
    "vector", "error", "rip", "cs", "rflags", "rsp", "ss",
];

impl TrapFrame {
    fn register(&self, name: &str) -> u64 {
        REGISTERS.iter().zip(self.0).find(|&(&each, _)| each == name).map_or(0, |(_, value)| value)
    }

    fn exception(&self) -> &'static str {
        exception_name(self.register("vector"))
    }
}

impl fmt::Display for TrapFrame {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{}", self.exception())?;
        for (at, (name, value)) in REGISTERS.iter().zip(self.0).rev().enumerate() {
            write!(out, "{}{name} {value:#x}", if at % 5 == 0 { '\n' } else { ' ' })?;
        }
        Ok(())
    }
}

const NOBODY: usize = usize::MAX;
/// The CPU that panics.
static PANICKING: AtomicUsize = AtomicUsize::new(NOBODY);

/// Frames of a backtrace, at most.
const DEPTH: usize = 24;

/// To be called first at each NMI: stands still for good when another CPU panics.
pub fn stop_if_panicking() {
    let by = PANICKING.load(Ordering::Acquire);
    if by != NOBODY && by != stacks::current_cpu() {
        stand_still();
    }
}

/// The screen for an exception that the kernel has no business with.
pub fn trap(frame: &TrapFrame) -> ! {
    screen(format_args!("{} at rip {:#x}", frame.exception(), frame.register("rip")), Some(frame))
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    match info.location() {
        Some(at) => screen(format_args!("{} at {}:{}", info.message(), at.file(), at.line()), None),
        None => screen(format_args!("{}", info.message()), None),
    }
}

fn screen(message: fmt::Arguments, frame: Option<&TrapFrame>) -> ! {
    interrupts::disable();
    let cpu = stacks::current_cpu();
    match PANICKING.compare_exchange(NOBODY, cpu, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {}
        Err(first) if first == cpu => {
            let _cannot_fail = Writer.write_str("\nPANIC while panicking\n");
            power::shutdown(power::PANICKED)
        }
        Err(_) => stand_still(),
    }
    apic::stop_others();
    let rbp = frame.map_or_else(frame_pointer, |frame| frame.register("rbp"));
    let _cannot_fail = write_screen(cpu, message, frame, rbp);
    power::shutdown(power::PANICKED)
}

fn write_screen(cpu: usize, message: fmt::Arguments, frame: Option<&TrapFrame>, rbp: u64) -> fmt::Result {
    writeln!(Writer, "\nPANIC cpu {cpu}: {message}")?;
    if let Some(frame) = frame {
        writeln!(Writer, "{frame} cr2 {:#x}", Cr2::read_raw())?;
    }
    Writer.write_str("backtrace:")?;
    if let Some(frame) = frame {
        write!(Writer, " {:#x}", frame.register("rip"))?;
    }
    for address in backtrace(rbp) {
        write!(Writer, " {address:#x}")?;
    }
    Writer.write_str("\n")?;
    boot::trace_rings().iter().enumerate().try_for_each(|(cpu, ring)| write_trace(cpu, ring))
}

/// The last records of a trace ring.
fn write_trace(cpu: usize, ring: &Ring) -> fmt::Result {
    const LAST: u64 = 4;
    let written = ring.written.load(Ordering::Acquire);
    for number in written.saturating_sub(LAST)..written {
        if let Some(record) = ring.records.get(number as usize % RECORDS) {
            let [time, event, a, b] =
                [&record.time, &record.event, &record.a, &record.b].map(|word| word.load(Ordering::Relaxed));
            writeln!(Writer, "trace cpu {cpu}: tsc {time} event {} {a:#x} {b:#x}", event & 0xff)?;
        }
    }
    Ok(())
}

fn stand_still() -> ! {
    interrupts::disable();
    loop {
        hlt();
    }
}

fn frame_pointer() -> u64 {
    let rbp: u64;
    // SAFETY: copies a register.
    unsafe { asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags)) };
    rbp
}

/// The return addresses above a frame pointer, as far as the frames lie in one kernel stack and ascend.
fn backtrace(rbp: u64) -> impl Iterator<Item = u64> {
    let top = stacks::bounds(rbp).map_or(0, |(_, top)| top);
    let next = move |&(at, [next, _]): &(u64, [u64; 2])| frame(next, top).filter(|_| next > at);
    let frames = core::iter::successors(frame(rbp, top), next).take(DEPTH);
    frames.map(|(_, [_, address])| address).take_while(|&address| address != 0)
}

/// The frame at `at`, with what it holds, if it lies in the kernel stack with this top.
fn frame(at: u64, top: u64) -> Option<(u64, [u64; 2])> {
    let (_, found) = stacks::bounds(at)?;
    if at & 7 != 0 || found != top || at > top.checked_sub(16)? {
        return None;
    }
    // SAFETY: 16 aligned bytes within a mapped kernel stack (checked above), which nobody else writes now: it is this
    // CPU's, or its CPU stands still.
    Some((at, unsafe { (at as *const [u64; 2]).read_volatile() }))
}

/// The exception's mnemonic (Intel SDM vol. 3, table 6-1).
fn exception_name(vector: u64) -> &'static str {
    const NAMES: [&str; 22] = [
        "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "CSO", "#TS", "#NP", "#SS", "#GP",
        "#PF", "", "#MF", "#AC", "#MC", "#XM", "#VE", "#CP",
    ];
    usize::try_from(vector).ok().and_then(|vector| NAMES.get(vector)).copied().unwrap_or("interrupt")
}
