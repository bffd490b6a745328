//! Measuring: batches of operations between two readings of the time-stamp counter.
//!
//! A sample is a batch; what the same loop costs with nothing in it, and the two readings, are measured and
//! taken off. Where the unit is instructions (virtual time that counts them), a run of instructions of known
//! length must come out as its length.

use alloc::vec::Vec;
use core::arch::asm;
use core::arch::x86_64::{_mm_lfence, _rdtsc};
use core::fmt;

use abi::Error;

use crate::Failure;

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Instructions: the counter counts them.
    Instructions,
    /// Ticks of the counter.
    Cycles,
    /// Nanoseconds.
    Nanoseconds,
}

impl Unit {
    const ALL: [(&'static str, Unit); 3] =
        [("instructions", Unit::Instructions), ("cycles", Unit::Cycles), ("ns", Unit::Nanoseconds)];

    /// The unit of that name.
    pub fn named(name: &str) -> Option<Unit> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|&(_, unit)| unit)
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, unit)| *unit == self).map_or("", |&(name, _)| name)
    }
}

/// Batches before the first sample.
const WARM_UP: usize = 3;
/// Samples of the empty loop, of which the least counts.
const EMPTY_SAMPLES: usize = 20;
/// Length of the run of known length.
const KNOWN: u64 = 1_000;

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    /// Operations in a batch.
    pub batch: u64,
    /// Samples.
    pub samples: usize,
}

impl Amount {
    /// For operations of some hundred instructions.
    pub const SHORT: Amount = Amount { batch: 1_000, samples: 100 };
    /// For operations of some ten thousand.
    pub const LONG: Amount = Amount { batch: 10, samples: 100 };
    /// One by one: what happens on several CPUs at a host's mercy, where one delay would spoil a batch.
    pub const SINGLE: Amount = Amount { batch: 1, samples: 500 };
}

/// Batches, in ticks of the counter.
#[derive(Debug)]
pub struct Samples {
    /// Ticks of each batch, without the loop's own.
    pub ticks: Vec<u64>,
    /// Operations in a batch.
    pub batch: u64,
}

impl Samples {
    /// The same for operations that each do `parts` things: per thing.
    pub fn each_of(self, parts: u64) -> Samples {
        Samples { batch: self.batch * parts, ..self }
    }
}

/// What measures.
#[derive(Debug)]
pub struct Meter {
    /// What is asked for.
    pub unit: Unit,
    tsc_hz: u64,
    /// Ticks of the run of known length.
    length: u64,
}

/// Reads the counter: what is before is done, what comes after has not begun.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a fence; every x86-64 processor has it.
    unsafe { _mm_lfence() };
    // SAFETY: reads a counter that is open to user code.
    let ticks = unsafe { _rdtsc() };
    // SAFETY: as above.
    unsafe { _mm_lfence() };
    ticks
}

/// Ticks that a batch takes, with its loop.
#[inline(always)]
fn batch(count: u64, mut operation: impl FnMut() -> Result<(), Error>) -> Result<u64, Error> {
    let start = now();
    for _ in 0..count {
        operation()?;
    }
    Ok(now() - start)
}

/// Nothing, to the compiler as unknown as a system call.
#[inline(always)]
fn nothing() -> Result<(), Error> {
    // SAFETY: no instruction.
    unsafe { asm!("", clobber_abi("C"), options(nostack)) };
    Ok(())
}

/// The least that an empty batch takes.
#[inline(never)]
fn empty(count: u64) -> u64 {
    (0..EMPTY_SAMPLES).filter_map(|_| batch(count, nothing).ok()).min().unwrap_or(0)
}

/// Ticks of the run of known length, with the two readings.
#[inline(never)]
fn known() -> u64 {
    let start = now();
    // SAFETY: instructions that do nothing.
    unsafe { asm!(".rept {length}", "nop", ".endr", length = const KNOWN, options(nomem, nostack)) };
    now() - start
}

