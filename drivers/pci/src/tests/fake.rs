//! A machine of bridges and devices, which can be told to misbehave, and which ends the life of who uses it at any store.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use ring::Word;

use crate::config::{NOTHING, SECONDARY_BUS_RESET, command, offset};
use crate::{Bdf, ConfigSpace, Machine, Register, Width};

thread_local! {
    /// Stores that the current life may still make.
    static STORES: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// Begins a life that ends after so many stores.
pub fn live(stores: u64) {
    STORES.set(stores);
}

/// What a life ends with.
pub struct Death;

/// Counts a store that is about to be made. A life that has none left ends here.
fn store() {
    match STORES.get().checked_sub(1) {
        Some(left) => STORES.set(left),
        None => std::panic::resume_unwind(Box::new(Death)),
    }
}

/// A word of the table, whose stores count.
#[derive(Debug, Default)]
pub struct Counted(pub AtomicU64);

impl Word for Counted {
    fn read_acquire(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn read(&self) -> u64 {
        self.read_acquire()
    }

    fn write_release(&self, value: u64) {
        store();
        self.0.store(value, Ordering::Release);
    }

    fn write(&self, value: u64) {
        self.write_release(value);
    }

    fn barrier() {}
}

/// What is wrong with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its VirtIO status does not become 0.
    NeverResetsItself,
    /// It does not answer after a reset of its own.
    NeverComesBack,
    /// It has transactions pending for ever.
    AlwaysPending,
    /// It is not there any more.
    Gone,
    /// Each read gives something else.
    Babbles,
    /// It stays a bus master.
    StaysMaster,
    /// Its base addresses keep what they had.
    KeepsAddresses,
    /// It takes so many microseconds to answer after a reset.
    Slow(u64),
}

/// A function.
#[derive(Clone, Debug)]
pub struct Device {
    /// The bridge that leads to it.
    pub parent: Option<usize>,
    pub device: u8,
    pub function: u8,
    pub config: Vec<u32>,
    /// Which bits of it can be written.
    writable: Vec<u32>,
    /// Registers, by base address and offset.
    pub memory: BTreeMap<(usize, u64), u32>,
    pub faults: Vec<Fault>,
    /// Its VirtIO status is this register.
    pub status: Option<(usize, u64)>,
    /// When it answers again.
    back: u64,
    pub resets: usize,
    /// Writes to its command register.
    pub commands: usize,
    /// It was reset by itself while it mastered the bus.
    pub reset_as_master: bool,
    express: Option<u16>,
    next_capability: u16,
}

impl Device {
    pub fn new(parent: Option<usize>, device: u8, vendor: u16, identity: u16) -> Device {
        let mut new = Device {
            parent,
            device,
            function: 0,
            config: vec![0; 1024],
            writable: vec![0; 1024],
            memory: BTreeMap::new(),
            faults: Vec::new(),
            status: None,
            back: 0,
            resets: 0,
            commands: 0,
            reset_as_master: false,
            express: None,
            next_capability: 0x40,
        };
        new.config[0] = u32::from(vendor) | u32::from(identity) << 16;
        new.writable[1] = command::MEMORY | command::BUS_MASTER | command::NO_INTX | 1;
        new
    }

    pub fn at(mut self, function: u8) -> Device {
        self.function = function;
        self
    }

    /// Of several functions.
    pub fn multi(mut self) -> Device {
        self.config[3] |= 0x80 << 16;
        self
    }

    pub fn bridge(mut self) -> Device {
        self.config[3] |= 1 << 16;
        self.writable[6] = 0x00ff_ffff;
        self.writable[8] = 0xfff0_fff0;
        self.writable[9] = 0xfff0_fff0;
        self.config[9] = 0x0001_0001;
        self.writable[10] = u32::MAX;
        self.writable[11] = u32::MAX;
        self.writable[15] = SECONDARY_BUS_RESET;
        self
    }

    pub fn bar(mut self, place: usize, size: u64) -> Device {
        self.writable[4 + place] = !(size as u32 - 1);
        self
    }

    pub fn wide_bar(mut self, place: usize, size: u64) -> Device {
        let mask = !(size - 1);
        self.config[4 + place] = 0b1100;
        self.writable[4 + place] = mask as u32;
        self.writable[5 + place] = (mask >> 32) as u32;
        self
    }

    /// A base address whose writable bits are no size.
    pub fn odd_bar(mut self, place: usize) -> Device {
        self.writable[4 + place] = 0xff0f_f000;
        self
    }

    pub fn ports(mut self, place: usize) -> Device {
        self.config[4 + place] = 0xc001;
        self.writable[4 + place] = 0xfffc;
        self
    }

    pub fn capability(&mut self, words: &[u32]) -> u16 {
        let offset = self.next_capability;
        let first = &mut self.config[0x34 / 4];
        let mut head = words[0];
        head |= (*first & 0xff) << 8;
        *first = u32::from(offset);
        self.config[1] |= command::CAPABILITIES;
        self.config[usize::from(offset / 4)] = head;
        for (index, word) in words.iter().enumerate().skip(1) {
            self.config[usize::from(offset / 4) + index] = *word;
        }
        self.next_capability += 4 * words.len() as u16;
        offset
    }

    pub fn express(mut self, resets: bool) -> Device {
        let offset = self.capability(&[0x10, u32::from(resets) << 28, 0]);
        self.express = Some(offset);
        self
    }

    pub fn msix(mut self, vectors: u32, table: u32, pending: u32) -> Device {
        let offset = self.capability(&[0x11 | (vectors - 1) << 16, table, pending]);
        self.writable[usize::from(offset / 4)] = 0xc000_0000;
        self
    }

    pub fn msi(mut self) -> Device {
        let offset = usize::from(self.capability(&[0x05 | 1 << 23, 0, 0, 0]) / 4);
        self.writable[offset..offset + 4].copy_from_slice(&[0x71 << 16, u32::MAX, u32::MAX, 0xffff]);
        self
    }

    pub fn structure(mut self, kind: u32, bar: u32, offset: u32, length: u32, multiplier: u32) -> Device {
        self.capability(&[0x09 | kind << 24, bar, offset, length, multiplier]);
        self
    }

    /// A VirtIO device as QEMU has it: MSI-X in one base address, its structures in another.
    pub fn virtio(parent: Option<usize>, device: u8) -> Device {
        let mut new = Device::new(parent, device, 0x1af4, 0x1042)
            .bar(1, 0x1000)
            .wide_bar(4, 0x4000)
            .msix(4, 1, 1 | 0x800)
            .express(true)
            .structure(1, 4, 0, 0x38, 0)
            .structure(3, 4, 0x1000, 0x1000, 0)
            .structure(4, 4, 0x2000, 0x1000, 0)
            .structure(2, 4, 0x3000, 0x1000, 4)
            .structure(5, 0, 0, 0, 0);
        new.status = Some((4, 0x14));
        new
    }

    pub fn fault(mut self, fault: Fault) -> Device {
        self.faults.push(fault);
        self
    }

    pub fn writable(mut self, offset: usize, bits: u32) -> Device {
        self.writable[offset / 4] = bits;
        self
    }

    pub fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    fn reset(&mut self, now: u64, by_itself: bool) {
        self.resets += 1;
        self.memory.clear();
        for (word, writable) in self.config.iter_mut().zip(&self.writable) {
            *word &= !writable;
        }
        self.back = match self.faults.iter().find_map(|fault| match fault {
            Fault::Slow(time) => Some(*time),
            _ => None,
        }) {
            Some(time) => now + time,
            None => now + 50_000,
        };
        if by_itself && self.has(Fault::NeverComesBack) {
            self.back = u64::MAX;
        }
    }

    fn write(&mut self, now: u64, offset: u16, value: u32) {
        let word = usize::from(offset / 4);
        if self.has(Fault::KeepsAddresses) && (4..10).contains(&word) {
            return;
        }
        self.commands += usize::from(offset == offset::COMMAND);
        if self.express.is_some_and(|express| express + 8 == offset) && value & 0x8000 != 0 {
            self.reset_as_master |= self.is_master();
            self.reset(now, true);
            return;
        }
        let writable = self.writable[word];
        self.config[word] = (self.config[word] & !writable) | (value & writable);
    }

    pub fn address(&self, place: usize) -> u64 {
        let low = u64::from(self.config[4 + place]);
        let high = if low & 0b100 != 0 { u64::from(self.config[5 + place]) } else { 0 };
        high << 32 | (low & !0xf)
    }

    fn size(&self, place: usize) -> u64 {
        let high = if self.config[4 + place] & 0b100 != 0 { self.writable[5 + place] } else { u32::MAX };
        (u64::from(high) << 32 | u64::from(self.writable[4 + place])).wrapping_neg()
    }

    fn is_bridge(&self) -> bool {
        self.config[3] >> 16 & 0x7f == 1
    }

    pub fn is_master(&self) -> bool {
        self.config[1] & command::BUS_MASTER != 0
    }
}

/// The machine.
#[derive(Clone, Debug, Default)]
pub struct Fake {
    pub devices: Vec<Device>,
    /// Frames by slot: physical addresses.
    pub frames: BTreeMap<u32, Range<u64>>,
    pub now: u64,
    /// Accesses so far, to have something that differs.
    count: u32,
}

impl Fake {
    pub fn add(&mut self, device: Device) -> usize {
        self.devices.push(device);
        self.devices.len() - 1
    }

    /// Sets a bridge up as firmware does.
    pub fn set_buses(&mut self, bridge: usize, primary: u8, (first, last): (u8, u8)) {
        self.devices[bridge].config[6] = u32::from(primary) | u32::from(first) << 8 | u32::from(last) << 16;
    }

    pub fn set_window(&mut self, bridge: usize, base: u32, last: u32) {
        self.devices[bridge].config[8] = base >> 16 | (last & 0xfff0_0000);
    }

    pub fn set_bar(&mut self, device: usize, place: usize, address: u64) {
        let config = &mut self.devices[device].config;
        config[4 + place] = (config[4 + place] & 0xf) | address as u32;
        if config[4 + place] & 0b100 != 0 {
            config[5 + place] = (address >> 32) as u32;
        }
    }

    /// The bus behind a bridge, and the last.
    fn behind(&self, bridge: usize) -> Range<u8> {
        let word = self.devices[bridge].config[6];
        (word >> 8) as u8..(word >> 16) as u8
    }

    /// The number of the bus that a function is on, if accesses get there.
    fn bus(&self, index: usize) -> Option<u8> {
        let Some(parent) = self.devices[index].parent else { return Some(0) };
        let own = self.bus(parent)?;
        let behind = self.behind(parent);
        let held = self.devices[parent].config[15] & SECONDARY_BUS_RESET != 0;
        (behind.start > own && behind.start <= behind.end && !held).then_some(behind.start)
    }

    fn leads(&self, index: usize, bus: u8) -> bool {
        let mut index = index;
        while let Some(parent) = self.devices[index].parent {
            let behind = self.behind(parent);
            if bus < behind.start || bus > behind.end {
                return false;
            }
            index = parent;
        }
        true
    }

    pub fn find(&self, at: Bdf) -> Option<usize> {
        (0..self.devices.len()).find(|index| {
            let device = &self.devices[*index];
            (device.device, device.function) == (at.device(), at.function())
                && self.bus(*index) == Some(at.bus())
                && self.leads(*index, at.bus())
        })
    }

    pub fn bdf(&self, index: usize) -> Bdf {
        let device = &self.devices[index];
        Bdf::new(self.bus(index).expect("it is reached"), device.device, device.function)
    }

    fn answers(&self, index: usize) -> bool {
        let device = &self.devices[index];
        !device.has(Fault::Gone) && self.now >= device.back
    }

    /// The register at a physical address: bridges must pass it on.
    fn at_address(&self, address: u64) -> Option<(usize, (usize, u64))> {
        for (index, device) in self.devices.iter().enumerate() {
            let bars = if device.is_bridge() { 2 } else { 6 };
            for place in 0..bars {
                let decodes = device.config[1] & command::MEMORY != 0 && device.writable[4 + place] != 0;
                let (base, size) = (device.address(place), device.size(place));
                if decodes
                    && self.answers(index)
                    && (base..base + size).contains(&address)
                    && self.passes(index, address)
                {
                    return Some((index, (place, address - base)));
                }
            }
        }
        None
    }

    fn passes(&self, index: usize, address: u64) -> bool {
        let Some(parent) = self.devices[index].parent else { return true };
        let config = &self.devices[parent].config;
        let (base, limit) =
            (u64::from(config[8] & 0xfff0) << 16, u64::from(config[8] & 0xfff0_0000) | 0xf_ffff);
        let ahead = u64::from(config[10]) << 32 | u64::from(config[9] & 0xfff0) << 16;
        let ahead_last = u64::from(config[11]) << 32 | u64::from(config[9] & 0xfff0_0000) | 0xf_ffff;
        let on = config[1] & (command::MEMORY | command::BUS_MASTER) == command::MEMORY | command::BUS_MASTER;
        let in_window = (base..=limit).contains(&address) || (ahead..=ahead_last).contains(&address);
        on && in_window && config[15] & SECONDARY_BUS_RESET == 0 && self.passes(parent, address)
    }
}

/// The machine, as a life sees it: it outlives that.
pub struct Seen<'a>(pub &'a RefCell<Fake>);

