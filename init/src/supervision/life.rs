//! One component's life and death, as a state machine: events in, actions out.
//!
//! The order matters to those who share channels with it. Its threads stand still; its next life is written to the page
//! of lives and its peers' bells are rung ([`Action::EndLife`]); its device is fenced; its memory is taken back
//! ([`Action::Bury`]); only then it begins again.

use proto::control::{Cause, State};

use super::bucket::Bucket;
use super::heartbeat::{Heartbeat, Look, Signs};
use super::policy::{Policy, Verdict};

/// Reports of one component that are believed at once; later ones are believed one in two [`super::bucket::LEAK`]. That is
/// fewer than the faults that park a component, so no client alone can have a server parked.
pub const MOST_REPORTS: u64 = 4;

/// What the manifest makes of a component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// It is started again when it dies.
    pub restarts: bool,
    /// It drives a device.
    pub drives: bool,
    /// Microseconds between its heartbeats, if it has any.
    pub heartbeat: Option<u64>,
}

/// Why a life ended, as far as policy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// By the component's own fault.
    Fault,
    /// By the operator, or by what the operator had ordered the component to do to itself.
    Ordered,
    /// It was done.
    Done,
}

/// What happens to a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is to begin.
    Wanted,
    /// It was built, and runs.
    Begun,
    /// It could not be built.
    NotBuilt,
    /// Its main thread stands still for good.
    Died(Why),
    /// The operator, or the component that started it, wants it to end.
    Kill,
    /// The operator wants it to begin again, whatever it did.
    Restart,
    /// The operator wants it to begin again with an empty state.
    Reset,
    /// A component at the other end of a channel says that it wrote nonsense there.
    Reported,
    /// init looks at it.
    Look(Signs),
    /// Its device is fenced.
    Fenced,
    /// Its device could not be fenced.
    NotFenced,
    /// Its memory was taken back.
    Buried,
    /// Its device is ready.
    DeviceReady,
    /// Its device cannot be had.
    NoDevice,
    /// Its device cannot be had before `pci` runs again.
    NoBus,
    /// Time has passed.
    Time,
}

/// What is to be done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Stop its main thread and note what is seen of it, then tell `Died`.
    Stop(Cause),
    /// Ask for this heartbeat.
    Ask(u64),
    /// Note the end of its life and tell its peers and children.
    EndLife(Why),
    /// Have its device fenced: then `Fenced` or `NotFenced`.
    Fence,
    /// Take its memory back: then `Buried`.
    Bury,
    /// Keep its memory for good.
    KeepAside,
    /// Get its device ready: then `DeviceReady`, `NoDevice` or `NoBus`.
    GetDevice,
    /// Its device is not needed.
    LeaveDevice,
    /// Empty its state Frame.
    ClearState,
    /// Build and start it: then `Begun` or `NotBuilt`.
    Build,
    /// It has died too often.
    TellParked,
}

/// The most actions of one event.
pub const MOST_ACTIONS: usize = 4;
/// What one event leads to.
pub type Actions = heapless::Vec<Action, MOST_ACTIONS>;

/// Conversions that depend on the machine's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// TSC ticks in a second.
    pub hz: u64,
}

impl Clock {
    /// Returns the TSC ticks in so many microseconds.
    pub fn ticks(self, microseconds: u64) -> u64 {
        u64::try_from(u128::from(microseconds) * u128::from(self.hz) / 1_000_000).unwrap_or(u64::MAX)
    }

    /// Returns the microseconds in so many TSC ticks.
    pub fn microseconds(self, ticks: u64) -> u64 {
        let microseconds = u128::from(ticks) * 1_000_000 / u128::from(self.hz.max(1));
        u64::try_from(microseconds).unwrap_or(u64::MAX)
    }
}

