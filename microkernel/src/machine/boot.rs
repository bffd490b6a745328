//! From the boot loader's hand to the kernel's logic.

use core::arch::global_asm;

use abi::trace::{MAX_CPUS, Ring};
use firmware::acpi::{Ecam, Platform};
use firmware::pvh::{self, MemoryKind, StartInfo};
use firmware::{Physical, Region, Regions};
use spin::Once;

use super::cpu::{self, Features};
use super::layout::PAGE;
use super::{apic, clock, ioapic, iommu, log, paging, power, smp, stacks, window};
use crate::log;

global_asm!(include_str!("../../asm/boot.s"), stacks = sym stacks::kernel_stacks, main_top = const stacks::MAIN_TOP, boot_main = sym boot_main);

/// Regions in a list.
pub const MAX_REGIONS: usize = 64;
/// What asm/boot.s maps at the window.
const EARLY_WINDOW: u64 = 4 << 30;
/// What one entry of the top page table maps: the window's size.
const WINDOW_SIZE: u64 = 512 << 30;
/// Device memory above RAM is looked for up to here.
const DEVICE_LIMIT: u64 = 1 << 40;
/// Where writes become message-signalled interrupts.
const MESSAGES: Region = Region { start: 0xfee0_0000, end: 0xfef0_0000 };

/// The machine, handed over to the kernel's logic. All addresses are physical.
#[derive(Debug)]
pub struct Boot {
    /// Whole pages of RAM that nobody uses; all of it is mapped in the window. Not cleared.
    pub memory: Regions<MAX_REGIONS>,
    /// Whole pages that are neither RAM nor firmware's nor the kernel's: device registers, for programs to
    /// map. Not mapped in the window.
    pub devices: Regions<MAX_REGIONS>,
    /// The boot archive's bytes; the pages around it are not in `memory`, and are mapped in the window.
    pub archive: Option<Region>,
    /// The command line.
    pub command_line: &'static [u8],
    /// What ACPI says; the register pages of the IOMMU's units (`remappers`) are mapped in the window.
    pub platform: &'static Platform,
    /// PCI configuration space of segment 0 (in `devices`).
    pub ecam: Option<Ecam>,
    /// CPUs that run, numbered from 0.
    pub cpus: usize,
    /// TSC ticks in a second.
    pub tsc_hz: u64,
    /// The kernel log ([`abi::boot::KernelLog`]): 32 KiB, aligned to that.
    pub log: u64,
    /// The trace rings ([`Ring`], one for each of `MAX_CPUS`): 256 KiB, aligned to that, cleared.
    pub trace: u64,
}

impl Boot {
    /// Whether `word` is one of the command line's words.
    pub fn option(&self, word: &str) -> bool {
        pvh::has_word(self.command_line, word)
    }
}

/// The bytes of the boot archive.
pub fn archive_bytes(archive: Region) -> &'static [u8] {
    let place = window(archive.start) as *const u8;
    // SAFETY: the archive's pages are in the window and in no list of free memory; init gets them read-only.
    unsafe { core::slice::from_raw_parts(place, archive.size() as usize) }
}

/// The trace rings; none before the hand-over.
pub fn trace_rings() -> &'static [Ring] {
    let Some(boot) = BOOT.get() else { return &[] };
    let rings = window(boot.trace) as *const [Ring; MAX_CPUS];
    // SAFETY: boot took these pages for the rings alone and cleared them, which makes them valid; all that
    // changes in them is atomic.
    unsafe { &*rings }
}

static START_INFO: Once<StartInfo> = Once::new();
static PLATFORM: Once<Platform> = Once::new();
static BOOT: Once<Boot> = Once::new();

/// Physical memory through the early window: what the memory map names, below 4 GiB.
struct EarlyMemory(Regions<MAX_REGIONS>);

