//! Address spaces of threads (see [`crate::space`] and [`crate::mapping`] for what they are made of).

use abi::{Error, Kind, MapFlags, PAGE_SIZE, Rights, USER_TOP};

use crate::kernel::{Call, Kernel, Outcome, Stop, Words};
use crate::machine::Machine;
use crate::mapping::{Record, access_bits, range_end};
use crate::memory::{Ref, Table};
use crate::slot::Slot;
use crate::space::{Leaf, Space, entry, get, index, level_size};

/// How leaves are protected.
#[derive(Clone, Copy)]
struct Protection {
    /// The access bits of their entries.
    bits: u64,
    /// What their Frames must allow.
    needed: Rights,
    /// Whether they are looked at only.
    look: bool,
}

/// How far something came, and why no farther.
type Reached = (u64, Result<(), Error>);

impl<M: Machine> Kernel<M> {
    /// Physical address of the root table of the VSpace that `slot` is for.
    pub(crate) fn vspace_root(&self, slot: Ref<Slot>) -> u64 {
        self.memory.physical(slot.object.get())
    }

    /// VSpace.map
    pub(crate) fn vspace_map(&self, by: Call, [frame, address, offset, pages, flags, ..]: Words) -> Outcome {
        let space = self.space_in(by.slot)?;
        let frame = self.find(by.me, frame, Kind::Frame, Rights::NONE)?;
        let flags = MapFlags(flags);
        let size = flags.0 & (MapFlags::LARGE.0 | MapFlags::HUGE.0);
        if !MapFlags::ALL.has(flags) || pages == 0 {
            return Err(Error::InvalidArgument.into());
        }
        let range = [address, offset, pages];
        // (Each with its level known to the compiler.)
        let level = match MapFlags(size) {
            MapFlags(0) => return self.map_frame(by.here, by.me, space, frame, range, flags, 0, false),
            MapFlags::LARGE => 1,
            MapFlags::HUGE => 2,
            _ => return Err(Error::InvalidArgument.into()),
        };
        self.map_frame(by.here, by.me, space, frame, range, flags, level, false)
    }

    /// Whether an end of a range lies inside a large page.
    fn splits_page(&self, space: Ref<Space>, address: u64) -> bool {
        self.leaf(space, address).is_some_and(|leaf| !address.is_multiple_of(level_size(leaf.level)))
    }

