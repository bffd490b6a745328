//! Tests of src/pvh.rs.

use super::*;
use crate::fake::{Memory, Random};

fn words(words: &[u64]) -> Vec<u8, 256> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn machine() -> Memory {
    let head = words(&[1 << 32 | u64::from(MAGIC), 1 << 32, 0x2000, 0x3000, 0xf_0000, 0x4000, 2]);
    let modules = words(&[0x7000_0001, 0x1234, 0, 0]);
    let map = words(&[0, 0x9_fc00, 1, 0x9_fc00, 0x400, 2]);
    let pieces = [(0x1000, head), (0x2000, modules), (0x4000, map)];
    let mut memory = Memory(pieces.iter().map(|(at, bytes)| (*at, bytes.to_vec())).collect());
    memory.0.push((0x3000, b"check=wx  smp=4\0junk".to_vec()));
    memory
}

#[test]
fn start_info_is_copied_whole() {
    let info = StartInfo::read(&machine(), 0x1000).expect("it is well-formed");
    assert_eq!(info.archive, Some(Region::sized(0x7000_0001, 0x1234)));
    assert_eq!(info.rsdp, Some(0xf_0000));
    assert_eq!(info.command_line, b"check=wx  smp=4");
    assert!(info.option("check=wx") && info.option("smp=4") && !info.option("smp") && !info.option("junk"));
    let kinds: std::vec::Vec<_> = info.map.iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [MemoryKind::Ram, MemoryKind::Firmware]);
    assert_eq!(info.map[1].region, Region { start: 0x9_fc00, end: 0xa_0000 });
}

#[test]
fn what_is_not_start_info_is_refused() {
    assert!(StartInfo::read(&Memory::default(), 0x1000).is_none());
    assert!(StartInfo::read(&machine(), 0x2000).is_none());
    let mut old = machine();
    old.0[0].1[4] = 0;
    assert!(StartInfo::read(&old, 0x1000).is_none());
}

#[test]
fn garbled_start_info_never_crashes() {
    let mut random = Random(1);
    let mut understood = 0;
    for _ in 0..20_000 {
        let mut memory = machine();
        for _ in 0..8 {
            let piece = random.below(memory.0.len());
            let at = random.below(memory.0[piece].1.len());
            memory.0[piece].1[at] = random.below(256) as u8;
        }
        if let Some(info) = StartInfo::read(&memory, 0x1000) {
            understood += 1;
            let regions = info.map.iter().map(|entry| entry.region).chain(info.archive);
            assert!(regions.into_iter().all(|region| region.start <= region.end), "{info:?}");
        }
    }
    assert!((1_000..19_000).contains(&understood), "{understood} of 20,000 were understood");
}
