//! The start of init from its image, whole and damaged.

use abi::boot::{BOOT_INFO_ADDRESS, BootInfo, IMAGE_MAGIC, INIT_STACK_TOP};
use abi::{MapFlags, USER_TOP};
use objects::boot::{BootError, Handover, Region};

use crate::world::{MEMORY_START, Size, World};

const ENTRY: u64 = 0x40_1010;
/// An image: magic, entry, segments; of each its address, pages, flags, bytes, and these.
const IMAGE: [u64; 13] = [
    IMAGE_MAGIC,
    ENTRY,
    2, //
    0x40_1000,
    1,
    MapFlags::READ.0 | MapFlags::EXECUTE.0,
    8,
    0x1111, //
    0x40_3000,
    3,
    MapFlags::READ.0 | MapFlags::WRITE.0,
    8,
    0x2222,
];

fn boot(image: &[u8]) -> Result<(), BootError> {
    let world = World::of_size(Size { cpus: 1, slots: 9, untyped: 23 });
    let memory = [Region { start: MEMORY_START + (1 << 23), end: MEMORY_START + (2 << 23) }];
    let handover = Handover {
        memory: &memory,
        devices: &[],
        archive: Region::default(),
        log: Region::sized(MEMORY_START, 4096),
        trace: Region::sized(MEMORY_START, 4096),
        init: image,
        info: BootInfo::new(),
    };
    world.kernel.boot(&world.cpus[0], &handover)
}

fn bytes(image: &[u64]) -> Vec<u8> {
    image.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Boots the image with one word of it changed.
fn with(at: usize, word: u64) -> Result<(), BootError> {
    let mut image = IMAGE;
    image[at] = word;
    boot(&bytes(&image))
}

#[test]
fn an_image_is_loaded() {
    assert_eq!(boot(&bytes(&IMAGE)), Ok(()));
}

#[test]
fn an_image_that_ends_early_is_refused() {
    let whole = bytes(&IMAGE);
    for size in 0..whole.len() {
        assert_eq!(boot(&whole[..size]), Err(BootError::BadProgram), "{size} bytes of it");
    }
}

#[test]
fn a_damaged_image_is_refused() {
    for (at, word) in [
        (0, IMAGE_MAGIC + 1),
        (1, USER_TOP),
        (2, 3),
        (2, u64::MAX),
        (3, 0x40_1001),
        (3, 0x40_3000),
        (3, INIT_STACK_TOP - 4096),
        (3, BOOT_INFO_ADDRESS),
        (3, USER_TOP),
        (3, u64::MAX - 4095),
        (4, 0),
        (4, u64::MAX),
        (4, 1 << 36),
        (5, MapFlags::WRITE.0 | MapFlags::EXECUTE.0),
        (6, 4097),
        (6, u64::MAX),
        (11, u64::MAX - 7),
    ] {
        assert!(with(at, word).is_err(), "word {at} as {word:#x}");
    }
}
