//! What VSpaces and IoSpaces map, and which devices are under which.

use std::collections::VecDeque;

use abi::object::{IO_INTERRUPTS, IO_TOP};
use abi::table::method;
use abi::{Error, Kind, MapFlags, PAGE_SIZE, Rights, USER_TOP};

use super::{Cap, Mapping, Model, Object, Place, Result};

impl Model {
    /// The page that covers `address`.
    pub(super) fn page(&self, space: Object, address: u64) -> Option<(u64, Mapping)> {
        let (&start, &mapping) = self.spaces[&space].pages.range(..=address).next_back()?;
        (address < start + mapping.size).then_some((start, mapping))
    }

    pub(super) fn range(address: u64, pages: u64) -> Result<u64> {
        if !address.is_multiple_of(PAGE_SIZE) {
            return Err(Error::InvalidArgument);
        }
        let bytes = pages.checked_mul(PAGE_SIZE).filter(|_| pages <= 1 << 36).ok_or(Error::OutOfRange)?;
        address.checked_add(bytes).filter(|&end| end <= USER_TOP).ok_or(Error::OutOfRange)
    }

    pub(super) fn access(flags: u64, rights: u8) -> Result<u64> {
        let (flags, rights) = (MapFlags(flags), Rights(rights));
        if flags.has(MapFlags::WRITE.or(MapFlags::EXECUTE)) {
            return Err(Error::InvalidArgument);
        }
        let allowed = rights.has(Rights::READ)
            && (rights.has(Rights::WRITE) || !flags.has(MapFlags::WRITE))
            && (rights.has(Rights::EXECUTE) || !flags.has(MapFlags::EXECUTE));
        if allowed {
            Ok(1 | flags.0 & (MapFlags::WRITE.0 | MapFlags::EXECUTE.0))
        } else {
            Err(Error::NoRights)
        }
    }

    pub(super) fn map(&mut self, me: Object, space: Object, args: [u64; 8], seen: u64) -> Result<()> {
        let [frame, address, offset, pages, flags, ..] = args;
        let frame = self.find(me, frame, Kind::Frame, Rights::NONE)?;
        let both = MapFlags::LARGE.or(MapFlags::HUGE);
        if !MapFlags::ALL.has(MapFlags(flags)) || MapFlags(flags).has(both) || pages == 0 {
            return Err(Error::InvalidArgument);
        }
        let size = if MapFlags(flags).has(MapFlags::HUGE) {
            1 << 30
        } else if MapFlags(flags).has(MapFlags::LARGE) {
            1 << 21
        } else {
            PAGE_SIZE
        };
        let end = Model::range(address, pages)?;
        let Cap { object, bits, rights, device, .. } = self.caps[&frame];
        if [address, offset, end, object].iter().any(|value| value % size != 0) {
            return Err(Error::InvalidArgument);
        }
        if offset.checked_add(pages * PAGE_SIZE).is_none_or(|end| end > 1 << bits) {
            return Err(Error::OutOfRange);
        }
        let mut kept = Model::access(flags, rights)? | flags & both.0;
        if device || flags & MapFlags::UNCACHED.0 != 0 {
            kept |= MapFlags::UNCACHED.0;
        }
        let regions = (address >> 21)..=((end - 1) >> 21);
        let taken = self.page(space, address).is_some()
            || self.spaces[&space].pages.range(address..end).next().is_some();
        let s = self.spaces.get_mut(&space).unwrap();
        let maybe_table = size > PAGE_SIZE && regions.clone().any(|region| s.tables.contains(&region));
        if s.closed || seen == Error::OutOfTables as u64 {
            return Err(Error::OutOfTables);
        }
        if taken || maybe_table && seen == Error::AlreadyMapped as u64 {
            return Err(Error::AlreadyMapped);
        }
        if size == PAGE_SIZE {
            s.tables.extend(regions);
        }
        for at in (address..end).step_by(size as usize) {
            let physical = object + offset + (at - address);
            s.pages.insert(at, Mapping { cap: frame, physical, flags: kept, size });
        }
        Ok(())
    }

