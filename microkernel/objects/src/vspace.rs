//! Address spaces: four-level page tables (SDM vol. 3, 4.5) with memory of their own.
//!
//! A VSpace is 2^bits bytes: its root table, this header, and a pool for further tables and mapping records;
//! more can be donated. Each table below the root is a pair of pages: the table, and for each of its entries
//! the [`Record`] of the mapping it belongs to. So a mapping of any length is one record, found from any page
//! in it, and a Frame capability finds all its mappings by its list of records.
//!
//! Long ranges are worked off table by table; between two tables the operation can give way. It notes how far
//! it came in the caller's registers, so the repeated call goes on there.

use core::cell::Cell;

use abi::{Error, Kind, MapFlags, PAGE_SIZE, Rights, USER_TOP};

use crate::cpu::Cpu;
use crate::kernel::{Call, Kernel, Outcome, Step, Stop, Words};
use crate::machine::{Flush, Machine};
use crate::memory::{Ref, Table, pages_to_bytes};
use crate::slot::{Flags, Home, Slot};
use crate::tcb::Tcb;
use crate::tree;

/// Bytes at the start of a VSpace that must be clear: root table and header.
pub const HEAD_BYTES: u64 = 2 * PAGE_SIZE;
/// Bytes of a table with its records, and of a page pair of records.
const PAIR: u64 = 2 * PAGE_SIZE;
/// Untypeds that can be donated.
const DONORS: usize = 16;

/// Bits of a table entry.
mod entry {
    pub const PRESENT: u64 = 1;
    pub const WRITE: u64 = 1 << 1;
    pub const USER: u64 = 1 << 2;
    pub const WRITE_THROUGH: u64 = 1 << 3;
    pub const NO_CACHE: u64 = 1 << 4;
    pub const LEAF: u64 = 1 << 7;
    pub const NO_EXECUTE: u64 = 1 << 63;
    pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
    /// What protect may change.
    pub const ACCESS: u64 = WRITE | NO_EXECUTE;
}

/// Header of a VSpace, in its second page.
#[derive(Debug)]
#[repr(C)]
pub struct VSpace {
    /// Physical address of the root table.
    pub root: Cell<u64>,
    /// The rest of the pool that pairs are being cut from, physical.
    pool_next: Cell<u64>,
    pool_end: Cell<u64>,
    /// Pairs that were given back, linked by their first words.
    free_pairs: Cell<u64>,
    /// Records that are free, linked by `next`.
    free_records: Cell<Option<Ref<Record>>>,
    /// Pairs that can still be had.
    pairs_left: Cell<u64>,
    /// How far a purge has come.
    purged: Cell<u64>,
    /// Untypeds donated.
    donors: [Slot; DONORS],
}

const _: () = assert!(core::mem::size_of::<VSpace>() <= PAGE_SIZE as usize);

/// A mapping: pages of one Frame capability in one VSpace. 64 bytes.
#[derive(Debug)]
#[repr(C)]
pub struct Record {
    /// The address space.
    space: Cell<Option<Ref<VSpace>>>,
    /// All its pages lie at or above this address...
    start: Cell<u64>,
    /// ...and within so many pages from there.
    hull: Cell<u64>,
    /// Pages (of 4 KiB) mapped.
    live: Cell<u64>,
    /// Previous record of the Frame capability, or (bit 0) the capability's slot.
    prev: Cell<u64>,
    /// Next record of the Frame capability, or next free record.
    next: Cell<Option<Ref<Record>>>,
    /// What the Frame capability allows.
    rights: Cell<Rights>,
    device: Cell<bool>,
}

/// A leaf entry: its table, index and level (0: 4 KiB, 1: 2 MiB, 2: 1 GiB).
struct Leaf {
    table: Ref<Table>,
    index: usize,
    level: u32,
}

/// A range being mapped.
struct Mapping {
    frame: Ref<Slot>,
    physical: u64,
    bits: u64,
    level: u32,
}

/// log2 of the bytes an entry of a table at `level` covers.
const fn level_bits(level: u32) -> u32 {
    9u32.wrapping_mul(level).wrapping_add(12)
}

/// Bytes an entry at `level` covers.
const fn level_size(level: u32) -> u64 {
    1 << level_bits(level)
}

fn index(address: u64, level: u32) -> usize {
    (address >> level_bits(level)) as usize & 511
}

#[inline(always)]
fn get(table: Ref<Table>, index: usize) -> &'static Cell<u64> {
    table.get().get(index & 511).unwrap_or_else(|| unreachable!("a table has 512 entries"))
}

