//! The right to answer one call.
//!
//! A call lends the caller's SchedContext to the server when both are on one CPU, or when the server has none
//! of its own (a passive server); the answer gives it back. The Reply is where the two meet, and where it is
//! noted when the loan is not simply "whoever is at work for me has it".

use core::cell::Cell;

use abi::{Error, Kind};

use crate::cpu::Cpu;
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::memory::Ref;
use crate::sched_context::SchedContext;
use crate::slot::Slot;
use crate::tcb::{State, Tcb, key};

/// Where the caller's SchedContext is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Loan {
    /// With the server, or with whom the server called in turn. (What the fast path assumes and leaves.)
    Lent = 0,
    /// In `owed`: it ran out, or the server turned to another caller; the server goes on with its own.
    Owed = 1,
    /// The caller kept it: the server is on another CPU.
    Apart = 2,
}

/// A Reply: 64 bytes; each thread has one of its own, more are made by `retype`.
#[derive(Debug)]
#[repr(C)]
pub struct Reply {
    /// Who waits for the answer.
    pub caller: Cell<Option<Ref<Tcb>>>,
    /// Who received the call; always the thread itself for a thread's own.
    pub server: Cell<Option<Ref<Tcb>>>,
    /// The SchedContext to give back ([`Loan::Owed`]).
    pub owed: Cell<Option<Ref<SchedContext>>>,
    /// Where the caller's SchedContext is.
    pub loan: Cell<Loan>,
    /// The caller's capability had no GRANT: the answer carries no capabilities.
    pub no_grant: Cell<bool>,
}

impl Reply {
    /// A Reply without a caller, as cleared memory has it.
    pub const fn new() -> Reply {
        Reply {
            caller: Cell::new(None),
            server: Cell::new(None),
            owed: Cell::new(None),
            loan: Cell::new(Loan::Lent),
            no_grant: Cell::new(false),
        }
    }

    /// A thread that used this Reply is gone.
    pub fn forget_server(&self, tcb: Ref<Tcb>) {
        if self.server.get() == Some(tcb) {
            self.server.set(None);
        }
    }
}

impl Default for Reply {
    fn default() -> Self {
        Reply::new()
    }
}

impl<M: Machine> Kernel<M> {
    /// The Reply that a capability is for.
    pub fn reply_in(&self, slot: Ref<Slot>) -> Result<Ref<Reply>, Error> {
        Ref::at(slot.object.get()).ok_or(Error::NoCapability)
    }

    /// Makes `caller` wait for the answer by `reply`, and lends its SchedContext if that goes along.
    pub(crate) fn link_call(
        &self,
        here: &Cpu,
        caller: Ref<Tcb>,
        server: Ref<Tcb>,
        reply: Ref<Reply>,
        grant: bool,
    ) {
        let fault = caller.state.get() == State::Faulting;
        caller.state.set(if fault { State::FaultAnswer } else { State::Answer });
        caller.blocked_on.set(reply.address());
        reply.caller.set(Some(caller));
        reply.no_grant.set(!grant);
        let passive = server.sched_context.get().is_none();
        let lent = caller.runs_on.get();
        if passive && let Some(context) = lent {
            self.move_thread(server, context.cpu.get());
        }
        if server.cpu() == caller.cpu() {
            reply.loan.set(Loan::Lent);
            self.set_running_on(here, server, lent);
        } else {
            reply.loan.set(Loan::Apart);
        }
        caller.set_key(key::SLOW_ANSWER, fault || !grant || reply.loan.get() != Loan::Lent);
    }

    /// Takes the caller off `reply`, with its SchedContext; it is in no queue and its state is to be set.
    pub(crate) fn unlink_call(&self, here: &Cpu, reply: Ref<Reply>) -> Option<Ref<Tcb>> {
        let caller = reply.caller.take()?;
        if let Some(context) = self.recall(here, reply) {
            caller.runs_on.set(Some(context));
        } else if reply.loan.get() != Loan::Apart {
            caller.runs_on.set(caller.sched_context.get());
        }
        reply.loan.set(Loan::Lent);
        reply.no_grant.set(false);
        caller.set_key(key::SLOW_ANSWER, false);
        self.settle_loan(caller);
        Some(caller)
    }

    /// A caller that gets back a SchedContext which it had from its own caller, and which has run out, goes on
    /// with its own and owes that one, as it would if it had run out in its own hands.
    fn settle_loan(&self, tcb: Ref<Tcb>) {
        let (Some(runs_on), Some(own)) = (tcb.runs_on.get(), tcb.sched_context.get()) else { return };
        if runs_on == own || runs_on.left.get() > 0 {
            return;
        }
        if let Some(reply) = self.loan_of(tcb) {
            reply.loan.set(Loan::Owed);
            reply.owed.set(Some(runs_on));
            if let Some(caller) = reply.caller.get() {
                caller.set_key(key::SLOW_ANSWER, true);
            }
            tcb.runs_on.set(Some(own));
            self.move_to_own_cpu(tcb);
        }
    }

