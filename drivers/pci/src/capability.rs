//! The list of capabilities (PCIe 5.0, 7.5.3 and 7.6.3), which a device may have made a loop of.

use heapless::Vec;

use crate::Bdf;
use crate::config::{ConfigSpace, NOTHING, command, offset};

/// Message-signalled interrupts.
pub const MSI: u8 = 0x05;
/// Vendor-specific: of VirtIO devices, where their structures lie.
pub const VENDOR: u8 = 0x09;
/// PCI Express.
pub const EXPRESS: u8 = 0x10;
/// MSI-X.
pub const MSIX: u8 = 0x11;
/// Extended: access control services.
pub const ACS: u16 = 0x0d;

/// Places for capabilities between the header and the end of the first 256 bytes.
const PLACES: usize = (0x100 - 0x40) / 4;
/// The same between there and the end of the space.
const EXTENDED_PLACES: usize = (0x1000 - 0x100) / 8;

/// A capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// What it is.
    pub id: u8,
    /// Where it begins.
    pub offset: u16,
}

/// The capabilities of a function, in the order of its list, each place once.
pub fn list(space: &mut impl ConfigSpace, at: Bdf) -> Vec<Capability, PLACES> {
    let mut found = Vec::new();
    if space.read(at, offset::COMMAND) & command::CAPABILITIES == 0 {
        return found;
    }
    let mut next = space.read(at, offset::CAPABILITIES);
    // One bit for each place: a list that comes back to one of them has ended.
    let mut seen = 0u64;
    loop {
        let offset = next as u16 & 0xfc;
        let bit = 1 << (offset / 4);
        if offset < 0x40 || seen & bit != 0 {
            return found;
        }
        seen |= bit;
        let head = space.read(at, offset);
        if head == NOTHING || found.push(Capability { id: head as u8, offset }).is_err() {
            return found;
        }
        next = head >> 8;
    }
}

/// Where the extended capability `id` begins.
pub fn extended(space: &mut impl ConfigSpace, at: Bdf, id: u16) -> Option<u16> {
    let mut offset = 0x100;
    for _ in 0..EXTENDED_PLACES {
        let head = space.read(at, offset);
        if head == 0 || head == NOTHING {
            return None;
        }
        if head as u16 == id {
            return Some(offset);
        }
        offset = (head >> 20) as u16 & 0xffc;
        if offset < 0x100 {
            return None;
        }
    }
    None
}
