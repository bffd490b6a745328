//! When a component that has died is started again.
//!
//! The first restart is immediate, later ones follow growing pauses, and a component that keeps dying is parked until the
//! operator restarts it. Faults fill a leaky bucket that empties with the time the component has *lived*: neither pauses
//! nor the wait for its device count, and a short healthy life forgives little. Deaths ordered by the operator do not
//! count.

use super::bucket::Bucket;

/// Microseconds of the first pause. Each later one is twice as long as the one before.
pub const FIRST_PAUSE: u64 = 10_000;
/// Microseconds of the longest pause.
pub const LONGEST_PAUSE: u64 = 1_000_000;
/// Faults in the bucket at which a component is parked.
pub const MOST_FAULTS: u64 = 8;

/// The faults of one component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    faults: Bucket,
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
    /// Decides after a death that ended a life of `lived` microseconds. `by_fault` is false if the operator ordered it.
    pub fn died(&mut self, lived: u64, by_fault: bool) -> Verdict {
        self.faults.leak(lived);
        if !by_fault {
            return Verdict::AtOnce;
        }
        match self.faults.add(MOST_FAULTS) {
            MOST_FAULTS.. => Verdict::Park,
            faults => pause(faults),
        }
    }

    /// Forgets all faults: the operator wants the component started.
    pub fn forgive(&mut self) {
        self.faults = Bucket::default();
    }
}

/// Returns the pause after this many faults.
fn pause(faults: u64) -> Verdict {
    match faults.checked_sub(2) {
        None => Verdict::AtOnce,
        Some(doublings) => {
            let factor = 1u64.checked_shl(doublings as u32).unwrap_or(u64::MAX);
            Verdict::After(FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bucket::LEAK;
    use super::*;

    fn ms(count: u64) -> Verdict {
        Verdict::After(count * 1000)
    }

    #[test]
    fn the_first_restart_is_immediate_and_later_pauses_double() {
        let mut policy = Policy::default();
        let verdicts: Vec<_> = (0..MOST_FAULTS).map(|_| policy.died(50, true)).collect();
        assert_eq!(
            verdicts,
            [Verdict::AtOnce, ms(10), ms(20), ms(40), ms(80), ms(160), ms(320), Verdict::Park]
        );
        assert_eq!(policy.died(50, true), Verdict::Park);
    }

    #[test]
    fn no_pause_is_longer_than_a_second() {
        assert_eq!(pause(8), ms(640));
        assert_eq!(pause(9), Verdict::After(LONGEST_PAUSE));
        assert_eq!(pause(u64::MAX), Verdict::After(LONGEST_PAUSE));
    }

    #[test]
    fn a_life_forgives_as_much_as_it_lasted() {
        let mut policy = Policy::default();
        for _ in 0..3 * MOST_FAULTS {
            assert_eq!(policy.died(LEAK, true), Verdict::AtOnce);
        }
        assert_eq!(policy.died(LEAK - 1, true), ms(10));
        assert_eq!(policy.died(2 * LEAK, true), Verdict::AtOnce);
    }

    #[test]
    fn a_death_in_every_115_ms_of_life_ends_in_parking() {
        let mut policy = Policy::default();
        let deaths = (1..100).find(|_| policy.died(115_000, true) == Verdict::Park);
        assert_eq!(deaths, Some(MOST_FAULTS as i32));
    }

    #[test]
    fn a_component_that_never_gets_ready_is_parked() {
        let mut policy = Policy::default();
        let deaths =
            (1..100).find(|_| policy.died(crate::supervision::heartbeat::STARTUP, true) == Verdict::Park);
        assert!(deaths.is_some_and(|deaths| deaths <= 10), "{deaths:?}");
    }

    #[test]
    fn deaths_ordered_by_the_operator_do_not_count() {
        let mut policy = Policy::default();
        for _ in 0..100 {
            assert_eq!(policy.died(0, false), Verdict::AtOnce);
        }
        assert_eq!(policy.died(0, true), Verdict::AtOnce);
        assert_eq!(policy.died(0, false), Verdict::AtOnce);
        assert_eq!(policy.died(0, true), ms(10));
    }

    #[test]
    fn the_operator_can_restart_a_parked_component() {
        let mut policy = Policy::default();
        while policy.died(0, true) != Verdict::Park {}
        policy.forgive();
        assert_eq!(policy.died(0, true), Verdict::AtOnce);
    }
}
