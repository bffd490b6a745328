//! Tests of src/region.rs.

use super::*;
use crate::fake::Random;

fn region(start: u64, end: u64) -> Region {
    Region { start, end }
}

#[test]
fn regions_that_touch_become_one() {
    let mut set = Regions::<8>::new();
    set.add(region(0, 10));
    set.add(region(20, 30));
    set.add(region(10, 20));
    assert_eq!(set.as_slice(), [region(0, 30)]);
}

#[test]
fn taking_out_of_the_middle_leaves_two() {
    let mut set = Regions::<8>::new();
    set.add(region(0, 30));
    set.remove(region(10, 20));
    assert_eq!(set.as_slice(), [region(0, 10), region(20, 30)]);
}

#[test]
fn take_gives_the_highest_aligned_place_below_the_limit() {
    let mut set = Regions::<8>::new();
    set.add(region(0x1000, 0x10_0000));
    set.add(region(0x20_0000, 0x100_0000));
    assert_eq!(set.take(0x1000, 0x4000, 0xa_b000), Some(region(0xa_8000, 0xa_9000)));
    assert!(!set.contains(region(0xa_8000, 0xa_9000)));
    assert_eq!(set.take(0x100_0000, 0x1000, u64::MAX), None);
}

#[test]
fn pages_are_rounded_inward_and_outward_even_at_the_end_of_the_address_space() {
    assert_eq!(region(1, 0x2fff).pages_within(), region(0x1000, 0x2000));
    assert_eq!(region(0x1fff, 0x2001).pages_around(), region(0x1000, 0x3000));
    assert!(region(u64::MAX - 3, u64::MAX).pages_within().is_empty());
    assert_eq!(region(0, u64::MAX).pages_around().end, !0xfff);
}

#[test]
fn a_set_behaves_like_a_set_of_numbers_and_never_gains_when_full() {
    let mut random = Random(7);
    for _ in 0..2_000 {
        let (mut set, mut small) = (Regions::<64>::new(), Regions::<3>::new());
        let mut model = [false; 64];
        for _ in 0..30 {
            let start = random.below(64);
            let piece = region(start as u64, (start + random.below(64 - start)) as u64);
            let adding = random.below(2) == 0;
            model[start..piece.end as usize].fill(adding);
            if adding {
                set.add(piece);
                small.add(piece);
            } else {
                set.remove(piece);
                small.remove(piece);
            }
            for (number, &there) in model.iter().enumerate() {
                let one = region(number as u64, number as u64 + 1);
                assert_eq!(set.contains(one), there);
                assert!(there || !small.contains(one));
            }
            assert!(set.as_slice().windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }
}
