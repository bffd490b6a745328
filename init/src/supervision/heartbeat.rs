//! Whether a component still answers.
//!
//! Once in every period init asks, by a word of the component's orders and its bell, unless the component has begun to
//! handle something since the last look: then it lives, and is not disturbed. A component that has neither answered nor
//! begun anything at the next look is a suspect, and init looks at it every [`CLOSE`] microseconds. It hangs when
//! [`MOST_MISSED`] looks have found it without a sign of life. Until a component says that it is ready, it has as many
//! looks as [`STARTUP`] has room for before it is a suspect.
//!
//! Many looks, and not a long time, because time proves little: where the machine is a guest, its host may stop it for
//! any time, which the component that ran just then is charged for. However long such a pause is, it lies between two
//! looks, and counts as one of them. Between any two, init itself has run and has given up the processor.
//!
//! Some looks find nothing: at a component that was ready to run but hardly got to (it was starved), and at one that
//! waits for the answer of another one (that one is looked at itself).

/// Microseconds that a component has until it must be ready.
pub const STARTUP: u64 = 1_000_000;
/// Microseconds between looks at a suspect.
pub const CLOSE: u64 = 2_000;
/// Looks in a row without a sign of life after which a component hangs.
pub(super) const MOST_MISSED: u32 = 11;

/// The heartbeats of one life. The default has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// TSC ticks between looks.
    period: u64,
    /// TSC ticks between looks at a suspect.
    close: u64,
    /// The next look; 0 for never.
    due: u64,
    /// Looks until it must be ready.
    startup: u64,
    /// How often it was asked.
    asked: u64,
    /// Messages it had begun at the last look.
    messages: u64,
    /// Looks in a row that found no sign of life.
    missed: u32,
}

/// What a component shows of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signs {
    /// It has said that it is ready.
    pub ready: bool,
    /// The last heartbeat it has answered.
    pub beat: u64,
    /// Messages it has begun.
    pub messages: u64,
    /// It has run long enough to answer, or waits for something.
    pub had_its_turn: bool,
    /// It waits for the answer of another component, whose hang it is if none comes.
    pub waits_for_other: bool,
}

/// What a look at a component leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It lives.
    Lives,
    /// Ask it for this heartbeat.
    Ask(u64),
    /// It hangs.
    Hangs,
}

impl Heartbeat {
    /// Returns the heartbeats of a life that begins `now`. `ticks` converts microseconds; `period` is none if init does
    /// not look at the component.
    pub fn new(period: Option<u64>, ticks: impl Fn(u64) -> u64, now: u64) -> Heartbeat {
        let period = period.map_or(0, &ticks);
        // The first look may come at once, so it is one more than what fits; a long period has a second one in any case.
        let startup = ticks(STARTUP).checked_div(period).unwrap_or(0).max(1) + 1;
        let mut heartbeat = Heartbeat { period, close: ticks(CLOSE), startup, ..Heartbeat::default() };
        heartbeat.plan(now);
        heartbeat
    }

    /// The next look, at a multiple of the period: so all components of the same period are looked at together.
    fn plan(&mut self, now: u64) {
        self.due = now.checked_div(self.period).map_or(0, |periods| (periods + 1) * self.period);
    }

    /// When to look next.
    pub fn due(&self) -> Option<u64> {
        (self.due != 0).then_some(self.due)
    }

    /// Looks at the component.
    pub fn look(&mut self, now: u64, signs: Signs) -> Look {
        self.plan(now);
        if signs.waits_for_other {
            self.missed = 0;
            self.messages = signs.messages;
            return Look::Lives;
        }
        if !signs.ready {
            self.startup = self.startup.saturating_sub(u64::from(signs.had_its_turn));
            return if self.startup == 0 { self.miss(now, signs, Look::Lives) } else { Look::Lives };
        }
        if signs.messages != core::mem::replace(&mut self.messages, signs.messages) {
            self.missed = 0;
            return Look::Lives;
        }
        if signs.beat == self.asked {
            self.missed = 0;
            self.asked += 1;
            return Look::Ask(self.asked);
        }
        self.miss(now, signs, Look::Ask(self.asked))
    }

