//! What VSpaces and IoSpaces have in common: tables of four levels with memory of their own (SDM vol. 3, 4.5;
//! VT-d specification, 3.7 and 9.8: the bits that matter lie in the same places).
//!
//! A space is 2^bits bytes: its root table, this header, and memory for further tables and mapping records; more
//! can be donated. Each table below the root is a pair of pages: the table, and for each of its entries the
//! [`Record`] of the mapping it belongs to (see [`crate::mapping`]).
//!
//! Pairs that are free lie in runs: the first page of each links to the next run, and says where its own ends.

use core::cell::Cell;

use abi::{Error, Kind, PAGE_SIZE, Rights, USER_TOP};

use crate::cpu::Cpu;
use crate::io_space::Faults;
use crate::kernel::{Call, Kernel, Outcome, Step, Stop, Words};
use crate::machine::Machine;
use crate::mapping::Record;
use crate::memory::{Ref, Table};
use crate::slot::{Flags, Home, Slot};
use crate::tree;

/// Bytes at the start of a space that must be clear: root table and header.
pub const HEAD_BYTES: u64 = 2 * PAGE_SIZE;
/// Bytes of a table with its records, and of a page pair of records.
pub(crate) const PAIR: u64 = 2 * PAGE_SIZE;
/// Untypeds that can be donated.
const DONORS: usize = 16;

/// Bits of a table entry.
pub(crate) mod entry {
    pub const PRESENT: u64 = 1;
    pub const WRITE: u64 = 1 << 1;
    pub const USER: u64 = 1 << 2;
    pub const WRITE_THROUGH: u64 = 1 << 3;
    pub const NO_CACHE: u64 = 1 << 4;
    pub const LEAF: u64 = 1 << 7;
    pub const NO_EXECUTE: u64 = 1 << 63;
    pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
    /// What the tables of an IoSpace know (VT-d specification, 9.8).
    pub const IO: u64 = ADDRESS | PRESENT | WRITE;
    /// What protect may change.
    pub const ACCESS: u64 = WRITE | NO_EXECUTE;
}

/// Header of a space, in its second page.
#[derive(Debug)]
#[repr(C)]
pub struct Space {
    /// Physical address of the root table.
    pub root: Cell<u64>,
    /// The first run of free pairs, physical; 0 for none.
    free_pairs: Cell<u64>,
    /// Pairs in all runs.
    pub(crate) pairs_left: Cell<u64>,
    /// Records that are free, linked by `next`.
    pub(crate) free_records: Cell<Option<Ref<Record>>>,
    /// How far a purge has come.
    purged: Cell<u64>,
    /// Whether devices use it, not threads.
    io: Cell<bool>,
    /// What was stopped of its devices.
    pub(crate) faults: Faults,
    /// Untypeds donated.
    donors: [Slot; DONORS],
}

const _: () = assert!(core::mem::size_of::<Space>() <= PAGE_SIZE as usize);

/// A leaf entry: its table, index and level (0: 4 KiB, 1: 2 MiB, 2: 1 GiB).
pub(crate) struct Leaf {
    pub table: Ref<Table>,
    pub index: usize,
    pub level: u32,
}

/// log2 of the bytes an entry of a table at `level` covers.
pub(crate) const fn level_bits(level: u32) -> u32 {
    9u32.wrapping_mul(level).wrapping_add(12)
}

/// Bytes an entry at `level` covers.
pub(crate) const fn level_size(level: u32) -> u64 {
    1 << level_bits(level)
}

/// Where `address` is in a table at `level`.
pub(crate) fn index(address: u64, level: u32) -> usize {
    (address >> level_bits(level)) as usize & 511
}

/// An entry of a table.
#[inline(always)]
pub(crate) fn get(table: Ref<Table>, index: usize) -> &'static Cell<u64> {
    table.get().get(index & 511).unwrap_or_else(|| unreachable!("a table has 512 entries"))
}

impl Space {
    fn donor(&self) -> Option<Ref<Slot>> {
        self.donors.iter().find(|slot| slot.is_empty()).map(Ref::of)
    }

    fn is_purged(&self) -> bool {
        self.purged.get() >= USER_TOP
    }

    /// Whether memory that it is made of is being taken away, or has been.
    pub(crate) fn is_closed(&self) -> bool {
        self.purged.get() != 0
    }

    /// Whether it is an IoSpace.
    pub fn is_io(&self) -> bool {
        self.io.get()
    }
}

impl<M: Machine> Kernel<M> {
    /// The header of the VSpace or IoSpace that `slot` is for.
    pub fn space_in(&self, slot: Ref<Slot>) -> Result<Ref<Space>, Error> {
        Ref::at(slot.object.get().wrapping_add(PAGE_SIZE)).ok_or(Error::NoCapability)
    }

