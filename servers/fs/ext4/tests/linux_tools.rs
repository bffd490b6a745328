//! What Linux's tools write is read byte for byte, and what is written here is read by them and by ext4-view.

mod disk;
mod linux;

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use disk::{Disk, Volume, pattern};
use ext4::{Error, FileType, InodeNumber, NewInode, SetAttributes, SetXattr, Time};

const ROOT: InodeNumber = InodeNumber::ROOT;

fn content(volume: &Volume, inode: InodeNumber) -> Vec<u8> {
    let mut bytes = vec![0; volume.attributes(inode).unwrap().size as usize];
    assert_eq!(volume.read(inode, 0, &mut bytes), Ok(bytes.len()));
    bytes
}

/// Path and content of everything in a volume; directories end with a slash, links with their target.
fn everything(volume: &Volume, dir: InodeNumber, path: &str, out: &mut BTreeMap<String, Vec<u8>>) {
    let mut names = Vec::new();
    volume
        .read_dir(dir, 2, |entry| {
            names.push((String::from_utf8(entry.name.to_vec()).unwrap(), entry.inode));
            true
        })
        .unwrap();
    for (name, inode) in names {
        let path = format!("{path}/{name}");
        match volume.attributes(inode).unwrap().kind {
            FileType::Directory => {
                everything(volume, inode, &path, out);
                out.insert(path + "/", Vec::new());
            }
            FileType::Symlink => {
                let mut target = vec![0; 4096];
                let length = volume.read_link(inode, &mut target).unwrap();
                out.insert(path, target[..length].to_vec());
            }
            _ => {
                out.insert(path, content(volume, inode));
            }
        }
    }
}

fn host_tree(folder: &Path, path: &str, out: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{path}/{}", entry.file_name().to_str().unwrap());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            host_tree(&entry.path(), &path, out);
            out.insert(path + "/", Vec::new());
        } else if kind.is_symlink() {
            out.insert(path, std::fs::read_link(entry.path()).unwrap().as_os_str().as_bytes().to_vec());
        } else {
            out.insert(path, std::fs::read(entry.path()).unwrap());
        }
    }
}

fn make_host_tree(folder: &Path) {
    std::fs::create_dir_all(folder.join("deep/er/est")).unwrap();
    std::fs::create_dir(folder.join("many")).unwrap();
    for n in 0..500_u64 {
        std::fs::write(folder.join(format!("many/number {n}")), pattern(n, (n * 13 % 9000) as usize))
            .unwrap();
    }
    std::fs::write(folder.join("deep/er/est/big"), pattern(1, 3_000_000)).unwrap();
    let sparse = std::fs::File::create(folder.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 5_000_000).unwrap();
    std::os::unix::fs::symlink("deep/er", folder.join("short")).unwrap();
    std::os::unix::fs::symlink("x/".repeat(100), folder.join("long")).unwrap();
}

#[test]
fn trees_copied_in_by_mke2fs_are_read_byte_for_byte() {
    let folder = linux::Scratch::new("tree");
    make_host_tree(&folder.0);
    let mut expected = BTreeMap::from([("/lost+found/".to_owned(), Vec::new())]);
    host_tree(&folder.0, "", &mut expected);
    for size in ["1024", "2048", "4096"] {
        let disk = Disk::new(linux::make_image(32, &["-b", size, "-d", folder.0.to_str().unwrap()]));
        for volume in [disk.mount(500).unwrap(), disk.mount_read_only().unwrap()] {
            let mut found = BTreeMap::new();
            everything(&volume, ROOT, "", &mut found);
            assert!(found == expected, "blocks of {size} bytes");
        }
    }
}

#[test]
fn files_written_by_debugfs_are_read_byte_for_byte() {
    let bytes = pattern(3, 777_777);
    let source = linux::Scratch::holding("source", &bytes);
    let image = linux::Scratch::holding("image", &linux::make_image(16, &["-b", "1024"]));
    let said = linux::debugfs(
        &image.0,
        true,
        &format!(
            "mkdir dir\nwrite {} dir/file\nsymlink dir/link file\nea_set dir/file user.name value\n",
            source.0.display()
        ),
    );
    let volume = Disk::new(image.read()).mount(500).unwrap();
    let dir = volume.lookup(ROOT, b"dir").unwrap_or_else(|e| panic!("{e}: {said}"));
    let file = volume.lookup(dir, b"file").unwrap();
    assert!(content(&volume, file) == bytes);
    let mut value = [0; 16];
    assert_eq!(volume.get_xattr(file, b"user.name", &mut value), Ok(5));
    assert_eq!(&value[..5], b"value");
}

