//! What the driver of QEMU's `edu` device does when it is told: calls on the endpoint `edu`. Plain words in registers.
//!
//! The device copies memory into a buffer of its own and back. Its driver passes on whatever address it is told, as a
//! driver that has gone wrong would; so it shows what stops such a driver. All calls are answered at once.

use crate::codes::codes;

codes! {
    /// What is asked: the label of the message.
    Request: u32 = from_label {
        /// About the driver: the words of [`about`].
        About = 1,
        /// Fill the driver's page with word 0, and have the device read it into its buffer.
        Load = 2,
        /// Have the device write the first word 1 bytes (1 to [`BUFFER`]) of its buffer to address word 0, as it sees
        /// addresses.
        Store = 3,
        /// Fill the driver's page with word 0, and nothing else.
        Fill = 4,
        /// Have the device read word 1 bytes at address word 0 into its buffer.
        Fetch = 5,
    }
}

/// Bytes of the device's buffer that are used, and of the driver's page. (The buffer has 4096, but QEMU 7.2 ends itself
/// where a copy ends with it.)
pub const BUFFER: u64 = 2048;

/// Words of the answer to [`Request::About`].
pub mod about {
    /// Not 0 while the device copies.
    pub const COPIES: usize = 0;
    /// Interrupts in this life of the driver.
    pub const INTERRUPTS: usize = 1;
    /// The driver's page, where the device finds it.
    pub const PAGE: usize = 2;
    /// The first word in it, and the last.
    pub const FIRST: usize = 3;
    /// The last.
    pub const LAST: usize = 4;
    /// Not 0 if the device is behind an IOMMU.
    pub const FENCED: usize = 5;
    /// Which life of the driver it is.
    pub const LIFE: usize = 6;
    /// Bus, device and function: 8, 5 and 3 bits.
    pub const ADDRESS: usize = 7;
}

/// The answer's label where all went well.
pub const OK: u32 = 0;

codes! {
    /// The answer's label otherwise.
    Refusal: u32 = from_label {
        /// The device still copies.
        NotNow = 1,
        /// No such request, or no such number of bytes.
        Malformed = 2,
    }
}
