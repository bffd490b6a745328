//! Tables of the names of a program's functions, for the guest: see `init/src/build/symbols.rs` for what is in them.

use anyhow::{Context, Result};
use object::{Object, ObjectSymbol, SymbolKind};

/// The longest name that is kept; the rest of longer ones is cut.
const LONGEST: usize = 120;

/// The table of a program.
pub fn of(program: &[u8]) -> Result<Vec<u8>> {
    let file = object::File::parse(program).context("not an ELF file")?;
    let mut functions: Vec<(u32, u32, String)> = file
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_definition())
        .filter_map(|symbol| {
            let start = u32::try_from(symbol.address()).ok()?;
            let end = u32::try_from(symbol.address() + symbol.size()).ok()?;
            Some((start, end, readable(symbol.name().ok()?)))
        })
        .collect();
    functions.sort();
    functions.dedup_by_key(|(start, ..)| *start);
    Ok(written(&functions))
}

/// A name as in the source, without what the compiler adds to tell equal ones apart.
fn readable(name: &str) -> String {
    let mut name = addr2line::demangle_auto(name.into(), None).into_owned();
    if let Some((plain, hash)) = name.rsplit_once("::h")
        && hash.len() == 16
        && hash.bytes().all(|c| c.is_ascii_hexdigit())
    {
        name.truncate(plain.len());
    }
    name.truncate(name.floor_char_boundary(LONGEST));
    name
}

fn written(functions: &[(u32, u32, String)]) -> Vec<u8> {
    let mut pairs: Vec<(u32, &str)> = Vec::new();
    for (at, (start, end, name)) in functions.iter().enumerate() {
        pairs.push((*start, name));
        // What lies between functions is none; those of assembly have no size.
        let next = functions.get(at + 1).map(|(next, ..)| *next);
        if start < end && next.is_none_or(|next| *end < next) {
            pairs.push((*end, ""));
        }
    }
    let mut table = Vec::from((pairs.len() as u32).to_le_bytes());
    let mut names = Vec::new();
    for (address, name) in &pairs {
        table.extend(address.to_le_bytes());
        table.extend(((4 + pairs.len() * 8 + names.len()) as u32).to_le_bytes());
        names.extend(name.bytes().chain([0]));
    }
    table.extend(names);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_follow_in_order_and_gaps_have_no_name() {
        let function = |start, end, name: &str| (start, end, name.to_owned());
        let table = written(&[
            function(0x1000, 0x1080, "a"),
            function(0x1080, 0x1090, "b"),
            function(0x2000, 0x2000, "asm"),
        ]);
        let word = |at: usize| u32::from_le_bytes(table[at..at + 4].try_into().expect("four bytes"));
        let pairs: Vec<(u32, &[u8])> = (0..word(0) as usize)
            .map(|pair| {
                let name = &table[word(8 + pair * 8) as usize..];
                (word(4 + pair * 8), name.split(|byte| *byte == 0).next().expect("ended"))
            })
            .collect();
        let expected: [(u32, &[u8]); 4] = [(0x1000, b"a"), (0x1080, b"b"), (0x1090, b""), (0x2000, b"asm")];
        assert_eq!(pairs, expected);
    }

    #[test]
    fn names_read_as_in_the_source() {
        assert_eq!(readable("_ZN2rt4life5begun17h0123456789abcdefE"), "rt::life::begun");
        assert_eq!(readable("_start"), "_start");
    }

    #[test]
    fn what_is_not_an_elf_file_is_refused() {
        assert!(of(b"#!/bin/sh").is_err());
    }
}
