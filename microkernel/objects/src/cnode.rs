//! CNodes: making, moving and naming capabilities. (Deleting them is in [`crate::delete`].)
//!
//! A CNode is an array of slots. Its second is its grave, its first links that to others (see [`crate::delete`]).

use abi::object::FIRST_SLOT;
use abi::{Error, Kind, Rights};

use crate::kernel::{Call, Kernel, Outcome, Words};
use crate::machine::Machine;
use crate::memory::Ref;
use crate::slot::{Capability, Flags, Slot};
use crate::tree;

impl<M: Machine> Kernel<M> {
    /// Slot `index` of the CNode that `cnode` is for.
    #[inline(always)]
    pub(crate) fn slot_in(&self, cnode: Ref<Slot>, index: u64) -> Result<Ref<Slot>, Error> {
        if index < u64::from(FIRST_SLOT) || index >= cnode.size() {
            return Err(Error::OutOfRange);
        }
        self.slot_at(cnode.object.get(), index).ok_or(Error::OutOfRange)
    }

    /// Source and destination of a mint, copy or move.
    fn pair(&self, by: Call, [to, from_cnode, from]: [u64; 3]) -> Result<(Ref<Slot>, Ref<Slot>), Error> {
        let to = self.slot_in(by.slot, to)?;
        let from_cnode = self.find(by.me, from_cnode, Kind::CNode, Rights::WRITE)?;
        let from = self.slot_in(from_cnode, from)?;
        if from.is_empty() || from.flags().contains(Flags::DYING) {
            return Err(Error::NoCapability);
        }
        if !to.is_empty() {
            return Err(Error::SlotOccupied);
        }
        Ok((from, to))
    }

    /// CNode.mint
    pub(crate) fn cnode_mint(&self, by: Call, [to, from_cnode, from, rights, badge, ..]: Words) -> Outcome {
        if rights > u64::from(Rights::ALL.0) {
            return Err(Error::InvalidArgument.into());
        }
        let (from, to) = self.pair(by, [to, from_cnode, from])?;
        self.derive(from, to, Rights(rights as u8), badge)?;
        Ok([0; 8])
    }

    /// CNode.copy
    pub(crate) fn cnode_copy(&self, by: Call, [to, from_cnode, from, ..]: Words) -> Outcome {
        let (from, to) = self.pair(by, [to, from_cnode, from])?;
        self.derive(from, to, Rights::ALL, 0)?;
        Ok([0; 8])
    }

    /// CNode.relocate
    pub(crate) fn cnode_relocate(&self, by: Call, [to, from_cnode, from, ..]: Words) -> Outcome {
        let (from, to) = self.pair(by, [to, from_cnode, from])?;
        self.move_capability(from, to);
        Ok([0; 8])
    }

    /// Moves a capability into an empty slot, with its place in the tree and what hangs on it.
    pub(crate) fn move_capability(&self, from: Ref<Slot>, to: Ref<Slot>) {
        to.fill(from.capability());
        if from.home.get() == crate::slot::Home::CNode {
            let extra = from.extra.get();
            if to.home.get() == crate::slot::Home::CNode {
                to.extra.set(extra);
            }
        }
        tree::replace(from, to);
        if to.kind.get() == Kind::Frame {
            self.move_records(to);
        }
        if self.revoking.get() == Some(from) {
            self.revoking.set(Some(to));
        }
        from.clear();
    }

    /// Keeps a capability like `from` in the empty own slot `to` of an object.
    pub(crate) fn keep(&self, from: Ref<Slot>, to: Ref<Slot>) {
        let mut capability = from.capability();
        capability.flags.remove(Flags::OWNER);
        to.fill(capability);
        tree::insert(from, to);
    }

    /// Derives a capability from `from` into the empty slot `to`.
    #[inline(always)]
    pub(crate) fn derive(
        &self,
        from: Ref<Slot>,
        to: Ref<Slot>,
        rights: Rights,
        badge: u64,
    ) -> Result<(), Error> {
        let capability = derived(from.capability(), rights, badge)?;
        to.fill(capability);
        tree::insert(from, to);
        Ok(())
    }

    /// CNode.identify
    pub(crate) fn cnode_identify(&self, by: Call, [at, ..]: Words) -> Outcome {
        let slot = self.slot_in(by.slot, at)?;
        let last = match slot.kind.get() {
            Kind::Untyped if slot.first.get().is_none() => slot.size(),
            Kind::Untyped => slot.size().saturating_sub(slot.badge.get()),
            _ => u64::from(slot.first.get().is_some()),
        };
        let badge = if slot.kind.get() == Kind::Untyped { 0 } else { slot.badge.get() };
        let identity = self.identity(slot);
        let identity = if by.me.sees_physical() { identity } else { identity.min(1) };
        let (rights, bits) = (u64::from(slot.rights.get().0), u64::from(slot.bits.get()));
        Ok([slot.kind.get() as u64, bits, rights, badge, identity, last, 0, 0])
    }

    /// A number that is the same for all capabilities to the same object, and 0 for none.
    fn identity(&self, slot: Ref<Slot>) -> u64 {
        match slot.kind.get() {
            Kind::Null => 0,
            Kind::Untyped | Kind::Frame => slot.object.get() | u64::from(slot.bits.get()) << 56,
            Kind::IrqControl | Kind::SchedControl | Kind::System | Kind::IoPort | Kind::IoControl => {
                slot.kind.get() as u64
            }
            _ => self.memory.physical(slot.object.get()),
        }
    }

    /// CNode.delete
    pub(crate) fn cnode_delete(&self, by: Call, [at, ..]: Words) -> Outcome {
        let slot = self.slot_in(by.slot, at)?;
        self.delete(by.here, slot)?;
        Ok([0; 8])
    }

    /// CNode.revoke
    pub(crate) fn cnode_revoke(&self, by: Call, [at, ..]: Words) -> Outcome {
        let slot = self.slot_in(by.slot, at)?;
        if slot.is_empty() || slot.flags().contains(Flags::DYING) {
            return Err(Error::NoCapability.into());
        }
        self.revoke(by.here, slot)?;
        Ok([0; 8])
    }
}

/// What is derived from `from` with at most `rights` and, if it is not 0, `badge`.
fn derived(from: Capability, rights: Rights, badge: u64) -> Result<Capability, Error> {
    if from.flags.contains(Flags::DYING) {
        return Err(Error::NoCapability);
    }
    let mut capability = from;
    capability.rights = from.rights.and(rights);
    capability.flags.remove(Flags::OWNER);
    match from.kind {
        Kind::Null => return Err(Error::NoCapability),
        // Two Untyped capabilities for the same memory would each use it up.
        Kind::Untyped => return Err(Error::Busy),
        Kind::Endpoint | Kind::Notification if badge != 0 => {
            if from.badge != 0 {
                return Err(Error::InvalidArgument);
            }
            capability.badge = badge;
        }
        Kind::SchedControl if badge != 0 => {
            if badge > from.badge {
                return Err(Error::InvalidArgument);
            }
            capability.badge = badge;
        }
        Kind::IoPort if badge != 0 => capability.badge = crate::io_port::narrow(from.badge, badge)?,
        _ if badge != 0 => return Err(Error::InvalidArgument),
        _ => {}
    }
    Ok(capability)
}
