//! The table of functions (`proto::pci`), a Frame that outlives this component: what it has found out and done.
//!
//! It is also the record by which a life that was ended while it looked around goes on: what base addresses held is noted
//! before they are written to find out their sizes.

use proto::pci::{MAX_FUNCTIONS, Outcome, flags, table};
use ring::Word;

use crate::Bdf;
use crate::bar::{Bar, Bars};
use crate::function::Function;
use crate::msi::{Msix, Place};
use crate::virtio::{self, Structure};

/// Words of the table.
pub const WORDS: usize = (MAX_FUNCTIONS + 1) * table::STRIDE;

/// The notes: three offsets of capabilities in 16 bits each, then two bits for each base address.
const BAR_FLAGS: u32 = 48;

/// The table.
#[derive(Debug)]
pub struct Table<'m, W> {
    words: &'m [W],
}

impl<'m, W: Word> Table<'m, W> {
    /// The table in this memory, if that is large enough.
    pub fn new(words: &'m [W]) -> Option<Table<'m, W>> {
        Some(Table { words: words.get(..WORDS)? })
    }

    /// Whether all functions have been found.
    pub fn is_complete(&self) -> bool {
        self.words[table::COMPLETE].read_acquire() == table::MAGIC
    }

    /// All functions have been found.
    pub fn complete(&self) {
        self.words[table::COMPLETE].write_release(table::MAGIC);
    }

    /// How many functions there are so far.
    pub fn count(&self) -> usize {
        (self.words[table::COUNT].read_acquire() as usize).min(MAX_FUNCTIONS)
    }

    /// Where function `n` is.
    pub fn at(&self, n: usize) -> Bdf {
        Bdf(self.get(n, table::ADDRESS) as u16)
    }

    /// Adds a function behind those that are there, with what its base addresses hold.
    pub fn note(&self, function: &Function) -> Option<()> {
        let n = self.count();
        if n >= MAX_FUNCTIONS {
            return None;
        }
        self.put(n, table::ADDRESS, u64::from(function.at.0));
        self.put_bars(n, &function.bars);
        self.words[table::COUNT].write_release(n as u64 + 1);
        Some(())
    }

    /// Writes what is known of function `n`.
    pub fn write(&self, n: usize, function: &Function) {
        let place = |place: Place| u64::from(place.bar) << 16 | u64::from(place.offset) << 32;
        self.put(n, table::IDENTITY, u64::from(function.identity) | u64::from(function.class) << 32);
        let msix = function
            .msix
            .map_or((0, 0), |msix| (u64::from(msix.vectors) | place(msix.table), place(msix.pending)));
        self.put(n, table::MSIX, msix.0);
        self.put(n, table::PENDING, msix.1);
        let behind = function
            .behind
            .as_ref()
            .map_or(0, |buses| u64::from(*buses.start()) | u64::from(*buses.end()) << 8);
        self.put(n, table::BEHIND, behind);
        self.put_bars(n, &function.bars);
        self.put_notes(n, function);
        for (index, structure) in function.structures.iter().enumerate() {
            self.put_structure(n, table::REGIONS + 3 * index, structure);
        }
        self.put(n, table::FLAGS, flags(function));
    }

    fn put_structure(&self, n: usize, word: usize, structure: &Structure) {
        let Place { bar, offset } = structure.place;
        self.put(n, word, u64::from(structure.kind) | u64::from(bar) << 8);
        self.put(n, word + 1, u64::from(offset) | u64::from(structure.length) << 32);
        self.put(n, word + 2, u64::from(structure.multiplier));
    }

    fn put_bars(&self, n: usize, bars: &Bars) {
        for (place, bar) in bars.iter().enumerate() {
            let (address, size) = bar.map_or((0, 0), |bar| (bar.address, bar.size));
            // No size without its address.
            self.put(n, table::BARS + 2 * place, address);
            self.put(n, table::BARS + 2 * place + 1, size);
        }
    }

    /// What function `n` was found to be. Nothing of it is read from the device, which may be in a reset just now.
    pub fn read(&self, n: usize) -> Function {
        let (flags, identity) = (self.get(n, table::FLAGS), self.get(n, table::IDENTITY));
        let (behind, notes) = (self.get(n, table::BEHIND), self.get(n, table::NOTES));
        let capability = |place: u32| Some((notes >> (16 * place)) as u16).filter(|offset| *offset != 0);
        let (msix, pending) = (self.get(n, table::MSIX), self.get(n, table::PENDING));
        let place = |word: u64| Place { bar: (word >> 16) as u8, offset: (word >> 32) as u32 };
        let msix = Msix { vectors: msix as u16, table: place(msix), pending: place(pending) };
        Function {
            at: self.at(n),
            identity: identity as u32,
            class: (identity >> 32) as u32,
            bridge: flags & flags::BRIDGE != 0,
            behind: (behind != 0).then_some(behind as u8..=(behind >> 8) as u8),
            bars: core::array::from_fn(|place| self.bar(n, place)),
            usable: flags & flags::UNUSABLE == 0,
            express: capability(0),
            resets: flags & flags::RESETS != 0,
            msix_at: capability(1),
            msi_at: capability(2),
            msix: (flags & flags::MSIX != 0).then_some(msix),
            structures: (0..virtio::MAX_STRUCTURES).filter_map(|index| self.structure(n, index)).collect(),
        }
    }

    fn bar(&self, n: usize, place: usize) -> Option<Bar> {
        let [address, size] = [0, 1].map(|word| self.get(n, table::BARS + 2 * place + word));
        let flags = self.get(n, table::NOTES) >> (BAR_FLAGS + 2 * place as u32);
        let bar = Bar { address, size, wide: flags & 1 != 0, prefetchable: flags & 2 != 0 };
        (size != 0).then_some(bar)
    }

    fn put_notes(&self, n: usize, function: &Function) {
        let capabilities = [function.express, function.msix_at, function.msi_at];
        let mut notes = 0;
        for (place, capability) in capabilities.into_iter().enumerate() {
            notes |= u64::from(capability.unwrap_or(0)) << (16 * place);
        }
        for (place, bar) in function.bars.iter().enumerate() {
            let flags = bar.map_or(0, |bar| u64::from(bar.wide) | u64::from(bar.prefetchable) << 1);
            notes |= flags << (BAR_FLAGS + 2 * place as u32);
        }
        self.put(n, table::NOTES, notes);
    }

    /// What was noted of the base addresses of function `n`, for `bars` that were read just now.
    pub fn restore_noted(&self, n: usize, bars: &mut Bars) {
        for (place, bar) in bars.iter_mut().enumerate() {
            if let Some(bar) = bar {
                bar.address = self.get(n, table::BARS + 2 * place);
            }
        }
    }

    fn structure(&self, n: usize, index: usize) -> Option<Structure> {
        let word = table::REGIONS + 3 * index;
        let (what, span) = (self.get(n, word), self.get(n, word + 1));
        let place = Place { bar: (what >> 8) as u8, offset: span as u32 };
        let multiplier = self.get(n, word + 2) as u32;
        let structure = Structure { kind: what as u8, place, length: (span >> 32) as u32, multiplier };
        (structure.kind != 0).then_some(structure)
    }

    /// The number of the last order that function `n` has carried out.
    pub fn done(&self, n: usize) -> u64 {
        self.get(n, table::DONE)
    }

    /// Says that an order has been carried out, and how that went.
    pub fn answer(&self, n: usize, number: u64, outcome: Outcome) {
        self.put(n, table::OUTCOME, outcome as u64);
        self.words[index(n, table::DONE)].write_release(number);
    }

    fn get(&self, n: usize, word: usize) -> u64 {
        self.words[index(n, word)].read()
    }

    fn put(&self, n: usize, word: usize, value: u64) {
        self.words[index(n, word)].write(value);
    }
}

/// Where word `word` of function `n` (below [`MAX_FUNCTIONS`]) is.
fn index(n: usize, word: usize) -> usize {
    (n + 1) * table::STRIDE + word
}

fn flags(function: &Function) -> u64 {
    let bits = [
        (function.resets, flags::RESETS),
        (function.bridge, flags::BRIDGE),
        (function.msix.is_some(), flags::MSIX),
        (function.is_virtio(), flags::VIRTIO),
        (function.msi_at.is_some(), flags::MSI),
        (!function.usable, flags::UNUSABLE),
    ];
    bits.iter().filter(|(is, _)| *is).fold(0, |flags, (_, bit)| flags | bit)
}
