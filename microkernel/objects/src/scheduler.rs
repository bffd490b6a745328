//! Which thread a CPU runs: fixed priorities, round robin within one, budgets enforced.
//!
//! The running thread is in no queue (Benno scheduling): an IPC that switches directly touches none. A CPU's
//! `charged` SchedContext is the truth about what its current thread runs on; the fast path leaves it alone
//! when it switches, which is how a call lends it.

use abi::{Kind, Rights};

use crate::cpu::{Cpu, Held};
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::memory::Ref;
use crate::notification::Notification;
use crate::sched_context::SchedContext;
use crate::tcb::{State, Tcb, key};

/// Waits of threads that are no more urgent than the running one that end at once.
const LESS_URGENT: u32 = 8;
/// How often in a second that happens, at most.
const PAUSES: u64 = 20_000;

/// Waits that one strike of the timer ends, at most; it strikes again at once for the others.
const EXPIRIES: u32 = 40;

/// The address of a SchedContext, or 0: two of them are compared by two loads and one comparison.
#[inline(always)]
fn address(context: Option<Ref<SchedContext>>) -> u64 {
    context.map_or(0, Ref::address)
}

impl<M: Machine> Kernel<M> {
    /// Charges the CPU's SchedContext for the time since the last charge.
    #[inline(always)]
    pub fn charge(&self, cpu: &Cpu, now: u64) {
        let spent = now.saturating_sub(cpu.charged_since.replace(now));
        if let Some(context) = cpu.charged.get() {
            context.left.set(context.left.get().saturating_sub(spent));
            context.consumed.set(context.consumed.get().wrapping_add(spent));
        }
    }

    /// What every entry that could change threads begins with: the current thread's `runs_on` is made true.
    #[inline(always)]
    pub fn enter(&self, here: &Cpu) {
        let me = here.thread();
        me.runs_on.set(here.charged.get());
        here.root.set(me.cr3.get());
        if here.held.get() != Held::Own {
            self.work.set(crate::kernel::WORK_UNITS);
        }
    }

    /// The same for the calls below, none of which does more than a step of work.
    #[inline(always)]
    fn enter_short(&self, here: &Cpu) -> Ref<Tcb> {
        let me = here.thread();
        me.runs_on.set(here.charged.get());
        me
    }

    /// Makes a thread ready to run. If it has nothing to run on it stays off the queues until it gets it. With an
    /// exception pending it waits for its handler instead.
    pub fn ready(&self, here: &Cpu, tcb: Ref<Tcb>) {
        if tcb.pending.get() {
            return self.raise_or_stop(here, tcb);
        }
        tcb.state.set(State::Ready);
        let Some(context) = tcb.runs_on.get() else { return };
        if context.left.get() == 0 {
            let now = self.machine.now();
            context.refill(now);
            if context.left.get() == 0 && !self.turn_to_own(tcb, context, now) {
                let until = tcb.runs_on.get().map_or(now, |context| context.refill_at.get());
                self.throttle(here, tcb, until);
                return;
            }
        }
        self.enqueue(here, tcb, false);
    }

    /// A server with a SchedContext of its own does not wait for the budget of whoever lent it an empty one: it
    /// goes on with its own, and owes that one. Whether `tcb` can run now.
    fn turn_to_own(&self, tcb: Ref<Tcb>, lent: Ref<SchedContext>, now: u64) -> bool {
        let Some(own) = tcb.sched_context.get().filter(|&own| own != lent) else { return false };
        let Some(reply) = self.loan_of(tcb) else { return false };
        self.owe(reply, Some(lent));
        self.fall_back(tcb);
        own.refill(now);
        own.left.get() > 0
    }

    fn enqueue(&self, here: &Cpu, tcb: Ref<Tcb>, front: bool) {
        let cpu = self.cpu(tcb.cpu());
        cpu.enqueue(tcb, front);
        if cpu.number.get() != here.number.get() {
            let running = cpu.thread();
            if cpu.is_idle() || running.priority.get() < tcb.priority.get() {
                self.machine.poke(cpu.number.get());
            }
        }
    }

    fn throttle(&self, here: &Cpu, tcb: Ref<Tcb>, until: u64) {
        tcb.state.set(State::Throttled);
        self.set_deadline(here, tcb, until);
    }