    /// VSpace.unmap
    pub(crate) fn vspace_unmap(&self, by: Call, [address, pages, ..]: Words) -> Outcome {
        let space = self.space_in(by.slot)?;
        let end = range_end(address, pages)?;
        self.trace(by.here, abi::trace::Event::Unmap, address, pages);
        if let Some(table) = self.table_around(space, address, end) {
            let first = index(address, 0);
            let cleared = match pages {
                1 => self.clear_page(table, first),
                _ => {
                    let end = first.wrapping_add(pages as usize);
                    self.clear_in_table(&Leaf { table, index: first, level: 0 }, end, None)
                }
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
            self.advance(by.me, reached.wrapping_sub(address), 0..1);
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

    /// VSpace.protect
    pub(crate) fn vspace_protect(&self, by: Call, [address, pages, flags, ..]: Words) -> Outcome {
        let space = self.space_in(by.slot)?;
        let flags = MapFlags(flags);
        if !MapFlags::READ.or(MapFlags::WRITE).or(MapFlags::EXECUTE).has(flags) {
            return Err(Error::InvalidArgument.into());
        }
        let end = range_end(address, pages)?;
        let bits = access_bits(flags, Rights::ALL)?;
        if self.splits_page(space, address) || self.splits_page(space, end) {
            return Err(Error::InvalidArgument.into());
        }
        // (READ needs no look: whatever is mapped may be read.)
        let rights = [(MapFlags::WRITE, Rights::WRITE), (MapFlags::EXECUTE, Rights::EXECUTE)];
        let needed = rights.into_iter().filter(|&(flag, _)| flags.has(flag));
        let needed = needed.fold(Rights::NONE, |all, (_, right)| all.or(right));
        let (reached, result) =
            self.protect_range(space, address, end, Protection { bits, needed, look: false });
        if reached > address {
            self.flush(by.here, space, address, reached, false);
        }
        result?;
        if reached < end {
            self.advance(by.me, reached.wrapping_sub(address), 0..1);
            return Err(Stop::Preempted);
        }
        Ok([0; 8])
    }

    /// Changes a share of leaves after the other, each share only after all of it has been looked at; how far it
    /// came, and why no farther.
    fn protect_range(&self, space: Ref<Space>, address: u64, end: u64, change: Protection) -> Reached {
        /// Bytes of a share (or one large page).
        const SHARE: u64 = 128 * PAGE_SIZE;
        let look = Protection { look: true, ..change };
        let must_look = change.needed != Rights::NONE;
        // A short range is looked at as a whole first, so that a refusal leaves all of it as it was.
        let short = end.min(address.saturating_add(level_size(1)));
        if must_look && let Err(error) = self.protect_share(space, address, short, look) {
            return (address, Err(error));
        }
        let mut at = address;
        while at < end && (at == address || self.work.get() > 0) {
            let stop = end.min(at.saturating_add(SHARE));
            let looked =
                if must_look && stop > short { self.protect_share(space, at, stop, look) } else { Ok(at) };
            match looked.and_then(|_| self.protect_share(space, at, stop, change)) {
                Ok(reached) => at = reached.min(end),
                Err(error) => return (at, Err(error)),
            }
        }
        (at, Ok(()))
    }

    /// Looks at the leaves of a share, or changes them; where the last one ends. Holes are passed over.
    fn protect_share(
        &self,
        space: Ref<Space>,
        address: u64,
        stop: u64,
        how: Protection,
    ) -> Result<u64, Error> {
        let mut at = address;
        while at < stop {
            let (leaf, last) = match self.descend(space, at, 0) {
                Ok(table) => {
                    let (first, left) = (index(at, 0), stop.wrapping_sub(at) / PAGE_SIZE);
                    let last = first.wrapping_add(left as usize).min(512);
                    (Leaf { table, index: first, level: 0 }, last)
                }
                // What is not there in one go; large pages one by one, as what is beside one may be a table.
                Err(leaf) => {
                    let last = self.hole_end(&leaf).max(leaf.index.wrapping_add(1));
                    (leaf, last)
                }
            };
            if get(leaf.table, leaf.index).get() & entry::PRESENT != 0 || leaf.level == 0 {
                self.protect_in_table(&leaf, last, how)?;
            }
            let size = level_size(leaf.level);
            let start = at & !size.wrapping_sub(1);
            at = start.saturating_add(size.wrapping_mul(last.wrapping_sub(leaf.index) as u64));
        }
        Ok(at)
    }

    /// Looks at the leaves from `first` on up to index `last` of its table, or changes them.
    fn protect_in_table(&self, first: &Leaf, last: usize, how: Protection) -> Result<(), Error> {
        self.spent((last.wrapping_sub(first.index) as u32).saturating_add(6));
        let range = first.index..last;
        let Some(entries) = first.table.get().get(range.clone()) else { return Ok(()) };
        if !how.look {
            for cell in entries.iter().filter(|cell| cell.get() & entry::PRESENT != 0) {
                cell.set(cell.get() & !entry::ACCESS | how.bits);
            }
            return Ok(());
        }
        let records = self.records(first.table);
        let Some(records) = records.as_ref().and_then(|records| records.get().get(range)) else {
            return Ok(());
        };
        let mut allowed = 0;
        for (cell, record) in entries.iter().zip(records) {
            // (Once for each mapping.)
            if cell.get() & entry::PRESENT != 0 && record.get() != allowed {
                allowed = record.get();
                let rights = Ref::<Record>::at(allowed).map(|record| record.rights.get());
                if !rights.is_some_and(|rights| rights.has(how.needed)) {
                    return Err(Error::NoRights);
                }
            }
        }
        Ok(())
    }

    /// VSpace.query
    pub(crate) fn vspace_query(&self, by: Call, [address, ..]: Words) -> Outcome {
        let space = self.space_in(by.slot)?;
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
        let page = if by.me.sees_physical() { page } else { 0 };
        Ok([flags.0, page, level_size(leaf.level), 0, 0, 0, 0, 0])
    }
}
