//! The kernel as a plain book of who has what: maps, lists and no cleverness. It says what each system call
//! comes to; `random` holds the kernel against it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use abi::message::MAX_CAPS;
use abi::object::{IO_INTERRUPTS, IO_TOP, object_bits};
use abi::table::method;
use abi::{Error, Kind, MapFlags, MsgInfo, PAGE_SIZE, Rights, Syscall, USER_TOP};
use objects::tcb::State;
use objects::{Ref, tree};

use crate::world::World;

/// An object, by its physical address; a capability, by its number.
pub type Object = u64;
pub type Id = usize;

/// Where a capability is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Slot(Object, u64),
    Thread(Object, usize),
    Donor(Object),
    /// The Notification that an IoSpace signals.
    Target(Object),
    Grave,
    Universe,
}

#[derive(Clone, Debug)]
pub struct Cap {
    pub kind: Kind,
    pub object: Object,
    pub rights: u8,
    /// Of an Untyped: bytes used.
    pub badge: u64,
    pub bits: u32,
    pub owner: bool,
    pub device: bool,
    pub parent: Id,
    pub children: VecDeque<Id>,
    pub place: Place,
}

/// rax, rdx, rsi and the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    pub status: u64,
    pub badge: u64,
    pub info: u64,
    pub words: [u64; 8],
}

#[derive(Clone, Debug)]
pub struct Thread {
    pub state: State,
    pub registers: Registers,
    pub on: Object,
    /// CSpace, VSpace, buffer, fault handler.
    pub slots: [Option<Id>; 4],
    pub bound: Option<Object>,
    pub context: Option<Object>,
    pub receives_with: Option<Object>,
    pub send_badge: u64,
    pub send_grant: bool,
    pub deadline: u64,
    pub priority: u64,
    pub fault: [u64; 3],
}

#[derive(Clone, Debug, Default)]
pub struct Endpoint {
    pub receivers: VecDeque<Object>,
    pub senders: VecDeque<Object>,
}

#[derive(Clone, Debug, Default)]
pub struct Notification {
    pub bits: u64,
    pub waiters: VecDeque<Object>,
    pub bound: Option<Object>,
}

#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub caller: Option<Object>,
    pub server: Option<Object>,
    pub no_grant: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub cap: Id,
    pub physical: u64,
    pub flags: u64,
    pub size: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Space {
    pub pages: BTreeMap<u64, Mapping>,
    /// Regions of 2 MiB that may have a table, empty or not.
    pub tables: BTreeSet<u64>,
    pub closed: bool,
    pub donors: usize,
}

/// The universe: parent of all that has none.
const UNIVERSE: Id = 0;

pub struct Model {
    pub caps: BTreeMap<Id, Cap>,
    pub slots: BTreeMap<(Object, u64), Id>,
    pub threads: BTreeMap<Object, Thread>,
    pub endpoints: BTreeMap<Object, Endpoint>,
    pub notifications: BTreeMap<Object, Notification>,
    pub replies: BTreeMap<Object, Reply>,
    pub contexts: BTreeMap<Object, Option<Object>>,
    /// VSpaces and IoSpaces.
    pub spaces: BTreeMap<Object, Space>,
    /// The IoSpace that each device is under.
    pub devices: BTreeMap<u16, Object>,
    /// SchedContexts that have a budget.
    configured: BTreeSet<Object>,
    /// What lay in the caller's IPC buffer before its system call.
    pub sent: [u64; 8],
    graves: Vec<(Id, u64)>,
    next: Id,
}

type Result<T> = core::result::Result<T, Error>;

/// What a system call does to the caller, besides what it did to the model.
enum Ended {
    /// Back with these results.
    With(Vec<u64>),
    /// The caller's registers and state say all.
    Said,
}

const CSPACE: usize = 0;
const VSPACE: usize = 1;
const BUFFER: usize = 2;
const FAULT: usize = 3;

impl Model {
    /// The model of a system that has just been made.
    pub fn of(world: &World) -> Model {
        let universe = Cap {
            kind: Kind::Null,
            object: 0,
            rights: 15,
            badge: 0,
            bits: 0,
            owner: false,
            device: false,
            parent: UNIVERSE,
            children: VecDeque::new(),
            place: Place::Universe,
        };
        let mut model = Model {
            caps: BTreeMap::from([(UNIVERSE, universe)]),
            slots: BTreeMap::new(),
            threads: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            notifications: BTreeMap::new(),
            replies: BTreeMap::new(),
            contexts: BTreeMap::new(),
            spaces: BTreeMap::new(),
            devices: BTreeMap::new(),
            configured: BTreeSet::new(),
            sent: [0; 8],
            graves: Vec::new(),
            next: 1,
        };
        let cnode = world.memory.physical(world.slot(crate::world::root::CNODE).object.get());
        let universe = Ref::of(&world.kernel.universe);
        for slot in tree::children(universe).collect::<Vec<_>>().into_iter().rev() {
            let at = (0..64).find(|&at| world.slot(at) == slot).unwrap();
            let kind = slot.kind.get();
            let cap = Cap {
                kind,
                object: match kind {
                    Kind::Untyped | Kind::Frame => slot.object.get(),
                    Kind::SchedControl | Kind::IrqControl | Kind::IoPort | Kind::System | Kind::IoControl => {
                        kind as u64
                    }
                    _ => world.memory.physical(slot.object.get()),
                },
                rights: slot.rights.get().0,
                badge: slot.badge.get(),
                bits: u32::from(slot.bits.get()),
                owner: slot.is_owner(),
                device: at == crate::world::root::DEVICE,
                parent: UNIVERSE,
                children: VecDeque::new(),
                place: Place::Slot(cnode, u64::from(at)),
            };
            model.insert(UNIVERSE, cap);
        }
        let at = |slot: u32| model.slots[&(cnode, u64::from(slot))];
        let (cspace, buffer) = (at(crate::world::root::CNODE), at(crate::world::root::BUFFER));
        let context = model.caps[&at(crate::world::root::CONTEXT)].object;
        let root = world.memory.physical(world.root.address());
        model.add_thread(root);
        model.contexts.insert(context, Some(root));
        model.set_thread_slot(root, CSPACE, cspace);
        model.set_thread_slot(root, BUFFER, buffer);
        model.configured.insert(context);
        let thread = model.thread(root);
        thread.state = State::Ready;
        thread.context = Some(context);
        thread.priority = u64::from(crate::world::PRIORITY);
        model
    }

    pub fn thread(&mut self, thread: Object) -> &mut Thread {
        self.threads.get_mut(&thread).unwrap()
    }

