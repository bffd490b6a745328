//! A leaky bucket: counts events, and forgets one in every [`LEAK`].

/// Microseconds in which one event is forgotten.
pub const LEAK: u64 = 10_000_000;

/// Events that are not forgotten yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Microseconds until the bucket is empty.
    level: u64,
}

impl Bucket {
    /// Lets so many microseconds pass.
    pub fn leak(&mut self, microseconds: u64) {
        self.level = self.level.saturating_sub(microseconds);
    }

    /// Adds an event, and returns how many the bucket holds. A full bucket of `most` holds no more.
    pub fn add(&mut self, most: u64) -> u64 {
        self.level = self.level.saturating_add(LEAK).min(most.saturating_mul(LEAK));
        self.count()
    }

    /// Returns how many events the bucket holds, rounded up.
    pub fn count(&self) -> u64 {
        self.level.div_ceil(LEAK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_is_forgotten_in_each_period() {
        let mut bucket = Bucket::default();
        assert_eq!([bucket.add(9), bucket.add(9), bucket.add(9)], [1, 2, 3]);
        bucket.leak(LEAK - 1);
        assert_eq!(bucket.count(), 3);
        bucket.leak(1);
        assert_eq!(bucket.count(), 2);
        bucket.leak(u64::MAX);
        assert_eq!(bucket.count(), 0);
    }

    #[test]
    fn a_full_bucket_holds_no_more() {
        let mut bucket = Bucket::default();
        assert_eq!((0..20).map(|_| bucket.add(4)).max(), Some(4));
        bucket.leak(LEAK);
        assert_eq!(bucket.count(), 3);
    }
}
