//! Supervision: what happens when a component that init keeps an eye on dies.
//!
//! The order matters to those who share channels with it. Its threads stand still; its next life is written to the
//! page of lives; its peers' bells are rung; what it had is taken back; and only then it begins again.

use proto::control::{State, recovery};
use proto::life::{Injection, orders, status};
use rt::clock;

use crate::component::Parts;
use crate::durable::Kept;
use crate::heartbeat::Heartbeat;
use crate::log;
use crate::manifest::Restart;
use crate::policy::{Policy, Verdict};
use crate::records::Recoveries;
use crate::supervisor::{Console, Ending, Supervisor};

/// How a component fares.
#[derive(Debug)]
pub struct Fate {
    /// What it is doing.
    pub state: State,
    /// The last recoveries.
    pub recoveries: Recoveries,
    /// Its heartbeats in this life.
    pub heartbeat: Heartbeat,
    /// TSC ticks of processor time in the lives that have ended, and of this one as far as they were asked for.
    pub time: u64,
    /// The same when a look last found that it had had its turn.
    pub time_counted: u64,
    /// Lives that ended by the operator's will.
    pub kills: u64,
    policy: Policy,
    /// When its life began, in TSC ticks.
    started: u64,
    /// When it is started again, if it waits for that.
    due: u64,
    /// What was ordered counts as its own fault.
    injection_counts: bool,
}

/// Why a life ended, as far as policy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// By the component's own fault.
    Fault,
    /// By the operator's will, or what that had ordered the component to do to itself.
    Ordered,
    /// It was done.
    Done,
}

impl Fate {
    /// Of a component that was never started.
    pub fn new(supervised: bool) -> Fate {
        Fate {
            state: State::Idle,
            recoveries: Recoveries::new(supervised),
            heartbeat: Heartbeat::default(),
            time: 0,
            time_counted: 0,
            kills: 0,
            policy: Policy::default(),
            started: 0,
            due: 0,
            injection_counts: false,
        }
    }
}

impl Supervisor {
    /// The number of the life that begins at `place`.
    pub fn begin_life(&mut self, place: usize) -> u32 {
        if self.durable.kept(place).is_none() {
            return 1;
        }
        if self.durable.life(place) == 0 {
            self.durable.set_life(place, 1);
        }
        self.durable.life(place) as u32
    }

    /// A life at `place` has begun.
    pub fn has_begun(&mut self, place: usize) {
        let now = clock::now();
        let period = self.manifest.components[place].heartbeat().map(|time| self.machine.ticks(time));
        let startup = self.machine.ticks(crate::heartbeat::STARTUP);
        let life = self.durable.life(place);
        let fate = &mut self.fates[place];
        fate.state = State::Runs;
        fate.started = now;
        fate.time_counted = fate.time;
        fate.heartbeat = Heartbeat::new(period, startup, now);
        fate.recoveries.note(recovery::STARTED, now);
        fate.recoveries.note(recovery::LIFE, life);
    }

    /// A life at `place` has ended, and nothing of it runs any more: says so to whom it concerns.
    pub fn life_ends(&mut self, place: usize, why: Why, detected: u64, parts: &Parts) {
        self.note_times(place);
        let fate = &mut self.fates[place];
        fate.time += parts.context.consumed().unwrap_or(0);
        fate.kills += u64::from(why == Why::Ordered);
        fate.recoveries.begin(detected);
        if self.manifest.components[place].device.is_none() {
            fate.recoveries.note(recovery::FENCED, detected);
        }
        fate.heartbeat = Heartbeat::default();
        let durable = &self.durable;
        let Some(kept) = durable.kept(place) else { return };
        durable.set_life(place, durable.life(place) + 1);
        if why == Why::Fault {
            durable.count_fault(place);
        }
        fate.injection_counts = true;
        kept.orders.clear();
        kept.status.clear();
        for end in durable.ends(place) {
            if let Some(peer) = durable.kept(end.peer) {
                peer.tell_lives();
            }
        }
        for server in self.manifest.servers_of(place) {
            if let Some(server) = durable.kept(server) {
                server.tell_lives();
            }
        }
        for (_, signal) in &self.watchers {
            // init made the right to signal it.
            let _ = ipc::signal(*signal);
        }
    }