    fn add_thread(&mut self, object: Object) {
        let registers = Registers { status: 0, badge: 0, info: 0, words: [0; 8] };
        let thread = Thread {
            state: State::Inactive,
            registers,
            on: 0,
            slots: [None; 4],
            bound: None,
            context: None,
            receives_with: None,
            send_badge: 0,
            send_grant: false,
            deadline: 0,
            priority: 0,
            fault: [0; 3],
        };
        self.threads.insert(object, thread);
        self.replies.insert(object, Reply { server: Some(object), ..Reply::default() });
    }

    // The tree.

    fn insert(&mut self, parent: Id, mut cap: Cap) -> Id {
        let id = self.next;
        self.next += 1;
        cap.parent = parent;
        match cap.place {
            Place::Slot(cnode, at) => assert!(self.slots.insert((cnode, at), id).is_none()),
            Place::Thread(thread, at) => self.thread(thread).slots[at] = Some(id),
            _ => {}
        }
        self.caps.insert(id, cap);
        self.caps.get_mut(&parent).unwrap().children.push_front(id);
        id
    }

    /// Takes a capability away; what was derived from it takes its place.
    fn unlink(&mut self, id: Id) {
        let cap = self.caps.remove(&id).unwrap();
        for child in &cap.children {
            self.caps.get_mut(child).unwrap().parent = cap.parent;
        }
        let siblings = &mut self.caps.get_mut(&cap.parent).unwrap().children;
        let at = siblings.iter().position(|&other| other == id).unwrap();
        siblings.remove(at);
        for (offset, &child) in cap.children.iter().enumerate() {
            siblings.insert(at + offset, child);
        }
        match cap.place {
            Place::Slot(cnode, at) => assert_eq!(self.slots.remove(&(cnode, at)), Some(id)),
            Place::Thread(thread, at) => self.thread(thread).slots[at] = None,
            _ => {}
        }
    }

    fn derived(&self, from: Id, rights: u8, badge: u64, place: Place) -> Result<Cap> {
        let from = &self.caps[&from];
        let mut cap = Cap {
            rights: from.rights & rights,
            owner: false,
            children: VecDeque::new(),
            place,
            ..from.clone()
        };
        match from.kind {
            Kind::Untyped => return Err(Error::Busy),
            Kind::Endpoint | Kind::Notification if badge != 0 && from.badge != 0 => {
                return Err(Error::InvalidArgument);
            }
            Kind::SchedControl if badge > from.badge => return Err(Error::InvalidArgument),
            Kind::Endpoint | Kind::Notification | Kind::SchedControl if badge != 0 => cap.badge = badge,
            Kind::IoPort if badge != 0 => {
                let (first, last) = (badge & 0xffff, badge >> 16);
                if first < from.badge & 0xffff || last > from.badge >> 16 || first > last {
                    return Err(Error::InvalidArgument);
                }
                cap.badge = badge;
            }
            _ if badge != 0 => return Err(Error::InvalidArgument),
            _ => {}
        }
        Ok(cap)
    }

    // Looking up.

    /// The CSpace of a thread: its CNode and how many slots that has.
    fn cspace(&self, thread: Object) -> (Object, u64) {
        self.threads[&thread].slots[CSPACE]
            .map_or((0, 0), |id| (self.caps[&id].object, 1 << self.caps[&id].bits))
    }

    fn slot(&self, thread: Object, cptr: u64) -> Result<Option<Id>> {
        let (cnode, slots) = self.cspace(thread);
        if cptr < 2 || cptr >= slots {
            return Err(Error::NoCapability);
        }
        Ok(self.slots.get(&(cnode, cptr)).copied())
    }

    fn find(&self, thread: Object, cptr: u64, kind: Kind, rights: Rights) -> Result<Id> {
        let id = self.slot(thread, cptr)?.ok_or(Error::NoCapability)?;
        let cap = &self.caps[&id];
        if cap.kind != kind {
            return Err(Error::WrongKind);
        }
        if !Rights(cap.rights).has(rights) {
            return Err(Error::NoRights);
        }
        Ok(id)
    }

    fn find_object(&self, thread: Object, cptr: u64, kind: Kind, rights: Rights) -> Result<Object> {
        self.find(thread, cptr, kind, rights).map(|id| self.caps[&id].object)
    }

    // Threads.

    fn finish(&mut self, thread: Object, status: u64) {
        self.thread(thread).registers.status = status;
    }

    fn ready(&mut self, thread: Object) {
        self.thread(thread).state = State::Ready;
    }

    fn is_blocked(state: State) -> bool {
        !matches!(state, State::Inactive | State::Ready | State::Throttled)
    }

    fn unblock(&mut self, thread: Object) {
        let (state, on) = (self.threads[&thread].state, self.threads[&thread].on);
        let drop_from = |queue: &mut VecDeque<Object>| queue.retain(|&other| other != thread);
        match state {
            State::Sending | State::Calling | State::Faulting => {
                drop_from(&mut self.endpoints.get_mut(&on).unwrap().senders);
            }
            State::Receiving => drop_from(&mut self.endpoints.get_mut(&on).unwrap().receivers),
            State::Waiting => drop_from(&mut self.notifications.get_mut(&on).unwrap().waiters),
            State::Answer | State::FaultAnswer => self.hang_up(on),
            State::Inactive | State::Ready | State::Throttled => {}
        }
        self.thread(thread).deadline = 0;
    }

    fn hang_up(&mut self, reply: Object) {
        let reply = self.replies.get_mut(&reply).unwrap();
        reply.caller = None;
        reply.no_grant = false;
    }

    fn stop(&mut self, thread: Object) {
        let state = self.threads[&thread].state;
        if Model::is_blocked(state) {
            self.unblock(thread);
            if !matches!(state, State::Faulting | State::FaultAnswer) {
                self.finish(thread, Error::Cancelled as u64);
            }
        }
        self.thread(thread).state = State::Inactive;
    }

    fn cancel(&mut self, thread: Object) {
        let faulted = self.threads[&thread].state == State::Faulting;
        self.unblock(thread);
        if faulted {
            self.thread(thread).state = State::Inactive;
        } else {
            self.finish(thread, Error::Cancelled as u64);
            self.ready(thread);
        }
    }

    fn drop_reply(&mut self, reply: Object) {
        let Some(caller) = self.replies[&reply].caller else { return };
        self.hang_up(reply);
        if self.threads[&caller].state == State::Answer {
            self.finish(caller, Error::PeerDied as u64);
        }
        self.ready(caller);
    }

    fn set_thread_slot(&mut self, thread: Object, at: usize, from: Id) {
        self.clear_thread_slot(thread, at);
        let cap = Cap {
            owner: false,
            children: VecDeque::new(),
            place: Place::Thread(thread, at),
            ..self.caps[&from].clone()
        };
        self.insert(from, cap);
    }

