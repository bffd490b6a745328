//! Access control services (PCIe 5.0, 6.12): what devices send each other goes through the IOMMU, too.

use crate::Bdf;
use crate::capability::{self, ACS};
use crate::config::ConfigSpace;

/// Source validation, request and completion redirection, upstream forwarding.
const WANTED: u32 = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 4;

/// Has a bridge check and send upstream what comes from behind it, as far as it can.
pub fn isolate(space: &mut impl ConfigSpace, bridge: Bdf) {
    let Some(at) = capability::extended(space, bridge, ACS) else { return };
    // The last places of the space are not far enough from its end to be an access control capability.
    let Some(register) = at.checked_add(4).filter(|register| *register < 0x1000) else { return };
    let now = space.read(bridge, register);
    let control = now & WANTED;
    if now >> 16 != control {
        space.write(bridge, register, control << 16);
    }
}
