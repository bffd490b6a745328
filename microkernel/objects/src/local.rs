//! What concerns one CPU alone, and so needs only that CPU's lock (see [`crate::locks`]).
//!
//! | protected by the lock of | what |
//! |---|---|
//! | CPU n | its [`Cpu`] with ready queues and timers; every thread on it with its own Reply; SchedContexts for it; Endpoints and Notifications whose home it is, with the threads in their queues |
//! | all CPUs | capabilities, memory, mappings, interrupts, everything else; changes of a home; moves between CPUs |
//!
//! The rule that makes it hold: every thread in the queue of an object with a home is on that CPU (`verify`
//! checks it). An object becomes the first waiter's; threads of two CPUs make it [`HomeCpu::SHARED`] until it
//! has no waiters. The functions here look before anything is done: each says whether all that an operation
//! could touch is this CPU's. They may read words of other CPUs' threads that change meanwhile, and then only
//! compare a CPU number, which another thread's never is.

use core::sync::atomic::{AtomicU32, Ordering};

use abi::Syscall;

use crate::cpu::{Cpu, Held};
use crate::endpoint::Endpoint;
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::memory::Ref;
use crate::notification::Notification;
use crate::slot::Flags;
use crate::tcb::{State, Tcb, key, slots};

/// A word that other CPUs read while it changes; its writers hold a lock.
#[derive(Debug)]
#[repr(transparent)]
pub struct Watched(AtomicU32);

/// The CPU whose lock protects an object that threads wait on, or [`HomeCpu::SHARED`].
pub type HomeCpu = Watched;

impl Watched {
    /// Of a home: threads of several CPUs wait, and all locks protect the object.
    pub const SHARED: u32 = u32::MAX;

    /// Returns its value.
    #[inline(always)]
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets it.
    #[inline(always)]
    pub fn set(&self, value: u32) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Of a home: prepares for a thread on `cpu` in a queue of the object. `empty`: no thread waits there yet.
    #[inline(always)]
    pub fn admit(&self, empty: bool, cpu: usize) {
        if empty {
            self.set(cpu as u32);
        } else if self.get() != cpu as u32 {
            self.set(HomeCpu::SHARED);
        }
    }
}

/// Returns true if the lock that `here` holds protects what has this home.
fn covers(here: &Cpu, home: &HomeCpu) -> bool {
    here.held.get() != Held::Own || home.get() == here.number.get() as u32
}

/// The same for a thread.
fn covers_thread(here: &Cpu, tcb: Ref<Tcb>) -> bool {
    here.held.get() != Held::Own || tcb.cpu() == here.number.get()
}

/// The home of the object in whose queue `tcb` waits.
fn home_of(tcb: Ref<Tcb>) -> Option<&'static HomeCpu> {
    let on = tcb.blocked_on.get();
    if tcb.state.get() == State::Receiving || tcb.waits_to_send() {
        return Ref::<Endpoint>::at(on).map(|on| &on.get().home);
    }
    let on = Ref::<Notification>::at(on).filter(|_| tcb.state.get() == State::Waiting);
    on.map(|on| &on.get().home)
}

impl<M: Machine> Kernel<M> {
    /// A thread in the queue of an object goes to another CPU: all locks protect that object from now on.
    pub(crate) fn leave_home(&self, tcb: Ref<Tcb>) {
        if let Some(home) = home_of(tcb) {
            home.set(HomeCpu::SHARED);
        }
    }

    /// Returns true if the locks that are held are enough for the system call of the current thread.
    pub fn call_is_covered(&self, here: &Cpu) -> bool {
        if here.held.get() != Held::Own {
            return true;
        }
        let me = here.thread();
        let cptr = me.context.rdx.get();
        let carries = me.info().caps() > 0;
        match Syscall::from_number(me.context.rax.get() as u32) {
            None => self.fault_is_covered(here, me),
            Some(Syscall::nop | Syscall::yield_now) => true,
            Some(Syscall::invoke) => false,
            Some(Syscall::signal | Syscall::wait | Syscall::poll) => self.bits_are_covered(here, cptr),
            Some(Syscall::call | Syscall::send | Syscall::try_send) => {
                !carries && self.send_is_covered(here, cptr)
            }
            Some(Syscall::recv | Syscall::try_recv) => self.receive_is_covered(here, me),
            Some(Syscall::reply) => !carries && self.answer_is_covered(here, me),
            Some(Syscall::reply_recv) => {
                !carries && self.answer_is_covered(here, me) && self.receive_is_covered(here, me)
            }
        }
    }

