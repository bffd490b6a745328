//! Looks at components: heartbeats, processor time, and what they were ordered to do to themselves.

use proto::control::State;
use proto::life::{Injection, orders, status};
use rt::clock;

use super::{System, number_of};
use crate::build::durable::Kept;
use crate::supervision::heartbeat::{CLOSE, Signs};
use crate::supervision::life::Event;

/// Microseconds of processor time in which a component can answer. A component that ran for less than this was starved.
const TURN: u64 = CLOSE / 2;
/// A thread's state, in the words of `Tcb.status`: it waits for something.
const BLOCKED: u64 = 2;

impl System {
    /// Returns when something is due, in TSC ticks.
    pub fn due(&self) -> Option<u64> {
        self.seats.iter().filter_map(|seat| seat.life.due()).min()
    }

    /// Starts components whose pause is over, and looks at those whose heartbeat is due.
    pub fn expired(&mut self) {
        let now = clock::now();
        for seat in 0..self.seats.len() {
            let life = &self.seats[seat].life;
            if life.due().is_none_or(|due| due > now) {
                continue;
            }
            match life.state() {
                State::Runs => self.look(seat),
                _ => self.tell(seat, Event::Time),
            }
        }
    }

    fn look(&mut self, seat: usize) {
        let (had_its_turn, waits_for_other) = self.has_had_its_turn(seat);
        let Some(kept) = self.durable.kept(seat) else { return };
        let signs = Signs {
            ready: kept.status.read(status::READY) != 0,
            beat: kept.status.read(status::BEAT),
            messages: kept.status.read(status::MESSAGES),
            had_its_turn,
            waits_for_other,
        };
        self.tell(seat, Event::Look(signs));
    }

    pub(super) fn ask(&self, seat: usize, beat: u64) {
        if let Some(kept) = self.durable.kept(seat) {
            kept.orders.write(orders::BEAT, beat);
            kept.tell_orders();
        }
    }

    /// Returns whether the main thread in a seat waits for something, or has run for a [`TURN`] since this was last so;
    /// and whether it waits for the answer of another component.
    fn has_had_its_turn(&mut self, seat: usize) -> (bool, bool) {
        let Some(component) = self.registry.get(u64::from(number_of(seat))) else { return (false, false) };
        let [state, _, _, calls] = component.parts.tcb.status().unwrap_or_default();
        let waits_for_other = calls != 0 && self.callee_is_looked_after(seat);
        let time = self.time_used(seat);
        let turn = self.machine.ticks(TURN);
        let counted = &mut self.seats[seat].history.time_counted;
        let had = state == BLOCKED || time - *counted >= turn;
        if had {
            *counted = time;
        }
        (had, waits_for_other)
    }

    /// Returns true if the component in a seat may call one that does not run, or that has heartbeats of its own.
    fn callee_is_looked_after(&self, seat: usize) -> bool {
        self.manifest
            .servers_of(seat)
            .any(|callee| self.registry.running_at(callee).is_none() || self.seats[callee].life.is_watched())
    }

    /// Returns the TSC ticks of processor time that the component at `place` has had, in all its lives.
    pub fn time_used(&mut self, place: usize) -> u64 {
        let running = self.registry.running_at(place).and_then(|number| self.registry.get(u64::from(number)));
        // Asking takes it back to 0, so whoever asks adds it.
        let consumed = running.and_then(|each| each.parts.context.consumed().ok()).unwrap_or(0);
        let history = &mut self.seats[place].history;
        history.time += consumed;
        history.time
    }

    /// Orders the component at `place` to do something to itself when it has begun `at` messages. `counts`: that is its
    /// own fault.
    pub fn inject(&mut self, place: usize, injection: Injection, at: u64, counts: bool) {
        let Some(kept) = self.durable.kept(place) else { return };
        kept.orders.write(orders::INJECTION, 0);
        kept.orders.write(orders::AT_MESSAGE, at);
        self.seats[place].history.injection_counts = counts;
        kept.orders.write(orders::INJECTION, injection as u64);
        kept.tell_orders();
    }

    /// Returns true if the component in a seat has come to where the operator's orders take effect.
    pub(super) fn injection_was_due(&self, seat: usize) -> bool {
        self.durable.kept(seat).is_some_and(injection_is_due) && !self.seats[seat].history.injection_counts
    }
}

fn injection_is_due(kept: &Kept) -> bool {
    kept.orders.read(orders::INJECTION) != 0
        && kept.orders.read(orders::AT_MESSAGE) <= kept.status.read(status::MESSAGES)
}
