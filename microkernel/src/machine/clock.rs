//! How fast the TSC and the APIC's timer run, measured against the old timer chip (8254 data sheet), whose
//! rate every PC has in common.

use x86_64::instructions::port::Port;

use super::{apic, cpu};

/// The 8254's rate.
const PIT_HZ: u64 = 1_193_182;
/// 8254 ticks in a measurement: 4 ms.
const WINDOW: u16 = 4_773;
/// Measurements, of which the median counts: a host that runs something else meanwhile spoils one.
const MEASUREMENTS: usize = 3;

const CHANNEL_2: u16 = 0x42;
const CONTROL: u16 = 0x43;
const GATE: u16 = 0x61;

/// One look at the three clocks: TSC, APIC timer, 8254 (which counts down).
#[derive(Clone, Copy, Default)]
struct Sample {
    tsc: u64,
    timer: u32,
    pit: u16,
}

/// A measurement's result.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Rates {
    tsc_hz: u64,
    timer_per_tsc: u64,
}

/// Measures; TSC ticks in a second. Sets up the APIC's timer, which with `deadline` compares with the TSC.
pub fn init(deadline: bool) -> u64 {
    apic::start_measuring();
    start_pit();
    let mut rates = [Rates::default(); MEASUREMENTS];
    rates.fill_with(measure);
    rates.sort_unstable();
    let median = rates.get(MEASUREMENTS / 2).copied().unwrap_or_default();
    assert!(median.tsc_hz > 1_000_000, "the TSC runs at {} Hz", median.tsc_hz);
    apic::calibrate(median.timer_per_tsc, deadline);
    median.tsc_hz
}

fn measure() -> Rates {
    let start = sample();
    let mut end = start;
    while start.pit.wrapping_sub(end.pit) < WINDOW {
        spin();
        end.pit = read_pit();
    }
    end = sample();
    let pit = u64::from(start.pit.wrapping_sub(end.pit));
    let tsc = end.tsc.wrapping_sub(start.tsc);
    let timer = u64::from(end.timer.wrapping_sub(start.timer));
    Rates {
        tsc_hz: tsc.saturating_mul(PIT_HZ).checked_div(pit).unwrap_or(0),
        timer_per_tsc: (timer << 32).checked_div(tsc).unwrap_or(0),
    }
}

/// Looks at the clocks where the 8254 has just ticked; of some tries the one that took the least time.
fn sample() -> Sample {
    const TRIES: usize = 8;
    let (mut best, mut least) = (Sample::default(), u64::MAX);
    let mut before = read_pit();
    for _ in 0..TRIES {
        loop {
            let tsc = cpu::tsc();
            let timer = apic::timer_counted();
            let pit = read_pit();
            let took = cpu::tsc().wrapping_sub(tsc);
            if pit != before {
                if took < least {
                    (best, least) = (Sample { tsc, timer, pit }, took);
                }
                before = pit;
                break;
            }
        }
    }
    best
}

/// A few microseconds without a look at any clock: reading one is slow under emulation.
fn spin() {
    for _ in 0..2_000 {
        // SAFETY: no instruction at all; keeps the loop from being optimised away.
        unsafe { core::arch::asm!("", options(nomem, nostack, preserves_flags)) };
    }
}

/// Starts channel 2 counting down from 65,536, over and over, with the speaker off.
fn start_pit() {
    const GATE_ON: u8 = 1;
    const SPEAKER_ON: u8 = 2;
    const CHANNEL_2_RATE: u8 = 0xb4;
    write(GATE, read(GATE) & !SPEAKER_ON | GATE_ON);
    write(CONTROL, CHANNEL_2_RATE);
    write(CHANNEL_2, 0);
    write(CHANNEL_2, 0);
}

fn read_pit() -> u16 {
    const LATCH_CHANNEL_2: u8 = 0x80;
    write(CONTROL, LATCH_CHANNEL_2);
    u16::from_le_bytes([read(CHANNEL_2), read(CHANNEL_2)])
}

fn read(port: u16) -> u8 {
    // SAFETY: the 8254's and speaker's ports have no effect on memory; only this module uses them.
    unsafe { Port::new(port).read() }
}

fn write(port: u16, value: u8) {
    // SAFETY: as for `read`.
    unsafe { Port::new(port).write(value) }
}
