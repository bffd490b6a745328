//! A server killed at any operation: its successor finds the cache and the state area, and nothing that was answered is
//! lost, although nothing was synced.

mod disk;
mod linux;
mod model;

use std::sync::{Arc, Mutex};

use disk::{Disk, Random, pattern};
use ext4::{
    BlockCache, Buffer, Ext4, InodeNumber, IoError, MountOptions, NewInode, StateArea, Time, WriteBackCache,
};

/// A block cache that outlives the file system over it.
#[derive(Clone)]
struct Shared(Arc<Mutex<WriteBackCache<Disk>>>);

impl BlockCache for Shared {
    fn read_bytes(&self, offset: u64, out: &mut [u8]) -> Result<(), IoError> {
        self.0.lock().unwrap().read_bytes(offset, out)
    }

    fn set_block_size(&mut self, bytes: usize) -> Result<(), IoError> {
        self.0.lock().unwrap().set_block_size(bytes)
    }

    fn block_count(&self) -> u64 {
        self.0.lock().unwrap().block_count()
    }

    fn get(&self, block: u64) -> Result<Buffer, IoError> {
        self.0.lock().unwrap().get(block)
    }

    fn read(&self, start: u64, out: &mut [u8]) -> Result<(), IoError> {
        self.0.lock().unwrap().read(start, out)
    }

    fn write(&mut self, start: u64, data: &[u8]) -> Result<(), IoError> {
        self.0.lock().unwrap().write(start, data)
    }

    fn patch(&mut self, block: u64, offset: usize, data: &[u8]) -> Result<(), IoError> {
        self.0.lock().unwrap().patch(block, offset, data)
    }

    fn write_back(&mut self, start: u64, count: u64) -> Result<(), IoError> {
        self.0.lock().unwrap().write_back(start, count)
    }

    fn discard(&mut self, start: u64, count: u64) {
        self.0.lock().unwrap().discard(start, count);
    }

    fn submit(&mut self, block: u64, content: &Buffer) -> Result<(), IoError> {
        self.0.lock().unwrap().submit(block, content)
    }

    fn offer(&mut self, block: u64, content: &Buffer) {
        self.0.lock().unwrap().offer(block, content);
    }

    fn barrier(&mut self) -> Result<(), IoError> {
        self.0.lock().unwrap().barrier()
    }
}

#[derive(Debug, Clone)]
struct Words(Arc<Mutex<Vec<u64>>>);

impl StateArea for Words {
    fn words(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn load(&self, at: usize) -> u64 {
        self.0.lock().unwrap()[at]
    }

    fn store(&mut self, at: usize, word: u64) {
        self.0.lock().unwrap()[at] = word;
    }
}

fn mount(cache: &Shared, words: &Words) -> Ext4<Shared> {
    let options = MountOptions { read_only: false, now: Time { seconds: 1_700_000_000, nanoseconds: 0 } };
    Ext4::mount_surviving(cache.clone(), &options, Some(Box::new(words.clone()))).unwrap()
}

fn run(options: &[&str], seed: u64) {
    let disk = Disk::new(linux::make_image(16, options));
    let cache = Shared(Arc::new(Mutex::new(WriteBackCache::new(disk.clone(), 3000))));
    let words = Words(Arc::new(Mutex::new(vec![0xdead; 1 << 20])));
    let mut random = Random::new(seed);
    let mut volume = mount(&cache, &words);
    let dir = volume.create(InodeNumber::ROOT, b"dir", &NewInode::directory(0o755)).unwrap();
    let unnamed = volume.create(dir, b"unnamed", &NewInode::file(0)).unwrap();
    volume.write(unnamed, 0, &pattern(0, 9000)).unwrap();
    volume.open(unnamed).unwrap();
    volume.unlink(dir, b"unnamed").unwrap();
    let mut kept: Vec<(Vec<u8>, u64)> = Vec::new();
    for n in 0..600_u64 {
        let name = format!("file {n}").into_bytes();
        let file = volume.create(dir, &name, &NewInode::file(0o600)).unwrap();
        assert_eq!(volume.write(file, 0, &pattern(n, 3000)), Ok(3000));
        kept.push((name, n));
        if random.chance(40) {
            let (name, _) = kept.swap_remove(random.below(kept.len() as u64) as usize);
            volume.unlink(dir, &name).unwrap();
        }
        if random.chance(15) {
            // Killed: nothing of it remains but cache and state area.
            drop(volume);
            volume = mount(&cache, &words);
            for (name, n) in &kept {
                let mut out = vec![0; 3000];
                let file = volume.lookup(dir, name).unwrap();
                assert_eq!(volume.read(file, 0, &mut out), Ok(3000));
                assert!(out == pattern(*n, 3000));
            }
            let mut out = vec![0; 9000];
            assert_eq!(volume.read(unnamed, 0, &mut out), Ok(9000));
            assert!(out == pattern(0, 9000), "what was open without a name");
        }
    }
    volume.close(unnamed).unwrap();
    volume.unmount().unwrap();
    linux::assert_clean(&disk.bytes(), "after many kills");
}

#[test]
fn killed_servers_on_blocks_of_1_kib_lose_nothing_they_answered() {
    run(&["-b", "1024"], 1);
}

#[test]
fn killed_servers_on_blocks_of_4_kib_lose_nothing_they_answered() {
    run(&["-b", "4096"], 2);
}