    fn clear_thread_slot(&mut self, thread: Object, at: usize) {
        let Some(id) = self.threads[&thread].slots[at] else { return };
        if at == VSPACE {
            self.stop(thread);
        }
        self.unlink(id);
    }

    // Deleting.

    /// Deletes what is in a slot, and all graves that this opens.
    fn delete(&mut self, cnode: Object, at: u64) {
        let graves = self.graves.len();
        let occupied = self.slots.contains_key(&(cnode, at));
        while let Some(&id) = self.slots.get(&(cnode, at)) {
            self.delete_step(id);
        }
        if !occupied || self.graves.len() != graves {
            while !self.graves.is_empty() {
                self.empty_grave();
            }
        }
    }

    fn revoke(&mut self, id: Id) {
        while let Some(&child) = self.caps.get(&id).and_then(|cap| cap.children.front()) {
            if self.caps[&child].place == Place::Grave {
                self.empty_grave();
            } else {
                self.delete_step(child);
            }
        }
    }

    fn delete_step(&mut self, id: Id) {
        match self.caps[&id].children.front() {
            _ if !self.caps[&id].owner => self.release(id),
            Some(&child) => self.release(child),
            None => self.destroy(id),
        }
    }

    fn release(&mut self, id: Id) {
        match self.caps[&id].place {
            Place::Thread(thread, at) => return self.clear_thread_slot(thread, at),
            Place::Donor(space) => self.purge(space),
            _ => self.unmap_all(id),
        }
        self.unlink(id);
    }

    fn unmap_all(&mut self, id: Id) {
        for space in self.spaces.values_mut() {
            space.pages.retain(|_, mapping| mapping.cap != id);
        }
    }

    fn purge(&mut self, space: Object) {
        self.devices.retain(|_, &mut under| under != space);
        let space = self.spaces.get_mut(&space).unwrap();
        space.pages.clear();
        space.tables.clear();
        space.closed = true;
    }

    fn destroy(&mut self, id: Id) {
        let object = self.caps[&id].object;
        match self.caps[&id].kind {
            Kind::Endpoint => {
                while let Some(thread) = self.endpoints[&object]
                    .receivers
                    .front()
                    .or(self.endpoints[&object].senders.front())
                    .copied()
                {
                    self.cancel(thread);
                }
                self.endpoints.remove(&object);
            }
            Kind::Notification => {
                if let Some(bound) = self.notifications[&object].bound {
                    self.thread(bound).bound = None;
                }
                while let Some(&thread) = self.notifications[&object].waiters.front() {
                    self.cancel(thread);
                }
                self.notifications.remove(&object);
            }
            Kind::Reply => self.destroy_reply(object),
            Kind::Tcb => self.destroy_thread(object),
            Kind::SchedContext => {
                self.unbind_context(object);
                self.contexts.remove(&object);
                self.configured.remove(&object);
            }
            Kind::VSpace | Kind::IoSpace => {
                self.purge(object);
                let own = [Place::Donor(object), Place::Target(object)];
                let own: Vec<Id> =
                    self.caps.iter().filter(|(_, cap)| own.contains(&cap.place)).map(|(&id, _)| id).collect();
                own.into_iter().for_each(|id| self.unlink(id));
                self.spaces.remove(&object);
            }
            Kind::Frame => self.unmap_all(id),
            Kind::CNode => {
                let Place::Slot(cnode, at) = self.caps[&id].place else { panic!("an owner elsewhere") };
                self.slots.remove(&(cnode, at));
                self.caps.get_mut(&id).unwrap().place = Place::Grave;
                self.graves.push((id, 2));
                return;
            }
            _ => {}
        }
        self.unlink(id);
    }

    /// One slot of the latest grave.
    fn empty_grave(&mut self) {
        let &(id, from) = self.graves.last().unwrap();
        let cnode = self.caps[&id].object;
        let next = self.slots.range((cnode, from)..=(cnode, u64::MAX)).next().map(|(&(_, at), &id)| (at, id));
        match next {
            Some((at, inside)) => {
                self.graves.last_mut().unwrap().1 = at;
                self.delete_step(inside);
            }
            None => {
                self.graves.pop();
                self.unlink(id);
            }
        }
    }

    fn destroy_reply(&mut self, reply: Object) {
        self.drop_reply(reply);
        if let Some(server) = self.replies[&reply].server {
            self.thread(server).receives_with = None;
            if self.threads[&server].state == State::Receiving {
                self.drop_reply(server);
            }
        }
        self.replies.remove(&reply);
    }

    fn destroy_thread(&mut self, thread: Object) {
        self.stop(thread);
        self.drop_reply(thread);
        if let Some(reply) = self.thread(thread).receives_with.take() {
            self.replies.get_mut(&reply).unwrap().server = None;
        }
        if let Some(context) = self.thread(thread).context.take() {
            self.contexts.insert(context, None);
        }
        if let Some(bound) = self.thread(thread).bound.take() {
            self.notifications.get_mut(&bound).unwrap().bound = None;
        }
        (0..4).for_each(|at| self.clear_thread_slot(thread, at));
        self.threads.remove(&thread);
        self.replies.remove(&thread);
    }

    fn unbind_context(&mut self, context: Object) {
        if let Some(thread) = self.contexts.insert(context, None).flatten() {
            self.thread(thread).context = None;
        }
    }

    // Messages.

    fn transfer(&mut self, w: &World, me: Object, from: Object, to: Object, badge: u64, grant: bool) {
        let registers = self.threads[&from].registers;
        let info = MsgInfo(registers.info);
        let (mut extra, mut caps) = (0, 0);
        let has_buffer = |thread: &Thread| thread.slots[BUFFER].is_some();
        if has_buffer(&self.threads[&from]) && has_buffer(&self.threads[&to]) {
            let [from_buffer, to_buffer] = [from, to].map(|thread| w.buffer_at(thread));
            extra = info.extra();
            for at in 0..extra {
                let sent = if from == me { self.sent[at] } else { from_buffer.word(at) };
                assert_eq!(sent, to_buffer.word(at), "a word of the message is missing");
            }
            if grant {
                let pairs = from_buffer.caps().into_iter().zip(to_buffer.receive_slots());
                for (source, target) in pairs.take(info.caps().min(MAX_CAPS)) {
                    if !self.transfer_cap(from, u64::from(source), to, u64::from(target)) {
                        break;
                    }
                    caps += 1;
                }
            }
        }
        let info = MsgInfo::new(info.label(), extra, caps).0;
        self.thread(to).registers = Registers { status: 0, badge, info, words: registers.words };
    }

    fn transfer_cap(&mut self, from: Object, source: u64, to: Object, target: u64) -> bool {
        let (Ok(Some(source)), Ok(None)) = (self.slot(from, source), self.slot(to, target)) else {
            return false;
        };
        let place = Place::Slot(self.cspace(to).0, target);
        let Ok(cap) = self.derived(source, 15, 0, place) else { return false };
        self.insert(source, cap);
        true
    }

