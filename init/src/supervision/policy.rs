//! When a component that has died is started again.
//!
//! The first time at once; if it dies again before it has lived healthily for a while, after a pause that doubles each time;
//! and if that goes on, not at all, until the operator wants it. Deaths by the operator's will do not count.

/// Microseconds of life after which a component counts as healthy again.
pub const HEALTHY: u64 = 100_000;
/// Microseconds of the first pause, and of the longest.
const FIRST_PAUSE: u64 = 10_000;
const LONGEST_PAUSE: u64 = 1_000_000;
/// Deaths in a row after which it is parked.
pub const MOST_IN_A_ROW: u32 = 8;

/// How a component fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Deaths since it was last healthy.
    in_a_row: u32,
}

/// What to do with a component that has died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Start it again, now.
    AtOnce,
    /// Start it again after so many microseconds.
    After(u64),
    /// Leave it dead.
    Park,
}

impl Policy {
    /// It has died, having lived so many microseconds; `by_fault`: its own, not the operator's will.
    pub fn died(&mut self, lived: u64, by_fault: bool) -> Verdict {
        if lived >= HEALTHY {
            self.in_a_row = 0;
        }
        if !by_fault {
            return Verdict::AtOnce;
        }
        self.in_a_row += 1;
        match self.in_a_row {
            1 => Verdict::AtOnce,
            MOST_IN_A_ROW.. => Verdict::Park,
            more => Verdict::After((FIRST_PAUSE << (more - 2)).min(LONGEST_PAUSE)),
        }
    }

    /// The operator wants it to be started: what was is forgotten.
    pub fn forgive(&mut self) {
        self.in_a_row = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_death_is_followed_by_a_new_life_at_once_and_more_by_doubling_pauses() {
        let mut policy = Policy::default();
        let verdicts: Vec<_> = (0..MOST_IN_A_ROW).map(|_| policy.died(50, true)).collect();
        let ms = |count: u64| Verdict::After(count * 1000);
        assert_eq!(
            verdicts,
            [Verdict::AtOnce, ms(10), ms(20), ms(40), ms(80), ms(160), ms(320), Verdict::Park]
        );
        assert_eq!(policy.died(50, true), Verdict::Park);
    }

    #[test]
    fn no_pause_is_longer_than_a_second() {
        for in_a_row in 0..MOST_IN_A_ROW {
            if let Verdict::After(pause) = (Policy { in_a_row }).died(0, true) {
                assert!(pause <= LONGEST_PAUSE);
            }
        }
    }

    #[test]
    fn a_healthy_life_makes_it_count_from_the_beginning() {
        let mut policy = Policy::default();
        for _ in 0..3 * MOST_IN_A_ROW {
            assert_eq!(policy.died(HEALTHY, true), Verdict::AtOnce);
        }
        assert_eq!(policy.died(HEALTHY - 1, true), Verdict::After(FIRST_PAUSE));
    }

    #[test]
    fn deaths_by_the_operators_will_do_not_count() {
        let mut policy = Policy::default();
        for _ in 0..100 {
            assert_eq!(policy.died(0, false), Verdict::AtOnce);
        }
        assert_eq!(policy.died(0, true), Verdict::AtOnce);
        assert_eq!(policy.died(0, false), Verdict::AtOnce);
        assert_eq!(policy.died(0, true), Verdict::After(FIRST_PAUSE));
    }

    #[test]
    fn the_operator_can_have_a_parked_one_started_again() {
        let mut policy = Policy { in_a_row: MOST_IN_A_ROW };
        policy.forgive();
        assert_eq!(policy.died(0, true), Verdict::AtOnce);
    }
}
