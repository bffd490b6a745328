//! Messages, faults and signals: who waits for whom, and what each then has in its registers.

use abi::message::MAX_CAPS;
use abi::{Error, Kind, MsgInfo, Rights, Syscall};
use objects::tcb::State;

use super::{BUFFER, Cap, Ended, FAULT, Model, Object, Place, Registers, Reply, Result, Thread};
use crate::world::World;

impl Model {
    pub(super) fn transfer(
        &mut self,
        w: &World,
        me: Object,
        from: Object,
        to: Object,
        badge: u64,
        grant: bool,
    ) {
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

    pub(super) fn transfer_cap(&mut self, from: Object, source: u64, to: Object, target: u64) -> bool {
        let (Ok(Some(source)), Ok(None)) = (self.slot(from, source), self.slot(to, target)) else {
            return false;
        };
        let place = Place::Slot(self.cspace(to).0, target);
        let Ok(cap) = self.derived(source, Rights::ALL.0, 0, place) else { return false };
        self.insert(source, cap);
        true
    }

    /// The message of `sender` goes to `receiver`.
    pub(super) fn pass(&mut self, w: &World, me: Object, sender: Object, receiver: Object) {
        let Thread { state, send_badge, send_grant, .. } = self.threads[&sender];
        if state == State::Faulting {
            self.pass_fault(sender, receiver);
        } else {
            self.transfer(w, me, sender, receiver, send_badge, send_grant);
        }
        self.link(sender, receiver);
    }

    fn pass_fault(&mut self, sender: Object, receiver: Object) {
        let Thread { send_badge, fault, .. } = self.threads[&sender];
        let info = MsgInfo::plain(abi::message::fault::LABEL).0;
        self.thread(receiver).registers = Registers { status: 0, badge: send_badge, info, words: fault };
    }

    /// The sender of a call or fault waits for the answer.
    fn link(&mut self, sender: Object, receiver: Object) {
        let Thread { state, send_grant, .. } = self.threads[&sender];
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

    /// Looks at which threads receive in the kernel: which of several receivers is met depends on CPUs, the scheduler's
    /// business.
    pub fn look(&mut self, w: &World) {
        let receives = |object: &&Object| w.tcb_at(**object).state.get() == State::Receiving;
        self.receiving = self.threads.keys().filter(receives).copied().collect();
    }

    /// Takes the receiver that the kernel has met: one of the first.
    fn take_receiver(&mut self, endpoint: Object) -> Option<Object> {
        /// Receivers among which one may be preferred to those before it.
        const PREFERRED: usize = abi::trace::MAX_CPUS;
        let receivers = &mut self.endpoints.get_mut(&endpoint).unwrap().receivers;
        let met = |receiver: &Object| !self.receiving.contains(receiver);
        let chosen = receivers.iter().take(PREFERRED).position(met).unwrap_or(0);
        let receiver = receivers.remove(chosen)?;
        self.thread(receiver).deadline = 0;
        Some(receiver)
    }

    /// A sender meets a receiver that waits, if there is one.
    pub(super) fn meet(&mut self, w: &World, sender: Object, endpoint: Object) -> bool {
        let Some(receiver) = self.take_receiver(endpoint) else { return false };
        self.pass(w, sender, sender, receiver);
        self.ready(receiver);
        true
    }

    pub(super) fn enqueue(&mut self, sender: Object, endpoint: Object) {
        self.thread(sender).on = endpoint;
        self.queue(sender, endpoint);
    }

    /// Puts a thread behind the senders of its priority or higher.
    fn queue(&mut self, sender: Object, endpoint: Object) {
        let priority = |thread: &Object| self.threads[thread].priority;
        let senders = &self.endpoints[&endpoint].senders;
        let at = senders.iter().take_while(|other| priority(other) >= priority(&sender)).count();
        self.endpoints.get_mut(&endpoint).unwrap().senders.insert(at, sender);
    }

    pub(super) fn set_priority(&mut self, thread: Object, priority: u64) {
        let Thread { state, on, .. } = self.threads[&thread];
        self.thread(thread).priority = priority;
        if matches!(state, State::Sending | State::Calling | State::Faulting) {
            self.endpoints.get_mut(&on).unwrap().senders.retain(|&other| other != thread);
            self.queue(thread, on);
        }
    }

    pub(super) fn send(&mut self, w: &World, me: Object, which: Syscall) -> Result<Ended> {
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

    pub(super) fn answer(&mut self, w: &World, me: Object, reply: Object) -> Result<()> {
        let Reply { caller, no_grant, .. } = self.replies[&reply];
        let caller = caller.ok_or(Error::NoCaller)?;
        self.hang_up(reply);
        if self.threads[&caller].state == State::FaultAnswer {
            let resumes = MsgInfo(self.threads[&me].registers.info).label() == 0;
            self.thread(caller).pending = false;
            self.thread(caller).state = if resumes { State::Ready } else { State::Inactive };
            return Ok(());
        }
        self.transfer(w, me, me, caller, 0, !no_grant);
        self.ready(caller);
        Ok(())
    }

    pub(super) fn check_info(&self, me: Object) -> Result<MsgInfo> {
        let info = MsgInfo(self.threads[&me].registers.info);
        let no_buffer = self.threads[&me].slots[BUFFER].is_none();
        if !info.is_valid() || no_buffer && !info.is_plain() { Err(Error::InvalidArgument) } else { Ok(info) }
    }

    pub(super) fn reply_recv(&mut self, w: &World, me: Object) -> Result<Ended> {
        let info = self.check_info(me)?;
        match self.answer(w, me, me) {
            Ok(()) | Err(Error::NoCaller) => {}
            Err(error) => return Err(error),
        }
        let deadline = if info.has_deadline() { w.buffer_at(me).deadline().max(1) } else { 0 };
        self.receive(w, me, true, deadline)
    }

    pub(super) fn recv(&mut self, w: &World, me: Object) -> Result<Ended> {
        let info = MsgInfo(self.threads[&me].registers.info);
        if !info.is_valid() {
            return Err(Error::InvalidArgument);
        }
        let deadline = if info.has_deadline() { self.threads[&me].registers.words[0].max(1) } else { 0 };
        self.receive(w, me, true, deadline)
    }

    pub(super) fn receive(&mut self, w: &World, me: Object, block: bool, deadline: u64) -> Result<Ended> {
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

    pub(super) fn turn_to(&mut self, me: Object, cptr: u64) -> Result<()> {
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

    pub(super) fn take_bound(&mut self, thread: Object, notification: Object) {
        self.finish(thread, 0);
        let bits = core::mem::take(&mut self.notifications.get_mut(&notification).unwrap().bits);
        let registers = &mut self.thread(thread).registers;
        registers.badge = 0;
        registers.info = MsgInfo::NOTIFIED;
        registers.words[0] = bits;
    }

    pub(super) fn notify(&mut self, notification: Object, bits: u64) {
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

    pub(super) fn deliver(&mut self, notification: Object, bound: Object) {
        if self.threads[&bound].state == State::Receiving && self.notifications[&notification].bits != 0 {
            self.unblock(bound);
            self.take_bound(bound, notification);
            self.ready(bound);
        }
    }

    pub(super) fn wait(&mut self, me: Object, block: bool) -> Result<Ended> {
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
    pub fn fault(&mut self, w: &World, me: Object, [kind, code, address]: [u64; 3]) {
        let context = &w.tcb_at(me).context;
        let [rip, rsp, rflags] = [&context.rip, &context.rsp, &context.rflags].map(std::cell::Cell::get);
        self.thread(me).fault = [kind, code, rip, address, rsp, rflags, 0, 0];
        self.thread(me).pending = matches!(kind, 1 | 3 | 4);
        self.raise(me);
    }

    /// The thread's fault message is sent.
    pub(super) fn raise(&mut self, me: Object) {
        let Some(handler) = self.threads[&me].slots[FAULT] else {
            self.thread(me).state = State::Inactive;
            return;
        };
        let Cap { object: endpoint, badge, .. } = self.caps[&handler];
        let thread = self.thread(me);
        (thread.state, thread.send_badge, thread.send_grant) = (State::Faulting, badge, true);
        let Some(receiver) = self.take_receiver(endpoint) else {
            return self.enqueue(me, endpoint);
        };
        self.pass_fault(me, receiver);
        self.link(me, receiver);
        self.ready(receiver);
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
}
