//! Points in time as inodes store them: seconds since 1970 with 34 bits, and nanoseconds.

/// A point in time: seconds since the epoch (UTC) and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    /// Seconds since 1970-01-01 00:00 UTC; inodes hold -2^31 to 2^34 - 2^31 - 1 (the year 2446).
    pub seconds: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanoseconds: u32,
}

const FIRST: i64 = -(1 << 31);
const LAST: i64 = (1 << 34) - (1 << 31) - 1;

impl Time {
    /// The two words of the format: 32 bits of seconds; two more bits of them and 30 bits of nanoseconds.
    pub(crate) fn encode(self) -> (u32, u32) {
        let seconds = self.seconds.clamp(FIRST, LAST);
        let epoch = ((seconds - FIRST) >> 32) as u32 & 3;
        (seconds as u32, self.nanoseconds.min(999_999_999) << 2 | epoch)
    }

    /// The word for inodes without room for the second one.
    pub(crate) fn encode_short(self) -> u32 {
        self.seconds.clamp(FIRST, i64::from(i32::MAX)) as u32
    }

    pub(crate) fn decode(seconds: u32, extra: u32) -> Self {
        let seconds = i64::from(seconds as i32) + (i64::from(extra & 3) << 32);
        Time { seconds, nanoseconds: (extra >> 2).min(999_999_999) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_from_1901_to_2446() {
        for seconds in [FIRST, -1, 0, 1, (1 << 31) - 1, 1 << 31, 1 << 32, (1 << 33) + 5, LAST] {
            let time = Time { seconds, nanoseconds: 999_999_999 };
            let (low, extra) = time.encode();
            assert_eq!(Time::decode(low, extra), time);
        }
    }

    #[test]
    fn times_outside_of_the_format_are_clamped() {
        let (low, extra) = Time { seconds: i64::MAX, nanoseconds: 0 }.encode();
        assert_eq!(Time::decode(low, extra).seconds, LAST);
        assert_eq!(Time { seconds: 1 << 40, nanoseconds: 0 }.encode_short(), i32::MAX as u32);
    }
}
