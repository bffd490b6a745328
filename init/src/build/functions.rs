//! The table in which `pci` says what devices there are (`proto::pci`), read once and believed as far as it makes sense.
//!
//! `pci` can write anything there. What is taken from it is copied, and everything that refers to something else in it is
//! checked against that: a driver gets registers that are a BAR of its function, and structures that lie in them.

use core::fmt;
use core::ops::Range;

use abi::object::PAGE_SIZE;
use proto::pci::{MAX_FUNCTIONS, table};
use proto::start::Region;

/// Flags of a function: it is a bridge; it has MSI-X; it has MSI.
const BRIDGE: u64 = 1 << 1;
const MSIX: u64 = 1 << 2;
const MSI: u64 = 1 << 4;
/// It cannot be used.
const UNUSABLE: u64 = 1 << 5;
/// Addresses of registers are below.
const END_OF_ADDRESSES: u64 = 1 << 52;
/// The largest BAR that is given out.
const LARGEST: u64 = 1 << 32;
/// Bytes of an entry of an MSI-X table (PCI 3.0, 6.8.2).
const MSIX_ENTRY: u64 = 16;
/// `cfg_type` of the common configuration (VirtIO 1.2, 4.1.4).
const COMMON: u8 = 1;

/// A function of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its number in the table.
    pub number: usize,
    /// Bus, device and function: 8, 5 and 3 bits.
    pub address: u16,
    /// Vendor and device.
    pub identity: (u16, u16),
    /// How many interrupt vectors it has.
    pub vectors: u32,
    /// The BAR with its MSI-X table.
    pub msix: Option<u8>,
    /// Its registers: number of the BAR, and physical addresses.
    pub bars: heapless::Vec<(u8, Range<u64>), 6>,
    /// Its VirtIO structures.
    pub regions: heapless::Vec<Region, 8>,
}

/// Why a function cannot be given to a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// There is none with that number.
    NoSuchFunction,
    /// It is a bridge, or `pci` says that it cannot be used.
    NotOffered,
    /// A BAR is not a range of pages at a multiple of its size.
    Bar(u8),
    /// Two BARs overlap.
    Overlap,
    /// A structure, or the MSI-X table, lies in no BAR.
    Outside,
    /// The MSI-X table lies in a BAR with registers that the driver needs.
    SharedTable,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Unusable::NoSuchFunction => f.write_str("there is no such function"),
            Unusable::NotOffered => f.write_str("pci says that it cannot be used"),
            Unusable::Bar(bar) => write!(f, "its BAR {bar} makes no sense"),
            Unusable::Overlap => f.write_str("its BARs overlap"),
            Unusable::Outside => f.write_str("a structure of it lies outside its registers"),
            Unusable::SharedTable => f.write_str("its MSI-X table lies among its registers"),
        }
    }
}

/// Where a function is, for people: bus, device, function.
pub struct At(pub u16);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.0 >> 8, self.0 >> 3 & 31, self.0 & 7)
    }
}

/// The table: a word of it, whatever is there now.
pub trait Words {
    /// Word `at`.
    fn word(&self, at: usize) -> u64;
}

/// Whether the table is complete.
pub fn is_complete(words: &impl Words) -> bool {
    words.word(table::COMPLETE) == table::MAGIC
}

/// The number of the function with this identity, the `index`th of them; bridges do not count.
pub fn find(words: &impl Words, identity: (u16, u16), index: usize) -> Option<usize> {
    let count = words.word(table::COUNT).min(MAX_FUNCTIONS as u64) as usize;
    let is = |number: &usize| {
        let at = |word| words.word((number + 1) * table::STRIDE + word);
        at(table::FLAGS) & BRIDGE == 0
            && at(table::IDENTITY) as u32 == u32::from(identity.0) | u32::from(identity.1) << 16
    };
    (0..count).filter(is).nth(index)
}

