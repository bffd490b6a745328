//! Damaged and hostile images: whatever lies on the disk, mounting, walking, reading and writing end with an answer, in
//! bounded time and memory, and never in a panic.
//!
//! Images are mutated at random from seeds: most without checksums, so that damage reaches the code behind them.

mod disk;
mod linux;
mod memory;
mod model;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use disk::{Disk, Random, is_long, pattern};
use ext4::{
    BlockDevice, Ext4, Fallocate, FileType, InodeNumber, IoError, MountOptions, NewInode, Rename, SetXattr,
    WriteBackCache,
};
use model::{MIXED, Mix, Model};

const ROOT: InodeNumber = InodeNumber::ROOT;
const PAGE: usize = 1024;
/// No image of 8 MiB may make all tests of this file together hold more than this.
const MOST_MEMORY: usize = 512 << 20;
/// No image may take longer than this (an undamaged one takes a few milliseconds).
const MOST_TIME: Duration = Duration::from_secs(20);

/// An image that is shared, and the pages that differ from it.
struct Overlay {
    base: Arc<Vec<u8>>,
    pages: HashMap<usize, Box<[u8]>>,
}

impl Overlay {
    fn page(&mut self, page: usize) -> &mut [u8] {
        let base = &self.base[page * PAGE..(page + 1) * PAGE];
        self.pages.entry(page).or_insert_with(|| base.into())
    }
}

impl BlockDevice for Overlay {
    fn size(&self) -> u64 {
        self.base.len() as u64
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), IoError> {
        let end =
            offset.checked_add(out.len() as u64).filter(|end| *end <= self.size()).ok_or(IoError::Failed)?;
        assert!(end.is_multiple_of(PAGE as u64));
        for (page, piece) in (offset as usize / PAGE..).zip(out.chunks_mut(PAGE)) {
            match self.pages.get(&page) {
                Some(bytes) => piece.copy_from_slice(bytes),
                None => piece.copy_from_slice(&self.base[page * PAGE..(page + 1) * PAGE]),
            }
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        offset.checked_add(data.len() as u64).filter(|end| *end <= self.size()).ok_or(IoError::Failed)?;
        for (page, piece) in (offset as usize / PAGE..).zip(data.chunks(PAGE)) {
            self.page(page).copy_from_slice(piece);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), IoError> {
        Ok(())
    }
}

type Volume = Ext4<WriteBackCache<Overlay>>;

/// An image with all structures in use, its journal not empty, and a file that is deleted but open.
fn base(options: &[&str]) -> Arc<Vec<u8>> {
    let disk = Disk::new(linux::make_image(8, options));
    let mut volume = disk.mount(1000).unwrap();
    let mix = Mix { block_maps: options.contains(&"ext3"), ..MIXED };
    let mut model = Model::new(&volume, 77, mix);
    for _ in 0..150 {
        model.step(&mut volume);
    }
    volume.sync().unwrap();
    volume.checkpoint().unwrap();
    let dir = volume.create(ROOT, b"many", &NewInode::directory(0o755)).unwrap();
    for n in 0..400 {
        volume
            .create(dir, format!("a name in an indexed directory {n}").as_bytes(), &NewInode::file(0o644))
            .unwrap();
    }
    let file = volume.create(ROOT, b"deep", &NewInode::file(0o644)).unwrap();
    for n in 0..700_u64 {
        volume.write(file, n * 8192, &pattern(n, 500)).unwrap();
    }
    volume.set_xattr(file, b"user.in-the-inode", b"value", SetXattr::Any).unwrap();
    volume.set_xattr(file, b"user.in-a-block", &[7; 500], SetXattr::Any).unwrap();
    let gone = volume.create(ROOT, b"gone", &NewInode::file(0o644)).unwrap();
    volume.write(gone, 0, &pattern(1, 30_000)).unwrap();
    volume.open(gone).unwrap();
    volume.unlink(ROOT, b"gone").unwrap();
    volume.sync().unwrap();
    Arc::new(disk.bytes())
}

/// Damages an image in one to eight places.
fn mutate(disk: &mut Overlay, used: &[usize], random: &mut Random) {
    for _ in 0..1 + random.below(8) {
        let page = match random.below(10) {
            0..=1 => 1,
            2 => 2,
            _ => used[random.below(used.len() as u64) as usize],
        };
        let at = match random.below(3) {
            0 => random.below(64) as usize,
            _ => random.below(PAGE as u64 - 8) as usize,
        };
        let value = match random.below(6) {
            0 => 0,
            1 => u64::MAX,
            2 => random.below(64),
            3 => 0x7fff_ffff,
            _ => random.next(),
        };
        let width = 1 << random.below(4) as usize;
        let source = used[random.below(used.len() as u64) as usize];
        let copied: Vec<u8> = disk.page(source)[at..at + 8].into();
        let bytes = disk.page(page);
        match random.below(8) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at..at + 8].copy_from_slice(&copied),
            _ => bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]),
        }
    }
}

