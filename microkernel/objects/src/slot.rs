//! A slot holds a capability: what it is for, what it allows, and its place in the derivation tree.

use core::cell::Cell;

use abi::{Kind, Rights};
use bitflags::bitflags;

use crate::memory::Ref;
use crate::tree::Link;

bitflags! {
    /// Marks of a capability.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u8 {
        /// Made by `retype` (or by IrqControl): deleting it destroys the object.
        const OWNER = 1;
        /// An Endpoint with WRITE and GRANT: the fast path may call it.
        const CALLABLE = 2;
        /// An Endpoint with READ: the fast path may receive from it.
        const RECEIVABLE = 4;
        /// Device memory: never cleared, never mapped cached.
        const DEVICE = 8;
        /// Its object is being destroyed, step by step: no use any more.
        const DYING = 16;
        /// A dead CNode in its own grave (see `delete`): waits to be emptied.
        const GRAVE = 32;
    }
}

/// Where a slot lies, and so who has to be told when its capability goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Home {
    /// In a CNode: nobody.
    CNode = 0,
    /// In a Tcb (named by `extra`): its CSpace.
    ThreadCSpace = 1,
    /// Its VSpace.
    ThreadVSpace = 2,
    /// The Frame of its IPC buffer.
    ThreadBuffer = 3,
    /// Its fault handler.
    ThreadFault = 4,
    /// In a VSpace or IoSpace (named by `extra`): memory donated to it.
    Donor = 5,
    /// In an IrqHandler or IoSpace: the Notification it signals.
    IrqTarget = 6,
}

/// A capability slot: 64 bytes.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Slot {
    /// The object's address in the window; of Untyped and Frame the physical address of the memory.
    pub object: Cell<u64>,
    /// The badge; of an Untyped the bytes used.
    pub badge: Cell<u64>,
    /// What it is for.
    pub kind: Cell<Kind>,
    /// What it allows.
    pub rights: Cell<Rights>,
    flags: Cell<u8>,
    /// log2 of the size where the kind has one (Untyped, Frame, VSpace, IoSpace: bytes; CNode: slots).
    pub bits: Cell<u8>,
    /// Where the slot lies.
    pub home: Cell<Home>,
    reserved: [u8; 3],
    /// In a CNode: of an Untyped the bytes known to be clear, of a Frame its first mapping record.
    /// Elsewhere the object that the slot lies in.
    pub extra: Cell<u64>,
    /// First child in the derivation tree.
    pub first: Cell<Option<Ref<Slot>>>,
    /// Last child.
    pub last: Cell<Option<Ref<Slot>>>,
    /// Previous sibling, or the parent from the first one.
    pub prev: Cell<Link>,
    /// Next sibling, or the parent from the last one.
    pub next: Cell<Link>,
}

impl Slot {
    /// Its marks.
    pub fn flags(&self) -> Flags {
        Flags::from_bits_retain(self.flags.get())
    }

    /// Adds marks; the fast path does not take it any more.
    pub fn mark(&self, flags: Flags) {
        self.flags.set((self.flags() | flags).difference(Flags::CALLABLE | Flags::RECEIVABLE).bits());
    }

    /// Where the marks lie, for the fast path.
    pub const FLAGS_OFFSET: usize = core::mem::offset_of!(Slot, flags);

    /// Fills an empty slot; the caller puts it into the tree.
    pub fn fill(&self, cap: Capability) {
        let mut flags = cap.flags;
        flags.set(
            Flags::CALLABLE,
            cap.kind == Kind::Endpoint && cap.rights.has(Rights::WRITE.or(Rights::GRANT)),
        );
        flags.set(Flags::RECEIVABLE, cap.kind == Kind::Endpoint && cap.rights.has(Rights::READ));
        self.object.set(cap.object);
        self.badge.set(cap.badge);
        self.kind.set(cap.kind);
        self.rights.set(cap.rights);
        self.flags.set(flags.bits());
        self.bits.set(cap.bits);
    }

    /// What it holds.
    pub fn capability(&self) -> Capability {
        Capability {
            kind: self.kind.get(),
            object: self.object.get(),
            badge: self.badge.get(),
            rights: self.rights.get(),
            bits: self.bits.get(),
            flags: self.flags(),
        }
    }

    /// Empties it; the caller has taken it out of the tree. Where it lies (`home`) stays.
    pub fn clear(&self) {
        self.fill(Capability::NULL);
        if self.home.get() == Home::CNode {
            self.extra.set(0);
        }
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.kind.get() == Kind::Null
    }

    /// Whether deleting it destroys the object.
    pub fn is_owner(&self) -> bool {
        self.flags().contains(Flags::OWNER)
    }

    /// Bytes of an Untyped, Frame or VSpace; slots of a CNode.
    pub fn size(&self) -> u64 {
        1u64.checked_shl(u32::from(self.bits.get())).unwrap_or(0)
    }
}

/// The part of a slot that is copied when a capability is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// What it is for.
    pub kind: Kind,
    /// See [`Slot::object`].
    pub object: u64,
    /// See [`Slot::badge`].
    pub badge: u64,
    /// What it allows.
    pub rights: Rights,
    /// See [`Slot::bits`].
    pub bits: u8,
    /// Its marks.
    pub flags: Flags,
}

impl Capability {
    /// Nothing.
    pub const NULL: Capability = Capability { rights: Rights::NONE, ..Capability::whole(Kind::Null, 0) };

    /// A capability with all rights for an object without size.
    pub const fn whole(kind: Kind, object: u64) -> Capability {
        Capability { kind, object, badge: 0, rights: Rights::ALL, bits: 0, flags: Flags::empty() }
    }
}