impl Function {
    /// Reads and checks function `number`.
    pub fn read(words: &impl Words, number: usize) -> Result<Function, Unusable> {
        if number >= MAX_FUNCTIONS || number as u64 >= words.word(table::COUNT) {
            return Err(Unusable::NoSuchFunction);
        }
        let at = |word: usize| words.word((number + 1) * table::STRIDE + word);
        let (address, identity, flags) = (at(table::ADDRESS), at(table::IDENTITY), at(table::FLAGS));
        if flags & (BRIDGE | UNUSABLE) != 0 || address > u64::from(u16::MAX) {
            return Err(Unusable::NotOffered);
        }
        let mut function = Function {
            number,
            address: address as u16,
            identity: (identity as u16, (identity >> 16) as u16),
            vectors: 0,
            msix: None,
            bars: bars(&at)?,
            regions: heapless::Vec::new(),
        };
        if flags & MSIX != 0 {
            let msix = at(table::MSIX);
            let (vectors, bar, offset) = (msix & 0xffff, (msix >> 16) as u8, msix >> 32);
            function.within(bar, offset, vectors * MSIX_ENTRY)?;
            function.vectors = vectors as u32;
            function.msix = Some(bar);
        } else if flags & MSI != 0 {
            function.vectors = 1;
        }
        function.read_regions(&at)?;
        Ok(function)
    }

    fn read_regions(&mut self, at: &impl Fn(usize) -> u64) -> Result<(), Unusable> {
        for number in 0..8 {
            let [kinds, extent, multiplier] = [0, 1, 2].map(|word| at(table::REGIONS + number * 3 + word));
            let region = Region {
                kind: kinds as u8,
                bar: (kinds >> 8) as u8,
                offset: extent as u32,
                length: (extent >> 32) as u32,
                multiplier: multiplier as u32,
            };
            if region.kind == 0 {
                continue;
            }
            self.within(region.bar, u64::from(region.offset), u64::from(region.length))?;
            if self.msix == Some(region.bar) {
                return Err(Unusable::SharedTable);
            }
            // There are as many places as the table can name.
            let _ = self.regions.push(region);
        }
        Ok(())
    }

    fn within(&self, bar: u8, offset: u64, length: u64) -> Result<(), Unusable> {
        let range = self.bar(bar).ok_or(Unusable::Outside)?;
        let end = offset.checked_add(length).ok_or(Unusable::Outside)?;
        if end <= range.end - range.start { Ok(()) } else { Err(Unusable::Outside) }
    }

    /// The physical addresses of a BAR.
    pub fn bar(&self, number: u8) -> Option<Range<u64>> {
        self.bars.iter().find(|(bar, _)| *bar == number).map(|(_, range)| range.clone())
    }

    /// The BAR with the VirtIO common configuration.
    pub fn common(&self) -> Option<u8> {
        self.regions.iter().find(|region| region.kind == COMMON).map(|region| region.bar)
    }
}