impl Physical for EarlyMemory {
    fn bytes(&self, at: u64, size: usize) -> Option<&[u8]> {
        if !self.0.contains(Region { start: at, end: at.checked_add(size as u64)? }) {
            return None;
        }
        let place = window(at) as *const u8;
        // SAFETY: the early tables map it, and until the hand-over nobody writes to memory that is not the kernel's.
        Some(unsafe { core::slice::from_raw_parts(place, size) })
    }
}

impl EarlyMemory {
    fn new(regions: impl Iterator<Item = Region>) -> EarlyMemory {
        let mut all = Regions::new();
        regions.for_each(|region| all.add(region.and(Region { start: 0, end: EARLY_WINDOW })));
        EarlyMemory(all)
    }
}

/// The boot CPU's first Rust code: `start_info` is the physical address of the PVH start information.
extern "C" fn boot_main(start_info: u64) -> ! {
    cpu::init_tables(0);
    log::init();
    let features = Features::read();
    if let Some(missing) = features.missing() {
        panic!("this CPU lacks {missing}, which Skink needs");
    }
    cpu::init_registers(0, &features);
    cpu::report(&features);

    let everything = EarlyMemory::new(core::iter::once(Region { start: 0, end: EARLY_WINDOW }));
    let Some(info) = StartInfo::read(&everything, start_info) else {
        panic!("no PVH start information at {start_info:#x}: boot with `qemu -kernel`");
    };
    let info = START_INFO.call_once(|| info);
    let platform = PLATFORM.call_once(|| read_acpi(info));
    power::init(platform.reset);

    let mut memory = Memory::new(info, &features);
    let trace = memory.pages(size_of::<[Ring; MAX_CPUS]>() as u64);
    let registers = register_pages(platform);
    memory.map(&registers, &features);
    apic::init(0);
    ioapic::init(platform);
    if !info.option("iommu=off") {
        iommu::init(platform, &mut |size| memory.pages(size));
    }
    log!("{}", iommu::report());
    let tsc_hz = clock::init(platform.pm_timer, &features);
    let own = apic::id();
    let cpus = smp::start(platform.cpus.iter().copied().filter(|&id| id != own), &features, tsc_hz);
    paging::drop_identity();
    memory.free.add(paging::boot_part());
    #[cfg(feature = "checks")]
    if info.option("check=wx") {
        paging::wx::check();
    }

    let ecam = platform.ecam.filter(|ecam| memory.is_device(ecam.region()));
    let boot = BOOT.call_once(|| Boot {
        devices: devices(info, platform, ecam, &features),
        archive: memory.archive,
        command_line: &info.command_line,
        platform,
        ecam,
        cpus,
        tsc_hz,
        log: log::frame(),
        trace,
        memory: memory.free,
    });
    crate::kernel_main(boot)
}

fn read_acpi(info: &StartInfo) -> Platform {
    const BIOS: Region = Region { start: 0x400, end: 0x10_0000 };
    let named = info.map.iter().filter(|entry| entry.kind != MemoryKind::Other).map(|entry| entry.region);
    let platform = Platform::read(&EarlyMemory::new(named.chain([BIOS])), info.rsdp);
    if platform.rsdp.is_none() {
        log!("no ACPI tables: one CPU, no I/O APIC, no PCI");
    }
    if platform.cpus.len() > MAX_CPUS {
        log!("{} CPUs, of which the kernel uses {MAX_CPUS}", platform.cpus.len());
    }
    if platform.bad_tables > 0 {
        log!("{} ACPI tables are broken, or above 4 GiB: not used", platform.bad_tables);
    }
    platform
}

/// Physical memory while it is being shared out.
struct Memory {
    /// Everything the window is to show.
    ram: Regions<MAX_REGIONS>,
    /// What of it nobody uses.
    free: Regions<MAX_REGIONS>,
    archive: Option<Region>,
}