    /// The message of `sender` goes to `receiver`.
    fn pass(&mut self, w: &World, me: Object, sender: Object, receiver: Object) {
        let Thread { state, send_badge, send_grant, fault, .. } = self.threads[&sender];
        if state == State::Faulting {
            let context = &w.tcb_at(sender).context;
            let words = [
                fault[0],
                fault[1],
                context.rip.get(),
                fault[2],
                context.rsp.get(),
                context.rflags.get(),
                0,
                0,
            ];
            let info = MsgInfo::plain(abi::message::fault::LABEL).0;
            self.thread(receiver).registers = Registers { status: 0, badge: send_badge, info, words };
        } else {
            self.transfer(w, me, sender, receiver, send_badge, send_grant);
        }
        if matches!(state, State::Faulting | State::Calling) {
            let reply = self.threads[&receiver].receives_with.unwrap_or(receiver);
            let answer = if state == State::Faulting { State::FaultAnswer } else { State::Answer };
            self.thread(sender).state = answer;
            self.thread(sender).on = reply;
            let reply = self.replies.get_mut(&reply).unwrap();
            reply.caller = Some(sender);
            reply.no_grant = !send_grant;
        }
    }

    /// A sender meets a receiver that waits, if there is one.
    fn meet(&mut self, w: &World, sender: Object, endpoint: Object) -> bool {
        let Some(receiver) = self.endpoints.get_mut(&endpoint).unwrap().receivers.pop_front() else {
            return false;
        };
        self.thread(receiver).deadline = 0;
        self.pass(w, sender, sender, receiver);
        self.ready(receiver);
        true
    }

    fn enqueue(&mut self, sender: Object, endpoint: Object) {
        self.thread(sender).on = endpoint;
        self.endpoints.get_mut(&endpoint).unwrap().senders.push_back(sender);
    }

    fn send(&mut self, w: &World, me: Object, which: Syscall) -> Result<Ended> {
        let Registers { badge: cptr, info, .. } = self.threads[&me].registers;
        let info = MsgInfo(info);
        let no_buffer = self.threads[&me].slots[BUFFER].is_none();
        if !info.is_valid() || info.has_deadline() || no_buffer && !info.is_plain() {
            return Err(Error::InvalidArgument);
        }
        let kind = self.slot(me, cptr)?.map(|id| self.caps[&id].kind);
        if which != Syscall::call && kind == Some(Kind::Reply) {
            let reply = self.find_object(me, cptr, Kind::Reply, Rights::WRITE)?;
            self.answer(w, me, reply)?;
            return Ok(Ended::With(vec![]));
        }
        let id = self.find(me, cptr, Kind::Endpoint, Rights::WRITE)?;
        let Cap { object: endpoint, badge, rights, .. } = self.caps[&id];
        let thread = self.thread(me);
        (thread.send_badge, thread.send_grant) = (badge, Rights(rights).has(Rights::GRANT));
        if which == Syscall::try_send && self.endpoints[&endpoint].receivers.is_empty() {
            return Err(Error::WouldBlock);
        }
        if which == Syscall::call {
            self.thread(me).state = State::Calling;
        }
        if self.meet(w, me, endpoint) {
            return Ok(if which == Syscall::call { Ended::Said } else { Ended::With(vec![]) });
        }
        if which == Syscall::send {
            self.thread(me).state = State::Sending;
        }
        self.enqueue(me, endpoint);
        Ok(Ended::Said)
    }

    fn answer(&mut self, w: &World, me: Object, reply: Object) -> Result<()> {
        let Reply { caller, no_grant, .. } = self.replies[&reply];
        let caller = caller.ok_or(Error::NoCaller)?;
        self.hang_up(reply);
        if self.threads[&caller].state == State::FaultAnswer {
            let resumes = MsgInfo(self.threads[&me].registers.info).label() == 0;
            self.thread(caller).state = if resumes { State::Ready } else { State::Inactive };
            return Ok(());
        }
        self.transfer(w, me, me, caller, 0, !no_grant);
        self.ready(caller);
        Ok(())
    }

    fn check_info(&self, me: Object) -> Result<MsgInfo> {
        let info = MsgInfo(self.threads[&me].registers.info);
        let no_buffer = self.threads[&me].slots[BUFFER].is_none();
        if !info.is_valid() || no_buffer && !info.is_plain() { Err(Error::InvalidArgument) } else { Ok(info) }
    }

    fn reply_recv(&mut self, w: &World, me: Object) -> Result<Ended> {
        let info = self.check_info(me)?;
        match self.answer(w, me, me) {
            Ok(()) | Err(Error::NoCaller) => {}
            Err(error) => return Err(error),
        }
        let deadline = if info.has_deadline() { w.buffer_at(me).deadline().max(1) } else { 0 };
        self.receive(w, me, true, deadline)
    }

    fn recv(&mut self, w: &World, me: Object) -> Result<Ended> {
        let info = MsgInfo(self.threads[&me].registers.info);
        if !info.is_valid() {
            return Err(Error::InvalidArgument);
        }
        let deadline = if info.has_deadline() { self.threads[&me].registers.words[0].max(1) } else { 0 };
        self.receive(w, me, true, deadline)
    }

    fn receive(&mut self, w: &World, me: Object, block: bool, deadline: u64) -> Result<Ended> {
        let names = self.threads[&me].registers.badge;
        let endpoint = self.find_object(me, names & 0xffff_ffff, Kind::Endpoint, Rights::READ)?;
        let bound = self.threads[&me].bound.filter(|bound| self.notifications[bound].bits != 0);
        if !block && self.endpoints[&endpoint].senders.is_empty() && bound.is_none() {
            return Err(Error::WouldBlock);
        }
        self.turn_to(me, names >> 32)?;
        if let Some(bound) = bound {
            self.take_bound(me, bound);
            return Ok(Ended::Said);
        }
        if let Some(sender) = self.endpoints.get_mut(&endpoint).unwrap().senders.pop_front() {
            self.pass(w, me, sender, me);
            if self.threads[&sender].state == State::Sending {
                self.finish(sender, 0);
                self.ready(sender);
            }
            return Ok(Ended::Said);
        }
        let thread = self.thread(me);
        (thread.state, thread.on, thread.deadline) = (State::Receiving, endpoint, deadline);
        self.endpoints.get_mut(&endpoint).unwrap().receivers.push_back(me);
        Ok(Ended::Said)
    }

