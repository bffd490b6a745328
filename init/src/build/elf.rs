//! Programs: ELF files for x86-64, static, at fixed addresses (System V ABI, chapters 4 and 5).
//!
//! A program file is data from outside. It is checked as a whole before anything is made for it, and what it asks
//! for beyond that is refused with the reason.

use core::fmt;

use abi::MapFlags;
use abi::object::PAGE_SIZE;
use proto::start::{PROGRAM, PROGRAM_END};

/// Segments that a program can have.
pub const MAX_SEGMENTS: usize = 8;

/// A program that can be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program<'a> {
    /// Where it begins.
    pub entry: u64,
    /// What is to be in memory, ascending, no two on the same page.
    pub segments: heapless::Vec<Segment<'a>, MAX_SEGMENTS>,
}

/// A piece of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Its first page.
    pub address: u64,
    /// Pages it takes.
    pub pages: u64,
    /// Bytes before its data in the first page.
    pub offset: u64,
    /// Its first bytes; the rest is zero.
    pub data: &'a [u8],
    /// How it is mapped.
    pub flags: MapFlags,
}

impl<'a> Segment<'a> {
    /// What lies in its `pages` pages from `page` on, if not only zeros: from which of their bytes on, and the bytes.
    pub fn part(&self, page: u64, pages: u64) -> Option<(u64, &'a [u8])> {
        let part = page * PAGE_SIZE..(page + pages) * PAGE_SIZE;
        let data_end = self.offset + self.data.len() as u64;
        let (from, to) = (part.start.max(self.offset), part.end.min(data_end));
        let data = self.data.get((from - self.offset) as usize..to.checked_sub(self.offset)? as usize)?;
        (!data.is_empty()).then_some((from - part.start, data))
    }
}

/// Why a file is not a program that can be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadProgram {
    /// Not an ELF file.
    NotElf,
    /// Not one for this machine: 64 bits, little endian, x86-64.
    OtherMachine,
    /// Not linked at fixed addresses, or in need of an interpreter.
    NotStatic,
    /// A header that points outside the file or contradicts itself.
    Malformed,
    /// A segment outside the addresses that programs may have.
    Outside,
    /// Segments that overlap, share a page or are not in ascending order.
    Overlap,
    /// A segment both writable and executable.
    WritableCode,
    /// More than [`MAX_SEGMENTS`] segments, or none.
    Segments,
    /// An entry that is not in executable memory.
    Entry,
}

impl fmt::Display for BadProgram {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            BadProgram::NotElf => "it is not an ELF file",
            BadProgram::OtherMachine => "it is not for x86-64",
            BadProgram::NotStatic => "it is not a static program at fixed addresses",
            BadProgram::Malformed => "its headers are damaged",
            BadProgram::Outside => "a segment lies outside the addresses for programs",
            BadProgram::Overlap => "its segments overlap",
            BadProgram::WritableCode => "a segment is both writable and executable",
            BadProgram::Segments => "it has no segments, or too many",
            BadProgram::Entry => "its entry is not in executable memory",
        })
    }
}

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const ET_EXEC: u16 = 2;
const EM_X86_64: u16 = 62;
const PF_X: u32 = 1;
const PF_W: u32 = 2;
/// Bytes of a file header and of a program header.
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;

