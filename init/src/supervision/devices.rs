//! The device of one driver, as a state machine: events in, actions out.
//!
//! The order at a driver's death: its interrupts are masked; `pci` stops the device; everything is unmapped from its
//! IoSpace; only then the driver's memory is used again. Behind an IOMMU one order resets the device and has it ready
//! for the next driver: it has forgotten all addresses, and its emptied IoSpace knows none. Without an IOMMU the device
//! also loses the bus until its next driver begins.
//!
//! `pci` carries orders out whenever it runs, so a `pci` that dies only delays them. While `pci` is parked nothing
//! answers: then an IOMMU is enough to fence the device, and without one the dead driver's memory waits for `pci`.

/// Where a device stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// `pci` has not said where the device is.
    Unknown,
    /// The device cannot be had.
    Unusable,
    /// The device is stopped.
    Off,
    /// `pci` is to stop it.
    Stopping,
    /// `pci` is to start it.
    Starting,
    /// Its driver is dead; `pci` is to stop it, and to start it for the next one.
    Resetting,
    /// Its driver has it, or may.
    On,
}

/// How `pci` has carried out an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// As ordered.
    Done,
    /// The device was stopped at most.
    Refused,
    /// The device could not be stopped.
    NotStopped,
}

/// What happens to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A driver is to begin.
    Wanted,
    /// No driver is to begin any more.
    NotWanted,
    /// The driver has died. Its memory is kept until the device is fenced.
    DriverDied,
    /// `pci` has written its table.
    TableWritten,
    /// The table has the device, and what its driver gets is there.
    Found,
    /// The device is not in the table, or cannot be used.
    Absent,
    /// `pci` has carried out the last order.
    Answered(Answer),
    /// The interrupts could not be connected.
    NotConnected,
    /// `pci` is parked.
    BusLost,
    /// `pci` has begun another life.
    BusBack,
}

/// What is to be done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look for the device in the table: then `Found` or `Absent`. Nothing follows while the table is not complete.
    Find,
    /// Mask the interrupts.
    Mask,
    /// Order `pci` to stop the device.
    OrderOff,
    /// Order `pci` to reset and start the device.
    OrderOn,
    /// Connect the interrupts. If that fails, `NotConnected` takes the place of the actions behind it.
    Connect,
    /// Unmap everything from the IoSpace and take the driver's memory back; keep it aside if unmapping fails.
    Fenced,
    /// Keep the dead driver's memory aside for good: the device may still write to it.
    NotFenced,
    /// The driver may begin.
    Begin,
    /// The driver cannot begin.
    Fail(Failure),
}

/// Why a driver cannot begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The device cannot be had; the search has said why.
    Absent,
    /// `pci` cannot start the device.
    NotStarted,
    /// `pci` is parked.
    NoBus,
    /// The interrupts cannot be connected.
    NotConnected,
}

/// The most actions of one event.
pub const MOST_ACTIONS: usize = 4;
/// What one event leads to.
pub type Actions = heapless::Vec<Action, MOST_ACTIONS>;

/// The device of one driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    phase: Phase,
    /// An IOMMU bounds what the device reaches.
    bounded: bool,
    /// A driver is to begin when the device is on.
    wanted: bool,
    /// The memory of a dead driver waits until the device is fenced.
    grave: bool,
    /// `pci` does not run, and will not by itself.
    bus_lost: bool,
}

impl Device {
    /// Returns a device that nobody has looked for, before `pci` runs. `bounded`: there is an IOMMU.
    pub fn new(bounded: bool) -> Device {
        Device { phase: Phase::Unknown, bounded, wanted: false, grave: false, bus_lost: true }
    }

    /// Returns true if the driver has the device.
    pub fn is_on(&self) -> bool {
        self.phase == Phase::On
    }

    /// Returns true if the next driver has to wait until `pci` runs again.
    pub fn lacks_its_bus(&self) -> bool {
        self.bus_lost && self.phase != Phase::On
    }

