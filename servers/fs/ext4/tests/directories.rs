//! Directories whose index, names or hashes are unusual; e2fsck is the judge.

mod disk;
mod kernel;
mod linux;

use std::collections::BTreeSet;

use disk::{Disk, Volume};
use ext4::{Error, Ext4, FileType, InodeNumber, MountOptions, NewInode, Time, WriteBackCache};
use kernel::Mounted;

const ROOT: InodeNumber = InodeNumber::ROOT;

fn file(volume: &mut Volume, dir: InodeNumber, name: &str) -> InodeNumber {
    volume.create(dir, name.as_bytes(), &NewInode::file(0o644)).unwrap()
}

fn dir(volume: &mut Volume, name: &str) -> InodeNumber {
    volume.create(ROOT, name.as_bytes(), &NewInode::directory(0o755)).unwrap()
}

/// The names of a directory without its own two, read by calls of at most `batch` names.
fn names_in_batches(volume: &Volume, dir: InodeNumber, batch: usize) -> ext4::Result<Vec<Vec<u8>>> {
    let (mut names, mut cookie) = (Vec::new(), 2);
    loop {
        let before = names.len();
        let mut next = cookie;
        volume.read_dir(dir, cookie, |entry| {
            names.push(entry.name.to_vec());
            next = entry.next;
            names.len() < before + batch
        })?;
        if names.len() == before {
            return Ok(names);
        }
        assert!(next > cookie, "a listing must go on");
        cookie = next;
    }
}

fn assert_lists(volume: &Volume, dir: InodeNumber, expected: &BTreeSet<Vec<u8>>) {
    for batch in [1, 2, 3, 64, usize::MAX] {
        let names = names_in_batches(volume, dir, batch).unwrap();
        assert_eq!(names.len(), expected.len(), "in batches of {batch}");
        assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), *expected);
    }
}

fn empty_and_use_again(options: &[&str], count: usize) {
    let disk = Disk::new(linux::make_image(64, options));
    let mut volume = disk.mount(2000).unwrap();
    let many = dir(&mut volume, "many");
    for n in 0..count {
        file(&mut volume, many, &format!("file number {n}"));
    }
    for n in 0..count {
        volume.unlink(many, format!("file number {n}").as_bytes()).unwrap();
    }
    assert_lists(&volume, many, &BTreeSet::new());
    assert_eq!(volume.lookup(many, b"file number 1"), Err(Error::NotFound));
    for n in (0..count).step_by(2) {
        file(&mut volume, many, &format!("another {n}"));
    }
    assert_eq!(volume.rmdir(ROOT, b"many"), Err(Error::NotEmpty));
    assert_eq!(names_in_batches(&volume, many, 64).unwrap().len(), count.div_ceil(2));
    volume.sync().unwrap();
    linux::assert_clean(&linux::replay(&disk.bytes()).unwrap(), &format!("{options:?} in use again"));
    for n in (0..count).step_by(2) {
        volume.unlink(many, format!("another {n}").as_bytes()).unwrap();
    }
    volume.rmdir(ROOT, b"many").unwrap();
    volume.unmount().unwrap();
    linux::assert_clean(&disk.bytes(), &format!("{options:?} removed"));
}

#[test]
fn emptied_directories_without_checksums_can_be_used_again() {
    empty_and_use_again(&["-b", "4096", "-O", "^metadata_csum"], 1000);
    empty_and_use_again(&["-b", "1024", "-O", "^metadata_csum"], 1000);
}

#[test]
fn emptied_directories_with_two_levels_of_index_can_be_used_again() {
    for features in ["^metadata_csum", "metadata_csum"] {
        empty_and_use_again(&["-b", "1024", "-N", "30000", "-O", features], 12_000);
    }
}

/// A volume with the legacy hash, for which colliding names are easy to find.
fn with_legacy_hash() -> Disk {
    let image = linux::Scratch::holding("image", &linux::make_image(16, &["-b", "1024"]));
    let output = linux::run("tune2fs", &["-E", "hash_alg=legacy", image.0.to_str().unwrap()]);
    assert!(output.status.success(), "tune2fs: {}", linux::text(&output));
    Disk::new(image.read())
}

