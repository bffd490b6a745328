//! Threads: their states, what they hold, and their methods.

use std::collections::VecDeque;

use abi::table::method;
use abi::{Error, Kind, Rights};
use objects::tcb::State;

use super::{BUFFER, CSPACE, Cap, Ended, FAULT, Id, Model, Object, Place, Result, VSPACE};

impl Model {
    pub(super) fn finish(&mut self, thread: Object, status: u64) {
        self.thread(thread).registers.status = status;
    }

    pub(super) fn ready(&mut self, thread: Object) {
        if self.threads[&thread].pending {
            return self.raise(thread);
        }
        self.thread(thread).state = State::Ready;
    }

    pub(super) fn is_blocked(state: State) -> bool {
        !matches!(state, State::Inactive | State::Ready | State::Throttled)
    }

    pub(super) fn unblock(&mut self, thread: Object) {
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

    pub(super) fn hang_up(&mut self, reply: Object) {
        let reply = self.replies.get_mut(&reply).unwrap();
        reply.caller = None;
        reply.no_grant = false;
    }

    pub(super) fn stop(&mut self, thread: Object) {
        let state = self.threads[&thread].state;
        if Model::is_blocked(state) {
            self.unblock(thread);
            if !matches!(state, State::Faulting | State::FaultAnswer) {
                self.finish(thread, Error::Cancelled as u64);
            }
        }
        self.thread(thread).state = State::Inactive;
    }

    pub(super) fn cancel(&mut self, thread: Object) {
        let faulted = self.threads[&thread].state == State::Faulting;
        self.unblock(thread);
        if faulted {
            self.thread(thread).state = State::Inactive;
        } else {
            self.finish(thread, Error::Cancelled as u64);
            self.ready(thread);
        }
    }

    pub(super) fn drop_reply(&mut self, reply: Object) {
        let Some(caller) = self.replies[&reply].caller else { return };
        self.hang_up(reply);
        if self.threads[&caller].state == State::Answer {
            self.finish(caller, Error::PeerDied as u64);
        }
        self.ready(caller);
    }

    pub(super) fn set_thread_slot(&mut self, thread: Object, at: usize, from: Id) {
        self.clear_thread_slot(thread, at);
        let cap = Cap {
            owner: false,
            children: VecDeque::new(),
            place: Place::Thread(thread, at),
            ..self.caps[&from].clone()
        };
        self.insert(from, cap);
    }

    pub(super) fn clear_thread_slot(&mut self, thread: Object, at: usize) {
        let Some(id) = self.threads[&thread].slots[at] else { return };
        if at == VSPACE {
            self.stop(thread);
        }
        self.unlink(id);
    }

    pub(super) fn of_thread(
        &mut self,
        me: Object,
        thread: Object,
        number: u32,
        args: [u64; 8],
    ) -> Result<Ended> {
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

    pub(super) fn configure(&mut self, me: Object, thread: Object, args: [u64; 8]) -> Result<()> {
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
}