/// The access bits of `flags`, if `rights` allow them.
#[inline(always)]
fn access_bits(flags: MapFlags, rights: Rights) -> Result<u64, Error> {
    let write = flags.has(MapFlags::WRITE);
    let execute = flags.has(MapFlags::EXECUTE);
    if write && execute {
        return Err(Error::InvalidArgument);
    }
    let needed = [(write, Rights::WRITE), (execute, Rights::EXECUTE), (true, Rights::READ)];
    if needed.iter().any(|&(wanted, right)| wanted && !rights.has(right)) {
        return Err(Error::NoRights);
    }
    Ok(if write { entry::WRITE } else { 0 } | if execute { 0 } else { entry::NO_EXECUTE })
}

/// The end of a range of pages in the user half.
fn range_end(address: u64, pages: u64) -> Result<u64, Error> {
    if !address.is_multiple_of(PAGE_SIZE) {
        return Err(Error::InvalidArgument);
    }
    let bytes = pages_to_bytes(pages).ok_or(Error::OutOfRange)?;
    address.checked_add(bytes).filter(|&end| end <= USER_TOP).ok_or(Error::OutOfRange)
}

impl VSpace {
    fn donor(&self) -> Option<Ref<Slot>> {
        self.donors.iter().find(|slot| slot.is_empty()).map(Ref::of)
    }

    fn is_purged(&self) -> bool {
        self.purged.get() >= USER_TOP
    }

    /// Whether memory that it is made of is being taken away, or has been.
    fn is_closed(&self) -> bool {
        self.purged.get() != 0
    }
}

impl<M: Machine> Kernel<M> {
    /// Physical address of the root table of the VSpace that `slot` is for.
    pub(crate) fn vspace_root(&self, slot: Ref<Slot>) -> u64 {
        self.memory.physical(slot.object.get())
    }

    /// The header of the VSpace that `slot` is for.
    pub fn vspace_in(&self, slot: Ref<Slot>) -> Result<Ref<VSpace>, Error> {
        Ref::at(slot.object.get().wrapping_add(PAGE_SIZE)).ok_or(Error::NoCapability)
    }

    /// Prepares a VSpace of 2^`bits` bytes whose first two pages are clear.
    pub(crate) fn init_vspace(&self, physical: u64, bits: u32) {
        let (Some(root), Some(space)) = (
            self.memory.object::<Table>(physical),
            self.memory.object::<VSpace>(physical.wrapping_add(PAGE_SIZE)),
        ) else {
            return;
        };
        for (at, kernel) in [256, 511].into_iter().zip(&self.kernel_entries) {
            get(root, at).set(kernel.get());
        }
        space.root.set(physical);
        self.set_pool(space, physical.wrapping_add(HEAD_BYTES), physical.wrapping_add(1 << bits));
        for slot in &space.donors {
            slot.home.set(Home::Donor);
            slot.extra.set(space.address());
        }
    }

    fn set_pool(&self, space: Ref<VSpace>, start: u64, end: u64) {
        // What is left of the last pool goes to the free pairs.
        while let Some(pair) = self.cut_pair(space) {
            self.free_pair(space, pair);
        }
        space.pool_next.set(start);
        space.pool_end.set(end);
        space.pairs_left.set(space.pairs_left.get().saturating_add(end.wrapping_sub(start) / PAIR));
    }

    fn cut_pair(&self, space: Ref<VSpace>) -> Option<u64> {
        let pair = space.pool_next.get();
        let next = pair.checked_add(PAIR).filter(|&next| next <= space.pool_end.get())?;
        space.pool_next.set(next);
        space.pairs_left.set(space.pairs_left.get().saturating_sub(1));
        Some(pair)
    }

    fn free_pair(&self, space: Ref<VSpace>, pair: u64) {
        if let Some(link) = self.memory.object::<Table>(pair) {
            get(link, 0).set(space.free_pairs.replace(pair));
        }
        space.pairs_left.set(space.pairs_left.get().saturating_add(1));
    }

    fn take_pair(&self, space: Ref<VSpace>) -> Result<u64, Error> {
        let pair = space.free_pairs.get();
        if pair == 0 {
            return self.cut_pair(space).ok_or(Error::OutOfTables);
        }
        if let Some(link) = self.memory.object::<Table>(pair) {
            space.free_pairs.set(get(link, 0).get());
        }
        space.pairs_left.set(space.pairs_left.get().saturating_sub(1));
        Ok(pair)
    }

