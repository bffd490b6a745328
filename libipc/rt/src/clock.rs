//! Time: the CPU's time-stamp counter, which runs alike on all CPUs.

/// TSC ticks since the machine started.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: reads a counter that is open to user code.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Ticks in so many microseconds.
pub fn microseconds(count: u64) -> u64 {
    (u128::from(count) * u128::from(crate::env::tsc_hz()) / 1_000_000) as u64
}

/// Microseconds in so many ticks.
pub fn to_microseconds(ticks: u64) -> u64 {
    (u128::from(ticks) * 1_000_000 / u128::from(crate::env::tsc_hz().max(1))) as u64
}
