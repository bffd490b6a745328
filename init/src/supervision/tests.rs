//! Every order of two events, for a driver with and without an IOMMU, a server and a program.
//!
//! A small world performs the actions as init does, and looks at each of them: nothing is built over what lives or lies
//! in the grave, no memory is taken back while a device may write to it, every life ends once.

use std::collections::VecDeque;

use proto::control::{Cause, State};

use super::devices::{self, Answer, Device};
use super::heartbeat::{self, Signs};
use super::life::{Action, Clock, Event, Life, Role, Why};

/// A tick is a microsecond.
const CLOCK: Clock = Clock { hz: 1_000_000 };
const HUNG: Signs = Signs { ready: true, beat: 0, messages: 0, had_its_turn: true, waits_for_other: false };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Server,
    Program,
    Driver { bounded: bool },
    DriverByHand,
}

/// What happens from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outside {
    Fault,
    Exit,
    Report,
    MissedLooks,
    Kill,
    Restart,
    Reset,
    Wanted,
    Answer(Answer),
    NotConnected,
    BusLost,
    BusBack,
    SecondPasses,
}

const OUTSIDE: [Outside; 15] = [
    Outside::Fault,
    Outside::Exit,
    Outside::Report,
    Outside::MissedLooks,
    Outside::Kill,
    Outside::Restart,
    Outside::Reset,
    Outside::Wanted,
    Outside::Answer(Answer::Done),
    Outside::Answer(Answer::Refused),
    Outside::Answer(Answer::NotStopped),
    Outside::NotConnected,
    Outside::BusLost,
    Outside::BusBack,
    Outside::SecondPasses,
];

#[derive(Clone, Debug)]
struct World {
    kind: Kind,
    now: u64,
    life: Life,
    device: Option<Device>,
    queue: VecDeque<Event>,
    /// A life runs.
    alive: bool,
    /// The memory of a dead life is kept.
    grave: bool,
    kept_aside: bool,
    begun: u32,
    ended: u32,
    cleared: u32,
    /// What `pci` was ordered and has not answered.
    order: Option<bool>,
    /// The device may write to what its driver lets it reach.
    masters: bool,
    connected: bool,
    bus: bool,
    told: Vec<devices::Failure>,
}

impl World {
    fn new(kind: Kind) -> World {
        let drives = matches!(kind, Kind::Driver { .. } | Kind::DriverByHand);
        let restarts = matches!(kind, Kind::Driver { .. } | Kind::Server);
        let bounded = kind != (Kind::Driver { bounded: false });
        let role = Role { restarts, drives, heartbeat: restarts.then_some(20_000) };
        let mut world = World {
            kind,
            now: 1_000_000,
            life: Life::new(role, CLOCK),
            device: drives.then(|| Device::new(bounded)),
            queue: VecDeque::new(),
            alive: false,
            grave: false,
            kept_aside: false,
            begun: 0,
            ended: 0,
            cleared: 0,
            order: None,
            masters: false,
            connected: false,
            bus: true,
            told: Vec::new(),
        };
        world.tell_device(devices::Event::BusBack);
        world
    }

    fn running(kind: Kind) -> World {
        let mut world = World::new(kind);
        world.tell(Event::Wanted);
        world.answer(Answer::Done);
        assert!(world.alive && world.life.state() == State::Runs, "{world:?}");
        world.now += 50_000;
        world
    }

    fn tell(&mut self, event: Event) {
        self.queue.push_back(event);
        while let Some(event) = self.queue.pop_front() {
            for action in self.life.on(self.now, event) {
                self.perform(action);
            }
        }
    }

