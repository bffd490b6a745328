//! A disk, by its channel, and a pass over it.

use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;

use block::{Client, Geometry, Request};
use proto::block::{DEPTH, segment};
use rt::channel::Outside;
use rt::{clock, env};
use storm::disk::{Pass, Shape, Task};
use storm::pattern::{BYTES, Pattern, Shared};
use storm::tally::Tally;

use crate::{Work, WorkError, wait};

/// The channel's name.
pub const CHANNEL: &str = "disk";
/// Sectors of a request of a pass.
const REQUEST: u64 = 128;
/// Requests under way in a pass.
const UNDER_WAY: usize = 32;
/// Writes between two flushes.
const FLUSH_EVERY: u64 = 64;
/// Pieces of a request, each a segment of its own.
const PIECES: u64 = 4;
/// Seconds until a disk that does not answer is given up.
const PATIENCE: u64 = 30;

/// A disk.
#[derive(Debug)]
pub struct Disk {
    outside: Outside,
    client: Client<'static, AtomicU64>,
    /// Memory that is shared with the disk, by sectors.
    memory: &'static [Shared],
    /// Which slot of the pass each request under way has.
    slots: [usize; DEPTH],
}

impl Disk {
    /// The disk, once its driver has said what it is like.
    pub fn open() -> Result<Disk, WorkError> {
        let (client, outside, _) =
            block::guest::open(CHANNEL).map_err(|error| WorkError::of_channel(CHANNEL, error))?;
        let (memory, _) = outside.end.data.as_chunks();
        let mut disk = Disk { outside, client, memory, slots: [0; DEPTH] };
        let give_up = clock::now() + PATIENCE * env::tsc_hz();
        while disk.client.geometry().is_none() {
            disk.turn(|_, _| {});
            if clock::now() > give_up {
                return Err(WorkError::Stalled(PATIENCE));
            }
            if disk.client.geometry().is_none() && disk.client.sleep() {
                wait(give_up)?;
            }
        }
        Ok(disk)
    }

    /// What the driver says of it.
    pub fn geometry(&self) -> Option<Geometry> {
        self.client.geometry()
    }

    /// What a pass over `bytes` is like, as far as the memory allows.
    pub fn shape(&self, bytes: u64) -> Result<Shape, WorkError> {
        let geometry = self.geometry().ok_or(WorkError::NoChannel(CHANNEL))?;
        let sectors = bytes.div_ceil(BYTES).next_multiple_of(geometry.block.div_ceil(BYTES));
        if geometry.read_only {
            return Err(WorkError::ReadOnly);
        }
        if sectors > geometry.sectors {
            return Err(WorkError::SmallDisk(geometry.sectors));
        }
        let depth = UNDER_WAY.min(self.memory.len() / REQUEST as usize);
        if depth == 0 {
            return Err(WorkError::TooSmall(CHANNEL));
        }
        let flush_every = if geometry.cache { FLUSH_EVERY } else { 0 };
        Ok(Shape { sectors, request: REQUEST, depth, flush_every })
    }

    /// The memory that is shared with the disk, by sectors.
    pub fn memory(&self) -> &'static [Shared] {
        self.memory
    }

    /// Takes a pass on as far as it goes without waiting. True: nothing more can be done before the bell rings.
    pub fn step(&mut self, pass: &mut Pass, request: u64) -> bool {
        let memory = self.memory;
        let mut came = false;
        while let Some(task) = pass.next(memory) {
            self.submit(&task, request);
        }
        self.turn(|slot, ok| {
            pass.answered(slot, ok, memory);
            came = true;
        });
        !came && !pass.is_done() && self.client.sleep()
    }

    /// Makes a request whose slots have so many sectors of memory each.
    pub fn submit(&mut self, task: &Task, request: u64) {
        let most = self.geometry().map_or(1, |geometry| geometry.most_segments as u64);
        let piece = task.sectors.div_ceil(PIECES.min(most.max(1))).max(1);
        let from = task.slot as u64 * request;
        let pieces = (0..task.sectors).step_by(piece as usize);
        let segments: Vec<u64> = pieces.map(|at| segment(from + at, piece.min(task.sectors - at))).collect();
        let request =
            Request { op: task.op, sector: task.sector, sectors: task.sectors, segments: &segments };
        match self.client.submit(&request) {
            Ok(id) => self.slots[id.place()] = task.slot,
            Err(refused) => panic!("a request that the client does not take: {refused:?}"),
        }
    }

    /// Exchanges requests and answers with the driver; `answered` takes the slot of each, and whether it went well.
    pub fn turn(&mut self, mut answered: impl FnMut(usize, bool)) {
        let (outside, slots) = (&mut self.outside, &self.slots);
        self.client.work(outside, |answer| answered(slots[answer.id.place()], answer.result.is_ok()));
    }

    /// True: nothing more can be done before the bell rings.
    pub fn sleep(&mut self) -> bool {
        self.client.sleep()
    }
}

/// Passes over a disk, each with another pattern.
#[derive(Debug)]
pub struct DiskWork {
    disk: Disk,
    shape: Shape,
    seed: u64,
    /// How many passes were begun.
    passes: u64,
    pass: Pass,
}

impl DiskWork {
    /// Passes over the first `bytes` of the disk. (A channel has one client in each life of the program.)
    pub fn new(disk: Disk, bytes: u64, seed: u64) -> Result<DiskWork, WorkError> {
        let shape = disk.shape(bytes)?;
        let pass = Pass::new(Shape { sectors: 0, ..shape }, Pattern::new(seed, 0), None);
        Ok(DiskWork { disk, shape, seed, passes: 0, pass })
    }
}

impl Work for DiskWork {
    fn begin(&mut self) -> Result<(), WorkError> {
        let pattern = |pass| Pattern::new(self.seed, pass);
        self.pass = Pass::new(self.shape, pattern(self.passes), self.passes.checked_sub(1).map(pattern));
        self.passes += 1;
        Ok(())
    }

    fn step(&mut self) -> Result<bool, WorkError> {
        Ok(self.disk.step(&mut self.pass, self.shape.request))
    }

    fn is_done(&self) -> bool {
        self.pass.is_done()
    }

    fn tally(&self) -> Tally {
        self.pass.tally()
    }
}