    /// Prepares a space of 2^`bits` bytes whose first two pages are clear.
    pub(crate) fn init_space(&self, kind: Kind, physical: u64, bits: u8) {
        let (Some(root), Some(space)) = (
            self.memory.object::<Table>(physical),
            self.memory.object::<Space>(physical.wrapping_add(PAGE_SIZE)),
        ) else {
            return;
        };
        space.io.set(kind == Kind::IoSpace);
        if kind == Kind::VSpace {
            for (at, kernel) in [256, 511].into_iter().zip(&self.kernel_entries) {
                get(root, at).set(kernel.get());
            }
        }
        space.root.set(physical);
        self.give_pairs(space, physical.wrapping_add(HEAD_BYTES), physical.wrapping_add(1 << bits));
        space.faults.target.home.set(Home::IrqTarget);
        for slot in &space.donors {
            slot.home.set(Home::Donor);
            slot.extra.set(space.address());
        }
    }

    /// Adds a run of pairs.
    fn give_pairs(&self, space: Ref<Space>, start: u64, end: u64) {
        if let Some(run) = self.memory.object::<Table>(start).filter(|_| start != end) {
            get(run, 0).set(space.free_pairs.replace(start));
            get(run, 1).set(end);
            let pairs = end.wrapping_sub(start) / PAIR;
            space.pairs_left.set(space.pairs_left.get().saturating_add(pairs));
        }
    }

    pub(crate) fn take_pair(&self, space: Ref<Space>) -> Result<u64, Error> {
        let pair = space.free_pairs.get();
        let run = self.memory.object::<Table>(pair).filter(|_| pair != 0).ok_or(Error::OutOfTables)?;
        let (next, end) = (get(run, 0).get(), get(run, 1).get());
        let pairs = end.wrapping_sub(pair) / PAIR;
        space.free_pairs.set(next);
        space.pairs_left.set(space.pairs_left.get().saturating_sub(pairs));
        self.give_pairs(space, pair.wrapping_add(PAIR), end);
        Ok(pair)
    }

    /// Has the IOMMU see what was written to the entries of `table` from `first` on to `end`.
    #[inline(always)]
    pub(crate) fn written(&self, space: Ref<Space>, table: Ref<Table>, first: usize, end: usize) {
        if space.is_io() {
            let [start, end] = [first, end].map(|at| table.address().wrapping_add((at as u64) << 3));
            self.machine.write_back(start, end.wrapping_sub(start));
        }
    }

    pub(crate) fn table(&self, physical: u64) -> Option<Ref<Table>> {
        self.memory.object(physical & entry::ADDRESS)
    }

    /// The records beside a table.
    pub(crate) fn records(&self, table: Ref<Table>) -> Option<Ref<Table>> {
        Ref::at(table.address().wrapping_add(PAGE_SIZE))
    }

    /// Goes down to the table of `level` that covers `address`: the table, or the level and index where there is
    /// none (or a larger page).
    pub(crate) fn descend(&self, space: Ref<Space>, address: u64, level: u32) -> Result<Ref<Table>, Leaf> {
        let Some(mut table) = self.table(space.root.get()) else { unreachable!("a VSpace has a root") };
        let mut at = 3;
        while at > level {
            let entry = get(table, index(address, at)).get();
            if entry & entry::PRESENT == 0 || entry & entry::LEAF != 0 {
                return Err(Leaf { table, index: index(address, at), level: at });
            }
            let Some(next) = self.table(entry) else { unreachable!("a present entry leads somewhere") };
            table = next;
            at = at.saturating_sub(1);
        }
        Ok(table)
    }

    /// The lowest table that covers `address`, if it is there: `descend` to level 0, unrolled.
    #[inline(always)]
    pub(crate) fn lowest_table(&self, space: Ref<Space>, address: u64) -> Option<Ref<Table>> {
        let mut table = self.table(space.root.get())?;
        for level in [3, 2, 1] {
            let entry = get(table, index(address, level)).get();
            if entry & (entry::PRESENT | entry::LEAF) != entry::PRESENT {
                return None;
            }
            table = self.table(entry)?;
        }
        Some(table)
    }

    /// The leaf entry that maps `address`, if one does.
    pub(crate) fn leaf(&self, space: Ref<Space>, address: u64) -> Option<Leaf> {
        let leaf = match self.descend(space, address, 0) {
            Ok(table) => Leaf { table, index: index(address, 0), level: 0 },
            Err(leaf) => leaf,
        };
        (get(leaf.table, leaf.index).get() & entry::PRESENT != 0).then_some(leaf)
    }

    /// The end of the entries from `leaf` on that map nothing: its own index if it maps something.
    pub(crate) fn hole_end(&self, leaf: &Leaf) -> usize {
        let mut end = leaf.index;
        while end < 512 && get(leaf.table, end).get() & entry::PRESENT == 0 {
            end = end.wrapping_add(1);
        }
        self.spent(end.wrapping_sub(leaf.index) as u32 / 2);
        end
    }