/// The legacy hash of an ASCII name.
fn legacy(name: &str) -> u32 {
    let (mut last, mut before) = (0x12a3_fe2d_u32, 0x37ab_e8f9_u32);
    for byte in name.bytes() {
        let mut next = before.wrapping_add(last ^ u32::from(byte).wrapping_mul(7_152_373));
        if next & 0x8000_0000 != 0 {
            next = next.wrapping_sub(0x7fff_ffff);
        }
        (before, last) = (last, next);
    }
    last << 1
}

#[test]
fn names_whose_hashes_collide_are_all_listed() {
    let mut seen = std::collections::HashMap::new();
    let mut colliding = Vec::new();
    for n in 0..300_000 {
        let name = format!("n{n}");
        if let Some(other) = seen.insert(legacy(&name), name.clone()) {
            colliding.extend([name, other]);
        }
    }
    assert!(colliding.len() >= 12, "few collisions: {colliding:?}");
    for others in [0, 200] {
        let disk = with_legacy_hash();
        let mut volume = disk.mount(500).unwrap();
        let many = dir(&mut volume, "many");
        let mut expected = BTreeSet::new();
        for name in (0..others).map(|n| format!("q{n}")).chain(colliding.iter().take(12).cloned()) {
            file(&mut volume, many, &name);
            expected.insert(name.into_bytes());
        }
        assert_lists(&volume, many, &expected);
        // A name that goes between two calls takes no other one with it.
        let first = names_in_batches(&volume, many, usize::MAX).unwrap();
        let (mut left, mut cookie) = (Vec::new(), 2);
        for name in &first {
            volume
                .read_dir(many, cookie, |entry| {
                    left.push(entry.name.to_vec());
                    cookie = entry.next;
                    false
                })
                .unwrap();
            volume.unlink(many, name).unwrap();
        }
        assert_eq!(left, first);
        volume.unmount().unwrap();
        linux::assert_clean(&disk.bytes(), "names that collide");
    }
}

#[test]
fn names_of_one_hash_in_many_leaves_are_found_listed_and_removed() {
    let tails = ["aaaaaaa", "aq1olo2", "cj5m540", "cvt7cas", "daxizd1", "du9qfur", "dxign2e"];
    let names: BTreeSet<Vec<u8>> =
        tails.iter().map(|tail| [&[b'x'; 242], tail.as_bytes()].concat()).collect();
    let hashes: BTreeSet<u32> = names.iter().map(|name| legacy(str::from_utf8(name).unwrap()) & !1).collect();
    assert_eq!(hashes.len(), 1);
    let disk = with_legacy_hash();
    let mut volume = disk.mount(500).unwrap();
    let many = dir(&mut volume, "many");
    for name in &names {
        // Three of them fill a leaf.
        volume.create(many, name, &NewInode::file(0)).unwrap();
    }
    for name in &names {
        assert!(volume.lookup(many, name).is_ok());
        assert_eq!(volume.create(many, name, &NewInode::file(0)), Err(Error::Exists));
    }
    assert_lists(&volume, many, &names);
    volume.sync().unwrap();
    linux::assert_clean(&linux::replay(&disk.bytes()).unwrap(), "one hash in many leaves");
    let image = linux::Scratch::holding("image", &disk.bytes());
    if let Some(mounted) = Mounted::new(&image.0, "ext4") {
        let folder = mounted.path("many");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), names.len());
        for name in &names {
            assert!(folder.join(str::from_utf8(name).unwrap()).is_file());
        }
    }
    for name in &names {
        volume.unlink(many, name).unwrap();
    }
    volume.rmdir(ROOT, b"many").unwrap();
    volume.unmount().unwrap();
    linux::assert_clean(&disk.bytes(), "names of one hash removed");
}

/// Where `needle` lies in an image: in its directory, and in what the journal still holds.
fn find(image: &[u8], needle: &[u8]) -> Vec<usize> {
    image.windows(needle.len()).enumerate().filter(|(_, bytes)| *bytes == needle).map(|(at, _)| at).collect()
}

