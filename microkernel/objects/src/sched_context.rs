//! Processor time: a budget in every period, on one CPU.
//!
//! A thread runs on its own SchedContext or on one that was lent to it with a call (see [`crate::reply`]). The
//! budget is full again one period after its first use; equal budget and period mean a turn in the round of
//! the priority: when it runs out, the thread goes to the end of its queue with a new one.

use core::cell::Cell;

use abi::{Error, Kind, Rights};

use crate::cpu::Cpu;
use crate::endpoint::Endpoint;
use crate::kernel::{Call, Kernel, Outcome, Step, Words};
use crate::machine::Machine;
use crate::memory::Ref;
use crate::reply::Loan;
use crate::tcb::Tcb;
use crate::timer;

/// A budget and a period: 128 bytes.
#[derive(Debug)]
#[repr(C)]
pub struct SchedContext {
    /// Ticks in every period.
    pub budget: Cell<u64>,
    /// The period in ticks; 0 while not configured.
    pub period: Cell<u64>,
    /// Ticks left.
    pub left: Cell<u64>,
    /// When the budget is full again.
    pub refill_at: Cell<u64>,
    /// Ticks consumed, for whoever asks.
    pub consumed: Cell<u64>,
    /// The thread it is bound to.
    pub tcb: Cell<Option<Ref<Tcb>>>,
    /// The CPU it is for.
    pub cpu: Cell<usize>,
    /// Whether running out is a fault.
    pub fault_when_out: Cell<bool>,
}

const _: () = assert!(core::mem::size_of::<SchedContext>() <= 128);

/// The shortest budget, in ticks: below it the kernel's own work would use it up.
pub const MIN_BUDGET: u64 = 2_000;

impl SchedContext {
    /// Whether it is a turn in a round rather than a limit.
    pub fn is_round_robin(&self) -> bool {
        self.budget.get() == self.period.get()
    }

    /// Fills the budget if its time has come.
    pub fn refill(&self, now: u64) {
        if now >= self.refill_at.get() {
            self.left.set(self.budget.get());
            self.refill_at.set(now.saturating_add(self.period.get()));
        }
    }
}

impl<M: Machine> Kernel<M> {
    /// SchedContext.bind
    pub(crate) fn context_bind(&self, by: Call, [tcb, ..]: Words) -> Outcome {
        let context = self.context_in(by.slot)?;
        let found = self.find(by.me, tcb, Kind::Tcb, Rights::WRITE)?;
        let tcb = self.tcb_in(found)?;
        // (Without a budget its thread would have a timer that strikes all the time.)
        if context.period.get() == 0 {
            return Err(Error::NotConfigured.into());
        }
        if context.tcb.get().is_some() || tcb.sched_context.get().is_some() {
            return Err(Error::Busy.into());
        }
        // A passive server that is at work on a lent one keeps to that until it answers, and stays on this CPU.
        let waits = tcb.awaits().is_some_and(|reply| reply.loan.get() != Loan::Apart);
        let at_work = self.running_on(by.here, tcb).is_some();
        if (waits || at_work) && context.cpu.get() != tcb.cpu() {
            return Err(Error::Busy.into());
        }
        context.tcb.set(Some(tcb));
        tcb.sched_context.set(Some(context));
        if at_work {
            if by.here.current.get() != Some(tcb) && self.cpu(tcb.cpu()).current.get() == Some(tcb) {
                tcb.runs_on.set(Some(context));
            }
        } else if !waits {
            self.set_running_on(by.here, tcb, Some(context));
        }
        Ok([0; 8])
    }

    /// SchedContext.unbind
    pub(crate) fn context_unbind(&self, by: Call, _: Words) -> Outcome {
        let context = self.context_in(by.slot)?;
        self.approach_owner(context)?;
        self.unbind_context(by.here, context);
        Ok([0; 8])
    }

    /// SchedContext.consumed
    pub(crate) fn context_consumed(&self, by: Call, _: Words) -> Outcome {
        let context = self.context_in(by.slot)?;
        if by.here.charged.get() == Some(context) {
            self.charge(by.here, self.machine.now());
        }
        Ok([context.consumed.take(), 0, 0, 0, 0, 0, 0, 0])
    }

    /// SchedControl.configure
    pub(crate) fn control_configure(
        &self,
        by: Call,
        [cptr, cpu, budget, period, flags, ..]: Words,
    ) -> Outcome {
        let found = self.find(by.me, cptr, Kind::SchedContext, Rights::WRITE)?;
        let context = self.context_in(found)?;
        let second = self.tsc_hz.get().max(1);
        if cpu >= self.cpu_count() as u64 || period > second.saturating_mul(3600) {
            return Err(Error::OutOfRange.into());
        }
        if budget < MIN_BUDGET || budget > period || flags > 1 {
            return Err(Error::InvalidArgument.into());
        }
        let bound = context.tcb.get();
        if bound.is_some_and(|tcb| tcb.is_runnable() && tcb != by.me) {
            return Err(Error::Busy.into());
        }
        let cpu = cpu as usize;
        let at_work = bound.is_some_and(|tcb| tcb == by.me || tcb.runs_on.get() != Some(context));
        if cpu != context.cpu.get() && (at_work || self.is_lent(context)) {
            return Err(Error::Busy.into());
        }
        if by.here.charged.get() == Some(context) {
            self.charge(by.here, self.machine.now());
        }
        context.budget.set(budget);
        context.period.set(period);
        context.left.set(budget);
        context.refill_at.set(self.machine.now().saturating_add(period));
        context.cpu.set(cpu);
        context.fault_when_out.set(flags & 1 == 1);
        if let Some(tcb) = bound
            && tcb.runs_on.get() == Some(context)
        {
            self.move_thread(tcb, cpu);
        }
        Ok([0; 8])
    }