    fn turn_to(&mut self, me: Object, cptr: u64) -> Result<()> {
        let reply = if cptr == 0 { me } else { self.find_object(me, cptr, Kind::Reply, Rights::WRITE)? };
        if let Some(other) = self.replies[&reply].server.filter(|&other| other != me) {
            if self.threads[&other].state == State::Receiving {
                return Err(Error::Busy);
            }
            self.thread(other).receives_with = None;
        }
        self.drop_reply(reply);
        if let Some(earlier) = self.thread(me).receives_with.take() {
            self.replies.get_mut(&earlier).unwrap().server = None;
        }
        self.thread(me).receives_with = (reply != me).then_some(reply);
        self.replies.get_mut(&reply).unwrap().server = Some(me);
        Ok(())
    }

    fn take_bound(&mut self, thread: Object, notification: Object) {
        self.finish(thread, 0);
        let bits = core::mem::take(&mut self.notifications.get_mut(&notification).unwrap().bits);
        let registers = &mut self.thread(thread).registers;
        registers.badge = 0;
        registers.info = MsgInfo::NOTIFIED;
        registers.words[0] = bits;
    }

    fn notify(&mut self, notification: Object, bits: u64) {
        let n = self.notifications.get_mut(&notification).unwrap();
        n.bits |= bits;
        if let Some(waiter) = n.waiters.pop_front() {
            let bits = core::mem::take(&mut n.bits);
            self.finish(waiter, 0);
            self.thread(waiter).registers.words[0] = bits;
            self.thread(waiter).deadline = 0;
            self.ready(waiter);
        } else if let Some(bound) = n.bound {
            self.deliver(notification, bound);
        }
    }

    fn deliver(&mut self, notification: Object, bound: Object) {
        if self.threads[&bound].state == State::Receiving && self.notifications[&notification].bits != 0 {
            self.unblock(bound);
            self.take_bound(bound, notification);
            self.ready(bound);
        }
    }

    fn wait(&mut self, me: Object, block: bool) -> Result<Ended> {
        let Registers { badge: cptr, info, words, .. } = self.threads[&me].registers;
        if block && u64::from(info as u32) & !MsgInfo::DEADLINE != 0 {
            return Err(Error::InvalidArgument);
        }
        let notification = self.find_object(me, cptr, Kind::Notification, Rights::READ)?;
        let n = self.notifications.get_mut(&notification).unwrap();
        if n.bits != 0 {
            return Ok(Ended::With(vec![core::mem::take(&mut n.bits)]));
        }
        if !block {
            return Err(Error::WouldBlock);
        }
        n.waiters.push_back(me);
        let deadline = if MsgInfo(info).has_deadline() { words[0].max(1) } else { 0 };
        let thread = self.thread(me);
        (thread.state, thread.on, thread.deadline) = (State::Waiting, notification, deadline);
        Ok(Ended::Said)
    }

    /// The thread meets an exception.
    pub fn fault(&mut self, w: &World, me: Object, what: [u64; 3]) {
        self.thread(me).fault = what;
        let Some(handler) = self.threads[&me].slots[FAULT] else {
            self.thread(me).state = State::Inactive;
            return;
        };
        let Cap { object: endpoint, badge, .. } = self.caps[&handler];
        let thread = self.thread(me);
        (thread.state, thread.send_badge, thread.send_grant) = (State::Faulting, badge, true);
        if !self.meet(w, me, endpoint) {
            self.enqueue(me, endpoint);
        }
    }

    /// It is `now`: waits end.
    pub fn expire(&mut self, now: u64) {
        let due = |thread: &Thread| thread.deadline != 0 && thread.deadline <= now;
        let late: Vec<Object> =
            self.threads.iter().filter(|(_, thread)| due(thread)).map(|(&object, _)| object).collect();
        for thread in late {
            self.unblock(thread);
            self.finish(thread, Error::TimedOut as u64);
            self.ready(thread);
        }
    }

    /// The system call that is in the caller's registers. `seen` is the status that the kernel returned, for
    /// the few calls that may or may not find room.
    pub fn syscall(&mut self, w: &World, me: Object, seen: u64) {
        let which = Syscall::from_number(self.threads[&me].registers.status as u32).unwrap();
        let ended = match which {
            Syscall::call | Syscall::send | Syscall::try_send => self.send(w, me, which),
            Syscall::reply_recv => self.reply_recv(w, me),
            Syscall::recv => self.recv(w, me),
            Syscall::try_recv if !MsgInfo(self.threads[&me].registers.info).is_valid() => {
                Err(Error::InvalidArgument)
            }
            Syscall::try_recv => self.receive(w, me, false, 0),
            Syscall::reply => {
                self.check_info(me).and_then(|_| self.answer(w, me, me)).map(|()| Ended::With(vec![]))
            }
            Syscall::signal => {
                let found =
                    self.find(me, self.threads[&me].registers.badge, Kind::Notification, Rights::WRITE);
                found.map(|id| {
                    let Cap { object, badge, .. } = self.caps[&id];
                    self.notify(object, badge.max(1));
                    Ended::With(vec![])
                })
            }
            Syscall::wait => self.wait(me, true),
            Syscall::poll => self.wait(me, false),
            Syscall::yield_now | Syscall::nop => Ok(Ended::With(vec![])),
            Syscall::invoke => self.invoke(me, seen),
        };
        if !self.threads.contains_key(&me) {
            return;
        }
        match ended {
            Ok(Ended::With(words)) => {
                self.finish(me, 0);
                self.thread(me).registers.words[..words.len()].copy_from_slice(&words);
            }
            Ok(Ended::Said) => {}
            Err(error) => self.finish(me, error as u64),
        }
    }

    // Methods.

