//! The invariants of the kernel's objects, checked: used by tests and by the fuzzer (System.verify), in builds with
//! the feature `checks`.

use abi::Kind;
use abi::object::FIRST_SLOT;

use crate::delete::Graves;
use crate::endpoint::Endpoint;
use crate::kernel::{Call, Kernel, Outcome, Words};
use crate::local::HomeCpu;
use crate::machine::Machine;
use crate::memory::Ref;
use crate::notification::Notification;
use crate::reply::Reply;
use crate::slot::{Flags, Slot};
use crate::tcb::{State, Tcb};
use crate::tree::{Link, Target};

impl<M: Machine> Kernel<M> {
    /// System.verify
    pub(crate) fn system_verify(&self, _: Call, _: Words) -> Outcome {
        Ok([self.verify(), 0, 0, 0, 0, 0, 0, 0])
    }

    /// Walks the derivation tree and every CNode and thread in it; returns how many capabilities there are.
    ///
    /// # Panics
    /// If an invariant does not hold.
    pub fn verify(&self) -> u64 {
        let universe = Ref::of(&self.universe);
        let mut in_tree: u64 = 0;
        // Slots that are not in CNodes.
        let mut apart: u64 = 0;
        let mut in_cnodes: u64 = 0;
        let mut graves: u64 = 0;
        let mut at = universe;
        while let Some(slot) = next_in_tree(universe, at) {
            in_tree = in_tree.saturating_add(1);
            apart = apart.saturating_add(u64::from(slot.home.get() != crate::slot::Home::CNode));
            graves = graves.saturating_add(u64::from(slot.flags().contains(Flags::GRAVE)));
            self.verify_slot(slot);
            in_cnodes = in_cnodes.saturating_add(self.verify_object(slot));
            at = slot;
        }
        assert_eq!(in_tree, apart.saturating_add(in_cnodes).saturating_add(graves), "a capability is lost");
        self.verify_queues();
        self.verify_devices();
        in_tree
    }

    fn verify_slot(&self, slot: Ref<Slot>) {
        assert!(!slot.is_empty(), "an empty slot is in the tree");
        let sibling = |link: Link| matches!(link.target(), Target::Sibling(_));
        match slot.prev.get().target() {
            Target::None => panic!("a capability has no place in the tree"),
            Target::Sibling(previous) => assert_eq!(previous.next.get().target(), Target::Sibling(slot)),
            Target::Parent(parent) => assert_eq!(parent.first.get(), Some(slot)),
        }
        if !sibling(slot.next.get())
            && let Target::Parent(parent) = slot.next.get().target()
        {
            assert_eq!(parent.last.get(), Some(slot));
            self.verify_child(parent, slot);
        }
        assert_eq!(slot.first.get().is_some(), slot.last.get().is_some());
    }

    /// A child has no more than its parent; what is made of memory lies within it.
    fn verify_child(&self, parent: Ref<Slot>, child: Ref<Slot>) {
        match parent.kind.get() {
            Kind::Null | Kind::IrqControl => {}
            Kind::Untyped => {
                let memory = matches!(child.kind.get(), Kind::Untyped | Kind::Frame);
                let physical =
                    if memory { child.object.get() } else { self.memory.physical(child.object.get()) };
                let start = parent.object.get();
                let inside = physical >= start && physical < start.saturating_add(parent.size());
                assert!(inside, "an object lies outside its Untyped");
            }
            kind => {
                assert_eq!(kind, child.kind.get(), "a capability changed its kind");
                assert!(parent.rights.get().has(child.rights.get()), "rights have grown");
                assert!(!child.is_owner(), "two own one object");
                if kind != Kind::IoPort {
                    assert_eq!(parent.object.get(), child.object.get(), "a capability changed its object");
                }
            }
        }
    }

    /// Counts the capabilities in a CNode that `slot` owns, and checks a thread that it owns.
    fn verify_object(&self, slot: Ref<Slot>) -> u64 {
        if !slot.is_owner() && !slot.flags().contains(Flags::GRAVE) {
            return 0;
        }
        match slot.kind.get() {
            Kind::CNode => (u64::from(FIRST_SLOT)..slot.size())
                .filter_map(|at| self.slot_at(slot.object.get(), at))
                .filter(|slot| !slot.is_empty())
                .count() as u64,
            Kind::Tcb => {
                if let Ok(tcb) = self.tcb_in(slot) {
                    self.verify_thread(tcb);
                }
                0
            }
            _ => 0,
        }
    }

