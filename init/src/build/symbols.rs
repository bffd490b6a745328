//! Names of functions: the tables that the host's tool puts beside the programs (`sym/PROGRAM` of the boot archive).
//!
//! A table is a count, then so many pairs of an address and where in the file its name begins, ascending, then the names,
//! each ended by NUL; all numbers have 4 bytes, little endian. A pair with an empty name ends the function before it.

/// Bytes of the count, and of a pair.
const COUNT: usize = 4;
const PAIR: usize = 8;

/// The function at `address`, and how far in it that is.
pub fn find(table: &[u8], address: u64) -> Option<(&str, u64)> {
    let address = u32::try_from(address).ok()?;
    let count = number(table, 0)? as usize;
    let pairs = table.get(COUNT..COUNT.checked_add(count.checked_mul(PAIR)?)?)?;
    let (pairs, _) = pairs.as_chunks::<PAIR>();
    let behind = pairs.partition_point(|pair| number(pair, 0).is_some_and(|start| start <= address));
    let pair = pairs.get(behind.checked_sub(1)?)?;
    let (start, name) = (number(pair, 0)?, number(pair, 4)? as usize);
    let names = table.get(name..)?;
    let end = names.iter().position(|byte| *byte == 0)?;
    let name = core::str::from_utf8(&names[..end]).ok()?;
    (!name.is_empty()).then_some((name, u64::from(address - start)))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn table() -> Vec<u8> {
        let names = b"main\0deeper\0\0";
        let at = (COUNT + 3 * PAIR) as u32;
        let mut table = Vec::from(3u32.to_le_bytes());
        for (address, name) in [(0x40_1000u32, at), (0x40_2000, at + 5), (0x40_3000, at + 12)] {
            table.extend(address.to_le_bytes());
            table.extend(name.to_le_bytes());
        }
        table.extend(names);
        table
    }

    #[test]
    fn an_address_is_in_the_last_function_that_begins_before_it() {
        let table = table();
        assert_eq!(find(&table, 0x40_1000), Some(("main", 0)));
        assert_eq!(find(&table, 0x40_1fff), Some(("main", 0xfff)));
        assert_eq!(find(&table, 0x40_2004), Some(("deeper", 4)));
    }

    #[test]
    fn outside_of_functions_there_is_none() {
        let table = table();
        for address in [0, 0x40_0fff, 0x40_3000, 0x40_4000, u64::MAX] {
            assert_eq!(find(&table, address), None);
        }
    }

    #[test]
    fn a_damaged_table_gives_nothing_wrong() {
        let table = table();
        for end in 0..table.len() {
            // A name that is cut is no name.
            let found = find(&table[..end], 0x40_2004);
            assert!(matches!(found, None | Some(("deeper", 4))), "{found:?} of {end} bytes");
        }
        for at in 0..table.len() {
            let mut damaged = table.clone();
            damaged[at] = 0xff;
            // A damaged address cannot be told from another one; a damaged name is none.
            let found = find(&damaged, 0x40_2004);
            assert!(matches!(found, None | Some(("main" | "deeper", 0..=0x40_2004))), "{found:?} at {at}");
        }
    }
}