/// How operations were answered.
#[derive(Default)]
struct Answers {
    good: u64,
    errors: u64,
}

impl Answers {
    fn add<T>(&mut self, answer: ext4::Result<T>) {
        match answer {
            Ok(_) => self.good += 1,
            Err(_) => self.errors += 1,
        }
    }
}

/// Everything below a directory, up to a number of names.
fn walk(
    volume: &Volume,
    dir: InodeNumber,
    left: &mut usize,
    found: &mut Vec<(InodeNumber, Vec<u8>)>,
    answers: &mut Answers,
) {
    let mut names = Vec::new();
    answers.add(volume.read_dir(dir, 0, |entry| {
        names.push((entry.name.to_vec(), entry.inode));
        names.len() < 2000
    }));
    for (name, inode) in names {
        if *left == 0 {
            return;
        }
        *left -= 1;
        answers.add(volume.lookup(dir, &name));
        look(volume, inode, answers);
        let is_dir = volume.attributes(inode).is_ok_and(|a| a.kind == FileType::Directory);
        if is_dir && name != b"." && name != b".." {
            walk(volume, inode, left, found, answers);
        }
        found.push((dir, name));
    }
}

fn look(volume: &Volume, inode: InodeNumber, answers: &mut Answers) {
    let mut out = vec![0; 20_000];
    for offset in [0, 5000, 1 << 20, u64::from(u32::MAX) * 512, u64::MAX] {
        answers.add(volume.read(inode, offset, &mut out));
    }
    answers.add(volume.read_link(inode, &mut out));
    answers.add(volume.list_xattrs(inode, |_| {}));
    answers.add(volume.get_xattr(inode, b"user.in-a-block", &mut out));
}

fn change(volume: &mut Volume, found: &[(InodeNumber, Vec<u8>)], random: &mut Random, answers: &mut Answers) {
    for n in 0..30_u64 {
        let Some((dir, name)) = found.get(random.below(found.len() as u64) as usize) else { return };
        let inode = volume.lookup(*dir, name).unwrap_or(ROOT);
        let other = &found[random.below(found.len() as u64) as usize];
        let new = format!("new name {n} of some length");
        answers.add(match random.below(11) {
            0 => volume.create(*dir, new.as_bytes(), &NewInode::file(0o600)).map(|_| ()),
            1 => volume.create(*dir, new.as_bytes(), &NewInode::directory(0o700)).map(|_| ()),
            2 => volume.unlink(*dir, name),
            3 => volume.rmdir(*dir, name),
            4 => volume.rename((*dir, name), (other.0, &other.1), Rename::Replace),
            5 => volume.rename((*dir, name), (other.0, new.as_bytes()), Rename::Exchange),
            6 => volume.write(inode, random.below(1 << 24), &pattern(n, 9000)).map(|_| ()),
            7 => volume.truncate(inode, random.below(1 << 24)),
            8 => volume.fallocate(inode, Fallocate::PunchHole, random.below(1 << 20), 1 << 20),
            9 => volume.fallocate(
                inode,
                Fallocate::ZeroRange { keep_size: false },
                random.below(1 << 20),
                99_999,
            ),
            _ => volume.set_xattr(inode, b"user.new", &pattern(n, 200), SetXattr::Any),
        });
    }
}

