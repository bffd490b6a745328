//! What the kernel hands over: memory, slots, the boot archive, the kernel's log.

use core::ops::Range;
use core::sync::atomic::Ordering;

use abi::boot::{
    self, BOOT_INFO_ADDRESS, BootInfo, INIT_CNODE_BITS, KernelLog, LOG_BYTES, MAX_UNTYPED, UntypedInfo, slots,
};
use abi::object::PAGE_SIZE;
use abi::{CPtr, Kind, MapFlags};
use ipc::{CNode, SchedControl, System, VSpace};
use proto::host::EXIT_SHUTDOWN;
use rt::alloc::{AllocError, Record};
use rt::lock::Mutex;
use rt::memory;

use crate::archive::Archive;
use crate::log;

/// Where init maps what it looks at, in its own address space: far behind what `memory::map_words` maps.
mod places {
    /// The kernel's log.
    pub const LOG: u64 = 0x100_0000_0000;
    /// Frames that init fills, one at a time.
    pub const FILL: u64 = 0x101_0000_0000;
    /// Pages of components that init looks at, one at a time.
    pub const PEEK: u64 = 0x102_0000_0000;
    /// The stack of init's second thread.
    pub const GUARDIAN: u64 = 0x104_0000_0000;
    /// The boot archive.
    pub const ARCHIVE: u64 = 0x105_0000_0000;
}
pub use places::{FILL, GUARDIAN, PEEK};

/// init's own CNode.
pub const CNODE: CNode = CNode(CPtr(slots::CNODE));
/// Authority over processor time.
pub const SCHED_CONTROL: SchedControl = SchedControl(CPtr(slots::SCHED_CONTROL));
/// init's priority: above everything it starts.
pub const PRIORITY: u64 = 255;

/// The machine, as init finds it.
#[derive(Clone)]
pub struct Machine {
    /// CPUs that run.
    pub cpus: u32,
    /// TSC ticks in a second.
    pub tsc_hz: u64,
    /// The boot archive.
    pub archive: Archive<'static>,
    /// The kernel's command line.
    pub command_line: &'static str,
    /// Bytes of memory that init was given.
    pub memory: u64,
    /// The largest Untyped of device memory that is free for tests, and log2 of its size: below 2 GiB, where every
    /// device can be put and firmware puts none, or, where memory lies there, whichever is largest.
    pub device_memory: Option<(CPtr, u32)>,
    /// Physical addresses of PCI configuration space (ECAM), if there is any: as much of it as one Frame can hold.
    pub ecam: Option<Range<u64>>,
    /// Slots with device memory.
    devices: (u32, u32),
    untypeds: &'static [UntypedInfo],
    log: Option<&'static KernelLog>,
}

static RECORDS: Mutex<[Record; 1 << INIT_CNODE_BITS]> = Mutex::new([Record::FOREIGN; 1 << INIT_CNODE_BITS]);

/// Takes over what the kernel hands over. What is wrong with it cannot be mended: it ends in a panic that says
/// what it is.
pub fn take_over() -> Machine {
    // SAFETY: the kernel maps the boot information there for good, filled, before init's first instruction, and
    // nobody writes to it.
    let info = unsafe { &*(BOOT_INFO_ADDRESS as *const BootInfo) };
    assert!(info.magic == boot::MAGIC, "the boot information is not of this version");
    assert!(info.tsc_hz > 0, "the boot information has no clock");
    let untypeds = usize::try_from(info.untyped_count).ok().and_then(|count| info.untyped.get(..count));
    let untypeds = untypeds.unwrap_or_else(|| panic!("more than {MAX_UNTYPED} Untypeds"));
    let records = rt::lock::MutexGuard::leak(RECORDS.lock());
    memory::set_up_root(CNODE, VSpace(CPtr(slots::VSPACE)), records);
    let memory = memory::with(|objects| {
        for (slot, untyped) in (slots::UNTYPED..).zip(untypeds).filter(|(_, untyped)| untyped.device == 0) {
            objects.add_memory(slot, untyped.bits)?;
        }
        objects.add_slots(slots::FREE);
        Ok(objects.free_bytes())
    });
    let memory = memory.unwrap_or_else(|error| panic!("the boot information's memory: {error}"));
    if let Err(error) = SCHED_CONTROL.set_priority(CPtr(slots::TCB), PRIORITY) {
        log!("init: keeps its priority: {}", error.name());
    }
    Machine {
        cpus: info.cpus.clamp(1, abi::trace::MAX_CPUS as u64) as u32,
        tsc_hz: info.tsc_hz,
        archive: archive(info).unwrap_or_else(|what| panic!("the boot archive cannot be mapped: {what}")),
        command_line: command_line(info),
        memory,
        device_memory: (slots::UNTYPED..)
            .zip(untypeds)
            .filter(|(_, untyped)| untyped.device != 0)
            .max_by_key(|(_, untyped)| (untyped.physical < 2 << 30, untyped.bits))
            .map(|(slot, untyped)| (CPtr(slot), untyped.bits)),
        ecam: ecam(info),
        devices: devices(untypeds),
        untypeds,
        log: kernel_log(),
    }
}