/// A volume that holds one of each, on an image of Linux's.
fn written_by_us(size: &str) -> Disk {
    let disk = Disk::new(linux::make_image(32, &["-b", size]));
    let mut volume = disk.mount(500).unwrap();
    let dir = volume.create(ROOT, b"dir", &NewInode::directory(0o750)).unwrap();
    for n in 0..1000_u64 {
        let file = volume.create(dir, format!("file {n}").as_bytes(), &NewInode::file(0o640)).unwrap();
        volume.write(file, 0, &pattern(n, n as usize)).unwrap();
    }
    let big = volume.create(ROOT, b"big", &NewInode::file(0o600)).unwrap();
    volume.write(big, 0, &pattern(9, 5_000_000)).unwrap();
    volume.set_xattr(big, b"user.color", b"green", SetXattr::Any).unwrap();
    volume.set_xattr(big, b"security.long", &[b'x'; 800], SetXattr::Any).unwrap();
    volume.symlink(ROOT, b"link", b"dir/file 7", &NewInode::file(0)).unwrap();
    let late = Time { seconds: 4_294_967_296 + 86_400, nanoseconds: 123_456_789 };
    volume
        .set_attributes(
            big,
            &SetAttributes { modified: Some(late), uid: Some(70_000), ..SetAttributes::default() },
        )
        .unwrap();
    volume.unmount().unwrap();
    disk
}

#[test]
fn what_we_write_is_read_by_debugfs() {
    for size in ["1024", "4096"] {
        let disk = written_by_us(size);
        let image = linux::Scratch::holding("image", &disk.bytes());
        linux::assert_clean(&disk.bytes(), size);
        let volume = disk.mount_read_only().unwrap();
        let big = volume.lookup(ROOT, b"big").unwrap();
        assert!(linux::dump(&disk.bytes(), big.0) == pattern(9, 5_000_000));
        let said = linux::debugfs(&image.0, false, "stat big\nls dir\nea_get big user.color\nstat link\n");
        for expected in
            ["User: 70000", "file 999", "green", "Fast link dest: \"dir/file 7\"", "0x00015180:1d6f3455"]
        {
            assert!(said.contains(expected), "{expected} is missing:\n{said}");
        }
    }
}

#[test]
fn what_we_write_is_read_by_ext4_view() {
    for size in ["1024", "4096"] {
        let view = ext4_view::Ext4::load(Box::new(written_by_us(size).bytes())).unwrap();
        for n in 0..1000 {
            assert!(view.read(format!("/dir/file {n}").as_str()).unwrap() == pattern(n, n as usize));
        }
        assert!(view.read("/big").unwrap() == pattern(9, 5_000_000));
        assert!(view.read("/link").unwrap() == pattern(7, 7));
    }
}

#[test]
fn journals_that_linux_left_are_replayed() {
    for flags in ["", "-c"] {
        let disk = Disk::new(linux::make_image(16, &["-b", "1024"]));
        let mut volume = disk.mount(500).unwrap();
        let file = volume.create(ROOT, b"file", &NewInode::file(0o600)).unwrap();
        volume.write(file, 0, &pattern(1, 3 * 1024)).unwrap();
        volume.unmount().unwrap();
        let image = linux::Scratch::holding("image", &disk.bytes());
        let said = linux::debugfs(&image.0, false, "blocks file\n");
        let blocks: Vec<&str> = said
            .lines()
            .find(|line| line.contains(' ') && !line.contains("debugfs"))
            .unwrap()
            .split_whitespace()
            .collect();
        // The second content begins with the journal's magic number; the third block is revoked after its write.
        let mut contents = pattern(2, 3 * 1024);
        contents[1024..1028].copy_from_slice(&[0xc0, 0x3b, 0x39, 0x98]);
        let new = linux::Scratch::holding("new", &contents);
        let commands = format!(
            "jo {flags}\njw -b {},{},{} {}\njw -r {}\njc\n",
            blocks[0],
            blocks[1],
            blocks[2],
            new.0.display(),
            blocks[2]
        );
        let said = linux::debugfs(&image.0, true, &commands);
        let disk = Disk::new(image.read());
        assert_eq!(disk.bytes()[1024 + 0x60] & 4, 4, "the journal is empty: {said}");
        let mut expected = contents.clone();
        expected[2048..].copy_from_slice(&pattern(1, 3 * 1024)[2048..]);
        let read_only = disk.mount_read_only().unwrap();
        drop(read_only);
        let volume = disk.mount(500).unwrap();
        assert!(content(&volume, volume.lookup(ROOT, b"file").unwrap()) == expected, "{said}");
        volume.unmount().unwrap();
        linux::assert_clean(&disk.bytes(), "after the replay");
    }
}