    /// Arms the thread's timer on its CPU.
    pub fn set_deadline(&self, here: &Cpu, tcb: Ref<Tcb>, at: u64) {
        let cpu = self.cpu(tcb.cpu());
        cpu.add_timer(tcb, at);
        if at >= cpu.timer_set.get() {
            return;
        }
        if cpu.number.get() == here.number.get() {
            self.arm(here);
        } else {
            self.machine.poke(cpu.number.get());
        }
    }

    /// Takes back the thread's timer.
    pub fn clear_deadline(&self, tcb: Ref<Tcb>) {
        tcb.set_key(key::DEADLINE, false);
        self.cpu(tcb.cpu()).remove_timer(tcb);
    }

    /// Takes a runnable thread off its CPU's queues; its state is the caller's to set. A CPU that runs it
    /// (and was halted) turns to idle.
    pub fn unready(&self, here: &Cpu, tcb: Ref<Tcb>) {
        let cpu = self.cpu(tcb.cpu());
        if cpu.current.get() == Some(tcb) {
            if cpu.number.get() != here.number.get() {
                self.machine.halt(cpu.number.get());
            }
            self.abandon(here, cpu);
        } else if tcb.state.get() == State::Throttled {
            self.clear_deadline(tcb);
        } else if tcb.runs_on.get().is_some() {
            cpu.dequeue(tcb);
        }
    }

    /// Leaves `cpu`, which is this one or halted, without a current thread.
    pub fn abandon(&self, here: &Cpu, cpu: &Cpu) {
        let old = cpu.thread();
        if old == cpu.idle_thread() {
            return;
        }
        self.charge(cpu, self.machine.now());
        let charged = cpu.charged.take();
        cpu.current.set(Some(cpu.idle_thread()));
        if cpu.number.get() != here.number.get() {
            // (Of this CPU's own thread `runs_on` is true already, and `charged` may have been taken back.)
            old.runs_on.set(charged);
            cpu.abandoned.set(true);
            self.machine.poke(cpu.number.get());
        } else if cpu.root.get() != self.root.get() {
            self.machine.load_root(self.root.get());
        }
        cpu.root.set(self.root.get());
    }

    /// Moves a thread that is not running and in no queue to another CPU; its deadline goes with it.
    pub fn move_thread(&self, tcb: Ref<Tcb>, cpu: usize) {
        if tcb.cpu() == cpu {
            return;
        }
        self.leave_home(tcb);
        if tcb.waits_to_send() {
            return tcb.set_cpu(cpu);
        }
        let at = tcb.timer.at.get();
        self.cpu(tcb.cpu()).remove_timer(tcb);
        tcb.set_cpu(cpu);
        if at != 0 {
            self.cpu(cpu).add_timer(tcb, at);
            self.machine.poke(cpu);
        }
    }

    /// yield_now: the system call as a whole; the thread that runs on.
    #[inline(always)]
    pub fn yield_call(&self, here: &Cpu) -> Ref<Tcb> {
        let me = self.enter_short(here);
        me.finish(0);
        // Straight to the next of its queue, which stays as long as it is.
        let queue = here.queue(me.priority.get());
        let next = if here.top.get() == me.priority.get() { queue.pop() } else { None };
        let Some(next) = next else {
            self.stay(me);
            return me;
        };
        queue.push(me);
        self.go_over(here, me, next);
        next
    }

    /// The current thread goes on as it was (see [`Tcb::runs_on`]).
    #[inline(always)]
    pub(crate) fn stay(&self, me: Ref<Tcb>) {
        me.runs_on.set(me.sched_context.get());
    }

    /// signal: the system call as a whole.
    #[inline(always)]
    pub fn signal_call(&self, here: &Cpu, cptr: u64) {
        let me = self.enter_short(here);
        let found = self.find(me, cptr, Kind::Notification, Rights::WRITE);
        match found.and_then(|slot| Ok((slot, self.notification_in(slot)?))) {
            Ok((slot, notification)) => {
                me.finish(0);
                let bits = slot.badge.get().max(1);
                if !self.signal_over(here, me, notification, bits) {
                    self.notify(here, notification, bits);
                    self.schedule(here);
                }
            }
            Err(error) => {
                me.finish(error as u64);
                self.stay(me);
            }
        }
    }

    /// The expected case: one waits, here, without a deadline, more urgent than the signaller, and can run. Then
    /// the CPU goes over to it without it ever being queued.
    #[inline(always)]
    fn signal_over(&self, here: &Cpu, me: Ref<Tcb>, notification: Ref<Notification>, bits: u64) -> bool {
        let Some(waiter) = notification.waiters.head.get() else { return false };
        let Some(context) = waiter.runs_on.get() else { return false };
        if waiter.key.get() as usize != here.number.get()
            || waiter.priority.get() <= me.priority.get()
            || context.left.get() == 0
        {
            return false;
        }
        notification.waiters.pop();
        waiter.finish_with(bits);
        waiter.state.set(State::Ready);
        here.enqueue(me, true);
        self.go_over(here, me, waiter);
        true
    }

