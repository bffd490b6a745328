//! A VirtIO device of software, for the host tests of drivers.
//!
//! [`FakeDevice`] is the mechanism of a device: registers, status, features, vectors, queues, interrupts. What it does
//! with the requests it is given is the test's: it takes them ([`FakeDevice::take`]), reads and writes the memory they
//! name, and gives them back in whatever order ([`FakeDevice::complete`]). It sleeps as real ones do: what it was not
//! notified of it does not see, so a driver that forgets to notify it waits for ever.
//!
//! It can misbehave: [`Whims`] are what it does wrong by itself; [`FakeDevice::complete`] takes identities and lengths
//! that make no sense; [`FakeDevice::jump`] lets the used index run away. What it would have to touch outside the
//! memory that was given to it, as an IOMMU sees it, it notes in [`FakeDevice::faults`].
//!
//! A driver's mistake that the standard forbids (a descriptor that leads nowhere, a queue changed while in service)
//! panics: the test has found it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::queue::Segment;
use crate::registers::{Area, Registers};
use crate::{Dma, DmaMemory, Features, NoMemory};

/// Where memory begins, as devices see it.
const BASE: u64 = 0x4000_0000;
const PAGE: usize = 4096;

const ACKNOWLEDGE_AND_DRIVER: u8 = 1 | 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const NEEDS_RESET: u8 = 64;
const FAILED: u8 = 128;

/// Memory that drivers and devices share.
#[derive(Debug)]
pub struct Arena {
    words: Vec<AtomicU64>,
    used: Cell<usize>,
    kept: Cell<usize>,
}

impl Arena {
    /// So many bytes of it.
    pub fn new(bytes: usize) -> Arena {
        Arena {
            words: (0..bytes.next_multiple_of(PAGE) / 8).map(|_| AtomicU64::new(0)).collect(),
            used: Cell::new(0),
            kept: Cell::new(0),
        }
    }

    /// What was allocated so far outlives the driver, as clients' data does.
    pub fn keep(&self) {
        self.kept.set(self.used.get());
    }

    /// Takes back what a driver has allocated, for its next life, and fills it with `garbage`.
    pub fn take_back(&self, garbage: u64) {
        let used = self.used.replace(self.kept.get());
        let words = &self.words[self.kept.get() / 8..used / 8];
        words.iter().for_each(|word| word.store(garbage, Ordering::Relaxed));
    }

    /// Whether all these bytes were allocated.
    fn holds(&self, address: u64, bytes: usize) -> bool {
        let end = address.checked_add(bytes as u64);
        address >= BASE && end.is_some_and(|end| end <= BASE + self.used.get() as u64)
    }

    /// Reads bytes; they were allocated.
    pub fn read(&self, address: u64, to: &mut [u8]) {
        assert!(self.holds(address, to.len()), "memory at {address:#x} was never allocated");
        for (at, byte) in (address - BASE..).zip(to) {
            *byte = self.words[at as usize / 8].load(Ordering::Relaxed).to_le_bytes()[at as usize % 8];
        }
    }

    /// Writes bytes; they were allocated.
    pub fn write(&self, address: u64, from: &[u8]) {
        assert!(self.holds(address, from.len()), "memory at {address:#x} was never allocated");
        for (at, byte) in (address - BASE..).zip(from) {
            let word = &self.words[at as usize / 8];
            let mut bytes = word.load(Ordering::Relaxed).to_le_bytes();
            bytes[at as usize % 8] = *byte;
            word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        }
    }

    fn number<const N: usize>(&self, address: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.read(address, &mut bytes);
        bytes
    }

    fn u16(&self, address: u64) -> u16 {
        u16::from_le_bytes(self.number(address))
    }

    fn u32(&self, address: u64) -> u32 {
        u32::from_le_bytes(self.number(address))
    }

    fn u64(&self, address: u64) -> u64 {
        u64::from_le_bytes(self.number(address))
    }
}

