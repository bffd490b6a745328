//! POSIX access control lists: what callers see, what lies on the disk, who may do what, and what new inodes inherit.
//! debugfs, e2fsck and, where it can be asked, Linux are the judges.

mod disk;
mod kernel;
mod linux;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use disk::{Disk, Volume};
use ext4::{Access, Credentials, Error, InodeNumber, NewInode, SetAttributes, SetXattr};
use kernel::Mounted;

const ROOT: InodeNumber = InodeNumber::ROOT;
const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";
const OWNER: u16 = 1;
const USER: u16 = 2;
const GROUP: u16 = 8;
const OWNING_GROUP: u16 = 4;
const MASK: u16 = 16;
const OTHER: u16 = 32;
const NO_ID: u32 = u32::MAX;

/// A list in the format of Linux's extended attributes.
fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0];
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// One that names a user and a group; the mask decides about execution.
fn named(mask: u16) -> Vec<u8> {
    list(&[
        (OWNER, 6, NO_ID),
        (USER, 7, 1001),
        (USER, 0, 1002),
        (OWNING_GROUP, 4, NO_ID),
        (GROUP, 5, 2001),
        (GROUP, 2, 2002),
        (MASK, mask, NO_ID),
        (OTHER, 1, NO_ID),
    ])
}

fn minimal(mode: u16) -> Vec<u8> {
    list(&[(OWNER, mode >> 6 & 7, NO_ID), (OWNING_GROUP, mode >> 3 & 7, NO_ID), (OTHER, mode & 7, NO_ID)])
}

fn get(volume: &Volume, inode: InodeNumber, name: &[u8]) -> Result<Vec<u8>, Error> {
    let mut value = vec![0; 1000];
    let length = volume.get_xattr(inode, name, &mut value)?;
    assert_eq!(volume.get_xattr(inode, name, &mut []), Ok(length));
    value.truncate(length);
    Ok(value)
}

fn permissions(volume: &Volume, inode: InodeNumber) -> u16 {
    volume.attributes(inode).unwrap().permissions
}

/// What debugfs says of a list, as bytes: Linux's format, but with 0 for IDs that are none.
fn seen_by_debugfs(image: &[u8], path: &str, name: &[u8]) -> Vec<u8> {
    let image = linux::Scratch::holding("image", image);
    let out = linux::Scratch::new("value");
    let name = str::from_utf8(name).unwrap();
    let said = linux::debugfs(&image.0, false, &format!("ea_get -f {} {path} {name}\n", out.0.display()));
    std::fs::read(&out.0).unwrap_or_else(|_| panic!("{said}"))
}

#[test]
fn lists_cross_to_linux_and_back() {
    for size in ["128", "256"] {
        let disk = Disk::new(linux::make_image(16, &["-b", "1024", "-I", size]));
        let mut volume = disk.mount(500).unwrap();
        let file = volume.create(ROOT, b"file", &NewInode::file(0o600)).unwrap();
        let dir = volume.create(ROOT, b"dir", &NewInode::directory(0o700)).unwrap();
        volume.set_xattr(file, ACCESS, &named(6), SetXattr::Any).unwrap();
        volume.set_xattr(dir, DEFAULT, &named(7), SetXattr::Any).unwrap();
        assert_eq!(get(&volume, file, ACCESS).unwrap(), named(6));
        assert_eq!(permissions(&volume, file), 0o661);
        assert_eq!(permissions(&volume, dir), 0o700);
        volume.unmount().unwrap();
        linux::assert_clean(&disk.bytes(), "with lists");
        for (path, name, mut expected) in [("file", ACCESS, named(6)), ("dir", DEFAULT, named(7))] {
            for entry in expected[4..].as_chunks_mut::<8>().0 {
                if entry[4..] == NO_ID.to_le_bytes() {
                    entry[4..].fill(0);
                }
            }
            assert_eq!(seen_by_debugfs(&disk.bytes(), path, name), expected);
        }
        let image = linux::Scratch::holding("image", &disk.bytes());
        let value = linux::Scratch::holding("value", &named(5));
        let set = format!("ea_set -f {} file system.posix_acl_access\n", value.0.display());
        linux::debugfs(&image.0, true, &set);
        let volume = Disk::new(image.read()).mount(500).unwrap();
        assert_eq!(get(&volume, file, ACCESS).unwrap(), named(5));
    }
}

