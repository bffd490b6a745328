//! The kernel's locks and mail under the interleavings that loom finds. Each CPU is a thread. What a lock protects is a
//! cell that loom watches: two accesses at once, or one that does not see the other's write, end the test.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use objects::locks::{HALT, Locks, Mailbox, Word};

struct Shared(AtomicU32);

impl Word for Shared {
    fn claim(&self, value: u32) -> bool {
        self.0.compare_exchange(0, value, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }
    fn read(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }
    fn write(&self, value: u32) {
        self.0.store(value, Ordering::Release);
    }
}

fn word() -> Shared {
    Shared(AtomicU32::new(0))
}

/// CPUs, what belongs to each, and what each is asked.
struct Machine<const N: usize, const PATIENCE: u32 = 1_000> {
    locks: Locks<Shared, N, PATIENCE>,
    /// What belongs to one CPU: its queues, timers, threads that wait.
    own: [UnsafeCell<u32>; N],
    /// The registers of the thread that a CPU runs: the CPU's, without a lock, until it is halted.
    registers: [UnsafeCell<u32>; N],
    mail: [Mailbox<Shared>; N],
    /// An interrupt that a CPU takes as soon as it is in user code.
    pending: [Shared; N],
}

impl<const N: usize, const PATIENCE: u32> Machine<N, PATIENCE> {
    fn new() -> Arc<Self> {
        Arc::new(Machine {
            locks: Locks::of(word),
            own: core::array::from_fn(|_| UnsafeCell::new(0)),
            registers: core::array::from_fn(|_| UnsafeCell::new(0)),
            mail: core::array::from_fn(|_| Mailbox::of(word)),
            pending: core::array::from_fn(|_| word()),
        })
    }

    fn change(cell: &UnsafeCell<u32>) {
        cell.with_mut(|value| {
            // SAFETY: loom refuses any other access meanwhile: that is the test.
            unsafe { *value += 1 }
        });
    }

    fn value(cell: &UnsafeCell<u32>) -> u32 {
        cell.with(|value| {
            // SAFETY: as above.
            unsafe { *value }
        })
    }

    fn answer(&self, me: usize) {
        self.mail[me].answer(|_| {});
        thread::yield_now();
    }

    /// An operation that concerns only `me`.
    fn own(&self, me: usize) {
        self.locks.take_own(me, || self.answer(me));
        Self::change(&self.own[me]);
        self.locks.give_own(me);
    }

    /// An operation that concerns all CPUs.
    fn all(&self, me: usize) {
        self.locks.take_all(me, N, || self.answer(me), |cpu| self.pending[cpu].write(1));
        self.own.iter().for_each(Self::change);
        self.locks.give_all(N);
    }

    /// Takes a pending interrupt: the CPU comes into the kernel and leaves it again, with nothing to do.
    fn interrupts(&self, me: usize) {
        if self.pending[me].read() != 0 {
            self.pending[me].write(0);
            self.locks.take_own(me, || self.answer(me));
            self.locks.give_own(me);
        }
    }

    /// User code runs, its registers change, and interrupts come.
    fn user(&self, me: usize) {
        Self::change(&self.registers[me]);
        self.interrupts(me);
    }