    fn verify_thread(&self, tcb: Ref<Tcb>) {
        for link in Graves::iter(Ref::of(&tcb.get().graves)) {
            let grave = self.slot_at(link.address(), 1);
            assert!(grave.is_some_and(|grave| grave.flags().contains(Flags::GRAVE)), "a grave is none");
        }
        let cpu = self.cpu(tcb.cpu());
        let queued = || cpu.queue(tcb.priority.get()).iter().any(|other| other == tcb);
        let current = self.cpus().any(|cpu| cpu.current.get() == Some(tcb));
        let at_home = |home: &HomeCpu| home.get() == HomeCpu::SHARED || home.get() as usize == tcb.cpu();
        match tcb.state.get() {
            State::Ready if current => {}
            State::Ready => {
                assert_eq!(queued(), tcb.runs_on.get().is_some(), "a ready thread and its queue differ")
            }
            State::Throttled => assert!(tcb.timer.at.get() != 0, "a throttled thread without an end"),
            State::Answer | State::FaultAnswer => {
                let reply = Ref::<Reply>::at(tcb.blocked_on.get());
                let caller = reply.and_then(|reply| reply.caller.get());
                assert_eq!(caller, Some(tcb), "a caller and its reply differ");
            }
            State::Sending | State::Calling | State::Faulting => {
                let on = Ref::<Endpoint>::at(tcb.blocked_on.get());
                assert!(on.is_some_and(|on| at_home(&on.home)), "a sender waits away from its CPU");
                let root = core::iter::successors(Some(tcb), |tcb| tcb.timer.parent.get()).last();
                assert_eq!(on.and_then(|on| on.senders.get()), root, "a sender is lost");
            }
            State::Receiving => {
                let on = Ref::<Endpoint>::at(tcb.blocked_on.get());
                assert!(on.is_some_and(|on| at_home(&on.home)), "a receiver waits away from its CPU");
                assert!(
                    on.is_some_and(|on| on.receivers.iter().any(|other| other == tcb)),
                    "a receiver is lost"
                );
            }
            State::Waiting => {
                let on = Ref::<Notification>::at(tcb.blocked_on.get());
                assert!(on.is_some_and(|on| at_home(&on.home)), "a waiter waits away from its CPU");
                assert!(on.is_some_and(|on| on.waiters.iter().any(|other| other == tcb)), "a waiter is lost");
                assert!(on.is_some_and(|on| on.bits.get() == 0), "a waiter and bits");
            }
            State::Inactive => {}
        }
        if let Some(context) = tcb.sched_context.get() {
            assert_eq!(context.tcb.get(), Some(tcb), "a thread and its SchedContext differ");
        }
        if let Some(bound) = tcb.bound.get() {
            assert_eq!(bound.bound.get(), Some(tcb), "a thread and its Notification differ");
        }
    }

    fn verify_devices(&self) {
        let attached = || self.devices.iter().filter(|device| device.space.get().is_some());
        for device in attached() {
            assert!(device.space.get().is_some_and(|space| space.is_io()), "a device is under no IoSpace");
            let same = attached().filter(|other| other.source.get() == device.source.get());
            assert_eq!(same.count(), 1, "a device is under two IoSpaces");
        }
    }

    fn verify_queues(&self) {
        for cpu in self.cpus() {
            for priority in 0..=u8::MAX {
                for tcb in cpu.queue(priority).iter() {
                    assert_eq!(tcb.state.get(), State::Ready, "a thread in a ready queue is not ready");
                    assert_eq!(tcb.priority.get(), priority);
                    assert!(tcb.runs_on.get().is_some(), "a thread in a ready queue has nothing to run on");
                    assert_eq!(tcb.cpu(), cpu.number.get());
                }
            }
        }
    }
}

/// The slot after `at` in the tree below `root`, parents before children.
fn next_in_tree(root: Ref<Slot>, at: Ref<Slot>) -> Option<Ref<Slot>> {
    if let Some(first) = at.first.get() {
        return Some(first);
    }
    let mut at = at;
    while at != root {
        match at.next.get().target() {
            Target::Sibling(next) => return Some(next),
            Target::Parent(parent) => at = parent,
            Target::None => return None,
        }
    }
    None
}
