//! The fast path in Rust, check by check and write by write as asm/fastpath.s has it: so that the tests see
//! the slow path meet what the fast one leaves behind.

use abi::{MsgInfo, Syscall};
use objects::cpu::Held;
use objects::endpoint::Endpoint;
use objects::slot::Flags;
use objects::tcb::State;
use objects::{Cpu, Kernel, Ref, Slot, Tcb};

use crate::machine::Fake;
use crate::world::World;

/// Makes the system call of the current thread if it is one of the simple ones.
pub fn take(world: &World, here: &Cpu) -> bool {
    let me = here.thread();
    match Syscall::from_number(me.context.rax.get() as u32) {
        Some(Syscall::call) => call(world, here, me).is_some(),
        Some(Syscall::reply_recv) => reply_recv(world, here, me).is_some(),
        Some(Syscall::signal | Syscall::wait)
            if !world.kernel.bits_are_covered(here, me.context.rdx.get()) =>
        {
            false
        }
        Some(Syscall::signal) => short(world, here, |kernel| kernel.signal_call(here, me.context.rdx.get())),
        Some(Syscall::wait) if me.info().0 == 0 => {
            short(world, here, |kernel| kernel.wait_call(here, me.context.rdx.get()))
        }
        Some(Syscall::yield_now) => short(world, here, |kernel| _ = kernel.yield_call(here)),
        Some(Syscall::nop) => {
            me.context.rax.set(0);
            true
        }
        _ => false,
    }
}

/// The calls that the entry code hands to a function of their own.
fn short(world: &World, here: &Cpu, act: impl Fn(&Kernel<Fake>)) -> bool {
    let root = here.thread().cr3.get();
    world.machine.here.set(here.number.get());
    act(world.kernel);
    world.leave_from(here, root);
    true
}

fn slot(me: Ref<Tcb>, flag: Flags) -> Option<(Ref<Slot>, Ref<Endpoint>)> {
    let cptr = me.context.rdx.get();
    if cptr >= me.cspace_slots.get() {
        return None;
    }
    let slot = Ref::<Slot>::at(me.cspace.get() + 64 * cptr)?;
    slot.flags().contains(flag).then_some((slot, Ref::at(slot.object.get())?))
}

/// Whether the lock of `here` protects the Endpoint.
fn at_home(here: &Cpu, endpoint: Ref<Endpoint>) -> Option<()> {
    let home = endpoint.home.get() as usize;
    (here.held.get() == Held::Alone || home == here.number.get()).then_some(())
}

fn may_switch(here: &Cpu, partner: Ref<Tcb>) -> Option<()> {
    (partner.key.get() as usize == here.number.get() && partner.priority.get() >= here.top.get())
        .then_some(())
}

fn copy(me: Ref<Tcb>, partner: Ref<Tcb>) -> Option<()> {
    let info = me.context.rsi.get();
    let low = u64::from(info as u32);
    if low == 0 {
        return Some(());
    }
    if low & MsgInfo::EXTRA_MASK != low || low > abi::message::BUFFER_WORDS as u64 {
        return None;
    }
    me.ipc_buffer()?.copy_words(partner.ipc_buffer()?, low as usize);
    Some(())
}

fn switch(world: &World, here: &Cpu, from: Ref<Tcb>, to: Ref<Tcb>, badge: u64) {
    to.context.rsi.set(from.context.rsi.get());
    to.set_words(from.words());
    to.context.rax.set(0);
    to.context.rdx.set(badge);
    here.current.set(Some(to));
    if from.cr3.get() != to.cr3.get() {
        world.machine.load_root_on(here.number.get(), to.cr3.get());
    }
}

fn call(world: &World, here: &Cpu, me: Ref<Tcb>) -> Option<()> {
    let (slot, endpoint) = slot(me, Flags::CALLABLE)?;
    at_home(here, endpoint)?;
    let receiver = endpoint.receivers.head.get()?;
    may_switch(here, receiver)?;
    copy(me, receiver)?;
    endpoint.receivers.head.set(receiver.queue_next.get());
    receiver.reply.caller.set(Some(me));
    me.blocked_on.set(receiver.address());
    me.state.set(State::Answer);
    receiver.state.set(State::Ready);
    switch(world, here, me, receiver, slot.badge.get());
    Some(())
}

fn reply_recv(world: &World, here: &Cpu, me: Ref<Tcb>) -> Option<()> {
    let caller = me.reply.caller.get()?;
    may_switch(here, caller)?;
    let (_, endpoint) = slot(me, Flags::RECEIVABLE)?;
    at_home(here, endpoint)?;
    if me.bound_pending.get() || endpoint.senders.get().is_some() || !endpoint.receivers.is_empty() {
        return None;
    }
    copy(me, caller)?;
    endpoint.receivers.head.set(Some(me));
    endpoint.receivers.tail.set(Some(me));
    me.queue_next.set(None);
    me.blocked_on.set(endpoint.address());
    me.reply.caller.set(None);
    me.state.set(State::Receiving);
    caller.state.set(State::Ready);
    switch(world, here, me, caller, 0);
    Some(())
}
