//! Large directories and files, full volumes, failing devices, several readers, and what a mount finds to do.

mod disk;
mod linux;

use std::collections::BTreeSet;

use disk::{Disk, Volume, pattern};
use ext4::{Error, Fallocate, InodeNumber, IoError, NewInode, Time};

const ROOT: InodeNumber = InodeNumber::ROOT;

fn file(volume: &mut Volume, name: &[u8]) -> InodeNumber {
    volume.create(ROOT, name, &NewInode::file(0o644)).unwrap()
}

fn fill_directory(size: &str, count: u32) {
    let disk = Disk::new(linux::make_image(128, &["-b", size, "-N", "110000"]));
    let mut volume = disk.mount(8000).unwrap();
    let dir = volume.create(ROOT, b"dir", &NewInode::directory(0o755)).unwrap();
    let first = volume.create(dir, b"0", &NewInode::file(0)).unwrap();
    for n in 1..count {
        volume
            .link(first, dir, format!("{n}").as_bytes())
            .or_else(|error| match error {
                Error::TooManyLinks => {
                    volume.create(dir, format!("{n}").as_bytes(), &NewInode::file(0)).map(|_| ())
                }
                other => Err(other),
            })
            .unwrap();
    }
    for n in (0..count).step_by(3) {
        assert!(volume.lookup(dir, format!("{n}").as_bytes()).is_ok());
        volume.unlink(dir, format!("{n}").as_bytes()).unwrap();
    }
    let mut listed = BTreeSet::new();
    let mut cookie = 0;
    loop {
        let mut more = 0;
        volume
            .read_dir(dir, cookie, |entry| {
                assert!(listed.insert(entry.name.to_vec()));
                cookie = entry.next;
                more += 1;
                more < 1000
            })
            .unwrap();
        if more == 0 {
            break;
        }
    }
    assert_eq!(listed.len() as u32, count - count.div_ceil(3) + 2);
    volume.unmount().unwrap();
    linux::assert_clean(&disk.bytes(), "a large directory");
}

#[test]
fn directories_of_100_000_names_with_blocks_of_4_kib() {
    fill_directory("4096", 100_000);
}

#[test]
fn directories_of_100_000_names_with_blocks_of_1_kib() {
    fill_directory("1024", 100_000);
}

#[test]
fn names_that_stay_are_listed_once_while_others_come_and_go() {
    let disk = Disk::new(linux::make_image(16, &["-b", "1024"]));
    let mut volume = disk.mount(500).unwrap();
    let dir = volume.create(ROOT, b"dir", &NewInode::directory(0o755)).unwrap();
    for n in 0..10 {
        volume.create(dir, format!("stays {n}").as_bytes(), &NewInode::file(0)).unwrap();
    }
    let mut seen = Vec::new();
    let mut cookie = 0;
    let mut next = 0;
    loop {
        let mut got = None;
        volume
            .read_dir(dir, cookie, |entry| {
                got = Some((entry.name.to_vec(), entry.next));
                false
            })
            .unwrap();
        let Some((name, after)) = got else { break };
        cookie = after;
        if name.starts_with(b"stays") {
            seen.push(name);
        }
        // The directory gets its index, and many leaves, meanwhile.
        for _ in 0..40 {
            volume.create(dir, format!("comes {next}").as_bytes(), &NewInode::file(0)).unwrap();
            next += 1;
        }
        if next > 3000 {
            break;
        }
    }
    volume
        .read_dir(dir, cookie, |entry| {
            seen.extend(entry.name.starts_with(b"stays").then(|| entry.name.to_vec()));
            true
        })
        .unwrap();
    seen.sort();
    let expected: Vec<Vec<u8>> = (0..10).map(|n| format!("stays {n}").into_bytes()).collect();
    assert_eq!(seen, expected);
}

