//! What the kernel's entry code does on a real machine (microkernel/src/entry.rs, asm/fastpath.s), step for step.

use objects::tcb::State;
use objects::{Cpu, Ref, Tcb};

use super::World;

impl World {
    /// What every entry ends with.
    fn leave(&self, here: &Cpu) {
        self.leave_from(here, here.root.get());
    }

    /// The same where the root table `root` is the one loaded.
    pub fn leave_from(&self, here: &Cpu, root: u64) {
        let (number, wanted) = (here.number.get(), here.thread().cr3.get());
        if root != wanted {
            self.machine.load_root_on(number, wanted);
        }
        assert_eq!(self.machine.roots[number].get(), wanted, "an address space that is not the thread's");
    }

    /// The CPU takes the lock and finds out whether its thread is still its own.
    fn lock(&self, number: usize) -> (&'static Cpu, bool) {
        let here = &self.cpus[number];
        self.machine.here.set(number);
        self.machine.pokes.set(self.machine.pokes.get() & !(1 << number));
        let abandoned = here.abandoned.replace(false);
        (here, abandoned)
    }

    /// Begins an entry that needs all locks.
    pub(super) fn begin(&self, number: usize) -> (&'static Cpu, bool) {
        let here = &self.cpus[number];
        self.take(here, false);
        (here, self.begin_with_own(number))
    }

    /// Begins an entry with the CPU's own lock; true if its thread was taken from it meanwhile.
    fn begin_with_own(&self, number: usize) -> bool {
        let (here, abandoned) = self.lock(number);
        let halted = self.machine.halted.get();
        if !abandoned || here.is_idle() {
            self.kernel.enter(here);
            if halted & 1 << number != 0 {
                here.root.set(self.kernel.root.get());
            }
        }
        self.machine.halted.set(halted & !(1 << number));
        abandoned
    }

    pub(super) fn end(&self, here: &Cpu) {
        self.kernel.schedule(here);
        self.leave(here);
        self.give(here, None);
    }

    /// The CPU looks at its queues (an IPI).
    pub fn look(&self, cpu: usize) {
        let asked = (self.machine.pokes.get() | self.machine.halted.get()) & 1 << cpu != 0;
        let here = &self.cpus[cpu];
        let others = self.take(here, true);
        self.begin_with_own(cpu);
        if asked {
            self.kernel.arm(here);
        }
        self.kernel.schedule(here);
        self.leave(here);
        self.give(here, others);
    }

    /// Every CPU that was asked to look does so.
    pub fn answer_pokes(&self) {
        let mut looks = 0;
        while let Some(cpu) = self.poked() {
            self.look(cpu);
            looks += 1;
            assert!(looks < 1_000, "CPUs that poke each other for ever");
        }
    }

    pub fn poked(&self) -> Option<usize> {
        let asked = self.machine.pokes.get() | self.machine.halted.get();
        (asked != 0).then(|| asked.trailing_zeros() as usize)
    }

    /// The timer of `cpu` strikes.
    pub fn tick(&self, cpu: usize) {
        let here = &self.cpus[cpu];
        let others = self.take(here, true);
        self.begin_with_own(cpu);
        self.machine.timers[cpu].set(u64::MAX);
        if self.kernel.tick(here) {
            self.kernel.schedule(here);
            self.leave(here);
            return self.give(here, others);
        }
        self.give(here, others);
        self.begin(cpu);
        assert!(self.kernel.tick(here), "all locks are enough");
        self.end(here);
    }

    /// Time goes by; each timer that is due strikes, on its time.
    pub fn pass(&self, ticks: u64) {
        let until = self.machine.now.get() + ticks;
        for strikes in 0.. {
            assert!(strikes < 100_000, "a timer that strikes for ever");
            let due = (0..self.cpus.len()).min_by_key(|&cpu| self.machine.timers[cpu].get()).unwrap();
            let at = self.machine.timers[due].get();
            if at > until {
                break;
            }
            self.machine.now.set(self.machine.now.get().max(at));
            self.tick(due);
            self.answer_pokes();
        }
        self.machine.now.set(until);
    }

    /// A device interrupts `cpu`.
    pub fn interrupt(&self, cpu: usize, vector: u8) {
        let (here, _) = self.begin(cpu);
        self.kernel.interrupt(here, vector);
        self.end(here);
    }

    /// The current thread of `cpu` meets an exception.
    pub fn fault(&self, cpu: usize, what: [u64; 3]) {
        self.meet_exception(cpu, what);
        self.enter_with_exception(cpu);
    }

    /// The first half of that: the CPU waits for the kernel lock, which another one may have.
    pub fn meet_exception(&self, cpu: usize, what: [u64; 3]) {
        let here = &self.cpus[cpu];
        assert!(!here.is_idle(), "a fault on an idle CPU");
        here.thread().interrupted.set(true);
        here.thread().note_exception(what);
    }

    /// The second half: the CPU has the locks.
    pub fn enter_with_exception(&self, cpu: usize) {
        let here = &self.cpus[cpu];
        let others = self.take(here, self.kernel.fault_is_covered(here, here.thread()));
        let abandoned = self.begin_with_own(cpu);
        if !abandoned {
            self.kernel.fault(here);
        }
        self.kernel.schedule(here);
        self.leave(here);
        self.give(here, others);
    }

    /// The current thread of `cpu` makes the system call that is in its registers. True: it gave way, and the
    /// thread stands before the call again.
    pub fn trap(&self, cpu: usize) -> bool {
        let here = &self.cpus[cpu];
        let me = here.thread();
        assert!(!here.is_idle(), "a system call on an idle CPU");
        me.context.rip.set(me.context.rip.get() + 2);
        if here.abandoned.get() {
            // Another CPU took the thread away while it waited for the lock: the call was never made.
            me.context.rip.set(me.context.rip.get() - 2);
            self.look(cpu);
            return true;
        }
        if self.fast.get() && crate::fastpath::take(self, here) {
            return false;
        }
        let others = self.take(here, self.kernel.call_is_covered(here));
        self.lock(cpu);
        let gave_way = self.kernel.syscall(here);
        if gave_way {
            if !here.is_idle() {
                self.kernel.enter(here);
                self.kernel.put_back(here, true);
            }
            here.root.set(self.kernel.root.get());
            self.machine.load_root_on(cpu, self.kernel.root.get());
            self.give(here, others);
            self.look(cpu);
        } else {
            self.leave(here);
            self.give(here, others);
        }
        gave_way
    }

    /// Makes `tcb` the current thread of its CPU, past its turn; no more urgent thread may be ready.
    pub fn run(&self, tcb: Ref<Tcb>) {
        self.answer_pokes();
        let here = &self.cpus[tcb.cpu()];
        if here.thread() == tcb {
            return;
        }
        assert_eq!(tcb.state.get(), State::Ready, "a thread that cannot run");
        let (here, _) = self.begin(here.number.get());
        self.kernel.put_back(here, true);
        here.dequeue(tcb);
        here.current.set(Some(tcb));
        self.end(here);
        assert_eq!(here.thread(), tcb, "a thread of higher priority is ready");
    }
}
