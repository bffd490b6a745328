//! Makes loadable copies of ELF programs: headers and segments, without symbols and debug information; and init's image,
//! which the kernel loads.

use abi::boot::IMAGE_MAGIC;
use abi::{MapFlags, PAGE_SIZE};
use anyhow::{Context, Result, bail};
use object::elf::{FileHeader64, PF_W, PF_X, PT_LOAD, SHN_UNDEF};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, U16, U64, pod};

type Header = FileHeader64<Endianness>;

/// A copy of `program` that holds what a loader reads and nothing else: everything behind the last segment
/// is cut off, and the section table, which lay there, is struck from the header.
pub fn stripped(program: &[u8]) -> Result<Vec<u8>> {
    let header = Header::parse(program).context("not a 64-bit ELF file")?;
    let endian = header.endian().context("unknown byte order")?;
    let segments = header.program_headers(endian, program).context("damaged program headers")?;
    if !segments.iter().any(|segment| segment.p_type(endian) == PT_LOAD) {
        bail!("nothing to load in it: is it linked as a program?");
    }
    let table_end =
        header.e_phoff.get(endian) + u64::from(header.e_phnum.get(endian)) * size_of::<PhdrOf>() as u64;
    let end = segments
        .iter()
        .map(|segment| segment.p_offset(endian).saturating_add(segment.p_filesz(endian)))
        .fold(table_end, u64::max);
    let end = usize::try_from(end).ok().filter(|&end| end <= program.len());
    let mut copy = program[..end.context("a segment lies beyond the end of the file")?].to_vec();
    let (header, _) = pod::from_bytes_mut::<Header>(&mut copy).ok().context("shorter than its header")?;
    header.e_shoff = U64::new(endian, 0);
    header.e_shnum = U16::new(endian, 0);
    header.e_shstrndx = U16::new(endian, SHN_UNDEF);
    Ok(copy)
}

/// The image of `program` that the kernel loads as init (see [`IMAGE_MAGIC`]): its segments, from page to page.
pub fn image(program: &[u8]) -> Result<Vec<u8>> {
    let header = Header::parse(program).context("not a 64-bit ELF file")?;
    let endian = header.endian().context("unknown byte order")?;
    let segments = header.program_headers(endian, program).context("damaged program headers")?;
    let segments =
        segments.iter().filter(|segment| segment.p_type(endian) == PT_LOAD && segment.p_memsz(endian) > 0);
    let mut words = vec![IMAGE_MAGIC, header.e_entry(endian), segments.clone().count() as u64];
    let mut image = Vec::new();
    for segment in segments {
        let address = segment.p_vaddr(endian);
        let start = address / PAGE_SIZE * PAGE_SIZE;
        let end = address.checked_add(segment.p_memsz(endian)).context("a segment beyond all addresses")?;
        let data = segment.data(endian, program).ok().context("a segment lies beyond the end of the file")?;
        let before = usize::try_from(address - start)?;
        let flag = |bit, flag| if (segment.p_flags(endian) & bit).0 != 0 { flag } else { MapFlags::READ };
        let flags = flag(PF_W, MapFlags::WRITE).or(flag(PF_X, MapFlags::EXECUTE)).or(MapFlags::READ);
        words.extend([start, (end - start).div_ceil(PAGE_SIZE), flags.0, (before + data.len()) as u64]);
        image.extend(words.drain(..).flat_map(u64::to_le_bytes));
        image.resize(image.len() + before, 0);
        image.extend(data);
    }
    if image.is_empty() {
        bail!("nothing to load in it: is it linked as a program?");
    }
    Ok(image)
}

type PhdrOf = <Header as FileHeader>::ProgramHeader;

#[cfg(test)]
mod tests {
    use super::*;
    use object::read::elf::ElfFile64;
    use object::{Object, ObjectSegment};

    fn own_program() -> Vec<u8> {
        std::fs::read(std::env::current_exe().expect("tests have a path")).expect("readable")
    }

    #[test]
    fn the_copy_loads_the_same_bytes_and_has_no_sections() {
        let program = own_program();
        let copy = stripped(&program).expect("an ELF file");
        assert!(copy.len() < program.len());
        let (full, small) = (
            ElfFile64::<Endianness>::parse(&*program).expect("full"),
            ElfFile64::<Endianness>::parse(&*copy).expect("copy"),
        );
        assert_eq!(small.sections().count(), 0);
        assert_eq!(full.entry(), small.entry());
        let segments = |file: &ElfFile64<Endianness>| {
            file.segments()
                .map(|segment| (segment.address(), segment.size(), segment.file_range().1))
                .collect::<Vec<_>>()
        };
        assert_eq!(segments(&full), segments(&small));
        for (a, b) in full.segments().zip(small.segments()).skip(1) {
            assert_eq!(a.data(), b.data());
        }
    }

    #[test]
    fn an_image_has_the_segments_page_by_page() {
        let program = own_program();
        let file = ElfFile64::<Endianness>::parse(&*program).expect("full");
        let image = image(&program).expect("an ELF file");
        let mut rest = &image[..];
        let word = |rest: &mut &[u8]| {
            let (word, after) = rest.split_first_chunk().expect("a word");
            *rest = after;
            u64::from_le_bytes(*word)
        };
        assert_eq!([word(&mut rest), word(&mut rest)], [IMAGE_MAGIC, file.entry()]);
        assert_eq!(word(&mut rest), file.segments().count() as u64);
        for segment in file.segments() {
            let [address, pages, _flags, size] = [(); 4].map(|()| word(&mut rest));
            let (data, after) = rest.split_at(size as usize);
            rest = after;
            assert_eq!(address, segment.address() & !0xfff);
            assert_eq!(
                address + pages * PAGE_SIZE,
                (segment.address() + segment.size()).next_multiple_of(4096)
            );
            assert_eq!(&data[(segment.address() - address) as usize..], segment.data().expect("there"));
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn what_is_not_an_elf_file_is_refused() {
        assert!(stripped(b"#!/bin/sh\n").is_err());
        assert!(stripped(b"").is_err());
        assert!(image(b"#!/bin/sh\n").is_err());
    }

    #[test]
    fn a_file_cut_short_is_refused() {
        let program = own_program();
        assert!(stripped(&program[..4096]).is_err());
        assert!(image(&program[..4096]).is_err());
    }
}
