//! What the kernel keeps for each CPU.

use core::cell::Cell;

use crate::memory::Ref;
use crate::queue::Queue;
use crate::sched_context::SchedContext;
use crate::tcb::Tcb;
use crate::timer::{self, Heap};

/// Priorities: 0 (lowest) to 255.
pub const PRIORITIES: usize = 256;

/// The locks that a CPU holds while it is in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Held {
    /// None: there is no other CPU.
    Alone = 0,
    /// Its own.
    Own = 1,
    /// All.
    All = 2,
}

/// One CPU. The entry code knows the first fields by their offsets.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Cpu {
    /// The thread it runs; its idle thread when there is none to run.
    pub current: Cell<Option<Ref<Tcb>>>,
    /// Where the entry code keeps the user's stack pointer for an instant.
    pub user_rsp: Cell<u64>,
    /// The top of its kernel stack, where the entry code begins.
    pub stack: Cell<u64>,
    /// The highest priority among its ready threads; 0 also when there are none.
    pub top: Cell<u8>,
    /// The SchedContext it charges; None while idle.
    pub charged: Cell<Option<Ref<SchedContext>>>,
    /// Since when.
    pub charged_since: Cell<u64>,
    /// Its number.
    pub number: Cell<usize>,
    /// The thread was taken off this CPU by another while it was entering the kernel: what it wanted is void.
    pub abandoned: Cell<bool>,
    /// The locks it holds while it is in the kernel ([`Held::Own`] also while it is not).
    pub held: Cell<Held>,
    /// The root table loaded, while in the slow path.
    pub root: Cell<u64>,
    /// When its timer is set to strike; `u64::MAX` when it is not.
    pub timer_set: Cell<u64>,
    /// No wait ends before this time; `u64::MAX` while none ends at a time.
    pub deadline: Cell<u64>,
    /// Which words of `ready` have bits.
    ready_summary: Cell<u8>,
    /// Which priorities have ready threads.
    ready: [Cell<u32>; PRIORITIES / 32],
    queues: [Queue; PRIORITIES],
    /// Which priorities have waits that end at a time.
    timed: [Cell<u32>; PRIORITIES / 32],
    /// The heaps of these waits.
    timers: [Heap; PRIORITIES],
    /// Runs when nothing else does.
    pub idle: Tcb,
}

impl Cpu {
    /// Readies a Cpu of zeros.
    pub fn init(&self, number: usize, root: u64) {
        let idle = Ref::of(&self.idle);
        Tcb::init(idle, root);
        idle.set_cpu(number);
        self.number.set(number);
        self.root.set(root);
        self.timer_set.set(u64::MAX);
        self.deadline.set(u64::MAX);
        self.current.set(Some(idle));
    }

    /// Its idle thread.
    pub fn idle_thread(&self) -> Ref<Tcb> {
        Ref::of(&self.idle)
    }

    /// The thread it runs, the idle one included. (Set since `init`.)
    #[inline(always)]
    pub fn thread(&self) -> Ref<Tcb> {
        match self.current.get() {
            Some(tcb) => tcb,
            None => unreachable!("a CPU out of service"),
        }
    }

    /// Whether it has nothing to run.
    #[inline(always)]
    pub fn is_idle(&self) -> bool {
        self.thread() == self.idle_thread()
    }

    /// The ready threads of a priority.
    pub fn queue(&self, priority: u8) -> &Queue {
        // A u8 always indexes 256 queues.
        self.queues.get(usize::from(priority)).unwrap_or_else(|| unreachable!("256 priorities"))
    }

    /// Adds a ready thread, at the back of its priority's queue or at the front.
    #[inline(always)]
    pub fn enqueue(&self, tcb: Ref<Tcb>, front: bool) {
        let priority = tcb.priority.get();
        let queue = self.queue(priority);
        if queue.is_empty() {
            self.set_ready(priority);
        }
        if front {
            queue.push_front(tcb);
        } else {
            queue.push(tcb);
        }
    }