    /// Notes what the living component at `place` has said of its recovery.
    pub fn note_times(&mut self, place: usize) {
        let Some(kept) = self.durable.kept(place) else { return };
        let fate = &mut self.fates[place];
        if fate.state == State::Runs {
            fate.recoveries.note(recovery::READY, kept.status.read(status::READY));
            fate.recoveries.note(recovery::SERVED, kept.status.read(status::FIRST_SERVED));
        }
    }

    /// Why a life at `place` ended so.
    pub fn why(&self, place: usize, ending: &Ending) -> Why {
        let (fate, entry) = (&self.fates[place], &self.manifest.components[place]);
        let ordered = self.durable.kept(place).is_some_and(injection_is_due) && !fate.injection_counts;
        match ending {
            Ending::Killed => Why::Ordered,
            Ending::Crashed(_) if ordered => Why::Ordered,
            Ending::Exited(_) if entry.restart == Restart::Never => Why::Done,
            Ending::Exited(_) | Ending::Crashed(_) => Why::Fault,
        }
    }

    /// Orders the component at `place` to do something to itself when it has begun `at` messages.
    pub fn inject(&mut self, place: usize, injection: Injection, at: u64, counts: bool) {
        let Some(kept) = self.durable.kept(place) else { return };
        kept.orders.write(orders::INJECTION, 0);
        kept.orders.write(orders::AT_MESSAGE, at);
        self.fates[place].injection_counts = counts;
        kept.orders.write(orders::INJECTION, injection as u64);
        kept.tell_orders();
    }

    /// What was a component is taken back: starts it again, now or later, or leaves it dead.
    pub fn decide(&mut self, place: usize, why: Why) {
        let entry = &self.manifest.components[place];
        let now = clock::now();
        let fate = &mut self.fates[place];
        if entry.restart == Restart::Never {
            fate.state = State::Idle;
            return;
        }
        let lived = self.machine.microseconds(now.saturating_sub(fate.started));
        match fate.policy.died(lived, why == Why::Fault) {
            Verdict::AtOnce => self.start_again(place),
            Verdict::After(pause) => {
                fate.state = State::Waits;
                fate.due = now + self.machine.ticks(pause);
            }
            Verdict::Park => {
                fate.state = State::Parked;
                log!("init: {} died too often and stays dead; `svc restart {0}` starts it", entry.name);
            }
        }
    }

    /// A component is dead and about to be started, or its device about to be ready for it.
    pub fn is_unsettled(&self) -> bool {
        self.fates.iter().any(|fate| matches!(fate.state, State::Fencing | State::Waits))
    }

    /// When a component that waits is to be started again.
    pub fn next_restart(&self) -> Option<u64> {
        self.fates.iter().filter(|fate| fate.state == State::Waits).map(|fate| fate.due).min()
    }

    /// Starts those whose pause is over.
    pub fn restart_those_due(&mut self, now: u64) {
        for place in 0..self.fates.len() {
            let fate = &self.fates[place];
            if fate.state == State::Waits && fate.due <= now {
                self.start_again(place);
            }
        }
    }

    /// The operator wants the component at `place` to run anew, whatever it did.
    pub fn restart_by_will(&mut self, place: usize) {
        self.fates[place].policy.forgive();
        match self.running_at(place) {
            Some(number) => self.end(number, Ending::Killed),
            None => self.start_again(place),
        }
    }

    fn start_again(&mut self, place: usize) {
        let name = self.manifest.components[place].name;
        if let Err(error) = self.start(place, name, "", Console::Log) {
            self.fates[place].state = State::Parked;
            log!("init: {name} is not started again: {error}");
        }
    }
}

/// Whether the component has come to where its orders take effect.
fn injection_is_due(kept: &Kept) -> bool {
    kept.orders.read(orders::INJECTION) != 0
        && kept.orders.read(orders::AT_MESSAGE) <= kept.status.read(status::MESSAGES)
}