    /// wait without a deadline: the system call as a whole.
    #[inline(always)]
    pub fn wait_call(&self, here: &Cpu, cptr: u64) {
        let me = self.enter_short(here);
        let found = self.find(me, cptr, Kind::Notification, Rights::READ);
        let notification = match found.and_then(|slot| self.notification_in(slot)) {
            Ok(notification) => notification,
            Err(error) => {
                me.finish(error as u64);
                return self.stay(me);
            }
        };
        if notification.bits.get() != 0 {
            me.finish_with(notification.take_bits());
            return self.stay(me);
        }
        me.state.set(State::Waiting);
        me.blocked_on.set(notification.address());
        notification.add_waiter(me);
        self.go_over(here, me, here.take_ready().unwrap_or_else(|| here.idle_thread()));
    }

    /// Makes `next` the current thread in place of `me`: what `switch_context` does, in one go where both have something
    /// to run on.
    #[inline(always)]
    fn go_over(&self, here: &Cpu, me: Ref<Tcb>, next: Ref<Tcb>) {
        here.current.set(Some(next));
        self.trace(here, abi::trace::Event::Switch, me.address(), next.address());
        let (Some(old), Some(new)) = (here.charged.get(), next.runs_on.get()) else {
            return self.switch_context(here);
        };
        next.runs_on.set(next.sched_context.get());
        let now = self.machine.now();
        let spent = now.saturating_sub(here.charged_since.replace(now));
        old.left.set(old.left.get().saturating_sub(spent));
        old.consumed.set(old.consumed.get().wrapping_add(spent));
        here.charged.set(Some(new));
        if now >= new.refill_at.get() {
            new.refill(now);
        }
        if now.saturating_add(new.left.get()) < here.timer_set.get() {
            self.arm(here);
        }
    }

    /// Puts the current thread back into its ready queue; the CPU is left with its idle thread.
    pub fn put_back(&self, here: &Cpu, front: bool) {
        let me = here.thread();
        if me.state.get() == State::Ready && me != here.idle_thread() {
            here.current.set(Some(here.idle_thread()));
            if me.runs_on.get().is_some() {
                // (A passive thread may have got a SchedContext of another CPU.)
                self.enqueue(here, me, front);
            }
        }
    }

    /// What every entry that could change threads ends with: finds out what the CPU runs now.
    #[inline(always)]
    pub fn schedule(&self, here: &Cpu) {
        let me = here.thread();
        let context = me.runs_on.get();
        // The common case: the thread that came in goes on, on what it ran on. (So it is not the idle thread,
        // which is never Ready, and has not moved to another CPU, whose SchedContext it would run on.)
        if me.state.get() == State::Ready
            && here.top.get() <= me.priority.get()
            && address(context) != 0
            && address(context) == address(here.charged.get())
        {
            return self.stay(me);
        }
        self.reschedule(here);
    }

    fn reschedule(&self, here: &Cpu) {
        let me = here.thread();
        let ready = me.state.get() == State::Ready && me.runs_on.get().is_some() && !here.is_idle();
        let stays = ready && me.cpu() == here.number.get() && here.top.get() <= me.priority.get();
        if !stays {
            if ready {
                self.put_back(here, true);
            }
            here.current.set(Some(here.take_ready().unwrap_or_else(|| here.idle_thread())));
            self.trace(here, abi::trace::Event::Switch, me.address(), here.thread().address());
        }
        self.switch_context(here);
    }

    /// Makes the CPU charge what its current thread runs on, and sees that its timer strikes in time.
    #[inline(always)]
    fn switch_context(&self, here: &Cpu) {
        let me = here.thread();
        let next = if here.is_idle() { None } else { me.runs_on.get() };
        if here.charged.get() != next {
            let now = self.machine.now();
            self.charge(here, now);
            here.charged.set(next);
            if let Some(context) = next {
                context.refill(now);
            }
        }
        // While it is current `charged` counts; when the fast path takes it off the CPU, whose budget goes on
        // with its partner, this is what it falls back on.
        me.runs_on.set(me.sched_context.get());
        self.arm(here);
    }

