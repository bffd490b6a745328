//! A stand-in for the kernel's logic: says what boot found, tries each piece, and shuts down.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::log;
use crate::machine::boot::Boot;
use crate::machine::{apic, cpu, panic, power, smp};
use crate::trap::SEEN;

static TURN: AtomicUsize = AtomicUsize::new(0);
static PINGED: AtomicUsize = AtomicUsize::new(0);
static PANIC: AtomicBool = AtomicBool::new(false);
static TSC_HZ: AtomicUsize = AtomicUsize::new(0);

/// Tries the machine.
pub fn run(boot: &Boot) -> ! {
    let mib = |bytes: u64| bytes >> 20;
    log!("{} MiB free, {} CPUs, {} kHz", mib(boot.memory.size()), boot.cpus, boot.tsc_hz / 1000);
    for (name, list) in [("memory", &boot.memory), ("devices", &boot.devices), ("firmware", &boot.firmware)] {
        for region in list.as_slice() {
            log!("{name} {:#x}..{:#x}", region.start, region.end);
        }
    }
    log!(
        "archive {:x?} rsdp {:x?} ecam {:x?} iommu {}",
        boot.archive,
        boot.platform.rsdp,
        boot.ecam,
        boot.platform.iommu
    );
    log!("log {:#x} trace {:#x} xsave {} bytes", boot.log, boot.trace, cpu::xsave_size());
    TSC_HZ.store(boot.tsc_hz as usize, Ordering::Relaxed);
    smp::release_aps(other);
    timer_test(0);
    for cpu in 1..boot.cpus {
        TURN.store(cpu, Ordering::Release);
        while TURN.load(Ordering::Acquire) == cpu {
            core::hint::spin_loop();
        }
        PINGED.store(0, Ordering::Release);
        let start = cpu::tsc();
        apic::send_ipi(cpu);
        while PINGED.load(Ordering::Acquire) != cpu {
            core::hint::spin_loop();
        }
        log!("cpu {cpu} answered an IPI after {} ticks", cpu::tsc().wrapping_sub(start));
    }
    assert!(!boot.option("panic=test"), "asked for");
    if boot.option("panic=twice") {
        panic::set_report(|_, _| panic!("in the report"));
        panic!("asked for");
    }
    if boot.option("panic=remote") {
        PANIC.store(true, Ordering::Relaxed);
        apic::send_ipi(boot.cpus.saturating_sub(1));
        loop {
            core::hint::spin_loop();
        }
    }
    if boot.option("panic=overflow") {
        deeper(0);
    }
    if boot.option("panic=fault") {
        // SAFETY: none: a fault is what is asked for.
        unsafe { (0x10 as *const u64).read_volatile() };
    }
    power::shutdown(0)
}

#[allow(unconditional_recursion, reason = "to run out of stack")]
fn deeper(depth: u64) -> u64 {
    core::hint::black_box(deeper(core::hint::black_box(depth).wrapping_add(1))).wrapping_add(depth)
}

fn seen(cpu: usize, kind: usize) -> u64 {
    SEEN.get(cpu).and_then(|cpu| cpu.get(kind)).map_or(0, |seen| seen.load(Ordering::Relaxed))
}

fn timer_test(cpu: usize) {
    for divisor in [1000, 100_000] {
        let ticks = (TSC_HZ.load(Ordering::Relaxed) as u64).checked_div(divisor).unwrap_or(0);
        let before = seen(cpu, 0);
        let start = cpu::tsc();
        apic::set_timer(ticks);
        while seen(cpu, 0) == before {
            smp::halt_with_interrupts();
        }
        log!("cpu {cpu}: timer set to {ticks} came after {}", cpu::tsc().wrapping_sub(start));
    }
    apic::set_timer(1_000_000);
    apic::stop_timer();
}

fn other(cpu: usize) -> ! {
    while TURN.load(Ordering::Acquire) != cpu {
        core::hint::spin_loop();
    }
    timer_test(cpu);
    TURN.store(0, Ordering::Release);
    let before = seen(cpu, 1);
    while seen(cpu, 1) == before {
        smp::halt_with_interrupts();
    }
    PINGED.store(cpu, Ordering::Release);
    loop {
        smp::halt_with_interrupts();
        assert!(!PANIC.load(Ordering::Relaxed), "asked for, on another CPU");
    }
}
