//! Damage in what is to be deleted: the operation is done or it is not, the volume says that it is damaged, and it can
//! always be mounted again.

mod disk;
mod image;
mod linux;

use disk::{Disk, pattern};
use ext4::{Error, Fallocate, InodeNumber, NewInode, Time};
use image::{Image, SUPERBLOCK};

const ROOT: InodeNumber = InodeNumber::ROOT;
const LAST_ORPHAN: usize = SUPERBLOCK + 0xe8;
const STATE: usize = SUPERBLOCK + 0x3a;
const ON_ERRORS: usize = SUPERBLOCK + 0x3c;
const DAMAGED: u16 = 2;
const LINKS: usize = 0x1a;
const DELETED: usize = 0x14;

/// A volume with the files `f` (inode 12), `g` and `h`.
fn base(options: &[&str]) -> Image {
    let source = linux::Scratch::holding("source", &pattern(1, 500_000));
    let write = |name: &str| format!("write {} {name}\n", source.0.display());
    Image::make(16, options).debugfs(&["f", "g", "h"].map(write).concat())
}

fn unchecked() -> Image {
    base(&["-b", "4096", "-O", "^metadata_csum"])
}

/// Mounts, answers the names in the root, and unmounts; what `e2fsck -p` leaves is clean.
fn names_after_mounting(disk: &Disk) -> Vec<String> {
    let volume = disk.mount(256).unwrap();
    assert!(volume.is_writable());
    let mut names = Vec::new();
    volume
        .read_dir(ROOT, 2, |entry| {
            names.push(String::from_utf8(entry.name.to_vec()).unwrap());
            true
        })
        .unwrap();
    volume.unmount().unwrap();
    names.sort();
    names
}

fn assert_mended_by_linux(disk: &Disk) {
    let file = linux::Scratch::holding("mend", &disk.bytes());
    let said = linux::run("e2fsck", &["-p", file.0.to_str().unwrap()]);
    // Without -f: it looks at all of the volume because the superblock asks for it.
    assert!(linux::text(&said).contains("contains a file system with errors"), "{}", linux::text(&said));
    linux::run("e2fsck", &["-fy", file.0.to_str().unwrap()]);
    linux::check_file(&file.0).unwrap();
}

fn state(disk: &Disk) -> u16 {
    Image(disk.bytes()).u16(STATE)
}

/// Damages the file `f`; the answer says what was damaged.
type Damage = fn(&mut Image);

const DAMAGES: [(&str, Damage); 3] = [
    ("a wrong bit in the block bitmap", |image| {
        let block = image.blocks("f")[7] as u32;
        let at = image.block_bitmap() as usize * 4096 + block as usize / 8;
        image.0[at] &= !(1 << (block % 8));
    }),
    ("a wrong bit in the inode bitmap", |image| {
        let at = image.inode_bitmap() as usize * 4096 + 11 / 8;
        image.0[at] &= !(1 << (11 % 8));
    }),
    ("a count of blocks that is too small", |image| {
        let at = image.inode(12) + 0x1c;
        image.put(at, &8_u32.to_le_bytes());
    }),
];

#[test]
fn a_damaged_file_is_removed_and_set_aside_and_the_volume_mounts_again() {
    for (what, damage) in DAMAGES {
        let mut image = unchecked();
        damage(&mut image);
        let disk = image.disk();
        let mut volume = disk.mount(256).unwrap();
        volume.unlink(ROOT, b"f").unwrap();
        assert_eq!(volume.lookup(ROOT, b"f"), Err(Error::NotFound), "{what}");
        volume.write(volume.lookup(ROOT, b"g").unwrap(), 0, b"goes on").unwrap();
        volume.unmount().unwrap();
        assert_eq!(state(&disk) & DAMAGED, DAMAGED, "{what}");
        for _ in 0..2 {
            assert_eq!(names_after_mounting(&disk), ["g", "h", "lost+found"], "{what}");
        }
        assert_mended_by_linux(&disk);
    }
}

