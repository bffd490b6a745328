//! Message-signalled interrupts (PCIe 5.0, 6.1.4): MSI-X, and MSI with one message for devices that have only that.
//!
//! Who can write an MSI-X table can have the device write anything anywhere; so it is mapped by this component alone.

use proto::pci::MAX_VECTORS;

use crate::Bdf;
use crate::bar::Bars;
use crate::config::{ConfigSpace, Machine, NOTHING, Register, Width};

/// MSI-X control, in the high half of the first word: on, and all vectors masked.
const ON: u32 = 1 << 31;
const ALL_MASKED: u32 = 1 << 30;
/// MSI control, likewise: on, how many messages, 64-bit addresses.
const MSI_ON: u32 = 1 << 16;
const MSI_MESSAGES: u32 = 0b111 << 20;
const MSI_WIDE: u32 = 1 << 23;

/// Bytes of an entry of the table.
const ENTRY: u64 = 16;
/// Words of an entry.
const ADDRESS: u64 = 0;
const UPPER_ADDRESS: u64 = 4;
const DATA: u64 = 8;
const CONTROL: u64 = 12;
/// Vector control: it sends nothing.
const MASKED: u32 = 1;

/// Something in the registers of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// In which base address.
    pub bar: u8,
    /// From which byte on.
    pub offset: u32,
}

/// What a device says of its MSI-X.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msix {
    /// How many vectors.
    pub vectors: u16,
    /// Where the table is.
    pub table: Place,
    /// Where the pending bits are.
    pub pending: Place,
}

/// The message of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it is written to.
    pub address: u64,
    /// What is written.
    pub data: u32,
}

/// A message for each vector that is to be set up.
pub type Messages = heapless::Vec<Message, MAX_VECTORS>;

/// What the capability at `offset` says.
pub fn read(space: &mut impl ConfigSpace, at: Bdf, offset: u16) -> Option<Msix> {
    let place = |word: u32| Place { bar: word as u8 & 7, offset: word & !7 };
    let vectors = (space.read(at, offset) >> 16 & 0x7ff) as u16 + 1;
    let (table, pending) = (space.read(at, offset.checked_add(4)?), space.read(at, offset.checked_add(8)?));
    (offset <= 0xf4).then_some(Msix { vectors, table: place(table), pending: place(pending) })
}

impl Msix {
    /// Whether table and pending bits lie in registers that are there.
    pub fn fits(&self, bars: &Bars) -> bool {
        let vectors = u64::from(self.vectors);
        lies_in(bars, self.table, vectors * ENTRY) && lies_in(bars, self.pending, vectors.div_ceil(64) * 8)
    }
}

/// Whether `length` bytes from `place` on are in the registers that `bars` say.
pub fn lies_in(bars: &Bars, place: Place, length: u64) -> bool {
    let bar = bars.get(usize::from(place.bar)).copied().flatten();
    bar.is_some_and(|bar| bar.address != 0 && u64::from(place.offset).saturating_add(length) <= bar.size)
}

/// Has the function send no messages, by either way.
pub fn silence(space: &mut impl ConfigSpace, at: Bdf, msix: Option<u16>, msi: Option<u16>) {
    if let Some(offset) = msix {
        let control = space.read(at, offset);
        space.write(at, offset, (control & !ON) | ALL_MASKED);
    }
    if let Some(offset) = msi {
        let control = space.read(at, offset);
        space.write(at, offset, control & !MSI_ON);
    }
}

/// Sets up MSI-X with these messages, all other vectors masked. `slot` is of the Frame with the table, `address` the
/// physical address of it. `None`: the Frame does not hold it, or the device does not.
pub fn set_up(
    machine: &mut impl Machine,
    at: Bdf,
    capability: u16,
    vectors: u16,
    (slot, address): (u32, u64),
    messages: &Messages,
) -> Option<()> {
    let control = machine.read(at, capability);
    machine.write(at, capability, control | ON | ALL_MASKED);
    for vector in 0..u64::from(vectors) {
        let entry = address.checked_add(vector * ENTRY)?;
        let mut set = |word, value| {
            let register = Register { slot, address: entry.checked_add(word)?, width: Width::Word };
            machine.set_register(register, value)
        };
        set(CONTROL, MASKED)?;
        if let Some(message) = messages.get(vector as usize) {
            set(ADDRESS, message.address as u32)?;
            set(UPPER_ADDRESS, (message.address >> 32) as u32)?;
            set(DATA, message.data)?;
            set(CONTROL, 0)?;
        }
    }
    machine.write(at, capability, (control | ON) & !ALL_MASKED);
    let after = machine.read(at, capability);
    (after != NOTHING && after & (ON | ALL_MASKED) == ON).then_some(())
}

/// Sets up MSI with one message.
pub fn set_up_single(space: &mut impl ConfigSpace, at: Bdf, capability: u16, message: Message) -> Option<()> {
    let control = space.read(at, capability) & !(MSI_ON | MSI_MESSAGES);
    let wide = control & MSI_WIDE != 0;
    if !wide && message.address >> 32 != 0 {
        return None;
    }
    let data = if wide { 12 } else { 8 };
    space.write(at, capability, control);
    space.write(at, capability.checked_add(4)?, message.address as u32);
    if wide {
        space.write(at, capability.checked_add(8)?, (message.address >> 32) as u32);
    }
    space.write(at, capability.checked_add(data)?, message.data & 0xffff);
    space.write(at, capability, control | MSI_ON);
    let after = space.read(at, capability);
    (after != NOTHING && after & MSI_ON != 0).then_some(())
}
