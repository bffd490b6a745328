//! What the state machines of components have decided, done.

extern crate alloc;

use alloc::boxed::Box;
use alloc::string::String;

use proto::control::{Cause, recovery};
use proto::life::status;
use rt::clock;

use super::{Beginning, Ended, Notice, RunError, System, number_of};
use crate::build::component::{Order, Parts};
use crate::build::contents::clear;
use crate::build::durable::Kept;
use crate::build::error::BuildError;
use crate::log;
use crate::registry::crash::Record;
use crate::registry::family::End;
use crate::registry::{Component, Console, Ending};
use crate::supervision::devices;
use crate::supervision::life::{Action, Event, Why};

impl System {
    pub(super) fn perform(&mut self, seat: usize, action: Action) {
        match action {
            Action::Stop(cause) => {
                let message = core::mem::take(&mut self.seats[seat].reported);
                self.end_halted(seat, cause, &message);
            }
            Action::Ask(beat) => self.ask(seat, beat),
            Action::EndLife(why) => self.end_life(seat, why),
            Action::Fence => self.tell_device(seat, devices::Event::DriverDied),
            Action::Bury => self.bury(seat),
            Action::KeepAside => self.keep_aside(seat),
            Action::GetDevice => self.tell_device(seat, devices::Event::Wanted),
            Action::LeaveDevice => self.leave_device(seat),
            Action::ClearState => self.clear_state(seat),
            Action::Build => self.build(seat),
            Action::TellParked => {
                let name = self.manifest.components[seat].name;
                log!("init: {name} died too often and stays dead; `svc restart {name}` starts it");
            }
        }
    }

    /// Ends the component in a seat, which has not faulted but must go; `message` says more.
    fn end_halted(&mut self, seat: usize, cause: Cause, message: &str) {
        let Some(component) = self.registry.get(u64::from(number_of(seat))) else { return };
        // It is there, so this is not refused.
        let _ = component.parts.tcb.suspend();
        let mut record = Record::of_halted(&component.parts, cause);
        // What does not fit is cut.
        let _ = record.message.push_str(message);
        self.end(number_of(seat), Ending::Crashed(Box::new(record)));
    }

    fn end_life(&mut self, seat: usize, why: Why) {
        let (when, number) = (clock::now(), number_of(seat));
        let Some(Component { name, parts, console, place, entry, printed, input, .. }) =
            self.registry.take(number)
        else {
            return;
        };
        // It may run on another CPU, and must not meet its successor's life. It is there, so this is not refused.
        let _ = parts.tcb.suspend();
        let ending = self.seats[seat].ending.take().unwrap_or(Ending::Killed);
        self.forget_watcher(number);
        if entry.is_supervised() {
            self.life_ends(place, why, when, &parts);
        }
        self.seats[seat].grave = Some(parts);
        let end = End { status: ending.status(), crashed: !ending.is_own() };
        let console = if self.tell_parent(number, end) { None } else { Some(console) };
        // What a component has started goes with it.
        let mut children = heapless::Vec::<u32, 128>::new();
        children.extend(self.registry.family.children(number).take(children.capacity()));
        for child in children {
            self.kill(child);
        }
        self.registry.family.forget_ends(number);
        let restarts = self.restarts(seat);
        self.notices.push_back(Notice::Ended(Box::new(Ended {
            number,
            name,
            place,
            console,
            when,
            why,
            ending,
            restarts,
            printed,
            unread: input,
        })));
    }

    /// Notes the end of a life at `place`, of which nothing runs any more, and notifies its peers.
    fn life_ends(&mut self, place: usize, why: Why, detected: u64, parts: &Parts) {
        self.note_times(place);
        let history = &mut self.seats[place].history;
        history.time += parts.context.consumed().unwrap_or(0);
        history.kills += u64::from(why == Why::Ordered);
        history.recoveries.begin(detected);
        if self.manifest.components[place].device.is_none() {
            history.recoveries.note(recovery::FENCED, detected);
        }
        history.injection_counts = true;
        let durable = &self.durable;
        let Some(kept) = durable.kept(place) else { return };
        durable.set_life(place, durable.life(place) + 1);
        if why == Why::Fault {
            durable.count_fault(place);
        }
        kept.orders.clear();
        kept.status.clear();
        for end in durable.ends(place) {
            if let Some(peer) = durable.kept(end.peer) {
                peer.tell_lives();
            }
        }
        self.tell_servers(place);
        for (_, signal) in &self.watchers {
            // init made the right to signal it.
            let _ = ipc::signal(*signal);
        }
    }

