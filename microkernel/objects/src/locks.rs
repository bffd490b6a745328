//! The kernel's locks: one for each CPU, and all of them together; and the mail between CPUs.
//!
//! What concerns one CPU alone takes that CPU's own lock, which lies on a cache line of its own; the fast path
//! does so with one instruction. Everything else takes all of them: first the right to do so (`general`), then
//! each CPU's lock in ascending order. A CPU that holds its own lock and finds that it needs all of them gives
//! its own back first, so no two CPUs wait for each other. The holder of all locks may ask other CPUs for
//! something ([`Mailbox`]): those are in user code, idle, or waiting for a lock, and answer.
//!
//! A CPU that waits is served. One that waits for its own lock goes before the next one that takes all. One that
//! takes all and has waited long calls the CPU it waits for into the kernel, where that CPU stands back. The
//! right to take all goes to whichever CPU tries first when it is free: strict turns would stand still while a
//! hypervisor does not run the virtual CPU whose turn it is. But no CPU is passed over more than a few times.
//!
//! The code is generic over its words, so that loom runs it (tests/kernel/locks.rs).

use core::sync::atomic::{AtomicU32, Ordering};

/// A word that CPUs share.
pub trait Word {
    /// Sets a word that is 0 to `value`; returns true if it was 0. An acquire operation.
    fn claim(&self, value: u32) -> bool;
    /// Returns its value. An acquire operation.
    fn read(&self) -> u32;
    /// Sets it. A release operation.
    fn write(&self, value: u32);
}

impl Word for AtomicU32 {
    #[inline(always)]
    fn claim(&self, value: u32) -> bool {
        self.compare_exchange(0, value, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline(always)]
    fn read(&self) -> u32 {
        self.load(Ordering::Acquire)
    }

    #[inline(always)]
    fn write(&self, value: u32) {
        self.store(value, Ordering::Release);
    }
}

/// The lock of one CPU, on a cache line of its own.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Gate<W> {
    /// 1 while the CPU, or the holder of all locks, holds it. (First: the assembly relies on it.)
    held: W,
    /// 1 while the CPU waits for it.
    waits: W,
    /// 1 while a CPU that takes all locks has waited long for this one.
    wanted: W,
}

/// All locks, free when zeroed. The first bytes are the gates, 64 for each CPU. `PATIENCE` is how often a CPU looks at
/// another one's lock before it calls that CPU into the kernel.
#[derive(Debug)]
#[repr(C)]
pub struct Locks<W, const N: usize, const PATIENCE: u32> {
    gates: [Gate<W>; N],
    /// 1 while a CPU takes or holds all locks.
    general: W,
    /// Number + 1 of the CPU that has been passed over too often, and is the next to take all.
    next: W,
    /// How often all were taken.
    turns: W,
}

/// Turns of others, for each CPU, before a CPU is the next to take all locks.
const TURNS: u32 = 2;

impl<W: Word, const N: usize, const PATIENCE: u32> Locks<W, N, PATIENCE> {
    /// Returns locks that no CPU holds, of words that `word` makes.
    pub fn of(word: impl Fn() -> W) -> Self {
        let gate = |_| Gate { held: word(), waits: word(), wanted: word() };
        Locks { gates: core::array::from_fn(gate), general: word(), next: word(), turns: word() }
    }

    /// Takes the lock of CPU `me`, which calls. `answer` is called while it waits.
    pub fn take_own(&self, me: usize, mut answer: impl FnMut()) {
        let Some(gate) = self.gates.get(me) else { return };
        gate.waits.write(1);
        while gate.wanted.read() != 0 || !gate.held.claim(1) {
            answer();
        }
        gate.waits.write(0);
    }

    /// Gives the lock of CPU `me` back, which calls.
    #[inline(always)]
    pub fn give_own(&self, me: usize) {
        if let Some(gate) = self.gates.get(me) {
            gate.held.write(0);
        }
    }

    /// Takes the locks of the first `count` CPUs for `me`, which calls and holds none. `answer` is called while
    /// it waits, and `summon` once for each CPU that has been waited for long.
    pub fn take_all(&self, me: usize, count: usize, mut answer: impl FnMut(), mut summon: impl FnMut(usize)) {
        let (name, since) = ((me as u32).wrapping_add(1), self.turns.read());
        loop {
            let next = self.next.read();
            if (next == 0 || next == name) && self.general.claim(1) {
                break;
            }
            if next == 0 && self.turns.read().wrapping_sub(since) > TURNS.wrapping_mul(count as u32) {
                self.next.claim(name);
            }
            answer();
        }
        if self.next.read() == name {
            self.next.write(0);
        }
        self.turns.write(self.turns.read().wrapping_add(1));
        for (cpu, gate) in self.gates.iter().take(count).enumerate() {
            let mut looks: u32 = 0;
            while (looks < PATIENCE && gate.waits.read() != 0) || !gate.held.claim(1) {
                looks = looks.saturating_add(1);
                if looks == PATIENCE {
                    gate.wanted.write(1);
                    summon(cpu);
                }
                answer();
            }
            gate.wanted.write(0);
        }
    }

    /// Gives the locks of the first `count` CPUs back.
    pub fn give_all(&self, count: usize) {
        for gate in self.gates.iter().take(count) {
            gate.held.write(0);
        }
        self.general.write(0);
    }
}

/// What the holder of all locks asks of one CPU. The CPU answers while it waits for a lock, which the interrupt
/// that announces mail makes it do. Empty when zeroed.
#[derive(Debug)]
pub struct Mailbox<W> {
    request: W,
    /// 1 if the CPU has been halted since it last held a lock.
    halted: W,
}

/// A request of the sender's own kind; others are numbered from 2.
pub const HALT: u32 = 1;

impl<W: Word> Mailbox<W> {
    /// Returns an empty mailbox, of words that `word` makes.
    pub fn of(word: impl Fn() -> W) -> Self {
        Mailbox { request: word(), halted: word() }
    }

    /// Asks for `request`, announces it, and waits until it is answered.
    pub fn ask(&self, request: u32, announce: impl FnOnce(), mut wait: impl FnMut()) {
        self.request.write(request);
        announce();
        while self.request.read() != 0 {
            wait();
        }
    }

    /// Answers what is asked, if anything is: `act` does it.
    pub fn answer(&self, act: impl FnOnce(u32)) {
        let request = self.request.read();
        if request == 0 {
            return;
        }
        act(request);
        if request == HALT {
            self.halted.write(1);
        }
        self.request.write(0);
    }

    /// Returns true if the CPU has been halted since it last asked, which it does when it has got a lock.
    pub fn was_halted(&self) -> bool {
        let halted = self.halted.read() != 0;
        if halted {
            self.halted.write(0);
        }
        halted
    }
}
