//! Deleting and revoking, in steps of bounded work.
//!
//! Deleting a capability that owns its object first deletes what was derived from it (each a bounded step,
//! none an owner), then takes the object out of everything that knows it, then empties the slot. A CNode can
//! hold capabilities that own further CNodes, or its own: so a dying CNode's capability moves into the grave
//! in its second slot, where it keeps its place in the tree. The thread that deletes has a list of the graves
//! that it opened ([`Graves`]), and empties them one slot at a time, the latest first, before it goes on. A
//! revocation also empties each grave that it meets in the tree. So nobody works for a burial of others. There is
//! no recursion, and everything can give way between two steps: a repeated system call goes on where the last
//! one was, because what is left to do is what is still there.
//!
//! A revocation that gives way must come to an end although others go on deriving from the same subtree: while
//! one is under way, a thread does two of its steps for each capability that it derives ([`Kernel::pace`]), so
//! the subtree shrinks.

use core::cell::Cell;

use abi::Kind;

use crate::cpu::Cpu;
use crate::kernel::{Kernel, Step};
use crate::machine::Machine;
use crate::memory::Ref;
use crate::slot::{Flags, Home, Slot};
use crate::tcb::{State, Tcb};
use crate::tree;

/// Work units of one step of deleting.
const STEP_UNITS: u32 = 20;
/// Steps of a revocation that deriving a capability meanwhile costs.
const PACE_STEPS: u32 = 2;

/// A ring of graves: each dead CNode has a link in its first slot. A thread has a link of its own, the head.
#[derive(Debug)]
#[repr(C)]
pub struct Graves {
    /// The next link; `None` in one that is alone.
    next: Cell<Option<Ref<Graves>>>,
    /// The link before.
    previous: Cell<Option<Ref<Graves>>>,
}

impl Graves {
    /// The latest grave of the ring that has its head here.
    fn first(head: Ref<Graves>) -> Option<Ref<Slot>> {
        let link = head.next.get().filter(|&link| link != head)?;
        Ref::at(link.address().wrapping_add(1 << abi::object::SLOT_BITS))
    }

    /// Makes two rings one, with what follows each link after the other one; of one ring it makes two.
    fn splice(one: Ref<Graves>, other: Ref<Graves>) {
        let [after_one, after_other] = [one, other].map(|link| link.next.get().unwrap_or(link));
        one.next.set(Some(after_other));
        after_other.previous.set(Some(one));
        other.next.set(Some(after_one));
        after_one.previous.set(Some(other));
    }

    /// Takes a link out of its ring.
    fn leave(link: Ref<Graves>) {
        if let Some(previous) = link.previous.get() {
            Graves::splice(previous, link);
        }
    }

    /// The graves of the ring that has its head here, the latest first (for tests and `verify`).
    pub fn iter(head: Ref<Graves>) -> impl Iterator<Item = Ref<Graves>> {
        let next = move |link: &Ref<Graves>| link.next.get().filter(|&next| next != head);
        core::iter::successors(next(&head), next)
    }
}

impl<M: Machine> Kernel<M> {
    /// Deletes the capability in `slot`, and empties the graves that the thread has opened. (On an empty slot,
    /// too: that is how a call that gave way goes on.)
    pub(crate) fn delete(&self, here: &Cpu, slot: Ref<Slot>) -> Step<()> {
        self.burier.set(Some(here.thread()));
        loop {
            let grave = Graves::first(self.graves());
            if grave.is_none() && slot.is_empty() {
                return Ok(());
            }
            self.spend(STEP_UNITS)?;
            match grave {
                Some(grave) => self.empty_grave(here, grave)?,
                None => self.delete_step(here, slot)?,
            }
        }
    }

    /// The head of the ring that new graves join: of the thread that deletes or revokes. Once that has deleted
    /// itself, it is the kernel's own.
    fn graves(&self) -> Ref<Graves> {
        self.burier.get().map_or(Ref::of(&self.graves), |tcb| Ref::of(&tcb.get().graves))
    }

    /// Leaves the graves of a thread that is being destroyed to the one that destroys it.
    pub(crate) fn bequeath_graves(&self, tcb: Ref<Tcb>) {
        if self.burier.get() == Some(tcb) {
            self.burier.set(None);
        }
        if self.revoker.get() == Some(tcb) {
            self.revoking.set(None);
        }
        let head = Ref::of(&tcb.get().graves);
        Graves::splice(self.graves(), head);
        Graves::leave(head);
    }

    /// One step towards an empty `slot`, which holds something.
    fn delete_step(&self, here: &Cpu, slot: Ref<Slot>) -> Step<()> {
        if !slot.is_owner() {
            return self.release(here, slot);
        }
        match slot.first.get() {
            Some(child) => self.release(here, child),
            None => self.destroy(here, slot),
        }
    }

    /// Deletes everything derived from `slot`.
    pub(crate) fn revoke(&self, here: &Cpu, slot: Ref<Slot>) -> Step<()> {
        self.burier.set(Some(here.thread()));
        self.revoking.set(Some(slot));
        self.revoker.set(self.burier.get());
        while self.has_left(slot) {
            self.spend(STEP_UNITS)?;
            self.revoke_step(here, slot)?;
        }
        self.revoking.set(None);
        Ok(())
    }

    /// Whether a revocation of `slot` is not over.
    fn has_left(&self, slot: Ref<Slot>) -> bool {
        slot.first.get().is_some() || Graves::first(self.graves()).is_some()
    }

