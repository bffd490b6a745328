//! How `pci` and init agree on devices: two pages of words, so that neither ever waits for the other.
//!
//! `pci` finds the functions and says so in its *table*; init says in its *orders* what each function shall be, and
//! `pci` makes it so and writes the order's number beside it. Orders are states, not steps: a `pci` that is started
//! again looks at all of them, does what is not done, and doing it twice does no harm. Each side rings the other's
//! bell after it has written: `pci` signals [`names::INIT_BELL`], init signals `bell::ORDERS` of `pci`. Both Frames are init's and outlive `pci`.
//!
//! The table is the Frame `pci-table` (8 pages), the orders are the Frame `pci-orders` (4 pages, read-only for `pci`).
//! Function n has the words from n times [`table::STRIDE`] or [`orders::STRIDE`] on, behind the header of as many.

use crate::codes::codes;

/// Names of capabilities that `pci` has beside those of every component.
pub mod names {
    /// The Frame with configuration space (ECAM), from the first bus on; missing where the machine has none.
    pub const ECAM: &str = "ecam";
    /// The Frame with the table.
    pub const TABLE: &str = "pci-table";
    /// The Frame with the orders.
    pub const ORDERS: &str = "pci-orders";
    /// The right to signal init: that the table, or an answer in it, is written.
    pub const INIT_BELL: &str = "init-bell";
}

/// Functions in the table, at most.
pub const MAX_FUNCTIONS: usize = 63;
/// Interrupt vectors of a function, at most.
pub const MAX_VECTORS: usize = 8;

/// The table.
pub mod table {
    /// Words for each function, and of the header.
    pub const STRIDE: usize = 64;
    /// Header: [`MAGIC`] once the table is complete.
    pub const COMPLETE: usize = 0;
    /// Header: how many functions there are. They keep their numbers as long as the machine runs.
    pub const COUNT: usize = 1;
    /// What [`COMPLETE`] holds.
    pub const MAGIC: u64 = u64::from_le_bytes(*b"pcitable");

    /// Bus, device, function (8, 5, 3 bits).
    pub const ADDRESS: usize = 0;
    /// Vendor, device << 16, class code (24 bits) << 32.
    pub const IDENTITY: usize = 1;
    /// Bits: see [`super::flags`].
    pub const FLAGS: usize = 2;
    /// MSI-X: vectors, BAR of the table << 16, offset in it << 32.
    pub const MSIX: usize = 3;
    /// The number of the last order that has been carried out.
    pub const DONE: usize = 4;
    /// How that went: [`super::Outcome`].
    pub const OUTCOME: usize = 5;
    /// MSI-X: BAR of the pending bits << 16, offset in it << 32.
    pub const PENDING: usize = 6;
    /// Of a bridge: the first and the last bus behind it (8 bits each); 0 for none.
    pub const BEHIND: usize = 7;
    /// Six pairs of words: address and size in bytes of BAR n; size 0 for none, or for a port range.
    pub const BARS: usize = 8;
    /// Eight VirtIO structures, three words each: kind, BAR << 8; offset, length << 32; multiplier. Kind 0 for none.
    pub const REGIONS: usize = 20;
    /// From here on are notes of `pci` for its next life.
    pub const NOTES: usize = 44;
}

/// Bits of [`table::FLAGS`].
pub mod flags {
    /// The function can be reset by itself (FLR).
    pub const RESETS: u64 = 1;
    /// It is a bridge: orders for it are refused.
    pub const BRIDGE: u64 = 1 << 1;
    /// It has MSI-X.
    pub const MSIX: u64 = 1 << 2;
    /// It is a VirtIO device.
    pub const VIRTIO: u64 = 1 << 3;
    /// It has MSI: one vector, for which no Frame is needed. Used where there is no MSI-X.
    pub const MSI: u64 = 1 << 4;
    /// Its registers make no sense, or there was no place for them: it cannot be `On`.
    pub const UNUSABLE: u64 = 1 << 5;
}

/// The orders.
pub mod orders {
    /// Words for each function, and of the header.
    pub const STRIDE: usize = 32;
    /// The order's number, from 1 on: a new one for each new order. Written last.
    pub const NUMBER: usize = 0;
    /// What the function shall be: a [`super::Wanted`].
    pub const WANTED: usize = 1;
    /// The slots, in `pci`'s CSpace, of the Frame with the MSI-X table (low half; 0 for none), and of the Frame with the
    /// VirtIO common configuration (high half; 0 for none). Where in the Frame they are follows from its physical
    /// address, so it can be the whole BAR or a part of it. Without the latter a VirtIO device is reset as others are,
    /// which takes a tenth of a second.
    pub const FRAMES: usize = 2;
    /// How many MSI-X vectors to set up.
    pub const VECTORS: usize = 3;
    /// Eight pairs of words: address and data of vector n.
    pub const MESSAGES: usize = 4;
}

codes! {
    /// What init wants a function to be.
    Wanted: u64 = from_word {
        /// Stopped: no bus mastering, no interrupts, and reset (by FLR, or as VirtIO has it), so that it has forgotten
        /// every address it was given.
        Off = 1,
        /// Reset as by `Off`, then: registers decoded, MSI-X vectors set up and unmasked, bus mastering on. A function that
        /// was on, and resets itself as VirtIO has it, masters the bus meanwhile, with nothing to do there.
        On = 2,
    }
}

codes! {
    /// How an order went.
    Outcome: u64 = from_word {
        /// It is so.
        Done = 1,
        /// It could not be stopped for certain: what it could reach must not be used for anything else.
        NotStopped = 2,
        /// It does not have what the order asks for.
        Refused = 3,
    }
}