#[test]
fn the_mode_and_the_list_follow_each_other() {
    let disk = Disk::new(linux::make_image(16, &["-b", "1024"]));
    let mut volume = disk.mount(500).unwrap();
    let file = volume.create(ROOT, b"file", &NewInode::file(0o4600)).unwrap();
    volume.set_xattr(file, ACCESS, &named(6), SetXattr::Create).unwrap();
    assert_eq!(permissions(&volume, file), 0o4661);
    let set = SetAttributes { permissions: Some(0o750), ..SetAttributes::default() };
    volume.set_attributes(file, &set).unwrap();
    assert_eq!(permissions(&volume, file), 0o750);
    let mut expected = named(5);
    // The owner's entry, and that of others.
    (expected[6], expected[62]) = (7, 0);
    assert_eq!(get(&volume, file, ACCESS).unwrap(), expected);
    assert_eq!(volume.set_xattr(file, ACCESS, &named(6), SetXattr::Create), Err(Error::Exists));
    // A list that says no more than a mode is one.
    volume.set_xattr(file, ACCESS, &minimal(0o640), SetXattr::Any).unwrap();
    assert_eq!((permissions(&volume, file), get(&volume, file, ACCESS)), (0o640, Err(Error::NoAttribute)));
    volume.set_xattr(file, ACCESS, &named(6), SetXattr::Any).unwrap();
    volume.set_xattr(file, ACCESS, &list(&[]), SetXattr::Any).unwrap();
    assert_eq!((permissions(&volume, file), get(&volume, file, ACCESS)), (0o661, Err(Error::NoAttribute)));
    volume.unmount().unwrap();
    linux::assert_clean(&disk.bytes(), "lists and modes");
}

#[test]
fn wrong_lists_are_refused_and_change_nothing() {
    let disk = Disk::new(linux::make_image(16, &["-b", "1024"]));
    let mut volume = disk.mount(500).unwrap();
    let file = volume.create(ROOT, b"file", &NewInode::file(0o600)).unwrap();
    let link = volume.symlink(ROOT, b"link", b"file", &NewInode::file(0)).unwrap();
    let no_mask = list(&[(OWNER, 6, NO_ID), (USER, 7, 1), (OWNING_GROUP, 4, NO_ID), (OTHER, 1, NO_ID)]);
    for wrong in [&b""[..], b"\x02\0\0", &no_mask, &named(6)[..60], &[7; 20]] {
        assert!(volume.set_xattr(file, ACCESS, wrong, SetXattr::Any).is_err(), "{wrong:?}");
    }
    assert_eq!(volume.set_xattr(file, DEFAULT, &named(6), SetXattr::Any), Err(Error::NotPermitted));
    assert!(matches!(volume.set_xattr(link, ACCESS, &named(6), SetXattr::Any), Err(Error::Unsupported(_))));
    assert_eq!((permissions(&volume, file), get(&volume, file, ACCESS)), (0o600, Err(Error::NoAttribute)));
}

/// Everybody whom the lists tell apart: user, group, one more group.
const PEOPLE: [(u32, u32, Option<u32>); 9] = [
    (1000, 2000, None),
    (1000, 9, None),
    (1001, 9, None),
    (1002, 2000, None),
    (1003, 2000, None),
    (1003, 2001, None),
    (1003, 2002, None),
    (1003, 2001, Some(2002)),
    (1003, 9, None),
];

fn asked(bits: u32) -> Access {
    Access { read: bits & 4 != 0, write: bits & 2 != 0, execute: bits & 1 != 0 }
}

