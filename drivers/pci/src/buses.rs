//! Which functions there are, and the numbers of the buses behind bridges (PCIe 5.0, 7.5.1.3).
//!
//! Firmware's numbers are taken where they make sense: a bridge's buses lie within those of the bridge above it, behind
//! its own, and no other bridge has them. So the buses form a tree, whatever bridges say, and looking through it ends. A
//! bridge without such numbers gets one bus, and then all is looked at anew: at any instant the numbers that are
//! written are good ones, and a life that begins there goes on.

use alloc::vec::Vec;
use core::ops::RangeInclusive;

use crate::Bdf;
use crate::config::{ConfigSpace, NOTHING, offset};

/// A function that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub at: Bdf,
    /// It is a bridge to other buses.
    pub bridge: bool,
    /// The buses behind it, if it is a bridge that has some.
    pub behind: Option<RangeInclusive<u8>>,
    /// The bridge that leads to it, as an index of the list it is in.
    pub parent: Option<usize>,
}

/// Devices on a bus, and functions of a device.
const DEVICES: u8 = 32;
const FUNCTIONS: u8 = 8;

/// All functions, after every bridge has got a number if there was one left; a bridge stands before what is behind it.
pub fn settle(space: &mut impl ConfigSpace) -> Vec<Found> {
    let mut tried = Vec::new();
    loop {
        let found = reach(space);
        let without =
            |each: &(usize, &Found)| each.1.bridge && each.1.behind.is_none() && !tried.contains(&each.1.at);
        // The one furthest down first: buses below a bridge can be added as long as nobody has the numbers behind its own.
        let furthest =
            found.iter().enumerate().filter(without).min_by_key(|(_, each)| u8::MAX - each.at.bus());
        let Some((index, bridge)) = furthest else { return found };
        tried.push(bridge.at);
        let buses = number(space, &found, index).map_or(0..=0, |bus| bus..=bus);
        write(space, bridge.at, buses);
    }
}

/// All functions that bridges lead to now.
fn reach(space: &mut impl ConfigSpace) -> Vec<Found> {
    let last = space.buses().clamp(1, 256) - 1;
    let mut found = Vec::new();
    look_at_bus(space, 0, last as u8, None, &mut found);
    let mut next = 0;
    // Buses in the order of their bridges, so that a bridge stands before what is behind it.
    while next < found.len() {
        if let Some(behind) = found[next].behind.clone() {
            look_at_bus(space, *behind.start(), *behind.end(), Some(next), &mut found);
        }
        next += 1;
    }
    found
}

/// Adds the functions on `bus`; behind bridges on it lie buses up to `last`.
fn look_at_bus(
    space: &mut impl ConfigSpace,
    bus: u8,
    last: u8,
    parent: Option<usize>,
    found: &mut Vec<Found>,
) {
    let first = found.len();
    for device in 0..DEVICES {
        for function in 0..FUNCTIONS {
            let at = Bdf::new(bus, device, function);
            if !is_there(space, at) {
                if function == 0 {
                    break;
                }
                continue;
            }
            let header = space.read(at, offset::HEADER) >> 16;
            let bridge = header & 0x7f == 1;
            let behind = if bridge { behind(space, at, last, &found[first..]) } else { None };
            found.push(Found { at, bridge, behind, parent });
            if function == 0 && header & 0x80 == 0 {
                break;
            }
        }
    }
}

/// Whether a function answers there.
pub fn is_there(space: &mut impl ConfigSpace, at: Bdf) -> bool {
    let vendor = space.read(at, offset::IDENTITY) as u16;
    // 0x0001 is what an access is completed with while a device is not ready (PCIe 5.0, 2.3.2), 0 no vendor.
    !matches!(vendor, 0 | 1 | 0xffff)
}

/// The buses behind a bridge, if its numbers make sense beside those of `siblings`.
fn behind(space: &mut impl ConfigSpace, at: Bdf, last: u8, siblings: &[Found]) -> Option<RangeInclusive<u8>> {
    let word = space.read(at, offset::BUSES);
    let (primary, from, to) = (word as u8, (word >> 8) as u8, (word >> 16) as u8);
    let range = from..=to;
    let sound = word != NOTHING && primary == at.bus() && from > at.bus() && from <= to && to <= last;
    (sound && is_free(siblings, &range)).then_some(range)
}

/// None of `siblings` has one of these buses behind it.
fn is_free(siblings: &[Found], range: &RangeInclusive<u8>) -> bool {
    let overlaps = |other: &RangeInclusive<u8>| other.start() <= range.end() && range.start() <= other.end();
    !siblings.iter().filter_map(|each| each.behind.as_ref()).any(overlaps)
}

/// A number for the bus behind `found[index]`, which is made room for.
fn number(space: &mut impl ConfigSpace, found: &[Found], index: usize) -> Option<u8> {
    let bridge = &found[index];
    let siblings: Vec<Found> = found.iter().filter(|each| each.parent == bridge.parent).cloned().collect();
    let last = match bridge.parent {
        Some(parent) => *found[parent].behind.as_ref()?.end(),
        None => (space.buses().clamp(1, 256) - 1) as u8,
    };
    let within = (u16::from(bridge.at.bus()) + 1..=u16::from(last)).map(|bus| bus as u8);
    if let Some(bus) = within.into_iter().find(|bus| is_free(&siblings, &(*bus..=*bus))) {
        return Some(bus);
    }
    extend(space, found, bridge.parent?)
}

/// Gives `found[index]`, a bridge, one bus more at its end, and so those above it that end there.
fn extend(space: &mut impl ConfigSpace, found: &[Found], index: usize) -> Option<u8> {
    let (bridge, behind) = (&found[index], found[index].behind.as_ref()?);
    let bus = behind.end().checked_add(1)?;
    let last = match bridge.parent {
        Some(parent) => *found[parent].behind.as_ref()?.end(),
        None => (space.buses().clamp(1, 256) - 1) as u8,
    };
    if bus > last {
        extend(space, found, bridge.parent?)?;
    }
    let siblings: Vec<Found> = found.iter().filter(|each| each.parent == bridge.parent).cloned().collect();
    if !is_free(&siblings, &(bus..=bus)) {
        return None;
    }
    write(space, bridge.at, *behind.start()..=bus);
    Some(bus)
}

fn write(space: &mut impl ConfigSpace, at: Bdf, buses: RangeInclusive<u8>) {
    let latency = space.read(at, offset::BUSES) & 0xff00_0000;
    let numbers = u32::from(at.bus()) | u32::from(*buses.start()) << 8 | u32::from(*buses.end()) << 16;
    space.write(at, offset::BUSES, latency | numbers);
}