#[test]
fn files_reach_to_16_tib() {
    let disk = Disk::new(linux::make_image(16, &["-b", "4096"]));
    let mut volume = disk.mount(500).unwrap();
    let inode = file(&mut volume, b"huge");
    let end = (u64::from(u32::MAX)) * 4096;
    for offset in [0, 1 << 32, 1 << 42, end - 5000] {
        assert_eq!(volume.write(inode, offset, &pattern(offset, 5000)), Ok(5000));
    }
    assert_eq!(volume.write(inode, end - 10, &[1; 20]), Ok(10));
    assert_eq!(volume.write(inode, end, &[1]), Err(Error::FileTooBig));
    assert_eq!(volume.truncate(inode, end + 1), Err(Error::FileTooBig));
    let mut out = vec![0; 5000];
    assert_eq!(volume.read(inode, 1 << 42, &mut out), Ok(5000));
    assert!(out == pattern(1 << 42, 5000));
    assert_eq!(volume.attributes(inode).unwrap().size, end);
    volume.sync().unwrap();
    volume.unmount().unwrap();
    linux::assert_clean(&disk.bytes(), "a file of 16 TiB");
    let mut volume = disk.mount(500).unwrap();
    volume.truncate(inode, 3).unwrap();
    volume.unmount().unwrap();
    linux::assert_clean(&disk.bytes(), "the same, cut");
}

#[test]
fn deep_extent_trees_grow_and_are_truncated() {
    let disk = Disk::new(linux::make_image(64, &["-b", "1024"]));
    let mut volume = disk.mount(2000).unwrap();
    let free = volume.statistics().free_blocks;
    let inode = file(&mut volume, b"deep");
    for n in 0..20_000_u64 {
        // Downwards and upwards, so that no two extents can be joined.
        let at = if n % 2 == 0 { n } else { 100_000 - n };
        volume.write(inode, at * 2048, &[1; 100]).unwrap();
    }
    volume.sync().unwrap();
    linux::assert_clean(&linux::replay(&disk.bytes()).unwrap(), "20,000 extents");
    for keep in [90_000_u64, 50_000, 10_000, 1, 0] {
        volume.truncate(inode, keep * 2048).unwrap();
        volume.sync().unwrap();
        linux::assert_clean(&linux::replay(&disk.bytes()).unwrap(), "truncated");
    }
    volume.unlink(ROOT, b"deep").unwrap();
    volume.sync().unwrap();
    assert_eq!(volume.statistics().free_blocks, free);
    volume.unmount().unwrap();
    linux::assert_clean(&disk.bytes(), "gone");
}

#[test]
fn a_full_volume_refuses_whole_operations() {
    let disk = Disk::new(linux::make_image(8, &["-b", "1024", "-N", "64"]));
    let mut volume = disk.mount(500).unwrap();
    let inode = file(&mut volume, b"file");
    let before = volume.statistics();
    let too_much = before.free_blocks * 1024 + 1024;
    assert_eq!(
        volume.fallocate(inode, Fallocate::Allocate { keep_size: false }, 0, too_much),
        Err(Error::NoSpace)
    );
    assert_eq!(volume.attributes(inode).unwrap().size, 0);
    volume.sync().unwrap();
    assert_eq!(volume.statistics().free_blocks, before.free_blocks);
    let written = volume.write(inode, 0, &vec![5; too_much as usize]).unwrap();
    assert!(written > 1 << 20 && written < too_much as usize);
    assert_eq!(volume.write(inode, too_much, &[1; 2000]), Err(Error::NoSpace));
    let mut made = 0;
    while volume.create(ROOT, format!("inode {made}").as_bytes(), &NewInode::file(0)).is_ok() {
        made += 1;
    }
    assert!(volume.statistics().free_inodes == 0 || volume.statistics().free_blocks == 0);
    volume.truncate(inode, 0).unwrap();
    // The blocks can be used at once, because what needs them commits first.
    assert_eq!(volume.write(inode, 0, &[6; 1 << 20]), Ok(1 << 20));
    volume.unmount().unwrap();
    linux::assert_clean(&disk.bytes(), "a volume that was full");
}