    fn invoke(&mut self, me: Object, seen: u64) -> Result<Ended> {
        let Registers { badge: cptr, info: number, words: args, .. } = self.threads[&me].registers;
        let id = self.slot(me, cptr)?.ok_or(Error::NoCapability)?;
        let number = u32::try_from(number).map_err(|_| Error::NoSuchMethod)?;
        let known = abi::table::find_method(number).ok_or(Error::NoSuchMethod)?;
        if Some(self.caps[&id].kind) != known.kind {
            return Err(Error::WrongKind);
        }
        let needed = match number {
            method::CNode::identify
            | method::VSpace::query
            | method::Frame::physical
            | method::Tcb::status
            | method::IoControl::status => Rights::NONE,
            method::Tcb::read_registers | method::SchedContext::consumed => Rights::READ,
            _ => Rights::WRITE,
        };
        if !Rights(self.caps[&id].rights).has(needed) {
            return Err(Error::NoRights);
        }
        let object = self.caps[&id].object;
        match number {
            method::Untyped::retype => self.retype(me, id, args).map(|()| Ended::With(vec![])),
            method::CNode::mint | method::CNode::copy | method::CNode::relocate => {
                self.place(me, id, number, args).map(|()| Ended::With(vec![]))
            }
            method::CNode::delete | method::CNode::revoke | method::CNode::identify => {
                self.in_cnode(id, number, args[0])
            }
            method::VSpace::map => self.map(me, object, args, seen).map(|()| Ended::With(vec![])),
            method::VSpace::unmap | method::VSpace::protect => {
                self.change(object, number, args).map(|()| Ended::With(vec![]))
            }
            method::VSpace::donate => self.donate(me, object, args[0]).map(|()| Ended::With(vec![])),
            method::VSpace::query => self.query(object, args[0]).map(Ended::With),
            method::IoSpace::map => self.io_map(me, object, args, seen).map(|()| Ended::With(vec![])),
            method::IoSpace::unmap => {
                Model::io_range(args[0], args[1])?;
                self.change(object, method::VSpace::unmap, args).map(|()| Ended::With(vec![]))
            }
            method::IoSpace::donate => self.donate(me, object, args[0]).map(|()| Ended::With(vec![])),
            method::IoSpace::bind => self.io_bind(me, object, args[0]).map(|()| Ended::With(vec![])),
            // (What is stopped is not told here.)
            method::IoSpace::fault => Ok(Ended::With(vec![0; 4])),
            method::IoControl::attach => self.attach(me, args, seen).map(|()| Ended::With(vec![])),
            method::IoControl::detach => {
                let source = u16::try_from(args[0]).map_err(|_| Error::OutOfRange)?;
                self.devices.remove(&source);
                Ok(Ended::With(vec![]))
            }
            method::IoControl::status => Ok(Ended::With(vec![1, 1])),
            method::Frame::physical => Ok(Ended::With(vec![object])),
            method::SchedContext::bind => {
                let thread = self.find_object(me, args[0], Kind::Tcb, Rights::WRITE)?;
                if !self.configured.contains(&object) {
                    return Err(Error::NotConfigured);
                }
                // On which CPU it is at work is the scheduler's business.
                let works = |reply: &Reply| reply.server == Some(thread) && reply.caller.is_some();
                let waits = matches!(self.threads[&thread].state, State::Answer | State::FaultAnswer);
                let at_work = waits || self.replies.values().any(works);
                let taken = self.contexts[&object].is_some() || self.threads[&thread].context.is_some();
                if taken || at_work && seen == Error::Busy as u64 {
                    return Err(Error::Busy);
                }
                self.contexts.insert(object, Some(thread));
                self.thread(thread).context = Some(object);
                Ok(Ended::With(vec![]))
            }
            method::SchedContext::unbind => {
                self.unbind_context(object);
                Ok(Ended::With(vec![]))
            }
            method::SchedControl::set_priority => {
                let thread = self.find_object(me, args[0], Kind::Tcb, Rights::WRITE)?;
                if args[1] > self.caps[&id].badge {
                    return Err(Error::OutOfRange);
                }
                self.thread(thread).priority = args[1];
                Ok(Ended::With(vec![]))
            }
            method::SchedControl::configure => {
                let context = self.find_object(me, args[0], Kind::SchedContext, Rights::WRITE)?;
                // What it depends on is the scheduler's business.
                if let Some(error) = Error::from_status(seen) {
                    return Err(error);
                }
                self.configured.insert(context);
                Ok(Ended::With(vec![]))
            }
            _ => self.of_thread(me, object, number, args),
        }
    }

    fn of_thread(&mut self, me: Object, thread: Object, number: u32, args: [u64; 8]) -> Result<Ended> {
        match number {
            method::Tcb::configure => self.configure(me, thread, args)?,
            method::Tcb::set_fault_handler if args[0] == 0 => self.clear_thread_slot(thread, FAULT),
            method::Tcb::set_fault_handler => {
                let handler = self.find(me, args[0], Kind::Endpoint, Rights::WRITE)?;
                self.set_thread_slot(thread, FAULT, handler);
            }
            method::Tcb::resume => {
                if self.threads[&thread].slots[VSPACE].is_none() {
                    return Err(Error::NotConfigured);
                }
                if self.threads[&thread].state == State::Inactive {
                    self.ready(thread);
                }
            }
            method::Tcb::suspend if thread == me => {
                self.finish(me, 0);
                self.stop(me);
                return Ok(Ended::Said);
            }
            method::Tcb::suspend => self.stop(thread),
            method::Tcb::bind_notification => {
                let n = self.find_object(me, args[0], Kind::Notification, Rights::READ)?;
                if self.threads[&thread].bound.is_some() || self.notifications[&n].bound.is_some() {
                    return Err(Error::Busy);
                }
                self.thread(thread).bound = Some(n);
                self.notifications.get_mut(&n).unwrap().bound = Some(thread);
                self.deliver(n, thread);
            }
            method::Tcb::unbind_notification => {
                if let Some(n) = self.thread(thread).bound.take() {
                    self.notifications.get_mut(&n).unwrap().bound = None;
                }
            }
            _ => panic!("a method that is not modelled: {number:#x}"),
        }
        Ok(Ended::With(vec![]))
    }

    fn configure(&mut self, me: Object, thread: Object, args: [u64; 8]) -> Result<()> {
        let wanted = [
            (CSPACE, args[0], Kind::CNode, Rights::WRITE),
            (VSPACE, args[1], Kind::VSpace, Rights::WRITE),
            (BUFFER, args[2], Kind::Frame, Rights::READ.or(Rights::WRITE)),
        ];
        let mut found = Vec::new();
        for (at, cptr, kind, rights) in wanted {
            if cptr != 0 {
                found.push((at, self.find(me, cptr, kind, rights)?));
            }
        }
        if self.threads[&thread].state == State::Ready {
            return Err(Error::Busy);
        }
        if let Some(&(_, frame)) = found.iter().find(|&&(at, _)| at == BUFFER) {
            if self.caps[&frame].device || !args[3].is_multiple_of(1024) {
                return Err(Error::InvalidArgument);
            }
            if args[3] >= 1 << self.caps[&frame].bits {
                return Err(Error::OutOfRange);
            }
        }
        for (at, cap) in found {
            self.set_thread_slot(thread, at, cap);
        }
        Ok(())
    }