impl<'m> Dma<'m> for &'m Arena {
    fn allocate(&mut self, bytes: usize) -> Result<DmaMemory<'m>, NoMemory> {
        let first = self.used.get();
        let end = first + bytes.next_multiple_of(PAGE);
        let words = self.words.get(first / 8..end / 8).ok_or(NoMemory)?;
        words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        self.used.set(end);
        Ok(DmaMemory::new(words, BASE + first as u64))
    }
}

/// What a device does wrong by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Whims {
    /// All its registers read as ones.
    pub gone: bool,
    /// It never finishes a reset.
    pub never_resets: bool,
    /// It does not take the features that were chosen.
    pub refuses_features: bool,
    /// It takes no MSI-X vectors.
    pub refuses_vectors: bool,
    /// It does not put queues into service.
    pub refuses_queues: bool,
    /// Its configuration changes at each look.
    pub restless: bool,
}

/// A request, as the device finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name on the ring.
    pub id: u16,
    /// Its parts.
    pub segments: Vec<Segment>,
}

impl Chain {
    /// Bytes that the device may write.
    pub fn room(&self) -> u32 {
        self.segments.iter().filter(|each| each.writable).map(|each| each.length).sum()
    }
}

#[derive(Clone, Copy, Debug)]
struct FakeQueue {
    most: u16,
    size: u16,
    vector: u16,
    enabled: bool,
    /// Descriptors, driver's ring, device's ring.
    parts: [u64; 3],
    taken: u16,
    used: u16,
    awake: bool,
    kicks: u64,
}

impl FakeQueue {
    const fn new(most: u16) -> FakeQueue {
        FakeQueue {
            most,
            size: most,
            vector: u16::MAX,
            enabled: false,
            parts: [0; 3],
            taken: 0,
            used: 0,
            awake: false,
            kicks: 0,
        }
    }
}

#[derive(Debug)]
struct State<'m> {
    arena: &'m Arena,
    offered: u64,
    config: Vec<u8>,
    vectors: u16,
    queues: Vec<FakeQueue>,
    status: u8,
    generation: u8,
    /// Of features: the device's, the driver's; of queues.
    selected: [u32; 3],
    accepted: u64,
    config_vector: u16,
    interrupts: u64,
    faults: Vec<u64>,
    whims: Whims,
}

/// A device. Clones are the same device: the driver's registers, and the test's hand on it.
#[derive(Clone, Debug)]
pub struct FakeDevice<'m>(Rc<RefCell<State<'m>>>);

