//! Kinds of objects, rights, and the words that name and qualify them.

/// A word of a message or invocation: what arguments and results are made of.
pub trait Word: Copy {
    /// The value as the register holds it.
    fn word(self) -> u64;
}

impl Word for u64 {
    fn word(self) -> u64 {
        self
    }
}

/// A capability pointer: the number of a slot in the holder's CSpace. 0 and 1 never name a capability
/// (a CNode keeps its own header there).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct CPtr(pub u32);

impl CPtr {
    /// Names nothing; where a method says so, it stands for "none".
    pub const NULL: CPtr = CPtr(0);
}

impl Word for CPtr {
    fn word(self) -> u64 {
        u64::from(self.0)
    }
}

/// The first slot of a CNode that can hold a capability.
pub const FIRST_SLOT: u32 = 2;

/// log2 of a slot's size in bytes.
pub const SLOT_BITS: u32 = 6;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal,)*) => {
        /// What a capability is for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Kind { $($(#[doc = $doc])+ $name = $number,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Kind] = &[$(Kind::$name,)*];

            /// The kind with this number.
            pub const fn from_word(word: u64) -> Option<Kind> {
                match word { $($number => Some(Kind::$name),)* _ => None }
            }

            /// The name, as in this table.
            pub const fn name(self) -> &'static str {
                match self { $(Kind::$name => stringify!($name),)* }
            }

            /// What it is, as in this table.
            pub const fn meaning(self) -> &'static str {
                match self { $(Kind::$name => concat!($($doc,)+),)* }
            }
        }
    };
}

kinds! {
    /// Nothing: an empty slot.
    Null = 0,
    /// Physical memory not yet used, 2^bits bytes.
    Untyped = 1,
    /// An array of 2^bits capability slots, of which the first two are its own.
    CNode = 2,
    /// An address space with memory for its tables, 2^bits bytes in all (at least 2^14).
    VSpace = 3,
    /// 2^bits bytes (at least 4096) of memory or device registers.
    Frame = 4,
    /// A thread.
    Tcb = 5,
    /// A budget and a period on one CPU.
    SchedContext = 6,
    /// A place where senders and receivers of messages meet.
    Endpoint = 7,
    /// A word of sticky bits that can be waited for.
    Notification = 8,
    /// The right to answer one call.
    Reply = 9,
    /// The right to make IrqHandlers.
    IrqControl = 10,
    /// One interrupt.
    IrqHandler = 11,
    /// A range of I/O ports.
    IoPort = 12,
    /// The right to give out processor time, and priorities up to the badge.
    SchedControl = 13,
    /// The machine as a whole: log, trace, counters, power.
    System = 14,
    /// What devices reach, with memory for its tables, 2^bits bytes in all (at least 2^14).
    IoSpace = 15,
    /// The right to put devices under IoSpaces.
    IoControl = 16,
}

impl Word for Kind {
    fn word(self) -> u64 {
        self as u64
    }
}

/// What a capability allows. Copies can only have fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Rights(pub u8);

impl Rights {
    /// Receive from an Endpoint; wait on a Notification; map a Frame readable.
    pub const READ: Rights = Rights(1);
    /// Send to or call an Endpoint; signal a Notification; map a Frame writable; every method that changes an object.
    pub const WRITE: Rights = Rights(2);
    /// Send capabilities along with a message, and take them with the answer.
    pub const GRANT: Rights = Rights(4);
    /// Map a Frame executable.
    pub const EXECUTE: Rights = Rights(8);
    /// Of a CNode: the threads whose CSpace it is are told physical addresses. A thread that is not makes no capability
    /// with this right.
    pub const PHYSICAL: Rights = Rights(16);
    /// All of them.
    pub const ALL: Rights = Rights(31);
    /// None.
    pub const NONE: Rights = Rights(0);

    /// Whether every right of `other` is among these.
    pub const fn has(self, other: Rights) -> bool {
        self.0 & other.0 == other.0
    }