    fn table(&self, physical: u64) -> Option<Ref<Table>> {
        self.memory.object(physical & entry::ADDRESS)
    }

    /// The records beside a table.
    fn records(&self, table: Ref<Table>) -> Option<Ref<Table>> {
        Ref::at(table.address().wrapping_add(PAGE_SIZE))
    }

    /// Goes down to the table of `level` that covers `address`: the table, or the level and index where there is
    /// none (or a larger page).
    fn descend(&self, space: Ref<VSpace>, address: u64, level: u32) -> Result<Ref<Table>, Leaf> {
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
    fn lowest_table(&self, space: Ref<VSpace>, address: u64) -> Option<Ref<Table>> {
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
    fn leaf(&self, space: Ref<VSpace>, address: u64) -> Option<Leaf> {
        let leaf = match self.descend(space, address, 0) {
            Ok(table) => Leaf { table, index: index(address, 0), level: 0 },
            Err(leaf) => leaf,
        };
        (get(leaf.table, leaf.index).get() & entry::PRESENT != 0).then_some(leaf)
    }

    /// The table of `level` that covers `address`, made with those above it if need be.
    fn make_table(&self, space: Ref<VSpace>, address: u64, level: u32) -> Result<Ref<Table>, Error> {
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
            get(missing.table, missing.index).set(pair | entry::PRESENT | entry::WRITE | entry::USER);
        }
    }

    /// Pairs that mapping the range would take: one for each table of `level` or above that is not there.
    fn pairs_needed(&self, space: Ref<VSpace>, address: u64, end: u64, level: u32) -> u64 {
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

    #[inline(always)]
    fn take_record(&self, space: Ref<VSpace>) -> Result<Ref<Record>, Error> {
        if let Some(record) = space.free_records.get() {
            space.free_records.set(record.next.get());
            return Ok(record);
        }
        self.make_records(space)?;
        space
            .free_records
            .get()
            .inspect(|record| space.free_records.set(record.next.get()))
            .ok_or(Error::OutOfTables)
    }

    /// Turns a pair into free records.
    #[cold]
    fn make_records(&self, space: Ref<VSpace>) -> Result<(), Error> {
        let pair = self.take_pair(space)?;
        self.memory.clear(pair, PAIR);
        self.spent(104);
        const SIZE: u64 = core::mem::size_of::<Record>() as u64;
        for at in 0..PAIR / SIZE {
            if let Some(record) = self.memory.object::<Record>(pair.wrapping_add(at.wrapping_mul(SIZE))) {
                record.next.set(space.free_records.replace(Some(record)));
            }
        }
        Ok(())
    }

    /// The record for mapping pages of `frame` at `address`: its latest one if that ends there, or a new one.
    #[inline(always)]
    fn record_for(&self, space: Ref<VSpace>, frame: Ref<Slot>, address: u64) -> Result<Ref<Record>, Error> {
        let head = Ref::<Record>::at(frame.extra.get());
        if let Some(record) = head
            && record.space.get() == Some(space)
            && pages_to_bytes(record.hull.get()).and_then(|bytes| record.start.get().checked_add(bytes))
                == Some(address)
        {
            return Ok(record);
        }
        let record = self.take_record(space)?;
        record.space.set(Some(space));
        record.start.set(address);
        record.hull.set(0);
        record.live.set(0);
        record.rights.set(frame.rights.get());
        record.device.set(frame.flags().contains(Flags::DEVICE));
        record.prev.set(frame.address() | 1);
        record.next.set(head);
        if let Some(head) = head {
            head.prev.set(record.address());
        }
        frame.extra.set(record.address());
        Ok(record)
    }

    /// One entry less of a record; the last one frees it.
    #[inline(always)]
    fn drop_pages(&self, record: Ref<Record>, pages: u64) {
        let live = record.live.get().saturating_sub(pages);
        record.live.set(live);
        if live > 0 {
            return;
        }
        let next = record.next.get();
        let prev = record.prev.get();
        if let Some(next) = next {
            next.prev.set(prev);
        }
        if prev & 1 == 1 {
            if let Some(slot) = Ref::<Slot>::at(prev & !1) {
                slot.extra.set(next.map_or(0, Ref::address));
            }
        } else if let Some(previous) = Ref::<Record>::at(prev) {
            previous.next.set(next);
        }
        if let Some(space) = record.space.take() {
            record.next.set(space.free_records.replace(Some(record)));
        }
    }

    /// A Frame capability has moved to `slot`: its first record must know.
    pub(crate) fn move_records(&self, slot: Ref<Slot>) {
        if slot.home.get() == Home::CNode
            && let Some(record) = Ref::<Record>::at(slot.extra.get())
        {
            record.prev.set(slot.address() | 1);
        }
    }

    #[inline(always)]
    fn flush(&self, here: &Cpu, space: Ref<VSpace>, address: u64, end: u64, tables: bool) {
        let root = space.root.get();
        let others = if self.cpu_count() > 1 { self.others_using(here, root) } else { 0 };
        let mine = here.root.get() == root;
        if mine || others != 0 {
            let pages = end.saturating_sub(address) / PAGE_SIZE;
            self.machine.flush(Flush { root, address, pages, tables }, mine, others);
        }
    }

    /// The other CPUs that have this root table loaded, as bits.
    fn others_using(&self, here: &Cpu, root: u64) -> u64 {
        self.cpus()
            .filter(|cpu| cpu.number.get() != here.number.get() && cpu.thread().cr3.get() == root)
            .fold(0, |set, cpu| set | 1 << cpu.number.get())
    }

    /// VSpace.map
    pub(crate) fn vspace_map(&self, by: Call, [frame, address, offset, pages, flags, ..]: Words) -> Outcome {
        let space = self.vspace_in(by.slot)?;
        let frame = self.find(by.me, frame, Kind::Frame, Rights::NONE)?;
        let flags = MapFlags(flags);
        let size = flags.0 & (MapFlags::LARGE.0 | MapFlags::HUGE.0);
        if !MapFlags::ALL.has(flags) || pages == 0 {
            return Err(Error::InvalidArgument.into());
        }
        let range = [address, offset, pages];
        // (Each with its level known to the compiler.)
        let level = match MapFlags(size) {
            MapFlags(0) => return self.map_frame(by.here, by.me, space, frame, range, flags, 0),
            MapFlags::LARGE => 1,
            MapFlags::HUGE => 2,
            _ => return Err(Error::InvalidArgument.into()),
        };
        self.map_frame(by.here, by.me, space, frame, range, flags, level)
    }

    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "the arguments of one method, in part looked up")]
    fn map_frame(
        &self,
        here: &Cpu,
        me: Ref<Tcb>,
        space: Ref<VSpace>,
        frame: Ref<Slot>,
        [address, offset, pages]: [u64; 3],
        flags: MapFlags,
        level: u32,
    ) -> Outcome {
        let end = range_end(address, pages)?;
        let mask = level_size(level).wrapping_sub(1);
        if (address | offset | end | frame.object.get()) & mask != 0 {
            return Err(Error::InvalidArgument.into());
        }
        let bytes = end.wrapping_sub(address);
        offset.checked_add(bytes).filter(|&end| end <= frame.size()).ok_or(Error::OutOfRange)?;
        let mut bits = access_bits(flags, frame.rights.get())? | entry::PRESENT | entry::USER;
        if flags.has(MapFlags::UNCACHED) || frame.flags().contains(Flags::DEVICE) {
            bits |= entry::NO_CACHE | entry::WRITE_THROUGH;
        }
        if level > 0 {
            bits |= entry::LEAF;
        }
        if space.is_closed() {
            return Err(Error::OutOfTables.into());
        }
        self.trace(here, abi::trace::Event::Map, address, pages);
        let physical = frame.object.get().wrapping_add(offset);
        let mapping = Mapping { frame, physical, bits, level };
        // A short range, whose table is there.
        if level == 0
            && let Some(table) = self.table_around(space, address, end)
        {
            self.fill_table(space, table, [address, end], physical, &mapping)?;
            return Ok([0; 8]);
        }
        self.map_long(here, me, space, [address, end], &mapping)
    }