    /// unmap, protect
    pub(super) fn change(&mut self, space: Object, number: u32, args: [u64; 8]) -> Result<()> {
        let [address, pages, flags, ..] = args;
        let protect = number == method::VSpace::protect;
        let access = MapFlags::READ.or(MapFlags::WRITE).or(MapFlags::EXECUTE);
        if protect && !access.has(MapFlags(flags)) {
            return Err(Error::InvalidArgument);
        }
        let end = Model::range(address, pages)?;
        for edge in [address, end] {
            if self.page(space, edge).is_some_and(|(start, _)| start != edge) {
                return Err(Error::InvalidArgument);
            }
        }
        if !protect {
            let s = self.spaces.get_mut(&space).unwrap();
            s.pages.retain(|&at, _| at < address || at >= end);
            return Ok(());
        }
        // (What cannot be granted of any Frame is refused of none, too.)
        Model::access(flags, Rights::ALL.0)?;
        let mut changed = Vec::new();
        for (&at, mapping) in self.spaces[&space].pages.range(address..end) {
            let bits = Model::access(flags, self.caps[&mapping.cap].rights)?;
            changed.push((at, mapping.flags & !access.0 | bits));
        }
        let s = self.spaces.get_mut(&space).unwrap();
        for (at, flags) in changed {
            s.pages.get_mut(&at).unwrap().flags = flags;
        }
        Ok(())
    }

    pub(super) fn donate(&mut self, me: Object, space: Object, cptr: u64) -> Result<()> {
        let untyped = self.find(me, cptr, Kind::Untyped, Rights::WRITE)?;
        if self.caps[&untyped].device || self.caps[&untyped].bits < 13 || self.spaces[&space].closed {
            return Err(Error::InvalidArgument);
        }
        if !self.caps[&untyped].children.is_empty() {
            return Err(Error::Busy);
        }
        let donors = self.caps.values().filter(|cap| cap.place == Place::Donor(space)).count();
        if donors == 16 {
            return Err(Error::OutOfRange);
        }
        let Place::Slot(cnode, at) = self.caps[&untyped].place else { panic!("a slot elsewhere") };
        self.slots.remove(&(cnode, at));
        self.caps.get_mut(&untyped).unwrap().place = Place::Donor(space);
        Ok(())
    }

    pub(super) fn query(&self, me: Object, space: Object, address: u64) -> Result<Vec<u64>> {
        if address >= USER_TOP {
            return Err(Error::OutOfRange);
        }
        let (_, mapping) = self.page(space, address).ok_or(Error::NotMapped)?;
        let physical = if self.sees_physical(me) { mapping.physical } else { 0 };
        Ok(vec![mapping.flags, physical, mapping.size])
    }

    pub(super) fn io_range(address: u64, pages: u64) -> Result<u64> {
        Model::range(address, pages)
            .and_then(|end| if end > IO_TOP { Err(Error::OutOfRange) } else { Ok(end) })
    }

    pub(super) fn io_map(&mut self, me: Object, space: Object, args: [u64; 8], seen: u64) -> Result<()> {
        let [frame, address, _, pages, flags, ..] = args;
        self.find(me, frame, Kind::Frame, Rights::NONE)?;
        if flags & !(MapFlags::READ.0 | MapFlags::WRITE.0) != 0 || pages == 0 {
            return Err(Error::InvalidArgument);
        }
        let end = Model::io_range(address, pages)?;
        if address < IO_INTERRUPTS.end && end > IO_INTERRUPTS.start {
            return Err(Error::OutOfRange);
        }
        self.map(me, space, args, seen)
    }

    pub(super) fn io_bind(&mut self, me: Object, space: Object, cptr: u64) -> Result<()> {
        let from = self.find(me, cptr, Kind::Notification, Rights::WRITE)?;
        let place = Place::Target(space);
        let before = self.caps.iter().find(|(_, cap)| cap.place == place).map(|(&id, _)| id);
        if let Some(before) = before {
            self.unlink(before);
        }
        let cap = Cap { owner: false, children: VecDeque::new(), place, ..self.caps[&from].clone() };
        self.insert(from, cap);
        Ok(())
    }

    pub(super) fn attach(&mut self, me: Object, args: [u64; 8], seen: u64) -> Result<()> {
        let space = self.find_object(me, args[0], Kind::IoSpace, Rights::WRITE)?;
        let source = u16::try_from(args[1]).map_err(|_| Error::OutOfRange)?;
        if self.devices.contains_key(&source) {
            return Err(Error::Busy);
        }
        // (An IoSpace may have no memory for its first table left.)
        if self.spaces[&space].closed || seen == Error::OutOfTables as u64 {
            return Err(Error::OutOfTables);
        }
        self.devices.insert(source, space);
        Ok(())
    }

    /// Where the device `source` gets to at `address`.
    pub fn reach(&self, source: u16, address: u64, write: bool) -> Option<u64> {
        let (start, mapping) = self.page(*self.devices.get(&source)?, address)?;
        let may = !write || mapping.flags & MapFlags::WRITE.0 != 0;
        may.then_some(mapping.physical + (address - start))
    }
}