impl<'m> FakeDevice<'m> {
    /// A device that offers the features `offered`, with queues of these sizes and this configuration, and 8 vectors.
    pub fn new(arena: &'m Arena, offered: u64, queues: &[u16], config: &[u8]) -> FakeDevice<'m> {
        FakeDevice(Rc::new(RefCell::new(State {
            arena,
            offered,
            config: config.to_vec(),
            vectors: 8,
            queues: queues.iter().map(|most| FakeQueue::new(*most)).collect(),
            status: 0,
            generation: 0,
            selected: [0; 3],
            accepted: 0,
            config_vector: u16::MAX,
            interrupts: 0,
            faults: Vec::new(),
            whims: Whims::default(),
        })))
    }

    /// What all devices of today offer.
    pub const FEATURES: u64 = Features::OURS.bits();

    /// Has it misbehave, or behave again.
    pub fn set_whims(&self, whims: Whims) {
        self.0.borrow_mut().whims = whims;
    }

    /// How it misbehaves.
    pub fn whims(&self) -> Whims {
        self.0.borrow().whims
    }

    /// The features that were agreed on.
    pub fn accepted(&self) -> u64 {
        self.0.borrow().accepted
    }

    /// The interrupts since the last look: vector n is bit n.
    pub fn interrupts(&self) -> u64 {
        std::mem::take(&mut self.0.borrow_mut().interrupts)
    }

    /// Addresses that it was led to and that are no memory of its driver's.
    pub fn faults(&self) -> Vec<u64> {
        self.0.borrow().faults.clone()
    }

    /// How often queue `queue` was notified.
    pub fn kicks(&self, queue: u16) -> u64 {
        self.0.borrow().queues[usize::from(queue)].kicks
    }

    /// Whether the driver has let it begin.
    pub fn runs(&self) -> bool {
        self.0.borrow().runs()
    }

    /// Resets it, as who fences it does when its driver has died.
    pub fn reset(&self) {
        self.0.borrow_mut().reset();
    }

    /// Needs a reset from now on.
    pub fn break_down(&self) {
        let mut state = self.0.borrow_mut();
        state.status |= NEEDS_RESET;
        state.config_interrupt();
    }

    /// Changes its configuration.
    pub fn set_config(&self, config: &[u8]) {
        let mut state = self.0.borrow_mut();
        state.config = config.to_vec();
        state.generation = state.generation.wrapping_add(1);
        state.config_interrupt();
    }

    /// The next request on queue `queue`, if it was notified of one.
    pub fn take(&self, queue: u16) -> Option<Chain> {
        self.0.borrow_mut().take(usize::from(queue))
    }

    /// Reads memory that a request names; false, and a fault, where there is none.
    pub fn read(&self, address: u64, to: &mut [u8]) -> bool {
        let mut state = self.0.borrow_mut();
        let there = state.reaches(address, to.len());
        if there {
            state.arena.read(address, to);
        }
        there
    }

    /// Writes memory that a request names; false, and a fault, where there is none.
    pub fn write(&self, address: u64, from: &[u8]) -> bool {
        let mut state = self.0.borrow_mut();
        let there = state.reaches(address, from.len());
        if there {
            state.arena.write(address, from);
        }
        there
    }

    /// Gives back a request of queue `queue`, or says so of one that it does not have.
    pub fn complete(&self, queue: u16, id: u32, length: u32) {
        self.0.borrow_mut().complete(usize::from(queue), id, length);
    }

    /// Lets the used index of queue `queue` go on by `by` without having used anything.
    pub fn jump(&self, queue: u16, by: u16) {
        let mut state = self.0.borrow_mut();
        let queue = &mut state.queues[usize::from(queue)];
        queue.used = queue.used.wrapping_add(by);
        let (place, index) = (queue.parts[2] + 2, queue.used);
        state.arena.write(place, &index.to_le_bytes());
        state.interrupts = u64::MAX;
    }
}

impl State<'_> {
    fn runs(&self) -> bool {
        self.status & (DRIVER_OK | NEEDS_RESET | FAILED) == DRIVER_OK
    }

    fn has(&self, feature: Features) -> bool {
        Features::from_bits_retain(self.accepted).contains(feature)
    }

    fn reset(&mut self) {
        self.queues.iter_mut().for_each(|queue| *queue = FakeQueue::new(queue.most));
        self.status = 0;
        self.selected = [0; 3];
        self.accepted = 0;
        self.config_vector = u16::MAX;
        self.interrupts = 0;
    }

    fn reaches(&mut self, address: u64, bytes: usize) -> bool {
        let there = self.arena.holds(address, bytes);
        if !there {
            self.faults.push(address);
        }
        there
    }

    fn interrupt(&mut self, vector: u16) {
        if vector < self.vectors {
            self.interrupts |= 1 << vector;
        }
    }

    fn config_interrupt(&mut self) {
        if self.status & DRIVER_OK != 0 {
            self.interrupt(self.config_vector);
        }
    }

    fn take(&mut self, number: usize) -> Option<Chain> {
        let event_idx = self.has(Features::EVENT_IDX);
        let queue = self.queues[number];
        if !self.runs() || !queue.enabled || !queue.awake {
            return None;
        }
        let index = self.arena.u16(queue.parts[1] + 2);
        assert!(index.wrapping_sub(queue.taken) <= queue.size, "more requests than the queue holds");
        if index == queue.taken {
            if event_idx {
                let place = queue.parts[2] + 4 + 8 * u64::from(queue.size);
                self.arena.write(place, &queue.taken.to_le_bytes());
            }
            self.queues[number].awake = false;
            return None;
        }
        let at = u64::from(queue.taken % queue.size);
        self.queues[number].taken = queue.taken.wrapping_add(1);
        let id = self.arena.u16(queue.parts[1] + 4 + 2 * at);
        Some(Chain { id, segments: self.segments(&queue, id) })
    }

