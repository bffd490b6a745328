//! The `data` Frame of a channel: bytes that the other side, and a device, may change at any time.
//!
//! They are copied, word by word; or lent, to who trusts the other side to keep its hands off a buffer that is not its
//! own ([`Data::lend`]).

use core::sync::atomic::{AtomicU64, Ordering};

const WORD: usize = 8;

/// The bytes.
#[derive(Clone, Copy, Debug)]
pub struct Data<'m>(&'m [AtomicU64]);

impl<'m> Data<'m> {
    /// The bytes of these words, little endian.
    pub fn new(words: &'m [AtomicU64]) -> Data<'m> {
        Data(words)
    }

    /// How many there are.
    pub fn bytes(&self) -> usize {
        size_of_val(self.0)
    }

    /// Copies out the bytes from `offset` on, which is a multiple of 8. What lies behind the end is left as it is.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        let words = self.0.get(offset / WORD..).unwrap_or_default();
        for (bytes, word) in to.chunks_mut(WORD).zip(words) {
            let all = word.load(Ordering::Relaxed).to_le_bytes();
            bytes.copy_from_slice(&all[..bytes.len()]);
        }
    }

    /// Copies bytes in, from `offset` on, which is a multiple of 8; bytes behind them, up to the next multiple, become
    /// 0. What lies behind the end is dropped.
    pub fn write(&self, offset: usize, from: &[u8]) {
        let words = self.0.get(offset / WORD..).unwrap_or_default();
        for (bytes, word) in from.chunks(WORD).zip(words) {
            let mut all = [0; WORD];
            all[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_le_bytes(all), Ordering::Relaxed);
        }
    }

    /// The bytes themselves, without a copy; none if they lie behind the end.
    ///
    /// # Safety
    ///
    /// As long as the slice is used, nobody writes the bytes: neither this program by other ways, nor the other
    /// side, nor its device. Nothing enforces that; who does not trust the driver uses [`Self::read`].
    pub unsafe fn lend(&self, offset: usize, length: usize) -> &'m [u8] {
        match self.place(offset, length) {
            // SAFETY: inside the words, which live as long; not written meanwhile, as the caller promises.
            Some(place) => unsafe { core::slice::from_raw_parts(place, length) },
            None => &[],
        }
    }

    /// The bytes themselves, to be written; none if they lie behind the end.
    ///
    /// # Safety
    ///
    /// As [`Self::lend`]; and nobody reads them either.
    pub unsafe fn lend_mut(&self, offset: usize, length: usize) -> &'m mut [u8] {
        match self.place(offset, length) {
            // SAFETY: inside the words, which live as long and may be changed through shared references; not used
            // otherwise meanwhile, as the caller promises.
            Some(place) => unsafe { core::slice::from_raw_parts_mut(place, length) },
            None => &mut [],
        }
    }

    fn place(&self, offset: usize, length: usize) -> Option<*mut u8> {
        let end = offset.checked_add(length)?;
        // Of an atomic, whose bytes may be changed by way of a shared reference.
        (end <= self.bytes()).then(|| self.0.as_ptr().cast_mut().cast::<u8>().wrapping_add(offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(count: usize) -> Vec<AtomicU64> {
        (0..count).map(|_| AtomicU64::new(u64::MAX)).collect()
    }

    #[test]
    fn bytes_are_read_as_they_were_written() {
        let words = words(4);
        let data = Data::new(&words);
        for length in 0..=24 {
            let bytes: Vec<u8> = (1..=length).collect();
            data.write(8, &bytes);
            let mut back = vec![0; bytes.len()];
            data.read(8, &mut back);
            assert_eq!(back, bytes);
        }
        assert_eq!(words[0].load(Ordering::Relaxed), u64::MAX);
    }

    #[test]
    fn what_lies_behind_the_end_is_left_alone() {
        let words = words(2);
        let data = Data::new(&words);
        data.write(8, &[1; 100]);
        data.write(usize::MAX - 7, &[1; 8]);
        let mut back = [9; 20];
        data.read(8, &mut back);
        assert_eq!(back[..8], [1; 8]);
        assert_eq!(back[8..], [9; 12]);
        // SAFETY: nothing else uses the words.
        assert!(unsafe { data.lend(8, 9) }.is_empty());
    }

    #[test]
    fn lent_bytes_are_the_same_bytes() {
        let words = words(2);
        let data = Data::new(&words);
        // SAFETY: nothing else uses the words while the slice is used.
        unsafe { data.lend_mut(4, 8) }.copy_from_slice(b"eight by");
        // SAFETY: likewise.
        assert_eq!(unsafe { data.lend(4, 8) }, b"eight by");
        let mut back = [0; 16];
        data.read(0, &mut back);
        assert_eq!(&back, b"\xff\xff\xff\xffeight by\xff\xff\xff\xff");
    }
}