#[test]
fn the_reserve_is_for_those_who_may_use_it() {
    let disk = Disk::new(linux::make_image(8, &["-b", "1024", "-m", "20"]));
    let mut volume = disk.mount(500).unwrap();
    let inode = file(&mut volume, b"file");
    volume.use_reserve(false);
    let available = volume.statistics().available_blocks;
    let written = volume.write(inode, 0, &vec![1; 8 << 20]).unwrap() as u64;
    assert!(written <= available * 1024 && written > (available - 20) * 1024);
    volume.use_reserve(true);
    assert_eq!(volume.write(inode, written, &[1; 4096]), Ok(4096));
}

#[test]
fn files_deleted_while_open_live_until_closed() {
    let disk = Disk::new(linux::make_image(16, &[]));
    let mut volume = disk.mount(500).unwrap();
    let free = volume.statistics();
    let inode = file(&mut volume, b"file");
    volume.open(inode).unwrap();
    volume.write(inode, 0, &pattern(1, 100_000)).unwrap();
    volume.unlink(ROOT, b"file").unwrap();
    let mut out = vec![0; 100_000];
    assert_eq!(volume.read(inode, 0, &mut out), Ok(100_000));
    assert!(out == pattern(1, 100_000));
    volume.write(inode, 100_000, &[1; 5]).unwrap();
    volume.close(inode).unwrap();
    assert_eq!(volume.read(inode, 0, &mut out), Err(Error::NotFound));
    volume.sync().unwrap();
    assert_eq!(volume.statistics(), free);
}

#[test]
fn files_deleted_while_open_are_freed_by_the_next_mount_after_a_power_cut() {
    let disk = Disk::new(linux::make_image(16, &[]));
    let mut volume = disk.mount(500).unwrap();
    let free = volume.statistics();
    for n in 0..5 {
        let inode = file(&mut volume, format!("{n}").as_bytes());
        volume.write(inode, 0, &pattern(1, 100_000)).unwrap();
        volume.open(inode).unwrap();
        volume.unlink(ROOT, format!("{n}").as_bytes()).unwrap();
    }
    volume.sync().unwrap();
    let after = Disk::new(disk.bytes());
    let volume = after.mount(500).unwrap();
    assert_eq!(volume.statistics(), free);
    volume.unmount().unwrap();
    linux::assert_clean(&after.bytes(), "orphans worked off");
}

#[test]
fn a_failing_device_stops_writing_and_the_next_mount_recovers() {
    for writes in [0, 1, 5, 9, 20] {
        let disk = Disk::new(linux::make_image(16, &["-b", "1024"]));
        let mut volume = disk.mount(500).unwrap();
        let inode = file(&mut volume, b"before");
        volume.sync().unwrap();
        disk.limit_writes(Some(writes));
        for n in 0..50 {
            let created = volume.create(ROOT, format!("{n}").as_bytes(), &NewInode::file(0));
            let written = volume.write(inode, n * 5000, &[1; 5000]);
            for error in [created.err(), written.err()].into_iter().flatten() {
                assert!(matches!(error, Error::Io(_) | Error::Aborted), "{writes}: {error:?}");
            }
        }
        assert!(volume.sync().is_err(), "{writes}");
        assert_eq!(volume.create(ROOT, b"after", &NewInode::file(0)), Err(Error::Aborted));
        disk.limit_writes(None);
        let volume = disk.mount(500).unwrap();
        assert!(volume.lookup(ROOT, b"before").is_ok());
        volume.unmount().unwrap();
        linux::assert_clean(&disk.bytes(), "after the device came back");
    }
}

#[test]
fn a_read_only_mount_of_a_full_journal_shows_its_contents_and_writes_nothing() {
    let disk = Disk::new(linux::make_image(16, &[]));
    let mut volume = disk.mount(500).unwrap();
    file(&mut volume, b"in the journal");
    volume.sync().unwrap();
    let image = disk.bytes();
    let copy = Disk::new(image.clone());
    let mut volume = copy.mount_read_only().unwrap();
    assert!(volume.lookup(ROOT, b"in the journal").is_ok());
    assert_eq!(volume.unlink(ROOT, b"in the journal"), Err(Error::ReadOnly));
    volume.unmount().unwrap();
    assert!(copy.bytes() == image);
}

