//! A lock for the threads of one component.
//!
//! Threads have fixed priorities, so whoever finds the lock taken must not spin: it sleeps on a Notification
//! until the holder lets go. The runtime names that Notification when the second thread is made; before,
//! nobody contends.
//!
//! A thread that takes a lock which it holds itself would wait for ever: it panics instead.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use abi::CPtr;

/// A lock that holds data.
pub type Mutex<T> = lock_api::Mutex<Lock, T>;

/// What holds the lock while it lives.
pub type MutexGuard<'a, T> = lock_api::MutexGuard<'a, Lock, T>;

/// The lock itself.
#[derive(Debug)]
pub struct Lock {
    state: AtomicU32,
    /// The thread that holds it, by the address of its IPC buffer; 0 for none.
    holder: AtomicUsize,
}

const OPEN: u32 = 0;
const TAKEN: u32 = 1;
/// Taken, and somebody sleeps, or is about to.
const CONTENDED: u32 = 2;

/// Where the component's threads sleep for locks. Shared by all locks: a wake-up for another lock is only a
/// look in vain, and is passed on.
static SLEEP: AtomicU32 = AtomicU32::new(0);

/// Names the Notification that threads sleep on.
pub(crate) fn sleep_on(notification: CPtr) {
    SLEEP.store(notification.0, Ordering::Release);
}

/// Whether one was named.
pub(crate) fn has_sleep() -> bool {
    SLEEP.load(Ordering::Acquire) != 0
}

// SAFETY: `lock` returns only when it has changed the word from OPEN, which one thread at a time can do, and
// only `unlock` sets it to OPEN again.
unsafe impl lock_api::RawMutex for Lock {
    const INIT: Lock = Lock { state: AtomicU32::new(OPEN), holder: AtomicUsize::new(0) };
    type GuardMarker = lock_api::GuardNoSend;

    #[inline]
    fn lock(&self) {
        if !self.try_lock() {
            self.lock_slowly();
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        let taken = self.state.compare_exchange(OPEN, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if taken {
            self.holder.store(me(), Ordering::Relaxed);
        }
        taken
    }

    #[inline]
    unsafe fn unlock(&self) {
        self.holder.store(0, Ordering::Relaxed);
        if self.state.swap(OPEN, Ordering::Release) == CONTENDED {
            wake();
        }
    }
}

impl Lock {
    #[cold]
    fn lock_slowly(&self) {
        // Only this thread has ever written its own name there, and removes it when it lets go.
        let again = self.holder.load(Ordering::Relaxed) == me();
        assert!(!again, "a lock is taken again by the thread that holds it");
        while self.state.swap(CONTENDED, Ordering::Acquire) != OPEN {
            let sleep = CPtr(SLEEP.load(Ordering::Acquire));
            // With a deadline: a wake-up that another lock's sleeper took is made up for.
            let a_while = ipc::wait_until(sleep, crate::clock::now().saturating_add(A_WHILE));
            if a_while.is_err() {
                ipc::yield_now();
            }
        }
        self.holder.store(me(), Ordering::Relaxed);
    }
}

/// The calling thread's name: not 0, and no other thread of the component has it.
fn me() -> usize {
    ipc::buffer::address()
}

/// About a millisecond in TSC ticks.
const A_WHILE: u64 = 1 << 21;

#[cold]
fn wake() {
    // Without a Notification there is no other thread, so nobody sleeps.
    let _ = ipc::signal(CPtr(SLEEP.load(Ordering::Acquire)));
}