    /// These without those of `other`.
    pub const fn without(self, other: Rights) -> Rights {
        Rights(self.0 & !other.0)
    }

    /// The rights that are in both.
    pub const fn and(self, other: Rights) -> Rights {
        Rights(self.0 & other.0)
    }

    /// The rights that are in either.
    pub const fn or(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }
}

impl Word for Rights {
    fn word(self) -> u64 {
        u64::from(self.0)
    }
}

/// How a range is mapped. Writable and executable together are refused (W^X).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct MapFlags(pub u64);

impl MapFlags {
    /// Readable (every mapping is).
    pub const READ: MapFlags = MapFlags(1);
    /// Writable.
    pub const WRITE: MapFlags = MapFlags(2);
    /// Executable.
    pub const EXECUTE: MapFlags = MapFlags(8);
    /// Not cached, for device registers (a device Frame is never mapped cached).
    pub const UNCACHED: MapFlags = MapFlags(16);
    /// Pages of 2 MiB; address, offset and length are multiples of it.
    pub const LARGE: MapFlags = MapFlags(32);
    /// Pages of 1 GiB, likewise.
    pub const HUGE: MapFlags = MapFlags(64);
    /// All bits that mean something.
    pub const ALL: MapFlags = MapFlags(1 | 2 | 8 | 16 | 32 | 64);

    /// Whether every flag of `other` is among these.
    pub const fn has(self, other: MapFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags that are in either.
    pub const fn or(self, other: MapFlags) -> MapFlags {
        MapFlags(self.0 | other.0)
    }
}

impl Word for MapFlags {
    fn word(self) -> u64 {
        self.0
    }
}

/// Bytes in a page.
pub const PAGE_SIZE: u64 = 4096;

/// The first address above what a user program can map: the top page of the lower half is never mapped,
/// so that SYSRET never meets a return address that is not canonical.
pub const USER_TOP: u64 = 0x0000_7fff_ffff_f000;

/// The first address above what an IoSpace maps: within what tables of three levels cover.
pub const IO_TOP: u64 = (1 << 39) - PAGE_SIZE;

/// Where writes of devices are interrupts, whatever is mapped (Intel SDM vol. 3, 11.11.1).
pub const IO_INTERRUPTS: core::ops::Range<u64> = 0xfee0_0000..0xfef0_0000;

/// For `IrqControl.msi`: whatever device.
pub const ANY_SOURCE: u64 = u64::MAX;

/// log2 of the size in bytes of objects of a fixed size; `None` where `bits` says it.
pub const fn fixed_bits(kind: Kind) -> Option<u32> {
    match kind {
        Kind::Endpoint | Kind::Notification | Kind::Reply => Some(6),
        Kind::SchedContext => Some(7),
        Kind::Tcb => Some(11),
        _ => None,
    }
}

/// log2 of the size in bytes of an object of `kind` made with `bits`, or `None` where no such object can be
/// made: the one rule that `retype` and the allocators of user space share.
pub const fn object_bits(kind: Kind, bits: u32) -> Option<u32> {
    match kind {
        Kind::Untyped if bits >= 6 && bits <= 47 => Some(bits),
        Kind::CNode if bits >= 2 && bits <= 24 => Some(bits + SLOT_BITS),
        Kind::VSpace | Kind::IoSpace if bits >= 14 && bits <= 30 => Some(bits),
        Kind::Frame if bits >= 12 && bits <= 47 => Some(bits),
        _ => fixed_bits(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_their_numbers() {
        for &kind in Kind::ALL {
            assert_eq!(Kind::from_word(kind.word()), Some(kind));
        }
        assert_eq!(Kind::from_word(Kind::ALL.len() as u64), None);
    }

    #[test]
    fn rights_shrink_and_never_grow() {
        let some = Rights::READ.or(Rights::GRANT);
        assert!(some.has(Rights::READ) && !some.has(Rights::WRITE));
        assert_eq!(some.and(Rights::WRITE), Rights::NONE);
        assert_eq!(some.and(Rights::ALL), some);
    }
}