    fn retype(&mut self, me: Object, untyped: Id, args: [u64; 8]) -> Result<()> {
        let [kind, bits, cnode, slot, count, ..] = args;
        let kind = Kind::from_word(kind).ok_or(Error::InvalidArgument)?;
        let bits = u32::try_from(bits).map_err(|_| Error::InvalidArgument)?;
        let size_bits = object_bits(kind, bits).ok_or(Error::InvalidArgument)?;
        let plain = matches!(kind, Kind::Untyped | Kind::Frame);
        let device = self.caps[&untyped].device;
        if device && !plain || count == 0 || count > 64 {
            return Err(Error::InvalidArgument);
        }
        let cnode = self.find(me, cnode, Kind::CNode, Rights::WRITE)?;
        let (cnode, slots) = (self.caps[&cnode].object, 1u64 << self.caps[&cnode].bits);
        if slot < 2 || slot.checked_add(count).is_none_or(|end| end > slots) {
            return Err(Error::OutOfRange);
        }
        if self.slots.range((cnode, slot)..(cnode, slot + count)).next().is_some() {
            return Err(Error::SlotOccupied);
        }
        let Cap { object: start, bits: untyped_bits, badge: used, .. } = self.caps[&untyped];
        let used = if self.caps[&untyped].children.is_empty() { 0 } else { used };
        let first = used.next_multiple_of(1 << size_bits);
        let end = first as u128 + (u128::from(count) << size_bits);
        if end > 1 << untyped_bits {
            return Err(Error::OutOfMemory);
        }
        self.caps.get_mut(&untyped).unwrap().badge = end as u64;
        let sized = plain || matches!(kind, Kind::CNode | Kind::VSpace | Kind::IoSpace);
        for at in 0..count {
            let object = start + first + (at << size_bits);
            let cap = Cap {
                kind,
                object,
                rights: 15,
                badge: 0,
                bits: if sized { bits } else { size_bits },
                owner: kind != Kind::Untyped,
                device,
                parent: untyped,
                children: VecDeque::new(),
                place: Place::Slot(cnode, slot + at),
            };
            self.insert(untyped, cap);
            self.create(kind, object);
        }
        Ok(())
    }

    fn create(&mut self, kind: Kind, object: Object) {
        match kind {
            Kind::Tcb => self.add_thread(object),
            Kind::Endpoint => drop(self.endpoints.insert(object, Endpoint::default())),
            Kind::Notification => drop(self.notifications.insert(object, Notification::default())),
            Kind::Reply => drop(self.replies.insert(object, Reply::default())),
            Kind::SchedContext => drop(self.contexts.insert(object, None)),
            Kind::VSpace | Kind::IoSpace => drop(self.spaces.insert(object, Space::default())),
            _ => {}
        }
    }

    fn slot_in(&self, cnode: Id, at: u64) -> Result<(Object, u64)> {
        if at < 2 || at >= 1 << self.caps[&cnode].bits {
            return Err(Error::OutOfRange);
        }
        Ok((self.caps[&cnode].object, at))
    }

    /// mint, copy, relocate
    fn place(&mut self, me: Object, cnode: Id, number: u32, args: [u64; 8]) -> Result<()> {
        let [to, from_cnode, from, rights, badge, ..] = args;
        let minted = number == method::CNode::mint;
        if minted && rights > 15 {
            return Err(Error::InvalidArgument);
        }
        let to = self.slot_in(cnode, to)?;
        let from_cnode = self.find(me, from_cnode, Kind::CNode, Rights::WRITE)?;
        let from = self.slot_in(from_cnode, from)?;
        let from = *self.slots.get(&from).ok_or(Error::NoCapability)?;
        if self.slots.contains_key(&to) {
            return Err(Error::SlotOccupied);
        }
        let place = Place::Slot(to.0, to.1);
        if number == method::CNode::relocate {
            let Place::Slot(cnode, at) = self.caps[&from].place else { panic!("a slot elsewhere") };
            self.slots.remove(&(cnode, at));
            self.slots.insert(to, from);
            self.caps.get_mut(&from).unwrap().place = place;
            return Ok(());
        }
        let (rights, badge) = if minted { (rights as u8, badge) } else { (15, 0) };
        let cap = self.derived(from, rights, badge, place)?;
        self.insert(from, cap);
        Ok(())
    }

    /// delete, revoke, identify
    fn in_cnode(&mut self, cnode: Id, number: u32, at: u64) -> Result<Ended> {
        let slot = self.slot_in(cnode, at)?;
        let found = self.slots.get(&slot).copied();
        match number {
            method::CNode::delete => self.delete(slot.0, slot.1),
            method::CNode::revoke => self.revoke(found.ok_or(Error::NoCapability)?),
            _ => return Ok(Ended::With(found.map_or(vec![0; 6], |id| self.identify(id)))),
        }
        Ok(Ended::With(vec![]))
    }

    fn identify(&self, id: Id) -> Vec<u64> {
        let cap = &self.caps[&id];
        let (bits, full) = (u64::from(cap.bits), 1u64 << cap.bits);
        let identity = if matches!(cap.kind, Kind::Untyped | Kind::Frame) {
            cap.object | bits << 56
        } else {
            cap.object
        };
        let (badge, last) = match cap.kind {
            Kind::Untyped if cap.children.is_empty() => (0, full),
            Kind::Untyped => (0, full - cap.badge),
            _ => (cap.badge, u64::from(!cap.children.is_empty())),
        };
        vec![cap.kind as u64, bits, u64::from(cap.rights), badge, identity, last]
    }

    // Address spaces.

    /// The page that covers `address`.
    fn page(&self, space: Object, address: u64) -> Option<(u64, Mapping)> {
        let (&start, &mapping) = self.spaces[&space].pages.range(..=address).next_back()?;
        (address < start + mapping.size).then_some((start, mapping))
    }

    fn range(address: u64, pages: u64) -> Result<u64> {
        if !address.is_multiple_of(PAGE_SIZE) {
            return Err(Error::InvalidArgument);
        }
        let bytes = pages.checked_mul(PAGE_SIZE).filter(|_| pages <= 1 << 36).ok_or(Error::OutOfRange)?;
        address.checked_add(bytes).filter(|&end| end <= USER_TOP).ok_or(Error::OutOfRange)
    }

    fn access(flags: u64, rights: u8) -> Result<u64> {
        let (flags, rights) = (MapFlags(flags), Rights(rights));
        if flags.has(MapFlags::WRITE.or(MapFlags::EXECUTE)) {
            return Err(Error::InvalidArgument);
        }
        let allowed = rights.has(Rights::READ)
            && (rights.has(Rights::WRITE) || !flags.has(MapFlags::WRITE))
            && (rights.has(Rights::EXECUTE) || !flags.has(MapFlags::EXECUTE));
        if allowed {
            Ok(1 | flags.0 & (MapFlags::WRITE.0 | MapFlags::EXECUTE.0))
        } else {
            Err(Error::NoRights)
        }
    }