    fn revoke_step(&self, here: &Cpu, slot: Ref<Slot>) -> Step<()> {
        match (Graves::first(self.graves()), slot.first.get()) {
            (Some(grave), _) => self.empty_grave(here, grave),
            (None, Some(child)) if child.flags().contains(Flags::GRAVE) => self.empty_grave(here, child),
            (None, Some(child)) => self.delete_step(here, child),
            (None, None) => Ok(()),
        }
    }

    /// To be called before so many capabilities are derived, and before anything is looked up for that: helps a
    /// revocation along that has given way, in the name of its thread.
    pub(crate) fn pace(&self, here: &Cpu, capabilities: u32) {
        if self.revoking.get().is_none() {
            return;
        }
        // No more than half of the work, so that the caller comes forward, too.
        let half = self.work.get() / 2;
        self.work.set(half);
        self.burier.set(self.revoker.get());
        for _ in 0..PACE_STEPS.saturating_mul(capabilities) {
            let Some(slot) = self.revoking.get() else { break };
            if self.spend(STEP_UNITS).is_err() || self.revoke_step(here, slot).is_err() {
                break;
            }
            // (The step may have deleted the root itself, and so ended the revocation.)
            if self.revoking.get() == Some(slot) && !self.has_left(slot) {
                self.revoking.set(None);
            }
        }
        self.work.set(half);
    }

    /// Takes a capability out of the tree (its children move up) and empties its slot.
    pub(crate) fn unlink(&self, slot: Ref<Slot>) {
        if self.revoking.get() == Some(slot) {
            self.revoking.set(None);
        }
        tree::remove(slot);
        slot.clear();
    }

    /// Deletes a capability that does not own its object.
    fn release(&self, here: &Cpu, slot: Ref<Slot>) -> Step<()> {
        match slot.home.get() {
            Home::CNode => {}
            Home::ThreadCSpace | Home::ThreadVSpace | Home::ThreadBuffer | Home::ThreadFault => {
                if slot.home.get() == Home::ThreadVSpace
                    && let Some(tcb) = Ref::at(slot.extra.get())
                {
                    self.approach_call(tcb)?;
                }
                self.clear_thread_slot(here, slot);
                return Ok(());
            }
            Home::Donor => {
                // Memory that an address space is built of: the address space goes first.
                if let Some(space) = Ref::at(slot.extra.get()) {
                    self.purge(here, space)?;
                }
            }
            Home::IrqTarget => {}
        }
        if slot.kind.get() == Kind::Frame && slot.home.get() == Home::CNode {
            self.unmap_all(here, slot)?;
        }
        self.unlink(slot);
        Ok(())
    }

    /// Destroys the object that `slot` owns; nothing is derived from it any more.
    fn destroy(&self, here: &Cpu, slot: Ref<Slot>) -> Step<()> {
        match slot.kind.get() {
            Kind::Endpoint if self.cancel_one(here, slot) => return Ok(()),
            Kind::Notification if self.cancel_waiter(here, slot) => return Ok(()),
            Kind::Reply => {
                let reply = self.reply_in(slot)?;
                self.approach(reply)?;
                self.destroy_reply(here, reply);
            }
            Kind::Tcb => {
                let tcb = self.tcb_in(slot)?;
                self.approach_call(tcb)?;
                self.destroy_tcb(here, tcb);
            }
            Kind::SchedContext => {
                let context = self.context_in(slot)?;
                self.approach_owner(context)?;
                self.unbind_context(here, context);
                self.forget_context(context);
            }
            Kind::VSpace | Kind::IoSpace => {
                slot.mark(Flags::DYING);
                self.destroy_space(here, slot)?;
            }
            Kind::Frame => self.unmap_all(here, slot)?,
            Kind::IrqHandler => self.destroy_irq(slot),
            Kind::CNode => {
                self.bury(slot);
                return Ok(());
            }
            _ => {}
        }
        self.unlink(slot);
        Ok(())
    }

    fn destroy_reply(&self, here: &Cpu, reply: Ref<crate::reply::Reply>) {
        self.drop_reply(here, reply);
        let Some(server) = reply.server.take() else { return };
        server.receive_reply.set(None);
        if server.state.get() == State::Receiving {
            // The receive goes on with the thread's own Reply; who waits on that has waited in vain.
            self.drop_reply(here, Ref::of(&server.reply));
            server.set_key(crate::tcb::key::OTHER_REPLY, false);
        }
    }

    /// Moves a dying CNode's capability into its grave.
    fn bury(&self, slot: Ref<Slot>) {
        let cnode = slot.object.get();
        let (Some(link), Some(grave)) = (Ref::at(cnode), self.slot_at(cnode, 1)) else { return };
        self.move_capability(slot, grave);
        grave.mark(Flags::DYING | Flags::GRAVE);
        grave.badge.set(u64::from(abi::object::FIRST_SLOT));
        Graves::splice(self.graves(), link);
    }

    /// One step of emptying a grave; the badge is the next slot to look at.
    fn empty_grave(&self, here: &Cpu, grave: Ref<Slot>) -> Step<()> {
        let mut at = grave.badge.get();
        let end = grave.size();
        // Empty slots are cheap: several to a step.
        for _ in 0..16 {
            let Some(slot) = self.slot_at(grave.object.get(), at).filter(|_| at < end) else {
                if let Some(link) = Ref::at(grave.object.get()) {
                    Graves::leave(link);
                }
                self.unlink(grave);
                return Ok(());
            };
            if !slot.is_empty() {
                return self.delete_step(here, slot);
            }
            at = at.saturating_add(1);
            grave.badge.set(at);
        }
        Ok(())
    }
}
