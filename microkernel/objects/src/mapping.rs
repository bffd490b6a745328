//! Mappings: pages of a Frame in a VSpace or an IoSpace.
//!
//! A mapping of any length is one [`Record`], found from any page in it; a Frame capability finds all its mappings
//! by its list of records. Long ranges are worked off table by table; between two tables the operation can give
//! way. It notes how far it came in the caller's registers, so the repeated call goes on there.

use core::cell::Cell;
use core::ops::Range;

use abi::{Error, MapFlags, PAGE_SIZE, Rights, USER_TOP};

use crate::cpu::Cpu;
use crate::kernel::{Kernel, Outcome, Step, Stop};
use crate::machine::{Flush, Machine};
use crate::memory::{Ref, Table, pages_to_bytes};
use crate::slot::{Flags, Home, Slot};
use crate::space::{Leaf, PAIR, Space, entry, get, index, level_bits, level_size};
use crate::tcb::Tcb;

/// A mapping: pages of one Frame capability in one VSpace. 64 bytes.
#[derive(Debug)]
#[repr(C)]
pub struct Record {
    /// The VSpace or IoSpace.
    space: Cell<Option<Ref<Space>>>,
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
    pub(crate) rights: Cell<Rights>,
}

/// A mapping in the making: what is at an address is at that plus `offset` physically.
struct Mapping {
    space: Ref<Space>,
    frame: Ref<Slot>,
    offset: u64,
    bits: u64,
    level: u32,
}

/// The record whose pages alone are meant, if it is not all.
type Only = Option<Ref<Record>>;