    /// Notifies the servers that the component at `place` may call that it is another client now.
    fn tell_servers(&self, place: usize) {
        let servers = self.manifest.servers_of(place).filter_map(|server| self.durable.kept(server));
        servers.for_each(Kept::tell_lives);
    }

    fn bury(&mut self, seat: usize) {
        if let Some(parts) = self.seats[seat].grave.take()
            && let Err(error) = parts.take_apart()
        {
            log!("init: component {} could not be taken apart: {error}", number_of(seat));
        }
        self.seats[seat].history.recoveries.note(recovery::REVOKED, clock::now());
        self.tell(seat, Event::Buried);
    }

    fn keep_aside(&mut self, seat: usize) {
        self.quarantine.extend(self.seats[seat].grave.take());
        log!(
            "init: the device of {} could not be stopped: the memory of its driver is not used again",
            self.manifest.components[seat].name
        );
    }

    fn leave_device(&mut self, seat: usize) {
        self.tell_device(seat, devices::Event::NotWanted);
        if let Some(beginning) = self.seats[seat].start.take() {
            self.not_started(seat, &beginning, RunError::Withdrawn);
        }
    }

    fn clear_state(&mut self, seat: usize) {
        let Some((frame, bits)) = self.durable.kept(seat).and_then(|kept| kept.state) else { return };
        let name = self.manifest.components[seat].name;
        // First: what is half emptied has forgotten what it asked, too.
        self.durable.count_emptied(seat);
        self.tell_servers(seat);
        match clear(frame, bits) {
            Ok(()) => log!("init: the state of {name} is emptied"),
            Err(error) => log!("init: the state of {name} cannot be emptied: {error}"),
        }
    }

    fn build(&mut self, seat: usize) {
        let beginning = self.seats[seat].start.take().unwrap_or_else(|| self.by_itself(seat));
        match self.build_component(seat, &beginning) {
            Ok(()) => self.tell(seat, Event::Begun),
            Err(error) => {
                self.tell(seat, Event::NotBuilt);
                self.not_started(seat, &beginning, error);
            }
        }
    }

    /// How a component begins again.
    fn by_itself(&self, seat: usize) -> Beginning {
        Beginning {
            place: seat,
            name: self.manifest.components[seat].name,
            arguments: String::new(),
            console: Console::Log,
            is_child: false,
        }
    }

    fn build_component(&mut self, seat: usize, beginning: &Beginning) -> Result<(), RunError> {
        let &Beginning { place, name, console, is_child, .. } = beginning;
        let entry = &self.manifest.components[place];
        let life = self.begin_life(place);
        let code = self.code(entry, name)?;
        let untyped = self.durable.untyped_of(entry.name);
        let order = Order {
            entry,
            name,
            code,
            arguments: &beginning.arguments,
            number: number_of(seat),
            endpoint: self.endpoint,
            durable: &self.durable,
            devices: &self.equipment,
            untyped: untyped.map_err(|error| RunError::Build(BuildError::Alloc(error)))?,
            place,
            life,
        };
        let parts = Parts::build(&self.machine, &order).map_err(RunError::Build)?;
        drop(order);
        let mut component = Component::new(name, parts, console, place, entry);
        // A component's input is its console's: nobody types for a child.
        component.input_ended |= is_child;
        self.registry.put(number_of(seat), component);
        if entry.is_supervised() {
            self.has_begun(place);
        }
        Ok(())
    }

    /// Returns the number of the life that begins at `place`.
    fn begin_life(&mut self, place: usize) -> u32 {
        if self.durable.kept(place).is_none() {
            return 1;
        }
        if self.durable.life(place) == 0 {
            self.durable.set_life(place, 1);
        }
        self.durable.life(place) as u32
    }

    fn has_begun(&mut self, place: usize) {
        let life = self.durable.life(place);
        let history = &mut self.seats[place].history;
        history.time_counted = history.time;
        history.recoveries.note(recovery::STARTED, clock::now());
        history.recoveries.note(recovery::LIFE, life);
    }

    /// Notes what the living component at `place` has said of its recovery.
    pub(super) fn note_times(&mut self, place: usize) {
        let Some(kept) = self.durable.kept(place) else { return };
        let history = &mut self.seats[place].history;
        history.recoveries.note(recovery::READY, kept.status.read(status::READY));
        history.recoveries.note(recovery::SERVED, kept.status.read(status::FIRST_SERVED));
    }
}
