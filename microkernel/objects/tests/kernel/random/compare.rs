//! Whether the kernel's objects are as the model says.

use abi::Kind;
use objects::memory::Object as InMemory;
use objects::tcb::State;
use objects::{Ref, Slot, tree};

use super::{Run, Watch};
use crate::model::{Id, Object, Place};

impl Run {
    pub(super) fn compare(&self, step: usize) {
        for (&object, thread) in &self.m.threads {
            let tcb = self.w.tcb_at(object);
            let state = if tcb.state.get() == State::Throttled { State::Ready } else { tcb.state.get() };
            assert_eq!(state, thread.state, "thread {object:#x}");
            let found = (tcb.context.rax.get(), tcb.context.rdx.get(), tcb.context.rsi.get(), tcb.words());
            let r = &thread.registers;
            assert_eq!(found, (r.status, r.badge, r.info, r.words), "registers of thread {object:#x}");
        }
        if self.watch != Watch::Loosely || step % 8 == 0 {
            crate::invariants::check(&self.w);
            self.compare_objects();
            self.compare_tree();
            self.compare_spaces();
        }
    }

    fn at<T: InMemory>(&self, object: Object) -> Ref<T> {
        self.w.memory.object(object).unwrap()
    }

    fn compare_objects(&self) {
        let names = |queue: &objects::queue::Queue| -> Vec<Object> {
            queue.iter().map(|tcb| self.physical(tcb)).collect()
        };
        for (&object, endpoint) in &self.m.endpoints {
            let found: Ref<objects::endpoint::Endpoint> = self.at(object);
            let expected = (Vec::from(endpoint.receivers.clone()), Vec::from(endpoint.senders.clone()));
            let senders: Vec<Object> = crate::invariants::in_order(&found.senders)
                .into_iter()
                .map(|tcb| self.physical(tcb))
                .collect();
            assert_eq!((names(&found.receivers), senders), expected);
        }
        for (&object, notification) in &self.m.notifications {
            let found: Ref<objects::notification::Notification> = self.at(object);
            let expected = (notification.bits, Vec::from(notification.waiters.clone()));
            assert_eq!((found.bits.get(), names(&found.waiters)), expected);
            assert_eq!(found.bound.get().map(|tcb| self.physical(tcb)), notification.bound);
        }
        for (&object, reply) in &self.m.replies {
            let found: Ref<objects::reply::Reply> = self.at(object);
            assert_eq!(found.caller.get().map(|tcb| self.physical(tcb)), reply.caller);
            assert_eq!(found.no_grant.get(), reply.no_grant);
        }
        for (&object, &thread) in &self.m.contexts {
            let found: Ref<objects::sched_context::SchedContext> = self.at(object);
            assert_eq!(found.tcb.get().map(|tcb| self.physical(tcb)), thread);
        }
        for (&object, thread) in &self.m.threads {
            assert_eq!(u64::from(self.w.tcb_at(object).priority.get()), thread.priority);
        }
    }

    fn slot(&self, id: Id) -> Option<Ref<Slot>> {
        match self.m.caps[&id].place {
            Place::Slot(cnode, at) => self.at::<Slot>(cnode + 64 * at).into(),
            Place::Thread(thread, at) => self.w.tcb_at(thread).slot(at),
            Place::Universe => Some(Ref::of(&self.w.kernel.universe)),
            Place::Donor(_) | Place::Target(_) | Place::Grave => None,
        }
    }

    fn compare_tree(&self) {
        assert_eq!(self.w.kernel.verify(), self.m.caps.len() as u64 - 1, "the number of capabilities");
        for (&id, cap) in &self.m.caps {
            let Some(slot) = self.slot(id) else { continue };
            let children = tree::children(slot).map(Ref::address);
            let expected = cap.children.iter().map(|&child| self.slot(child).map(Ref::address));
            assert!(children.zip(expected).all(|(found, child)| child.is_none_or(|child| child == found)));
            assert_eq!(tree::children(slot).count(), cap.children.len(), "children of a {:?}", cap.kind);
            let badge = if cap.kind == Kind::Untyped && cap.children.is_empty() {
                slot.badge.get()
            } else {
                cap.badge
            };
            let found = (slot.kind.get(), slot.rights.get().0, slot.badge.get(), u32::from(slot.bits.get()));
            if cap.place != Place::Universe {
                assert_eq!(found, (cap.kind, cap.rights, badge, cap.bits));
            }
        }
    }

    fn compare_spaces(&self) {
        let attached: Vec<u16> = self.w.machine.iommu.devices.borrow().keys().copied().collect();
        assert_eq!(attached, self.m.devices.keys().copied().collect::<Vec<_>>(), "devices under IoSpaces");
        for (&object, space) in &self.m.spaces {
            for (&at, mapping) in &space.pages {
                let found = self.w.walk(object, at).map(|entry| entry & 0x000f_ffff_ffff_f000);
                assert_eq!(found, Some(mapping.physical), "page {at:#x}");
            }
            for at in [0, 0x40_0000, 0x3f_f000, 0x60_1000, 1 << 39, abi::USER_TOP - 0x1000] {
                let expected = space.pages.range(..=at).next_back();
                let expected = expected.is_some_and(|(&start, mapping)| at < start + mapping.size);
                assert_eq!(self.w.walk(object, at).is_some(), expected, "page {at:#x}");
            }
        }
    }
}
