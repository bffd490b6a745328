//! Whether a component still answers.
//!
//! Once in every period init asks, by a word of the component's orders and its bell, unless the component has begun to
//! handle something since it was last looked at: then it lives, and is not disturbed.
//!
//! A component that does not answer hangs if it had the chance to: if it is blocked, though the question is two
//! periods old, or has had a period of processor time since. One that more urgent ones keep from running, or whose
//! virtual CPU the host does not run, has not. Until it says that it is ready, it has [`STARTUP`] in the same way.

extern crate alloc;

use alloc::boxed::Box;

use proto::control::{Cause, State};
use proto::life::{orders, status};

use crate::crash::Record;
use crate::supervisor::{Ending, Supervisor};

/// Microseconds that a component has until it must be ready.
pub const STARTUP: u64 = 1_000_000;
/// Of `Tcb.status`: the thread waits for something.
const BLOCKED: u64 = 2;
/// Periods after which a blocked component should have answered.
const PATIENCE: u64 = 2;

/// The heartbeats of one life; by default of one that has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// TSC ticks between looks.
    period: u64,
    /// The next look; 0 for never.
    due: u64,
    /// Ticks that it may take to get ready.
    startup: u64,
    /// How often it was asked.
    asked: u64,
    /// When it was asked last or, not being ready, began; and the processor time it had had then.
    since: u64,
    time: u64,
    /// Messages it had begun at the last look.
    messages: u64,
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
    /// It waits for something.
    pub blocked: bool,
    /// TSC ticks of processor time it has had.
    pub time: u64,
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
    /// Of a life that begins `now`, after `time` ticks of processor time in earlier ones, and is looked at every
    /// `period` ticks, if at all.
    pub fn new(period: Option<u64>, startup: u64, now: u64, time: u64) -> Heartbeat {
        let period = period.unwrap_or(0);
        let mut heartbeat = Heartbeat { period, startup, since: now, time, ..Heartbeat::default() };
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
        if !signs.ready {
            return if self.had_its_chance(now, signs, self.startup, self.startup) {
                Look::Hangs
            } else {
                Look::Lives
            };
        }
        if signs.messages != core::mem::replace(&mut self.messages, signs.messages) {
            (self.since, self.time) = (now, signs.time);
            return Look::Lives;
        }
        if signs.beat == self.asked {
            self.asked += 1;
            (self.since, self.time) = (now, signs.time);
            return Look::Ask(self.asked);
        }
        match self.had_its_chance(now, signs, PATIENCE * self.period, self.period) {
            true => Look::Hangs,
            false => Look::Lives,
        }
    }

    /// Whether it is blocked after `patience` ticks, or has had `enough` of processor time.
    fn had_its_chance(&self, now: u64, signs: Signs, patience: u64, enough: u64) -> bool {
        let (waited, ran) = (now.saturating_sub(self.since), signs.time.saturating_sub(self.time));
        ran >= enough || signs.blocked && waited >= patience
    }
}

impl Supervisor {
    /// When to look at the next component.
    pub fn next_heartbeat(&self) -> Option<u64> {
        self.fates.iter().filter_map(|fate| fate.heartbeat.due()).min()
    }

    /// Looks at all components that it is time for, and ends those that hang.
    pub fn ask_for_heartbeats(&mut self, now: u64) {
        for place in 0..self.fates.len() {
            let fate = &mut self.fates[place];
            let is_due = fate.heartbeat.due().is_some_and(|due| due <= now) && fate.state == State::Runs;
            if !is_due {
                continue;
            }
            let (blocked, time) = self.running_time(place);
            let (fate, kept) = (&mut self.fates[place], self.durable.kept(place));
            let Some(kept) = kept else { continue };
            let signs = Signs {
                ready: kept.status.read(status::READY) != 0,
                beat: kept.status.read(status::BEAT),
                messages: kept.status.read(status::MESSAGES),
                blocked,
                time,
            };
            match fate.heartbeat.look(now, signs) {
                Look::Lives => {}
                Look::Ask(beat) => {
                    kept.orders.write(orders::BEAT, beat);
                    kept.tell_orders();
                }
                Look::Hangs => self.end_halted(place, Cause::Hang, ""),
            }
        }
    }