#[test]
fn syncing_what_is_durable_already_costs_no_flush() {
    let disk = Disk::new(linux::make_image(16, &[]));
    let mut volume = disk.mount(500).unwrap();
    let files: Vec<InodeNumber> = (0..10).map(|n| file(&mut volume, format!("{n}").as_bytes())).collect();
    let before = disk.flushes();
    for inode in &files {
        volume.fsync(*inode).unwrap();
    }
    assert_eq!(disk.flushes() - before, 2, "ten callers share one commit");
    // Overwriting changes the times only, which fdatasync leaves for later.
    volume.write(files[0], 0, &[1; 4096]).unwrap();
    volume.fsync(files[0]).unwrap();
    let before = disk.flushes();
    volume.set_time(Time { seconds: 1_700_000_100, nanoseconds: 0 });
    volume.write(files[0], 0, &[2; 4096]).unwrap();
    volume.fdatasync(files[0]).unwrap();
    assert_eq!(disk.flushes() - before, 1);
}

#[test]
fn several_readers_work_at_once() {
    let disk = Disk::new(linux::make_image(32, &["-b", "1024"]));
    let mut volume = disk.mount(64).unwrap();
    let dir = volume.create(ROOT, b"dir", &NewInode::directory(0o755)).unwrap();
    for n in 0..200_u64 {
        let inode = volume.create(dir, format!("{n}").as_bytes(), &NewInode::file(0)).unwrap();
        volume.write(inode, 0, &pattern(n, 9000)).unwrap();
    }
    volume.sync().unwrap();
    let volume = &volume;
    std::thread::scope(|scope| {
        for start in 0..4 {
            scope.spawn(move || {
                for n in (0..200).map(|n| (n + start * 50) % 200) {
                    let inode = volume.lookup(dir, format!("{n}").as_bytes()).unwrap();
                    let mut out = vec![0; 9000];
                    assert_eq!(volume.read(inode, 0, &mut out), Ok(9000));
                    assert!(out == pattern(n, 9000));
                }
            });
        }
    });
}

#[test]
fn an_operation_that_lacks_a_block_changes_nothing_and_can_be_repeated() {
    let disk = Disk::new(linux::make_image(16, &["-b", "1024"]));
    let mut volume = disk.mount(64).unwrap();
    file(&mut volume, b"file");
    volume.unmount().unwrap();
    disk.delay_reads(0);
    let mut volume = disk.mount(64).unwrap();
    disk.delay_reads(1);
    let mut waits = 0;
    while let Err(error) = volume.unlink(ROOT, b"file") {
        assert_eq!(error, Error::Io(IoError::Pending));
        waits += 1;
    }
    assert!(waits > 0);
    disk.delay_reads(0);
    assert_eq!(volume.lookup(ROOT, b"file"), Err(Error::NotFound));
    volume.unmount().unwrap();
    linux::assert_clean(&disk.bytes(), "after waiting for blocks");
}

#[test]
fn large_directories_are_removed_in_bounded_transactions() {
    let disk = Disk::new(linux::make_image(64, &["-b", "1024", "-N", "200"]));
    let mut volume = disk.mount(4000).unwrap();
    let free = volume.statistics().free_blocks;
    let dir = volume.create(ROOT, b"dir", &NewInode::directory(0o755)).unwrap();
    let target = file(&mut volume, b"target");
    let name = |n: u32| format!("{n:0>200}").into_bytes();
    for n in 0..24_000 {
        volume.link(target, dir, &name(n)).unwrap();
    }
    assert!(volume.attributes(dir).unwrap().size > 6000 * 1024);
    for n in 0..24_000 {
        volume.unlink(dir, &name(n)).unwrap();
    }
    volume.rmdir(ROOT, b"dir").unwrap();
    volume.unlink(ROOT, b"target").unwrap();
    volume.sync().unwrap();
    assert_eq!(volume.statistics().free_blocks, free);
    volume.unmount().unwrap();
    linux::assert_clean(&disk.bytes(), "after a large directory was removed");
}
