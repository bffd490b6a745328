//! What an operation under one CPU's own lock must leave alone: everything that other locks protect. It is copied
//! before and compared after.

use abi::Kind;
use objects::cpu::Held;
use objects::endpoint::Endpoint;
use objects::notification::Notification;
use objects::reply::Reply;
use objects::sched_context::SchedContext;
use objects::{Cpu, Ref, Slot, Tcb, tree};

use super::World;

/// Bytes that belong to others, as they were.
pub struct Others(Vec<(&'static str, u64, Vec<u8>)>);

fn read(address: u64, size: usize) -> Vec<u8> {
    // SAFETY: the whole of an object of this world, which lives as long; it is made of Cells and words, and no other
    // thread of the test uses it.
    unsafe { core::slice::from_raw_parts(address as *const u8, size) }.to_vec()
}

/// The CPU that an object belongs to; None for all CPUs.
fn owner(slot: Ref<Slot>) -> Option<usize> {
    let object = slot.object.get();
    match slot.kind.get() {
        Kind::Tcb => Some(Ref::<Tcb>::at(object)?.cpu()),
        Kind::SchedContext => Some(Ref::<SchedContext>::at(object)?.cpu.get()),
        Kind::Endpoint => Some(Ref::<Endpoint>::at(object)?.home.get() as usize),
        Kind::Notification => Some(Ref::<Notification>::at(object)?.home.get() as usize),
        Kind::Reply => Some(Ref::<Reply>::at(object)?.server.get()?.cpu()),
        _ => None,
    }
}

fn size(slot: Ref<Slot>) -> (&'static str, usize) {
    match slot.kind.get() {
        Kind::Tcb => ("a thread", size_of::<Tcb>()),
        Kind::SchedContext => ("a SchedContext", size_of::<SchedContext>()),
        Kind::Endpoint => ("an Endpoint", size_of::<Endpoint>()),
        Kind::Notification => ("a Notification", size_of::<Notification>()),
        Kind::Reply => ("a Reply", size_of::<Reply>()),
        Kind::CNode => ("a CNode", (slot.size() as usize) * size_of::<Slot>()),
        _ => ("", 0),
    }
}

impl Others {
    /// Copies what does not belong to `here`.
    pub fn of(world: &World, here: &Cpu) -> Others {
        let mut all =
            vec![("the kernel", core::ptr::from_ref(world.kernel).addr() as u64, size_of_val(world.kernel))];
        for cpu in world.cpus.iter().filter(|cpu| cpu.number.get() != here.number.get()) {
            all.push(("a CPU", core::ptr::from_ref(cpu).addr() as u64, size_of_val(cpu)));
        }
        let mut rest = vec![Ref::of(&world.kernel.universe)];
        while let Some(slot) = rest.pop() {
            rest.extend(tree::children(slot));
            if slot.is_owner() && owner(slot) != Some(here.number.get()) {
                let (what, size) = size(slot);
                all.push((what, slot.object.get(), size));
            }
        }
        Others(all.into_iter().map(|(what, at, size)| (what, at, read(at, size))).collect())
    }

    /// Panics if something of it has changed.
    pub fn check(&self) {
        for (what, at, before) in &self.0 {
            let now = read(*at, before.len());
            let changed = now.iter().zip(before).position(|(now, before)| now != before);
            assert_eq!(changed, None, "{what} that belongs to others has changed, at this byte");
        }
    }
}

impl World {
    /// Takes the lock of `here`, or all if `covered` says that it is not enough. Returns what must not change.
    pub(super) fn take(&self, here: &Cpu, covered: bool) -> Option<Others> {
        if here.held.get() == Held::Alone {
            return None;
        }
        here.held.set(if covered { Held::Own } else { Held::All });
        (covered && self.watched.get()).then(|| Others::of(self, here))
    }

    /// Gives back what [`World::take`] took.
    pub(super) fn give(&self, here: &Cpu, others: Option<Others>) {
        if let Some(others) = others {
            others.check();
        }
        if here.held.get() == Held::All {
            here.held.set(Held::Own);
        }
    }
}