    /// Whether the main thread of the component at `place` waits for something, and how much processor time all its
    /// lives have had.
    fn running_time(&mut self, place: usize) -> (bool, u64) {
        let number = self.running_at(place);
        let parts = number.and_then(|number| self.component(u64::from(number))).map(|each| &each.parts);
        let [blocked, consumed] = parts.map_or([0; 2], |parts| {
            let state = parts.tcb.status().map_or(BLOCKED, |[state, ..]| state);
            [u64::from(state == BLOCKED), parts.context.consumed().unwrap_or(0)]
        });
        let fate = &mut self.fates[place];
        fate.time += consumed;
        (blocked != 0, fate.time)
    }

    /// Ends the component at `place`, which has not faulted but must go; `message` says more.
    pub fn end_halted(&mut self, place: usize, cause: Cause, message: &str) {
        let Some(number) = self.running_at(place) else { return };
        let Some(component) = self.component(u64::from(number)) else { return };
        // It is there, so this is not refused.
        let _ = component.parts.tcb.suspend();
        let mut record = Record::of_halted(&component.parts, cause);
        // What does not fit is cut.
        let _ = record.message.push_str(message);
        self.end(number, Ending::Crashed(Box::new(record)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: Signs = Signs { ready: true, beat: 0, messages: 0, blocked: true, time: 500 };

    fn heartbeat() -> Heartbeat {
        Heartbeat::new(Some(10), 100, 1003, 500)
    }

    #[test]
    fn looks_are_at_multiples_of_the_period() {
        let mut heartbeat = heartbeat();
        assert_eq!(heartbeat.due(), Some(1010));
        heartbeat.look(1010, READY);
        assert_eq!(heartbeat.due(), Some(1020));
        heartbeat.look(1055, READY);
        assert_eq!(heartbeat.due(), Some(1060));
        assert_eq!(Heartbeat::new(None, 100, 1003, 0).due(), None);
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
    fn one_that_waits_for_something_else_hangs_after_two_periods() {
        let mut heartbeat = heartbeat();
        assert_eq!(heartbeat.look(1010, READY), Look::Ask(1));
        assert_eq!(heartbeat.look(1020, READY), Look::Lives);
        assert_eq!(heartbeat.look(1030, READY), Look::Hangs);
    }

    #[test]
    fn one_that_spins_hangs_after_a_period_of_processor_time() {
        let mut heartbeat = heartbeat();
        assert_eq!(heartbeat.look(1010, READY), Look::Ask(1));
        assert_eq!(heartbeat.look(1100, Signs { blocked: false, time: 509, ..READY }), Look::Lives);
        assert_eq!(heartbeat.look(1110, Signs { blocked: false, time: 510, ..READY }), Look::Hangs);
    }

    #[test]
    fn one_that_could_not_run_does_not_hang() {
        let mut heartbeat = heartbeat();
        assert_eq!(heartbeat.look(1010, READY), Look::Ask(1));
        assert_eq!(heartbeat.look(9000, Signs { blocked: false, ..READY }), Look::Lives);
        assert_eq!(heartbeat.look(9001, Signs { beat: 1, ..READY }), Look::Ask(2));
        // Two looks may come close together: the host had stopped the whole machine.
        assert_eq!(heartbeat.look(9002, Signs { beat: 1, ..READY }), Look::Lives);
    }

    #[test]
    fn a_late_answer_and_late_work_count() {
        let mut heartbeat = heartbeat();
        assert_eq!(heartbeat.look(1010, READY), Look::Ask(1));
        assert_eq!(heartbeat.look(1020, READY), Look::Lives);
        assert_eq!(heartbeat.look(1029, Signs { beat: 1, ..READY }), Look::Ask(2));
        assert_eq!(heartbeat.look(1040, Signs { beat: 1, ..READY }), Look::Lives);
        assert_eq!(heartbeat.look(1048, Signs { beat: 1, messages: 5, ..READY }), Look::Lives);
        assert_eq!(heartbeat.look(1060, Signs { beat: 1, messages: 5, ..READY }), Look::Lives);
        assert_eq!(heartbeat.look(1070, Signs { beat: 1, messages: 5, ..READY }), Look::Hangs);
    }

    #[test]
    fn one_that_never_gets_ready_hangs_blocked_or_busy() {
        let signs = Signs { ready: false, ..READY };
        let mut waits = heartbeat();
        assert_eq!(waits.look(1010, signs), Look::Lives);
        assert_eq!(waits.look(1102, signs), Look::Lives);
        assert_eq!(waits.look(1103, signs), Look::Hangs);
        let mut spins = heartbeat();
        assert_eq!(spins.look(5000, Signs { blocked: false, time: 599, ..signs }), Look::Lives);
        assert_eq!(spins.look(5010, Signs { blocked: false, time: 600, ..signs }), Look::Hangs);
    }
}