/// The access bits of `flags`, if `rights` allow them.
#[inline(always)]
pub(crate) fn access_bits(flags: MapFlags, rights: Rights) -> Result<u64, Error> {
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
#[inline(always)]
pub(crate) fn range_end(address: u64, pages: u64) -> Result<u64, Error> {
    if !address.is_multiple_of(PAGE_SIZE) {
        return Err(Error::InvalidArgument);
    }
    let bytes = pages_to_bytes(pages).ok_or(Error::OutOfRange)?;
    address.checked_add(bytes).filter(|&end| end <= USER_TOP).ok_or(Error::OutOfRange)
}

impl<M: Machine> Kernel<M> {
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "the arguments of one method, in part looked up")]
    pub(crate) fn map_frame(
        &self,
        here: &Cpu,
        me: Ref<Tcb>,
        space: Ref<Space>,
        frame: Ref<Slot>,
        [address, offset, pages]: [u64; 3],
        flags: MapFlags,
        level: u32,
        io: bool,
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
        if io {
            bits &= entry::IO;
        }
        if space.is_closed() {
            return Err(Error::OutOfTables.into());
        }
        self.trace(here, abi::trace::Event::Map, address, pages);
        let offset = frame.object.get().wrapping_add(offset).wrapping_sub(address);
        let mapping = Mapping { space, frame, offset, bits, level };
        // A short range, whose table is there.
        if level == 0
            && !io
            && let Some(table) = self.table_around(space, address, end)
        {
            self.fill_table(table, address, end, &mapping)?;
            return Ok([0; 8]);
        }
        self.map_long(here, me, address, end, &mapping)
    }

    /// The lowest table, if it is there and the range is a proper part of what it covers.
    pub(crate) fn table_around(&self, space: Ref<Space>, address: u64, end: u64) -> Option<Ref<Table>> {
        let (first, last) = (address >> level_bits(1), end >> level_bits(1));
        if first != last || address == end {
            return None;
        }
        self.lowest_table(space, address)
    }

    #[inline(never)]
    fn map_long(&self, here: &Cpu, me: Ref<Tcb>, address: u64, end: u64, m: &Mapping) -> Outcome {
        let space = m.space;
        // A short range is refused as a whole. It takes at most two tables of each level, and a pair for records.
        let short = end.wrapping_sub(address) <= level_size(1);
        if short && space.pairs_left.get() < 7 {
            let records = u64::from(space.free_records.get().is_none());
            let needed = self.pairs_needed(space, address, end, m.level);
            if needed.saturating_add(records) > space.pairs_left.get() {
                return Err(Error::OutOfTables.into());
            }
        }
        match self.map_range(address, end, m) {
            Ok(reached) if reached < end => {
                self.advance(me, reached.wrapping_sub(address), 1..3);
                Err(Stop::Preempted)
            }
            Ok(_) => Ok([0; 8]),
            Err((error, reached)) => {
                // Of a short range all goes again, so that a refusal leaves nothing.
                let mut at = if short { address } else { reached };
                while at < reached {
                    at = self.clear_range(here, space, at, reached, None);
                }
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
        let space = self.space_in(slot)?;
        let end = range_end(address, pages)?;
        let bits = access_bits(flags, frame.rights.get())? | entry::PRESENT | entry::USER;
        let offset = frame.object.get().wrapping_sub(address);
        let mapping = Mapping { space, frame, offset, bits, level: 0 };
        let mut at = address;
        while at < end {
            self.work.set(crate::kernel::WORK_UNITS);
            at = self.map_range(at, end, &mapping).map_err(|(error, _)| error)?;
        }
        Ok(())
    }

    /// Maps table by table while there are work units; how far it came.
    fn map_range(&self, address: u64, end: u64, m: &Mapping) -> Result<u64, (Error, u64)> {
        let mut at = address;
        while at < end {
            let table_end = (at | level_size(m.level.saturating_add(1)).wrapping_sub(1)).saturating_add(1);
            let stop = table_end.min(end);
            let count = stop.wrapping_sub(at) >> level_bits(m.level);
            // (Besides the entries a table is to be made.)
            if at != address && u64::from(self.work.get()) < count.saturating_add(58) {
                break;
            }
            let table = self.make_table(m.space, at, m.level).map_err(|error| (error, at))?;
            self.fill_table(table, at, stop, m).map_err(|error| (error, at))?;
            let first = index(at, m.level);
            self.written(m.space, table, first, first.wrapping_add(count as usize));
            at = stop;
        }
        Ok(at)
    }

    /// Fills the entries of `table` for a range that it covers.
    #[inline(always)]
    fn fill_table(&self, table: Ref<Table>, at: u64, stop: u64, m: &Mapping) -> Result<(), Error> {
        let (first, size) = (index(at, m.level), level_size(m.level));
        let count = (stop.wrapping_sub(at) >> level_bits(m.level)) as usize;
        let end = first.wrapping_add(count);
        for at in first..end {
            if get(table, at).get() & entry::PRESENT != 0 {
                return Err(Error::AlreadyMapped);
            }
        }
        let record = self.record_for(m.space, m.frame, at)?;
        let Some(records) = self.records(table) else { return Err(Error::OutOfTables) };
        let mut value = at.wrapping_add(m.offset) | m.bits;
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

    /// Notes in `me`'s arguments that `bytes` of a range are done: adds to the words `up`, takes pages off the one
    /// after those.
    pub(crate) fn advance(&self, me: Ref<Tcb>, bytes: u64, up: Range<usize>) {
        if let Some(pages) = me.context.words.get(up.end) {
            pages.set(pages.get().wrapping_sub(bytes / PAGE_SIZE));
        }
        for word in me.context.words.iter().take(up.end).skip(up.start) {
            word.set(word.get().wrapping_add(bytes));
        }
    }

    /// Unmaps from `from` up to `to` while there are work units (only what belongs to `only`, if given); how
    /// far it came. Tables that lie wholly in the range are given back.
    pub(crate) fn clear_range(&self, here: &Cpu, space: Ref<Space>, from: u64, to: u64, only: Only) -> u64 {
        let mut at = from;
        let (mut changed, mut tables) = (false, false);
        while at < to && (at == from || self.work.get() > 0) {
            self.spent(12);
            match self.descend(space, at, 0) {
                Ok(table) => {
                    // A small part of a table at a time, as the work is counted only once it is done.
                    let stop = (at | (level_size(1) / 8).wrapping_sub(1)).saturating_add(1).min(to);
                    let first = index(at, 0);
                    let end = first.saturating_add((stop.wrapping_sub(at) >> level_bits(0)) as usize);
                    changed |= self.clear_in_table(&Leaf { table, index: first, level: 0 }, end, only);
                    self.written(space, table, first, end);
                    at = stop;
                }
                Err(leaf) => {
                    let Leaf { index, level, .. } = leaf;
                    let mut next = self.hole_end(&leaf);
                    if next == index {
                        next = index.wrapping_add(1);
                        changed |= self.clear_in_table(&leaf, next, only);
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
            self.forget(here, space, from, at, tables);
        }
        at
    }

    /// Clears the entries from `first` on up to index `end` of its table; whether there were any.
    pub(crate) fn clear_in_table(&self, first: &Leaf, end: usize, only: Only) -> bool {
        let &Leaf { table, index: first, level } = first;
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
        self.spent((end.saturating_sub(first) as u32 / 2).saturating_add(cleared.saturating_mul(4)));
        cleared > 0
    }

    /// Has everyone forget translations of what was cleared: CPUs, or the IOMMU.
    pub(crate) fn forget(&self, here: &Cpu, space: Ref<Space>, address: u64, end: u64, tables: bool) {
        if space.is_io() {
            self.flush_devices(space, false)
        } else {
            self.flush(here, space, address, end, tables)
        }
    }

    /// Has every CPU that uses `space` forget translations.
    #[inline(always)]
    pub(crate) fn flush(&self, here: &Cpu, space: Ref<Space>, address: u64, end: u64, tables: bool) {
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

    #[inline(always)]
    fn take_record(&self, space: Ref<Space>) -> Result<Ref<Record>, Error> {
        if space.free_records.get().is_none() {
            self.make_records(space)?;
        }
        let record = space.free_records.get().ok_or(Error::OutOfTables)?;
        space.free_records.set(record.next.get());
        Ok(record)
    }

    /// Turns a pair into free records.
    #[cold]
    fn make_records(&self, space: Ref<Space>) -> Result<(), Error> {
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
    fn record_for(&self, space: Ref<Space>, frame: Ref<Slot>, address: u64) -> Result<Ref<Record>, Error> {
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
    pub(crate) fn drop_pages(&self, record: Ref<Record>, pages: u64) {
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
}
