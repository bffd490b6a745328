//! A program that writes and reads a part of the disk, and knows what must be there.

use std::sync::atomic::Ordering;

use block::{Answer, Id, Request};
use proptest::test_runner::TestRng;
use proto::block::{Op, segment};
use virtio::DmaMemory;
use virtio::fragile::Fuse;

use super::medium::SECTOR;
use super::rig::{Outside, TestClient};

/// Sectors of a buffer: the longest transfer.
const BUFFER: u64 = 8;
/// Requests at a time.
pub const MOST: usize = 24;

#[derive(Clone, Debug)]
struct UnderWay {
    id: Id,
    op: Op,
    buffer: u64,
    sector: u64,
    values: Vec<u64>,
}

/// What its sectors may hold, and what it has under way. A sector is filled with one value.
#[derive(Debug)]
pub struct Program {
    first: u64,
    /// The values that each sector may hold.
    allowed: Vec<Vec<u64>>,
    under_way: Vec<UnderWay>,
    buffers: Vec<u64>,
    written: u64,
    pub answers: u64,
}

/// Random numbers.
pub fn below(rng: &mut TestRng, end: u64) -> u64 {
    use proptest::prelude::Rng as _;
    rng.next_u64() % end
}

impl Program {
    /// A program for the `count` sectors from `first` on, which hold zeroes.
    pub fn new(first: u64, count: u64) -> Program {
        Program {
            first,
            allowed: vec![vec![0]; count as usize],
            under_way: Vec::new(),
            buffers: (0..MOST as u64).collect(),
            written: (first + 1) << 32,
            answers: 0,
        }
    }

    /// Whether no request that is under way is about these sectors.
    fn is_free(&self, sector: u64, count: u64) -> bool {
        let apart = |each: &UnderWay| {
            let end = each.sector + each.values.len() as u64;
            end <= sector || sector + count <= each.sector
        };
        self.under_way.iter().all(apart)
    }

    /// Makes a request of its choice, if there is room for one.
    pub fn make(&mut self, client: &mut TestClient, data: &DmaMemory, rng: &mut TestRng) {
        if self.under_way.len() == MOST || client.geometry().is_none() {
            return;
        }
        let count = 1 + below(rng, BUFFER);
        let sector = self.first + below(rng, self.allowed.len() as u64 - count + 1);
        let op = match below(rng, 16) {
            0 => Op::Flush,
            1..6 => Op::Read,
            _ => Op::Write,
        };
        if op == Op::Flush {
            self.submit(client, op, 0, 0, 0);
        } else if self.is_free(sector, count)
            && let Some(buffer) = self.buffers.pop()
        {
            if op == Op::Write {
                self.fill(data, buffer, count);
            }
            self.submit(client, op, sector, count, buffer);
        }
    }

    /// Writes new values into a buffer.
    fn fill(&mut self, data: &DmaMemory, buffer: u64, count: u64) {
        for sector in 0..count {
            self.written += 1;
            let first = (buffer * BUFFER + sector) as usize * SECTOR / 8;
            for word in &data.words()[first..first + SECTOR / 8] {
                word.store(self.written, Ordering::Relaxed);
            }
        }
    }

    fn submit(&mut self, client: &mut TestClient, op: Op, sector: u64, count: u64, buffer: u64) {
        // In two segments, where it can be.
        let half = count / 2;
        let start = buffer * BUFFER;
        let segments = match count {
            0 => vec![],
            1 => vec![segment(start, 1)],
            _ => vec![segment(start, half), segment(start + half, count - half)],
        };
        let request = Request { op, sector, sectors: count, segments: &segments };
        let id = client.submit(&request).expect("room");
        let values = (0..count).map(|at| self.written + 1 + at - count).collect();
        self.under_way.push(UnderWay { id, op, buffer, sector, values });
    }

    /// One turn of the client; none if it dies of its fuse in it.
    pub fn turn(
        &mut self,
        client: &mut TestClient,
        outside: &Outside,
        data: &DmaMemory,
        fuse: &Fuse,
    ) -> Option<bool> {
        fuse.watch(|| {
            loop {
                let turn = client.turn(|| outside.peer(), |answer| self.hear(answer, data));
                assert_eq!(turn.wrong, None);
                if turn.ring {
                    outside.server_rung.set(true);
                }
                if client.sleep() {
                    return client.under_way() == 0;
                }
            }
        })
    }

    fn hear(&mut self, Answer { id, result }: Answer, data: &DmaMemory) {
        assert_eq!(result, Ok(()));
        let at = self.under_way.iter().position(|each| each.id == id).expect("an answer to what was asked");
        let done = self.under_way.swap_remove(at);
        self.answers += 1;
        match done.op {
            Op::Write => {
                for (sector, value) in (done.sector..).zip(&done.values) {
                    self.allowed[(sector - self.first) as usize] = vec![*value];
                }
            }
            Op::Read => {
                for (at, sector) in (done.sector..).take(done.values.len()).enumerate() {
                    let first = (done.buffer as usize * BUFFER as usize + at) * SECTOR / 8;
                    let words = &data.words()[first..first + SECTOR / 8];
                    let values: Vec<u64> = words.iter().map(|word| word.load(Ordering::Relaxed)).collect();
                    self.see(sector, &values);
                }
            }
            _ => {}
        }
        if done.op != Op::Flush {
            self.buffers.push(done.buffer);
        }
    }

    /// Sector `sector` was seen to hold `values`.
    fn see(&mut self, sector: u64, values: &[u64]) {
        let value = values[0];
        assert!(values.iter().all(|each| *each == value), "sector {sector} is torn");
        let allowed = &mut self.allowed[(sector - self.first) as usize];
        assert!(allowed.contains(&value), "sector {sector} holds {value:#x}, not one of {allowed:x?}");
        *allowed = vec![value];
    }

    /// The program has died. What it had under way may have been done or not.
    pub fn died(&mut self) {
        for lost in std::mem::take(&mut self.under_way) {
            if lost.op == Op::Write {
                for (sector, value) in (lost.sector..).zip(lost.values) {
                    self.allowed[(sector - self.first) as usize].push(value);
                }
            }
        }
        self.buffers = (0..MOST as u64).collect();
    }

    /// The disk must hold what was written.
    pub fn check(&mut self, medium: &[u8]) {
        assert_eq!(self.under_way.len(), 0);
        for sector in self.first..self.first + self.allowed.len() as u64 {
            let bytes = &medium[sector as usize * SECTOR..][..SECTOR];
            let values: Vec<u64> = bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
            self.see(sector, &values);
        }
    }
}