    /// Counts a look that found no sign of life, if the component could have given one. `before_that` is what it leads to
    /// while there were too few.
    fn miss(&mut self, now: u64, signs: Signs, before_that: Look) -> Look {
        if !signs.had_its_turn {
            return before_that;
        }
        self.missed += 1;
        self.due = now + self.close;
        if self.missed >= MOST_MISSED { Look::Hangs } else { before_that }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: Signs =
        Signs { ready: true, beat: 0, messages: 0, had_its_turn: true, waits_for_other: false };
    const STARVED: Signs = Signs { had_its_turn: false, ..READY };
    /// A tick is a microsecond.
    const PERIOD: u64 = 20_000;

    fn of(period: Option<u64>) -> Heartbeat {
        Heartbeat::new(period, |microseconds| microseconds, 1_003)
    }

    fn heartbeat() -> Heartbeat {
        of(Some(PERIOD))
    }

    /// Looks when a look is due.
    fn look(heartbeat: &mut Heartbeat, signs: Signs) -> Look {
        heartbeat.look(heartbeat.due().expect("a next look"), signs)
    }

    /// Looks until the component hangs; returns how often that was.
    fn looks_until_it_hangs(heartbeat: &mut Heartbeat, signs: Signs) -> u32 {
        (1..100).find(|_| look(heartbeat, signs) == Look::Hangs).expect("a hang")
    }

    #[test]
    fn looks_are_at_multiples_of_the_period() {
        let mut heartbeat = heartbeat();
        assert_eq!(heartbeat.due(), Some(20_000));
        heartbeat.look(20_000, READY);
        assert_eq!(heartbeat.due(), Some(40_000));
        heartbeat.look(115_000, Signs { beat: 1, ..READY });
        assert_eq!(heartbeat.due(), Some(120_000));
        assert_eq!(of(None).due(), None);
        assert_eq!(Heartbeat::default().due(), None);
    }

    #[test]
    fn one_that_answers_is_asked_again_and_again() {
        let mut heartbeat = heartbeat();
        for asked in 1..100 {
            let signs = Signs { beat: asked - 1, ..READY };
            assert_eq!(look(&mut heartbeat, signs), Look::Ask(asked));
        }
        assert_eq!(heartbeat.due(), Some(100 * PERIOD));
    }

    #[test]
    fn one_that_works_is_not_disturbed() {
        let mut heartbeat = heartbeat();
        for messages in 1..100 {
            assert_eq!(look(&mut heartbeat, Signs { messages, ..READY }), Look::Lives);
        }
    }

    #[test]
    fn one_that_neither_answers_nor_works_hangs_after_many_close_looks() {
        let mut heartbeat = heartbeat();
        assert_eq!(look(&mut heartbeat, READY), Look::Ask(1));
        for close in 0..u64::from(MOST_MISSED) - 1 {
            assert_eq!(heartbeat.due(), Some(2 * PERIOD + close * CLOSE));
            assert_eq!(look(&mut heartbeat, READY), Look::Ask(1));
        }
        assert_eq!(look(&mut heartbeat, READY), Look::Hangs);
    }

    #[test]
    fn it_is_found_within_three_periods_of_20_ms() {
        let mut heartbeat = heartbeat();
        let looks = looks_until_it_hangs(&mut heartbeat, READY);
        // The first one asked.
        assert_eq!(looks, MOST_MISSED + 1);
        let last = heartbeat.due().expect("a next look") - CLOSE;
        assert!(last <= 3 * PERIOD, "{last}");
    }

    #[test]
    fn a_pause_of_the_machine_counts_as_one_look_however_long_it_is() {
        let mut heartbeat = heartbeat();
        assert_eq!(look(&mut heartbeat, READY), Look::Ask(1));
        let mut now = 2 * PERIOD;
        // The component ran when the machine was stopped, and is charged for all of it, again and again.
        for _ in 1..MOST_MISSED {
            now += 500_000;
            assert_eq!(heartbeat.look(now, READY), Look::Ask(1));
        }
        // Then it gets to answer.
        assert_eq!(heartbeat.look(now + CLOSE, Signs { beat: 1, ..READY }), Look::Ask(2));
        // And from there it has as many looks again.
        assert_eq!(looks_until_it_hangs(&mut heartbeat, Signs { beat: 1, ..READY }), MOST_MISSED);
    }

    #[test]
    fn one_that_does_not_get_to_run_does_not_hang() {
        let mut heartbeat = heartbeat();
        assert_eq!(look(&mut heartbeat, READY), Look::Ask(1));
        for at in 2..1000 {
            assert_eq!(heartbeat.due(), Some(at * PERIOD), "a starved one is not looked at more closely");
            assert_eq!(look(&mut heartbeat, STARVED), Look::Ask(1));
        }
        // What it was seen to do with time it had adds up.
        for _ in 1..MOST_MISSED {
            assert_eq!(look(&mut heartbeat, READY), Look::Ask(1));
            assert_eq!(look(&mut heartbeat, STARVED), Look::Ask(1));
        }
        assert_eq!(look(&mut heartbeat, READY), Look::Hangs);
    }

    #[test]
    fn a_late_answer_and_late_work_count() {
        for sign in [Signs { beat: 1, ..READY }, Signs { messages: 5, ..READY }] {
            let mut heartbeat = heartbeat();
            assert_eq!(look(&mut heartbeat, READY), Look::Ask(1));
            for _ in 1..MOST_MISSED {
                assert_eq!(look(&mut heartbeat, READY), Look::Ask(1));
            }
            assert_ne!(look(&mut heartbeat, sign), Look::Hangs);
            assert_eq!(heartbeat.due().map(|due| due % PERIOD), Some(0), "no longer a suspect");
            assert_eq!(looks_until_it_hangs(&mut heartbeat, sign), MOST_MISSED);
        }
    }

    #[test]
    fn one_that_never_gets_ready_hangs() {
        let mut heartbeat = heartbeat();
        let signs = Signs { ready: false, ..READY };
        for _ in 0..STARTUP / PERIOD {
            assert_eq!(look(&mut heartbeat, signs), Look::Lives);
            assert_eq!(look(&mut heartbeat, Signs { had_its_turn: false, ..signs }), Look::Lives);
        }
        assert_eq!(looks_until_it_hangs(&mut heartbeat, signs), MOST_MISSED);
    }

    #[test]
    fn one_that_gets_ready_late_begins_without_missed_looks() {
        let mut heartbeat = heartbeat();
        let signs = Signs { ready: false, ..READY };
        for _ in 0..STARTUP / PERIOD + u64::from(MOST_MISSED) - 1 {
            assert_eq!(look(&mut heartbeat, signs), Look::Lives);
        }
        assert_eq!(look(&mut heartbeat, READY), Look::Ask(1));
        assert_eq!(looks_until_it_hangs(&mut heartbeat, READY), MOST_MISSED);
    }

    #[test]
    fn a_period_longer_than_the_grace_has_a_second_look() {
        let period = 5 * STARTUP;
        let signs = Signs { ready: false, ..READY };
        // The first look is one tick after the start.
        let begin = || Heartbeat::new(Some(period), |microseconds| microseconds, period - 1);
        let mut heartbeat = begin();
        assert_eq!(heartbeat.due(), Some(period));
        assert_eq!(look(&mut heartbeat, signs), Look::Lives);
        assert_eq!(heartbeat.due(), Some(2 * period));
        assert_eq!(look(&mut heartbeat, READY), Look::Ask(1));
        let mut heartbeat = begin();
        assert_eq!(look(&mut heartbeat, signs), Look::Lives);
        assert_eq!(looks_until_it_hangs(&mut heartbeat, signs), MOST_MISSED);
    }

    #[test]
    fn one_that_waits_for_another_misses_nothing() {
        let mut heartbeat = heartbeat();
        let waits = Signs { waits_for_other: true, ..READY };
        assert_eq!(look(&mut heartbeat, READY), Look::Ask(1));
        assert_eq!(look(&mut heartbeat, READY), Look::Ask(1));
        for _ in 0..100 {
            assert_eq!(look(&mut heartbeat, waits), Look::Lives);
            assert_eq!(look(&mut heartbeat, Signs { ready: false, ..waits }), Look::Lives);
        }
        // From there it has all its looks again.
        assert_eq!(looks_until_it_hangs(&mut heartbeat, READY), MOST_MISSED);
    }
}
