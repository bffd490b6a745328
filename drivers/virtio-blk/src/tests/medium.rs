//! What a disk does with the requests that it is given.

use virtio::fake::{Chain, FakeDevice};
use virtio::queue::Segment;

pub const SECTOR: usize = 512;
/// Sectors of the disk.
pub const SECTORS: u64 = 256;
/// The features of block devices that it can offer.
pub const SEG_MAX: u64 = 1 << 2;
pub const RO: u64 = 1 << 5;
pub const BLK_SIZE: u64 = 1 << 6;
pub const FLUSH: u64 = 1 << 9;
pub const DISCARD: u64 = 1 << 13;
pub const WRITE_ZEROES: u64 = 1 << 14;
pub const ALL: u64 = FakeDevice::FEATURES | SEG_MAX | BLK_SIZE | FLUSH | DISCARD | WRITE_ZEROES;

const OK: u8 = 0;
const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;

/// A configuration (VirtIO 1.2, 5.2.4) with these sectors, block size, segments and sectors of a discard.
pub fn config(sectors: u64, block: u32, segments: u32, cleared: u32) -> Vec<u8> {
    let mut bytes = vec![0; 60];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &sectors.to_le_bytes());
    put(12, &segments.to_le_bytes());
    put(20, &block.to_le_bytes());
    put(36, &cleared.to_le_bytes());
    put(48, &cleared.to_le_bytes());
    bytes
}

/// The disk.
#[derive(Debug)]
pub struct Medium<'m> {
    pub device: FakeDevice<'m>,
    pub sectors: Vec<u8>,
    /// Taken, and not yet done.
    pub pending: Vec<Chain>,
    /// Reports an error for these.
    pub bad: Option<u64>,
    pub flushes: u64,
}

impl<'m> Medium<'m> {
    pub fn new(device: FakeDevice<'m>) -> Medium<'m> {
        let sectors = vec![0; SECTORS as usize * SECTOR];
        Medium { device, sectors, pending: Vec::new(), bad: None, flushes: 0 }
    }

    /// Looks at what was submitted.
    pub fn take(&mut self) {
        self.pending.extend(std::iter::from_fn(|| self.device.take(0)));
    }

    /// Does the request at `at` among the pending ones, and says so.
    pub fn finish(&mut self, at: usize) {
        let chain = self.pending.swap_remove(at);
        let length = self.carry_out(&chain);
        self.device.complete(0, chain.id.into(), length);
    }

    /// Does all there is, in order.
    pub fn finish_all(&mut self) {
        self.take();
        while !self.pending.is_empty() {
            self.finish(0);
        }
    }

    /// What its driver's death leaves: some requests were carried out, and nobody hears of it.
    pub fn reset(&mut self, carried_out: usize) {
        let carried_out = carried_out.min(self.pending.len());
        for chain in std::mem::take(&mut self.pending).iter().take(carried_out) {
            self.carry_out(chain);
        }
        self.device.reset();
    }

    /// Carries a request out; how many bytes it has written to the driver's memory.
    pub fn carry_out(&mut self, chain: &Chain) -> u32 {
        let (header, rest) = chain.segments.split_first().expect("a request has a header");
        let (status, data) = rest.split_last().expect("a request has a status");
        assert!(!header.writable && status.writable && status.length == 1);
        let mut words = [0; 16];
        assert!(self.device.read(header.address, &mut words));
        let kind = u32::from_le_bytes(words[..4].try_into().unwrap());
        let sector = u64::from_le_bytes(words[8..].try_into().unwrap());
        let answer = match kind {
            0 => self.transfer(sector, data, true),
            1 => self.transfer(sector, data, false),
            4 => {
                assert_eq!((sector, data), (0, &[][..]));
                self.flushes += 1;
                OK
            }
            11 | 13 => self.clear(header),
            _ => UNSUPPORTED,
        };
        self.device.write(status.address, &[answer]);
        let read: u32 = data.iter().filter(|each| each.writable).map(|each| each.length).sum();
        1 + if answer == OK { read } else { 0 }
    }

    fn transfer(&mut self, sector: u64, data: &[Segment], read: bool) -> u8 {
        let mut at = sector as usize * SECTOR;
        let bytes: usize = data.iter().map(|each| each.length as usize).sum();
        assert!(data.iter().all(|each| each.writable == read));
        assert!(at + bytes <= self.sectors.len(), "the driver lets the end be passed");
        if self.bad.is_some_and(|bad| (sector..sector + (bytes / SECTOR) as u64).contains(&bad)) {
            return IO_ERROR;
        }
        for each in data {
            let part = &mut self.sectors[at..at + each.length as usize];
            match read {
                true => assert!(self.device.write(each.address, part)),
                false => assert!(self.device.read(each.address, part)),
            }
            at += each.length as usize;
        }
        OK
    }

    fn clear(&mut self, header: &Segment) -> u8 {
        assert_eq!(header.length, 32, "header and range");
        let mut range = [0; 16];
        assert!(self.device.read(header.address + 16, &mut range));
        let sector = u64::from_le_bytes(range[..8].try_into().unwrap()) as usize;
        let count = u32::from_le_bytes(range[8..12].try_into().unwrap()) as usize;
        assert_eq!(range[12..], [0; 4], "flags");
        self.sectors[sector * SECTOR..(sector + count) * SECTOR].fill(0);
        OK
    }
}