    fn tell_device(&mut self, event: devices::Event) {
        let Some(device) = &mut self.device else { return };
        for action in device.on(event) {
            self.perform_on_device(action);
        }
        if !self.queue.is_empty() {
            let event = self.queue.pop_front().expect("there");
            self.tell(event);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Stop(cause) => {
                assert!(self.alive && matches!(cause, Cause::Corrupt | Cause::Hang));
                self.queue.push_back(Event::Died(Why::Fault));
            }
            Action::Ask(_) => assert!(self.alive),
            Action::EndLife(_) => {
                assert!(self.alive && !self.grave, "ended twice");
                (self.alive, self.grave) = (false, true);
                self.ended += 1;
            }
            Action::Fence => self.tell_device_later(devices::Event::DriverDied),
            Action::Bury => {
                assert!(self.grave, "nothing to bury");
                assert!(!self.masters, "the device may still write to what is taken back");
                self.grave = false;
                self.queue.push_back(Event::Buried);
            }
            Action::KeepAside => {
                assert!(self.grave);
                (self.grave, self.kept_aside) = (false, true);
            }
            Action::GetDevice => self.tell_device_later(devices::Event::Wanted),
            Action::LeaveDevice => self.tell_device_later(devices::Event::NotWanted),
            Action::ClearState => self.cleared += 1,
            Action::Build => {
                assert!(!self.alive && !self.grave, "built over what is there");
                assert!(
                    self.device.is_none() || (self.connected && self.device.is_some_and(|each| each.is_on()))
                );
                self.alive = true;
                self.masters = self.device.is_some();
                self.begun += 1;
                self.queue.push_back(Event::Begun);
            }
            Action::TellParked => assert_eq!(self.life.state(), State::Parked),
        }
    }

    /// The device's actions come behind those of the life's event that led to them, as init has it.
    fn tell_device_later(&mut self, event: devices::Event) {
        let Some(device) = &mut self.device else { return };
        for action in device.on(event) {
            self.perform_on_device(action);
        }
    }

    fn perform_on_device(&mut self, action: devices::Action) {
        match action {
            devices::Action::Find => self.tell_device_later(devices::Event::Found),
            devices::Action::Mask => self.connected = false,
            devices::Action::OrderOff => self.order = Some(false),
            devices::Action::OrderOn => {
                assert!(!self.alive, "a device that is in use is reset");
                self.order = Some(true);
            }
            devices::Action::Connect => self.connected = true,
            devices::Action::Fenced => {
                // Behind an IOMMU unmapping is enough; otherwise `pci` has stopped it.
                self.masters = false;
                self.queue.push_back(Event::Fenced);
            }
            devices::Action::NotFenced => self.queue.push_back(Event::NotFenced),
            devices::Action::Begin => self.queue.push_back(Event::DeviceReady),
            devices::Action::Fail(devices::Failure::NoBus) => {
                self.told.push(devices::Failure::NoBus);
                self.queue.push_back(Event::NoBus);
            }
            devices::Action::Fail(why) => {
                self.told.push(why);
                self.queue.push_back(Event::NoDevice);
            }
        }
    }

    /// `pci` answers, if it runs and was asked.
    fn answer(&mut self, answer: Answer) {
        if self.bus && self.order.take().is_some() {
            self.tell_device(devices::Event::Answered(answer));
        }
    }

    fn happens(&mut self, what: Outside) {
        match what {
            // Only what runs can fault, exit or be reported to.
            Outside::Fault if self.alive => self.tell(Event::Died(Why::Fault)),
            Outside::Exit if self.alive => {
                let restarts = matches!(self.kind, Kind::Server | Kind::Driver { .. });
                self.tell(Event::Died(if restarts { Why::Fault } else { Why::Done }));
            }
            Outside::Fault | Outside::Exit => self.tell(Event::Died(Why::Fault)),
            Outside::Report => self.tell(Event::Reported),
            Outside::MissedLooks => {
                for _ in 0..heartbeat::MOST_MISSED + 1 {
                    self.tell(Event::Look(HUNG));
                }
            }
            Outside::Kill => self.tell(Event::Kill),
            Outside::Restart => self.tell(Event::Restart),
            Outside::Reset => self.tell(Event::Reset),
            Outside::Wanted => self.tell(Event::Wanted),
            Outside::Answer(answer) => self.answer(answer),
            Outside::NotConnected if self.alive => {}
            Outside::NotConnected => self.tell_device(devices::Event::NotConnected),
            Outside::BusLost => {
                self.bus = false;
                self.tell_device(devices::Event::BusLost);
            }
            Outside::BusBack => {
                self.bus = true;
                self.tell_device(devices::Event::BusBack);
            }
            Outside::SecondPasses => {
                self.now += 1_000_000;
                self.tell(Event::Time);
            }
        }
        self.looked_at();
    }

