//! The two file systems behind one interface.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ext4::{InodeNumber, MountOptions, NewInode, WriteBackCache};
use rsext4::{
    BlockIo, Ext4Error, Ext4Result, Ext4Timestamp, FileName, FilePermissions, MkfsOptions, MountServices,
    MutationContext, NoopObserver,
};

use crate::memory::{Memory, now};

const SECTOR: usize = 4096;

impl BlockIo for Memory {
    fn write(&mut self, data: &[u8], sector: rsext4::SectorId, _count: u32) -> Ext4Result<()> {
        let start = sector.as_usize()? * SECTOR;
        let place = self.bytes.get_mut(start..start + data.len()).ok_or_else(Ext4Error::invalid_input)?;
        place.copy_from_slice(data);
        Ok(())
    }

    fn read(&mut self, out: &mut [u8], sector: rsext4::SectorId, _count: u32) -> Ext4Result<()> {
        let start = sector.as_usize()? * SECTOR;
        out.copy_from_slice(self.bytes.get(start..start + out.len()).ok_or_else(Ext4Error::invalid_input)?);
        Ok(())
    }

    fn flush(&mut self) -> Ext4Result<()> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn geometry(&self) -> rsext4::DeviceGeometry {
        rsext4::DeviceGeometry::new(SECTOR as u32, (self.bytes.len() / SECTOR) as u64)
    }

    fn capabilities(&self) -> rsext4::DeviceCapabilities {
        rsext4::DeviceCapabilities { read_only: false, flush: true, ..rsext4::DeviceCapabilities::default() }
    }
}

/// What the workloads need of a file system; any failure ends the benchmark.
pub trait Engine {
    fn root(&self) -> u32;
    fn create(&mut self, dir: u32, name: &str) -> u32;
    fn make_dir(&mut self, dir: u32, name: &str) -> u32;
    /// Finds a name and reads its inode.
    fn look_up(&mut self, dir: u32, name: &str) -> u32;
    fn write(&mut self, file: u32, offset: u64, data: &[u8]);
    fn read(&mut self, file: u32, offset: u64, out: &mut [u8]);
    fn sync(&mut self);
    fn flushes(&self) -> u64;
}

/// This crate, with a cache of 16 MiB.
pub struct Ours {
    volume: ext4::Ext4<WriteBackCache<Memory>>,
    flushes: Arc<AtomicU64>,
}

impl Ours {
    pub fn new(disk: Memory) -> Self {
        let flushes = disk.flushes.clone();
        let options = MountOptions { read_only: false, now: now() };
        let volume = ext4::Ext4::mount(WriteBackCache::new(disk, 4096), &options).unwrap();
        Ours { volume, flushes }
    }

    /// The disk after unmounting.
    pub fn finish(self) -> Vec<u8> {
        self.volume.unmount().unwrap().into_device().bytes
    }
}

impl Engine for Ours {
    fn root(&self) -> u32 {
        InodeNumber::ROOT.0
    }

    fn create(&mut self, dir: u32, name: &str) -> u32 {
        self.volume.create(InodeNumber(dir), name.as_bytes(), &NewInode::file(0o644)).unwrap().0
    }

    fn make_dir(&mut self, dir: u32, name: &str) -> u32 {
        self.volume.create(InodeNumber(dir), name.as_bytes(), &NewInode::directory(0o755)).unwrap().0
    }

    fn look_up(&mut self, dir: u32, name: &str) -> u32 {
        let inode = self.volume.lookup(InodeNumber(dir), name.as_bytes()).unwrap();
        self.volume.attributes(inode).unwrap().inode.0
    }

    fn write(&mut self, file: u32, offset: u64, data: &[u8]) {
        assert_eq!(self.volume.write(InodeNumber(file), offset, data), Ok(data.len()));
    }

    fn read(&mut self, file: u32, offset: u64, out: &mut [u8]) {
        assert_eq!(self.volume.read(InodeNumber(file), offset, out), Ok(out.len()));
    }

    fn sync(&mut self) {
        self.volume.sync().unwrap();
    }

    fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }
}

struct Still;

impl rsext4::Clock for Still {
    fn now(&self) -> Ext4Result<Ext4Timestamp> {
        Ok(Ext4Timestamp::new(now().seconds, 0))
    }
}

/// rsext4.
pub struct Theirs {
    volume: rsext4::Ext4<Memory, rsext4::MountedServices<(), NoopObserver, ()>>,
    flushes: Arc<AtomicU64>,
}

impl Theirs {
    /// On a volume that it formats itself.
    pub fn formatted(size: usize) -> Self {
        let disk = rsext4::format(Memory::new(vec![0; size]), Still, MkfsOptions::default()).unwrap();
        Self::new(disk)
    }

    pub fn new(disk: Memory) -> Self {
        let flushes = disk.flushes.clone();
        let services = MountServices::new(Still, (), NoopObserver);
        let volume = rsext4::Ext4::mount(disk, services, rsext4::MountOptions::read_write()).unwrap();
        Theirs { volume, flushes }
    }
}

fn number(inode: u32) -> rsext4::InodeNumber {
    rsext4::InodeNumber::new(inode).unwrap()
}

fn name(name: &str) -> FileName<'_> {
    FileName::new(name.as_bytes()).unwrap()
}

fn permissions() -> FilePermissions {
    FilePermissions::new(0o755).unwrap()
}

impl Engine for Theirs {
    fn root(&self) -> u32 {
        self.volume.root_inode().raw()
    }

    fn create(&mut self, dir: u32, file: &str) -> u32 {
        let context = MutationContext::new(0, 0, 0, 0);
        self.volume.create_regular_file(context, number(dir), name(file), permissions()).unwrap().number.raw()
    }

    fn make_dir(&mut self, dir: u32, file: &str) -> u32 {
        let context = MutationContext::new(0, 0, 0, 0);
        self.volume.create_directory(context, number(dir), name(file), permissions()).unwrap().number.raw()
    }

    fn look_up(&mut self, dir: u32, file: &str) -> u32 {
        self.volume.lookup_child(number(dir), name(file)).unwrap().unwrap().number.raw()
    }

    fn write(&mut self, file: u32, offset: u64, data: &[u8]) {
        self.volume.write_inode(number(file), offset, data).unwrap();
    }

    fn read(&mut self, file: u32, offset: u64, out: &mut [u8]) {
        assert_eq!(self.volume.read_inode(number(file), offset, out).unwrap(), out.len());
    }

    fn sync(&mut self) {
        self.volume.sync().unwrap();
    }

    fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }
}