    /// Takes back what the caller of `reply` lent, from wherever the chain of calls has carried it. None: the
    /// caller kept it, or it is gone.
    fn recall(&self, here: &Cpu, reply: Ref<Reply>) -> Option<Ref<SchedContext>> {
        let mut at = reply;
        loop {
            match at.loan.get() {
                Loan::Apart if at == reply => return None,
                Loan::Owed => return at.owed.take(),
                Loan::Apart | Loan::Lent => {}
            }
            let server = at.server.get()?;
            let waits = matches!(server.state.get(), State::Answer | State::FaultAnswer);
            match Ref::<Reply>::at(server.blocked_on.get()) {
                Some(next) if waits && next.loan.get() != Loan::Apart => at = next,
                _ => return self.take_loan(here, server),
            }
        }
    }

    /// Takes the SchedContext that `server` runs on; it falls back on its own.
    fn take_loan(&self, here: &Cpu, server: Ref<Tcb>) -> Option<Ref<SchedContext>> {
        self.settle(here, server);
        let lent = self.running_on(server);
        if here.current.get() == Some(server) {
            server.runs_on.set(server.sched_context.get());
        } else {
            self.set_running_on(here, server, server.sched_context.get());
        }
        lent
    }

    /// Takes back `context` if it is what went along with the call that waits on `reply`.
    pub(crate) fn recall_if(&self, here: &Cpu, reply: Ref<Reply>, context: Ref<SchedContext>) {
        if self.lent_by(reply) == Some(context) {
            self.recall(here, reply);
            reply.loan.set(Loan::Owed);
            reply.owed.set(None);
            if let Some(caller) = reply.caller.get() {
                caller.set_key(key::SLOW_ANSWER, true);
            }
        }
    }

    /// What `recall` would take.
    fn lent_by(&self, reply: Ref<Reply>) -> Option<Ref<SchedContext>> {
        let mut at = reply;
        loop {
            match at.loan.get() {
                Loan::Apart if at == reply => return None,
                Loan::Owed => return at.owed.get(),
                Loan::Apart | Loan::Lent => {}
            }
            let server = at.server.get()?;
            let waits = matches!(server.state.get(), State::Answer | State::FaultAnswer);
            match Ref::<Reply>::at(server.blocked_on.get()) {
                Some(next) if waits && next.loan.get() != Loan::Apart => at = next,
                _ => return self.running_on(server),
            }
        }
    }

    /// Nobody will answer: the caller gets PeerDied; a faulted thread runs into its fault again.
    pub(crate) fn drop_reply(&self, here: &Cpu, reply: Ref<Reply>) {
        let Some(caller) = self.unlink_call(here, reply) else { return };
        if caller.state.get() == State::Answer {
            caller.finish(Error::PeerDied as u64);
        }
        self.ready(here, caller);
    }

    /// Sends the answer that is in `me`'s registers to the caller on `reply`.
    pub(crate) fn answer(&self, here: &Cpu, me: Ref<Tcb>, reply: Ref<Reply>) -> Result<(), Error> {
        let Some(caller) = reply.caller.get() else { return Err(Error::NoCaller) };
        let info = me.info();
        let grant = !reply.no_grant.get();
        self.unlink_call(here, reply);
        if caller.state.get() == State::FaultAnswer {
            caller.state.set(State::Inactive);
            // Label 0 resumes; any other leaves the thread stopped.
            if info.label() == 0 {
                self.ready(here, caller);
            }
            return Ok(());
        }
        self.transfer(me, caller, 0, grant);
        self.ready(here, caller);
        Ok(())
    }

    /// Readies the Reply that a receive is to use: the thread's own, or the one it named.
    pub(crate) fn choose_reply(&self, here: &Cpu, me: Ref<Tcb>, cptr: u64) -> Result<Ref<Reply>, Error> {
        let own = Ref::of(&me.reply);
        let reply = if cptr == 0 {
            own
        } else {
            let slot = self.find(me, cptr, Kind::Reply, abi::Rights::WRITE)?;
            self.reply_in(slot)?
        };
        if let Some(other) = reply.server.get()
            && other != me
            && other.state.get() == State::Receiving
            && other.receive_reply.get() == Some(reply)
        {
            return Err(Error::Busy);
        }
        self.drop_reply(here, reply);
        // What an earlier caller lent is not to be spent on the next one.
        if let Some(earlier) = self.loan_of(me) {
            earlier.loan.set(Loan::Owed);
            earlier.owed.set(me.runs_on.get());
            if let Some(caller) = earlier.caller.get() {
                caller.set_key(key::SLOW_ANSWER, true);
            }
            me.runs_on.set(me.sched_context.get());
        }
        me.receive_reply.set((reply != own).then_some(reply));
        reply.server.set(Some(me));
        Ok(reply)
    }
}
