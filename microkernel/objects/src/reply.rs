//! The right to answer one call.
//!
//! A call lends the caller's SchedContext to the server when both are on one CPU, or when the server has none
//! of its own (a passive server); the answer gives it back. The Reply is where the two meet, and where it is
//! noted when the loan is not simply "whoever is at work for me has it".

use core::cell::Cell;

use abi::{Error, Kind};

use crate::cpu::Cpu;
use crate::kernel::{Kernel, Step};
use crate::machine::Machine;
use crate::memory::Ref;
use crate::sched_context::SchedContext;
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

/// Work units of one hop along a chain of calls.
const HOP_UNITS: u32 = 4;

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

impl<M: Machine> Kernel<M> {
    /// Makes `caller` wait for the answer by `reply`, and lends its SchedContext if that goes along.
    pub(crate) fn link_call(&self, here: &Cpu, caller: Ref<Tcb>, server: Ref<Tcb>, reply: Ref<Reply>) {
        let (fault, grant) = (caller.state.get() == State::Faulting, caller.send_grant.get());
        caller.state.set(if fault { State::FaultAnswer } else { State::Answer });
        caller.blocked_on.set(reply.address());
        reply.caller.set(Some(caller));
        reply.no_grant.set(!grant);
        let passive = server.sched_context.get().is_none();
        let lent = caller.runs_on.get();
        if passive && let Some(context) = lent {
            self.move_thread(server, context.cpu.get());
        }
        if lent.is_none() {
            // (The caller's was taken from it while it waited in the queue: there is nothing to lend.)
            reply.loan.set(Loan::Owed);
        } else if server.cpu() == caller.cpu() {
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
        if self.walk.get().is_some_and(|(_, at)| at == reply) {
            self.walk.set(None);
        }
        if let Some(context) = self.recall(here, reply) {
            caller.runs_on.set(Some(context));
        } else if reply.loan.get() != Loan::Apart {
            // What it was lent itself is gone, too: its own is not to go to its caller in place of that.
            if let Some(earlier) = self.loan_of(caller) {
                self.owe(earlier, None);
            }
            self.fall_back(caller);
        }
        reply.loan.set(Loan::Lent);
        reply.no_grant.set(false);
        caller.set_key(key::SLOW_ANSWER | key::WALKED, false);
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
            self.owe(reply, Some(runs_on));
            self.fall_back(tcb);
        }
    }

    /// The Reply at which the server of `reply` waits in turn, if it has passed on what was lent to it.
    fn lent_on(&self, reply: Ref<Reply>) -> Option<Ref<Reply>> {
        let server = reply.server.get().filter(|_| reply.loan.get() == Loan::Lent)?;
        server.awaits().filter(|next| next.loan.get() != Loan::Apart)
    }

    /// How far the chain of calls that starts with `reply` has been walked.
    fn walked(&self, reply: Ref<Reply>) -> Ref<Reply> {
        self.walk.get().filter(|&(from, _)| from == reply).map_or(reply, |(_, at)| at)
    }

    /// The Reply at which a chain of calls that starts with `reply` has what its caller lent: owed, or with the
    /// server. None: the caller kept it. (Where the chain can be long, `approach` has walked it before.)
    fn end_of_loan(&self, reply: Ref<Reply>) -> Option<Ref<Reply>> {
        if reply.loan.get() == Loan::Apart {
            return None;
        }
        let mut at = self.walked(reply);
        while let Some(next) = self.lent_on(at) {
            at = next;
        }
        Some(at)
    }

    /// Walks to the end of the chain of calls that starts with `reply`, and gives way where it is long. To be
    /// called before anything that takes its caller off it.
    ///
    /// How far it came holds for the next time: what lies between cannot change, as all of it waits for the call
    /// where it stands, and the answer to that takes the slow path, which sees to it ([`Kernel::unlink_call`]).
    /// Whatever else breaks a chain has walked it itself ([`Kernel::recall`]).
    pub(crate) fn approach(&self, reply: Ref<Reply>) -> Step<()> {
        if reply.caller.get().is_none() {
            // (And its end would not be noticed.)
            return Ok(());
        }
        let mut at = self.walked(reply);
        let mut walked = Ok(());
        while walked.is_ok()
            && let Some(next) = self.lent_on(at)
        {
            at = next;
            walked = self.spend(HOP_UNITS);
        }
        if at != reply {
            self.walk.set(Some((reply, at)));
            if let Some(caller) = at.caller.get() {
                caller.set_key(key::WALKED, true);
            }
        }
        walked
    }

