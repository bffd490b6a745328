//! Faults: an exception in user code becomes a message to the thread's handler.

use abi::message::fault;
use abi::{Kind, MsgInfo, Rights};

use crate::cpu::Cpu;
use crate::dispatch::SYSCALL_LENGTH;
use crate::endpoint::Endpoint;
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::memory::Ref;
use crate::reply::Loan;
use crate::tcb::{State, Tcb, key, slots};

/// Kind, error code, address and rip of the exception that `tcb` has noted.
fn fault_words(tcb: Ref<Tcb>) -> [u64; 4] {
    tcb.fault.each_ref().map(core::cell::Cell::get)
}

/// The exception of `tcb` is raised: it stays pending if it is a trap. Any other strikes again by itself.
#[inline(always)]
fn keep_trap(tcb: Ref<Tcb>) {
    let [kind, ..] = fault_words(tcb);
    // Debug exception, breakpoint, overflow (SDM vol. 3, table 6-1).
    tcb.pending.set(matches!(kind, 1 | 3 | 4));
}

impl<M: Machine> Kernel<M> {
    /// The current thread met the exception that it has noted. Without a handler it stops for good.
    pub fn fault(&self, here: &Cpu) {
        let me = here.thread();
        let [kind, _, address, _] = fault_words(me);
        self.trace(here, abi::trace::Event::Fault, kind, address);
        if !self.raise_over(here, me) {
            self.raise_or_stop(here, me);
        }
    }

    /// Sends the fault message of `tcb`, or stops it where there is no handler.
    pub(crate) fn raise_or_stop(&self, here: &Cpu, tcb: Ref<Tcb>) {
        if !self.raise(here, tcb) {
            tcb.state.set(State::Inactive);
        }
    }

    /// The expected case, as the fast path has it for calls: the handler waits here, with nothing unusual about
    /// it, and nobody more urgent is ready. The CPU goes over to it on what the faulting thread ran on.
    #[inline(always)]
    fn raise_over(&self, here: &Cpu, me: Ref<Tcb>) -> bool {
        let Some(handler) = me.slot(slots::FAULT).filter(|slot| !slot.is_empty()) else { return false };
        let Some(endpoint) = Ref::<Endpoint>::at(handler.object.get()) else { return false };
        let Some(receiver) = endpoint.receivers.head.get() else { return false };
        if receiver.key.get() as usize != here.number.get() || receiver.priority.get() < here.top.get() {
            return false;
        }
        endpoint.receivers.pop();
        keep_trap(me);
        me.send_badge.set(handler.badge.get());
        self.transfer_fault(me, receiver);
        me.state.set(State::FaultAnswer);
        me.blocked_on.set(receiver.address());
        me.set_key(key::SLOW_ANSWER, true);
        receiver.reply.caller.set(Some(me));
        self.continue_as(here, receiver);
        true
    }

    /// The same for the answer that resumes a faulted thread: reply_recv as a whole, if nothing waits to be
    /// received.
    #[inline(always)]
    pub(crate) fn answer_fault_over(&self, here: &Cpu, me: Ref<Tcb>) -> bool {
        let Some(caller) = me.reply.caller.get() else { return false };
        let usual = caller.state.get() == State::FaultAnswer
            && me.context.rsi.get() == 0
            && me.reply.loan.get() == Loan::Lent
            && caller.key.get() == here.number.get() as u32 | key::SLOW_ANSWER
            && caller.priority.get() >= here.top.get()
            && me.receive_reply.get().is_none()
            && !me.bound_pending.get();
        if !usual {
            return false;
        }
        // (A name of another Reply, in the high half, is beyond any CSpace.)
        let found = self.find(me, me.context.rdx.get(), Kind::Endpoint, Rights::READ);
        let Ok(endpoint) = found.and_then(|slot| self.endpoint_in(slot)) else { return false };
        if endpoint.senders.get().is_some() || !endpoint.receivers.is_empty() {
            return false;
        }
        me.reply.caller.set(None);
        caller.pending.set(false);
        caller.set_key(key::SLOW_ANSWER, false);
        me.state.set(State::Receiving);
        me.blocked_on.set(endpoint.address());
        me.runs_on.set(me.sched_context.get());
        endpoint.add_receiver(me);
        self.continue_as(here, caller);
        self.stay(caller);
        true
    }

    /// The CPU goes on as `next`, on what it charges already.
    #[inline(always)]
    fn continue_as(&self, here: &Cpu, next: Ref<Tcb>) {
        next.state.set(State::Ready);
        next.runs_on.set(here.charged.get());
        here.current.set(Some(next));
    }

    /// Sends the fault message of `tcb`, which is in no queue; false if it has no handler.
    pub(crate) fn raise(&self, here: &Cpu, tcb: Ref<Tcb>) -> bool {
        keep_trap(tcb);
        let Some(handler) = tcb.slot(slots::FAULT).filter(|slot| !slot.is_empty()) else { return false };
        let Some(endpoint) = Ref::<Endpoint>::at(handler.object.get()) else { return false };
        tcb.send_badge.set(handler.badge.get());
        tcb.send_grant.set(true);
        tcb.state.set(State::Faulting);
        match endpoint.take_receiver(tcb.cpu()) {
            Some(receiver) => self.meet(here, tcb, receiver),
            None => endpoint.add_sender(tcb),
        }
        true
    }

    /// The fault that `tcb` waits with will not be answered: it is to strike again once the thread runs. (A
    /// foreign system call has gone past its instruction; `ready` raises a trap.)
    pub(crate) fn repeat_fault(&self, tcb: Ref<Tcb>) {
        if tcb.fault.first().is_some_and(|kind| kind.get() == fault::FOREIGN_CALL) {
            tcb.context.rip.set(tcb.context.rip.get().wrapping_sub(SYSCALL_LENGTH));
        }
    }

    /// Writes the fault message of `sender` into `receiver`'s registers.
    pub(crate) fn transfer_fault(&self, sender: Ref<Tcb>, receiver: Ref<Tcb>) {
        let [kind, code, address, rip] = fault_words(sender);
        let c = &sender.context;
        receiver.context.rax.set(0);
        receiver.context.rdx.set(sender.send_badge.get());
        receiver.context.rsi.set(MsgInfo::plain(fault::LABEL).0);
        receiver.set_words([kind, code, rip, address, c.rsp.get(), c.rflags.get(), 0, 0]);
    }
}