    /// SchedControl.set_priority
    pub(crate) fn control_set_priority(&self, by: Call, [tcb, priority, ..]: Words) -> Outcome {
        let found = self.find(by.me, tcb, Kind::Tcb, Rights::WRITE)?;
        let tcb = self.tcb_in(found)?;
        if priority > by.slot.badge.get() {
            return Err(Error::OutOfRange.into());
        }
        self.settle(by.here, tcb);
        // The current thread of this CPU is in no queue: `schedule` sees to it at the end.
        let runnable = tcb.is_runnable() && by.here.current.get() != Some(tcb);
        if runnable {
            self.unready(by.here, tcb);
        }
        let queue = if tcb.waits_to_send() { Ref::<Endpoint>::at(tcb.blocked_on.get()) } else { None };
        let (cpu, at) = (self.cpu(tcb.cpu()), tcb.timer.at.get());
        match queue {
            Some(endpoint) => timer::remove(&endpoint.senders, tcb),
            None => cpu.remove_timer(tcb),
        }
        tcb.priority.set(priority as u8);
        match queue {
            Some(endpoint) => endpoint.add_sender(tcb),
            None if at != 0 => cpu.add_timer(tcb, at),
            None => {}
        }
        if runnable {
            self.ready(by.here, tcb);
        }
        Ok([0; 8])
    }

    /// Whether some other thread than its own is running on `context`, or owes it.
    fn is_lent(&self, context: Ref<SchedContext>) -> bool {
        context.tcb.get().is_some_and(|tcb| tcb.awaits().is_some())
    }

    /// A SchedContext is gone: no CPU charges it any more.
    pub(crate) fn forget_context(&self, context: Ref<SchedContext>) {
        for cpu in self.cpus().filter(|cpu| cpu.charged.get() == Some(context)) {
            cpu.charged.set(None);
        }
    }

    /// To be called before it is taken from its thread, which may have lent it.
    pub(crate) fn approach_owner(&self, context: Ref<SchedContext>) -> Step<()> {
        context.tcb.get().map_or(Ok(()), |tcb| self.approach_call(tcb))
    }

    /// Takes a SchedContext from its thread, and from whom it was lent to.
    pub(crate) fn unbind_context(&self, here: &Cpu, context: Ref<SchedContext>) {
        let Some(tcb) = context.tcb.take() else { return };
        tcb.sched_context.set(None);
        if let Some(reply) = tcb.awaits() {
            // Lent on with a call: take it back, if it is this one that went along.
            self.recall_if(here, reply, context);
            if tcb.runs_on.get() == Some(context) {
                tcb.runs_on.set(None);
            }
            return;
        }
        self.settle(here, tcb);
        if self.running_on(here, tcb) == Some(context) {
            self.set_running_on(here, tcb, None);
        } else if tcb.runs_on.get() == Some(context) {
            tcb.runs_on.set(None);
        }
    }

    /// The SchedContext that `tcb` runs on, or would when it ran. (Of this CPU's own thread `runs_on` is true
    /// during an entry, and `charged` may be what it ran on before.)
    pub(crate) fn running_on(&self, here: &Cpu, tcb: Ref<Tcb>) -> Option<Ref<SchedContext>> {
        let number = here.number.get();
        if tcb.cpu() == number {
            return tcb.runs_on.get();
        }
        match self.cpus().find(|cpu| cpu.current.get() == Some(tcb) && cpu.number.get() != number) {
            Some(cpu) => cpu.charged.get(),
            None => tcb.runs_on.get(),
        }
    }

    /// Lets `tcb` run on `context`, wherever it is now.
    pub(crate) fn set_running_on(&self, here: &Cpu, tcb: Ref<Tcb>, context: Option<Ref<SchedContext>>) {
        // The current thread of this CPU: `schedule` sees to it at the end.
        let runnable = tcb.is_runnable() && here.current.get() != Some(tcb);
        if runnable {
            self.unready(here, tcb);
        }
        tcb.runs_on.set(context);
        if let Some(context) = context {
            self.move_thread(tcb, context.cpu.get());
        }
        if runnable {
            self.ready(here, tcb);
        }
    }

    /// What lent `tcb` the SchedContext it runs on: the Reply it would answer by.
    pub(crate) fn loan_of(&self, tcb: Ref<Tcb>) -> Option<Ref<crate::reply::Reply>> {
        let reply = tcb.receive_reply.get().unwrap_or_else(|| Ref::of(&tcb.reply));
        let lent =
            reply.caller.get().is_some() && reply.loan.get() == Loan::Lent && reply.server.get() == Some(tcb);
        lent.then_some(reply)
    }
}
