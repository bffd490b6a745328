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
#[repr(C)]
#[allow(missing_docs, reason = "the names of registers")]
pub struct TrapFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl fmt::Display for TrapFrame {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let name = exception_name(self.vector);
        writeln!(out, "vector {} {name}, error {:#x}", self.vector, self.error)?;
        writeln!(
            out,
            "rip {:#x} cs {:#x} rflags {:#x} rsp {:#x} ss {:#x}",
            self.rip, self.cs, self.rflags, self.rsp, self.ss
        )?;
        writeln!(out, "rax {:#x} rbx {:#x} rcx {:#x} rdx {:#x}", self.rax, self.rbx, self.rcx, self.rdx)?;
        writeln!(out, "rsi {:#x} rdi {:#x} rbp {:#x} r8 {:#x}", self.rsi, self.rdi, self.rbp, self.r8)?;
        writeln!(out, "r9 {:#x} r10 {:#x} r11 {:#x} r12 {:#x}", self.r9, self.r10, self.r11, self.r12)?;
        write!(out, "r13 {:#x} r14 {:#x} r15 {:#x}", self.r13, self.r14, self.r15)
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
    let name = exception_name(frame.vector);
    screen(format_args!("{name} at rip {:#x}", frame.rip), Some(frame))
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
    let rbp = frame.map_or_else(frame_pointer, |frame| frame.rbp);
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
        write!(Writer, " {:#x}", frame.rip)?;
    }
    for address in Backtrace::from(rbp) {
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
pub struct Backtrace {
    frame: u64,
    left: usize,
}

impl Backtrace {
    /// The callers of the function whose frame pointer this is.
    pub fn from(rbp: u64) -> Backtrace {
        Backtrace { frame: rbp, left: DEPTH }
    }
}

impl Iterator for Backtrace {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        let (_, top) = stacks::bounds(self.frame)?;
        if self.frame & 7 != 0 || self.frame > top.checked_sub(16)? {
            return None;
        }
        let saved = self.frame as *const [u64; 2];
        // SAFETY: 16 aligned bytes within a mapped kernel stack (checked above), which nobody else writes now:
        // it is this CPU's, or its CPU stands still.
        let [next, address] = unsafe { saved.read_volatile() };
        self.frame = if next > self.frame && next < top { next } else { 0 };
        (address != 0).then_some(address)
    }
}

/// The exception's name (Intel SDM vol. 3, table 6-1).
pub fn exception_name(vector: u64) -> &'static str {
    const NAMES: [&str; 22] = [
        "#DE divide error",
        "#DB debug",
        "NMI",
        "#BP breakpoint",
        "#OF overflow",
        "#BR bound",
        "#UD undefined instruction",
        "#NM no coprocessor",
        "#DF double fault",
        "exception 9",
        "#TS invalid TSS",
        "#NP segment not present",
        "#SS stack fault",
        "#GP general protection",
        "#PF page fault",
        "exception 15",
        "#MF x87 fault",
        "#AC alignment check",
        "#MC machine check",
        "#XM SIMD fault",
        "#VE virtualization",
        "#CP control protection",
    ];
    usize::try_from(vector).ok().and_then(|vector| NAMES.get(vector)).copied().unwrap_or("interrupt")
}
