//! Extent trees that contradict themselves, or claim what belongs to the volume: every look at them is an error, never
//! zeros, and never a write where the claim leads.

mod disk;
mod image;
mod linux;

use disk::{Disk, pattern};
use ext4::{Error, Fallocate, InodeNumber};
use image::Image;

const ROOT: InodeNumber = InodeNumber::ROOT;
const FILE: u32 = 12;

/// A volume without checksums, so that changes by hand reach what lies behind them, with a file of some blocks.
fn base() -> Image {
    let source = linux::Scratch::holding("source", &pattern(1, 500_000));
    Image::make(16, &["-b", "4096", "-O", "^metadata_csum"])
        .debugfs(&format!("write {} f\nwrite {0} g\n", source.0.display()))
}

/// Reading, writing and truncating the file at these blocks are all refused, and nothing but the superblock, the log and
/// the inode's times changes on the disk.
fn assert_refused(image: &Image, blocks: &[u32], what: &str) {
    let read_only = image.disk().mount_read_only().unwrap();
    let file = read_only.lookup(ROOT, b"f").unwrap();
    for block in blocks {
        let mut out = [0; 16];
        let answer = read_only.read(file, u64::from(*block) * 4096, &mut out);
        assert!(matches!(answer, Err(Error::Corrupt(_))), "{what}: block {block} is read: {answer:?}");
    }
    let disk: Disk = image.disk();
    let mut volume = disk.mount(256).unwrap();
    for block in blocks {
        let offset = u64::from(*block) * 4096;
        let answer = volume.write(file, offset, &[0xaa; 4096]);
        assert!(matches!(answer, Err(Error::Corrupt(_))), "{what}: block {block} is written: {answer:?}");
        let answer = volume.fallocate(file, Fallocate::PunchHole, offset, 4096);
        assert!(matches!(answer, Err(Error::Corrupt(_))), "{what}: block {block} is freed: {answer:?}");
    }
    volume.sync().unwrap();
    assert!(volume.lookup(ROOT, b"g").is_ok(), "{what}");
    volume.unmount().unwrap();
    let bytes = disk.bytes();
    for place in [image.block_bitmap(), image.inode_bitmap()] {
        let at = place as usize * 4096;
        assert!(bytes[at..at + 4096] == image.0[at..at + 4096], "{what}: block {place} was changed");
    }
    assert!(!bytes.chunks(4096).any(|block| block == [0xaa; 4096]), "{what}: data was written somewhere");
}

#[test]
fn extents_out_of_order_overlapping_empty_or_too_long_are_errors() {
    let image = base();
    let start = image.blocks("f")[0] as u32;
    for (what, extents) in [
        ("reversed", vec![(8, 4, start + 8), (4, 4, start + 4), (0, 4, start)]),
        ("overlapping", vec![(0, 8, start), (4, 4, start + 20)]),
        ("twice", vec![(0, 4, start), (0, 4, start + 8)]),
        ("empty", vec![(0, 0, start), (4, 4, start + 4)]),
        ("wrapping", vec![(0, 4, start), (u32::MAX - 1, 4, start + 4)]),
    ] {
        let mut image = image.clone();
        image.put_extents(FILE, &extents);
        assert_refused(&image, &[0, 4, 8], what);
    }
}

#[test]
fn extents_over_the_volumes_own_structures_or_the_journal_are_errors() {
    let image = base();
    let (journal, _) = image.journal();
    let file = image.blocks("f")[0] as u32;
    for (what, start) in [
        ("superblock", 0),
        ("descriptors", 1),
        ("room for descriptors", 3),
        ("block bitmap", image.block_bitmap()),
        ("inode bitmap", image.inode_bitmap()),
        ("inode table", image.inode_table()),
        ("end of the inode table", image.inode_table() + 1),
        ("journal", journal as u32),
        ("log", journal as u32 + 100),
        ("behind the volume", 16 * 256),
        ("far behind the volume", u32::MAX),
    ] {
        let mut root = image.clone();
        root.put_extents(FILE, &[(0, 1, start)]);
        assert_refused(&root, &[0], what);
        // The same in a leaf, and below an index.
        let mut leaf = image.clone();
        leaf.put_leaf(file + 50, &[(0, 1, file), (1, 1, start)]);
        leaf.put_leaves(FILE, &[(0, file + 50)]);
        assert_refused(&leaf, &[0, 1], what);
        let mut index = image.clone();
        index.put_leaves(FILE, &[(0, start)]);
        assert_refused(&index, &[0], what);
    }
}