    #[inline(never)]
    fn map_long(
        &self,
        here: &Cpu,
        me: Ref<Tcb>,
        space: Ref<VSpace>,
        [address, end]: [u64; 2],
        mapping: &Mapping,
    ) -> Outcome {
        // A range takes three tables more than it spans at the lowest level, and a pair for records, at most.
        let spanned = end.wrapping_sub(address) >> level_bits(mapping.level.saturating_add(1));
        if space.pairs_left.get() < spanned.saturating_add(5) {
            let records = u64::from(space.free_records.get().is_none());
            let needed = self.pairs_needed(space, address, end, mapping.level);
            if needed.saturating_add(records) > space.pairs_left.get() {
                return Err(Error::OutOfTables.into());
            }
        }
        match self.map_range(space, address, end, mapping) {
            Ok(reached) if reached < end => {
                self.advance(me, reached.wrapping_sub(address), [1, 2], 3);
                Err(Stop::Preempted)
            }
            Ok(_) => Ok([0; 8]),
            Err((error, reached)) => {
                // What this call has mapped goes again.
                let _ = self.clear_range(here, space, address, reached, None);
                Err(error.into())
            }
        }
    }

    /// Maps `pages` of a Frame from its start on: for the boot, which gives way to nobody.
    pub(crate) fn map_whole(
        &self,
        slot: Ref<Slot>,
        frame: Ref<Slot>,
        address: u64,
        pages: u64,
        flags: MapFlags,
    ) -> Result<(), Error> {
        let space = self.vspace_in(slot)?;
        let end = range_end(address, pages)?;
        let bits = access_bits(flags, frame.rights.get())? | entry::PRESENT | entry::USER;
        let mut at = address;
        while at < end {
            self.work.set(crate::kernel::WORK_UNITS);
            let physical = frame.object.get().wrapping_add(at.wrapping_sub(address));
            let mapping = Mapping { frame, physical, bits, level: 0 };
            at = self.map_range(space, at, end, &mapping).map_err(|(error, _)| error)?;
        }
        Ok(())
    }

