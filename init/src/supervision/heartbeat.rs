//! Whether a component still answers.
//!
//! Once in every period init asks, by a word of the component's orders and its bell, unless the component has begun to
//! handle something since it was last looked at: then it lives, and is not disturbed. Two looks in a row at a
//! component that has neither answered nor begun anything find that it hangs. A look at one that was ready to run, but hardly
//! got to, finds nothing: others of higher priority kept it from that. Until it says that it is ready, it has as many looks as
//! [`STARTUP`] has room for.

extern crate alloc;

use alloc::boxed::Box;

use proto::control::{Cause, State};
use proto::life::{orders, status};

use crate::registry::crash::Record;
use crate::supervisor::{Ending, Supervisor};

/// Microseconds that a component has until it must be ready.
pub const STARTUP: u64 = 1_000_000;
/// Microseconds of processor time that are ample for an answer. Who has had less was kept from it by others.
const TURN: u64 = 2_000;
/// Looks in a row without a sign of life after which a component hangs.
const MOST_MISSED: u32 = 2;

/// A thread's state, in the words of `Tcb.status`: it waits for something.
const BLOCKED: u64 = 2;

/// The heartbeats of one life; by default of one that has none.
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
        let startup = startup.checked_div(period).unwrap_or(0);
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

impl Supervisor {
    /// When to look at the next component.
    pub fn next_heartbeat(&self) -> Option<u64> {
        self.fates.iter().filter_map(|fate| fate.heartbeat.due()).min()
    }

    /// Looks at all components that it is time for, and ends those that hang.
    pub fn ask_for_heartbeats(&mut self, now: u64) {
        for place in 0..self.fates.len() {
            let fate = &self.fates[place];
            let is_due = fate.heartbeat.due().is_some_and(|due| due <= now) && fate.state == State::Runs;
            if !is_due {
                continue;
            }
            let had_its_turn = self.has_had_its_turn(place);
            let Some(kept) = self.durable.kept(place) else { continue };
            let signs = Signs {
                ready: kept.status.read(status::READY) != 0,
                beat: kept.status.read(status::BEAT),
                messages: kept.status.read(status::MESSAGES),
                had_its_turn,
            };
            match self.fates[place].heartbeat.look(now, signs) {
                Look::Lives => {}
                Look::Ask(beat) => {
                    kept.orders.write(orders::BEAT, beat);
                    kept.tell_orders();
                }
                Look::Hangs => self.end_halted(place, Cause::Hang, ""),
            }
        }
    }

    /// Whether the main thread at `place` waits for something, or has run for a [`TURN`] since this was last so.
    fn has_had_its_turn(&mut self, place: usize) -> bool {
        let number = self.running_at(place).map(u64::from);
        let Some(component) = number.and_then(|number| self.component(number)) else { return false };
        let waits = component.parts.tcb.status().is_ok_and(|[state, ..]| state == BLOCKED);
        let time = self.time_used(place);
        let turn = self.machine.ticks(TURN);
        let counted = &mut self.fates[place].time_counted;
        let had = waits || time - *counted >= turn;
        if had {
            *counted = time;
        }
        had
    }

    /// TSC ticks of processor time that the component at `place` has had, in all its lives.
    pub fn time_used(&mut self, place: usize) -> u64 {
        let number = self.running_at(place).map(u64::from);
        let component = number.and_then(|number| self.component(number));
        // Asking takes it back to 0, so whoever asks adds it.
        let consumed = component.and_then(|each| each.parts.context.consumed().ok()).unwrap_or(0);
        self.fates[place].time += consumed;
        self.fates[place].time
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

    const READY: Signs = Signs { ready: true, beat: 0, messages: 0, had_its_turn: true };

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
        for _ in 0..9 {
            assert_eq!(heartbeat.look(1010, signs), Look::Lives);
            assert_eq!(heartbeat.look(9999, Signs { had_its_turn: false, ..signs }), Look::Lives);
        }
        assert_eq!(heartbeat.look(1020, signs), Look::Hangs);
    }
}