#[test]
fn blocks_that_begin_with_the_journals_magic_number_survive_a_replay() {
    let disk = Disk::new(linux::make_image(16, &["-b", "1024"]));
    let mut volume = disk.mount(500).unwrap();
    let target = [&[0xc0, 0x3b, 0x39, 0x98][..], &[b'm'; 200]].concat();
    volume.symlink(ROOT, b"link", &target, &NewInode::file(0)).unwrap();
    volume.sync().unwrap();
    let cut = disk.bytes();
    let theirs = linux::replay(&cut).unwrap();
    linux::assert_clean(&theirs, "after Linux's replay");
    for image in [cut, theirs] {
        let volume = Disk::new(image).mount(500).unwrap();
        let mut found = [0; 1024];
        let length = volume.read_link(volume.lookup(ROOT, b"link").unwrap(), &mut found).unwrap();
        assert_eq!(found[..length], target[..]);
    }
}

#[test]
fn unknown_incompatible_features_are_refused_by_name() {
    for (feature, name) in [
        ("casefold", "casefold"),
        ("encrypt", "encrypt"),
        ("inline_data", "inline_data"),
        ("meta_bg,^resize_inode", "meta_bg"),
    ] {
        let error = Disk::new(linux::make_image(16, &["-O", feature])).mount(64).unwrap_err();
        assert!(matches!(error, Error::UnsupportedFeatures(_)));
        assert!(error.to_string().ends_with(name), "{error}");
    }
}

#[test]
fn unknown_read_only_features_mount_read_only() {
    for feature in ["quota", "verity", "project,quota"] {
        let mut volume = Disk::new(linux::make_image(16, &["-O", feature])).mount(64).unwrap();
        assert!(!volume.is_writable());
        assert_eq!(volume.create(ROOT, b"x", &NewInode::file(0)), Err(Error::ReadOnly));
        assert!(volume.lookup(ROOT, b"lost+found").is_ok());
    }
}

#[test]
fn orphans_in_the_file_that_newer_linux_keeps_are_freed() {
    // debugfs cannot add to the file, so the entry is written by hand: one inode number, and the block's checksum.
    let disk = Disk::new(linux::make_image(16, &["-b", "1024", "-O", "orphan_file,^metadata_csum"]));
    let mut volume = disk.mount(500).unwrap();
    let free = volume.statistics().free_blocks;
    let file = volume.create(ROOT, b"file", &NewInode::file(0o600)).unwrap();
    volume.write(file, 0, &pattern(1, 50_000)).unwrap();
    volume.unmount().unwrap();
    let image = linux::Scratch::holding("image", &disk.bytes());
    let said =
        linux::debugfs(&image.0, true, "unlink file\nset_inode_field file links_count 0\nblocks <12>\n");
    linux::debugfs(&image.0, true, &format!("set_inode_field <{}> links_count 0\n", file.0));
    let mut bytes = image.read();
    let magic = 0x0b10_ca04_u32.to_le_bytes();
    let block =
        bytes.chunks(1024).position(|block| block[1016..1020] == magic).unwrap_or_else(|| panic!("{said}"));
    bytes[block * 1024..block * 1024 + 4].copy_from_slice(&file.0.to_le_bytes());
    bytes[1024 + 0x66] |= 1;
    let disk = Disk::new(bytes);
    let volume = disk.mount(500).unwrap();
    assert_eq!(volume.statistics().free_blocks, free);
    volume.unmount().unwrap();
    linux::assert_clean(&disk.bytes(), "after the orphan file was worked off");
}
