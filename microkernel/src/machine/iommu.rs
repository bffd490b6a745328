//! The IOMMU: what devices reach, and which interrupts are theirs (Intel Virtualization Technology for Directed
//! I/O, revision 3.3; sections below are its).
//!
//! All units of PCI segment 0 share one root table with a context entry for each of the 65,536 sources, and one table
//! with an entry for each interrupt vector; so it does not matter which unit a device is behind. The units of other
//! segments, whose devices nobody drives and whose sources are numbered alike, have tables with nothing in them.
//! Invalidation is queued (6.5.2): the cache of interrupt entries knows no other way.

use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use firmware::acpi::{MAX_REMAPPERS, Platform};
use firmware::vtd;
use heapless::Vec;
use objects::io_space::MAX_DEVICES;
use objects::machine::IoFault;
use spin::Once;

use super::layout::PAGE;
use super::{apic, cpu, window};
use crate::log;

/// Bytes of the context entries of all sources.
const CONTEXTS: u64 = 65_536 * 16;
/// Looks at a register after which a unit is given up.
const PATIENCE: u32 = 100_000_000;

/// Offsets of registers (10.4).
mod register {
    pub const CAPABILITY: u64 = 0x8;
    pub const EXTENDED_CAPABILITY: u64 = 0x10;
    pub const COMMAND: u64 = 0x18;
    pub const STATUS: u64 = 0x1c;
    pub const ROOT: u64 = 0x20;
    pub const FAULT_STATUS: u64 = 0x34;
    pub const FAULT_CONTROL: u64 = 0x38;
    pub const FAULT_DATA: u64 = 0x3c;
    pub const FAULT_ADDRESS: u64 = 0x40;
    pub const FAULT_ADDRESS_HIGH: u64 = 0x44;
    pub const PROTECTED_MEMORY: u64 = 0x64;
    pub const QUEUE_TAIL: u64 = 0x88;
    pub const QUEUE: u64 = 0x90;
    pub const INTERRUPTS: u64 = 0xb8;
}

/// Bits of the command and status registers.
mod command {
    pub const TRANSLATE: u32 = 1 << 31;
    pub const SET_ROOT: u32 = 1 << 30;
    pub const FLUSH_BUFFER: u32 = 1 << 27;
    pub const QUEUE: u32 = 1 << 26;
    pub const REMAP_INTERRUPTS: u32 = 1 << 25;
    pub const SET_INTERRUPTS: u32 = 1 << 24;
    /// Those that say what is on, rather than what is to be done once.
    pub const LASTING: u32 = TRANSLATE | QUEUE | REMAP_INTERRUPTS;
}

/// One remapping unit.
#[derive(Clone, Copy)]
struct Unit {
    /// Where its registers are mapped.
    registers: u64,
    /// Its queue of invalidations, physical: a page, and a page with the word that it says it is done by.
    queue: u64,
    /// Whether the devices behind it are of a PCI segment other than 0.
    foreign: bool,
}

/// All of them, and their tables (physical addresses).
struct Iommu {
    units: Vec<Unit, MAX_REMAPPERS>,
    contexts: u64,
    /// Root tables and tables of interrupt entries: of segment 0, and of the others.
    tables: [[u64; 2]; 2],
    /// Levels of its tables, 3 or 4.
    levels: u32,
    /// Whether interrupts are remapped.
    remaps: bool,
    /// Whether it sees what is in the CPUs' caches (ECAP.C).
    coherent: bool,
    /// Whether it remembers that something is not there (CAP.CM, 6.1).
    remembers: bool,
    /// Whether writes to the tables wait in a buffer (CAP.RWBF, 6.8).
    buffers: bool,
}

static IOMMU: Once<Iommu> = Once::new();
/// The next entry in each unit's queue.
static TAILS: [AtomicU32; MAX_REMAPPERS] = [const { AtomicU32::new(0) }; MAX_REMAPPERS];

fn place<T>(at: u64) -> *mut T {
    window(at) as *mut T
}

impl Unit {
    fn read<T>(self, register: u64) -> T {
        let place = self.registers.wrapping_add(register) as *const T;
        // SAFETY: a register of a unit that ACPI names, whose page is mapped uncached.
        unsafe { place.read_volatile() }
    }

    fn write<T>(self, register: u64, value: T) {
        let place = self.registers.wrapping_add(register) as *mut T;
        // SAFETY: as for reading; what the unit is told to read and write is memory that boot took for it.
        unsafe { place.write_volatile(value) }
    }

