//! Where registers go: base addresses within the windows of bridges (PCIe 5.0, 7.5.1.3).
//!
//! What firmware has assigned stays if it lies in the windows of the bridge above, begins a page, and shares no page with
//! anything else. What does not is placed anew, the largest first, each at the first hole. A bridge that passes nothing on
//! although something behind it wants to be reached gets a window. A window that is there is not made larger: what it has no
//! room for stays without an address.

use alloc::vec::Vec;
use core::ops::Range;

use crate::Bdf;
use crate::bar::{Bar, PAGE};
use crate::config::{ConfigSpace, offset};
use crate::function::Function;

/// What bridges count memory windows in.
const GRANULE: u64 = 1 << 20;
/// From here on no 32-bit address leads.
const END_OF_LOW: u64 = 1 << 32;
/// Interrupt controllers, IOMMUs and firmware have everything from here to 4 GiB.
pub const END_OF_DEVICES: u64 = 0xfec0_0000;
/// Addresses beyond are none.
const END_OF_ADDRESSES: u64 = 1 << 48;
/// Below lies what PCs always had there.
const FIRST_ADDRESS: u64 = 1 << 20;

/// A range of addresses that leads to a bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The addresses.
    pub range: Range<u64>,
    /// Only what may be read ahead belongs here.
    pub prefetchable: bool,
}

/// Addresses on one bus: what leads there, and what is used.
struct Bus {
    /// Firmware may have used these.
    accepted: Vec<Window>,
    /// New addresses come from these.
    offered: Vec<Window>,
    taken: Vec<Range<u64>>,
}

impl Bus {
    /// Takes `range` if it leads here and nobody has it.
    fn take(&mut self, range: Range<u64>) -> bool {
        let leads = |window: &Window| window.range.start <= range.start && range.end <= window.range.end;
        let sound = range.start < range.end && self.accepted.iter().any(leads);
        let free = !self.taken.iter().any(|other| overlap(other, &range));
        if sound && free {
            self.taken.push(range);
        }
        sound && free
    }