    /// Notes in `me`'s arguments that `bytes` of a range are done: adds to the words `up` (one beyond the last
    /// is none), takes pages off word `pages`.
    fn advance(&self, me: Ref<Tcb>, bytes: u64, up: [usize; 2], pages: usize) {
        for at in up {
            if let Some(word) = me.context.words.get(at) {
                word.set(word.get().wrapping_add(bytes));
            }
        }
        if let Some(word) = me.context.words.get(pages) {
            word.set(word.get().wrapping_sub(bytes / PAGE_SIZE));
        }
    }

    /// Maps table by table while there are work units; how far it came.
    fn map_range(
        &self,
        space: Ref<VSpace>,
        address: u64,
        end: u64,
        m: &Mapping,
    ) -> Result<u64, (Error, u64)> {
        let mut at = address;
        while at < end {
            if at != address && self.work.get() == 0 {
                break;
            }
            let table_end = (at | level_size(m.level.saturating_add(1)).wrapping_sub(1)).saturating_add(1);
            let stop = table_end.min(end);
            self.map_in_table(space, at, stop, at.wrapping_sub(address), m).map_err(|error| (error, at))?;
            at = stop;
        }
        Ok(at)
    }

    fn map_in_table(
        &self,
        space: Ref<VSpace>,
        at: u64,
        stop: u64,
        done: u64,
        m: &Mapping,
    ) -> Result<(), Error> {
        let table = self.make_table(space, at, m.level)?;
        self.fill_table(space, table, [at, stop], m.physical.wrapping_add(done), m)
    }

    /// Fills the entries of `table` for a range that it covers.
    #[inline(always)]
    fn fill_table(
        &self,
        space: Ref<VSpace>,
        table: Ref<Table>,
        [at, stop]: [u64; 2],
        physical: u64,
        m: &Mapping,
    ) -> Result<(), Error> {
        let (first, size) = (index(at, m.level), level_size(m.level));
        let count = (stop.wrapping_sub(at) >> level_bits(m.level)) as usize;
        let end = first.wrapping_add(count);
        for at in first..end {
            if get(table, at).get() & entry::PRESENT != 0 {
                return Err(Error::AlreadyMapped);
            }
        }
        let record = self.record_for(space, m.frame, at)?;
        let Some(records) = self.records(table) else { return Err(Error::OutOfTables) };
        let mut value = physical | m.bits;
        for at in first..end {
            get(table, at).set(value);
            get(records, at).set(record.address());
            value = value.wrapping_add(size);
        }
        let pages = stop.wrapping_sub(at) / PAGE_SIZE;
        record.live.set(record.live.get().wrapping_add(pages));
        record.hull.set(record.hull.get().wrapping_add(pages));
        self.spent((count as u32).wrapping_add(6));
        Ok(())
    }