#[test]
fn a_damaged_file_that_is_replaced_or_closed_last_is_set_aside() {
    for (what, damage) in DAMAGES {
        let mut image = unchecked();
        damage(&mut image);
        let disk = image.disk();
        let mut volume = disk.mount(256).unwrap();
        volume.rename((ROOT, b"g"), (ROOT, b"f"), ext4::Rename::Replace).unwrap();
        volume.unmount().unwrap();
        assert_eq!(names_after_mounting(&disk), ["f", "h", "lost+found"], "{what}");
        assert_mended_by_linux(&disk);

        let disk = image.disk();
        let mut volume = disk.mount(256).unwrap();
        let file = volume.lookup(ROOT, b"f").unwrap();
        volume.open(file).unwrap();
        volume.unlink(ROOT, b"f").unwrap();
        volume.close(file).unwrap();
        volume.unmount().unwrap();
        assert_eq!(names_after_mounting(&disk), ["g", "h", "lost+found"], "{what}");
        assert_mended_by_linux(&disk);
    }
}

#[test]
fn a_refused_operation_on_a_damaged_file_has_changed_nothing() {
    let (_, damage) = DAMAGES[0];
    let mut image = unchecked();
    damage(&mut image);
    let mut volume = image.disk().mount(256).unwrap();
    let file = volume.lookup(ROOT, b"f").unwrap();
    let before = volume.attributes(file).unwrap();
    let free = volume.statistics().free_blocks;
    assert!(matches!(volume.truncate(file, 0), Err(Error::Corrupt(_))));
    let punched = volume.fallocate(file, Fallocate::PunchHole, 100, 499_000);
    assert!(matches!(punched, Err(Error::Corrupt(_))));
    assert_eq!(volume.attributes(file).unwrap(), before);
    assert_eq!(volume.statistics().free_blocks, free);
    let mut content = vec![0; 500_000];
    volume.read(file, 0, &mut content).unwrap();
    assert!(content == pattern(1, 500_000));
}

#[test]
fn a_volume_that_stops_on_errors_takes_no_more_changes_and_keeps_the_earlier_ones() {
    for policy in [2_u16, 3] {
        let mut image = unchecked();
        DAMAGES[0].1(&mut image);
        image.put(ON_ERRORS, &policy.to_le_bytes());
        let disk = image.disk();
        let mut volume = disk.mount(256).unwrap();
        volume.create(ROOT, b"before", &NewInode::file(0o600)).unwrap();
        volume.unlink(ROOT, b"f").unwrap();
        assert!(!volume.is_writable());
        assert_eq!(volume.create(ROOT, b"after", &NewInode::file(0o600)), Err(Error::ReadOnly));
        assert!(volume.lookup(ROOT, b"g").is_ok());
        volume.unmount().unwrap();
        assert_eq!(state(&disk) & DAMAGED, DAMAGED);
        assert_eq!(names_after_mounting(&disk), ["before", "g", "h", "lost+found"]);
        assert_mended_by_linux(&disk);
    }
}

/// Puts inodes on the orphan list by hand.
fn put_orphans(image: &mut Image, first: u32, next: &[(u32, u32)]) {
    image.put(LAST_ORPHAN, &first.to_le_bytes());
    for (inode, next) in next {
        let at = image.inode(*inode) + DELETED;
        image.put(at, &next.to_le_bytes());
    }
}

#[test]
fn an_orphan_list_that_is_none_is_cut_and_the_volume_is_mounted() {
    for (what, first, next) in [
        ("a cycle of two", 12, vec![(12, 13), (13, 12)]),
        ("a cycle of one", 12, vec![(12, 12)]),
        ("a cycle behind a good one", 12, vec![(12, 13), (13, 14), (14, 13)]),
        ("a reserved inode", 7, vec![]),
        ("a reserved inode behind a good one", 12, vec![(12, 2)]),
        ("an inode that does not exist", 0x7fff_0000, vec![]),
        ("an inode that does not exist behind a good one", 13, vec![(13, 0xffff_fff0)]),
    ] {
        let mut image = unchecked();
        put_orphans(&mut image, first, &next);
        let disk = image.disk();
        for _ in 0..2 {
            assert_eq!(names_after_mounting(&disk), ["f", "g", "h", "lost+found"], "{what}");
        }
        assert_eq!(Image(disk.bytes()).u32(LAST_ORPHAN), 0, "{what}");
        assert_eq!(state(&disk) & DAMAGED, DAMAGED, "{what}");
        let feature = Image(disk.bytes()).u32(SUPERBLOCK + 0x60);
        assert_eq!(feature & 4, 0, "{what}: needs_recovery stays");
        assert_mended_by_linux(&disk);
    }
}

