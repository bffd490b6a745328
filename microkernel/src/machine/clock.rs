//! How fast the TSC and the APIC's timer run: measured against the ACPI power management timer (ACPI specification
//! 6.4, 4.8.3.3). Where there is none CPUID may tell the TSC's rate, and the APIC's timer is measured against that.
//! The old timer chip (8254) is not needed.

use x86_64::instructions::port::Port;

use super::{apic, cpu};
use crate::log;

/// Measurements in a second.
const MEASUREMENT: u64 = 250;
/// Measurements, of which the median counts: a host that runs something else meanwhile spoils one.
const MEASUREMENTS: usize = 3;

/// A clock of a known rate: the ACPI power management timer, or the TSC itself, whose rate CPUID tells.
#[derive(Clone, Copy)]
struct Reference {
    name: &'static str,
    /// Ticks in a second.
    hz: u64,
    /// What its count is modulo, less one.
    mask: u32,
    /// Where the power management timer is read.
    port: Option<u16>,
}

impl Reference {
    /// The first that runs. A timer that is not there reads the same at each look.
    fn find(pm_timer: Option<u16>, features: &cpu::Features) -> Reference {
        let timer = Reference { name: "the ACPI timer", hz: 3_579_545, mask: 0xff_ffff, port: pm_timer };
        let tsc = features.tsc_hz().map(|hz| Reference { name: "CPUID", hz, mask: u32::MAX, port: None });
        let clocks = [pm_timer.map(|_| timer), tsc];
        let runs = |clock: &Reference| clock.next_tick(clock.now()).is_some();
        clocks.into_iter().flatten().find(runs).unwrap_or_else(|| {
            panic!("no clock to measure by: no ACPI timer, and CPUID does not tell the TSC's rate")
        })
    }

    /// Ticks so far, modulo a power of two.
    fn now(self) -> u32 {
        self.port.map_or_else(|| cpu::tsc() as u32, read_pm_timer)
    }

    /// Ticks from `start` to `end`.
    fn between(self, start: u32, end: u32) -> u64 {
        u64::from(end.wrapping_sub(start) & self.mask)
    }

    /// Looks at all clocks as soon as this one no longer reads `before`; the TSC ticks that took. `None`: it stands.
    fn next_tick(self, before: u32) -> Option<(u64, Sample)> {
        const LOOKS: u32 = 100_000;
        (0..LOOKS).find_map(|_| {
            let tsc = cpu::tsc();
            let timer = apic::timer_counted();
            let reference = self.now();
            let took = cpu::tsc().wrapping_sub(tsc);
            (reference != before).then_some((took, Sample { tsc, timer, reference }))
        })
    }

    /// Looks at the clocks where this one has just ticked; of some tries the one that took the least time.
    fn sample(self) -> Sample {
        const TRIES: usize = 8;
        let (mut best, mut least) = (Sample::default(), u64::MAX);
        let mut before = self.now();
        for _ in 0..TRIES {
            let Some((took, sample)) = self.next_tick(before) else { break };
            if took < least {
                (best, least) = (sample, took);
            }
            before = sample.reference;
        }
        best
    }

    fn measure(self) -> Rates {
        let window = self.hz / MEASUREMENT;
        let start = self.sample();
        while self.between(start.reference, self.now()) < window {
            spin();
        }
        let end = self.sample();
        let reference = self.between(start.reference, end.reference);
        let tsc = end.tsc.wrapping_sub(start.tsc);
        let timer = u64::from(end.timer.wrapping_sub(start.timer));
        Rates {
            tsc_hz: tsc.saturating_mul(self.hz).checked_div(reference).unwrap_or(0),
            timer_per_tsc: (timer << 32).checked_div(tsc).unwrap_or(0),
        }
    }
}

/// One look at the three clocks: TSC, APIC timer, reference.
#[derive(Clone, Copy, Default)]
struct Sample {
    tsc: u64,
    timer: u32,
    reference: u32,
}

/// A measurement's result.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Rates {
    tsc_hz: u64,
    timer_per_tsc: u64,
}

/// Measures; TSC ticks in a second. Sets up the APIC's timer.
///
/// # Panics
/// Where there is nothing to measure by.
pub fn init(pm_timer: Option<u16>, features: &cpu::Features) -> u64 {
    apic::start_measuring();
    let reference = Reference::find(pm_timer, features);
    let mut rates = [Rates::default(); MEASUREMENTS];
    rates.fill_with(|| reference.measure());
    rates.sort_unstable();
    let median = rates.get(MEASUREMENTS / 2).copied().unwrap_or_default();
    assert!(median.tsc_hz > 1_000_000, "the TSC runs at {} Hz", median.tsc_hz);
    log!("TSC of {} MHz, by {}", median.tsc_hz / 1_000_000, reference.name);
    apic::calibrate(median.timer_per_tsc);
    median.tsc_hz
}

/// A few microseconds without a look at any clock: reading one is slow under emulation.
fn spin() {
    for _ in 0..2_000 {
        // SAFETY: no instruction at all; keeps the loop from being optimised away.
        unsafe { core::arch::asm!("", options(nomem, nostack, preserves_flags)) };
    }
}

fn read_pm_timer(port: u16) -> u32 {
    // SAFETY: reading the timer has no effect.
    unsafe { Port::new(port).read() }
}