    /// The Endpoint or Notification that the capability of the current thread names; None: the call is refused.
    fn named<T: crate::memory::Object>(&self, here: &Cpu, cptr: u64, kind: abi::Kind) -> Option<Ref<T>> {
        let slot = self.slot(here.thread(), cptr).ok()?;
        let names = slot.kind.get() == kind && !slot.flags().contains(Flags::DYING);
        names.then(|| Ref::at(slot.object.get())).flatten()
    }

    fn send_is_covered(&self, here: &Cpu, cptr: u64) -> bool {
        // (An answer by a Reply of its own may be for a thread on any CPU.)
        self.named::<Endpoint>(here, cptr, abi::Kind::Endpoint)
            .is_some_and(|endpoint| covers(here, &endpoint.home))
    }

    fn answer_is_covered(&self, here: &Cpu, me: Ref<Tcb>) -> bool {
        me.reply.caller.get().is_none_or(|caller| {
            covers_thread(here, caller)
                && caller.key.get() & key::WALKED == 0
                && (!caller.pending.get() || self.fault_is_covered(here, caller))
        })
    }

    /// A receive touches its Endpoint, the sender it meets, the bound Notification, and the last caller, who is
    /// given up.
    fn receive_is_covered(&self, here: &Cpu, me: Ref<Tcb>) -> bool {
        let names = me.context.rdx.get();
        let plain = names >> 32 == 0 && me.receive_reply.get().is_none();
        let bound = me.bound.get().is_none_or(|bound| covers(here, &bound.home));
        let endpoint = self.named::<Endpoint>(here, names, abi::Kind::Endpoint);
        plain
            && bound
            && self.answer_is_covered(here, me)
            && endpoint.is_some_and(|endpoint| {
                covers(here, &endpoint.home)
                    && endpoint.senders.get().is_none_or(|sender| {
                        sender.state.get() == State::Faulting || sender.info().caps() == 0
                    })
            })
    }

    /// The same for signal, wait and poll on the Notification that `cptr` names.
    pub fn bits_are_covered(&self, here: &Cpu, cptr: u64) -> bool {
        if here.held.get() != Held::Own {
            return true;
        }
        let named = self.named::<Notification>(here, cptr, abi::Kind::Notification);
        named.is_some_and(|notification| {
            covers(here, &notification.home)
                && notification
                    .bound
                    .get()
                    .is_none_or(|tcb| covers_thread(here, tcb) && self.wait_is_covered(here, tcb))
        })
    }

    /// The same for ending the wait of `tcb`, which is on this CPU.
    fn wait_is_covered(&self, here: &Cpu, tcb: Ref<Tcb>) -> bool {
        home_of(tcb).is_none_or(|home| covers(here, home))
    }

    /// The same for the end of a wait or throttling of `tcb`, whose time has come. (Then an exception that is pending
    /// is raised.)
    pub(crate) fn expiry_is_covered(&self, here: &Cpu, tcb: Ref<Tcb>) -> bool {
        self.wait_is_covered(here, tcb) && (!tcb.pending.get() || self.fault_is_covered(here, tcb))
    }

    /// The same for a fault of `tcb`, which is on this CPU.
    pub fn fault_is_covered(&self, here: &Cpu, tcb: Ref<Tcb>) -> bool {
        let handler = tcb.slot(slots::FAULT).filter(|slot| !slot.is_empty());
        handler
            .and_then(|slot| Ref::<Endpoint>::at(slot.object.get()))
            .is_none_or(|endpoint| covers(here, &endpoint.home))
    }
}