    /// Takes an event.
    pub fn on(&mut self, event: Event) -> Actions {
        let mut actions = Actions::new();
        let mut act = |action| {
            let kept = actions.push(action);
            debug_assert!(kept.is_ok(), "an event with more than {MOST_ACTIONS} actions");
        };
        match event {
            Event::Wanted => self.wanted(&mut act),
            Event::NotWanted => self.not_wanted(&mut act),
            Event::DriverDied => self.driver_died(&mut act),
            Event::TableWritten if self.phase == Phase::Unknown => act(Action::Find),
            Event::Found if matches!(self.phase, Phase::Unknown | Phase::Unusable) => {
                self.phase = Phase::Off;
                self.start_if_wanted(&mut act);
            }
            Event::Absent if matches!(self.phase, Phase::Unknown | Phase::Unusable) => {
                self.phase = Phase::Unusable;
                self.fail(Failure::Absent, &mut act);
            }
            Event::Answered(answer) => self.answered(answer, &mut act),
            Event::NotConnected if self.phase == Phase::On => {
                act(Action::Fail(Failure::NotConnected));
                self.stop(&mut act);
            }
            Event::BusLost => self.lose_bus(&mut act),
            Event::BusBack => {
                self.bus_lost = false;
                match self.phase {
                    Phase::Unknown if self.wanted => act(Action::Find),
                    _ => self.start_if_wanted(&mut act),
                }
            }
            Event::TableWritten | Event::Found | Event::Absent | Event::NotConnected => {}
        }
        actions
    }

    fn wanted(&mut self, act: &mut impl FnMut(Action)) {
        self.wanted = true;
        if self.lacks_its_bus() {
            return act(Action::Fail(Failure::NoBus));
        }
        match self.phase {
            // An absent device may be there by now.
            Phase::Unknown | Phase::Unusable => act(Action::Find),
            Phase::Off => self.start(act),
            Phase::On => self.begin(act),
            Phase::Stopping | Phase::Starting | Phase::Resetting => {}
        }
    }

    fn not_wanted(&mut self, act: &mut impl FnMut(Action)) {
        self.wanted = false;
        if self.phase == Phase::On && !self.grave {
            self.stop(act);
        }
    }

    fn driver_died(&mut self, act: &mut impl FnMut(Action)) {
        self.grave = true;
        self.wanted = false;
        if self.bounded {
            self.phase = Phase::Resetting;
            act(Action::Mask);
            act(Action::OrderOn);
        } else {
            self.stop(act);
        }
        if self.bus_lost {
            self.do_without_bus(act);
        }
    }

    fn answered(&mut self, answer: Answer, act: &mut impl FnMut(Action)) {
        match (self.phase, answer) {
            (Phase::Stopping, _) => {
                self.phase = Phase::Off;
                self.stands_still(answer == Answer::Done, act);
                self.start_if_wanted(act);
            }
            (Phase::Starting, Answer::Done) => {
                self.phase = Phase::On;
                if self.wanted { self.begin(act) } else { self.stop(act) }
            }
            (Phase::Starting, _) => {
                self.phase = Phase::Off;
                self.fail(Failure::NotStarted, act);
            }
            (Phase::Resetting, Answer::Done) => {
                self.phase = Phase::On;
                self.stands_still(true, act);
                if self.wanted {
                    self.begin(act);
                }
            }
            // The next driver cannot begin with it, and whether it stands still is not said.
            (Phase::Resetting, Answer::Refused) => self.stop(act),
            (Phase::Resetting, Answer::NotStopped) => {
                self.phase = Phase::Off;
                self.stands_still(false, act);
                self.start_if_wanted(act);
            }
            (Phase::Unknown | Phase::Unusable | Phase::Off | Phase::On, _) => {}
        }
    }

    fn lose_bus(&mut self, act: &mut impl FnMut(Action)) {
        self.bus_lost = true;
        self.do_without_bus(act);
    }

    /// `pci` does not answer. The IOMMU alone keeps the device from the dead driver's memory. A driver that is wanted
    /// stays so, and begins when `pci` has come back.
    fn do_without_bus(&mut self, act: &mut impl FnMut(Action)) {
        if self.grave && self.bounded {
            self.stands_still(true, act);
        }
        if self.grave || (self.wanted && self.phase != Phase::On) {
            act(Action::Fail(Failure::NoBus));
        }
    }

    fn stands_still(&mut self, stopped: bool, act: &mut impl FnMut(Action)) {
        if core::mem::take(&mut self.grave) {
            act(if stopped { Action::Fenced } else { Action::NotFenced });
        }
    }

    fn start_if_wanted(&mut self, act: &mut impl FnMut(Action)) {
        if self.wanted && self.phase == Phase::Off {
            self.start(act);
        }
    }

    fn start(&mut self, act: &mut impl FnMut(Action)) {
        self.phase = Phase::Starting;
        act(Action::OrderOn);
    }

    fn stop(&mut self, act: &mut impl FnMut(Action)) {
        self.phase = Phase::Stopping;
        act(Action::Mask);
        act(Action::OrderOff);
    }

    fn begin(&mut self, act: &mut impl FnMut(Action)) {
        self.wanted = false;
        act(Action::Connect);
        act(Action::Begin);
    }

    fn fail(&mut self, why: Failure, act: &mut impl FnMut(Action)) {
        if core::mem::take(&mut self.wanted) {
            act(Action::Fail(why));
        }
    }
}