/// Whether Linux lets someone use a file so.
fn linux_permits(path: &Path, (uid, gid, _): (u32, u32, Option<u32>), bits: u32) -> bool {
    ["-r", "-w", "-x"].into_iter().zip([4, 2, 1]).filter(|(_, bit)| bits & bit != 0).all(|(flag, _)| {
        Command::new("test").arg(flag).arg(path).uid(uid).gid(gid).status().unwrap().success()
    })
}

#[test]
fn lists_decide_about_access_as_linux_does() {
    let disk = Disk::new(linux::make_image(16, &["-b", "1024"]));
    let mut volume = disk.mount(500).unwrap();
    let lists = [named(7), named(6), named(2), minimal(0o640), minimal(0o047)];
    for (n, list) in lists.iter().enumerate() {
        let new = NewInode { uid: 1000, gid: 2000, ..NewInode::file(0o600) };
        let file = volume.create(ROOT, format!("file {n}").as_bytes(), &new).unwrap();
        volume.set_xattr(file, ACCESS, list, SetXattr::Any).unwrap();
    }
    volume.unmount().unwrap();
    let image = linux::Scratch::holding("image", &disk.bytes());
    let mounted = Mounted::new(&image.0, "ext4");
    let volume = disk.mount_read_only().unwrap();
    let permits = |n: usize, (uid, gid, more): (u32, u32, Option<u32>), bits| {
        let who = Credentials { uid, gid, groups: more.into_iter().collect() };
        let file = volume.lookup(ROOT, format!("file {n}").as_bytes()).unwrap();
        volume.permits(&who, file, asked(bits)).unwrap()
    };
    for who in PEOPLE {
        for n in 0..lists.len() {
            for bits in 1..8 {
                // The test cannot take on a second group. Asked one after another, two groups may each allow a part.
                let judge = mounted.as_ref().filter(|_| who.2.is_none() && u32::is_power_of_two(bits));
                if let Some(mounted) = judge {
                    let linux = linux_permits(&mounted.path(&format!("file {n}")), who, bits);
                    assert_eq!(permits(n, who, bits), linux, "{who:?} asks for {bits} of file {n}");
                }
            }
        }
    }
    // The same without Linux, for the list whose mask allows all.
    let allowed =
        PEOPLE.map(|who| (1..8).filter(|bits| permits(0, who, *bits)).fold(0_u32, |a, b| a | 1 << b));
    let only = |bits: u32| (1..8_u32).filter(|asked| asked & bits == *asked).fold(0_u32, |a, b| a | 1 << b);
    let both = only(5) | only(2);
    assert_eq!(allowed, [only(6), only(6), only(7), only(0), only(4), only(5), only(2), both, only(1)]);
    let root = Credentials { uid: 0, gid: 0, groups: Vec::new() };
    let plain = volume.lookup(ROOT, b"file 3").unwrap();
    assert_eq!(volume.permits(&root, plain, asked(6)), Ok(true));
    assert_eq!(volume.permits(&root, plain, asked(1)), Ok(false));
}

#[test]
fn a_mask_without_permissions_takes_all_from_those_named() {
    let disk = Disk::new(linux::make_image(16, &["-b", "1024"]));
    let mut volume = disk.mount(500).unwrap();
    let new = NewInode { uid: 1000, gid: 2000, ..NewInode::file(0o600) };
    let file = volume.create(ROOT, b"file", &new).unwrap();
    volume.set_xattr(file, ACCESS, &named(0), SetXattr::Any).unwrap();
    let may = |uid, gid| {
        let who = Credentials { uid, gid, groups: Vec::new() };
        volume.permits(&who, file, asked(1)).unwrap()
    };
    assert!(!may(1001, 9) && !may(1003, 2000) && !may(1003, 2001));
    assert!(may(1003, 9));
}

