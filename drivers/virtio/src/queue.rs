//! A split virtqueue (VirtIO 1.2, section 2.7), for requests whose data lies anywhere.
//!
//! A request is a row of [`Segment`]s: addresses as the device knows them, and lengths. The queue neither holds nor
//! makes references to what lies there. Where the device offers indirect descriptors (2.7.5.3) each request has a
//! table of its own and takes one place in the ring, whatever its number of segments; otherwise its segments are
//! chained in the ring.
//!
//! What the queue needs to know it keeps for itself, and never reads back what it has written. Of the device it reads
//! three things: how far it has come (not further than what it was given), what it has used (must be with it now), and
//! how much it has written there (not more than there is room for).

use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

use crate::{DeviceError, Dma, Features, NoMemory};

/// Descriptor flag: another one follows.
const NEXT: u16 = 1;
/// Descriptor flag: for the device to write.
const WRITE: u16 = 2;
/// Descriptor flag: what it refers to is a table of descriptors.
const INDIRECT: u16 = 4;
/// Bytes of a descriptor.
const DESCRIPTOR: usize = 16;
/// In the flags of either ring, without VIRTIO_F_EVENT_IDX: do not notify me.
const NO_NOTIFY: u16 = 1;

/// Memory that is part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins, for the device.
    pub address: u64,
    /// Bytes.
    pub length: u32,
    /// For the device to write; otherwise to read. What is to be read comes first (VirtIO 1.2, 2.7.4.2).
    pub writable: bool,
}

impl Segment {
    /// Memory for the device to read.
    pub const fn readable(address: u64, length: u32) -> Segment {
        Segment { address, length, writable: false }
    }

    /// Memory for the device to write.
    pub const fn writable(address: u64, length: u32) -> Segment {
        Segment { address, length, writable: true }
    }
}

/// A request that the device has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// As [`Queue::add`] named it.
    pub token: u16,
    /// How many bytes the device says it has written, at most what there was room for.
    pub length: u32,
}

/// The queue has no room for this request now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Where the parts of a queue lie, for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How many descriptors it has.
    pub size: u16,
    /// The table of descriptors.
    pub descriptors: u64,
    /// What the driver writes ("available ring").
    pub driver: u64,
    /// What the device writes ("used ring").
    pub device: u64,
}

/// What is known of a place in the table, whatever the device says.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The next free one, or the next one of the same request.
    next: u16,
    /// The last one of the request that begins here.
    last: u16,
    /// How many it takes; 0: no request begins here.
    places: u16,
    /// How many bytes the device may write.
    room: u32,
}

/// Tables of descriptors, one for each place.
#[derive(Debug)]
struct Tables<'m> {
    words: &'m [AtomicU64],
    address: u64,
    /// Descriptors of each.
    length: usize,
}

/// A queue of at most `N` requests, a power of two.
#[derive(Debug)]
pub struct Queue<'m, const N: usize> {
    layout: Layout,
    descriptors: &'m [AtomicU64],
    /// Flags, index, ring, and (with EVENT_IDX) from which used index on to interrupt.
    driver: &'m [AtomicU16],
    /// Flags and index in one, then pairs of identity and length, and (with EVENT_IDX) from which index on to notify.
    device: &'m [AtomicU32],
    tables: Option<Tables<'m>>,
    event_idx: bool,
    places: [Place; N],
    /// The first free place, and how many there are.
    free: u16,
    room: u16,
    /// How many requests were ever put in, how many of these the device was shown, how many it has used.
    added: u16,
    shown: u16,
    used: u16,
}

impl<'m, const N: usize> Queue<'m, N> {
    const SIZE_IS_POSSIBLE: () = assert!(N.is_power_of_two() && N <= 1 << 15);