/// All that a server would do with an image; answers whether it could be mounted.
fn use_image(disk: Overlay, read_only: bool, random: &mut Random, answers: &mut Answers) -> bool {
    let options = MountOptions { read_only, ..MountOptions::default() };
    let Ok(mut volume) = Ext4::mount(WriteBackCache::new(disk, 500), &options) else { return false };
    let mut found = Vec::new();
    walk(&volume, ROOT, &mut 800, &mut found, answers);
    volume.statistics();
    if !read_only && !found.is_empty() {
        change(&mut volume, &found, random, answers);
        answers.add(volume.sync());
        walk(&volume, ROOT, &mut 200, &mut Vec::new(), answers);
        answers.add(volume.unmount());
    }
    true
}

/// The memory of all tests of this file, from the first one on.
fn memory_in_use() -> &'static memory::Watch {
    static WATCH: OnceLock<memory::Watch> = OnceLock::new();
    WATCH.get_or_init(memory::Watch::begin)
}

fn mutate_many(first_seed: u64, count: u64, options: &[&str]) {
    memory_in_use();
    let base = base(options);
    let used: Vec<usize> = (0..base.len() / PAGE)
        .filter(|page| base[page * PAGE..(page + 1) * PAGE].iter().any(|b| *b != 0))
        .collect();
    let count = if is_long() { count * 10 } else { count };
    let mut mounted = 0;
    let mut answers = Answers::default();
    for seed in first_seed..first_seed + count {
        let mut random = Random::new(seed);
        let mut disk = Overlay { base: base.clone(), pages: HashMap::new() };
        mutate(&mut disk, &used, &mut random);
        let started = Instant::now();
        let read_only = seed % 8 == 0;
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            use_image(disk, read_only, &mut random, &mut answers)
        }));
        let peak = memory_in_use().peak();
        let Ok(was_mounted) = result else { panic!("seed {seed} with {options:?} panics") };
        mounted += u64::from(was_mounted);
        assert!(started.elapsed() < MOST_TIME, "seed {seed} with {options:?} takes {:?}", started.elapsed());
        assert!(peak < MOST_MEMORY, "seed {seed} with {options:?}: {peak} bytes in use");
    }
    // Neither is all that is asked of a damaged image refused, nor is all of it done.
    let Answers { good, errors } = answers;
    assert!(good > count && errors > count, "{good} good answers, {errors} errors");
    eprintln!("{count} images, {mounted} of them mounted, {options:?}");
    assert!(
        mounted * 5 > count,
        "only {mounted} of {count} images could be mounted: the damage is too plain"
    );
}

#[test]
fn hostile_images_with_blocks_of_1_kib_without_checksums_do_no_harm() {
    mutate_many(1_000_000, 9_000, &["-b", "1024", "-O", "^metadata_csum"]);
}

#[test]
fn hostile_images_with_blocks_of_4_kib_without_checksums_do_no_harm() {
    mutate_many(2_000_000, 7_000, &["-b", "4096", "-O", "^metadata_csum"]);
}

#[test]
fn hostile_images_with_checksums_do_no_harm() {
    mutate_many(3_000_000, 4_000, &["-b", "1024"]);
}

#[test]
fn hostile_images_of_ext3_do_no_harm() {
    mutate_many(4_000_000, 3_000, &["-t", "ext3", "-b", "1024"]);
}

#[test]
fn random_bytes_are_refused() {
    for seed in 0..200 {
        let mut bytes = pattern(seed, 64 * 1024);
        if seed % 2 == 0 {
            bytes[1024 + 0x38..1024 + 0x3a].copy_from_slice(&[0x53, 0xef]);
            bytes[1024 + 0x60..1024 + 0x64].copy_from_slice(&[0x42, 0, 0, 0]);
        }
        assert!(Disk::new(bytes).mount(64).is_err());
    }
}
