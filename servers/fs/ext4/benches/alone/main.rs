//! Workloads of this crate alone, on a disk in memory: rsext4 does not offer them, or takes hours. Each runs once.

#[path = "../memory/mod.rs"]
mod memory;

use std::time::{Duration, Instant};

use ext4::{Ext4, Fallocate, InodeNumber, MountOptions, NewInode, WriteBackCache};

use memory::{Memory, made_by_us, now};

const MIB: usize = 1 << 20;
const BLOCK: usize = 4096;
const SMALL: usize = 512 * MIB;
/// Has groups enough for the inodes of all files.
const LARGE: usize = 1536 * MIB;
/// What is written into the holes, in bytes.
const INTO_HOLES: usize = 64 * MIB;
const FILES: usize = 300_000;
const ORPHANS: usize = 100_000;
const WRITES: usize = 1000;

type Volume = Ext4<WriteBackCache<Memory>>;

/// A workload, how often it does its work, and the time for all.
struct Alone {
    name: &'static str,
    count: usize,
    time: Duration,
}

fn mount(image: Vec<u8>) -> Volume {
    let options = MountOptions { read_only: false, now: now() };
    Ext4::mount(WriteBackCache::new(Memory::new(image), 8192), &options).unwrap()
}

fn measure(name: &'static str, count: usize, work: impl FnOnce()) -> Alone {
    let started = Instant::now();
    work();
    Alone { name, count, time: started.elapsed() }
}

fn file(volume: &mut Volume, dir: InodeNumber, name: &str) -> InodeNumber {
    volume.create(dir, name.as_bytes(), &NewInode::file(0o644)).unwrap()
}

/// Fills the volume with one file, and frees every second block of it.
fn with_holes() -> Volume {
    let mut volume = mount(made_by_us(SMALL, 4096));
    let full = file(&mut volume, InodeNumber::ROOT, "full");
    let data = vec![9; MIB];
    let mut size = 0;
    while let Ok(count) = volume.write(full, size, &data) {
        size += count as u64;
    }
    for block in (0..size / BLOCK as u64).step_by(2) {
        volume.fallocate(full, Fallocate::PunchHole, block * BLOCK as u64, BLOCK as u64).unwrap();
    }
    volume.sync().unwrap();
    volume
}

fn fill_holes(name: &'static str, step: usize) -> Alone {
    let mut volume = with_holes();
    let new = file(&mut volume, InodeNumber::ROOT, "new");
    let data = vec![7; step];
    measure(name, INTO_HOLES / BLOCK, || {
        for offset in (0..INTO_HOLES).step_by(step) {
            assert_eq!(volume.write(new, offset as u64, &data), Ok(step));
        }
        volume.sync().unwrap();
    })
}

fn many_files(rows: &mut Vec<Alone>) {
    let mut volume = mount(made_by_us(LARGE, FILES as u32 + 1000));
    let dir = volume.create(InodeNumber::ROOT, b"dir", &NewInode::directory(0o755)).unwrap();
    rows.push(measure("300,000 files in one directory: create", FILES, || {
        for n in 0..FILES {
            file(&mut volume, dir, &format!("file {n}"));
        }
        volume.sync().unwrap();
    }));
    rows.push(measure("300,000 files: list in calls of 64", FILES, || {
        let (mut listed, mut cookie) = (0, 2);
        loop {
            let before = listed;
            let mut next = cookie;
            let each = |entry: &ext4::DirEntry<'_>| {
                listed += 1;
                next = entry.next;
                listed < before + 64
            };
            volume.read_dir(dir, cookie, each).unwrap();
            if listed == before {
                break;
            }
            cookie = next;
        }
        assert_eq!(listed, FILES);
    }));
    rows.push(measure("300,000 files: look-up and attributes", FILES, || {
        for n in 0..FILES {
            let inode = volume.lookup(dir, format!("file {n}").as_bytes()).unwrap();
            volume.attributes(inode).unwrap();
        }
    }));
    rows.push(measure("300,000 files: remove", FILES, || {
        (0..FILES).for_each(|n| volume.unlink(dir, format!("file {n}").as_bytes()).unwrap());
        volume.sync().unwrap();
    }));
}

fn many_orphans(rows: &mut Vec<Alone>) {
    let mut volume = mount(made_by_us(SMALL, ORPHANS as u32 + 1000));
    let dir = volume.create(InodeNumber::ROOT, b"dir", &NewInode::directory(0o755)).unwrap();
    let open: Vec<InodeNumber> = (0..ORPHANS).map(|n| file(&mut volume, dir, &format!("file {n}"))).collect();
    open.iter().for_each(|inode| volume.open(*inode).unwrap());
    rows.push(measure("100,000 open files: unlink", ORPHANS, || {
        (0..ORPHANS).for_each(|n| volume.unlink(dir, format!("file {n}").as_bytes()).unwrap());
    }));
    let other = file(&mut volume, dir, "other");
    rows.push(measure("10 bytes written beside 100,000 orphans", WRITES, || {
        for n in 0..WRITES as u64 {
            assert_eq!(volume.write(other, n * 10, b"0123456789"), Ok(10));
        }
    }));
    rows.push(measure("100,000 open files without a name: close", ORPHANS, || {
        open.iter().for_each(|inode| volume.close(*inode).unwrap());
        volume.sync().unwrap();
    }));
}

fn main() {
    let mut rows = vec![
        fill_holes("a block into a fragmented volume, calls of 1 MiB", MIB),
        fill_holes("a block into a fragmented volume, calls of 4 KiB", BLOCK),
    ];
    many_files(&mut rows);
    many_orphans(&mut rows);
    println!("\n| workload | ext4 |\n|---|---|");
    for row in rows {
        let each = row.time.as_secs_f64() * 1e6 / row.count as f64;
        println!("| {} | {each:.2} µs each |", row.name);
    }
}
