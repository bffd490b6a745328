//! Untyped memory: all kernel objects are made from it, so user space pays for each.
//!
//! An Untyped is used from its start on (`badge`: bytes used) and clears memory ahead of use in shares
//! (`extra`: bytes known to be clear beyond that), so that a retype of any size gives way and goes on where it
//! was. When the last child is gone everything is unused again.

use abi::object::object_bits;
use abi::{Error, Kind, Rights};

use crate::kernel::{Call, Kernel, Outcome, Step, Stop, Words};
use crate::machine::Machine;
use crate::memory::{Ref, align_up};
use crate::slot::{Capability, Flags, Slot};
use crate::tcb::Tcb;
use crate::tree;

/// Objects that one retype makes, at most.
const MAX_COUNT: u64 = 64;
/// Of those so many at once while a revocation is under way, which the others help along for each.
pub(crate) const SHARE: u32 = 8;
/// VSpaces and IoSpaces likewise: what each needs cleared is cleared without giving way.
const MAX_SPACES: u64 = 8;
/// Bytes cleared between two looks at the work units (512 stores of 8 bytes).
const CLEAR_SHARE: u64 = 4096;
/// Work units for that.
const CLEAR_UNITS: u32 = 52;

/// Whether it has tables.
fn is_space(kind: Kind) -> bool {
    matches!(kind, Kind::VSpace | Kind::IoSpace)
}

/// The arguments of a retype, checked.
struct Request {
    kind: Kind,
    /// log2 of the bytes of each object.
    size_bits: u32,
    /// What `bits` of the new capabilities says.
    bits: u8,
    /// The first destination slot.
    cnode: u64,
    slot: u64,
    count: u64,
    /// Objects to be made by a repeated call.
    left: u64,
    /// Offset of the first object in the Untyped.
    start: u64,
    /// Offset of the end of the last.
    end: u64,
}

impl<M: Machine> Kernel<M> {
    /// Untyped.retype
    pub(crate) fn untyped_retype(&self, by: Call, args: Words) -> Outcome {
        let request = self.check_retype(by.me, by.slot, args)?;
        self.clear_for(by.slot, &request)?;
        let hidden = if by.me.sees_physical() { Rights::NONE } else { Rights::PHYSICAL };
        for at in 0..request.count {
            let offset = request.start.wrapping_add(at << request.size_bits);
            let Some(target) = self.slot_at(request.cnode, request.slot.wrapping_add(at)) else { continue };
            let physical = by.slot.object.get().wrapping_add(offset);
            self.create(by.slot, target, request.kind, request.bits, physical);
            target.rights.set(target.rights.get().without(hidden));
        }
        by.slot.badge.set(request.end);
        if request.left == 0 {
            return Ok([0; 8]);
        }
        let [_, _, _, slot, count, ..] = &by.me.get().context.words;
        slot.set(slot.get().wrapping_add(request.count));
        count.set(request.left);
        Err(Stop::Preempted)
    }

    fn check_retype(&self, me: Ref<Tcb>, untyped: Ref<Slot>, args: [u64; 8]) -> Step<Request> {
        let [kind, bits, cnode, slot, count, ..] = args;
        let kind = Kind::from_word(kind).ok_or(Error::InvalidArgument)?;
        let bits = u32::try_from(bits).map_err(|_| Error::InvalidArgument)?;
        let size_bits = object_bits(kind, bits).ok_or(Error::InvalidArgument)?;
        let device = untyped.flags().contains(Flags::DEVICE);
        let plain = matches!(kind, Kind::Untyped | Kind::Frame);
        let most = if is_space(kind) { MAX_SPACES } else { MAX_COUNT };
        if device && !plain || count == 0 || count > most {
            return Err(Error::InvalidArgument.into());
        }
        let cnode = self.find(me, cnode, Kind::CNode, Rights::WRITE)?;
        let end_slot = slot.checked_add(count).ok_or(Error::OutOfRange)?;
        if slot < u64::from(abi::object::FIRST_SLOT) || end_slot > cnode.size() {
            return Err(Error::OutOfRange.into());
        }
        for at in slot..end_slot {
            if self.slot_at(cnode.object.get(), at).is_some_and(|slot| !slot.is_empty()) {
                return Err(Error::SlotOccupied.into());
            }
        }
        // (Bytes clear but not used yet are progress of a retype that gave way: they stay.)
        if untyped.first.get().is_none() && untyped.badge.get() != 0 {
            untyped.badge.set(0);
            untyped.extra.set(0);
        }
        let start = align_up(untyped.badge.get(), size_bits).ok_or(Error::OutOfMemory)?;
        let size = count.checked_mul(1 << size_bits).ok_or(Error::OutOfMemory)?;
        start.checked_add(size).filter(|&end| end <= untyped.size()).ok_or(Error::OutOfMemory)?;
        let share = if self.revoking.get().is_some() { count.min(u64::from(SHARE)) } else { count };
        let end = start.wrapping_add(share << size_bits);
        let bits = if plain || is_space(kind) || kind == Kind::CNode { bits as u8 } else { size_bits as u8 };
        Ok(Request {
            kind,
            size_bits,
            bits,
            cnode: cnode.object.get(),
            slot,
            count: share,
            left: count.wrapping_sub(share),
            start,
            end,
        })
    }

    /// Clears what the objects need, a share at a time.
    fn clear_for(&self, untyped: Ref<Slot>, request: &Request) -> Step<()> {
        // Untyped is cleared when it is used in its turn, a VSpace's pool page by page.
        if untyped.flags().contains(Flags::DEVICE) || request.kind == Kind::Untyped {
            untyped.extra.set(untyped.extra.get().max(request.end));
            return Ok(());
        }
        if is_space(request.kind) {
            for at in 0..request.count {
                let offset = request.start.wrapping_add(at << request.size_bits);
                self.memory.clear(untyped.object.get().wrapping_add(offset), crate::space::HEAD_BYTES);
            }
            untyped.extra.set(untyped.extra.get().max(request.end));
            return Ok(());
        }
        let mut clear = untyped.extra.get().max(request.start);
        while clear < request.end {
            let share = CLEAR_SHARE.min(request.end.wrapping_sub(clear));
            self.spend(CLEAR_UNITS)?;
            self.memory.clear(untyped.object.get().wrapping_add(clear), share);
            clear = clear.wrapping_add(share);
            // A gap before the first object is used up now: it was not cleared, and lies below `extra`.
            untyped.badge.set(untyped.badge.get().max(request.start));
            untyped.extra.set(clear);
        }
        Ok(())
    }

    /// Makes an object of 2^`bits` bytes or slots in memory at `physical` that has been cleared for it, and the
    /// capability in `target`, derived from `parent`, that owns it.
    pub(crate) fn create(&self, parent: Ref<Slot>, target: Ref<Slot>, kind: Kind, bits: u8, physical: u64) {
        let address = self.memory.address(physical);
        let plain = matches!(kind, Kind::Untyped | Kind::Frame);
        let mut capability = Capability::whole(kind, if plain { physical } else { address });
        capability.bits = bits;
        capability.flags = parent.flags() & Flags::DEVICE;
        if kind != Kind::Untyped {
            capability.flags |= Flags::OWNER;
        }
        target.fill(capability);
        tree::insert(parent, target);
        match kind {
            Kind::Tcb => {
                if let Some(tcb) = Ref::at(address) {
                    Tcb::init(tcb, self.root.get());
                }
            }
            Kind::VSpace | Kind::IoSpace => self.init_space(kind, physical, bits),
            _ => {}
        }
    }
}
