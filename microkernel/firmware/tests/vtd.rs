//! Tests of src/vtd.rs.

use super::*;
use std::vec::Vec;

/// Fields of a wait descriptor (6.5.2.8).
const WAIT: u64 = 5;
const WRITES_STATUS: u64 = 1 << 5;
const FENCES: u64 = 1 << 6;

#[test]
fn every_invalidation_of_a_batch_is_done_before_the_next_begins() {
    let batch: Vec<_> = batch(&[CONTEXTS, IOTLB], 0x1000).collect();
    let kinds: Vec<_> = batch.iter().map(|[first, _]| first & 0xf).collect();
    assert_eq!(kinds, [1, WAIT, 2, WAIT, WAIT]);
    let waits = || batch.iter().filter(|[first, _]| first & 0xf == WAIT);
    assert!(waits().all(|[first, status]| first & FENCES != 0 && *status == 0x1000));
}

#[test]
fn only_the_end_of_a_batch_says_that_it_is_done() {
    let batch: Vec<_> = batch(&[INTERRUPTS, CONTEXTS, iotlb_of(7)], 0x1000).collect();
    let written = batch.iter().filter(|[first, _]| first & 0xf == WAIT && first & WRITES_STATUS != 0);
    let written: Vec<_> = written.map(|[first, _]| first >> 32).collect();
    assert_eq!(written, [0, 0, 0, u64::from(DONE)]);
    assert_eq!(batch[4], [2 | 2 << 4 | 3 << 6 | 7 << 16, 0]);
}
