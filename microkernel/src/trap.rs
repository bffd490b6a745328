//! Entries from traps: every exception ends on the panic screen; timer and IPI are counted. A stand-in for
//! the kernel's entry paths.

use core::sync::atomic::{AtomicU64, Ordering};

use abi::trace::MAX_CPUS;

use crate::machine::panic::{self, TrapFrame};
use crate::machine::{apic, stacks};

core::arch::global_asm!(include_str!("../asm/entry.s"), trap = sym trap);

/// Timer interrupts, IPIs and device interrupts seen by each CPU.
pub static SEEN: [[AtomicU64; 3]; MAX_CPUS] = [const { [const { AtomicU64::new(0) }; 3] }; MAX_CPUS];

extern "C" fn trap(frame: &TrapFrame) {
    const NMI: u64 = 2;
    let kind = match frame.vector {
        v if v == u64::from(apic::TIMER_VECTOR) => 0,
        v if v == u64::from(apic::IPI_VECTOR) => 1,
        v if (u64::from(apic::FIRST_DEVICE_VECTOR)..=u64::from(apic::LAST_DEVICE_VECTOR)).contains(&v) => 2,
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