#[test]
fn new_inodes_inherit_default_lists_as_linux_gives_them() {
    let no_mask = minimal(0o751);
    for (n, default) in [named(7), named(5), no_mask].iter().enumerate() {
        let disk = Disk::new(linux::make_image(16, &["-b", "1024"]));
        let mut volume = disk.mount(500).unwrap();
        let dir = volume.create(ROOT, b"dir", &NewInode::directory(0o755)).unwrap();
        volume.set_xattr(dir, DEFAULT, default, SetXattr::Any).unwrap();
        let file = volume.create(dir, b"file", &NewInode { umask: 0o77, ..NewInode::file(0o666) }).unwrap();
        let inner =
            volume.create(dir, b"inner", &NewInode { umask: 0o77, ..NewInode::directory(0o777) }).unwrap();
        let link = volume.symlink(dir, b"link", b"file", &NewInode::file(0)).unwrap();
        assert_eq!(get(&volume, link, ACCESS), Err(Error::NoAttribute));
        assert_eq!(get(&volume, inner, DEFAULT).as_ref(), Ok(default));
        assert_eq!(get(&volume, file, DEFAULT), Err(Error::NoAttribute));
        let closed_to_others = |mask| {
            let mut list = named(mask);
            list[62] = 0;
            Ok(list)
        };
        let expected =
            [(0o660, closed_to_others(6)), (0o640, closed_to_others(4)), (0o640, Err(Error::NoAttribute))];
        assert_eq!((permissions(&volume, file), get(&volume, file, ACCESS)), expected[n]);
        // Without a default list the mask of the process decides.
        let plain =
            volume.create(ROOT, b"plain", &NewInode { umask: 0o27, ..NewInode::file(0o666) }).unwrap();
        assert_eq!(permissions(&volume, plain), 0o640);
        volume.unmount().unwrap();
        linux::assert_clean(&disk.bytes(), "with inherited lists");
        let image = linux::Scratch::holding("image", &disk.bytes());
        let Some(mounted) = Mounted::new(&image.0, "ext4") else { continue };
        let script = "umask 077; cd \"$0/dir\" && touch theirs && mkdir their_dir";
        assert!(Command::new("sh").args(["-c", script]).arg(&mounted.folder).status().unwrap().success());
        drop(mounted);
        let volume = Disk::new(image.read()).mount(500).unwrap();
        for (ours, theirs) in [(file, b"theirs".as_slice()), (inner, b"their_dir")] {
            let theirs = volume.lookup(dir, theirs).unwrap();
            assert_eq!(permissions(&volume, ours), permissions(&volume, theirs));
            for name in [ACCESS, DEFAULT] {
                assert_eq!(get(&volume, ours, name), get(&volume, theirs, name));
            }
        }
    }
}

#[test]
fn a_damaged_list_lets_nobody_in() {
    let disk = Disk::new(linux::make_image(16, &["-b", "1024", "-O", "^metadata_csum"]));
    let mut volume = disk.mount(500).unwrap();
    let file = volume.create(ROOT, b"file", &NewInode::file(0o666)).unwrap();
    volume.set_xattr(file, ACCESS, &named(7), SetXattr::Any).unwrap();
    volume.unmount().unwrap();
    let on_disk = [1, 0, 0, 0, 1, 0, 6, 0, 2, 0, 7, 0, 0xe9, 3, 0, 0];
    let mut image = disk.bytes();
    let places: Vec<usize> = (0..image.len() - 16).filter(|at| image[*at..*at + 16] == on_disk).collect();
    assert!(!places.is_empty());
    places.iter().for_each(|at| image[at + 4] = 3);
    let volume = Disk::new(image).mount_read_only().unwrap();
    let who = Credentials { uid: 1003, gid: 9, groups: Vec::new() };
    assert!(matches!(volume.permits(&who, file, asked(4)), Err(Error::Corrupt(_))));
    assert!(matches!(get(&volume, file, ACCESS), Err(Error::Corrupt(_))));
}
