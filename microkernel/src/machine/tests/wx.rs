//! The boot option `check=wx`, in builds with the feature `checks`.

use core::sync::atomic::Ordering;

use firmware::Region;

use super::bits::{self, ADDRESS, LARGE, NO_EXECUTE, PRESENT, WRITE};
use super::{WINDOW_ENTRY, page_size, rodata, stacks, table, text, top};
use crate::log;

/// Walks the tables in use and panics at a page that is writable and executable, for users, or shows code
/// or constants writable.
pub fn check() {
    let mut pages = [0u64; 4];
    walk(top(), 4, 0, &mut |address, entry, level| {
        let page = Region::sized(entry & ADDRESS & !(page_size(level).wrapping_sub(1)), page_size(level));
        let fixed = Region { start: text().start, end: rodata().end };
        assert!(entry & WRITE == 0 || entry & NO_EXECUTE != 0, "{address:#x} is writable and executable");
        assert!(entry & bits::USER == 0, "{address:#x} is for users");
        assert!(entry & WRITE == 0 || page.and(fixed).is_empty(), "{address:#x} shows code, writable");
        assert!(address >> 47 == 0x1_ffff, "{address:#x} is not in the kernel's half");
        assert!(stacks::guards().all(|guard| guard != address), "the guard page {address:#x} is mapped");
        if let Some(count) = pages.get_mut(level as usize) {
            *count = count.wrapping_add(1);
        }
    });
    let [_, small, large, huge] = pages;
    log!("check=wx: {small} pages of 4 KiB, {large} of 2 MiB, {huge} of 1 GiB, none writable and executable");
}

fn walk(at: u64, level: u32, base: u64, visit: &mut dyn FnMut(u64, u64, u32)) {
    // SAFETY: the top table in use, or one that an entry of it points to.
    let table = unsafe { table(at) };
    for (number, entry) in table.iter().enumerate() {
        let entry = entry.load(Ordering::Relaxed);
        let offset = (number as u64).wrapping_mul(page_size(level));
        let sign = if level == 4 && number >= WINDOW_ENTRY { 0xffff << 48 } else { 0 };
        let address = base | offset | sign;
        if entry & PRESENT == 0 {
            continue;
        }
        if level > 1 && entry & LARGE == 0 {
            walk(entry & ADDRESS, level.wrapping_sub(1), address, visit);
        } else {
            visit(address, entry, level);
        }
    }
}