impl Memory {
    fn new(info: &StartInfo, features: &Features) -> Memory {
        let mut ram = Regions::new();
        let limit = Region { start: 0, end: WINDOW_SIZE.min(1 << features.physical_bits) };
        for entry in info.map.iter().filter(|entry| entry.kind == MemoryKind::Ram) {
            ram.add(entry.region.and(limit).pages_within());
        }
        for entry in info.map.iter().filter(|entry| entry.kind != MemoryKind::Ram) {
            ram.remove(entry.region.pages_around());
        }
        let kernel = Region { start: paging::boot_part().start, end: paging::image().end };
        assert!(ram.contains(kernel), "the kernel's image is not in memory that the map names");
        let trampoline = Region::sized(smp::TRAMPOLINE, PAGE);
        assert!(ram.contains(trampoline), "the page at {:#x} is not memory", smp::TRAMPOLINE);
        let archive = info.archive.filter(|archive| ram.contains(archive.pages_around()));
        if archive != info.archive {
            log!("the boot archive is not in memory that the map names: not used");
        }
        let mut free = ram.clone();
        const BIOS_DATA: Region = Region { start: 0, end: PAGE };
        let archive_pages = archive.map_or(Region::default(), Region::pages_around);
        for used in [BIOS_DATA, trampoline, kernel, archive_pages] {
            free.remove(used);
        }
        assert!(archive_pages.and(kernel).is_empty(), "the boot archive lies over the kernel's image");
        Memory { ram, free, archive }
    }

    /// `size` bytes of cleared memory, a power of two and aligned to that, that the early window shows.
    fn pages(&mut self, size: u64) -> u64 {
        take_pages(&mut self.free, size)
    }

    /// Makes the final page tables and switches to them.
    fn map(&mut self, registers: &Regions<MAX_REGIONS>, features: &Features) {
        let (ram, free) = (&self.ram, &mut self.free);
        let mut page = || take_pages(free, PAGE);
        // SAFETY: `take_pages` clears, and takes what it gives out of the free memory; the early window shows it.
        let mut tables = unsafe { paging::Tables::new(&mut page, features.huge_pages()) };
        tables.build(ram.as_slice(), registers.as_slice());
        tables.identity(smp::TRAMPOLINE);
        tables.load();
    }

    fn is_device(&self, region: Region) -> bool {
        self.ram.as_slice().iter().all(|ram| ram.and(region).is_empty())
    }
}

fn take_pages(free: &mut Regions<MAX_REGIONS>, size: u64) -> u64 {
    let Some(taken) = free.take(size, size, EARLY_WINDOW) else {
        panic!("no memory below 4 GiB for the kernel's tables");
    };
    let place = window(taken.start) as *mut u8;
    // SAFETY: it was free RAM, and is mapped by the early tables.
    unsafe { place.write_bytes(0, size as usize) };
    taken.start
}

/// The register pages that the kernel uses.
fn register_pages(platform: &Platform) -> Regions<MAX_REGIONS> {
    let mut pages = Regions::new();
    let apics = platform.io_apics.iter().map(|apic| apic.address);
    for address in apics.chain(platform.remappers.iter().map(|unit| unit.address)).chain([apic::base()]) {
        assert!(address < WINDOW_SIZE.saturating_sub(PAGE), "registers at {address:#x} are out of reach");
        pages.add(Region::sized(address, 1).pages_around());
    }
    pages
}

fn devices(
    info: &StartInfo,
    platform: &Platform,
    ecam: Option<Ecam>,
    features: &Features,
) -> Regions<MAX_REGIONS> {
    const FIRST: u64 = 0x10_0000;
    let mut devices = Regions::new();
    devices.add(Region { start: FIRST, end: DEVICE_LIMIT.min(1 << features.physical_bits) });
    for entry in &info.map {
        devices.remove(entry.region.pages_around());
    }
    if let Some(ecam) = ecam {
        devices.add(ecam.region());
    }
    devices.remove(MESSAGES);
    register_pages(platform).as_slice().iter().for_each(|&page| devices.remove(page));
    devices
}