#[test]
fn names_that_cannot_be_are_damage_and_never_seen() {
    for features in ["^metadata_csum,dir_index", "^metadata_csum,^dir_index"] {
        for others in [3, 500] {
            let disk = Disk::new(linux::make_image(16, &["-b", "1024", "-O", features]));
            let mut volume = disk.mount(500).unwrap();
            let many = dir(&mut volume, "many");
            for n in 0..others {
                file(&mut volume, many, &format!("good {n}"));
            }
            let victim = file(&mut volume, many, "a victim's name");
            volume.unmount().unwrap();
            let places = find(&disk.bytes(), b"a victim's name");
            let damages: [(isize, &[u8]); 4] =
                [(1, b"/"), (1, b"\0"), (-2, b"\0"), (-8, &u32::MAX.to_le_bytes())];
            for (from_name, damage) in damages {
                let mut image = disk.bytes();
                for place in &places {
                    let at = place.strict_add_signed(from_name);
                    image[at..at + damage.len()].copy_from_slice(damage);
                }
                let damaged = Disk::new(image);
                let mut volume = damaged.mount(500).unwrap();
                let mut seen = Vec::new();
                let listed = volume.read_dir(many, 0, |entry| {
                    seen.push((entry.name.to_vec(), entry.inode));
                    true
                });
                assert!(matches!(listed, Err(Error::Corrupt(_))), "{damage:?}: {listed:?}");
                let strange = |(name, inode): &(Vec<u8>, InodeNumber)| {
                    !(name.starts_with(b"good ") || name == b"." || name == b"..") || *inode == victim
                };
                assert!(!seen.iter().any(strange), "{damage:?}: {seen:?}");
                assert!(volume.lookup(many, b"good 1").is_ok());
                assert_eq!(volume.rmdir(ROOT, b"many"), Err(Error::NotEmpty));
            }
        }
    }
}

#[test]
fn names_that_cannot_be_are_refused() {
    let mut volume = Disk::new(linux::make_image(8, &["-b", "1024"])).mount(500).unwrap();
    let long = [b'n'; 256];
    for (name, error) in [
        (&b""[..], Error::Invalid),
        (b"a/b", Error::Invalid),
        (b"a\0b", Error::Invalid),
        (&long[..], Error::NameTooLong),
    ] {
        assert_eq!(volume.create(ROOT, name, &NewInode::file(0)), Err(error));
        assert_eq!(volume.symlink(ROOT, name, b"x", &NewInode::file(0)), Err(error));
        assert_eq!(volume.lookup(ROOT, name), Err(error));
    }
    assert!(volume.create(ROOT, &long[..255], &NewInode::file(0)).is_ok());
}

#[test]
fn volumes_without_types_in_entries_get_none() {
    let disk = Disk::new(linux::make_image(16, &["-b", "1024", "-O", "^filetype"]));
    let mut volume = disk.mount(500).unwrap();
    let many = dir(&mut volume, "many");
    for n in 0..300 {
        file(&mut volume, many, &format!("file {n}"));
    }
    let inner = volume.create(many, b"inner", &NewInode::directory(0o755)).unwrap();
    file(&mut volume, inner, "x");
    volume.symlink(ROOT, b"link", b"many", &NewInode::file(0)).unwrap();
    volume.rename((many, b"file 1"), (ROOT, b"link"), ext4::Rename::Exchange).unwrap();
    volume.rename((many, b"inner"), (ROOT, b"outer"), ext4::Rename::Replace).unwrap();
    volume
        .read_dir(many, 2, |entry| {
            assert_eq!(entry.kind, None);
            true
        })
        .unwrap();
    assert_eq!(volume.attributes(inner).unwrap().kind, FileType::Directory);
    volume.unmount().unwrap();
    linux::assert_clean(&disk.bytes(), "entries without types");
}

#[test]
fn a_clock_that_was_never_set_deletes_cleanly() {
    for seconds in [0, 1, 12, -1, 1 << 33] {
        let disk = Disk::new(linux::make_image(16, &["-b", "1024"]));
        let options = MountOptions { read_only: false, now: Time { seconds, nanoseconds: 0 } };
        let mut volume = Ext4::mount(WriteBackCache::new(disk.clone(), 500), &options).unwrap();
        for n in 0..20 {
            let name = format!("file {n}");
            let inode = file(&mut volume, ROOT, &name);
            volume.write(inode, 0, &[1; 5000]).unwrap();
            volume.unlink(ROOT, name.as_bytes()).unwrap();
        }
        volume.unmount().unwrap();
        linux::assert_clean(&disk.bytes(), &format!("deleted at {seconds}"));
        // With a clock that is right again e2fsck looks at times of deletion.
        disk.mount(500).unwrap().unmount().unwrap();
        linux::assert_clean(&disk.bytes(), &format!("deleted at {seconds}, mounted later"));
    }
}
