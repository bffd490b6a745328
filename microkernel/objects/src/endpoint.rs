//! Synchronous messages: sender and receiver meet at an Endpoint. The slow path; what is common and simple is
//! done by the fast path (microkernel/asm/fastpath.s), which must come to the same result.

use core::cell::Cell;

use abi::message::MAX_CAPS;
use abi::trace::MAX_CPUS;
use abi::{Error, Kind, MsgInfo, Rights};

use crate::cpu::Cpu;
use crate::kernel::{Kernel, Step, Stop};
use crate::local::HomeCpu;
use crate::machine::Machine;
use crate::memory::Ref;
use crate::queue::Queue;
use crate::slot::{Flags, Slot};
use crate::tcb::{State, Tcb, key};
use crate::timer::{self, Heap};

/// An Endpoint: 64 bytes. At most one of the two has threads.
#[derive(Debug)]
#[repr(C)]
pub struct Endpoint {
    /// Threads that wait for a message.
    pub receivers: Queue,
    /// Threads that wait to get rid of one: the most urgent first, and of one priority the first to come. (A sender
    /// has no deadline, so its timer node is free for this.)
    pub senders: Heap,
    /// Senders that have waited so far.
    came: Cell<u64>,
    /// Whose lock protects it.
    pub home: HomeCpu,
}

impl Endpoint {
    fn admit(&self, tcb: Ref<Tcb>) {
        self.home.admit(self.receivers.is_empty() && self.senders.get().is_none(), tcb.cpu());
    }

    /// Adds a thread to the receivers.
    #[inline(always)]
    pub(crate) fn add_receiver(&self, tcb: Ref<Tcb>) {
        self.admit(tcb);
        self.receivers.push(tcb);
    }

    /// Adds a thread to the senders.
    pub(crate) fn add_sender(&self, tcb: Ref<Tcb>) {
        const PRIORITY_SHIFT: u32 = 56;
        self.admit(tcb);
        self.came.set(self.came.get().wrapping_add(1));
        let number = self.came.get() & (1u64 << PRIORITY_SHIFT).wrapping_sub(1);
        timer::insert(&self.senders, tcb, u64::from(!tcb.priority.get()) << PRIORITY_SHIFT | number);
        tcb.blocked_on.set(Ref::address_of(self));
    }

    /// Takes the sender whose turn it is.
    fn take_sender(&self) -> Option<Ref<Tcb>> {
        let tcb = self.senders.get()?;
        timer::remove(&self.senders, tcb);
        Some(tcb)
    }

    /// Takes a receiver: the first on CPU `cpu` among the first `MAX_CPUS`, to which nothing has to be sent from CPU
    /// to CPU, else the first.
    pub(crate) fn take_receiver(&self, cpu: usize) -> Option<Ref<Tcb>> {
        let first = self.receivers.head.get()?;
        let tcb = self.receivers.iter().take(MAX_CPUS).find(|tcb| tcb.cpu() == cpu).unwrap_or(first);
        self.receivers.remove(tcb);
        Some(tcb)
    }
}

/// Work units of taking a thread out of a heap of hundreds, besides those of the step.
const HEAP_UNITS: u32 = 20;

/// How a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// Wait for a receiver, then for the answer.
    Call,
    /// Wait for a receiver.
    Send,
    /// Do not wait.
    Try,
}

impl<M: Machine> Kernel<M> {
    /// call, send, try_send
    pub(crate) fn send(&self, here: &Cpu, me: Ref<Tcb>, sending: Sending) -> Step<()> {
        let info = me.info();
        let cptr = me.context.rdx.get();
        if !info.is_valid() || info.has_deadline() || me.ipc_buffer().is_none() && !info.is_plain() {
            return Err(Error::InvalidArgument.into());
        }
        if info.caps() > 0 {
            self.pace(here, info.caps() as u32);
        }
        let slot = self.slot(me, cptr)?;
        if sending != Sending::Call && slot.kind.get() == Kind::Reply {
            let slot = self.find(me, cptr, Kind::Reply, Rights::WRITE)?;
            let reply = self.reply_in(slot)?;
            self.approach(reply)?;
            self.answer(here, me, reply)?;
            return Ok(());
        }
        let slot = self.find(me, cptr, Kind::Endpoint, Rights::WRITE)?;
        let endpoint = self.endpoint_in(slot)?;
        me.send_badge.set(slot.badge.get());
        me.send_grant.set(slot.rights.get().has(Rights::GRANT));
        if sending == Sending::Try && endpoint.receivers.is_empty() {
            return Err(Error::WouldBlock.into());
        }
        if sending == Sending::Call {
            me.state.set(State::Calling);
        }
        match endpoint.take_receiver(here.number.get()) {
            Some(receiver) => self.meet(here, me, receiver),
            None => {
                if sending == Sending::Send {
                    me.state.set(State::Sending);
                }
                endpoint.add_sender(me);
            }
        }
        if me.state.get() == State::Ready { Ok(()) } else { Err(Stop::Blocked) }
    }

    /// A sender that does not wait meets a receiver that did.
    pub(crate) fn meet(&self, here: &Cpu, sender: Ref<Tcb>, receiver: Ref<Tcb>) {
        self.clear_deadline(receiver);
        receiver.set_key(key::OTHER_REPLY, false);
        self.pass(here, sender, receiver);
        self.ready(here, receiver);
    }

