//! The PVH start information ("x86/HVM direct boot ABI", Xen's public/arch-x86/hvm/start_info.h).

use heapless::Vec;

use crate::region::Region;
use crate::{Physical, u32_at, u64_at};

const MAGIC: u32 = 0x336e_c578;
/// Entries of the memory map that are looked at.
pub const MAX_MAP: usize = 64;
/// Bytes of the command line that are kept.
pub const MAX_COMMAND_LINE: usize = 512;

/// Kind of memory in the map's entries, numbered as in E820.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// Free to use.
    Ram,
    /// Firmware's: reserved, ACPI tables, ACPI NVS.
    Firmware,
    /// Unusable or unknown.
    Other,
}

/// One entry of the memory map.
#[derive(Clone, Copy, Debug)]
pub struct MapEntry {
    /// Where.
    pub region: Region,
    /// What.
    pub kind: MemoryKind,
}

/// The start information, copied out of the boot loader's memory.
#[derive(Clone, Debug, Default)]
pub struct StartInfo {
    /// The memory map.
    pub map: Vec<MapEntry, MAX_MAP>,
    /// The command line.
    pub command_line: Vec<u8, MAX_COMMAND_LINE>,
    /// The boot archive: where the word `archive=START+SIZE` of the command line says, else the first module.
    pub archive: Option<Region>,
    /// The ACPI RSDP, where the loader knows it.
    pub rsdp: Option<u64>,
}

impl StartInfo {
    /// Reads the structure at `at`; `None` when it is none, or has no memory map.
    pub fn read(memory: &impl Physical, at: u64) -> Option<StartInfo> {
        let head = memory.bytes(at, 56)?;
        let version = u32_at(head, 4)?;
        if u32_at(head, 0)? != MAGIC || version < 1 {
            return None;
        }
        let mut info = StartInfo { rsdp: u64_at(head, 32).filter(|&rsdp| rsdp != 0), ..StartInfo::default() };
        if u32_at(head, 12)? > 0 {
            info.archive = memory.bytes(u64_at(head, 16)?, 16).and_then(module).filter(|it| !it.is_empty());
        }
        command_line(memory, u64_at(head, 24)?, &mut info.command_line);
        info.archive = named_archive(&info.command_line).or(info.archive);
        let entries = usize::try_from(u32_at(head, 48)?).ok()?.min(MAX_MAP);
        let map = memory.bytes(u64_at(head, 40)?, entries.checked_mul(24)?)?;
        info.map.extend(map.chunks_exact(24).filter_map(map_entry));
        Some(info)
    }

    /// Whether `word` is one of the command line's words.
    pub fn option(&self, word: &str) -> bool {
        has_word(&self.command_line, word)
    }
}

/// Whether `word` is one of the line's words, which white space separates.
pub fn has_word(line: &[u8], word: &str) -> bool {
    line.split(u8::is_ascii_whitespace).any(|each| each == word.as_bytes())
}

/// The bytes that the word `archive=START+SIZE` (decimal) names.
fn named_archive(line: &[u8]) -> Option<Region> {
    let value = line.split(u8::is_ascii_whitespace).find_map(|word| word.strip_prefix(b"archive="))?;
    let (start, size) = core::str::from_utf8(value).ok()?.split_once('+')?;
    Some(Region::sized(start.parse().ok()?, size.parse().ok()?)).filter(|it| !it.is_empty())
}

fn module(entry: &[u8]) -> Option<Region> {
    Some(Region::sized(u64_at(entry, 0)?, u64_at(entry, 8)?))
}

fn map_entry(entry: &[u8]) -> Option<MapEntry> {
    let kind = match u32_at(entry, 16)? {
        1 => MemoryKind::Ram,
        2..=4 => MemoryKind::Firmware,
        _ => MemoryKind::Other,
    };
    Some(MapEntry { region: Region::sized(u64_at(entry, 0)?, u64_at(entry, 8)?), kind })
}

/// Byte by byte, because only the zero at its end says how much of it is there.
fn command_line(memory: &impl Physical, at: u64, line: &mut Vec<u8, MAX_COMMAND_LINE>) {
    if at == 0 {
        return;
    }
    for offset in 0..MAX_COMMAND_LINE as u64 {
        match at.checked_add(offset).and_then(|at| memory.bytes(at, 1)) {
            Some(&[byte]) if byte != 0 => {
                let _full = line.push(byte);
            }
            _ => return,
        }
    }
}

#[cfg(test)]
#[path = "../tests/pvh.rs"]
mod tests;