    /// The table of `level` that covers `address`, made with those above it if need be.
    pub(crate) fn make_table(
        &self,
        space: Ref<Space>,
        address: u64,
        level: u32,
    ) -> Result<Ref<Table>, Error> {
        loop {
            let missing = match self.descend(space, address, level) {
                Ok(table) => return Ok(table),
                Err(missing) => missing,
            };
            if get(missing.table, missing.index).get() & entry::PRESENT != 0 {
                return Err(Error::AlreadyMapped);
            }
            let pair = self.take_pair(space)?;
            self.memory.clear(pair, PAGE_SIZE);
            self.spent(52);
            if let Some(table) = self.table(pair) {
                self.written(space, table, 0, 512);
            }
            let user = if space.is_io() { 0 } else { entry::USER };
            get(missing.table, missing.index).set(pair | entry::PRESENT | entry::WRITE | user);
            self.written(space, missing.table, missing.index, missing.index.wrapping_add(1));
        }
    }

    /// Pairs that mapping the range would take: one for each table of `level` or above that is not there.
    pub(crate) fn pairs_needed(&self, space: Ref<Space>, address: u64, end: u64, level: u32) -> u64 {
        let mut needed = 0u64;
        let mut at = address;
        while at < end {
            if let Err(missing) = self.descend(space, at, level) {
                // Each table is counted where the range first touches it.
                for above in level..missing.level {
                    let first = at == address || at.is_multiple_of(level_size(above.saturating_add(1)));
                    needed = needed.saturating_add(u64::from(first));
                }
            }
            self.spent(3);
            at = (at | level_size(level.saturating_add(1)).wrapping_sub(1)).saturating_add(1);
        }
        needed
    }

    /// Gives back the tables that end at `at`: those that start at or after `from`, and those before it (where
    /// an unmap that gave way goes on) that are empty.
    pub(crate) fn free_tables(&self, space: Ref<Space>, from: u64, at: u64) -> bool {
        let mut any = false;
        for level in 1..=3 {
            if !at.is_multiple_of(level_size(level)) {
                break;
            }
            let start = at.wrapping_sub(level_size(level));
            let Ok(table) = self.descend(space, start, level) else { continue };
            let cell = get(table, index(start, level));
            let old = cell.get();
            if old & entry::PRESENT == 0 || old & entry::LEAF != 0 {
                continue;
            }
            if start < from && !self.is_empty_table(old) {
                break;
            }
            cell.set(0);
            self.written(space, table, index(start, level), index(start, level).wrapping_add(1));
            let pair = old & entry::ADDRESS;
            self.give_pairs(space, pair, pair.wrapping_add(PAIR));
            any = true;
        }
        any
    }

    fn is_empty_table(&self, entry: u64) -> bool {
        self.spent(150);
        self.table(entry)
            .is_some_and(|table| table.get().iter().all(|entry| entry.get() & entry::PRESENT == 0))
    }

    /// VSpace.donate, IoSpace.donate
    pub(crate) fn space_donate(&self, by: Call, [untyped, ..]: Words) -> Outcome {
        let space = self.space_in(by.slot)?;
        let untyped = self.find(by.me, untyped, Kind::Untyped, Rights::WRITE)?;
        if untyped.flags().contains(Flags::DEVICE) || untyped.size() < PAIR || space.is_closed() {
            return Err(Error::InvalidArgument.into());
        }
        if untyped.first.get().is_some() || self.revoking.get() == Some(untyped) {
            return Err(Error::Busy.into());
        }
        let donor = space.donor().ok_or(Error::OutOfRange)?;
        let (start, size) = (untyped.object.get(), untyped.size());
        self.move_capability(untyped, donor);
        self.give_pairs(space, start, start.wrapping_add(size));
        Ok([0; 8])
    }

    /// Unmaps everything in a space; its tables are then unused.
    pub(crate) fn purge(&self, here: &Cpu, space: Ref<Space>) -> Step<()> {
        // (Each donor that goes asks for it.)
        if space.is_purged() {
            return Ok(());
        }
        self.detach_all(space)?;
        while !space.is_purged() {
            let from = space.purged.get();
            let reached = self.clear_range(here, space, from, USER_TOP, None);
            space.purged.set(reached);
            if !space.is_purged() {
                return Err(Stop::Preempted);
            }
        }
        // No table is left but the root; what is still there of the memory is not used again: the space can map
        // no more.
        if let Some(root) = self.table(space.root.get()) {
            self.spent(80);
            (0..256).for_each(|at| get(root, at).set(0));
            self.forget(here, space, 0, USER_TOP, true);
        }
        space.free_pairs.set(0);
        space.free_records.set(None);
        space.pairs_left.set(0);
        Ok(())
    }

    /// Takes a space apart; no thread uses it any more.
    pub(crate) fn destroy_space(&self, here: &Cpu, slot: Ref<Slot>) -> Step<()> {
        let Ok(space) = self.space_in(slot) else { return Ok(()) };
        self.purge(here, space)?;
        self.clear_target(Ref::of(&space.faults.target));
        for donor in space.donors.iter().filter(|slot| !slot.is_empty()) {
            tree::remove(Ref::of(donor));
            donor.clear();
        }
        Ok(())
    }
}