impl ConfigSpace for Seen<'_> {
    fn buses(&self) -> u16 {
        256
    }

    fn read(&mut self, function: Bdf, offset: u16) -> u32 {
        self.0.borrow_mut().read(function, offset)
    }

    fn write(&mut self, function: Bdf, offset: u16, value: u32) {
        self.0.borrow_mut().write(function, offset, value);
    }
}

impl Machine for Seen<'_> {
    fn register(&mut self, register: Register) -> Option<u32> {
        self.0.borrow_mut().register(register)
    }

    fn set_register(&mut self, register: Register, value: u32) -> Option<()> {
        self.0.borrow_mut().set_register(register, value)
    }

    fn now(&self) -> u64 {
        self.0.borrow().now
    }
}

impl Fake {
    fn read(&mut self, function: Bdf, offset: u16) -> u32 {
        assert!(offset.is_multiple_of(4) && offset < 4096, "four bytes of the space: {offset:#x}");
        self.count = self.count.wrapping_add(1);
        let Some(index) = self.find(function).filter(|index| self.answers(*index)) else { return NOTHING };
        let device = &self.devices[index];
        if device.has(Fault::Babbles) {
            return self.count.wrapping_mul(0x9e37_79b9);
        }
        let mut value = device.config[usize::from(offset / 4)];
        if offset == offset::COMMAND && device.has(Fault::StaysMaster) {
            value |= command::BUS_MASTER;
        }
        if device.express.is_some_and(|express| express + 8 == offset) && device.has(Fault::AlwaysPending) {
            value |= 1 << 21;
        }
        value
    }

