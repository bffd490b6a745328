//! The kernel's memory functions (libipc/rt/asm/memory.s) against plain loops. They take the place of the C library's
//! in this test program, which so runs on them itself: `black_box` keeps the loops from becoming calls of them.

use std::ffi::c_int;
use std::hint::black_box;

core::arch::global_asm!(include_str!("../../../libipc/rt/asm/memory.s"));

unsafe extern "C" {
    fn memcpy(to: *mut u8, from: *const u8, size: usize) -> *mut u8;
    fn memmove(to: *mut u8, from: *const u8, size: usize) -> *mut u8;
    fn memset(to: *mut u8, value: c_int, size: usize) -> *mut u8;
    fn memcmp(one: *const u8, other: *const u8, size: usize) -> c_int;
}

const SIZES: std::ops::Range<usize> = 0..130;

fn numbered() -> [u8; 512] {
    std::array::from_fn(|at| (at * 7 + at / 256) as u8)
}

#[test]
fn memmove_copies_every_size_at_every_overlap() {
    for size in SIZES {
        for from in 64..96 {
            for to in (0..300).step_by(if size % 8 < 2 { 1 } else { 7 }) {
                let mut bytes = numbered();
                let mut expected = bytes;
                let source = numbered().into_iter().skip(from).take(size);
                expected.iter_mut().skip(to).zip(source).for_each(|(to, from)| *to = black_box(from));
                let base = bytes.as_mut_ptr();
                let place = base.wrapping_add(to);
                // SAFETY: both ranges lie in `bytes`; memmove allows overlap.
                let result = unsafe { memmove(place, base.wrapping_add(from), size) };
                assert_eq!(result, place);
                assert!(bytes == expected, "{size} bytes from {from} to {to}");
            }
        }
    }
}

#[test]
fn memcpy_copies_every_size_at_every_alignment() {
    for size in SIZES {
        for from in 0..9 {
            for to in 0..9 {
                let source = numbered();
                let mut bytes = [0xa5; 256];
                let mut expected = bytes;
                expected[to..to + size]
                    .iter_mut()
                    .zip(&source[from..])
                    .for_each(|(to, from)| *to = black_box(*from));
                let place = bytes[to..].as_mut_ptr();
                // SAFETY: both arrays are larger than offset and size.
                let result = unsafe { memcpy(place, source[from..].as_ptr(), size) };
                assert_eq!(result, place);
                assert!(bytes == expected, "{size} bytes from {from} to {to}");
            }
        }
    }
}

#[test]
fn memset_sets_every_size_and_nothing_beside() {
    for size in SIZES {
        for to in 0..9 {
            let mut bytes = numbered();
            let mut expected = bytes;
            expected[to..to + size].iter_mut().for_each(|byte| *byte = black_box(0xc3));
            let place = bytes[to..].as_mut_ptr();
            // SAFETY: the array is larger than offset and size.
            let result = unsafe { memset(place, 0x5c3, size) };
            assert_eq!(result, place);
            assert!(bytes == expected, "{size} bytes to {to}");
        }
    }
}

#[test]
fn memcmp_orders_by_the_first_byte_that_differs() {
    for size in SIZES {
        let one = numbered();
        // SAFETY: both arrays are larger than size.
        assert_eq!(unsafe { memcmp(one.as_ptr(), numbered().as_ptr(), size) }, 0);
        for differs in 0..size {
            for change in [1, 0x80, 0xff] {
                let mut other = one;
                other[differs] = one[differs].wrapping_add(change);
                other[differs + 1..].fill(if change == 1 { 0 } else { 0xff });
                let expected = one[differs].cmp(&other[differs]);
                // SAFETY: both arrays are larger than size.
                let result = unsafe { memcmp(one.as_ptr(), other.as_ptr(), size) };
                assert_eq!(result.cmp(&0), expected, "{size} bytes, {differs} differs");
            }
        }
    }
}