/// Supervision state of one component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    role: Role,
    clock: Clock,
    state: State,
    policy: Policy,
    heartbeat: Heartbeat,
    /// When this life began, in TSC ticks.
    started: u64,
    /// When it is started again, if it waits for that.
    due: u64,
    /// The last life: why it ended, and its microseconds. Some until its memory was taken back.
    grave: Option<(Why, u64)>,
    /// It begins again as soon as its memory was taken back, whatever the policy says.
    again: bool,
    /// Its state is to be emptied before it begins again.
    clear: bool,
    /// Its reports of others, and when they were last counted.
    reports: Bucket,
    reported: u64,
}

impl Life {
    /// Returns the state of a component that has never started.
    pub fn new(role: Role, clock: Clock) -> Life {
        Life {
            role,
            clock,
            state: State::Idle,
            policy: Policy::default(),
            heartbeat: Heartbeat::default(),
            started: 0,
            due: 0,
            grave: None,
            again: false,
            clear: false,
            reports: Bucket::default(),
            reported: 0,
        }
    }

    /// Returns what it is doing.
    pub fn state(&self) -> State {
        self.state
    }

    /// Returns true if init looks at it again and again while it runs.
    pub fn is_watched(&self) -> bool {
        self.heartbeat.due().is_some()
    }

    /// Returns when it next wants [`Event::Time`] or [`Event::Look`], in TSC ticks.
    pub fn due(&self) -> Option<u64> {
        match self.state {
            State::Waits => Some(self.due),
            State::Runs => self.heartbeat.due(),
            State::Idle | State::Fencing | State::Parked => None,
        }
    }

    /// Returns true if a report of this component about another one is to be believed, and counts it.
    pub fn may_report(&mut self, now: u64) -> bool {
        // Half as fast as a server that always lives forgets its faults: it pauses between its lives.
        self.reports.leak(self.clock.microseconds(now.saturating_sub(self.reported)) / 2);
        self.reported = now;
        let believed = self.reports.count() < MOST_REPORTS;
        if believed {
            self.reports.add(MOST_REPORTS);
        }
        believed
    }

    /// Takes an event.
    pub fn on(&mut self, now: u64, event: Event) -> Actions {
        let mut actions = Actions::new();
        let mut act = |action| {
            let kept = actions.push(action);
            debug_assert!(kept.is_ok(), "an event with more than {MOST_ACTIONS} actions");
        };
        match event {
            Event::Wanted if matches!(self.state, State::Idle | State::Parked) => self.want(&mut act),
            Event::Begun => self.begun(now),
            Event::NotBuilt => self.not_built(&mut act),
            Event::Died(why) => self.died(now, why, &mut act),
            Event::Kill => self.kill(now, &mut act),
            Event::Restart => self.restart(now, &mut act),
            Event::Reset => {
                self.clear = true;
                self.restart(now, &mut act);
            }
            Event::Reported if self.state == State::Runs => act(Action::Stop(Cause::Corrupt)),
            Event::Look(signs) if self.state == State::Runs => self.look(now, signs, &mut act),
            Event::Fenced if self.grave.is_some() => act(Action::Bury),
            Event::NotFenced if self.grave.take().is_some() => {
                self.state = State::Parked;
                self.again = false;
                act(Action::KeepAside);
            }
            Event::Buried => self.buried(now, &mut act),
            Event::DeviceReady if self.waits_for_device() => self.build(&mut act),
            // It died, or was withdrawn, meanwhile.
            Event::DeviceReady if self.state != State::Runs => act(Action::LeaveDevice),
            Event::NoDevice if self.waits_for_device() => self.state = self.left_dead(),
            Event::NoBus if matches!(self.state, State::Fencing | State::Parked) => self.no_bus(&mut act),
            Event::Time if self.state == State::Waits && self.due <= now => self.want(&mut act),
            Event::Wanted
            | Event::Reported
            | Event::Look(_)
            | Event::Fenced
            | Event::NotFenced
            | Event::DeviceReady
            | Event::NoDevice
            | Event::NoBus
            | Event::Time => {}
        }
        actions
    }

