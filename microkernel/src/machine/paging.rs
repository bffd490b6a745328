//! The kernel's page tables: the window on physical memory and the image (Intel SDM vol. 3, 4.5).
//!
//! The kernel's half is two entries of the top table, [`WINDOW_ENTRY`] and [`IMAGE_ENTRY`]; they are made
//! once, here, and every address space carries a copy of them.

use core::sync::atomic::{AtomicU64, Ordering};

use firmware::Region;
use x86_64::PhysAddr;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;

use super::layout::{KERNEL_BASE, PAGE, WINDOW};
use super::{stacks, window};

#[cfg(feature = "checks")]
#[path = "tests/wx.rs"]
pub mod wx;

/// Entry of the top table for the window.
pub const WINDOW_ENTRY: usize = 256;
/// Entry of the top table for the image.
pub const IMAGE_ENTRY: usize = 511;

/// Bits of an entry.
pub mod bits {
    /// Maps something.
    pub const PRESENT: u64 = 1;
    /// Writable.
    pub const WRITE: u64 = 1 << 1;
    /// For user code.
    pub const USER: u64 = 1 << 2;
    /// Uncached: PWT and PCD choose PAT entry 3.
    pub const UNCACHED: u64 = 1 << 3 | 1 << 4;
    /// A large page, not a table.
    pub const LARGE: u64 = 1 << 7;
    /// No instruction is fetched from it.
    pub const NO_EXECUTE: u64 = 1 << 63;
    /// The physical address.
    pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
}
use bits::{ADDRESS, LARGE, NO_EXECUTE, PRESENT, UNCACHED, WRITE};

unsafe extern "C" {
    static image_start: u8;
    static text_end: u8;
    static rodata_end: u8;
    static image_end: u8;
    static boot_start: u8;
    static boot_end: u8;
}

fn physical(symbol: *const u8) -> u64 {
    (symbol as u64).wrapping_sub(KERNEL_BASE)
}

/// Physical memory of the code.
pub fn text() -> Region {
    Region { start: physical(&raw const image_start), end: physical(&raw const text_end) }
}

/// Physical memory of the constants.
pub fn rodata() -> Region {
    Region { start: physical(&raw const text_end), end: physical(&raw const rodata_end) }
}

/// Physical memory of the image.
pub fn image() -> Region {
    Region { start: physical(&raw const image_start), end: physical(&raw const image_end) }
}

/// Physical memory of the code and tables that only boot needs.
pub fn boot_part() -> Region {
    Region { start: &raw const boot_start as u64, end: &raw const boot_end as u64 }
}

/// A page table, seen through the window. The CPU reads it at any time, hence atomics.
type Table = [AtomicU64; 512];

/// # Safety
/// `at` is the physical address of a page that is a page table and nothing else, mapped in the window.
unsafe fn table(at: u64) -> &'static Table {
    let place = window(at) as *const Table;
    // SAFETY: by the function's contract; a table is never freed during boot.
    unsafe { &*place }
}

/// The kernel's page tables in the making.
pub struct Tables<'a> {
    top: u64,
    pages: &'a mut dyn FnMut() -> u64,
    huge: bool,
}

