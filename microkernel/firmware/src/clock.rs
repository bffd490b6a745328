//! How fast the TSC runs, where CPUID tells.

/// TSC ticks in a second by CPUID leaf 15h (`[eax, ebx, ecx]`: denominator, numerator, the crystal's Hz; Intel SDM
/// vol. 3, 18.7.3), or by the hypervisor's leaf 4000_0010h (kHz). 0 stands for what a CPU does not tell.
pub fn tsc_hz([denominator, numerator, crystal]: [u32; 3], hypervisor_khz: u32) -> Option<u64> {
    let product = u64::from(crystal).saturating_mul(u64::from(numerator));
    let by_crystal = product.checked_div(u64::from(denominator)).filter(|&hz| hz != 0);
    by_crystal.or((hypervisor_khz != 0).then_some(u64::from(hypervisor_khz).saturating_mul(1000)))
}

#[cfg(test)]
#[path = "../tests/clock.rs"]
mod tests;