    /// Returns true if nothing keeps it from beginning but its device.
    fn waits_for_device(&self) -> bool {
        self.role.drives
            && self.grave.is_none()
            && (self.state == State::Fencing || (self.state == State::Parked && self.role.restarts))
    }

    /// Returns the state of a component that does not begin again by itself.
    fn left_dead(&self) -> State {
        if self.role.restarts { State::Parked } else { State::Idle }
    }

    fn want(&mut self, act: &mut impl FnMut(Action)) {
        if self.grave.is_some() {
            self.again = true;
        } else if self.role.drives {
            self.state = State::Fencing;
            act(Action::GetDevice);
        } else {
            self.build(act);
        }
    }

    fn build(&mut self, act: &mut impl FnMut(Action)) {
        if core::mem::take(&mut self.clear) {
            act(Action::ClearState);
        }
        act(Action::Build);
    }

    fn begun(&mut self, now: u64) {
        self.state = State::Runs;
        self.started = now;
        self.heartbeat = Heartbeat::new(self.role.heartbeat, |time| self.clock.ticks(time), now);
    }

    fn not_built(&mut self, act: &mut impl FnMut(Action)) {
        self.state = self.left_dead();
        if self.role.drives {
            act(Action::LeaveDevice);
        }
    }

    fn died(&mut self, now: u64, why: Why, act: &mut impl FnMut(Action)) {
        if self.state != State::Runs {
            return;
        }
        self.heartbeat = Heartbeat::default();
        // What it lived ends here: the wait for its device is not part of it.
        self.grave = Some((why, self.clock.microseconds(now.saturating_sub(self.started))));
        self.state = State::Fencing;
        act(Action::EndLife(why));
        act(if self.role.drives { Action::Fence } else { Action::Bury });
    }

    fn kill(&mut self, now: u64, act: &mut impl FnMut(Action)) {
        match self.state {
            State::Runs => self.died(now, Why::Ordered, act),
            // It waits for its device and has not begun: nobody wants it any more.
            State::Fencing if self.grave.is_none() && !self.role.restarts => {
                self.state = State::Idle;
                act(Action::LeaveDevice);
            }
            State::Idle | State::Fencing | State::Waits | State::Parked => {}
        }
    }

    fn restart(&mut self, now: u64, act: &mut impl FnMut(Action)) {
        self.policy.forgive();
        match self.state {
            State::Runs => {
                self.again = true;
                self.died(now, Why::Ordered, act);
            }
            // Its device is on the way.
            State::Fencing if self.grave.is_none() => {}
            State::Idle | State::Fencing | State::Waits | State::Parked => self.want(act),
        }
    }

    fn look(&mut self, now: u64, signs: Signs, act: &mut impl FnMut(Action)) {
        match self.heartbeat.look(now, signs) {
            Look::Lives => {}
            Look::Ask(beat) => act(Action::Ask(beat)),
            Look::Hangs => act(Action::Stop(Cause::Hang)),
        }
    }

    fn buried(&mut self, now: u64, act: &mut impl FnMut(Action)) {
        let Some((why, lived)) = self.grave.take() else { return };
        if core::mem::take(&mut self.again) {
            return self.want(act);
        }
        if !self.role.restarts {
            self.state = State::Idle;
        } else {
            match self.policy.died(lived, why == Why::Fault) {
                Verdict::AtOnce => return self.want(act),
                Verdict::After(pause) => {
                    self.state = State::Waits;
                    self.due = now.saturating_add(self.clock.ticks(pause));
                }
                Verdict::Park => {
                    self.state = State::Parked;
                    act(Action::TellParked);
                }
            }
        }
        if self.role.drives {
            act(Action::LeaveDevice);
        }
    }

    /// One that is restarted stays wanted, and begins when `pci` is back; one that was started by hand does not.
    fn no_bus(&mut self, act: &mut impl FnMut(Action)) {
        self.state = State::Parked;
        if self.grave.is_none() && !self.role.restarts {
            self.state = State::Idle;
            act(Action::LeaveDevice);
        }
    }
}