    /// The same for the call that `tcb` waits on, if it does: before it is stopped.
    pub(crate) fn approach_call(&self, tcb: Ref<Tcb>) -> Step<()> {
        tcb.awaits().map_or(Ok(()), |reply| self.approach(reply))
    }

    /// Takes back what the caller of `reply` lent, from wherever the chain of calls has carried it. None: the
    /// caller kept it, or it is gone.
    fn recall(&self, here: &Cpu, reply: Ref<Reply>) -> Option<Ref<SchedContext>> {
        let at = self.end_of_loan(reply)?;
        if at != reply {
            self.walk.set(None);
        }
        if at.loan.get() == Loan::Owed {
            return at.owed.take();
        }
        let lent = self.take_loan(here, at.server.get()?);
        // Those between have passed on what was not theirs: nothing of the server's own is to go back to them.
        self.owe(at, None);
        lent
    }

    /// Notes that what the caller of `reply` lent is no longer with the server: it is `context`, or gone.
    pub(crate) fn owe(&self, reply: Ref<Reply>, context: Option<Ref<SchedContext>>) {
        reply.loan.set(Loan::Owed);
        reply.owed.set(context);
        if let Some(caller) = reply.caller.get() {
            caller.set_key(key::SLOW_ANSWER, true);
        }
    }

    /// Takes the SchedContext that `server` runs on; it falls back on its own.
    fn take_loan(&self, here: &Cpu, server: Ref<Tcb>) -> Option<Ref<SchedContext>> {
        self.settle(here, server);
        let lent = self.running_on(here, server);
        self.set_running_on(here, server, server.sched_context.get());
        lent
    }

    /// Takes back `context` if it is what went along with the call that waits on `reply`.
    pub(crate) fn recall_if(&self, here: &Cpu, reply: Ref<Reply>, context: Ref<SchedContext>) {
        let Some(at) = self.end_of_loan(reply) else { return };
        let lent = if at.loan.get() == Loan::Owed {
            at.owed.get()
        } else {
            at.server.get().and_then(|server| self.running_on(here, server))
        };
        if lent == Some(context) {
            self.recall(here, reply);
            self.owe(reply, None);
        }
    }

    /// Nobody will answer: the caller gets PeerDied; a faulted thread runs into its fault again.
    pub(crate) fn drop_reply(&self, here: &Cpu, reply: Ref<Reply>) {
        let Some(caller) = self.unlink_call(here, reply) else { return };
        if caller.state.get() == State::Answer {
            caller.finish(Error::PeerDied as u64);
        } else {
            self.repeat_fault(caller);
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
            caller.pending.set(false);
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

    /// Makes `reply` the one that `me` receives with. A Reply and its server know each other, or neither does:
    /// so that none is left with a Ref to the other when one goes.
    fn turn_to(&self, me: Ref<Tcb>, reply: Ref<Reply>) {
        if let Some(other) = reply.server.get()
            && other != me
        {
            other.receive_reply.set(None);
        }
        if let Some(earlier) = me.receive_reply.take()
            && earlier != reply
        {
            earlier.server.set(None);
        }
        me.receive_reply.set((reply != Ref::of(&me.reply)).then_some(reply));
        reply.server.set(Some(me));
    }

    /// Readies the Reply that a receive is to use: the thread's own, or the one it named.
    pub(crate) fn choose_reply(&self, here: &Cpu, me: Ref<Tcb>, cptr: u64) -> Step<Ref<Reply>> {
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
            return Err(Error::Busy.into());
        }
        self.approach(reply)?;
        self.drop_reply(here, reply);
        // What an earlier caller lent is not to be spent on the next one.
        if let Some(earlier) = self.loan_of(me) {
            self.owe(earlier, me.runs_on.get());
            self.fall_back(me);
        }
        self.turn_to(me, reply);
        Ok(reply)
    }
}