    fn map(&mut self, me: Object, space: Object, args: [u64; 8], seen: u64) -> Result<()> {
        let [frame, address, offset, pages, flags, ..] = args;
        let frame = self.find(me, frame, Kind::Frame, Rights::NONE)?;
        let both = MapFlags::LARGE.or(MapFlags::HUGE);
        if !MapFlags::ALL.has(MapFlags(flags)) || MapFlags(flags).has(both) || pages == 0 {
            return Err(Error::InvalidArgument);
        }
        let size = if MapFlags(flags).has(MapFlags::HUGE) {
            1 << 30
        } else if MapFlags(flags).has(MapFlags::LARGE) {
            1 << 21
        } else {
            PAGE_SIZE
        };
        let end = Model::range(address, pages)?;
        let Cap { object, bits, rights, device, .. } = self.caps[&frame];
        if [address, offset, end, object].iter().any(|value| value % size != 0) {
            return Err(Error::InvalidArgument);
        }
        if offset.checked_add(pages * PAGE_SIZE).is_none_or(|end| end > 1 << bits) {
            return Err(Error::OutOfRange);
        }
        let mut kept = Model::access(flags, rights)? | flags & both.0;
        if device || flags & MapFlags::UNCACHED.0 != 0 {
            kept |= MapFlags::UNCACHED.0;
        }
        let regions = (address >> 21)..=((end - 1) >> 21);
        let taken = self.page(space, address).is_some()
            || self.spaces[&space].pages.range(address..end).next().is_some();
        let s = self.spaces.get_mut(&space).unwrap();
        let maybe_table = size > PAGE_SIZE && regions.clone().any(|region| s.tables.contains(&region));
        if s.closed || seen == Error::OutOfTables as u64 {
            return Err(Error::OutOfTables);
        }
        if taken || maybe_table && seen == Error::AlreadyMapped as u64 {
            return Err(Error::AlreadyMapped);
        }
        if size == PAGE_SIZE {
            s.tables.extend(regions);
        }
        for at in (address..end).step_by(size as usize) {
            let physical = object + offset + (at - address);
            s.pages.insert(at, Mapping { cap: frame, physical, flags: kept, size });
        }
        Ok(())
    }

    /// unmap, protect
    fn change(&mut self, space: Object, number: u32, args: [u64; 8]) -> Result<()> {
        let [address, pages, flags, ..] = args;
        let protect = number == method::VSpace::protect;
        let access = MapFlags::READ.or(MapFlags::WRITE).or(MapFlags::EXECUTE);
        if protect && !access.has(MapFlags(flags)) {
            return Err(Error::InvalidArgument);
        }
        let end = Model::range(address, pages)?;
        for edge in [address, end] {
            if self.page(space, edge).is_some_and(|(start, _)| start != edge) {
                return Err(Error::InvalidArgument);
            }
        }
        if !protect {
            let s = self.spaces.get_mut(&space).unwrap();
            s.pages.retain(|&at, _| at < address || at >= end);
            return Ok(());
        }
        let mut at = address;
        let mut changed = Vec::new();
        while at < end {
            let (_, mapping) = self.page(space, at).ok_or(Error::NotMapped)?;
            let bits = Model::access(flags, self.caps[&mapping.cap].rights)?;
            changed.push((at, mapping.flags & !access.0 | bits));
            at += mapping.size;
        }
        let s = self.spaces.get_mut(&space).unwrap();
        for (at, flags) in changed {
            s.pages.get_mut(&at).unwrap().flags = flags;
        }
        Ok(())
    }

    fn donate(&mut self, me: Object, space: Object, cptr: u64) -> Result<()> {
        let untyped = self.find(me, cptr, Kind::Untyped, Rights::WRITE)?;
        if self.caps[&untyped].device || self.caps[&untyped].bits < 13 || self.spaces[&space].closed {
            return Err(Error::InvalidArgument);
        }
        if !self.caps[&untyped].children.is_empty() {
            return Err(Error::Busy);
        }
        let donors = self.caps.values().filter(|cap| cap.place == Place::Donor(space)).count();
        if donors == 16 {
            return Err(Error::OutOfRange);
        }
        let Place::Slot(cnode, at) = self.caps[&untyped].place else { panic!("a slot elsewhere") };
        self.slots.remove(&(cnode, at));
        self.caps.get_mut(&untyped).unwrap().place = Place::Donor(space);
        Ok(())
    }

    fn query(&self, space: Object, address: u64) -> Result<Vec<u64>> {
        if address >= USER_TOP {
            return Err(Error::OutOfRange);
        }
        let (_, mapping) = self.page(space, address).ok_or(Error::NotMapped)?;
        Ok(vec![mapping.flags, mapping.physical, mapping.size])
    }

    // Devices.

    fn io_range(address: u64, pages: u64) -> Result<u64> {
        Model::range(address, pages)
            .and_then(|end| if end > IO_TOP { Err(Error::OutOfRange) } else { Ok(end) })
    }

    fn io_map(&mut self, me: Object, space: Object, args: [u64; 8], seen: u64) -> Result<()> {
        let [frame, address, _, pages, flags, ..] = args;
        self.find(me, frame, Kind::Frame, Rights::NONE)?;
        if flags & !(MapFlags::READ.0 | MapFlags::WRITE.0) != 0 || pages == 0 {
            return Err(Error::InvalidArgument);
        }
        let end = Model::io_range(address, pages)?;
        if address < IO_INTERRUPTS.end && end > IO_INTERRUPTS.start {
            return Err(Error::OutOfRange);
        }
        self.map(me, space, args, seen)
    }

    fn io_bind(&mut self, me: Object, space: Object, cptr: u64) -> Result<()> {
        let from = self.find(me, cptr, Kind::Notification, Rights::WRITE)?;
        let place = Place::Target(space);
        let before = self.caps.iter().find(|(_, cap)| cap.place == place).map(|(&id, _)| id);
        if let Some(before) = before {
            self.unlink(before);
        }
        let cap = Cap { owner: false, children: VecDeque::new(), place, ..self.caps[&from].clone() };
        self.insert(from, cap);
        Ok(())
    }

    fn attach(&mut self, me: Object, args: [u64; 8], seen: u64) -> Result<()> {
        let space = self.find_object(me, args[0], Kind::IoSpace, Rights::WRITE)?;
        let source = u16::try_from(args[1]).map_err(|_| Error::OutOfRange)?;
        if self.devices.contains_key(&source) {
            return Err(Error::Busy);
        }
        // (An IoSpace may have no memory for its first table left.)
        if self.spaces[&space].closed || seen == Error::OutOfTables as u64 {
            return Err(Error::OutOfTables);
        }
        self.devices.insert(source, space);
        Ok(())
    }

    /// Where the device `source` gets to at `address`.
    pub fn reach(&self, source: u16, address: u64, write: bool) -> Option<u64> {
        let (start, mapping) = self.page(*self.devices.get(&source)?, address)?;
        let may = !write || mapping.flags & MapFlags::WRITE.0 != 0;
        may.then_some(mapping.physical + (address - start))
    }
}
