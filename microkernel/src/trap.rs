//! Entries from traps: every exception ends on the panic screen; timer and IPI are counted. A stand-in for
//! the kernel's entry paths.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::trace::MAX_CPUS;

use crate::machine::{apic, panic, stacks};

core::arch::global_asm!(include_str!("../asm/entry.s"), trap = sym trap);

unsafe extern "C" {
    /// The entry of each vector (asm/entry.s).
    pub static interrupt_entries: [u64; 256];
    /// The system call entry of each CPU (asm/entry.s).
    pub static syscall_entries: [u64; MAX_CPUS];
}

/// What asm/entry.s leaves on the stack.
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
        let name = panic::exception_name(self.vector);
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

/// Timer interrupts and IPIs seen by each CPU.
pub static SEEN: [[AtomicU64; 2]; MAX_CPUS] = [const { [const { AtomicU64::new(0) }; 2] }; MAX_CPUS];

extern "C" fn trap(frame: &TrapFrame) {
    const NMI: u64 = 2;
    let kind = match frame.vector {
        v if v == u64::from(apic::TIMER_VECTOR) => 0,
        v if v == u64::from(apic::IPI_VECTOR) => 1,
        NMI => {
            panic::stop_if_panicking();
            panic::trap(frame)
        }
        v if v == u64::from(apic::SPURIOUS_VECTOR) => return,
        _ => panic::trap(frame),
    };
    if let Some(seen) = SEEN.get(stacks::current_cpu()).and_then(|cpu| cpu.get(kind)) {
        seen.fetch_add(1, Ordering::Relaxed);
    }
    apic::end_of_interrupt();
}
