//! A queue of threads: in an Endpoint, a Notification, or a CPU's ready threads of one priority.
//!
//! A thread is in at most one queue at a time, by its own two links. `tail` means something only while `head`
//! is set, and so does a thread's `next` of the last one (None) and `prev` of the first one (not looked at):
//! the fast path can take the only thread of a queue with one write.

use core::cell::Cell;

use crate::memory::Ref;
use crate::tcb::Tcb;

/// First in, first out.
#[derive(Debug)]
#[repr(C)]
pub struct Queue {
    /// The next to be served.
    pub head: Cell<Option<Ref<Tcb>>>,
    /// The last to come; stale while `head` is None.
    pub tail: Cell<Option<Ref<Tcb>>>,
}

impl Queue {
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.head.get().is_none()
    }

    /// Adds a thread at the end.
    pub fn push(&self, tcb: Ref<Tcb>) {
        tcb.queue_next.set(None);
        match (self.head.get(), self.tail.get()) {
            (Some(_), Some(tail)) => {
                tail.queue_next.set(Some(tcb));
                tcb.queue_prev.set(Some(tail));
            }
            _ => self.head.set(Some(tcb)),
        }
        self.tail.set(Some(tcb));
    }

    /// Adds a thread at the front.
    pub fn push_front(&self, tcb: Ref<Tcb>) {
        match self.head.replace(Some(tcb)) {
            Some(second) => {
                tcb.queue_next.set(Some(second));
                second.queue_prev.set(Some(tcb));
            }
            None => {
                tcb.queue_next.set(None);
                self.tail.set(Some(tcb));
            }
        }
    }

    /// Takes the thread at the front.
    pub fn pop(&self) -> Option<Ref<Tcb>> {
        let tcb = self.head.get()?;
        self.head.set(tcb.queue_next.get());
        Some(tcb)
    }

    /// Takes out a thread that is in this queue.
    pub fn remove(&self, tcb: Ref<Tcb>) {
        if self.head.get() == Some(tcb) {
            self.pop();
            return;
        }
        let (previous, next) = (tcb.queue_prev.get(), tcb.queue_next.get());
        if let Some(previous) = previous {
            previous.queue_next.set(next);
        }
        match next {
            Some(next) => next.queue_prev.set(previous),
            None => self.tail.set(previous),
        }
    }

    /// The threads in it.
    pub fn iter(&self) -> impl Iterator<Item = Ref<Tcb>> {
        core::iter::successors(self.head.get(), |tcb| tcb.queue_next.get())
    }
}