    /// A queue of `size` descriptors (a power of two, at most `N`; see `Transport::queue_size`), for requests of at
    /// most `segments` segments, with the features that were agreed on.
    pub fn new(
        dma: &mut impl Dma<'m>,
        size: u16,
        segments: usize,
        features: u64,
    ) -> Result<Queue<'m, N>, NoMemory> {
        const { Self::SIZE_IS_POSSIBLE }
        let features = Features::from_bits_retain(features);
        let count = usize::from(size).clamp(1, N);
        let parts =
            [DESCRIPTOR * count, 6 + 2 * count, 6 + 8 * count].map(|bytes| bytes.next_multiple_of(64));
        let memory = dma.allocate(parts.iter().sum())?;
        let (descriptors, rest) = memory.split_at(parts[0]).ok_or(NoMemory)?;
        let (driver, device) = rest.split_at(parts[1]).ok_or(NoMemory)?;
        let tables = match features.contains(Features::INDIRECT_DESC) && segments > 1 {
            true => Some(Tables::new(dma, count, segments)?),
            false => None,
        };
        let layout = Layout {
            size: count as u16,
            descriptors: descriptors.address(),
            driver: driver.address(),
            device: device.address(),
        };
        let mut queue = Queue {
            layout,
            descriptors: descriptors.words(),
            driver: driver.u16s(),
            device: device.u32s(),
            tables,
            event_idx: features.contains(Features::EVENT_IDX),
            places: [Place { next: 0, last: 0, places: 0, room: 0 }; N],
            free: 0,
            room: 0,
            added: 0,
            shown: 0,
            used: 0,
        };
        queue.clear();
        Ok(queue)
    }

    /// Makes the queue as it was when it was new. Only for a device that was reset, and uses it no more.
    pub fn clear(&mut self) {
        for (at, place) in self.places.iter_mut().enumerate() {
            *place = Place { next: at as u16 + 1, last: 0, places: 0, room: 0 };
        }
        (self.free, self.room) = (0, self.layout.size);
        (self.added, self.shown, self.used) = (0, 0, 0);
        self.driver.iter().for_each(|unit| unit.store(0, Ordering::Relaxed));
        self.device.iter().for_each(|unit| unit.store(0, Ordering::Relaxed));
    }

    /// Where its parts lie.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether a request of so many segments has room now.
    #[inline]
    pub fn has_room(&self, segments: usize) -> bool {
        match &self.tables {
            Some(tables) => self.room > 0 && segments <= tables.length,
            None => segments <= usize::from(self.room),
        }
    }

    /// How many segments a request can have.
    pub fn most_segments(&self) -> usize {
        self.tables.as_ref().map_or(usize::from(self.layout.size), |tables| tables.length)
    }

    /// How the next request will be called that [`Self::add`] takes.
    #[inline]
    pub fn next_token(&self) -> u16 {
        self.free
    }

    /// How many requests the device has.
    #[inline]
    pub fn under_way(&self) -> u16 {
        self.added.wrapping_sub(self.used)
    }

    /// Puts in a request of `count` segments (at least 1), which gets the name that is returned; the device sees it
    /// after the next [`Self::publish`]. The memory is the device's until [`Self::pop`] names the request.
    #[inline]
    pub fn add(&mut self, count: usize, segments: impl Iterator<Item = Segment>) -> Result<u16, Full> {
        if count == 0 || !self.has_room(count) {
            return Err(Full);
        }
        let head = self.free;
        let segments = segments.take(count);
        let place = match &self.tables {
            Some(tables) => {
                let room = tables.write(head, count, segments);
                let (address, bytes) = tables.part(head, count);
                write_descriptor(self.descriptors, head.into(), address, bytes, INDIRECT, 0);
                Place { next: self.places[usize::from(head)].next, last: head, places: 1, room }
            }
            None => self.write_chain(head, count, segments),
        };
        self.free = self.places[usize::from(place.last)].next;
        self.room -= place.places;
        self.places[usize::from(head)] = place;
        let at = usize::from(self.added & (self.layout.size - 1));
        self.driver[2 + at].store(head, Ordering::Relaxed);
        self.added = self.added.wrapping_add(1);
        Ok(head)
    }

    /// Writes segments into free places of the ring's own table.
    fn write_chain(&self, head: u16, count: usize, segments: impl Iterator<Item = Segment>) -> Place {
        let (mut at, mut last, mut room) = (head, head, 0u32);
        for (number, segment) in segments.enumerate() {
            let next = self.places[usize::from(at)].next;
            let flags = flags(&segment, number + 1 < count);
            write_descriptor(self.descriptors, at.into(), segment.address, segment.length, flags, next);
            room = room.saturating_add(segment.room());
            (last, at) = (at, next);
        }
        Place { next: self.places[usize::from(head)].next, last, places: count as u16, room }
    }

    /// Shows the device what was put in. True: it wants to be notified.
    #[inline]
    #[must_use = "a device that sleeps is to be notified"]
    pub fn publish(&mut self) -> bool {
        let before = core::mem::replace(&mut self.shown, self.added);
        let passed = self.added.wrapping_sub(before);
        if passed == 0 {
            return false;
        }
        self.driver[1].store(self.added, Ordering::Release);
        // Between what the device is shown and the look at what it wants, as it does the other way round (2.7.13.4.1).
        fence(Ordering::SeqCst);
        match self.event_idx {
            true => {
                let event = self.device[1 + 2 * usize::from(self.layout.size)].load(Ordering::Relaxed) as u16;
                // Whether `before <= event < added`, on the circle of numbers (2.7.10).
                self.added.wrapping_sub(event).wrapping_sub(1) < passed
            }
            false => self.device[0].load(Ordering::Relaxed) as u16 & NO_NOTIFY == 0,
        }
    }

    /// The next request that the device has used, if there is one.
    #[inline]
    pub fn pop(&mut self) -> Result<Option<Used>, DeviceError> {
        let to = (self.device[0].load(Ordering::Acquire) >> 16) as u16;
        match to.wrapping_sub(self.used) {
            0 => return Ok(None),
            count if count > self.shown.wrapping_sub(self.used) => {
                return Err(DeviceError::UsedIndex { from: self.used, to });
            }
            _ => {}
        }
        let at = 1 + 2 * usize::from(self.used & (self.layout.size - 1));
        let id = self.device[at].load(Ordering::Relaxed);
        let said = self.device[at + 1].load(Ordering::Relaxed);
        let place = match self.places.get(id as usize) {
            Some(place) if place.places > 0 => *place,
            _ => return Err(DeviceError::UsedId(id)),
        };
        if said > place.room {
            return Err(DeviceError::UsedLength { said, room: place.room });
        }
        self.give_back(id as u16, place);
        self.used = self.used.wrapping_add(1);
        Ok(Some(Used { token: id as u16, length: said }))
    }

    #[inline]
    fn give_back(&mut self, head: u16, place: Place) {
        self.places[usize::from(head)].places = 0;
        self.places[usize::from(place.last)].next = self.free;
        self.free = head;
        self.room += place.places;
    }

    /// Asks for an interrupt when the device uses the next request, and looks once more: true when there is still
    /// nothing to pop, so that the driver may sleep.
    pub fn sleep(&mut self) -> bool {
        match self.event_idx {
            true => self.driver[2 + usize::from(self.layout.size)].store(self.used, Ordering::Relaxed),
            false => self.driver[0].store(0, Ordering::Relaxed),
        }
        fence(Ordering::SeqCst);
        (self.device[0].load(Ordering::Relaxed) >> 16) as u16 == self.used
    }

    /// Asks for no interrupts until the next [`Self::sleep`]. With EVENT_IDX there is nothing to ask: the device
    /// interrupts once each time it is asked.
    pub fn awake(&mut self) {
        if !self.event_idx {
            self.driver[0].store(NO_NOTIFY, Ordering::Relaxed);
        }
    }
}