#[test]
fn a_damaged_orphan_is_set_aside_wherever_it_is_in_the_list() {
    for (what, damage) in DAMAGES {
        for chain in [[12, 13, 14], [13, 12, 14], [13, 14, 12]] {
            let mut image = unchecked().debugfs("unlink f\nunlink g\nunlink h\n");
            put_orphans(&mut image, chain[0], &[(chain[0], chain[1]), (chain[1], chain[2]), (chain[2], 0)]);
            // Without names, as after a crash with all of them open.
            for inode in chain {
                let at = image.inode(inode) + LINKS;
                image.put(at, &[0, 0]);
            }
            let blocks: Vec<usize> = image.blocks("<12>");
            let bitmap = image.block_bitmap() as usize * 4096;
            match what {
                "a wrong bit in the block bitmap" => {
                    image.0[bitmap + blocks[3] / 8] &= !(1 << (blocks[3] % 8))
                }
                _ => damage(&mut image),
            }
            let disk = image.disk();
            for _ in 0..2 {
                assert_eq!(names_after_mounting(&disk), ["lost+found"], "{what} {chain:?}");
            }
            let after = Image(disk.bytes());
            assert_eq!(after.u32(LAST_ORPHAN), 0, "{what} {chain:?}");
            // The good ones are freed.
            for inode in [13, 14] {
                assert!(after.u32(after.inode(inode) + DELETED) > 1_000_000, "{what} {chain:?} {inode}");
            }
            assert_mended_by_linux(&disk);
        }
    }
}

#[test]
fn an_orphan_whose_bytes_are_damaged_ends_the_list() {
    // With checksums: the damaged inode cannot be read at all, so that what lies behind it in the list is lost.
    let mut image = base(&["-b", "4096"]).debugfs("ssv last_orphan 13\nsif <13> dtime 12\n");
    let at = image.inode(12) + 0x40;
    image.0[at] ^= 1;
    let disk = image.disk();
    for _ in 0..2 {
        let volume = disk.mount(256).unwrap();
        assert!(volume.is_writable());
        assert!(matches!(volume.attributes(InodeNumber(12)), Err(Error::Corrupt(_))));
        volume.unmount().unwrap();
    }
    assert_eq!(Image(disk.bytes()).u32(LAST_ORPHAN), 0);
    assert_mended_by_linux(&disk);
}

#[test]
fn damage_in_the_orphan_file_does_not_keep_the_volume_from_being_mounted() {
    let image = Image::make(16, &["-b", "4096", "-O", "orphan_file,^metadata_csum"]);
    let magic = 0x0b10_ca04_u32.to_le_bytes();
    let block = image.0.chunks(4096).position(|block| block[4088..4092] == magic).unwrap() * 4096;
    for damage in 0..3 {
        let mut image = image.clone();
        image.0[SUPERBLOCK + 0x66] |= 1;
        match damage {
            0 => image.put(block, &7_u32.to_le_bytes()),
            1 => image.put(block + 4, &0x7fff_ffff_u32.to_le_bytes()),
            _ => image.put(block + 4088, &[0; 4]),
        }
        let disk = image.disk();
        let mut volume = disk.mount(256).unwrap();
        volume.create(ROOT, b"x", &NewInode::file(0o600)).unwrap();
        volume.unmount().unwrap();
        assert_eq!(state(&disk) & DAMAGED, DAMAGED);
        assert_eq!(names_after_mounting(&disk), ["lost+found", "x"]);
        assert_mended_by_linux(&disk);
    }
}

#[test]
fn an_error_that_stopped_the_journals_last_user_is_passed_on_to_the_superblock() {
    let mut image = unchecked();
    let (_, at) = image.journal();
    image.put_be32(at + 0x20, -5_i32 as u32);
    let disk = image.disk();
    let mut volume = disk.mount(256).unwrap();
    volume.set_time(Time { seconds: 1_700_000_001, nanoseconds: 0 });
    volume.unmount().unwrap();
    assert_eq!(state(&disk) & DAMAGED, DAMAGED);
    assert_eq!(Image(disk.bytes()).be32(at + 0x20), 0);
}
