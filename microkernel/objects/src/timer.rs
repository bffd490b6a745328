//! Threads in order of a number: leftist heaps (Crane 1972; Knuth vol. 3, 5.2.3), made of the one timer node in each
//! Tcb. Each CPU has one of the waits that end at a time, each Endpoint one of its senders. Inserting and removing
//! take O(log n) whatever an attacker piles up.

use core::cell::Cell;

use crate::memory::Ref;
use crate::tcb::Tcb;

/// A thread's place in its CPU's heap.
#[derive(Debug, Default)]
#[repr(C)]
pub struct TimerNode {
    /// When, in TSC ticks, or the order among senders; 0 while it is in no heap.
    pub at: Cell<u64>,
    /// One of the two heaps of threads below it.
    pub left: Cell<Option<Ref<Tcb>>>,
    /// The other, of no greater rank.
    pub right: Cell<Option<Ref<Tcb>>>,
    /// Whose left or right it is.
    pub parent: Cell<Option<Ref<Tcb>>>,
    /// Length of the right spine.
    rank: Cell<u32>,
}

/// The root of a heap.
pub type Heap = Cell<Option<Ref<Tcb>>>;

fn rank(tcb: Option<Ref<Tcb>>) -> u32 {
    tcb.map_or(0, |tcb| tcb.timer.rank.get())
}

/// Restores the leftist property at `tcb`; whether its rank changed.
fn fix(tcb: Ref<Tcb>) -> bool {
    let node = &tcb.timer;
    if rank(node.left.get()) < rank(node.right.get()) {
        let left = node.left.replace(node.right.get());
        node.right.set(left);
    }
    let new = rank(node.right.get()).saturating_add(1);
    node.rank.replace(new) != new
}

/// Makes two heaps one. (The recursion is as deep as their right spines are long: O(log n).)
fn merge(one: Option<Ref<Tcb>>, other: Option<Ref<Tcb>>) -> Option<Ref<Tcb>> {
    let (Some(mut root), Some(mut rest)) = (one, other) else { return one.or(other) };
    if rest.timer.at.get() < root.timer.at.get() {
        core::mem::swap(&mut root, &mut rest);
    }
    let right = merge(root.timer.right.get(), Some(rest));
    right.into_iter().for_each(|right| right.timer.parent.set(Some(root)));
    root.timer.right.set(right);
    fix(root);
    Some(root)
}

/// Adds `tcb` to end at `at` (0 counts as 1: long past).
pub fn insert(heap: &Heap, tcb: Ref<Tcb>, at: u64) {
    let node = &tcb.timer;
    node.at.set(at.max(1));
    node.left.set(None);
    node.right.set(None);
    node.parent.set(None);
    node.rank.set(1);
    let root = merge(heap.get(), Some(tcb));
    if let Some(root) = root {
        root.timer.parent.set(None);
    }
    heap.set(root);
}

/// Takes `tcb` out, if it is in.
pub fn remove(heap: &Heap, tcb: Ref<Tcb>) {
    let node = &tcb.timer;
    if node.at.replace(0) == 0 {
        return;
    }
    let parent = node.parent.take();
    let merged = merge(node.left.take(), node.right.take());
    if let Some(merged) = merged {
        merged.timer.parent.set(parent);
    }
    let Some(parent) = parent else {
        heap.set(merged);
        return;
    };
    if parent.timer.left.get() == Some(tcb) {
        parent.timer.left.set(merged);
    } else {
        parent.timer.right.set(merged);
    }
    let mut at = Some(parent);
    while let Some(tcb) = at {
        // A rank that stays leaves all above it as they are.
        if !fix(tcb) {
            break;
        }
        at = tcb.timer.parent.get();
    }
}