    fn segments(&self, queue: &FakeQueue, id: u16) -> Vec<Segment> {
        let mut segments = Vec::new();
        let (mut table, mut entries) = (queue.parts[0], u32::from(queue.size));
        let mut at = id;
        loop {
            assert!(u32::from(at) < entries, "a descriptor leads out of its table");
            assert!(segments.len() <= 1 << 12, "descriptors go in circles");
            let place = table + 16 * u64::from(at);
            let (address, length) = (self.arena.u64(place), self.arena.u32(place + 8));
            let (flags, next) = (self.arena.u16(place + 12), self.arena.u16(place + 14));
            if flags & 4 != 0 {
                assert!(self.has(Features::INDIRECT_DESC) && flags == 4 && table == queue.parts[0]);
                (table, entries, at) = (address, length / 16, 0);
                continue;
            }
            assert!(length > 0, "a segment of no length");
            let writable = flags & 2 != 0;
            let in_order = segments.last().is_none_or(|last: &Segment| writable || !last.writable);
            assert!(in_order, "what is to be read comes behind what is to be written");
            segments.push(Segment { address, length, writable });
            if flags & 1 == 0 {
                return segments;
            }
            at = next;
        }
    }

    fn complete(&mut self, number: usize, id: u32, length: u32) {
        let queue = self.queues[number];
        if !queue.enabled {
            return;
        }
        let place = queue.parts[2] + 4 + 8 * u64::from(queue.used % queue.size);
        self.arena.write(place, &id.to_le_bytes());
        self.arena.write(place + 4, &length.to_le_bytes());
        let before = queue.used;
        let used = before.wrapping_add(1);
        self.queues[number].used = used;
        self.arena.write(queue.parts[2] + 2, &used.to_le_bytes());
        let wanted = match self.has(Features::EVENT_IDX) {
            true => self.arena.u16(queue.parts[1] + 4 + 2 * u64::from(queue.size)) == before,
            false => self.arena.u16(queue.parts[1]) & 1 == 0,
        };
        if wanted {
            self.interrupt(queue.vector);
        }
    }

    /// The value of `width` bytes of the register at `offset`.
    fn read(&mut self, area: Area, offset: u32, width: u32) -> u32 {
        let ones = u32::MAX >> (32 - 8 * width);
        let value = match area {
            _ if self.whims.gone => ones,
            Area::Common => self.read_common(offset, width),
            Area::Isr => 0,
            Area::Notify => ones,
            Area::Config => {
                let bytes = self.config.get(offset as usize..(offset + width) as usize);
                let bytes = bytes.expect("a read behind the configuration's end");
                bytes.iter().rev().fold(0, |all, byte| all << 8 | u32::from(*byte))
            }
        };
        value & ones
    }

    fn queue(&mut self) -> Option<&mut FakeQueue> {
        self.queues.get_mut(self.selected[2] as usize)
    }

    fn read_common(&mut self, offset: u32, width: u32) -> u32 {
        let half = |bits: u64, select| if select < 2 { (bits >> (32 * select)) as u32 } else { 0 };
        let (value, own) = match offset {
            4 => (half(self.offered, self.selected[0]), 4),
            12 => (half(self.accepted, self.selected[1]), 4),
            16 => (self.config_vector.into(), 2),
            18 => (self.queues.len() as u32, 2),
            20 => (self.status.into(), 1),
            21 => {
                self.generation = self.generation.wrapping_add(self.whims.restless.into());
                (self.generation.into(), 1)
            }
            22 => (self.selected[2], 2),
            24 => (self.queue().map_or(0, |queue| queue.size.into()), 2),
            26 => (self.queue().map_or(u32::from(u16::MAX), |queue| queue.vector.into()), 2),
            28 => (self.queue().is_some_and(|queue| queue.enabled).into(), 2),
            30 => (self.selected[2], 2),
            _ => panic!("no driver reads the register at {offset}"),
        };
        assert_eq!(width, own, "the register at {offset} is read with the wrong width");
        value
    }