    /// The first hole for `size` bytes, aligned to `alignment`, a power of two.
    fn find(&mut self, size: u64, alignment: u64, wide: bool, prefetchable: bool) -> Option<u64> {
        let fits = |window: &&Window| {
            (prefetchable || !window.prefetchable) && (wide || window.range.end <= END_OF_LOW)
        };
        // The windows that are only for prefetchable ones first.
        let mut windows: Vec<&Window> = self.offered.iter().filter(fits).collect();
        windows.sort_by_key(|window| !window.prefetchable);
        let found = windows.iter().find_map(|window| hole(&window.range, &self.taken, size, alignment))?;
        self.taken.push(found..found + size);
        Some(found)
    }
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

fn hole(window: &Range<u64>, taken: &[Range<u64>], size: u64, alignment: u64) -> Option<u64> {
    let mut from = window.start.checked_next_multiple_of(alignment)?;
    loop {
        let range = from..from.checked_add(size)?;
        if range.end > window.end {
            return None;
        }
        match taken.iter().filter(|other| overlap(other, &range)).map(|other| other.end).max() {
            Some(end) => from = end.checked_next_multiple_of(alignment)?,
            None => return Some(from),
        }
    }
}

/// Gives every base address of `functions` a place, or the address 0. The enhanced configuration area is at `ecam`; new
/// addresses on bus 0 come from behind it. Bridges' windows are written; base addresses are not.
pub fn assign(space: &mut impl ConfigSpace, functions: &mut [Function], ecam: Range<u64>) {
    assign_bus(space, functions, 0, &mut root(ecam));
    // A bus has a higher number than those that lead to it.
    let mut bridges: Vec<(u8, Bdf)> =
        functions.iter().filter_map(|each| Some((*each.behind.as_ref()?.start(), each.at))).collect();
    bridges.sort_unstable();
    for (number, bridge) in bridges {
        let windows = windows(space, bridge);
        let mut bus = Bus { accepted: windows.clone(), offered: windows, taken: Vec::new() };
        assign_bus(space, functions, number, &mut bus);
    }
}

fn root(ecam: Range<u64>) -> Bus {
    let window = |range| Window { range, prefetchable: false };
    let accepted =
        [window(FIRST_ADDRESS..END_OF_DEVICES), window(END_OF_LOW..END_OF_ADDRESSES)].into_iter().collect();
    let offered = [window(ecam.end..END_OF_DEVICES)].into_iter().filter(|window| !window.range.is_empty());
    Bus { accepted, offered: offered.collect(), taken: [ecam].into_iter().collect() }
}

/// Something on a bus that wants an address.
enum Want {
    Bar(usize, usize),
    Window(usize),
}

fn assign_bus(space: &mut impl ConfigSpace, functions: &mut [Function], number: u8, bus: &mut Bus) {
    let here: Vec<usize> =
        (0..functions.len()).filter(|index| functions[*index].at.bus() == number).collect();
    let mut wants = Vec::new();
    for &index in &here {
        keep_window(space, functions, index, bus, &mut wants);
        for (place, bar) in functions[index].bars.iter_mut().enumerate() {
            let Some(bar) = bar else { continue };
            if bar.address % bar.size.max(PAGE) != 0 || !bus.take(bar.pages()) {
                bar.address = 0;
                wants.push((bar.size.max(PAGE), Want::Bar(index, place)));
            }
        }
    }
    wants.sort_by_key(|(size, _)| core::cmp::Reverse(*size));
    for (size, want) in wants {
        match want {
            Want::Bar(index, place) => {
                if let Some(Bar { address, wide, prefetchable, .. }) = &mut functions[index].bars[place] {
                    *address = bus.find(size, size, *wide, *prefetchable).unwrap_or(0);
                }
            }
            Want::Window(index) => {
                let alignment = size.next_power_of_two();
                if let Some(from) = bus.find(size, alignment, false, false) {
                    open(space, functions[index].at, from..from + size);
                }
            }
        }
    }
}

/// Takes the windows of a bridge that are there; wants one if it needs one.
fn keep_window(
    space: &mut impl ConfigSpace,
    functions: &[Function],
    index: usize,
    bus: &mut Bus,
    wants: &mut Vec<(u64, Want)>,
) {
    let Some(behind) = &functions[index].behind else { return };
    let at = functions[index].at;
    let mut kept = false;
    for window in windows(space, at) {
        if bus.take(window.range) {
            kept = true;
        } else {
            close(space, at, window.prefetchable);
        }
    }
    let need = need(functions, *behind.start()).next_multiple_of(GRANULE);
    if !kept && need != 0 {
        wants.push((need, Want::Window(index)));
    }
}

/// Bytes that everything on a bus and behind it takes, in whatever order it is placed.
fn need(functions: &[Function], bus: u8) -> u64 {
    let mut bytes: u64 = 0;
    for function in functions.iter().filter(|each| each.at.bus() == bus) {
        let bars = function.bars.iter().flatten();
        bytes = bars.fold(bytes, |sum, bar| sum.saturating_add(bar.size.max(PAGE)));
        if let Some(behind) = &function.behind {
            let window = need(functions, *behind.start()).next_multiple_of(GRANULE).next_power_of_two();
            bytes = bytes.saturating_add(window);
        }
    }
    bytes.min(END_OF_LOW)
}

/// The windows that a bridge passes on.
pub fn windows(space: &mut impl ConfigSpace, bridge: Bdf) -> Vec<Window> {
    let mut found = Vec::new();
    let memory = space.read(bridge, offset::MEMORY_WINDOW);
    let ahead = space.read(bridge, offset::PREFETCHABLE_WINDOW);
    let (base, limit) = if ahead & 0xf == 1 {
        let upper = |number: u16| offset::PREFETCHABLE_WINDOW + 4 * number;
        (space.read(bridge, upper(1)), space.read(bridge, upper(2)))
    } else {
        (0, 0)
    };
    let low = |word: u32| u64::from(word & 0xfff0) << 16;
    for (word, base, limit, prefetchable) in [(memory, 0, 0, false), (ahead, base, limit, true)] {
        let start = u64::from(base) << 32 | low(word);
        let last = u64::from(limit) << 32 | low(word >> 16) | (GRANULE - 1);
        if start != 0 && start < last && last < END_OF_ADDRESSES {
            found.push(Window { range: start..last + 1, prefetchable });
        }
    }
    found
}

fn open(space: &mut impl ConfigSpace, bridge: Bdf, range: Range<u64>) {
    let half = |address: u64| (address >> 16) as u32 & 0xfff0;
    space.write(bridge, offset::MEMORY_WINDOW, half(range.start) | half(range.end - 1) << 16);
}

/// Has a window pass nothing on: its base lies above its limit.
fn close(space: &mut impl ConfigSpace, bridge: Bdf, prefetchable: bool) {
    if prefetchable {
        space.write(bridge, offset::PREFETCHABLE_WINDOW + 4, u32::MAX);
        space.write(bridge, offset::PREFETCHABLE_WINDOW + 8, 0);
        space.write(bridge, offset::PREFETCHABLE_WINDOW, 0xfff0);
    } else {
        space.write(bridge, offset::MEMORY_WINDOW, 0xfff0);
    }
}
