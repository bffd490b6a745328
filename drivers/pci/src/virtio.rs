//! Where the structures of a VirtIO device lie (VirtIO 1.2, 4.1.4).

use heapless::Vec;
use proto::pci::table;

use crate::Bdf;
use crate::bar::Bars;
use crate::capability::{Capability, VENDOR};
use crate::config::ConfigSpace;
use crate::msi::{Place, lies_in};

/// The vendor of all VirtIO devices, and the device identities that they have.
const VIRTIO_VENDOR: u16 = 0x1af4;
const VIRTIO_DEVICES: core::ops::RangeInclusive<u16> = 0x1000..=0x107f;

/// `cfg_type` of the common configuration.
pub const COMMON: u8 = 1;
/// Of the notification structure, which has a multiplier.
const NOTIFY: u8 = 2;
/// Of the device configuration, the last kind that lies in registers.
const DEVICE: u8 = 4;

/// Bytes of the common configuration.
const COMMON_LENGTH: u32 = 56;
/// Its `device_status`.
pub const DEVICE_STATUS: u64 = 0x14;

/// Structures in the table, at most.
pub const MAX_STRUCTURES: usize = 8;

const _: () = assert!(table::REGIONS + 3 * MAX_STRUCTURES <= table::NOTES);

/// A structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Structure {
    /// `cfg_type`.
    pub kind: u8,
    /// Where it begins.
    pub place: Place,
    /// Bytes.
    pub length: u32,
    /// `notify_off_multiplier`.
    pub multiplier: u32,
}

/// Those of a function.
pub type Structures = Vec<Structure, MAX_STRUCTURES>;

/// Whether a function with this vendor and device is one of VirtIO's.
pub fn is_virtio(vendor: u16, device: u16) -> bool {
    vendor == VIRTIO_VENDOR && VIRTIO_DEVICES.contains(&device)
}

/// The first structure of each kind that lies in registers which are there (4.1.4.1: the first that can be used).
pub fn structures(
    space: &mut impl ConfigSpace,
    at: Bdf,
    capabilities: &[Capability],
    bars: &Bars,
) -> Structures {
    let mut found = Structures::new();
    for capability in capabilities.iter().filter(|each| each.id == VENDOR) {
        let Some(structure) = structure(space, at, capability.offset) else { continue };
        let known = found.iter().any(|each| each.kind == structure.kind);
        let large_enough = structure.kind != COMMON || structure.length >= COMMON_LENGTH;
        if !known && large_enough && lies_in(bars, structure.place, u64::from(structure.length)) {
            // There are fewer kinds than places.
            let _ = found.push(structure);
        }
    }
    found
}

fn structure(space: &mut impl ConfigSpace, at: Bdf, capability: u16) -> Option<Structure> {
    let [kind, bar, offset, length] = [0, 4, 8, 12]
        .map(|word| if capability + word < 0x100 { space.read(at, capability + word) } else { 0 });
    let kind = (kind >> 24) as u8;
    if !(COMMON..=DEVICE).contains(&kind) || length == 0 {
        return None;
    }
    let has_multiplier = kind == NOTIFY && capability + 16 < 0x100;
    let multiplier = if has_multiplier { space.read(at, capability + 16) } else { 0 };
    Some(Structure { kind, place: Place { bar: bar as u8, offset }, length, multiplier })
}