    /// Unmaps from `from` up to `to` while there are work units (only what belongs to `only`, if given); how
    /// far it came. Tables that lie wholly in the range are given back.
    fn clear_range(
        &self,
        here: &Cpu,
        space: Ref<VSpace>,
        from: u64,
        to: u64,
        only: Option<Ref<Record>>,
    ) -> u64 {
        let mut at = from;
        let (mut changed, mut tables) = (false, false);
        while at < to && (at == from || self.work.get() > 0) {
            self.spent(2);
            match self.descend(space, at, 0) {
                Ok(table) => {
                    // Half a table at a time: a whole one would be long.
                    let stop = (at | (level_size(1) / 2).wrapping_sub(1)).saturating_add(1).min(to);
                    changed |= self.clear_in_table(
                        table,
                        0,
                        index(at, 0),
                        index(at, 0).saturating_add((stop.wrapping_sub(at) >> level_bits(0)) as usize),
                        only,
                    );
                    at = stop;
                }
                Err(Leaf { table, index, level }) => {
                    let mut next = index.wrapping_add(1);
                    if get(table, index).get() & entry::PRESENT != 0 {
                        changed |= self.clear_in_table(table, level, index, next, only);
                    } else {
                        // Over what is not there in one go.
                        while next < 512 && get(table, next).get() & entry::PRESENT == 0 {
                            next = next.wrapping_add(1);
                        }
                        self.spent(next.wrapping_sub(index) as u32 / 2);
                    }
                    let size = level_size(level);
                    let start = at & !size.wrapping_sub(1);
                    at = start.wrapping_add(size.wrapping_mul(next.wrapping_sub(index) as u64));
                }
            }
            if only.is_none() {
                tables |= self.free_tables(space, from, at);
            }
        }
        let at = at.min(to);
        if changed || tables {
            self.flush(here, space, from, at, tables);
        }
        at
    }