    /// Halts `other` and changes its thread's registers, as the holder of all locks.
    fn halt(&self, me: usize, other: usize) {
        self.locks.take_all(me, N, || self.answer(me), |cpu| self.pending[cpu].write(1));
        self.mail[other].ask(HALT, || self.pending[other].write(1), thread::yield_now);
        Self::change(&self.registers[other]);
        self.locks.give_all(N);
    }
}

fn model(preemptions: usize, check: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.max_branches = 100_000;
    model.check(check);
}

/// Runs `scripts` on a CPU each, and returns the machine as they leave it.
fn run<const N: usize, const PATIENCE: u32>(
    scripts: [fn(&Machine<N, PATIENCE>, usize); N],
) -> Arc<Machine<N, PATIENCE>> {
    let machine = Machine::new();
    let mut threads = Vec::new();
    for (me, script) in scripts.into_iter().enumerate().skip(1) {
        let machine = Arc::clone(&machine);
        threads.push(thread::spawn(move || script(&machine, me)));
    }
    scripts[0](&machine, 0);
    threads.into_iter().for_each(|thread| thread.join().expect("no CPU stops"));
    machine
}

#[test]
fn two_cpus_that_take_their_own_lock_and_all_locks_exclude_each_other() {
    model(2, || {
        let machine = run::<2, 1_000>([
            |machine, me| {
                machine.own(me);
                machine.all(me);
            },
            |machine, me| {
                machine.all(me);
                machine.own(me);
            },
        ]);
        for own in &machine.own {
            assert_eq!(Machine::<2>::value(own), 3, "an operation is lost");
        }
    });
}

#[test]
fn three_cpus_exclude_each_other() {
    model(1, || {
        let machine = run::<3, 1_000>([Machine::all, Machine::own, Machine::all]);
        let own: Vec<u32> = machine.own.iter().map(Machine::<3>::value).collect();
        assert_eq!(own, [2, 3, 2], "an operation is lost");
    });
}

#[test]
fn a_cpu_that_is_wanted_for_long_stands_back_and_goes_on() {
    // Called into the kernel at the first look that finds its lock taken.
    model(2, || {
        let machine = run::<2, 1>([
            |machine, me| {
                machine.own(me);
                machine.interrupts(me);
                machine.own(me);
                machine.interrupts(me);
            },
            Machine::all,
        ]);
        assert_eq!(Machine::<2>::value(&machine.own[0]), 3, "an operation is lost");
    });
}

/// The registers of a thread belong to the CPU that runs it, from before the lock is given back until the CPU is halted.
#[test]
fn registers_change_only_on_a_halted_cpu() {
    model(2, || {
        let machine = run::<2, 1_000>([
            |machine, me| machine.halt(me, 1),
            |machine, me| {
                machine.own(me);
                // The way out reads the registers without the lock.
                Machine::<2>::value(&machine.registers[me]);
                while !machine.mail[me].was_halted() {
                    machine.user(me);
                    thread::yield_now();
                }
            },
        ]);
        assert!(Machine::<2>::value(&machine.registers[1]) >= 1);
    });
}

#[test]
fn a_cpu_that_waits_for_all_locks_is_halted_by_the_holder() {
    model(2, || {
        run::<2, 1_000>([
            |machine, me| machine.halt(me, 1),
            |machine, me| {
                machine.all(me);
                while !machine.mail[me].was_halted() {
                    machine.user(me);
                    thread::yield_now();
                }
            },
        ]);
    });
}

#[test]
fn a_preemption_point_lets_others_in_and_takes_all_locks_again() {
    model(2, || {
        let machine = run::<2, 1_000>([
            |machine, me| {
                machine.all(me);
                machine.interrupts(me);
                machine.all(me);
            },
            Machine::own,
        ]);
        assert_eq!(Machine::<2>::value(&machine.own[1]), 3, "an operation is lost");
    });
}

#[test]
fn a_cpu_whose_lock_is_wanted_stands_back_until_all_are_taken() {
    let locks: Locks<std::sync::atomic::AtomicU32, 2, 1_000> = objects::memory::zeroed();
    locks.take_own(0, || unreachable!("the lock is free"));
    let stood_back = std::cell::Cell::new(false);
    locks.take_all(
        1,
        2,
        || {},
        |cpu| {
            assert_eq!(cpu, 0, "the CPU that is waited for is called");
            locks.give_own(0);
            // It comes back at once, as in a loop of system calls, and finds the lock free but wanted.
            let came_in = std::panic::catch_unwind(|| locks.take_own(0, || panic!("it waits")));
            stood_back.set(came_in.is_err());
        },
    );
    assert!(stood_back.get(), "the CPU took its lock before the one that waits for all");
}