    fn write(&mut self, area: Area, offset: u32, width: u32, value: u32) {
        match area {
            _ if self.whims.gone => {}
            Area::Common => self.write_common(offset, value),
            Area::Notify => {
                assert_eq!(offset, 4 * value, "a queue is notified at another's place");
                let queue = &mut self.queues[value as usize];
                queue.awake = true;
                queue.kicks += 1;
            }
            Area::Isr => {}
            Area::Config => {
                let place = self.config.get_mut(offset as usize..(offset + width) as usize);
                let place = place.expect("a write behind the configuration's end");
                place.copy_from_slice(&value.to_le_bytes()[..width as usize]);
            }
        }
    }

    fn write_common(&mut self, offset: u32, value: u32) {
        let (vectors, whims) = (self.vectors, self.whims);
        let taken = if value < vectors.into() && !whims.refuses_vectors { value as u16 } else { u16::MAX };
        match offset {
            0 => self.selected[0] = value,
            8 => self.selected[1] = value,
            12 => {
                let shift = 32 * self.selected[1];
                self.accepted = self.accepted & !(0xffff_ffff << shift) | u64::from(value) << shift;
            }
            16 => self.config_vector = taken,
            20 => self.set_status(value as u8),
            22 => self.selected[2] = value,
            _ => {
                let Some(queue) = self.queue() else { return };
                assert!(!queue.enabled, "a queue is changed while it is in service");
                match offset {
                    24 => queue.size = value as u16,
                    26 => queue.vector = taken,
                    28 => queue.enabled = value == 1 && !whims.refuses_queues,
                    32..56 => {
                        let part = &mut queue.parts[(offset as usize - 32) / 8];
                        let shift = 8 * (offset % 8);
                        *part = *part & !(0xffff_ffff << shift) | u64::from(value) << shift;
                    }
                    _ => panic!("no driver writes the register at {offset}"),
                }
            }
        }
    }

    fn set_status(&mut self, status: u8) {
        if status == 0 {
            if !self.whims.never_resets {
                self.reset();
            }
            return;
        }
        if status & FEATURES_OK != 0 && self.status & FEATURES_OK == 0 {
            assert_eq!(self.status, ACKNOWLEDGE_AND_DRIVER, "features are agreed on out of turn");
            assert_eq!(self.accepted & !self.offered, 0, "features were accepted that are not offered");
        }
        let refused = if self.whims.refuses_features { FEATURES_OK } else { 0 };
        self.status |= status & !refused;
    }
}

impl Registers for FakeDevice<'_> {
    fn bytes(&self, area: Area) -> u32 {
        match area {
            Area::Common => 64,
            Area::Notify => 64,
            Area::Isr => 4,
            Area::Config => self.0.borrow().config.len() as u32,
        }
    }

    fn notify_multiplier(&self) -> u32 {
        4
    }

    fn read8(&self, area: Area, offset: u32) -> u8 {
        self.0.borrow_mut().read(area, offset, 1) as u8
    }

    fn read16(&self, area: Area, offset: u32) -> u16 {
        self.0.borrow_mut().read(area, offset, 2) as u16
    }

    fn read32(&self, area: Area, offset: u32) -> u32 {
        self.0.borrow_mut().read(area, offset, 4)
    }

    fn write8(&self, area: Area, offset: u32, value: u8) {
        self.0.borrow_mut().write(area, offset, 1, value.into());
    }

    fn write16(&self, area: Area, offset: u32, value: u16) {
        self.0.borrow_mut().write(area, offset, 2, value.into());
    }

    fn write32(&self, area: Area, offset: u32, value: u32) {
        self.0.borrow_mut().write(area, offset, 4, value);
    }
}
