//! A stand-in for the kernel's logic: says what boot found, tries each piece, and shuts down.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use x86_64::instructions::interrupts;
use x86_64::instructions::port::Port;

use crate::log;
use crate::machine::boot::Boot;
use crate::machine::{apic, cpu, ioapic, panic, power, smp};
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
    wire_test(boot, 0);
    let start = cpu::tsc();
    log!(
        "{}",
        "a line of a hundred characters costs .............................................................."
    );
    log!("... {} ticks", cpu::tsc().wrapping_sub(start));
    for cpu in 1..boot.cpus {
        TURN.store(cpu, Ordering::Release);
        while TURN.load(Ordering::Acquire) == cpu {
            core::hint::spin_loop();
        }
        wire_test(boot, cpu);
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

/// The 8254's channel 0, led to `cpu`: nothing while masked, once when not.
fn wire_test(boot: &Boot, cpu: usize) {
    const VECTOR: u8 = 0x41;
    let wire = boot.platform.isa(0);
    if !ioapic::route(wire.gsi, VECTOR, cpu, wire.level, wire.active_low) {
        return log!("no wire {}", wire.gsi);
    }
    let before = seen(cpu, 2);
    let pulse = |until: u64, milliseconds: u64| {
        for (port, value) in [(0x43u16, 0x30u8), (0x40, 200), (0x40, 0)] {
            // SAFETY: the 8254's ports; nobody else uses channel 0.
            unsafe { Port::new(port).write(value) };
        }
        let patience = (TSC_HZ.load(Ordering::Relaxed) as u64 / 1000).wrapping_mul(milliseconds);
        let start = cpu::tsc();
        while cpu::tsc().wrapping_sub(start) < patience && seen(cpu, 2).wrapping_sub(before) < until {
            interrupts::enable();
            core::hint::spin_loop();
            interrupts::disable();
        }
        seen(cpu, 2).wrapping_sub(before)
    };
    let masked = pulse(1, 2);
    ioapic::unmask(wire.gsi);
    let unmasked = pulse(1, 1000);
    ioapic::mask(wire.gsi);
    let again = pulse(2, 2);
    log!("cpu {cpu}: wire {} masked {masked} unmasked {unmasked} masked {again}", wire.gsi);
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
