//! Whether a component still answers.
//!
//! Once in every period init asks, by a word of the component's orders and its bell, unless the component has begun to
//! handle something since the last look: then it lives, and is not disturbed. A component that has neither answered nor
//! begun anything at two looks in a row hangs. Some looks find nothing: at a component that was ready to run but hardly
//! got to (it was starved), and at one that waits for the answer of another one (that one is looked at itself). Until a
//! component says that it is ready, it has as many looks as [`STARTUP`] has room for, and two in any case.

/// Microseconds that a component has until it must be ready.
pub const STARTUP: u64 = 1_000_000;
/// Looks in a row without a sign of life after which a component hangs.
const MOST_MISSED: u32 = 2;

/// The heartbeats of one life. The default has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// TSC ticks between looks.
    period: u64,
    /// The next look; 0 for never.
    due: u64,
    /// Looks until it must be ready.
    startup: u64,
    /// How often it was asked.
    asked: u64,
    /// Messages it had begun at the last look.
    messages: u64,
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
    /// Of a life that begins `now`, looked at every `period` ticks, if at all.
    pub fn new(period: Option<u64>, startup: u64, now: u64) -> Heartbeat {
        let period = period.unwrap_or(0);
        // The first look may come at once, so it is one more than what fits; a long period has a second one in any case.
        let startup = startup.checked_div(period).unwrap_or(0).max(1) + 1;
        let mut heartbeat = Heartbeat { period, startup, ..Heartbeat::default() };
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
            return if self.startup == 0 { Look::Hangs } else { Look::Lives };
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
        self.missed += u32::from(signs.had_its_turn);
        if self.missed >= MOST_MISSED { Look::Hangs } else { Look::Ask(self.asked) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: Signs =
        Signs { ready: true, beat: 0, messages: 0, had_its_turn: true, waits_for_other: false };

    fn heartbeat() -> Heartbeat {
        Heartbeat::new(Some(10), 100, 1003)
    }

    #[test]
    fn looks_are_at_multiples_of_the_period() {
        let mut heartbeat = heartbeat();
        assert_eq!(heartbeat.due(), Some(1010));
        heartbeat.look(1010, READY);
        assert_eq!(heartbeat.due(), Some(1020));
        heartbeat.look(1055, READY);
        assert_eq!(heartbeat.due(), Some(1060));
        assert_eq!(Heartbeat::new(None, 100, 1003).due(), None);
        assert_eq!(Heartbeat::default().due(), None);
    }

    #[test]
    fn one_that_answers_is_asked_again_and_again() {
        let mut heartbeat = heartbeat();
        for asked in 1..100 {
            let signs = Signs { beat: asked - 1, ..READY };
            assert_eq!(heartbeat.look(1000 + asked * 10, signs), Look::Ask(asked));
        }
    }

    #[test]
    fn one_that_works_is_not_disturbed() {
        let mut heartbeat = heartbeat();
        for messages in 1..100 {
            assert_eq!(heartbeat.look(2000, Signs { messages, ..READY }), Look::Lives);
        }
    }

    #[test]
    fn one_that_neither_answers_nor_works_hangs_at_the_second_look() {
        let mut heartbeat = heartbeat();
        assert_eq!(heartbeat.look(1010, READY), Look::Ask(1));
        assert_eq!(heartbeat.look(1020, READY), Look::Ask(1));
        assert_eq!(heartbeat.look(1030, READY), Look::Hangs);
    }

    #[test]
    fn one_that_does_not_get_to_run_does_not_hang() {
        let mut heartbeat = heartbeat();
        let starved = Signs { had_its_turn: false, ..READY };
        assert_eq!(heartbeat.look(1010, READY), Look::Ask(1));
        for _ in 0..10 {
            assert_eq!(heartbeat.look(1020, starved), Look::Ask(1));
        }
        assert_eq!(heartbeat.look(1030, READY), Look::Ask(1));
        assert_eq!(heartbeat.look(1040, starved), Look::Ask(1));
        assert_eq!(heartbeat.look(1050, READY), Look::Hangs);
    }

    #[test]
    fn a_late_answer_and_late_work_count() {
        let mut heartbeat = heartbeat();
        assert_eq!(heartbeat.look(1010, READY), Look::Ask(1));
        assert_eq!(heartbeat.look(1020, READY), Look::Ask(1));
        assert_eq!(heartbeat.look(1030, Signs { beat: 1, ..READY }), Look::Ask(2));
        assert_eq!(heartbeat.look(1040, Signs { beat: 1, ..READY }), Look::Ask(2));
        assert_eq!(heartbeat.look(1050, Signs { beat: 1, messages: 5, ..READY }), Look::Lives);
        assert_eq!(heartbeat.look(1060, Signs { beat: 1, messages: 5, ..READY }), Look::Ask(2));
        assert_eq!(heartbeat.look(1070, Signs { beat: 1, messages: 5, ..READY }), Look::Hangs);
    }

    #[test]
    fn one_that_never_gets_ready_hangs() {
        let mut heartbeat = heartbeat();
        let signs = Signs { ready: false, ..READY };
        for _ in 0..10 {
            assert_eq!(heartbeat.look(1010, signs), Look::Lives);
            assert_eq!(heartbeat.look(9999, Signs { had_its_turn: false, ..signs }), Look::Lives);
        }
        assert_eq!(heartbeat.look(1020, signs), Look::Hangs);
    }

    #[test]
    fn a_period_longer_than_the_grace_has_a_second_look() {
        let mut heartbeat = Heartbeat::new(Some(500), 100, 999);
        let signs = Signs { ready: false, ..READY };
        // The first look is one tick after the start.
        assert_eq!(heartbeat.due(), Some(1000));
        assert_eq!(heartbeat.look(1000, signs), Look::Lives);
        assert_eq!(heartbeat.look(1500, READY), Look::Ask(1));
        let mut heartbeat = Heartbeat::new(Some(500), 100, 999);
        assert_eq!(heartbeat.look(1000, signs), Look::Lives);
        assert_eq!(heartbeat.look(1500, signs), Look::Hangs);
    }

    #[test]
    fn one_that_waits_for_another_misses_nothing() {
        let mut heartbeat = heartbeat();
        let waits = Signs { waits_for_other: true, ..READY };
        assert_eq!(heartbeat.look(1010, READY), Look::Ask(1));
        assert_eq!(heartbeat.look(1020, READY), Look::Ask(1));
        for _ in 0..100 {
            assert_eq!(heartbeat.look(1030, waits), Look::Lives);
            assert_eq!(heartbeat.look(1030, Signs { ready: false, ..waits }), Look::Lives);
        }
        // From there it has two looks again.
        assert_eq!(heartbeat.look(1040, READY), Look::Ask(1));
        assert_eq!(heartbeat.look(1050, READY), Look::Hangs);
    }
}
