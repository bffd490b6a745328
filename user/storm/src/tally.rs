//! What a work found wrong, and how much it did.

/// Counts of one run. A work that saw nothing of the deaths below it has only done something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Bytes carried, both ways.
    pub bytes: u64,
    /// Requests answered, frames that came back, transfers made.
    pub requests: u64,
    /// Errors that the work saw.
    pub errors: u64,
    /// Bytes that are neither what they should be nor what was there before.
    pub wrong_bytes: u64,
    /// Bytes that never arrived: what was there before is still there, or a stream ended short.
    pub lost_bytes: u64,
    /// What was answered, or done, twice.
    pub duplicated: u64,
}

impl Tally {
    /// Nothing was wrong.
    pub fn is_clean(&self) -> bool {
        self.errors == 0 && self.wrong_bytes == 0 && self.lost_bytes == 0 && self.duplicated == 0
    }

    /// Adds what another part of the same run counted.
    pub fn add(&mut self, other: &Tally) {
        self.bytes += other.bytes;
        self.requests += other.requests;
        self.errors += other.errors;
        self.wrong_bytes += other.wrong_bytes;
        self.lost_bytes += other.lost_bytes;
        self.duplicated += other.duplicated;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_damage_spoils_it_and_work_does_not() {
        assert!(Tally { bytes: 1, requests: 1, ..Tally::default() }.is_clean());
        for spoilt in [
            Tally { errors: 1, ..Tally::default() },
            Tally { wrong_bytes: 1, ..Tally::default() },
            Tally { lost_bytes: 1, ..Tally::default() },
            Tally { duplicated: 1, ..Tally::default() },
        ] {
            assert!(!spoilt.is_clean(), "{spoilt:?}");
        }
    }

    #[test]
    fn parts_add_up() {
        let part = Tally { bytes: 1, requests: 2, errors: 3, wrong_bytes: 4, lost_bytes: 5, duplicated: 6 };
        let mut sum = part;
        sum.add(&part);
        let twice =
            Tally { bytes: 2, requests: 4, errors: 6, wrong_bytes: 8, lost_bytes: 10, duplicated: 12 };
        assert_eq!(sum, twice);
    }
}
