//! Bytes in the words of the IPC buffer.

use core::cell::Cell;

use abi::message::BUFFER_WORDS;

/// Bytes that fit into one message beside its register words.
pub const MAX_BYTES: usize = BUFFER_WORDS * 8;

/// Puts `bytes` into `words` and gives the number of words used. What does not fit is left out.
pub fn put(words: &[Cell<u64>], bytes: &[u8]) -> usize {
    let mut used = 0;
    for (word, chunk) in words.iter().zip(bytes.chunks(8)) {
        let mut padded = [0; 8];
        padded[..chunk.len()].copy_from_slice(chunk);
        word.set(u64::from_le_bytes(padded));
        used += 1;
    }
    used
}

/// Fills `bytes` from `words`, as far as they reach, and gives the number of bytes filled.
pub fn take(words: &[Cell<u64>], bytes: &mut [u8]) -> usize {
    let mut filled = 0;
    for (word, chunk) in words.iter().zip(bytes.chunks_mut(8)) {
        chunk.copy_from_slice(&word.get().to_le_bytes()[..chunk.len()]);
        filled += chunk.len();
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells() -> [Cell<u64>; BUFFER_WORDS] {
        [const { Cell::new(u64::MAX) }; BUFFER_WORDS]
    }

    #[test]
    fn bytes_come_out_as_they_went_in() {
        for length in [0, 1, 7, 8, 9, 511, 512] {
            let (words, bytes) = (cells(), core::array::from_fn::<u8, MAX_BYTES, _>(|at| at as u8));
            let bytes = &bytes[..length];
            assert_eq!(put(&words, bytes), length.div_ceil(8));
            let mut back = [0; MAX_BYTES];
            assert_eq!(take(&words, &mut back[..length]), length);
            assert_eq!(&back[..length], bytes);
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let words = cells();
        assert_eq!(put(&words[..2], &[1; 40]), 2);
        assert_eq!(take(&words[..2], &mut [0; 40]), 16);
    }
}
