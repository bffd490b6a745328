use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use proto::block::{ANSWER, COMPLETIONS, RECORD, RINGS_BITS, SEGMENTS, SUBMISSIONS, Status, segment_parts};
use proto::channel::{PROPERTIES, SERVER, pairing};
use ring::Begin;
use ring::records::{Consumer, Producer};

use super::*;
use channel::Wrong;

const SECTORS: usize = 1024;
/// Of the data.
const ROOM: usize = 300;

/// A server with a disk, which works when its client sleeps.
struct Server<'m> {
    memory: &'m [AtomicU64],
    data: Data<'m>,
    rings: Option<(Consumer<'m, RECORD>, Producer<'m, ANSWER>)>,
    disk: Vec<u8>,
    bad: usize,
    flushes: usize,
    /// The longest queue it has seen.
    depth: usize,
}

impl World for Server<'_> {
    fn server(&self) -> channel::Server {
        channel::Server { life: 1, faults: 0 }
    }

    fn ring(&mut self) {}

    fn report(&mut self, wrong: Wrong) {
        panic!("{wrong:?}");
    }

    fn sleep(&mut self, _: Option<u64>) {
        let Some((submissions, completions)) = &mut self.rings else {
            for (word, value) in self.memory[PROPERTIES..].iter().zip([SECTORS as u64, 14, 512, 100, 28]) {
                word.store(value, Ordering::Relaxed);
            }
            self.memory[SERVER].store(pairing(1, 1), Ordering::Release);
            let submissions = Consumer::new(&self.memory[SUBMISSIONS], Begin::New).unwrap();
            let completions = Producer::new(&self.memory[COMPLETIONS], Begin::New).unwrap();
            self.rings = Some((submissions, completions));
            return;
        };
        let mut queue: VecDeque<_> = std::iter::from_fn(|| submissions.pop().unwrap()).collect();
        let _ = submissions.publish();
        self.depth = self.depth.max(queue.len());
        // The last first, as devices may.
        while let Some(record) = queue.pop_back() {
            let [id, what, sector, sectors, ..] = record;
            let end = sector.saturating_add(sectors).saturating_mul(512);
            let bytes = sector.saturating_mul(512) as usize..end as usize;
            let (offset, _) = segment_parts(record[SEGMENTS]);
            let status = match Op::from_word(what as u32).unwrap() {
                Op::Flush => {
                    self.flushes += 1;
                    Status::Ok
                }
                _ if bytes.end > self.disk.len() => Status::Invalid,
                _ if bytes.contains(&(self.bad * 512)) => Status::DeviceError,
                Op::Read => {
                    self.data.write(offset, &self.disk[bytes]);
                    Status::Ok
                }
                Op::Write => {
                    self.data.read(offset, &mut self.disk[bytes]);
                    Status::Ok
                }
                Op::Discard | Op::WriteZeroes => {
                    assert!(sectors <= 100);
                    self.disk[bytes].fill(0);
                    Status::Ok
                }
            };
            completions.push(&[id, status as u64]).unwrap();
        }
        let _ = completions.publish();
    }
}

fn with_disk(test: impl FnOnce(&mut Blocking<AtomicU64, Server>)) {
    let words = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
    let (memory, data) = (words((1 << RINGS_BITS) / 8), words(ROOM * 64));
    let client = Client::new(&memory[..], 1).unwrap();
    let data = Data::new(&data);
    let disk = vec![0; SECTORS * 512];
    let server = Server { memory: &memory, data, rings: None, disk, bad: SECTORS, flushes: 0, depth: 0 };
    test(&mut Blocking::new(client, server, data));
}

fn bytes(sectors: usize) -> Vec<u8> {
    (0..sectors * 512).map(|at| (at / 512 * 31 + at) as u8).collect()
}

#[test]
fn what_was_written_is_read_whatever_its_size() {
    for (sector, sectors) in [(0, 1), (5, 128), (1, 129), (700, ROOM), (9, 2 * ROOM + 7), (0, SECTORS)] {
        with_disk(|disk| {
            disk.write(sector as u64, &bytes(sectors)).unwrap();
            assert_eq!(disk.world.disk[sector * 512..][..sectors * 512], bytes(sectors));
            let mut read = vec![0; sectors * 512];
            disk.read(sector as u64, &mut read).unwrap();
            assert!(read == bytes(sectors));
        });
    }
}

#[test]
fn the_pieces_of_a_transfer_are_under_way_together() {
    with_disk(|disk| {
        disk.write(0, &bytes(ROOM)).unwrap();
        assert_eq!(disk.world.depth, 3);
    });
}

#[test]
fn flush_discard_and_write_zeroes_get_there() {
    with_disk(|disk| {
        disk.write(0, &bytes(500)).unwrap();
        disk.flush().unwrap();
        assert_eq!(disk.world.flushes, 1);
        disk.discard(1, 250).unwrap();
        disk.write_zeroes(300, 101).unwrap();
        let mut expected = bytes(500);
        expected[512..251 * 512].fill(0);
        expected[300 * 512..401 * 512].fill(0);
        assert!(disk.world.disk[..500 * 512] == expected);
        assert_eq!(disk.geometry().most_cleared, 100);
    });
}

#[test]
fn failures_are_told_and_what_comes_next_goes_on() {
    with_disk(|disk| {
        disk.world.bad = 290;
        assert_eq!(disk.read(0, &mut bytes(ROOM)), Err(Failure::Device));
        assert_eq!(disk.write(SECTORS as u64 - 1, &bytes(2)), Err(Failure::Invalid));
        assert_eq!(disk.write(u64::MAX, &bytes(1)), Err(Failure::Invalid));
        assert_eq!(disk.read(0, &mut [0; 100]), Err(Failure::Invalid));
        assert_eq!(disk.read(0, &mut bytes(1)), Ok(()));
    });
}
