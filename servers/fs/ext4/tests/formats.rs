//! Every format that mke2fs makes is mounted, filled, and found clean by Linux's check.

mod disk;
mod linux;

use disk::{Disk, Volume, pattern};
use ext4::{
    Error, Fallocate, FileType, FormatOptions, InodeNumber, NewInode, Rename, SetXattr, Time, WriteBackCache,
};

const ROOT: InodeNumber = InodeNumber::ROOT;

fn read_all(volume: &Volume, inode: InodeNumber) -> Vec<u8> {
    let size = volume.attributes(inode).unwrap().size as usize;
    let mut bytes = vec![0; size + 10];
    let count = volume.read(inode, 0, &mut bytes).unwrap();
    assert_eq!(count, size);
    bytes.truncate(size);
    bytes
}

/// A bit of everything; what stays is checked by `verify`.
fn fill(volume: &mut Volume) {
    let dir = volume.create(ROOT, b"dir", &NewInode::directory(0o755)).unwrap();
    for n in 0..300_u64 {
        let name = format!("file-with-a-longer-name-{n}");
        let file = volume.create(dir, name.as_bytes(), &NewInode::file(0o644)).unwrap();
        let data = pattern(n, (n * 37 % 5000) as usize);
        assert_eq!(volume.write(file, 0, &data).unwrap(), data.len());
    }
    for n in (0..300_u64).step_by(3) {
        volume.unlink(dir, format!("file-with-a-longer-name-{n}").as_bytes()).unwrap();
    }
    let big = volume.create(ROOT, b"big", &NewInode::file(0o600)).unwrap();
    volume.write(big, 1 << 20, &pattern(7, 500_000)).unwrap();
    for n in 0..60_u64 {
        volume.write(big, n * 16384, &pattern(n, 100)).unwrap();
    }
    volume.fallocate(big, Fallocate::PunchHole, 1_100_000, 100_000).unwrap();
    volume.fallocate(big, Fallocate::ZeroRange { keep_size: false }, 1_300_000, 50_000).unwrap();
    volume.fallocate(big, Fallocate::Allocate { keep_size: true }, 1_500_000, 200_000).unwrap();
    volume.symlink(ROOT, b"short", b"dir", &NewInode::file(0)).unwrap();
    volume.symlink(ROOT, b"long", &[b'l'; 700], &NewInode::file(0)).unwrap();
    volume.set_xattr(big, b"user.small", b"value", SetXattr::Create).unwrap();
    volume.set_xattr(big, b"user.large", &[9; 600], SetXattr::Any).unwrap();
    volume.link(big, dir, b"again").unwrap();
    let device = NewInode { kind: FileType::CharDevice, device: (4, 70_000), ..NewInode::file(0o600) };
    volume.create(ROOT, b"tty", &device).unwrap();
    let other = volume.create(ROOT, b"other", &NewInode::directory(0o700)).unwrap();
    volume.create(other, b"inner", &NewInode::directory(0o700)).unwrap();
    volume.rename((other, b"inner"), (dir, b"moved"), Rename::Replace).unwrap();
    let moved = volume.lookup(dir, b"moved").unwrap();
    assert_eq!(volume.rename((ROOT, b"dir"), (moved, b"x"), Rename::Replace), Err(Error::Invalid));
    volume.rename((ROOT, b"short"), (dir, b"again"), Rename::Exchange).unwrap();
    volume.rmdir(ROOT, b"other").unwrap();
    assert_eq!(volume.rmdir(ROOT, b"dir"), Err(Error::NotEmpty));
}

