//! Tests of src/clock.rs.

use super::*;

#[test]
fn the_crystal_and_its_ratio_give_the_rate() {
    assert_eq!(tsc_hz([2, 216, 24_000_000], 1), Some(2_592_000_000));
}

#[test]
fn without_a_ratio_or_a_crystal_the_hypervisor_is_asked() {
    assert_eq!(tsc_hz([0, 216, 24_000_000], 2_000_000), Some(2_000_000_000));
    assert_eq!(tsc_hz([2, 0, 24_000_000], 2_000_000), Some(2_000_000_000));
    assert_eq!(tsc_hz([2, 216, 0], 2_000_000), Some(2_000_000_000));
}

#[test]
fn a_cpu_that_tells_nothing_is_not_guessed_at() {
    assert_eq!(tsc_hz([0, 0, 0], 0), None);
}

#[test]
fn extreme_answers_do_not_overflow() {
    let most = u32::MAX;
    assert_eq!(tsc_hz([1, most, most], 0), Some(u64::from(most) * u64::from(most)));
    assert_eq!(tsc_hz([0, 0, 0], most), Some(u64::from(most) * 1000));
}