impl<'a> Tables<'a> {
    /// Empty tables. `pages` gives zeroed pages that are nobody else's, mapped in the window; `huge` allows
    /// pages of 1 GiB.
    ///
    /// # Safety
    /// `pages` does what is said.
    pub unsafe fn new(pages: &'a mut dyn FnMut() -> u64, huge: bool) -> Tables<'a> {
        let top = pages();
        Tables { top, pages, huge }
    }

    /// The window on all of `memory`, with the image's code and constants not writable, and on the register
    /// pages `registers`; the image page by page, each with what it needs.
    pub fn build(&mut self, memory: &[Region], registers: &[Region]) {
        let fixed = Region { start: text().start, end: rodata().end };
        for &region in memory {
            let before = Region { end: region.end.min(fixed.start), ..region };
            let after = Region { start: region.start.max(fixed.end), ..region };
            self.map_region(before, WINDOW, WRITE | NO_EXECUTE);
            self.map_region(region.and(fixed), WINDOW, NO_EXECUTE);
            self.map_region(after, WINDOW, WRITE | NO_EXECUTE);
        }
        for &region in registers {
            self.map_region(region, WINDOW, WRITE | NO_EXECUTE | UNCACHED);
        }
        let data = Region { start: rodata().end, end: image().end };
        for (part, flags) in [(text(), 0), (rodata(), NO_EXECUTE), (data, WRITE | NO_EXECUTE)] {
            for page in (part.start..part.end).step_by(PAGE as usize) {
                let address = KERNEL_BASE.wrapping_add(page);
                if !stacks::guards().any(|guard| guard == address) {
                    self.map_page(address, page, 1, flags);
                }
            }
        }
    }

    /// Maps the page at its own address, executable, for CPUs that start in it.
    pub fn identity(&mut self, page: u64) {
        self.map_page(page, page, 1, 0);
    }

    fn map_region(&mut self, region: Region, base: u64, flags: u64) {
        let mut at = region.start;
        while at < region.end {
            let level = if self.huge { 3 } else { 2 };
            let fits = |level: &u32| {
                let size = page_size(*level);
                at & size.wrapping_sub(1) == 0 && region.end.wrapping_sub(at) >= size
            };
            let level = (1..=level).rev().find(fits).unwrap_or(1);
            self.map_page(base.wrapping_add(at), at, level, flags);
            at = at.wrapping_add(page_size(level));
        }
    }

    fn map_page(&mut self, address: u64, page: u64, level: u32, flags: u64) {
        let mut at = self.top;
        for parent in (level.wrapping_add(1)..=4).rev() {
            let Some(entry) = self.entry(at, address, parent) else { return };
            if entry.load(Ordering::Relaxed) & PRESENT == 0 {
                entry.store((self.pages)() | PRESENT | WRITE, Ordering::Relaxed);
            }
            at = entry.load(Ordering::Relaxed) & ADDRESS;
        }
        let large = if level > 1 { LARGE } else { 0 };
        if let Some(entry) = self.entry(at, address, level) {
            entry.store(page | PRESENT | large | flags, Ordering::Relaxed);
        }
    }

    fn entry(&self, at: u64, address: u64, level: u32) -> Option<&'static AtomicU64> {
        // SAFETY: `at` is the top table or came out of an entry that `map_page` made, so `pages` gave it for
        // this; regions are disjoint, so that no entry on the way is a large page.
        let table = unsafe { table(at) };
        table.get(index(address, level))
    }

    /// Makes them the tables in use.
    pub fn load(&self) {
        load(self.top);
    }
}

fn index(address: u64, level: u32) -> usize {
    (address >> level.wrapping_mul(9).wrapping_add(3) & 511) as usize
}

fn page_size(level: u32) -> u64 {
    PAGE << level.wrapping_sub(1).wrapping_mul(9)
}

/// Switches to the tables below `top`; they need EFER.NXE, which `cpu::init_registers` and the trampoline set.
fn load(top: u64) {
    let frame = PhysFrame::containing_address(PhysAddr::new_truncate(top));
    // SAFETY: the tables map the image, the stacks and the window as the code in use expects them.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) };
}

/// Physical address of the top table in use.
pub fn top() -> u64 {
    Cr3::read_raw().0.start_address().as_u64()
}

/// The entries of the kernel half that every address space has: the window's and the image's.
pub fn kernel_entries() -> [u64; 2] {
    // SAFETY: the tables in use are those made here.
    let top = unsafe { table(top()) };
    [WINDOW_ENTRY, IMAGE_ENTRY].map(|at| top.get(at).map_or(0, |entry| entry.load(Ordering::Relaxed)))
}

/// Loads the tables in use again: stale translations are gone.
pub fn flush() {
    load(top());
}

/// Takes back the one mapping outside of the kernel's half, once all CPUs are past it.
pub fn drop_identity() {
    // SAFETY: the tables in use are those made here.
    let top = unsafe { table(top()) };
    for entry in top.iter().take(WINDOW_ENTRY) {
        entry.store(0, Ordering::Relaxed);
    }
    flush();
}