fn command_line(info: &'static BootInfo) -> &'static str {
    let size = usize::try_from(info.command_line_size).unwrap_or(usize::MAX);
    let bytes = info.command_line.get(..size).unwrap_or(&info.command_line);
    core::str::from_utf8(bytes).unwrap_or_default()
}

fn archive(info: &BootInfo) -> Result<Archive<'static>, AllocError> {
    let mut end = places::ARCHIVE;
    let frames = info.archive_frames.min(info.archive_frame_bits.len() as u64) as usize;
    for (slot, &bits) in (slots::ARCHIVE..).zip(&info.archive_frame_bits[..frames]) {
        memory::map(CPtr(slot), end, 0, (1 << bits) / PAGE_SIZE, MapFlags::READ)?;
        end += 1 << bits;
    }
    let mapped = end - places::ARCHIVE;
    let whole = info.archive_offset.checked_add(info.archive_size).is_some_and(|needed| needed <= mapped);
    assert!(whole, "the boot information's archive is larger than its Frames");
    if info.archive_size == 0 {
        return Ok(Archive(&[]));
    }
    let address = places::ARCHIVE + info.archive_offset;
    // SAFETY: the bytes have just been mapped, read-only and for good; nothing else is made of their Frames.
    let bytes = unsafe { core::slice::from_raw_parts(address as *const u8, info.archive_size as usize) };
    Ok(Archive(bytes))
}

fn ecam(info: &BootInfo) -> Option<Range<u64>> {
    let [first, last] = info.ecam_buses;
    let size = (u64::from(last.checked_sub(first)?) + 1) << 20;
    let bits = size.ilog2().min(info.ecam.trailing_zeros());
    (info.ecam != 0).then_some(info.ecam..info.ecam + (1 << bits))
}

fn kernel_log() -> Option<&'static KernelLog> {
    let pages = (size_of::<KernelLog>() as u64).div_ceil(PAGE_SIZE);
    memory::map(CPtr(slots::KERNEL_LOG), places::LOG, 0, pages, MapFlags::READ).ok()?;
    // SAFETY: just mapped, for good; the kernel keeps a `KernelLog` there, which consists of atomics.
    Some(unsafe { &*(places::LOG as *const KernelLog) })
}

impl Machine {
    /// TSC ticks in so many microseconds.
    pub fn ticks(&self, microseconds: u64) -> u64 {
        (u128::from(microseconds) * u128::from(self.tsc_hz) / 1_000_000) as u64
    }

    /// Microseconds in so many TSC ticks.
    pub fn microseconds(&self, ticks: u64) -> u64 {
        (u128::from(ticks) * 1_000_000 / u128::from(self.tsc_hz)) as u64
    }

    /// Ends the machine.
    pub fn shut_down(&self) {
        if let Err(error) = System(CPtr(slots::SYSTEM)).shutdown(u64::from(EXIT_SHUTDOWN)) {
            log!("init: the machine does not go down: {}", error.name());
        }
    }

    /// The Untypeds of device memory.
    pub fn device_untypeds(&self) -> impl Iterator<Item = (CPtr, &'static UntypedInfo)> {
        (slots::UNTYPED..)
            .zip(self.untypeds)
            .filter(|(_, untyped)| untyped.device != 0)
            .map(|(slot, untyped)| (CPtr(slot), untyped))
    }

    /// Whether the command line has this word.
    pub fn asked_for(&self, word: &str) -> bool {
        self.command_line.split_ascii_whitespace().any(|each| each == word)
    }

    /// What [`inventory`] says, counted in the kernel's own books: the free bytes of all Untypeds of memory, and the
    /// empty slots.
    pub fn counted(&self) -> [u64; 2] {
        let devices = u64::from(self.devices.0)..u64::from(self.devices.1);
        let mut count = [0; 2];
        for slot in (0..1 << INIT_CNODE_BITS).filter(|slot| !devices.contains(slot)) {
            match CNODE.describe(slot) {
                Ok(found) if found.kind == Kind::Null => count[1] += 1,
                Ok(found) if found.kind == Kind::Untyped => count[0] += found.free,
                _ => {}
            }
        }
        count
    }

    /// The kernel's log, as far as it is kept.
    pub fn log_bytes(&self) -> impl Iterator<Item = u8> {
        self.log_from(0).1
    }

    /// The kernel's log from byte `from` on, or from the oldest that is kept: the number of that byte, and all from there.
    pub fn log_from(&self, from: u64) -> (u64, impl Iterator<Item = u8> + use<>) {
        let written = self.log.map_or(0, |log| log.written.load(Ordering::Acquire));
        let first = written.saturating_sub(LOG_BYTES as u64).max(from).min(written);
        let log = self.log;
        let bytes = (first..written).filter_map(move |at| {
            let place = log?.text.get((at % LOG_BYTES as u64) as usize)?;
            Some(place.load(Ordering::Relaxed))
        });
        (first, bytes)
    }
}

/// Free bytes and free slots: what is the same before and after a component's life.
pub fn inventory() -> [u64; 2] {
    memory::with(|objects| Ok([objects.free_bytes(), objects.free_slots()])).unwrap_or_default()
}

/// The slots with device memory, first to behind the last: the kernel puts it behind all other memory.
fn devices(untypeds: &[UntypedInfo]) -> (u32, u32) {
    let memory = untypeds.iter().take_while(|untyped| untyped.device == 0).count() as u32;
    (slots::UNTYPED + memory, slots::UNTYPED + untypeds.len() as u32)
}
