//! Notifications: a word of sticky bits.

use core::cell::Cell;

use abi::{Error, Kind, MsgInfo, Rights};

use crate::cpu::{Cpu, Held};
use crate::kernel::{Kernel, Step, Stop};
use crate::local::HomeCpu;
use crate::machine::Machine;
use crate::memory::Ref;
use crate::queue::Queue;
use crate::slot::{Flags, Slot};
use crate::tcb::{State, Tcb, key};

/// A Notification: 64 bytes.
#[derive(Debug)]
#[repr(C)]
pub struct Notification {
    /// The bits signalled and not yet taken.
    pub bits: Cell<u64>,
    /// Threads that wait for bits; empty while there are some.
    pub waiters: Queue,
    /// The thread whose receives end with the bits, too.
    pub bound: Cell<Option<Ref<Tcb>>>,
    /// Whose lock protects it.
    pub home: HomeCpu,
}

impl Notification {
    /// Adds a thread to those that wait.
    #[inline(always)]
    pub(crate) fn add_waiter(&self, tcb: Ref<Tcb>) {
        self.home.admit(self.waiters.is_empty(), tcb.cpu());
        self.waiters.push(tcb);
    }

    /// Lets the CPU that has taken all locks to use it need only its own the next time.
    fn rehome(&self, here: &Cpu) {
        if here.held.get() == Held::All && self.waiters.is_empty() {
            let cpu = self.bound.get().map_or(here.number.get(), |bound| bound.cpu());
            self.home.set(cpu as u32);
        }
    }

    /// Takes the bits: the thread bound to it has none to look for any more.
    #[inline(always)]
    pub(crate) fn take_bits(&self) -> u64 {
        if let Some(bound) = self.bound.get() {
            bound.bound_pending.set(false);
        }
        self.bits.take()
    }

    /// Takes the binding back on both sides.
    pub(crate) fn unbind(&self) {
        if let Some(bound) = self.bound.take() {
            bound.bound.set(None);
            bound.bound_pending.set(false);
        }
    }
}

impl<M: Machine> Kernel<M> {
    /// Adds bits and wakes who waits for them. The bits of a signal are its badge; a badge of 0 is bit 0.
    pub fn notify(&self, here: &Cpu, notification: Ref<Notification>, bits: u64) {
        notification.rehome(here);
        notification.bits.set(notification.bits.get() | bits);
        if let Some(waiter) = notification.waiters.pop() {
            self.clear_deadline(waiter);
            waiter.finish_with(notification.take_bits());
            self.ready(here, waiter);
        } else if let Some(bound) = notification.bound.get() {
            bound.bound_pending.set(true);
            if bound.state.get() == State::Receiving {
                self.deliver_bound(here, notification, bound);
            }
        }
    }

    /// Ends the receive of the thread bound to `notification`.
    pub(crate) fn deliver_bound(&self, here: &Cpu, notification: Ref<Notification>, tcb: Ref<Tcb>) {
        self.unblock(here, tcb);
        self.take_bound(tcb, notification);
        self.ready(here, tcb);
    }

    /// Gives a receiving thread the bits of its bound Notification in place of a message.
    pub(crate) fn take_bound(&self, tcb: Ref<Tcb>, notification: Ref<Notification>) {
        tcb.context.rdx.set(0);
        tcb.context.rsi.set(MsgInfo::NOTIFIED);
        tcb.finish_with(notification.take_bits());
    }

    /// wait, poll
    pub(crate) fn wait(&self, here: &Cpu, me: Ref<Tcb>, block: bool) -> Step<()> {
        let info = me.info();
        let deadline =
            if block && info.has_deadline() { me.words().first().copied().unwrap_or(0).max(1) } else { 0 };
        if block && info.0 as u32 as u64 & !MsgInfo::DEADLINE != 0 {
            return Err(Error::InvalidArgument.into());
        }
        let slot = self.find(me, me.context.rdx.get(), Kind::Notification, Rights::READ)?;
        let notification = self.notification_in(slot)?;
        notification.rehome(here);
        if notification.bits.get() != 0 {
            me.finish_with(notification.take_bits());
            return Ok(());
        }
        if !block {
            return Err(Error::WouldBlock.into());
        }
        me.state.set(State::Waiting);
        me.blocked_on.set(notification.address());
        notification.add_waiter(me);
        if deadline != 0 {
            me.set_key(key::DEADLINE, true);
            self.set_deadline(here, me, deadline);
        }
        Err(Stop::Blocked)
    }

    /// Wakes one thread that waits on a Notification being destroyed; whether there was one.
    pub(crate) fn cancel_waiter(&self, here: &Cpu, slot: Ref<Slot>) -> bool {
        slot.mark(Flags::DYING);
        let Ok(notification) = self.notification_in(slot) else { return false };
        notification.unbind();
        let Some(waiter) = notification.waiters.head.get() else { return false };
        self.cancel(here, waiter);
        true
    }
}
