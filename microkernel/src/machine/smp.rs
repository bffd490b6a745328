//! The other CPUs: started one after the other, parked until the kernel's logic wants them (Intel SDM vol. 3,
//! 8.4.4 and 10.6.1).

use core::arch::global_asm;
use core::sync::atomic::{AtomicUsize, Ordering};

use abi::trace::MAX_CPUS;
use spin::Once;

use super::cpu::Features;
use super::layout::PAGE;
use super::{apic, cpu, paging, stacks, window};
use crate::log;

global_asm!(include_str!("../../asm/trampoline.s"));

/// The page, below 1 MiB, in which CPUs start; link.ld links the trampoline there.
pub const TRAMPOLINE: u64 = 0x8000;

unsafe extern "C" {
    static trampoline_load: u8;
    static trampoline_cr3: u64;
    static trampoline_stack: u64;
    static trampoline_cpu: u64;
    static trampoline_entry: u64;
}

/// CPUs that run: this many, from number 0 on.
static ONLINE: AtomicUsize = AtomicUsize::new(1);
static FEATURES: Once<Features> = Once::new();
static RELEASE: Once<fn(usize) -> !> = Once::new();

/// Starts the CPUs with these APIC identities, as numbers 1 and on; how many CPUs run then. The boot CPU is
/// not among them; the tables in use map [`TRAMPOLINE`] at its own address.
pub fn start(ids: impl Iterator<Item = u8> + Clone, features: &Features, tsc_hz: u64) -> usize {
    FEATURES.call_once(|| *features);
    let ids = ids.take(MAX_CPUS.saturating_sub(1));
    // SAFETY: link.ld puts a page's worth of the image there, of which the trampoline is the start; the window maps it.
    let code = unsafe { &*(window(&raw const trampoline_load as u64) as *const [u8; PAGE as usize]) };
    let page = window(TRAMPOLINE) as *mut [u8; PAGE as usize];
    // SAFETY: boot took the page out of the free memory, for this alone.
    unsafe { page.write(*code) };
    ids.clone().for_each(apic::reset);
    let millisecond = tsc_hz / 1000;
    wait(millisecond, || false);
    for id in ids {
        start_one(id, millisecond);
    }
    ONLINE.load(Ordering::Acquire)
}

fn start_one(id: u8, millisecond: u64) {
    const PATIENCE: u64 = 2_000;
    let cpu = ONLINE.load(Ordering::Acquire);
    let entry = started as extern "C" fn(usize) -> ! as usize as u64;
    set(&raw const trampoline_cr3, paging::top());
    set(&raw const trampoline_stack, stacks::main_top(cpu));
    set(&raw const trampoline_cpu, cpu as u64);
    set(&raw const trampoline_entry, entry);
    let online = || ONLINE.load(Ordering::Acquire) > cpu;
    for patience in [10, PATIENCE] {
        apic::start_up(id, TRAMPOLINE);
        if wait(millisecond.saturating_mul(patience), online) {
            return;
        }
    }
    log!("the CPU with APIC identity {id} does not start: left off");
    apic::reset(id);
}

/// Sets a word of the trampoline's copy.
fn set(symbol: *const u64, value: u64) {
    let place = window(symbol as u64) as *mut u64;
    // SAFETY: an aligned word of the trampoline's page; no CPU starts in it now.
    unsafe { place.write_volatile(value) };
}

/// Waits until `done`, at most `ticks`; whether it was.
fn wait(ticks: u64, done: impl Fn() -> bool) -> bool {
    let start = cpu::tsc();
    while !done() {
        if cpu::tsc().wrapping_sub(start) > ticks {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// Where the trampoline leads.
extern "C" fn started(cpu: usize) -> ! {
    cpu::init_tables(cpu);
    if let Some(features) = FEATURES.get() {
        cpu::init_registers(cpu, features);
    }
    apic::init(cpu);
    ONLINE.store(cpu.saturating_add(1), Ordering::Release);
    let enter = loop {
        match RELEASE.get() {
            Some(enter) => break enter,
            None => core::hint::spin_loop(),
        }
    };
    paging::flush(); // the mapping of the trampoline
    enter(cpu)
}

/// Has all other CPUs call `enter` with their number, each on its main stack, interrupts off. Once.
pub fn release_aps(enter: fn(usize) -> !) {
    RELEASE.call_once(|| enter);
}