    /// Sets the timer unless it strikes early enough as it is. (Early is harmless: it looks and sets it anew.) A
    /// CPU that was poked does so, too: another one may have set a deadline for it.
    pub fn arm(&self, here: &Cpu) {
        let mut at = here.deadline.get();
        if let Some(context) = here.charged.get() {
            at = at.min(here.charged_since.get().saturating_add(context.left.get()));
        }
        if at < here.timer_set.get() {
            here.timer_set.set(at);
            self.machine.set_timer(at);
        }
    }

    /// The CPU's timer struck: deadlines that have passed, and the current thread's budget. Returns false if the
    /// CPU needs all locks for the rest.
    pub fn tick(&self, here: &Cpu) -> bool {
        let now = self.machine.now();
        here.timer_set.set(u64::MAX);
        if !self.expire_due(here, now) {
            return false;
        }
        self.charge(here, now);
        let me = here.thread();
        if let Some(context) = here.charged.get()
            && context.left.get() == 0
            && me.state.get() == State::Ready
        {
            if context.fault_when_out.get() && !self.fault_is_covered(here, me) {
                return false;
            }
            self.exhausted(here, me, now);
        }
        // Where the thread goes on, `schedule` has nothing to switch and so sets no timer.
        if here.thread() == me && me.state.get() == State::Ready {
            self.arm(here);
        }
        true
    }

    /// Ends the waits that are due, of more urgent threads first. Where a thread can run that is as urgent, only some
    /// of them, and the others a little later: however many there are, they take a small share of its time. Returns
    /// false if the CPU needs all locks for the rest.
    fn expire_due(&self, here: &Cpu, now: u64) -> bool {
        let pause = self.tsc_hz.get() / PAUSES;
        let (mut less_urgent, mut left) = (LESS_URGENT, EXPIRIES);
        here.deadline.set(u64::MAX);
        for priority in here.timed_priorities() {
            let in_turn = here.urgency().is_some_and(|running| priority <= running);
            while let Some((tcb, at)) = here.first_timer(priority) {
                if at > now || left == 0 || in_turn && less_urgent == 0 {
                    let later = if in_turn { now.saturating_add(pause) } else { now };
                    here.deadline.set(here.deadline.get().min(if at > now { at } else { later }));
                    break;
                }
                if !self.expiry_is_covered(here, tcb) {
                    return false;
                }
                left = left.saturating_sub(1);
                less_urgent = less_urgent.saturating_sub(u32::from(in_turn));
                self.expire(here, tcb);
            }
        }
        true
    }

    /// A wait or a throttling has come to its end.
    fn expire(&self, here: &Cpu, tcb: Ref<Tcb>) {
        if tcb.state.get() == State::Throttled {
            self.clear_deadline(tcb);
        } else {
            self.unblock(here, tcb);
            tcb.finish(abi::Error::TimedOut as u64);
        }
        self.ready(here, tcb);
    }

    /// The current thread has used up what it runs on.
    fn exhausted(&self, here: &Cpu, me: Ref<Tcb>, now: u64) {
        let Some(context) = here.charged.get() else { return };
        if let Some(reply) = self.loan_of(me)
            && me.sched_context.get().is_some()
            && me.sched_context.get() != Some(context)
        {
            // It was lent: an active server goes on with its own, and owes this one to its caller.
            self.owe(reply, Some(context));
            here.current.set(Some(here.idle_thread()));
            self.fall_back(me);
            self.ready(here, me);
            return;
        }
        if context.is_round_robin() {
            context.left.set(context.budget.get());
            context.refill_at.set(now.saturating_add(context.period.get()));
            me.runs_on.set(Some(context));
            if here.top.get() >= me.priority.get() {
                self.put_back(here, false);
            }
            return;
        }
        context.refill(now);
        if context.left.get() > 0 {
            return;
        }
        here.current.set(Some(here.idle_thread()));
        me.runs_on.set(Some(context));
        if context.fault_when_out.get() {
            me.note_exception([abi::message::fault::BUDGET, 0, 0]);
            if self.raise(here, me) {
                return;
            }
        }
        self.throttle(here, me, context.refill_at.get());
    }

    /// Leaves a thread that is in no ready queue with its own SchedContext, on that one's CPU.
    pub(crate) fn fall_back(&self, tcb: Ref<Tcb>) {
        let own = tcb.sched_context.get();
        tcb.runs_on.set(own);
        if let Some(own) = own {
            self.move_thread(tcb, own.cpu.get());
        }
    }
}
