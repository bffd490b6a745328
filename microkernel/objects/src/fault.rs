//! Faults: an exception in user code becomes a message to the thread's handler.

use abi::MsgInfo;
use abi::message::fault;

use crate::cpu::Cpu;
use crate::dispatch::SYSCALL_LENGTH;
use crate::endpoint::Endpoint;
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::memory::Ref;
use crate::tcb::{State, Tcb, slots};

impl<M: Machine> Kernel<M> {
    /// The current thread met an exception: kind, error code, address. Without a handler it stops for good.
    pub fn fault(&self, here: &Cpu, what: [u64; 3]) {
        let me = here.thread();
        let [kind, _, address] = what;
        self.trace(here, abi::trace::Event::Fault, kind, address);
        if !self.raise(here, me, what) {
            me.state.set(State::Inactive);
        }
    }

    /// Sends the fault message of `tcb`, which runs or just ran here; false if it has no handler.
    pub(crate) fn raise(&self, here: &Cpu, tcb: Ref<Tcb>, what: [u64; 3]) -> bool {
        for (cell, word) in tcb.fault.iter().zip(what) {
            cell.set(word);
        }
        let Some(handler) = tcb.slot(slots::FAULT).filter(|slot| !slot.is_empty()) else { return false };
        let Some(endpoint) = Ref::<Endpoint>::at(handler.object.get()) else { return false };
        tcb.send_badge.set(handler.badge.get());
        tcb.send_grant.set(true);
        tcb.state.set(State::Faulting);
        match endpoint.receivers.pop() {
            Some(receiver) => self.meet(here, tcb, receiver),
            None => {
                tcb.blocked_on.set(endpoint.address());
                endpoint.senders.push(tcb);
            }
        }
        true
    }

    /// The fault that `tcb` waits with will not be answered: it is to strike again once the thread runs. (A
    /// foreign system call has gone past its instruction.)
    pub(crate) fn repeat_fault(&self, tcb: Ref<Tcb>) {
        if tcb.fault.first().is_some_and(|kind| kind.get() == fault::FOREIGN_CALL) {
            tcb.context.rip.set(tcb.context.rip.get().wrapping_sub(SYSCALL_LENGTH));
        }
    }

    /// Writes the fault message of `sender` into `receiver`'s registers.
    pub(crate) fn transfer_fault(&self, sender: Ref<Tcb>, receiver: Ref<Tcb>) {
        let [kind, code, address] =
            core::array::from_fn(|at| sender.fault.get(at).map_or(0, core::cell::Cell::get));
        let c = &sender.context;
        receiver.context.rax.set(0);
        receiver.context.rdx.set(sender.send_badge.get());
        receiver.context.rsi.set(MsgInfo::plain(fault::LABEL).0);
        receiver.set_words([kind, code, c.rip.get(), address, c.rsp.get(), c.rflags.get(), 0, 0]);
    }
}
