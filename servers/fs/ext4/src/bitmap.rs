//! Searching and changing bitmaps; bit n is bit n % 8 of byte n / 8.

/// Sets `count` bits from `first` on.
pub(crate) fn set(bits: &mut [u8], first: u32, count: u32) {
    for_each_byte(bits, first, count, |byte, mask| *byte |= mask);
}

/// Clears `count` bits from `first` on.
pub(crate) fn clear(bits: &mut [u8], first: u32, count: u32) {
    for_each_byte(bits, first, count, |byte, mask| *byte &= !mask);
}

fn for_each_byte(bits: &mut [u8], first: u32, count: u32, mut change: impl FnMut(&mut u8, u8)) {
    let end = first + count;
    let mut at = first;
    while at < end {
        let low = at % 8;
        let high = (end - (at - low)).min(8);
        let mask = (0xff_u16 << low & ((1_u16 << high) - 1)) as u8;
        change(&mut bits[(at / 8) as usize], mask);
        at += high - low;
    }
}

/// Whether any (`value`) or no (`!value`) of `count` bits from `first` on differs from `value`.
pub(crate) fn all(bits: &[u8], first: u32, count: u32, value: bool) -> bool {
    next(bits, None, first, first + count, !value).is_none()
}

fn word(bits: &[u8], mask: Option<&[u8]>, index: usize) -> u64 {
    let read = |bytes: &[u8]| {
        let mut word = [0xff; 8];
        let part = &bytes[index * 8..bytes.len().min(index * 8 + 8)];
        word[..part.len()].copy_from_slice(part);
        u64::from_le_bytes(word)
    };
    read(bits) | mask.map_or(0, read)
}

/// The first bit from `first` on and before `end` that has `value`, in `bits` or'ed with `mask`.
pub(crate) fn next(bits: &[u8], mask: Option<&[u8]>, first: u32, end: u32, value: bool) -> Option<u32> {
    if first >= end {
        return None;
    }
    let flip = if value { 0 } else { !0 };
    let mut index = first / 64;
    let mut current = (word(bits, mask, index as usize) ^ flip) & (!0 << (first % 64));
    loop {
        if current != 0 {
            let found = index * 64 + current.trailing_zeros();
            return (found < end).then_some(found);
        }
        index += 1;
        if index * 64 >= end {
            return None;
        }
        current = word(bits, mask, index as usize) ^ flip;
    }
}

/// How many bits before `end` are clear.
pub(crate) fn count_clear(bits: &[u8], end: u32) -> u32 {
    let mut clear = 0;
    let mut at = 0;
    while let Some(first) = next(bits, None, at, end, false) {
        at = next(bits, None, first, end, true).unwrap_or(end);
        clear += at - first;
    }
    clear
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_set_and_cleared_bit_by_bit() {
        for first in 0..20 {
            for count in 0..40 {
                let mut bits = [0; 10];
                set(&mut bits, first, count);
                for bit in 0..80 {
                    let expected = (first..first + count).contains(&bit);
                    assert_eq!(bits[(bit / 8) as usize] >> (bit % 8) & 1 == 1, expected);
                }
                assert!(all(&bits, first, count, true));
                assert_eq!(count_clear(&bits, 80), 80 - count);
                clear(&mut bits, first, count);
                assert_eq!(bits, [0; 10]);
            }
        }
    }

    #[test]
    fn searching_honours_mask_and_end() {
        let bits = [0b1111_0111, 0xff, 0x7f];
        assert_eq!(next(&bits, None, 0, 24, false), Some(3));
        assert_eq!(next(&bits, Some(&[8, 0, 0]), 0, 24, false), Some(23));
        assert_eq!(next(&bits, Some(&[8, 0, 0]), 0, 23, false), None);
        assert_eq!(next(&[0; 200], None, 5, 1600, true), None);
    }
}