    fn write(&mut self, function: Bdf, offset: u16, value: u32) {
        assert!(offset.is_multiple_of(4) && offset < 4096, "four bytes of the space: {offset:#x}");
        store();
        let Some(index) = self.find(function).filter(|index| self.answers(*index)) else { return };
        self.devices[index].write(self.now, offset, value);
        let held = |device: &Device| device.is_bridge() && device.config[15] & SECONDARY_BUS_RESET != 0;
        if offset == offset::BRIDGE_CONTROL && held(&self.devices[index]) {
            let now = self.now;
            let behind = self.devices.iter_mut().filter(|each| each.parent == Some(index));
            behind.for_each(|each| each.reset(now, false));
        }
    }

    fn register(&mut self, register: Register) -> Option<u32> {
        self.frames.get(&register.slot).filter(|frame| frame.contains(&register.address))?;
        let Some((index, place)) = self.at_address(register.address) else { return Some(NOTHING) };
        let value = self.devices[index].memory.get(&place).copied().unwrap_or(0);
        Some(if register.width == Width::Byte { value & 0xff } else { value })
    }

    fn set_register(&mut self, register: Register, value: u32) -> Option<()> {
        self.frames.get(&register.slot).filter(|frame| frame.contains(&register.address))?;
        store();
        if let Some((index, place)) = self.at_address(register.address) {
            let device = &mut self.devices[index];
            if device.status != Some(place) || value != 0 {
                device.memory.insert(place, value);
            } else if !device.has(Fault::NeverResetsItself) {
                device.memory.retain(|(bar, _), _| *bar != place.0);
            }
        }
        Some(())
    }
}
