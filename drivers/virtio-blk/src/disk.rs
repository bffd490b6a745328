//! The device (VirtIO 1.2, section 5.2), one request queue of it.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use bitflags::bitflags;
use proto::block::{MAX_SEGMENTS, Op, SECTOR, Status};
use virtio::transport::Config;
use virtio::{
    BeginError, DeviceError, DeviceType, Dma, DmaMemory, Queue, Registers, Segment, Transport, Used,
};
use virtio_drivers::transport::Transport as _;

use crate::request::{Limits, Request};

/// MSI-X vectors, as init and `pci` set them up.
pub mod vectors {
    /// The configuration has changed.
    pub const CONFIG: u16 = 0;
    /// Requests are done.
    pub const QUEUE: u16 = 1;
    /// How many there are.
    pub const COUNT: u16 = 2;
}

/// Requests that the device can have at a time.
pub const DEPTH: usize = 256;
/// The queue for requests (5.2.2).
const QUEUE: u16 = 0;
/// Segments of a request for the device: header, data, status.
const SEGMENTS: usize = MAX_SEGMENTS + 2;

bitflags! {
    /// Of the features of block devices (5.2.3), those that this driver uses.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct BlockFeatures: u64 {
        const SEG_MAX = 1 << 2;
        const RO = 1 << 5;
        const BLK_SIZE = 1 << 6;
        const FLUSH = 1 << 9;
        const DISCARD = 1 << 13;
        const WRITE_ZEROES = 1 << 14;
    }
}

/// What is asked of the device (5.2.6).
mod kind {
    pub const IN: u64 = 0;
    pub const OUT: u64 = 1;
    pub const FLUSH: u64 = 4;
    pub const DISCARD: u64 = 11;
    pub const WRITE_ZEROES: u64 = 13;
}

/// Bytes of a request's header (5.2.6), and of what follows it in a discard or write-zeroes.
const HEADER: u32 = 16;
const RANGE: u32 = 16;
/// Words for both.
const HEADER_WORDS: usize = 4;
/// What a status byte is before the device has written it: no status.
const NO_STATUS: u8 = 0xff;

/// Offsets in the configuration (5.2.4).
mod config {
    pub const CAPACITY: u32 = 0;
    pub const SEG_MAX: u32 = 12;
    pub const BLK_SIZE: u32 = 20;
    pub const MAX_DISCARD_SECTORS: u32 = 36;
    pub const MAX_WRITE_ZEROES_SECTORS: u32 = 48;
}

/// A request that the device has.
#[derive(Clone, Copy, Debug)]
struct UnderWay<T> {
    tag: T,
    /// Bytes that it is to write before its status.
    read: u32,
}

/// The device, with requests that go by `T`.
#[derive(Debug)]
pub struct Disk<'m, R, T> {
    transport: Transport<R>,
    queue: Queue<'m, DEPTH>,
    features: BlockFeatures,
    limits: Limits,
    under_way: [Option<UnderWay<T>>; DEPTH],
    /// The headers, by the queue's name of a request.
    headers: DmaMemory<'m>,
    /// The statuses, likewise.
    statuses: &'m [AtomicU8],
    statuses_at: u64,
}

