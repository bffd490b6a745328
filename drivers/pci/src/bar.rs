//! Base addresses (PCIe 5.0, 7.5.1.2.1): what a device answers to.

use core::ops::Range;

use proto::pci::table;

use crate::Bdf;
use crate::config::{ConfigSpace, offset};

/// Base addresses of a function that is no bridge, and of a bridge.
pub const COUNT: usize = 6;
const COUNT_OF_BRIDGE: usize = 2;

const _: () = assert!(table::BARS + 2 * COUNT <= table::REGIONS);

/// Bytes that are mapped as one.
pub const PAGE: u64 = 4096;

/// Larger ones are not believed.
const LARGEST: u64 = 1 << 46;

const PORTS: u32 = 1;
const WIDE: u32 = 0b100;
const PREFETCHABLE: u32 = 0b1000;
const FLAGS: u32 = 0xf;

/// Registers in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Where they begin; 0 if that is still open.
    pub address: u64,
    /// How many bytes, a power of two; 0 if that is still open.
    pub size: u64,
    /// It can lie above 4 GiB, and takes two places.
    pub wide: bool,
    /// Reading it has no side effects.
    pub prefetchable: bool,
}

impl Bar {
    /// The pages it lies in.
    pub fn pages(&self) -> Range<u64> {
        self.address..self.address.saturating_add(self.size.max(PAGE))
    }
}

/// The base addresses of a function, each at its place.
pub type Bars = [Option<Bar>; COUNT];

/// What the base addresses hold now; port ranges are left out. Sizes are 0.
pub fn read(space: &mut impl ConfigSpace, at: Bdf, bridge: bool) -> Bars {
    let mut bars = Bars::default();
    let count = if bridge { COUNT_OF_BRIDGE } else { COUNT };
    let mut place = 0;
    while place < count {
        let low = space.read(at, register(place));
        if low & PORTS == 0 {
            let wide = low & FLAGS & WIDE != 0 && place + 1 < count;
            let high = if wide { space.read(at, register(place + 1)) } else { 0 };
            let address = u64::from(high) << 32 | u64::from(low & !FLAGS);
            bars[place] = Some(Bar { address, size: 0, wide, prefetchable: low & PREFETCHABLE != 0 });
            place += usize::from(wide);
        }
        place += 1;
    }
    bars
}

/// A device answers something that no register can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsound;

/// Finds out the size of the one at `place` (0: there is none) by writing all ones to it. Must be noted before and written
/// afterwards, and the function must not decode memory.
pub fn measure(space: &mut impl ConfigSpace, at: Bdf, place: usize, bar: &Bar) -> Result<u64, Unsound> {
    space.write(at, register(place), !FLAGS);
    let low = space.read(at, register(place));
    let mut mask = u64::from(low & !FLAGS) | u64::from(u32::MAX) << 32;
    if bar.wide {
        space.write(at, register(place + 1), u32::MAX);
        mask = u64::from(low & !FLAGS) | u64::from(space.read(at, register(place + 1))) << 32;
    }
    let none = if bar.wide { mask == 0 } else { low & !FLAGS == 0 };
    let size = mask.wrapping_neg();
    let same = (low & WIDE != 0) == bar.wide && low & PORTS == 0;
    match none {
        true => Ok(0),
        false if same && size.is_power_of_two() && size <= LARGEST => Ok(size),
        false => Err(Unsound),
    }
}

/// Writes an address; whether the device took it.
pub fn write(space: &mut impl ConfigSpace, at: Bdf, place: usize, bar: &Bar) -> bool {
    space.write(at, register(place), bar.address as u32);
    if bar.wide {
        space.write(at, register(place + 1), (bar.address >> 32) as u32);
    }
    holds(space, at, place, bar)
}

/// Whether the device has the address of `bar` at `place`.
pub fn holds(space: &mut impl ConfigSpace, at: Bdf, place: usize, bar: &Bar) -> bool {
    let low = space.read(at, register(place)) & !FLAGS;
    low == bar.address as u32
        && (!bar.wide || space.read(at, register(place + 1)) == (bar.address >> 32) as u32)
}

const fn register(place: usize) -> u16 {
    offset::BARS + 4 * place as u16
}