    /// Gives a command, and waits until the status says that it is done (10.4.4).
    fn command(self, command: u32) {
        self.write::<u32>(register::COMMAND, self.read::<u32>(register::STATUS) & command::LASTING | command);
        let flushing = command & command::FLUSH_BUFFER;
        let done = |status: u32| status & command == command ^ flushing;
        wait_until(|| done(self.read::<u32>(register::STATUS)));
    }

    /// Where the fault records lie, and how many there are (10.4.2: FRO, NFR).
    fn fault_records(self) -> (u64, u64) {
        let capability = self.read::<u64>(register::CAPABILITY);
        ((capability >> 24 & 0x3ff) << 4, (capability >> 40 & 0xff).saturating_add(1))
    }

    /// Why it cannot be used, if it cannot.
    fn unfit(self) -> Option<&'static str> {
        let (capability, extended) =
            (self.read::<u64>(register::CAPABILITY), self.read::<u64>(register::EXTENDED_CAPABILITY));
        let (records, count) = self.fault_records();
        let domains = 1u64 << (capability & 7).saturating_mul(2).saturating_add(4);
        let reasons = [
            (capability >> 8 & 6 == 0, "no tables of 3 or 4 levels"),
            ((capability >> 16 & 0x3f) < 38, "addresses of less than 39 bits"),
            (domains <= MAX_DEVICES as u64, "too few domains"),
            (extended & 2 == 0, "no queue of invalidations"),
            (records.saturating_add(count << 4) > PAGE, "its fault records out of reach"),
        ];
        reasons.into_iter().find(|&(is_so, _)| is_so).map(|(_, reason)| reason)
    }

    /// Turns everything on, with nothing reachable.
    fn start(self, number: usize, iommu: &Iommu) {
        const PROTECTED_MEMORY: u64 = 3 << 5;
        const FAULTS_MASKED: u32 = 1 << 31;
        let [own, foreign] = iommu.tables;
        let [root, interrupts] = if self.foreign { foreign } else { own };
        if self.read::<u32>(register::STATUS) & command::LASTING != 0 {
            self.write::<u32>(register::COMMAND, 0);
            wait_until(|| self.read::<u32>(register::STATUS) & command::LASTING == 0);
        }
        if self.read::<u64>(register::CAPABILITY) & PROTECTED_MEMORY != 0 {
            self.write::<u32>(register::PROTECTED_MEMORY, 0);
        }
        self.write::<u64>(register::ROOT, root);
        self.command(command::SET_ROOT);
        self.write::<u64>(register::QUEUE_TAIL, 0);
        self.write::<u64>(register::QUEUE, self.queue);
        self.command(command::QUEUE);
        self.invalidate(number, &[vtd::CONTEXTS, vtd::IOTLB]);
        self.command(command::TRANSLATE);
        if iommu.remaps {
            const ENTRIES_256: u64 = 7;
            self.write::<u64>(register::INTERRUPTS, interrupts | ENTRIES_256);
            self.command(command::SET_INTERRUPTS);
            self.invalidate(number, &[vtd::INTERRUPTS]);
            // Without the bit that lets messages in the old format through (5.1.4).
            self.command(command::REMAP_INTERRUPTS);
        }
        // (At most as many as there can be records: a device may go on faulting.)
        let _left = (0..256).any(|_| self.next_fault().is_none());
        let (address, data) = apic::message(0, apic::FAULT_VECTOR);
        self.write::<u32>(register::FAULT_DATA, data as u32);
        self.write::<u32>(register::FAULT_ADDRESS, address as u32);
        self.write::<u32>(register::FAULT_ADDRESS_HIGH, 0);
        self.write::<u32>(register::FAULT_CONTROL, if self.foreign { FAULTS_MASKED } else { 0 });
    }

    /// Hands descriptors to the unit, and waits until it has done what they say.
    fn invalidate(self, number: usize, descriptors: &[u64]) {
        let Some(tail) = TAILS.get(number) else { return };
        let status_address = self.queue.wrapping_add(PAGE);
        let status = place::<u32>(status_address);
        // SAFETY: the second page of the queue, which is the unit's and this function's alone.
        unsafe { status.write_volatile(0) };
        for descriptor in vtd::batch(descriptors, status_address) {
            let at = u64::from(tail.load(Ordering::Relaxed));
            let entry = place::<[u64; 2]>(self.queue.wrapping_add(at << 4));
            // SAFETY: one of the 256 entries of the queue; the unit is past it, as every call waits.
            unsafe { entry.write_volatile(descriptor) };
            tail.store((at as u32).wrapping_add(1) & 0xff, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
        self.write::<u64>(register::QUEUE_TAIL, u64::from(tail.load(Ordering::Relaxed)) << 4);
        // SAFETY: as above; the unit writes it.
        wait_until(|| unsafe { status.read_volatile() } == vtd::DONE);
    }

    /// Takes a fault that the unit has recorded (7.2, 10.4.14).
    fn next_fault(self) -> Option<IoFault> {
        const RECORDED: u64 = 1 << 63;
        const READ: u64 = 1 << 62;
        let (first, count) = self.fault_records();
        for record in (0..count).map(|at| first.saturating_add(at << 4)) {
            let high = self.read::<u64>(record.saturating_add(8));
            if high & RECORDED == 0 {
                continue;
            }
            let low = self.read::<u64>(record);
            self.write::<u64>(record.saturating_add(8), RECORDED);
            let read = u64::from(high & READ != 0) << 8;
            let (reason, page) = (high >> 32 & 0xff, low & !0xfff);
            return Some(IoFault { source: high as u16, address: page, reason: reason | read });
        }
        // Nothing is left: others, of which the records had no room, are forgotten; the next one is told again.
        self.write::<u32>(register::FAULT_STATUS, self.read::<u32>(register::FAULT_STATUS));
        None
    }
}

/// Waits for a unit.
fn wait_until(mut done: impl FnMut() -> bool) {
    assert!((0..PATIENCE).any(|_| done()), "the IOMMU does not do what it is told");
}

impl Iommu {
    fn invalidate(&self, descriptors: &[u64]) {
        for (number, unit) in self.units.iter().enumerate() {
            if self.buffers {
                unit.command(command::FLUSH_BUFFER);
            }
            unit.invalidate(number, descriptors);
        }
    }

    /// Sets an entry of two words of a table; the word that says that it is there last, or first when it goes.
    fn set(&self, table: u64, at: u64, [low, high]: [u64; 2]) {
        let entry = place::<[AtomicU64; 2]>(table.wrapping_add(at << 4));
        // SAFETY: within a table that boot took for this, of as many entries as there are values of `at`.
        let [first, second] = unsafe { &*entry };
        first.store(0, Ordering::Release);
        second.store(high, Ordering::Release);
        first.store(low, Ordering::Release);
        self.write_back(window(table.wrapping_add(at << 4)), 16);
    }

    fn write_back(&self, address: u64, size: u64) {
        const LINE: u64 = 64;
        if !self.coherent {
            for line in (address & !(LINE - 1)..address.saturating_add(size)).step_by(LINE as usize) {
                // SAFETY: memory of the kernel's; writing a line back changes nothing.
                unsafe { core::arch::x86_64::_mm_clflush(line as *const u8) };
            }
        }
        fence(Ordering::SeqCst);
    }

    /// Lets the device `source` raise `vector` at `cpu` (9.10).
    fn set_interrupt(&self, cpu: usize, vector: u8, level: bool, source: Option<u16>) {
        const PRESENT: u64 = 1;
        const VERIFY_SOURCE: u64 = 1 << 18;
        let low =
            PRESENT | u64::from(level) << 4 | u64::from(vector) << 16 | u64::from(cpu::apic_id(cpu)) << 40;
        let high = source.map_or(0, |source| VERIFY_SOURCE | u64::from(source));
        self.set_interrupt_entry(vector, [low, high]);
    }

    fn set_interrupt_entry(&self, vector: u8, entry: [u64; 2]) {
        let [[_, interrupts], _] = self.tables;
        self.set(interrupts, u64::from(vector), entry);
        self.invalidate(&[vtd::INTERRUPTS]);
    }
}

/// Takes the units that firmware lists into service: with nothing reachable for any device, no interrupt
/// let through, and faults told at [`apic::FAULT_VECTOR`]. `pages` gives cleared memory, aligned to its size.
pub fn init(platform: &Platform, pages: &mut dyn FnMut(u64) -> u64) {
    if platform.remappers_unknown {
        return log!(
            "the IOMMU is not used: firmware's list of its units is damaged, or longer than {MAX_REMAPPERS}"
        );
    }
    let mut units = Vec::new();
    for found in &platform.remappers {
        let unit = Unit { registers: window(found.address), queue: 0, foreign: found.segment != 0 };
        if let Some(reason) = unit.unfit() {
            return log!("the IOMMU is not used: it has {reason}");
        }
        let _as_many_as_firmware_lists = units.push(Unit { queue: pages(2 * PAGE), ..unit });
    }
    let all = |register, bits| units.iter().all(|unit: &Unit| unit.read::<u64>(register) & bits != 0);
    let any = |register, bits| units.iter().any(|unit: &Unit| unit.read::<u64>(register) & bits != 0);
    let levels = [3, 4].into_iter().find(|levels| all(register::CAPABILITY, 1 << levels << 6));
    let Some(levels) = levels.filter(|_| !units.is_empty()) else { return };
    let new = Iommu {
        levels,
        remaps: all(register::EXTENDED_CAPABILITY, 1 << 3),
        coherent: all(register::EXTENDED_CAPABILITY, 1),
        remembers: any(register::CAPABILITY, 1 << 7),
        buffers: any(register::CAPABILITY, 1 << 4),
        contexts: pages(CONTEXTS),
        tables: [[pages(PAGE), pages(PAGE)], [pages(PAGE), pages(PAGE)]],
        units,
    };
    let [[root, _], _] = new.tables;
    for bus in 0..256 {
        new.set(root, bus, [new.contexts.wrapping_add(bus.wrapping_mul(PAGE)) | 1, 0]);
    }
    new.write_back(window(new.contexts), CONTEXTS);
    new.tables.iter().flatten().for_each(|&table| new.write_back(window(table), PAGE));
    let iommu = IOMMU.call_once(|| new);
    iommu.units.iter().enumerate().for_each(|(number, unit)| unit.start(number, iommu));
}

/// What it does, for the log.
pub fn report() -> impl fmt::Display {
    match IOMMU.get() {
        None => "no IOMMU: drivers are trusted with memory",
        Some(iommu) if iommu.remaps => {
            "IOMMU: devices reach nothing until they are let, their interrupts are remapped"
        }
        Some(_) => "IOMMU: devices reach nothing until they are let; their interrupts are trusted",
    }
}

/// Levels of the tables that it walks; 0 where there is none.
pub fn levels() -> u32 {
    IOMMU.get().map_or(0, |iommu| iommu.levels)
}

fn remapping() -> Option<&'static Iommu> {
    IOMMU.get().filter(|iommu| iommu.remaps)
}