/// Two readings one after the other.
#[inline(never)]
fn readings() -> u64 {
    let start = now();
    now() - start
}

fn least(measure: fn() -> u64) -> u64 {
    (0..EMPTY_SAMPLES).map(|_| measure()).min().unwrap_or(0)
}

impl Meter {
    /// A meter for `unit`. Refuses instructions where the counter does not count them.
    pub fn calibrated(unit: Unit) -> Result<Meter, Failure> {
        let length = least(known).saturating_sub(least(readings));
        let meter = Meter { unit, tsc_hz: rt::env::tsc_hz(), length };
        if unit == Unit::Instructions && length != KNOWN {
            meter.tell_calibration();
            return Err(Failure::Wrong(
                "the time-stamp counter does not count instructions here: run with --icount, or in another unit",
            ));
        }
        Ok(meter)
    }

    /// Says what the run of known length took.
    pub fn tell_calibration(&self) {
        let length = self.length;
        rt::eprintln!(
            "bench: calibration: {KNOWN} instructions take {length} ticks of the time-stamp counter"
        );
    }

    /// Measures `operation`.
    #[inline(always)]
    pub fn measure(
        &self,
        amount: Amount,
        operation: impl FnMut() -> Result<(), Error>,
    ) -> Result<Samples, Failure> {
        self.measure_between(amount, operation, || Ok(()))
    }

    /// Measures `operation`; `between` tidies up after each batch.
    #[inline(always)]
    pub fn measure_between(
        &self,
        amount: Amount,
        mut operation: impl FnMut() -> Result<(), Error>,
        mut between: impl FnMut() -> Result<(), Error>,
    ) -> Result<Samples, Failure> {
        let loop_itself = empty(amount.batch);
        let mut ticks = Vec::with_capacity(amount.samples + WARM_UP);
        for _ in 0..amount.samples + WARM_UP {
            ticks.push(batch(amount.batch, &mut operation)?.saturating_sub(loop_itself));
            between()?;
        }
        ticks.drain(..WARM_UP);
        Ok(Samples { ticks, batch: amount.batch })
    }

    /// The figures of one operation, as a result line has them.
    pub fn summary(&self, samples: Samples) -> Summary {
        let mut ticks = samples.ticks;
        ticks.sort_unstable();
        let at = |hundredth| self.hundredths(nth(&ticks, hundredth), samples.batch);
        Summary { unit: self.unit.name(), figures: [at(0), at(50), at(99), at(100)], samples: ticks.len() }
    }

    /// Hundredths of the unit for one operation of a batch.
    fn hundredths(&self, ticks: u64, batch: u64) -> u64 {
        let (ticks, batch) = (u128::from(ticks), u128::from(batch.max(1)));
        let (scaled, parts) = match self.unit {
            Unit::Instructions | Unit::Cycles => (ticks * 100, batch),
            Unit::Nanoseconds => (ticks * 100_000_000_000, batch * u128::from(self.tsc_hz.max(1))),
        };
        ((scaled + parts / 2) / parts) as u64
    }
}

/// The figures of ratios in hundredths, as a result line has them.
pub fn ratios(mut ratios: Vec<u64>) -> Summary {
    ratios.sort_unstable();
    let at = |hundredth| nth(&ratios, hundredth);
    Summary { unit: "times", figures: [at(0), at(50), at(99), at(100)], samples: ratios.len() }
}

/// The value that `hundredth` of a hundred sorted values do not exceed.
fn nth(sorted: &[u64], hundredth: usize) -> u64 {
    let place = (sorted.len() * hundredth).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or(0)
}

/// Figures of one operation.
#[derive(Debug)]
pub struct Summary {
    unit: &'static str,
    /// Least, median, 99th percentile and greatest, in hundredths.
    figures: [u64; 4],
    samples: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.unit)?;
        for figure in self.figures {
            write!(f, " {}.{:02}", figure / 100, figure % 100)?;
        }
        write!(f, " {}", self.samples)
    }
}
