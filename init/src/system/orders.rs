//! What operators and peers want of components.

use abi::CPtr;
use proto::control::State;
use rt::memory;

use super::System;
use crate::build::durable::badged;
use crate::log;
use crate::machine::CNODE;
use crate::registry::records::Times;
use crate::supervision::life::Event;

/// Why a report was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disbelieved {
    /// The two share no channel.
    NoChannel,
    /// The reporter has reported too often.
    TooOften,
}

impl System {
    /// Begins the supervised component at `place` again, whatever it did. Returns false if it is left dead.
    pub fn restart(&mut self, place: usize) -> bool {
        self.tell(place, Event::Restart);
        self.state(place) != State::Parked
    }

    /// The same, with an empty state.
    pub fn reset(&mut self, place: usize) -> bool {
        self.tell(place, Event::Reset);
        self.state(place) != State::Parked
    }

    /// Ends the life at `place`, of which the component at `from` says that it wrote nonsense into their channel.
    pub fn report(&mut self, from: usize, place: usize, message: &str) -> Result<(), Disbelieved> {
        if !self.durable.ends(from).any(|end| end.peer == place) {
            return Err(Disbelieved::NoChannel);
        }
        // What the operator had ordered is no claim of the reporter's.
        if !self.injection_was_due(place) && !self.seats[from].life.may_report(rt::clock::now()) {
            let (from, of) = (self.manifest.components[from].name, self.manifest.components[place].name);
            log!("init: {from} has reported too often and is not believed: {of} goes on");
            return Err(Disbelieved::TooOften);
        }
        self.corrupt(place, message);
        Ok(())
    }

    /// Ends the life at `place`, which has written nonsense into its rings.
    pub fn corrupt(&mut self, place: usize, message: &str) {
        self.seats[place].reported = message.into();
        self.tell(place, Event::Reported);
        self.seats[place].reported.clear();
    }

    /// Returns lives of the component at `place` that were ended by the operator.
    pub fn kills(&self, place: usize) -> u64 {
        self.seats[place].history.kills
    }

    /// Returns the times of the recovery of the component at `place` that was `ago` recoveries ago.
    pub fn recovery(&mut self, place: usize, ago: u64) -> Option<&Times> {
        if self.state(place) == State::Runs {
            self.note_times(place);
        }
        self.seats[place].history.recoveries.get(ago)
    }

    /// Has a bit of a component's bell signalled at each end of a life. Returns false if it cannot be.
    pub fn watch(&mut self, number: u32, bell: CPtr, bit: u8) -> bool {
        let Ok(signal) = badged(bell, bit) else { return false };
        self.forget_watcher(number);
        self.watchers.push((number, signal));
        true
    }

    /// Tells a component no more of the end of lives.
    pub(super) fn forget_watcher(&mut self, number: u32) {
        let Some(at) = self.watchers.iter().position(|(watcher, _)| *watcher == number) else { return };
        let (_, signal) = self.watchers.swap_remove(at);
        // Both are init's own.
        let _ = CNODE.delete(u64::from(signal.0));
        let _ = memory::with(|objects| objects.return_slot(signal));
    }
}