fn verify(volume: &Volume) {
    let dir = volume.lookup(ROOT, b"dir").unwrap();
    for n in 0..300_u64 {
        let found = volume.lookup(dir, format!("file-with-a-longer-name-{n}").as_bytes());
        if n % 3 == 0 {
            assert_eq!(found, Err(Error::NotFound));
        } else {
            assert!(read_all(volume, found.unwrap()) == pattern(n, (n * 37 % 5000) as usize), "file {n}");
        }
    }
    let big = volume.lookup(ROOT, b"short").unwrap();
    let mut expected = vec![0; (1 << 20) + 500_000];
    expected[1 << 20..].copy_from_slice(&pattern(7, 500_000));
    for n in 0..60 {
        expected[n * 16384..n * 16384 + 100].copy_from_slice(&pattern(n as u64, 100));
    }
    expected[1_100_000..1_200_000].fill(0);
    expected[1_300_000..1_350_000].fill(0);
    assert!(read_all(volume, big) == expected);
    let mut target = [0; 1024];
    let long = volume.lookup(ROOT, b"long").unwrap();
    assert_eq!(volume.read_link(long, &mut target), Ok(700));
    assert_eq!(target[..700], [b'l'; 700]);
    let short = volume.lookup(dir, b"again").unwrap();
    assert_eq!(volume.read_link(short, &mut target), Ok(3));
    assert_eq!(volume.get_xattr(big, b"user.large", &mut target), Ok(600));
    assert_eq!(volume.get_xattr(big, b"user.small", &mut target), Ok(5));
    let tty = volume.attributes(volume.lookup(ROOT, b"tty").unwrap()).unwrap();
    assert_eq!((tty.kind, tty.device), (FileType::CharDevice, (4, 70_000)));
}

fn exercise(options: &[&str]) {
    let image = linux::make_image(32, options);
    let disk = Disk::new(image);
    let mut volume = disk.mount(2000).unwrap();
    fill(&mut volume);
    verify(&volume);
    volume.unmount().unwrap();
    linux::assert_clean(&disk.bytes(), &format!("{options:?}"));
    let volume = disk.mount(2000).unwrap();
    verify(&volume);
}

#[test]
fn images_with_blocks_of_1_kib_are_written() {
    exercise(&["-b", "1024"]);
}

#[test]
fn images_with_blocks_of_2_kib_are_written() {
    exercise(&["-b", "2048"]);
}

#[test]
fn images_with_blocks_of_4_kib_are_written() {
    exercise(&["-b", "4096"]);
}

#[test]
fn images_with_an_orphan_file_and_a_checksum_seed_are_written() {
    exercise(&["-b", "4096", "-O", "orphan_file,metadata_csum_seed"]);
}

#[test]
fn images_without_checksums_or_64_bits_are_written() {
    exercise(&["-b", "1024", "-O", "^metadata_csum,^64bit"]);
}

#[test]
fn images_with_small_inodes_are_written() {
    exercise(&["-b", "1024", "-I", "128"]);
}

#[test]
fn images_without_indexed_directories_are_written() {
    exercise(&["-b", "1024", "-O", "^dir_index"]);
}

fn format(megabytes: u64, options: &FormatOptions) -> Disk {
    let disk = Disk::new(vec![0xa5; (megabytes << 20) as usize]);
    let mut cache = WriteBackCache::new(disk.clone(), 64);
    ext4::format(&mut cache, options).unwrap();
    disk
}

fn exercise_own_format(megabytes: u64, block_size: usize) {
    let now = Time { seconds: 1_700_000_000, nanoseconds: 0 };
    let options =
        FormatOptions { block_size, label: b"skink".to_vec(), ..FormatOptions::new([0x5c; 16], now) };
    let disk = format(megabytes, &options);
    linux::assert_clean(&disk.bytes(), "freshly made");
    let mut volume = disk.mount(2000).unwrap();
    assert_eq!(volume.label(), b"skink");
    fill(&mut volume);
    volume.unmount().unwrap();
    linux::assert_clean(&disk.bytes(), "made and filled");
    verify(&disk.mount(2000).unwrap());
}

#[test]
fn volumes_of_our_own_with_blocks_of_1_kib_are_clean_for_linux() {
    exercise_own_format(8, 1024);
    exercise_own_format(200, 1024);
}

#[test]
fn volumes_of_our_own_with_blocks_of_2_kib_are_clean_for_linux() {
    exercise_own_format(40, 2048);
}

#[test]
fn volumes_of_our_own_with_blocks_of_4_kib_are_clean_for_linux() {
    exercise_own_format(16, 4096);
    exercise_own_format(700, 4096);
}
