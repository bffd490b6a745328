//! Deleting and revoking, in steps of bounded work.
//!
//! Deleting a capability that owns its object first deletes what was derived from it (each a bounded step,
//! none an owner), then takes the object out of everything that knows it, then empties the slot. A CNode can
//! hold capabilities that own further CNodes, or its own: so a dying CNode's capability moves into the grave
//! in its second slot, where it keeps its place in the tree, and the graves are emptied one slot at a time,
//! the latest first. There is no recursion, and everything can give way between two steps: a repeated system
//! call goes on where the last one was, because what is left to do is what is still there.
//!
//! A revocation that gives way must come to an end although others go on deriving from the same subtree: while
//! one is under way, whoever derives a capability does two of its steps first ([`Kernel::pace`]), so the
//! subtree shrinks faster than it can grow.

use core::cell::Cell;

use abi::Kind;

use crate::cpu::Cpu;
use crate::kernel::{Kernel, Step};
use crate::machine::Machine;
use crate::memory::Ref;
use crate::slot::{Flags, Home, Slot};
use crate::tcb::State;
use crate::tree;

/// Work units of one step of deleting.
const STEP_UNITS: u32 = 20;
/// Steps of a revocation that deriving a capability meanwhile costs.
const PACE_STEPS: usize = 2;

impl<M: Machine> Kernel<M> {
    /// Deletes the capability in `slot`, and empties the graves that this opens. (On an empty slot it empties
    /// what there is: that is how a call that gave way goes on.)
    pub(crate) fn delete(&self, here: &Cpu, slot: Ref<Slot>) -> Step<()> {
        let (empty, graves) = (slot.is_empty(), self.graves.get());
        self.delete_whole(here, slot)?;
        if empty || self.graves.get() != graves {
            while self.graves.get().is_some() {
                self.spend(STEP_UNITS)?;
                self.empty_grave(here)?;
            }
        }
        Ok(())
    }

    fn delete_whole(&self, here: &Cpu, slot: Ref<Slot>) -> Step<()> {
        while !slot.is_empty() {
            self.spend(STEP_UNITS)?;
            self.delete_step(here, slot)?;
        }
        Ok(())
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
        self.revoking.set(Some(slot));
        while slot.first.get().is_some() {
            self.spend(STEP_UNITS)?;
            self.revoke_step(here, slot)?;
        }
        self.revoking.set(None);
        Ok(())
    }

    fn revoke_step(&self, here: &Cpu, slot: Ref<Slot>) -> Step<()> {
        match slot.first.get() {
            Some(child) if child.flags().contains(Flags::GRAVE) => self.empty_grave(here),
            Some(child) => self.delete_step(here, child),
            None => Ok(()),
        }
    }

    /// To be called before anything is derived, and before anything is looked up for that: helps a revocation along that has given way.
    pub(crate) fn pace(&self, here: &Cpu) {
        if self.revoking.get().is_none() {
            return;
        }
        // No more than half of the work, so that the caller comes forward, too.
        let half = self.work.get() / 2;
        self.work.set(half);
        for _ in 0..PACE_STEPS {
            let Some(slot) = self.revoking.get() else { break };
            if self.revoke_step(here, slot).is_err() {
                break;
            }
            // (The step may have deleted the root itself, and so ended the revocation.)
            if self.revoking.get() == Some(slot) && slot.first.get().is_none() {
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
            Kind::Reply => self.destroy_reply(here, self.reply_in(slot)?),
            Kind::Tcb => self.destroy_tcb(here, self.tcb_in(slot)?),
            Kind::SchedContext => {
                let context = self.context_in(slot)?;
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
        let Some(grave) = self.slot_at(slot.object.get(), 1) else { return };
        self.move_capability(slot, grave);
        grave.mark(Flags::DYING | Flags::GRAVE);
        grave.badge.set(u64::from(abi::object::FIRST_SLOT));
        grave.extra.set(self.graves.get().map_or(0, Ref::address));
        self.graves.set(Some(grave));
    }

    /// One step of emptying the latest grave; the badge is the next slot to look at.
    fn empty_grave(&self, here: &Cpu) -> Step<()> {
        let Some(grave) = self.graves.get() else { return Ok(()) };
        let mut at = grave.badge.get();
        let end = grave.size();
        // Empty slots are cheap: several to a step.
        for _ in 0..16 {
            let Some(slot) = self.slot_at(grave.object.get(), at).filter(|_| at < end) else {
                self.graves.set(Ref::at(grave.extra.get()));
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

    /// The grave list, for `verify`.
    pub(crate) fn graves_iter(&self) -> impl Iterator<Item = Ref<Slot>> {
        let next = |grave: &Ref<Slot>| Ref::at(Cell::get(&grave.extra));
        core::iter::successors(self.graves.get(), next)
    }
}