    /// Passes the message, and for a call or fault makes the sender wait for the answer.
    fn pass(&self, here: &Cpu, sender: Ref<Tcb>, receiver: Ref<Tcb>) {
        self.trace(here, abi::trace::Event::Ipc, sender.address(), receiver.address());
        let fault = sender.state.get() == State::Faulting;
        if fault {
            self.transfer_fault(sender, receiver);
        } else {
            self.transfer(sender, receiver, sender.send_badge.get(), sender.send_grant.get());
        }
        if fault || sender.state.get() == State::Calling {
            let reply = receiver.receive_reply.get().unwrap_or_else(|| Ref::of(&receiver.reply));
            self.link_call(here, sender, receiver, reply);
        }
    }

    /// Copies a message from `sender`'s registers and buffer to `receiver`'s.
    pub(crate) fn transfer(&self, sender: Ref<Tcb>, receiver: Ref<Tcb>, badge: u64, grant: bool) {
        let info = sender.info();
        let mut extra = 0;
        let mut caps = 0;
        if let (Some(from), Some(to)) = (sender.ipc_buffer(), receiver.ipc_buffer()) {
            extra = info.extra();
            from.copy_words(to, extra);
            if grant && info.caps() > 0 {
                caps = self.transfer_caps(sender, receiver, info.caps());
            }
        }
        receiver.context.rax.set(0);
        receiver.context.rdx.set(badge);
        receiver.context.rsi.set(MsgInfo::new(info.label(), extra, caps).0);
        receiver.set_words(sender.words());
    }

    /// Derives the capabilities a message carries into the slots the receiver has named; how many arrived.
    fn transfer_caps(&self, sender: Ref<Tcb>, receiver: Ref<Tcb>, count: usize) -> usize {
        let (Some(from), Some(to)) = (sender.ipc_buffer(), receiver.ipc_buffer()) else { return 0 };
        let pairs = from.caps().into_iter().zip(to.receive_slots()).take(count.min(MAX_CAPS));
        let mut arrived: usize = 0;
        for (source, target) in pairs {
            let (Ok(source), Ok(target)) =
                (self.slot(sender, u64::from(source)), self.slot(receiver, u64::from(target)))
            else {
                break;
            };
            if !target.is_empty() || self.derive(source, target, Rights::ALL, 0).is_err() {
                break;
            }
            arrived = arrived.saturating_add(1);
        }
        arrived
    }

    /// recv, try_recv, and the second half of reply_recv; `deadline` 0 for none.
    pub(crate) fn receive(&self, here: &Cpu, me: Ref<Tcb>, block: bool, deadline: u64) -> Step<()> {
        let names = me.context.rdx.get();
        let slot = self.find(me, names & 0xffff_ffff, Kind::Endpoint, Rights::READ)?;
        let endpoint = self.endpoint_in(slot)?;
        let bound = me.bound.get().filter(|bound| bound.bits.get() != 0);
        if !block && endpoint.senders.get().is_none() && bound.is_none() {
            return Err(Error::WouldBlock.into());
        }
        let reply = self.choose_reply(here, me, names >> 32)?;
        if let Some(bound) = bound {
            self.take_bound(me, bound);
            return Ok(());
        }
        if let Some(sender) = endpoint.take_sender() {
            self.pass(here, sender, me);
            if sender.state.get() == State::Sending {
                sender.finish(0);
                self.ready(here, sender);
            }
            return Ok(());
        }
        me.state.set(State::Receiving);
        me.blocked_on.set(endpoint.address());
        me.set_key(key::OTHER_REPLY, reply != Ref::of(&me.reply));
        endpoint.add_receiver(me);
        if deadline != 0 {
            me.set_key(key::DEADLINE, true);
            self.set_deadline(here, me, deadline);
        }
        Err(Stop::Blocked)
    }

    /// Ends whatever `tcb` waits for; its state and status are the caller's to set.
    pub(crate) fn unblock(&self, here: &Cpu, tcb: Ref<Tcb>) {
        let on = tcb.blocked_on.get();
        match tcb.state.get() {
            State::Sending | State::Calling | State::Faulting => {
                if let Some(endpoint) = Ref::<Endpoint>::at(on) {
                    timer::remove(&endpoint.senders, tcb);
                }
            }
            State::Receiving => {
                if let Some(endpoint) = Ref::<Endpoint>::at(on) {
                    endpoint.receivers.remove(tcb);
                }
                self.clear_deadline(tcb);
                tcb.set_key(key::OTHER_REPLY, false);
            }
            State::Waiting => {
                if let Some(notification) = Ref::<crate::notification::Notification>::at(on) {
                    notification.waiters.remove(tcb);
                }
                self.clear_deadline(tcb);
            }
            State::Answer | State::FaultAnswer => {
                if let Some(reply) = Ref::at(on) {
                    self.unlink_call(here, reply);
                }
            }
            State::Inactive | State::Ready | State::Throttled => {}
        }
    }

    /// Wakes one thread that waits on an Endpoint being destroyed; whether there was one.
    pub(crate) fn cancel_one(&self, here: &Cpu, slot: Ref<Slot>) -> bool {
        slot.mark(Flags::DYING);
        let Ok(endpoint) = self.endpoint_in(slot) else { return false };
        let Some(tcb) = endpoint.receivers.head.get().or(endpoint.senders.get()) else { return false };
        if tcb.waits_to_send() {
            self.spent(HEAP_UNITS);
        }
        self.cancel(here, tcb);
        true
    }

    /// Ends a wait with Cancelled; a faulted thread without a handler stays stopped.
    pub(crate) fn cancel(&self, here: &Cpu, tcb: Ref<Tcb>) {
        let faulted = tcb.state.get() == State::Faulting;
        self.unblock(here, tcb);
        if faulted {
            self.repeat_fault(tcb);
            tcb.state.set(State::Inactive);
        } else {
            tcb.finish(Error::Cancelled as u64);
            self.ready(here, tcb);
        }
    }
}