    /// Takes a ready thread out.
    pub fn dequeue(&self, tcb: Ref<Tcb>) {
        let priority = tcb.priority.get();
        let queue = self.queue(priority);
        queue.remove(tcb);
        if queue.is_empty() {
            self.clear_ready(priority);
        }
    }

    /// Takes the ready thread that should run first.
    #[inline(always)]
    pub fn take_ready(&self) -> Option<Ref<Tcb>> {
        let top = self.top.get();
        let queue = self.queue(top);
        let tcb = queue.pop()?;
        if queue.is_empty() {
            self.clear_ready(top);
        }
        Some(tcb)
    }

    /// The priority of the most urgent thread that can run; None if there is none.
    pub fn urgency(&self) -> Option<u8> {
        let current = (!self.is_idle()).then(|| self.thread().priority.get());
        current.max((!self.queue(self.top.get()).is_empty()).then(|| self.top.get()))
    }

    fn heap(&self, priority: u8) -> &Heap {
        self.timers.get(usize::from(priority)).unwrap_or_else(|| unreachable!("256 priorities"))
    }

    /// Adds the wait of `tcb` that ends at `at`.
    pub fn add_timer(&self, tcb: Ref<Tcb>, at: u64) {
        let priority = tcb.priority.get();
        timer::insert(self.heap(priority), tcb, at);
        if let Some(bits) = self.timed.get(usize::from(priority >> 5)) {
            bits.set(bits.get() | 1 << (priority & 31));
        }
        self.deadline.set(self.deadline.get().min(at));
    }

    /// Takes the wait of `tcb` out, if it ends at a time.
    pub fn remove_timer(&self, tcb: Ref<Tcb>) {
        let priority = tcb.priority.get();
        let heap = self.heap(priority);
        timer::remove(heap, tcb);
        if heap.get().is_none()
            && let Some(bits) = self.timed.get(usize::from(priority >> 5))
        {
            bits.set(bits.get() & !(1 << (priority & 31)));
        }
    }

    /// The priorities that have waits that end at a time, the highest first. (Waits of the one that was told last may be
    /// taken out meanwhile.)
    pub fn timed_priorities(&self) -> impl Iterator<Item = u8> {
        (0..8u8).zip(&self.timed).rev().flat_map(|(word, bits)| {
            let mut left = bits.get();
            core::iter::from_fn(move || {
                let bit = left.checked_ilog2()?;
                left &= !(1 << bit);
                Some(word << 5 | bit as u8)
            })
        })
    }

    /// The wait of this priority that ends first, and when.
    pub fn first_timer(&self, priority: u8) -> Option<(Ref<Tcb>, u64)> {
        self.heap(priority).get().map(|tcb| (tcb, tcb.timer.at.get()))
    }

    #[inline(always)]
    fn set_ready(&self, priority: u8) {
        let word = priority >> 5;
        if let Some(bits) = self.ready.get(usize::from(word)) {
            bits.set(bits.get() | 1 << (priority & 31));
        }
        self.ready_summary.set(self.ready_summary.get() | 1 << word);
        self.top.set(self.top.get().max(priority));
    }

    #[inline(always)]
    fn clear_ready(&self, priority: u8) {
        let word = priority >> 5;
        let Some(cell) = self.ready.get(usize::from(word)) else { return };
        let bits = cell.get() & !(1 << (priority & 31));
        cell.set(bits);
        if bits == 0 {
            self.ready_summary.set(self.ready_summary.get() & !(1 << word));
        }
        self.top.set(self.highest());
    }

    #[inline(always)]
    fn highest(&self) -> u8 {
        // (With no bit set, bit 0 stands in: priority 0, whose queue is then empty.)
        let word = 31 ^ (u32::from(self.ready_summary.get()) | 1).leading_zeros();
        let bits = self.ready.get(word as usize & 7).map_or(0, Cell::get) | 1;
        (word << 5 | 31 ^ bits.leading_zeros()) as u8
    }
}