impl Segment {
    /// How many bytes of it the device may write.
    const fn room(&self) -> u32 {
        if self.writable { self.length } else { 0 }
    }
}

impl<'m> Tables<'m> {
    fn new(dma: &mut impl Dma<'m>, count: usize, length: usize) -> Result<Tables<'m>, NoMemory> {
        let memory = dma.allocate(count * length * DESCRIPTOR)?;
        Ok(Tables { words: memory.words(), address: memory.address(), length })
    }

    /// Address and bytes of the first `count` descriptors of table `table`.
    #[inline]
    fn part(&self, table: u16, count: usize) -> (u64, u32) {
        let offset = usize::from(table) * self.length * DESCRIPTOR;
        (self.address + offset as u64, (count * DESCRIPTOR) as u32)
    }

    /// Writes table `table`; how many bytes of it the device may write.
    #[inline]
    fn write(&self, table: u16, count: usize, segments: impl Iterator<Item = Segment>) -> u32 {
        let mut room = 0u32;
        let first = usize::from(table) * self.length;
        for (number, segment) in segments.enumerate() {
            let flags = flags(&segment, number + 1 < count);
            let next = number as u16 + 1;
            write_descriptor(self.words, first + number, segment.address, segment.length, flags, next);
            room = room.saturating_add(segment.room());
        }
        room
    }
}

#[inline]
fn flags(segment: &Segment, more: bool) -> u16 {
    (if segment.writable { WRITE } else { 0 }) | (if more { NEXT } else { 0 })
}

/// Writes a descriptor (2.7.5): address; length, flags and next.
#[inline]
fn write_descriptor(table: &[AtomicU64], at: usize, address: u64, length: u32, flags: u16, next: u16) {
    table[2 * at].store(address, Ordering::Relaxed);
    let rest = u64::from(length) | u64::from(flags) << 32 | u64::from(next) << 48;
    table[2 * at + 1].store(rest, Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