    fn looked_at(&self) {
        assert_eq!(self.begun, self.ended + u32::from(self.alive), "{self:?}");
        assert_eq!(self.life.state() == State::Runs, self.alive, "{self:?}");
        assert!(!(self.grave && self.kept_aside), "{self:?}");
        if self.grave {
            assert!(matches!(self.life.state(), State::Fencing | State::Parked), "{self:?}");
        }
    }

    /// `pci` runs and answers, and time passes.
    fn settle(&mut self) {
        self.happens(Outside::BusBack);
        for _ in 0..20 {
            self.answer(Answer::Done);
            self.happens(Outside::SecondPasses);
        }
    }
}

const KINDS: [Kind; 5] = [
    Kind::Server,
    Kind::Program,
    Kind::Driver { bounded: true },
    Kind::Driver { bounded: false },
    Kind::DriverByHand,
];

/// States that two events can find a component in.
fn beginnings(kind: Kind) -> Vec<(&'static str, World)> {
    let idle = World::new(kind);
    let mut wanted = idle.clone();
    wanted.tell(Event::Wanted);
    let runs = World::running(kind);
    let mut died = runs.clone();
    died.tell(Event::Died(Why::Fault));
    let mut again = died.clone();
    again.settle();
    if again.alive {
        again.happens(Outside::Fault);
    }
    let mut without_bus = runs.clone();
    without_bus.happens(Outside::BusLost);
    vec![
        ("idle", idle),
        ("wanted", wanted),
        ("runs", runs),
        ("died", died),
        ("died again", again),
        ("without its bus", without_bus),
    ]
}

#[test]
fn every_order_of_two_events_keeps_memory_devices_and_lives_in_order() {
    let mut orders = 0;
    for kind in KINDS {
        for (_, beginning) in beginnings(kind) {
            for first in OUTSIDE {
                for second in OUTSIDE {
                    let mut world = beginning.clone();
                    world.happens(first);
                    world.happens(second);
                    world.settle();
                    let settled =
                        matches!((world.life.state(), kind), (State::Runs | State::Idle | State::Parked, _));
                    assert!(settled && !world.grave, "{first:?}, {second:?}: {world:?}");
                    orders += 1;
                }
            }
        }
    }
    assert_eq!(orders, KINDS.len() * 6 * OUTSIDE.len() * OUTSIDE.len());
}

#[test]
fn every_order_of_two_events_leaves_what_restarts_running_unless_its_device_could_not_be_stopped() {
    for kind in [Kind::Server, Kind::Driver { bounded: true }, Kind::Driver { bounded: false }] {
        for first in OUTSIDE {
            for second in OUTSIDE {
                let mut world = World::running(kind);
                world.happens(first);
                world.happens(second);
                world.settle();
                let lost = world.kept_aside || world.told.iter().any(|why| *why != devices::Failure::NoBus);
                assert!(world.alive || lost, "{kind:?}: {first:?}, {second:?}: {world:?}");
            }
        }
    }
}

#[test]
fn a_program_begins_once_and_ends_once() {
    for first in OUTSIDE {
        for second in OUTSIDE {
            let mut world = World::running(Kind::Program);
            world.happens(first);
            world.happens(second);
            let again = [first, second]
                .iter()
                .any(|event| matches!(event, Outside::Restart | Outside::Reset | Outside::Wanted));
            assert!(world.begun == 1 || again, "{first:?}, {second:?}: {world:?}");
        }
    }
}

