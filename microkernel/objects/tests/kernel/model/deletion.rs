//! What deleting and revoking leave: nothing of an object, and none that waits for it.

use abi::Kind;
use objects::tcb::State;

use super::{Id, Model, Object, Place};

impl Model {
    /// Deletes what is in a slot. Graves that this opens are emptied before it goes on.
    pub(super) fn delete(&mut self, cnode: Object, at: u64) {
        loop {
            if !self.graves.is_empty() {
                self.empty_grave();
            } else if let Some(&id) = self.slots.get(&(cnode, at)) {
                self.delete_step(id);
            } else {
                break;
            }
        }
    }

    /// Deletes what is derived from a capability, likewise: also when that is deleted meanwhile.
    pub(super) fn revoke(&mut self, id: Id) {
        loop {
            if !self.graves.is_empty() {
                self.empty_grave();
            } else if let Some(&child) = self.caps.get(&id).and_then(|cap| cap.children.front()) {
                self.delete_step(child);
            } else {
                break;
            }
        }
    }

    pub(super) fn delete_step(&mut self, id: Id) {
        match self.caps[&id].children.front() {
            _ if !self.caps[&id].owner => self.release(id),
            Some(&child) => self.release(child),
            None => self.destroy(id),
        }
    }

    pub(super) fn release(&mut self, id: Id) {
        match self.caps[&id].place {
            Place::Thread(thread, at) => return self.clear_thread_slot(thread, at),
            Place::Donor(space) => self.purge(space),
            _ => self.unmap_all(id),
        }
        self.unlink(id);
    }

    pub(super) fn unmap_all(&mut self, id: Id) {
        for space in self.spaces.values_mut() {
            space.pages.retain(|_, mapping| mapping.cap != id);
        }
    }

    pub(super) fn purge(&mut self, space: Object) {
        self.devices.retain(|_, &mut under| under != space);
        let space = self.spaces.get_mut(&space).unwrap();
        space.pages.clear();
        space.tables.clear();
        space.closed = true;
    }

    pub(super) fn destroy(&mut self, id: Id) {
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
    pub(super) fn empty_grave(&mut self) {
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

    pub(super) fn destroy_reply(&mut self, reply: Object) {
        self.drop_reply(reply);
        if let Some(server) = self.replies[&reply].server {
            self.thread(server).receives_with = None;
            if self.threads[&server].state == State::Receiving {
                self.drop_reply(server);
            }
        }
        self.replies.remove(&reply);
    }

    pub(super) fn destroy_thread(&mut self, thread: Object) {
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

    pub(super) fn unbind_context(&mut self, context: Object) {
        if let Some(thread) = self.contexts.insert(context, None).flatten() {
            self.thread(thread).context = None;
        }
    }
}