impl<'a> Program<'a> {
    /// Checks a file.
    pub fn parse(file: &'a [u8]) -> Result<Program<'a>, BadProgram> {
        let header = file.get(..HEADER).ok_or(BadProgram::NotElf)?;
        if !header.starts_with(b"\x7fELF") {
            return Err(BadProgram::NotElf);
        }
        // 64 bits, little endian, version 1.
        if header[4..7] != [2, 1, 1] || u16_at(header, 18) != EM_X86_64 {
            return Err(BadProgram::OtherMachine);
        }
        if u16_at(header, 16) != ET_EXEC {
            return Err(BadProgram::NotStatic);
        }
        if usize::from(u16_at(header, 54)) != PROGRAM_HEADER {
            return Err(BadProgram::Malformed);
        }
        let table = usize::try_from(u64_at(header, 32)).map_err(|_| BadProgram::Malformed)?;
        let length = usize::from(u16_at(header, 56)) * PROGRAM_HEADER;
        let end = table.checked_add(length).ok_or(BadProgram::Malformed)?;
        let table = file.get(table..end).ok_or(BadProgram::Malformed)?;
        let mut program = Program { entry: u64_at(header, 24), segments: heapless::Vec::new() };
        for header in table.chunks_exact(PROGRAM_HEADER) {
            program.add(file, header)?;
        }
        program.check_entry()?;
        Ok(program)
    }

    /// Bytes of memory it takes.
    pub fn size(&self) -> u64 {
        self.segments.iter().map(|segment| segment.pages * PAGE_SIZE).sum()
    }

    fn add(&mut self, file: &'a [u8], header: &[u8]) -> Result<(), BadProgram> {
        match u32_at(header, 0) {
            PT_LOAD => {}
            PT_DYNAMIC | PT_INTERP => return Err(BadProgram::NotStatic),
            _ => return Ok(()),
        }
        let Some(segment) = segment(file, header)? else { return Ok(()) };
        let last = self.segments.last().map_or(0, |last| last.address + last.pages * PAGE_SIZE);
        if segment.address < last {
            return Err(BadProgram::Overlap);
        }
        self.segments.push(segment).map_err(|_| BadProgram::Segments)
    }

    fn check_entry(&self) -> Result<(), BadProgram> {
        if self.segments.is_empty() {
            return Err(BadProgram::Segments);
        }
        let inside = |segment: &Segment| {
            segment.flags.has(MapFlags::EXECUTE)
                && (segment.address..segment.address + segment.pages * PAGE_SIZE).contains(&self.entry)
        };
        if self.segments.iter().any(inside) { Ok(()) } else { Err(BadProgram::Entry) }
    }
}

/// The segment that a program header describes, `None` for an empty one.
fn segment<'a>(file: &'a [u8], header: &[u8]) -> Result<Option<Segment<'a>>, BadProgram> {
    let (flags, offset, address) = (u32_at(header, 4), u64_at(header, 8), u64_at(header, 16));
    let (file_size, memory_size) = (u64_at(header, 32), u64_at(header, 40));
    if memory_size == 0 {
        return Ok(None);
    }
    let end = address.checked_add(memory_size).ok_or(BadProgram::Outside)?;
    if address < PROGRAM || end > PROGRAM_END {
        return Err(BadProgram::Outside);
    }
    if file_size > memory_size {
        return Err(BadProgram::Malformed);
    }
    let data_end = offset.checked_add(file_size).ok_or(BadProgram::Malformed)?;
    let range = usize::try_from(offset).map_err(|_| BadProgram::Malformed)?
        ..usize::try_from(data_end).map_err(|_| BadProgram::Malformed)?;
    let data = file.get(range).ok_or(BadProgram::Malformed)?;
    let flags = match (flags & PF_W != 0, flags & PF_X != 0) {
        (true, true) => return Err(BadProgram::WritableCode),
        (true, false) => MapFlags::WRITE,
        (false, true) => MapFlags::EXECUTE,
        (false, false) => MapFlags::READ,
    };
    let first = address / PAGE_SIZE * PAGE_SIZE;
    let pages = (end - first).div_ceil(PAGE_SIZE);
    Ok(Some(Segment { address: first, pages, offset: address - first, data, flags }))
}

// The callers pass whole headers, and offsets within them.
fn u16_at(header: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([header[at], header[at + 1]])
}

fn u32_at(header: &[u8], at: usize) -> u32 {
    u32::from(u16_at(header, at)) | u32::from(u16_at(header, at + 2)) << 16
}

fn u64_at(header: &[u8], at: usize) -> u64 {
    u64::from(u32_at(header, at)) | u64::from(u32_at(header, at + 4)) << 32
}

#[cfg(test)]
mod tests;