#[test]
fn leaves_that_hold_what_their_index_does_not_say_are_errors() {
    let image = base();
    let start = image.blocks("f")[0] as u32;
    let (first, second) = (start + 60, start + 61);
    let leaves = [(0, first), (8, second)];
    for (what, in_first, in_second, at) in [
        ("before its key", vec![(0, 4, start)], vec![(7, 4, start + 8)], 8),
        ("behind its key", vec![(0, 4, start)], vec![(9, 4, start + 8)], 9),
        ("into the next leaf", vec![(0, 9, start)], vec![(8, 4, start + 20)], 0),
        ("out of order", vec![(4, 4, start), (0, 4, start + 4)], vec![(8, 4, start + 8)], 0),
    ] {
        let mut image = image.clone();
        image.put_leaf(first, &in_first);
        image.put_leaf(second, &in_second);
        image.put_leaves(FILE, &leaves);
        assert_refused(&image, &[at], what);
    }
    // What is right is read: the test can tell.
    let mut image = image.clone();
    image.put_leaf(first, &[(0, 4, start), (6, 2, start + 6)]);
    image.put_leaf(second, &[(8, 4, start + 8)]);
    image.put_leaves(FILE, &leaves);
    let volume = image.disk().mount_read_only().unwrap();
    let mut out = vec![0; 12 * 4096];
    volume.read(InodeNumber(FILE), 0, &mut out).unwrap();
    let mut expected = pattern(1, 12 * 4096);
    expected[4 * 4096..6 * 4096].fill(0);
    assert!(out == expected);
}

#[test]
fn directories_over_the_volumes_own_structures_are_errors() {
    for what in 0..3 {
        let mut image = Image::make(16, &["-b", "4096", "-O", "^metadata_csum"]).debugfs("mkdir d\n");
        let start = [image.block_bitmap(), image.inode_table(), image.journal().0 as u32 + 100][what];
        if what == 2 {
            // A right directory, but in the log.
            let block = image.blocks("d")[0] * 4096;
            image.0.copy_within(block..block + 4096, start as usize * 4096);
        }
        image.put_extents(FILE, &[(0, 1, start)]);
        let mut volume = image.disk().mount(256).unwrap();
        let dir = volume.lookup(ROOT, b"d").unwrap();
        assert!(matches!(volume.read_dir(dir, 0, |_| true), Err(Error::Corrupt(_))));
        assert!(matches!(volume.lookup(dir, b"x"), Err(Error::Corrupt(_))));
        assert!(matches!(volume.create(dir, b"x", &ext4::NewInode::file(0o600)), Err(Error::Corrupt(_))));
        volume.unmount().unwrap();
    }
}

#[test]
fn attribute_blocks_over_the_volumes_own_structures_are_errors() {
    let base = base();
    for place in [base.block_bitmap(), base.inode_table(), base.journal().0 as u32 + 5, 16 * 256] {
        let mut image = base.clone();
        let at = image.inode(FILE) + 0x68;
        image.put(at, &place.to_le_bytes());
        if place == base.journal().0 as u32 + 5 {
            // A right block of no attributes, but in the log.
            image.put(place as usize * 4096, &[0, 0, 2, 0xea, 1, 0, 0, 0, 1, 0, 0, 0]);
        }
        let before = image.0.clone();
        let disk = image.disk();
        let mut volume = disk.mount(256).unwrap();
        let file = volume.lookup(ROOT, b"f").unwrap();
        let answer = volume.get_xattr(file, b"user.a", &mut []);
        assert!(matches!(answer, Err(Error::Corrupt(_))), "{place}: {answer:?}");
        let answer = volume.set_xattr(file, b"user.a", &[1; 600], ext4::SetXattr::Any);
        assert!(matches!(answer, Err(Error::Corrupt(_))), "{place}: {answer:?}");
        volume.unmount().unwrap();
        let table = image.inode_table() as usize * 4096;
        assert!(disk.bytes()[table..table + 4096] == before[table..table + 4096], "{place}");
    }
}
