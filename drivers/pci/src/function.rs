//! A function, as its configuration space describes it.

use core::ops::RangeInclusive;

use crate::Bdf;
use crate::bar::{self, Bars};
use crate::capability::{self, Capability, EXPRESS, MSI, MSIX};
use crate::config::{ConfigSpace, change_command, command, offset};
use crate::msi::{self, Msix};
use crate::virtio::{self, Structures};

/// In the capability of PCI Express: device capabilities, and the bit that says "resets by itself" (7.5.3.3).
const DEVICE_CAPABILITIES: u16 = 4;
const CAN_RESET: u32 = 1 << 28;

/// A function.
#[derive(Clone, Debug)]
pub struct Function {
    /// Where it is.
    pub at: Bdf,
    /// Vendor, and device << 16.
    pub identity: u32,
    /// Class code, 24 bits.
    pub class: u32,
    /// It is a bridge to other buses.
    pub bridge: bool,
    /// The buses behind it, if it is a bridge that has some.
    pub behind: Option<RangeInclusive<u8>>,
    /// Its registers.
    pub bars: Bars,
    /// Its registers make sense and have found a place.
    pub usable: bool,
    /// Where its capability of PCI Express is.
    pub express: Option<u16>,
    /// It can be reset by itself.
    pub resets: bool,
    /// Where its capabilities of message-signalled interrupts are.
    pub msix_at: Option<u16>,
    /// The same of the older kind.
    pub msi_at: Option<u16>,
    /// What it says of MSI-X, if that is sound.
    pub msix: Option<Msix>,
    /// Its VirtIO structures.
    pub structures: Structures,
}

impl Function {
    /// Reads what does not change. Sizes of registers, and what lies in them, is still open.
    pub fn read(space: &mut impl ConfigSpace, at: Bdf, bridge: bool) -> Function {
        let capabilities = capability::list(space, at);
        let place = |id| capabilities.iter().find(|each| each.id == id).map(|each| each.offset);
        // Both registers that are used of it lie within the space.
        let express = place(EXPRESS).filter(|offset| *offset <= 0xf4);
        let resets =
            express.is_some_and(|offset| space.read(at, offset + DEVICE_CAPABILITIES) & CAN_RESET != 0);
        Function {
            at,
            identity: space.read(at, offset::IDENTITY),
            class: space.read(at, offset::CLASS) >> 8,
            bridge,
            behind: None,
            bars: bar::read(space, at, bridge),
            usable: true,
            express,
            resets,
            msix_at: place(MSIX).filter(|offset| *offset <= 0xf4),
            msi_at: place(MSI).filter(|offset| *offset <= 0xf0),
            msix: None,
            structures: Structures::new(),
        }
    }

    /// Looks for what lies in its registers, which are placed now.
    pub fn read_structures(&mut self, space: &mut impl ConfigSpace) {
        let capabilities: &[Capability] = &capability::list(space, self.at);
        self.msix = self.msix_at.and_then(|offset| msi::read(space, self.at, offset));
        self.msix = self.msix.filter(|msix| msix.fits(&self.bars));
        if self.is_virtio() {
            self.structures = virtio::structures(space, self.at, capabilities, &self.bars);
        }
    }

    /// Whether it is one of VirtIO's.
    pub fn is_virtio(&self) -> bool {
        virtio::is_virtio(self.identity as u16, (self.identity >> 16) as u16)
    }

    /// Where something in its registers has its physical address.
    pub fn physical(&self, place: msi::Place) -> Option<u64> {
        let bar = self.bars.get(usize::from(place.bar)).copied().flatten()?;
        bar.address.checked_add(u64::from(place.offset)).filter(|_| bar.address != 0)
    }

    /// The physical address of its `device_status`, if it is one of VirtIO's.
    pub fn device_status(&self) -> Option<u64> {
        let common = self.structures.iter().find(|each| each.kind == virtio::COMMON)?;
        self.physical(common.place)?.checked_add(virtio::DEVICE_STATUS)
    }

    /// Finds out the sizes of its registers. What they held must have been noted: for a moment they hold something else.
    pub fn measure(&mut self, space: &mut impl ConfigSpace) {
        change_command(space, self.at, command::MEMORY, 0);
        for place in 0..bar::COUNT {
            let Some(mut bar) = self.bars[place] else { continue };
            match bar::measure(space, self.at, place, &bar) {
                Ok(size) => bar.size = size,
                Err(bar::Unsound) => self.usable = false,
            }
            bar::write(space, self.at, place, &bar);
            self.bars[place] = (bar.size != 0).then_some(bar);
        }
    }

    /// Writes where its registers are. Those that have no place, or do not take it, make it unusable.
    pub fn place(&mut self, space: &mut impl ConfigSpace) {
        for (place, slot) in self.bars.iter_mut().enumerate() {
            let Some(bar) = slot else { continue };
            let taken = bar::holds(space, self.at, place, bar) || bar::write(space, self.at, place, bar);
            if !taken || bar.address == 0 {
                self.usable = false;
                *slot = None;
            }
        }
    }

    /// Has it answer at its addresses, which a reset may have taken from it. Nothing else changes.
    pub fn decode(&self, space: &mut impl ConfigSpace) -> Option<()> {
        if !self.usable {
            return None;
        }
        let mut held = self.placed().all(|(place, bar)| bar::holds(space, self.at, place, bar));
        if !held {
            change_command(space, self.at, command::MEMORY, 0)?;
            let write = |(place, bar): (usize, &bar::Bar)| bar::write(space, self.at, place, bar);
            held = self.placed().map(write).fold(true, |all, one| all & one);
        }
        held.then(|| change_command(space, self.at, 0, command::MEMORY)).flatten().map(|_| ())
    }

    fn placed(&self) -> impl Iterator<Item = (usize, &bar::Bar)> {
        self.bars.iter().enumerate().filter_map(|(place, bar)| Some((place, bar.as_ref()?)))
    }

    /// Keeps it from mastering the bus and from interrupting; `None` if it is gone.
    pub fn quiet(&self, space: &mut impl ConfigSpace) -> Option<()> {
        let after = change_command(space, self.at, command::BUS_MASTER, command::NO_INTX)?;
        self.silence(space);
        (after & command::BUS_MASTER == 0).then_some(())
    }

    /// Keeps it from sending messages.
    pub fn silence(&self, space: &mut impl ConfigSpace) {
        msi::silence(space, self.at, self.msix_at, self.msi_at);
    }

    /// Whether what answers there is this function.
    pub fn is_there(&self, space: &mut impl ConfigSpace) -> bool {
        space.read(self.at, offset::IDENTITY) == self.identity
    }
}