/// Whether interrupts are remapped.
pub fn remaps_interrupts() -> bool {
    remapping().is_some()
}

/// The address and data with which the device `source`, and no other, raises `vector` at `cpu` (5.1.2.2); `None`
/// where interrupts are not remapped.
pub fn message(cpu: usize, vector: u8, source: u16) -> Option<(u64, u64)> {
    remapping()?.set_interrupt(cpu, vector, false, Some(source));
    Some((0xfee0_0000 | u64::from(vector) << 5 | 1 << 4, 0))
}

/// The upper half of an I/O APIC's entry for `vector` at `cpu` (5.1.5.1); the I/O APIC's messages come from
/// `source`, where firmware says so.
pub fn line(cpu: usize, vector: u8, level: bool, source: Option<u16>) -> Option<u32> {
    remapping()?.set_interrupt(cpu, vector, level, source);
    Some(u32::from(vector) << 17 | 1 << 16)
}

/// Lets nobody raise `vector` any more.
pub fn free_vector(vector: u8) {
    if let Some(iommu) = remapping() {
        iommu.set_interrupt_entry(vector, [0, 0]);
    }
}

/// Lets the device `source` reach what the tables at `root` map, as `domain`; with 0 nothing (9.3).
pub fn set_domain(source: u16, domain: u16, root: u64) {
    const PRESENT: u64 = 1;
    let Some(iommu) = IOMMU.get() else { return };
    let width = u64::from(iommu.levels.saturating_sub(2));
    let entry = if root == 0 { [0, 0] } else { [root | PRESENT, u64::from(domain) << 8 | width] };
    iommu.set(iommu.contexts, u64::from(source), entry);
    iommu.invalidate(&[vtd::CONTEXTS, vtd::IOTLB]);
}

/// Forgets the translations of a domain; with `made` only where it remembers that something is not there.
pub fn flush_domain(domain: u16, made: bool) {
    let Some(iommu) = IOMMU.get() else { return };
    if !made || iommu.remembers || iommu.buffers {
        iommu.invalidate(&[vtd::iotlb_of(domain)]);
    }
}

/// Writes memory back that the IOMMU is to see.
pub fn write_back(address: u64, size: u64) {
    if let Some(iommu) = IOMMU.get() {
        iommu.write_back(address, size);
    }
}

/// Takes a fault from the first unit of segment 0 that has recorded one.
pub fn next_fault() -> Option<IoFault> {
    IOMMU.get()?.units.iter().filter(|unit| !unit.foreign).find_map(|unit| unit.next_fault())
}
