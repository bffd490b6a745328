//! Tests of src/acpi.rs.

use super::*;
use crate::fake::{Memory, Random};
use std::vec::Vec;

fn with_checksum(mut bytes: Vec<u8>, at: usize, over: usize) -> Vec<u8> {
    bytes[at] = 0;
    bytes[at] = 0u8.wrapping_sub(bytes[..over].iter().fold(0, |sum, byte| sum.wrapping_add(*byte)));
    bytes
}

fn sdt(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut bytes = name.to_vec();
    bytes.extend((36 + body.len() as u32).to_le_bytes());
    bytes.resize(36, 0);
    bytes.extend(body);
    let size = bytes.len();
    with_checksum(bytes, 9, size)
}

fn rsdp(revision: u8, rsdt: u32, xsdt: u64) -> Vec<u8> {
    let mut bytes = b"RSD PTR ".to_vec();
    bytes.resize(36, 0);
    bytes[15] = revision;
    bytes[16..20].copy_from_slice(&rsdt.to_le_bytes());
    bytes[20] = 36;
    bytes[24..32].copy_from_slice(&xsdt.to_le_bytes());
    with_checksum(with_checksum(bytes, 8, 20), 32, 36)
}

fn madt() -> Vec<u8> {
    let mut body = vec![0, 0, 0xe0, 0xfe, 1, 0, 0, 0];
    body.extend([0, 8, 0, 0, 1, 0, 0, 0]);
    body.extend([0, 8, 1, 1, 1, 0, 0, 0]);
    body.extend([0, 8, 2, 2, 0, 0, 0, 0]);
    body.extend([1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
    body.extend([2, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0]);
    body.extend([2, 10, 0, 10, 10, 0, 0, 0, 0x0f, 0]);
    body.extend([9, 16, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    body.extend([9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    sdt(b"APIC", &body)
}

fn mcfg() -> Vec<u8> {
    let mut body = vec![0; 8];
    body.extend([0, 0, 0, 0xb0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0, 0, 0, 0]);
    sdt(b"MCFG", &body)
}

fn dmar() -> Vec<u8> {
    let mut body = vec![38, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    body.extend([0, 0, 32, 0, 1, 0, 0, 0, 0, 0, 0xd9, 0xfe, 0, 0, 0, 0]);
    // Its scopes: a PCI device, and the I/O APIC, which is ff:1e.1 to it.
    body.extend([1, 8, 0, 0, 0, 0, 2, 0]);
    body.extend([3, 8, 0, 0, 0, 0xff, 0x1e, 1]);
    body.extend([1, 0, 8, 0, 0, 0, 0, 0]);
    sdt(b"DMAR", &body)
}

fn fadt() -> Vec<u8> {
    let mut body = vec![0; 129 - 36];
    body[76 - 36..78 - 36].copy_from_slice(&0x608u16.to_le_bytes());
    body[112 - 36 + 1] = 4;
    body[116 - 36] = 1;
    body[120 - 36..122 - 36].copy_from_slice(&0xcf9u16.to_le_bytes());
    body[128 - 36] = 15;
    sdt(b"FACP", &body)
}

/// Remapping units without scopes: their segments.
fn units(segments: &[u8]) -> Vec<u8> {
    let mut body = vec![38, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for &segment in segments {
        body.extend([0, 0, 16, 0, 0, 0, segment, 0, 0, 0, 0xd9, 0xfe, 0, 0, 0, 0]);
    }
    sdt(b"DMAR", &body)
}

fn with_dmar(dmar: Vec<u8>) -> Platform {
    let mut memory = machine(2);
    memory.0[2].1 = dmar;
    Platform::read(&memory, None)
}

fn machine(revision: u8) -> Memory {
    let tables = [madt(), mcfg(), dmar(), fadt()];
    let mut memory = Memory::default();
    let (mut rsdt, mut xsdt) = (Vec::new(), Vec::new());
    for (number, table) in tables.into_iter().enumerate() {
        let address = 0x10_0000 + 0x1000 * number as u32;
        rsdt.extend(address.to_le_bytes());
        xsdt.extend(u64::from(address).to_le_bytes());
        memory.0.push((u64::from(address), table));
    }
    memory.0.push((0x20_0000, sdt(b"RSDT", &rsdt)));
    memory.0.push((0x20_1000, sdt(b"XSDT", &xsdt)));
    let mut bios = vec![0; 0x2_0000];
    bios[0x1230..0x1230 + 36].copy_from_slice(&rsdp(revision, 0x20_0000, 0x20_1000));
    memory.0.push((0xe_0000, bios));
    memory
}

fn assert_complete(platform: &Platform) {
    assert_eq!(platform.cpus, [0, 1, 7]);
    assert_eq!(platform.io_apics, [IoApic { address: 0xfec0_0000, first_gsi: 0, id: 0 }]);
    assert_eq!(platform.ecam, Some(Ecam { base: 0xb000_0000, first_bus: 0, last_bus: 255 }));
    assert_eq!(platform.remappers, [Remapper { address: 0xfed9_0000, segment: 0 }]);
    assert!(!platform.remappers_unknown);
    assert_eq!(platform.pm_timer, Some(0x608));
    assert_eq!(platform.io_apic_sources, [(0, 0xfff1)]);
    assert_eq!(platform.reset, Some(Reset { port: 0xcf9, value: 15 }));
    assert_eq!(platform.rsdp, Some(0xe_1230));
}

#[test]
fn tables_are_found_through_rsdt_and_xsdt_given_or_scanned_for() {
    for revision in [0, 2] {
        assert_complete(&Platform::read(&machine(revision), Some(0xe_1230)));
        assert_complete(&Platform::read(&machine(revision), None));
    }
}

#[test]
fn a_wrong_rsdp_address_is_made_good_by_the_scan() {
    assert_complete(&Platform::read(&machine(2), Some(0x20_0000)));
    assert_complete(&Platform::read(&machine(2), Some(u64::MAX)));
}

#[test]
fn a_broken_xsdt_leaves_the_rsdt() {
    let mut memory = machine(2);
    memory.0[5].1[40] ^= 1;
    assert_complete(&Platform::read(&memory, None));
}

#[test]
fn a_table_with_a_wrong_checksum_is_not_used() {
    let mut memory = machine(2);
    memory.0[0].1[45] ^= 1;
    let platform = Platform::read(&memory, None);
    assert!(platform.cpus.is_empty() && platform.ecam.is_some());
    assert_eq!(platform.bad_tables, 1);
}

#[test]
fn the_window_on_buses_starts_at_the_first_bus() {
    let ecam = Ecam { base: 0xb000_0000, first_bus: 16, last_bus: 31 };
    assert_eq!(ecam.region(), Region { start: 0xb100_0000, end: 0xb200_0000 });
}

#[test]
fn entries_without_length_do_not_loop() {
    let mut body = vec![0; 8];
    body.extend([200, 0, 0, 0, 0, 0]);
    let mut memory = machine(2);
    memory.0[0].1 = sdt(b"APIC", &body);
    assert!(Platform::read(&memory, None).cpus.is_empty());
}

#[test]
fn a_unit_is_known_with_the_segment_of_its_devices() {
    let platform = with_dmar(units(&[0, 3]));
    let segments: Vec<_> = platform.remappers.iter().map(|unit| unit.segment).collect();
    assert_eq!((segments, platform.remappers_unknown), (vec![0, 3], false));
}

#[test]
fn more_units_than_fit_are_told_of() {
    let most = with_dmar(units(&[0; MAX_REMAPPERS]));
    assert_eq!((most.remappers.len(), most.remappers_unknown), (MAX_REMAPPERS, false));
    assert!(with_dmar(units(&[0; MAX_REMAPPERS + 1])).remappers_unknown);
}

#[test]
fn a_list_of_units_that_ends_early_is_told_of() {
    let mut body = units(&[0])[36..].to_vec();
    body.extend([0, 0, 16, 0, 0]);
    assert!(with_dmar(sdt(b"DMAR", &body)).remappers_unknown);
}

#[test]
fn garbled_tables_never_crash() {
    let mut random = Random(3);
    let mut refused = 0;
    for _ in 0..20_000 {
        let mut memory = machine(2);
        let piece = random.below(6);
        for _ in 0..random.below(12) {
            let at = random.below(memory.0[piece].1.len());
            memory.0[piece].1[at] = random.below(256) as u8;
        }
        let size = memory.0[piece].1.len();
        if random.below(2) == 0 && size > 9 {
            let bytes = core::mem::take(&mut memory.0[piece].1);
            memory.0[piece].1 = with_checksum(bytes, 9, size);
        }
        memory.0[piece].1.truncate(size - random.below(8).min(size));
        let platform = Platform::read(&memory, Some(0xe_1230));
        refused += u32::from(platform.bad_tables > 0);
    }
    // Neither is all damage refused, nor none of it.
    assert!((1_000..19_000).contains(&refused), "{refused} of 20,000 had refused tables");
}