#[test]
fn a_death_told_twice_ends_one_life() {
    let mut world = World::running(Kind::Server);
    world.queue.push_back(Event::Reported);
    world.tell(Event::Look(HUNG));
    world.happens(Outside::Report);
    let ended = world.ended;
    let mut both = World::running(Kind::Driver { bounded: true });
    both.tell(Event::Died(Why::Fault));
    both.tell(Event::Died(Why::Ordered));
    both.tell(Event::Reported);
    assert_eq!((both.ended, both.begun), (1, 1));
    assert_eq!(ended, 2);
}

#[test]
fn the_wait_for_a_device_is_no_healthy_life() {
    let mut world = World::running(Kind::Driver { bounded: false });
    let mut deaths = 0;
    while world.life.state() != State::Parked && deaths < 50 {
        if world.alive {
            world.happens(Outside::Fault);
            deaths += 1;
        }
        // The device takes its time to stop and to start; the life behind that is short.
        world.now += 110_000;
        world.answer(Answer::Done);
        world.happens(Outside::SecondPasses);
    }
    assert_eq!(deaths, 8);
}

#[test]
fn a_parked_bus_parks_the_driver_that_needs_it_and_brings_it_back() {
    for bounded in [true, false] {
        let mut world = World::running(Kind::Driver { bounded });
        world.happens(Outside::BusLost);
        assert!(world.alive, "a driver that runs goes on");
        world.happens(Outside::Fault);
        assert_eq!(world.life.state(), State::Parked);
        assert_eq!(world.grave, !bounded, "without an IOMMU its memory waits for pci");
        world.happens(Outside::Restart);
        assert_eq!(world.life.state(), State::Parked);
        world.settle();
        assert!(world.alive);
    }
}

#[test]
fn a_driver_started_by_hand_is_told_that_there_is_no_bus() {
    let mut world = World::new(Kind::DriverByHand);
    world.happens(Outside::BusLost);
    world.happens(Outside::Wanted);
    assert_eq!((world.life.state(), &world.told[..]), (State::Idle, &[devices::Failure::NoBus][..]));
    world.settle();
    assert!(!world.alive, "nobody wants it any more");
}

#[test]
fn a_reset_empties_the_state_between_two_lives_once() {
    let mut world = World::running(Kind::Server);
    world.happens(Outside::Reset);
    assert_eq!((world.alive, world.begun, world.cleared), (true, 2, 1));
    world.happens(Outside::Fault);
    assert_eq!(world.cleared, 1);
    // One that is parked begins again.
    let mut parked = World::running(Kind::Server);
    while parked.life.state() != State::Parked {
        parked.happens(Outside::Fault);
        parked.happens(Outside::SecondPasses);
    }
    parked.happens(Outside::Reset);
    assert_eq!((parked.alive, parked.cleared), (true, 1));
}

#[test]
fn a_child_that_waits_for_its_device_can_be_ended() {
    let mut world = World::new(Kind::DriverByHand);
    world.happens(Outside::Wanted);
    world.happens(Outside::Kill);
    assert_eq!(world.life.state(), State::Idle);
    world.settle();
    assert_eq!((world.begun, world.life.state()), (0, State::Idle));
}

#[test]
fn one_reporter_alone_cannot_have_a_server_parked() {
    let mut reporter = Life::new(Role::default(), CLOCK);
    let mut server = World::running(Kind::Server);
    for _ in 0..1000 {
        server.now += 115_000;
        if reporter.may_report(server.now) {
            server.happens(Outside::Report);
        }
        server.happens(Outside::SecondPasses);
        assert_ne!(server.life.state(), State::Parked);
    }
    // 1,115 s have passed: four reports at once, then one in twenty seconds.
    assert!((50..=60).contains(&(server.begun - 1)), "{}", server.begun);
}