impl<'m, R: Registers, T: Copy> Disk<'m, R, T> {
    /// Resets the device and begins with it.
    pub fn open(mut transport: Transport<R>, dma: &mut impl Dma<'m>) -> Result<Disk<'m, R, T>, BeginError> {
        if transport.device_type() != DeviceType::Block {
            return Err(DeviceError::WrongType(transport.device_type() as u16).into());
        }
        let chosen = transport.negotiate(BlockFeatures::all().bits())?;
        let size = transport.queue_size(QUEUE, DEPTH as u16)?;
        let queue = Queue::new(dma, size, SEGMENTS, chosen)?;
        let headers = dma.allocate(DEPTH * HEADER_WORDS * 8)?;
        let statuses = dma.allocate(DEPTH)?;
        let features = BlockFeatures::from_bits_truncate(chosen);
        let limits = read_limits(&transport, features, queue_segments(&queue))?;
        transport.set_config_vector(vectors::CONFIG)?;
        transport.set_up_queue(QUEUE, queue.layout(), Some(vectors::QUEUE))?;
        transport.start()?;
        Ok(Disk {
            transport,
            queue,
            features,
            limits,
            under_way: [None; DEPTH],
            headers,
            statuses: statuses.u8s(),
            statuses_at: statuses.address(),
        })
    }

    /// What requests are held against.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether it has a cache that flushes matter to.
    pub fn has_cache(&self) -> bool {
        self.features.contains(BlockFeatures::FLUSH)
    }

    /// Looks at the device's state, and reads its size again: to be called when it says that its configuration has
    /// changed. True: it has another size.
    pub fn look(&mut self) -> Result<bool, DeviceError> {
        self.transport.check()?;
        let limits = read_limits(&self.transport, self.features, queue_segments(&self.queue))?;
        let before = core::mem::replace(&mut self.limits, limits);
        Ok(before != limits)
    }

    /// How many requests the device has.
    pub fn under_way(&self) -> u16 {
        self.queue.under_way()
    }

    /// Whether there is room for one more request of `segments` segments of data.
    #[inline]
    pub fn has_room(&self, segments: usize) -> bool {
        self.queue.has_room(segments + 2)
    }

    /// Gives `request` to the device, for a client whose data is at `data` for the device. False: there is no room
    /// now. It sees it after the next [`Self::publish`].
    #[inline]
    pub fn submit(&mut self, request: &Request, data: u64, tag: T) -> bool {
        let count = request.segments().len() + 2;
        if !self.queue.has_room(count) {
            return false;
        }
        let token = self.queue.next_token();
        let writable = request.op == Op::Read;
        let segments = request.segments().map(|(offset, sectors)| Segment {
            address: data + offset * SECTOR,
            length: (sectors * SECTOR) as u32,
            writable,
        });
        let header = self.write_header(token, request);
        let status = self.prepare_status(token);
        let segments = core::iter::once(header).chain(segments).chain(core::iter::once(status));
        let added = self.queue.add(count, segments).is_ok();
        if added {
            let read = if writable { (request.sectors * SECTOR) as u32 } else { 0 };
            self.under_way[usize::from(token)] = Some(UnderWay { tag, read });
        }
        added
    }

    /// Shows the device what was submitted, and tells it to look if it sleeps.
    #[inline]
    pub fn publish(&mut self) {
        if self.queue.publish() {
            self.transport.kick(QUEUE);
        }
    }

    /// The next request that the device is done with, and how it went.
    #[inline]
    pub fn pop(&mut self) -> Result<Option<(T, Status)>, DeviceError> {
        let Some(Used { token, length }) = self.queue.pop()? else { return Ok(None) };
        let token = usize::from(token);
        // The queue has given the name out for this request, and takes it back once.
        let Some(UnderWay { tag, read }) = self.under_way[token].take() else {
            return Err(DeviceError::UsedId(token as u32));
        };
        let status = match self.statuses[token].load(Ordering::Relaxed) {
            0 if length < read => return Err(DeviceError::Short { said: length, wanted: read }),
            0 => Status::Ok,
            1 => Status::DeviceError,
            2 => Status::Unsupported,
            answer => return Err(DeviceError::Answer(answer)),
        };
        Ok(Some((tag, status)))
    }

    /// Asks for an interrupt at the next request that is done. True: none is, the driver may sleep.
    pub fn sleep(&mut self) -> bool {
        self.queue.sleep()
    }

    /// Asks for no interrupts until the next [`Self::sleep`].
    pub fn awake(&mut self) {
        self.queue.awake();
    }

    /// Writes the header of the request that goes by `token` (5.2.6).
    fn write_header(&self, token: u16, request: &Request) -> Segment {
        let first = usize::from(token) * HEADER_WORDS;
        let words: &[AtomicU64] = &self.headers.words()[first..first + HEADER_WORDS];
        let write = |at: usize, value| words[at].store(value, Ordering::Relaxed);
        let (kind, length) = match request.op {
            Op::Read => (kind::IN, HEADER),
            Op::Write => (kind::OUT, HEADER),
            Op::Flush => (kind::FLUSH, HEADER),
            Op::Discard => (kind::DISCARD, HEADER + RANGE),
            Op::WriteZeroes => (kind::WRITE_ZEROES, HEADER + RANGE),
        };
        write(0, kind);
        // For the others the sector is in the range, and this one is 0.
        write(1, if length == HEADER { request.sector } else { 0 });
        if length != HEADER {
            write(2, request.sector);
            // The upper half are flags: none.
            write(3, request.sectors);
        }
        Segment::readable(self.headers.address() + first as u64 * 8, length)
    }

    fn prepare_status(&self, token: u16) -> Segment {
        self.statuses[usize::from(token)].store(NO_STATUS, Ordering::Relaxed);
        Segment::writable(self.statuses_at + u64::from(token), 1)
    }
}

/// Segments of data that a request can have as far as the queue is concerned.
fn queue_segments<const N: usize>(queue: &Queue<N>) -> usize {
    queue.most_segments().saturating_sub(2)
}

fn read_limits<R: Registers>(
    transport: &Transport<R>,
    features: BlockFeatures,
    segments: usize,
) -> Result<Limits, DeviceError> {
    let limits = transport.config(|config| limits_in(config, features, segments))?;
    // A block is a power of two of sectors, which all that can be written consists of.
    let possible =
        limits.block.is_power_of_two() && limits.sectors <= u64::MAX / SECTOR && limits.segments > 0;
    if possible { Ok(limits) } else { Err(DeviceError::Configuration) }
}

fn limits_in<R: Registers>(config: &Config<R>, features: BlockFeatures, segments: usize) -> Option<Limits> {
    let field = |feature, offset, otherwise| match features.contains(feature) {
        true => config.u32(offset),
        false => Some(otherwise),
    };
    let block = field(BlockFeatures::BLK_SIZE, config::BLK_SIZE, SECTOR as u32)?;
    // Who says nothing takes one.
    let most = field(BlockFeatures::SEG_MAX, config::SEG_MAX, 1)?;
    let discard = field(BlockFeatures::DISCARD, config::MAX_DISCARD_SECTORS, u32::MAX)?;
    let write_zeroes = field(BlockFeatures::WRITE_ZEROES, config::MAX_WRITE_ZEROES_SECTORS, u32::MAX)?;
    Some(Limits {
        sectors: config.u64(config::CAPACITY)?,
        block: u64::from(block) / SECTOR,
        read_only: features.contains(BlockFeatures::RO),
        segments: (most as usize).min(segments).min(MAX_SEGMENTS),
        discard: features.contains(BlockFeatures::DISCARD),
        write_zeroes: features.contains(BlockFeatures::WRITE_ZEROES),
        cleared: discard.min(write_zeroes).into(),
    })
}