    /// Gives back the tables that end at `at`: those that start at or after `from`, and those before it (where
    /// an unmap that gave way goes on) that are empty.
    fn free_tables(&self, space: Ref<VSpace>, from: u64, at: u64) -> bool {
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
            self.free_pair(space, old & entry::ADDRESS);
            any = true;
        }
        any
    }

    fn is_empty_table(&self, entry: u64) -> bool {
        self.spent(150);
        self.table(entry)
            .is_some_and(|table| table.get().iter().all(|entry| entry.get() & entry::PRESENT == 0))
    }

    fn clear_in_table(
        &self,
        table: Ref<Table>,
        level: u32,
        first: usize,
        end: usize,
        only: Option<Ref<Record>>,
    ) -> bool {
        let Some(records) = self.records(table) else { return false };
        let pages = level_size(level) / PAGE_SIZE;
        let mut cleared = 0u32;
        // Pages of one record are dropped together.
        let mut run: Option<(Ref<Record>, u64)> = None;
        for at in first..end.min(512) {
            let cell = get(table, at);
            if cell.get() & entry::PRESENT == 0 {
                continue;
            }
            let Some(record) = Ref::<Record>::at(get(records, at).get()) else { continue };
            if only.is_some_and(|only| only != record) {
                continue;
            }
            cell.set(0);
            cleared = cleared.wrapping_add(1);
            match &mut run {
                Some((same, count)) if *same == record => *count = count.wrapping_add(pages),
                _ => {
                    if let Some((before, count)) = run.replace((record, pages)) {
                        self.drop_pages(before, count);
                    }
                }
            }
        }
        if let Some((last, count)) = run {
            self.drop_pages(last, count);
        }
        self.spent((end.saturating_sub(first) as u32 / 4).saturating_add(cleared.saturating_mul(4)));
        cleared > 0
    }

    /// Whether an end of a range lies inside a large page.
    fn splits_page(&self, space: Ref<VSpace>, address: u64) -> bool {
        self.leaf(space, address).is_some_and(|leaf| !address.is_multiple_of(level_size(leaf.level)))
    }

    /// VSpace.unmap
    pub(crate) fn vspace_unmap(&self, by: Call, [address, pages, ..]: Words) -> Outcome {
        let space = self.vspace_in(by.slot)?;
        let end = range_end(address, pages)?;
        self.trace(by.here, abi::trace::Event::Unmap, address, pages);
        if let Some(table) = self.table_around(space, address, end) {
            let first = index(address, 0);
            let cleared = match pages {
                1 => self.clear_page(table, first),
                _ => self.clear_in_table(table, 0, first, first.wrapping_add(pages as usize), None),
            };
            if cleared {
                self.flush(by.here, space, address, end, false);
            }
            return Ok([0; 8]);
        }
        if self.splits_page(space, address) || self.splits_page(space, end) {
            return Err(Error::InvalidArgument.into());
        }
        let reached = self.clear_range(by.here, space, address, end, None);
        if reached < end {
            self.advance_front(by.me, reached.wrapping_sub(address));
            return Err(Stop::Preempted);
        }
        Ok([0; 8])
    }

    /// `clear_in_table` for one page.
    #[inline(always)]
    fn clear_page(&self, table: Ref<Table>, index: usize) -> bool {
        let record = self.records(table).and_then(|records| Ref::<Record>::at(get(records, index).get()));
        let Some(record) = record.filter(|_| get(table, index).get() & entry::PRESENT != 0) else {
            return false;
        };
        get(table, index).set(0);
        self.drop_pages(record, 1);
        true
    }

    /// The lowest table, if it is there and the range is a proper part of what it covers.
    fn table_around(&self, space: Ref<VSpace>, address: u64, end: u64) -> Option<Ref<Table>> {
        let (first, last) = (address >> level_bits(1), end >> level_bits(1));
        if first != last || address == end {
            return None;
        }
        self.lowest_table(space, address)
    }

    /// As `advance`, for address and pages in words 0 and 1.
    fn advance_front(&self, me: Ref<Tcb>, bytes: u64) {
        self.advance(me, bytes, [0, usize::MAX], 1);
    }

    /// VSpace.protect
    pub(crate) fn vspace_protect(&self, by: Call, [address, pages, flags, ..]: Words) -> Outcome {
        let space = self.vspace_in(by.slot)?;
        let flags = MapFlags(flags);
        if !MapFlags::READ.or(MapFlags::WRITE).or(MapFlags::EXECUTE).has(flags) {
            return Err(Error::InvalidArgument.into());
        }
        let end = range_end(address, pages)?;
        if self.splits_page(space, address) || self.splits_page(space, end) {
            return Err(Error::InvalidArgument.into());
        }
        let (reached, result) = self.protect_range(space, address, end, flags);
        if reached > address {
            self.flush(by.here, space, address, reached, false);
        }
        result?;
        if reached < end {
            self.advance_front(by.me, reached.wrapping_sub(address));
            return Err(Stop::Preempted);
        }
        Ok([0; 8])
    }

    /// Changes a share of leaves after the other, each share only after all of it has been looked at; how far it
    /// came, and why no farther.
    fn protect_range(
        &self,
        space: Ref<VSpace>,
        address: u64,
        end: u64,
        flags: MapFlags,
    ) -> (u64, Result<(), Error>) {
        /// Bytes of a share (or one large page).
        const SHARE: u64 = 128 * PAGE_SIZE;
        // A short range is looked at as a whole first, so that a refusal leaves all of it as it was.
        let short = end.min(address.saturating_add(level_size(1)));
        if let Err(error) = self.protect_share(space, address, short, flags, false) {
            return (address, Err(error));
        }
        let mut at = address;
        while at < end && (at == address || self.work.get() > 0) {
            let stop = end.min(at.saturating_add(SHARE));
            let looked =
                if stop > short { self.protect_share(space, at, stop, flags, false) } else { Ok(at) };
            match looked.and_then(|_| self.protect_share(space, at, stop, flags, true)) {
                Ok(reached) => at = reached,
                Err(error) => return (at, Err(error)),
            }
        }
        (at, Ok(()))
    }

    /// Looks at the leaves of a share, or changes them; where the last one ends.
    fn protect_share(
        &self,
        space: Ref<VSpace>,
        address: u64,
        stop: u64,
        flags: MapFlags,
        commit: bool,
    ) -> Result<u64, Error> {
        let mut at = address;
        while at < stop {
            let leaf = self.leaf(space, at).ok_or(Error::NotMapped)?;
            let size = level_size(leaf.level);
            // Large pages one by one: what is beside one may be a table.
            let left = if leaf.level == 0 { stop.wrapping_sub(at) / PAGE_SIZE } else { 1 };
            let last = leaf.index.wrapping_add(left as usize).min(512);
            self.protect_in_table(&leaf, last, flags, commit)?;
            at = at.saturating_add(size.wrapping_mul(last.wrapping_sub(leaf.index) as u64));
        }
        Ok(at)
    }

    /// Looks at the leaves from `first` on up to index `last` of its table, or changes them.
    fn protect_in_table(
        &self,
        first: &Leaf,
        last: usize,
        flags: MapFlags,
        commit: bool,
    ) -> Result<(), Error> {
        let records = self.records(first.table).ok_or(Error::NotMapped)?;
        let units = if commit { 2 } else { 1 };
        self.spent((last.wrapping_sub(first.index) as u32).saturating_mul(units).saturating_add(6));
        for at in first.index..last {
            let cell = get(first.table, at);
            if cell.get() & entry::PRESENT == 0 {
                return Err(Error::NotMapped);
            }
            let record = Ref::<Record>::at(get(records, at).get()).ok_or(Error::NotMapped)?;
            let bits = access_bits(flags, record.rights.get())?;
            if commit {
                cell.set(cell.get() & !entry::ACCESS | bits);
            }
        }
        Ok(())
    }

    /// VSpace.donate
    pub(crate) fn vspace_donate(&self, by: Call, [untyped, ..]: Words) -> Outcome {
        let space = self.vspace_in(by.slot)?;
        let untyped = self.find(by.me, untyped, Kind::Untyped, Rights::WRITE)?;
        if untyped.flags().contains(Flags::DEVICE) || untyped.size() < PAIR {
            return Err(Error::InvalidArgument.into());
        }
        if space.is_closed() {
            return Err(Error::InvalidArgument.into());
        }
        if untyped.first.get().is_some() || self.revoking.get() == Some(untyped) {
            return Err(Error::Busy.into());
        }
        let donor = space.donor().ok_or(Error::OutOfRange)?;
        let (start, size) = (untyped.object.get(), untyped.size());
        self.move_capability(untyped, donor);
        self.set_pool(space, start, start.wrapping_add(size));
        Ok([0; 8])
    }

    /// VSpace.query
    pub(crate) fn vspace_query(&self, by: Call, [address, ..]: Words) -> Outcome {
        let space = self.vspace_in(by.slot)?;
        if address >= USER_TOP {
            return Err(Error::OutOfRange.into());
        }
        let leaf = self.leaf(space, address).ok_or(Error::NotMapped)?;
        let found = get(leaf.table, leaf.index).get();
        let mut flags = MapFlags::READ;
        let meanings = [
            (found & entry::WRITE != 0, MapFlags::WRITE),
            (found & entry::NO_EXECUTE == 0, MapFlags::EXECUTE),
            (found & entry::NO_CACHE != 0, MapFlags::UNCACHED),
            (leaf.level == 1, MapFlags::LARGE),
            (leaf.level == 2, MapFlags::HUGE),
        ];
        for (_, meant) in meanings.into_iter().filter(|&(set, _)| set) {
            flags = flags.or(meant);
        }
        let page = found & entry::ADDRESS & !(level_size(leaf.level).wrapping_sub(1));
        Ok([flags.0, page, level_size(leaf.level), 0, 0, 0, 0, 0])
    }

    /// Unmaps everything that was mapped by the Frame capability in `slot`.
    pub(crate) fn unmap_all(&self, here: &Cpu, slot: Ref<Slot>) -> Step<()> {
        while let Some(record) = Ref::<Record>::at(slot.extra.get()) {
            let Some(space) = record.space.get() else { return Ok(()) };
            self.spent(20);
            let start = record.start.get();
            let end = start.saturating_add(pages_to_bytes(record.hull.get()).unwrap_or(0));
            let reached = self.clear_range(here, space, start, end, Some(record));
            if Ref::at(slot.extra.get()) == Some(record) {
                record.start.set(reached);
                record.hull.set(end.saturating_sub(reached) / PAGE_SIZE);
            }
            if self.work.get() == 0 {
                return Err(Stop::Preempted);
            }
        }
        Ok(())
    }

    /// Unmaps everything in an address space; its tables are then unused.
    pub(crate) fn purge(&self, here: &Cpu, space: Ref<VSpace>) -> Step<()> {
        while !space.is_purged() {
            let from = space.purged.get();
            let reached = self.clear_range(here, space, from, USER_TOP, None);
            space.purged.set(reached);
            if !space.is_purged() {
                return Err(Stop::Preempted);
            }
        }
        // No table is left but the root; the pools begin anew with what is still there (nothing, once the
        // donors go): the address space can map no more.
        if let Some(root) = self.table(space.root.get()) {
            (0..256).for_each(|at| get(root, at).set(0));
            self.flush(here, space, 0, USER_TOP, true);
        }
        space.pool_next.set(0);
        space.pool_end.set(0);
        space.free_pairs.set(0);
        space.free_records.set(None);
        space.pairs_left.set(0);
        Ok(())
    }

    /// Takes an address space apart; no thread uses it any more.
    pub(crate) fn destroy_vspace(&self, here: &Cpu, slot: Ref<Slot>) -> Step<()> {
        let Ok(space) = self.vspace_in(slot) else { return Ok(()) };
        self.purge(here, space)?;
        for donor in space.donors.iter().filter(|slot| !slot.is_empty()) {
            tree::remove(Ref::of(donor));
            donor.clear();
        }
        Ok(())
    }
}