/// The BARs of a function: their pages, as they are given out.
fn bars(at: &impl Fn(usize) -> u64) -> Result<heapless::Vec<(u8, Range<u64>), 6>, Unusable> {
    let mut bars: heapless::Vec<(u8, Range<u64>), 6> = heapless::Vec::new();
    for number in 0..6u8 {
        let (address, size) =
            (at(table::BARS + usize::from(number) * 2), at(table::BARS + usize::from(number) * 2 + 1));
        if size == 0 || address == 0 {
            continue;
        }
        let size = size.max(PAGE_SIZE);
        let sound = size.is_power_of_two() && size <= LARGEST && address.is_multiple_of(size);
        if !sound || address >= END_OF_ADDRESSES {
            return Err(Unusable::Bar(number));
        }
        let range = address..address + size;
        if bars.iter().any(|(_, other)| other.start < range.end && range.start < other.end) {
            return Err(Unusable::Overlap);
        }
        // There are as many places as numbers.
        let _ = bars.push((number, range));
    }
    Ok(bars)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Table(std::vec::Vec<u64>);

    impl Words for Table {
        fn word(&self, at: usize) -> u64 {
            self.0.get(at).copied().unwrap_or(0)
        }
    }

    impl Table {
        fn set(&mut self, number: usize, word: usize, value: u64) {
            self.0[(number + 1) * table::STRIDE + word] = value;
        }
    }

    /// A bridge, and two VirtIO disks as QEMU has them.
    fn table() -> Table {
        let mut words = Table(std::vec![0; 64 * table::STRIDE]);
        words.0[table::COMPLETE] = table::MAGIC;
        words.0[table::COUNT] = 3;
        words.set(0, table::IDENTITY, 0x1b36 | 0xc << 16);
        words.set(0, table::FLAGS, BRIDGE);
        for number in 1..3 {
            let base = 0xfe00_0000 + number as u64 * 0x10_0000;
            words.set(number, table::ADDRESS, 0x100 * number as u64);
            words.set(number, table::IDENTITY, 0x1af4 | 0x1042 << 16 | 0x1_0000 << 32);
            words.set(number, table::FLAGS, MSIX | 1 << 3);
            words.set(number, table::MSIX, 5 | 1 << 16);
            words.set(number, table::BARS + 2, base);
            words.set(number, table::BARS + 3, 0x1000);
            words.set(number, table::BARS + 8, base + 0x4000);
            words.set(number, table::BARS + 9, 0x4000);
            words.set(number, table::REGIONS, 1 | 4 << 8);
            words.set(number, table::REGIONS + 1, 0x1000 << 32);
            words.set(number, table::REGIONS + 3, 2 | 4 << 8);
            words.set(number, table::REGIONS + 4, 0x3000 | 0x1000 << 32);
            words.set(number, table::REGIONS + 5, 4);
        }
        words
    }

    #[test]
    fn a_function_is_found_by_identity_and_index() {
        let table = table();
        assert!(is_complete(&table));
        assert_eq!(find(&table, (0x1af4, 0x1042), 0), Some(1));
        assert_eq!(find(&table, (0x1af4, 0x1042), 1), Some(2));
        assert_eq!(find(&table, (0x1af4, 0x1042), 2), None);
        assert_eq!(find(&table, (0x1b36, 0xc), 0), None);
    }

    #[test]
    fn a_driver_gets_the_registers_of_its_function() {
        let function = Function::read(&table(), 2).expect("sound");
        assert_eq!((function.address, function.identity), (0x200, (0x1af4, 0x1042)));
        assert_eq!((function.vectors, function.msix, function.common()), (5, Some(1), Some(4)));
        assert_eq!(function.bar(4), Some(0xfe20_4000..0xfe20_8000));
        assert_eq!(function.regions[1].multiplier, 4);
        assert_eq!(std::format!("{}", At(function.address)), "02:00.0");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |word: usize, value: u64| {
            let mut table = table();
            table.set(1, word, value);
            Function::read(&table, 1).expect_err("refused")
        };
        assert_eq!(refused(table::FLAGS, BRIDGE), Unusable::NotOffered);
        assert_eq!(refused(table::FLAGS, UNUSABLE), Unusable::NotOffered);
        assert_eq!(refused(table::ADDRESS, 0x1_0000), Unusable::NotOffered);
        assert_eq!(refused(table::BARS + 9, 0x3000), Unusable::Bar(4));
        assert_eq!(refused(table::BARS + 9, 1 << 40), Unusable::Bar(4));
        assert_eq!(refused(table::BARS + 8, 0xfe00_0001), Unusable::Bar(4));
        assert_eq!(refused(table::BARS + 8, u64::MAX << 52), Unusable::Bar(4));
        assert_eq!(refused(table::BARS + 2, 0xfe10_5000), Unusable::Overlap);
        assert_eq!(refused(table::MSIX, 257 | 1 << 16), Unusable::Outside);
        assert_eq!(refused(table::MSIX, 5 | 2 << 16), Unusable::Outside);
        assert_eq!(refused(table::MSIX, 5 | 4 << 16), Unusable::SharedTable);
        assert_eq!(refused(table::REGIONS + 1, 0x4000 << 32 | 1), Unusable::Outside);
        assert_eq!(refused(table::REGIONS, 1 | 0xff << 8), Unusable::Outside);
        assert_eq!(Function::read(&table(), 3), Err(Unusable::NoSuchFunction));
        assert_eq!(Function::read(&table(), usize::MAX), Err(Unusable::NoSuchFunction));
    }

    proptest! {
        #[test]
        fn whatever_the_table_holds_what_is_taken_from_it_lies_in_the_functions_bars(
            words in proptest::collection::vec((0..table::STRIDE, prop_oneof![
                any::<u64>(), 0..0x10u64, (0..64u32).prop_map(|bit| 1 << bit), Just(u64::MAX)
            ]), 0..40),
            count in prop_oneof![0..5u64, any::<u64>()],
        ) {
            let mut table = table();
            table.0[table::COUNT] = count;
            for (word, value) in words {
                table.set(1, word, value);
            }
            let _ = find(&table, (0x1af4, 0x1042), 0);
            if let Ok(function) = Function::read(&table, 1) {
                for (_, range) in &function.bars {
                    prop_assert!(range.start.is_multiple_of(PAGE_SIZE) && range.end.is_multiple_of(PAGE_SIZE));
                }
                for region in &function.regions {
                    let bar = function.bar(region.bar).expect("a BAR of it");
                    prop_assert!(u64::from(region.offset) + u64::from(region.length) <= bar.end - bar.start);
                    prop_assert!(function.msix != Some(region.bar));
                }
            }
        }
    }
}
