//! Single requests: what they do to the disk, what is refused, and what clients do wrong.

use std::sync::atomic::Ordering;

use block::{Failure, Geometry, Id, Refused, Request};
use proto::block::{COMPLETIONS, MAX_SECTORS, Op, RECORD, SUBMISSIONS, Status, segment};
use ring::records::{Consumer, Producer};
use ring::{Begin, Word};
use rt::work::Work;
use virtio::fake::FakeDevice;

use super::medium::{ALL, FLUSH, RO, SECTOR, SECTORS, config};
use super::rig::{DATA, Memory, Rig, TestClient};
use super::word::FragileWord;
use crate::client::Wrong;

/// A machine with one client that is together with its server.
struct Pair<'m> {
    rig: Rig<'m>,
    client: TestClient<'m>,
}

impl<'m> Pair<'m> {
    fn new(rig: Rig<'m>) -> Pair<'m> {
        let mut rig = rig;
        let client = rig.start_client(0);
        let mut pair = Pair { rig, client };
        for _ in 0..3 {
            pair.turn();
        }
        assert!(pair.client.is_together());
        pair
    }

    /// One turn of everybody; the answers.
    fn turn(&mut self) -> Vec<(Id, Result<(), Failure>)> {
        let mut answers = Vec::new();
        self.rig.serve(0);
        self.rig.medium.finish_all();
        self.rig.serve(0);
        let outside = &self.rig.outside;
        let turn = self.client.turn(|| outside.peer(), |answer| answers.push((answer.id, answer.result)));
        assert_eq!(turn.wrong, None);
        answers
    }

    fn ask(&mut self, op: Op, sector: u64, sectors: u64, segments: &[u64]) -> Result<(), Failure> {
        let id = self.client.submit(&Request { op, sector, sectors, segments }).unwrap();
        for _ in 0..3 {
            if let [(answered, result)] = self.turn()[..] {
                assert_eq!(answered, id);
                return result;
            }
        }
        panic!("no answer");
    }

    fn put(&self, sector: u64, value: u64) {
        let words = &self.rig.data[0].words()[sector as usize * SECTOR / 8..][..SECTOR / 8];
        words.iter().for_each(|word| word.store(value, Ordering::Relaxed));
    }

    fn get(&self, sector: u64) -> u64 {
        self.rig.data[0].words()[sector as usize * SECTOR / 8].load(Ordering::Relaxed)
    }
}

#[test]
fn segments_are_written_and_read_in_their_order() {
    let memory = Memory::new(1);
    let mut pair = Pair::new(Rig::new(&memory));
    (0..3).for_each(|at| pair.put(10 + at, 100 + at));
    assert_eq!(pair.ask(Op::Write, 5, 3, &[segment(12, 1), segment(10, 2)]), Ok(()));
    assert_eq!(pair.rig.medium.sectors[5 * SECTOR], 102);
    assert_eq!(pair.ask(Op::Read, 6, 2, &[segment(30, 1), segment(DATA - 1, 1)]), Ok(()));
    assert_eq!((pair.get(30), pair.get(DATA - 1)), (100, 101));
}

#[test]
fn flush_discard_and_write_zeroes_reach_the_device() {
    let memory = Memory::new(1);
    let mut pair = Pair::new(Rig::new(&memory));
    pair.put(0, 7);
    for sector in [3, 4, 5] {
        assert_eq!(pair.ask(Op::Write, sector, 1, &[segment(0, 1)]), Ok(()));
    }
    assert_eq!(pair.ask(Op::Flush, 0, 0, &[]), Ok(()));
    assert_eq!(pair.rig.medium.flushes, 1);
    assert_eq!(pair.ask(Op::Discard, 3, 1, &[]), Ok(()));
    assert_eq!(pair.ask(Op::WriteZeroes, 5, 1, &[]), Ok(()));
    let held: Vec<u8> = [3, 4, 5].iter().map(|sector| pair.rig.medium.sectors[sector * SECTOR]).collect();
    assert_eq!(held, [0, 7, 0]);
}

#[test]
fn the_client_learns_what_the_device_is() {
    let memory = Memory::new(1);
    let pair = Pair::new(Rig::with(&memory, ALL, &config(SECTORS, 4096, 10, 64)));
    let geometry = Geometry {
        sectors: SECTORS,
        block: 4096,
        read_only: false,
        cache: true,
        discard: true,
        write_zeroes: true,
        most_cleared: 64,
        most_segments: 10,
    };
    assert_eq!(pair.client.geometry(), Some(geometry));
}

#[test]
fn a_device_that_offers_little_is_asked_for_little() {
    let memory = Memory::new(1);
    let mut pair = Pair::new(Rig::with(&memory, FakeDevice::FEATURES | RO, &config(SECTORS, 0, 0, 0)));
    let geometry = pair.client.geometry().unwrap();
    assert!(geometry.read_only && !geometry.cache && !geometry.discard && !geometry.write_zeroes);
    assert_eq!((geometry.block, geometry.most_segments), (512, 1));
    assert_eq!(pair.ask(Op::Read, 0, 1, &[segment(0, 1)]), Ok(()));
    assert_eq!(pair.ask(Op::Write, 0, 1, &[segment(0, 1)]), Err(Failure::ReadOnly));
    assert_eq!(pair.ask(Op::Discard, 0, 1, &[]), Err(Failure::Unsupported));
    assert_eq!(pair.ask(Op::WriteZeroes, 0, 1, &[]), Err(Failure::Unsupported));
    // Without a cache there is nothing to flush.
    assert_eq!(pair.ask(Op::Flush, 0, 0, &[]), Ok(()));
    assert_eq!(pair.rig.medium.flushes, 0);
    let two = Request { op: Op::Read, sector: 0, sectors: 2, segments: &[segment(0, 1), segment(1, 1)] };
    assert_eq!(pair.client.submit(&two), Err(Refused::TooManySegments));
}

#[test]
fn a_device_without_indirect_descriptors_takes_fewer_requests_at_a_time() {
    let memory = Memory::new(1);
    let features = (FakeDevice::FEATURES | FLUSH) & !virtio::Features::INDIRECT_DESC.bits();
    let mut pair = Pair::new(Rig::with(&memory, features, &config(SECTORS, 512, 0, 0)));
    let request = Request { op: Op::Read, sector: 0, sectors: 1, segments: &[segment(0, 1)] };
    (0..256).for_each(|_| _ = pair.client.submit(&request).unwrap());
    assert_eq!(pair.client.submit(&request), Err(Refused::Full));
    let answers: usize = (0..10).map(|_| pair.turn().len()).sum();
    assert_eq!(answers, 256);
}

#[test]
fn an_error_of_the_device_reaches_who_asked() {
    let memory = Memory::new(1);
    let mut pair = Pair::new(Rig::new(&memory));
    pair.rig.medium.bad = Some(9);
    assert_eq!(pair.ask(Op::Read, 8, 2, &[segment(0, 2)]), Err(Failure::Device));
    assert_eq!(pair.ask(Op::Write, 9, 1, &[segment(0, 1)]), Err(Failure::Device));
    assert_eq!(pair.ask(Op::Read, 8, 1, &[segment(0, 1)]), Ok(()));
}

#[test]
fn requests_that_make_no_sense_never_reach_the_device() {
    let memory = Memory::new(1);
    let mut pair = Pair::new(Rig::with(&memory, ALL, &config(SECTORS, 1024, 254, 64)));
    let whole = [segment(0, 2)];
    let cases: &[(Op, u64, u64, &[u64])] = &[
        (Op::Read, 0, 0, &[]),
        (Op::Read, 0, 2, &[]),
        (Op::Read, 0, 2, &[segment(0, 1)]),
        (Op::Read, 0, 2, &[segment(0, 3)]),
        (Op::Read, 0, 2, &[segment(0, 2), segment(0, 0)]),
        (Op::Read, 0, 2, &[segment(DATA - 1, 2)]),
        (Op::Read, 0, 2, &[segment((1 << 44) - 1, 2)]),
        (Op::Read, SECTORS - 1, 2, &whole),
        (Op::Read, SECTORS, 2, &whole),
        (Op::Write, u64::MAX - 1, 2, &whole),
        (Op::Write, u64::MAX, u64::MAX, &whole),
        // Half a block.
        (Op::Write, 1, 2, &whole),
        (Op::Write, 0, 1, &[segment(0, 1)]),
        (Op::Flush, 1, 0, &[]),
        (Op::Flush, 0, 1, &[]),
        (Op::Flush, 0, 0, &whole),
        (Op::Discard, 0, 66, &[]),
        (Op::Discard, 0, 0, &[]),
        (Op::WriteZeroes, 0, 2, &whole),
        (Op::WriteZeroes, SECTORS, 2, &[]),
    ];
    for (op, sector, sectors, segments) in cases {
        let answer = pair.ask(*op, *sector, *sectors, segments);
        assert_eq!(answer, Err(Failure::Invalid), "{op:?} {sector} {sectors} {segments:?}");
    }
    assert_eq!(pair.ask(Op::Read, 0, 2, &whole), Ok(()));
}

#[test]
fn a_device_that_grows_has_more_sectors() {
    let memory = Memory::new(1);
    let mut pair = Pair::new(Rig::with(&memory, ALL, &config(SECTORS / 2, 512, 254, 64)));
    let last = SECTORS - 1;
    assert_eq!(pair.ask(Op::Read, last, 1, &[segment(0, 1)]), Err(Failure::Invalid));
    pair.rig.medium.device.set_config(&config(SECTORS, 512, 254, 64));
    assert_eq!(pair.rig.medium.device.interrupts() & 1, 1);
    let server = pair.rig.server.as_mut().unwrap();
    server.rung(u64::MAX, &mut &pair.rig.outside).unwrap();
    assert_eq!(pair.ask(Op::Read, last, 1, &[segment(0, 1)]), Ok(()));
    assert_eq!(pair.client.geometry().unwrap().sectors, SECTORS);
}

/// A client of its own making.
fn hostile<'m>(rig: &mut Rig<'m>) -> (Producer<'m, RECORD, FragileWord>, Consumer<'m, 2, FragileWord>) {
    let mut client = rig.start_client(0);
    for _ in 0..3 {
        rig.serve(0);
        let _ = client.turn(|| rig.outside.peer(), |_| {});
    }
    assert!(client.is_together());
    let submissions = Producer::new(&rig.rings(0)[SUBMISSIONS], Begin::New).unwrap();
    let completions = Consumer::new(&rig.rings(0)[COMPLETIONS], Begin::New).unwrap();
    (submissions, completions)
}

fn record(id: u64, what: u64, sector: u64, sectors: u64, segments: &[u64]) -> [u64; RECORD] {
    let mut record = [0; RECORD];
    record[..4].copy_from_slice(&[id, what, sector, sectors]);
    record[4..4 + segments.len()].copy_from_slice(segments);
    record
}

#[test]
fn records_of_nonsense_are_answered_and_do_no_harm() {
    let memory = Memory::new(1);
    let mut rig = Rig::new(&memory);
    let (mut submissions, mut completions) = hostile(&mut rig);
    let full: Vec<u64> = (0..28).map(|_| segment(0, (1 << 20) - 1)).collect();
    let cases = [
        (record(1, 5, 0, 0, &[]), Status::Unsupported),
        (record(2, u64::MAX, 0, 0, &[]), Status::Unsupported),
        (record(3, 29 << 32, 0, 29, &full), Status::Invalid),
        (record(4, u64::from(u32::MAX) << 32, 0, 1, &full), Status::Invalid),
        (record(5, 28 << 32, 0, MAX_SECTORS + 1, &full), Status::Invalid),
        (record(1, 1 << 32, 0, 1, &[u64::MAX]), Status::Invalid),
        (record(6, 1 << 32, 0, 1, &[segment(0, 1)]), Status::Ok),
    ];
    for (record, status) in cases {
        submissions.push(&record).unwrap();
        let _ = submissions.publish();
        rig.serve(0);
        rig.medium.finish_all();
        rig.serve(0);
        assert_eq!(completions.pop(), Ok(Some([record[0], status as u64])));
    }
    assert_eq!(*rig.outside.reports.borrow(), []);
}

#[test]
fn a_client_with_impossible_indexes_is_reported_and_the_others_are_served() {
    for index in [257, 1 << 40, u64::MAX] {
        let memory = Memory::new(2);
        let mut rig = Rig::new(&memory);
        let _ = hostile(&mut rig);
        rig.rings(0)[SUBMISSIONS.start].write(index);
        rig.serve(0);
        assert_eq!(*rig.outside.reports.borrow(), [(0, Wrong::Index as u64)]);
        let mut other = rig.start_client(1);
        let mut answers = 0;
        other.submit(&Request { op: Op::Flush, sector: 0, sectors: 0, segments: &[] }).unwrap();
        for _ in 0..4 {
            rig.serve(0);
            rig.medium.finish_all();
            rig.serve(0);
            let _ = other.turn(|| rig.outside.peer(), |_| answers += 1);
        }
        assert_eq!((answers, rig.outside.reports.borrow().len()), (1, 1));
        // Its next life begins anew.
        let _ = hostile(&mut rig);
        assert_eq!(rig.outside.reports.borrow().len(), 1);
    }
}

#[test]
fn a_client_that_takes_no_answers_is_reported() {
    let memory = Memory::new(1);
    let mut rig = Rig::new(&memory);
    let (mut submissions, _) = hostile(&mut rig);
    for _ in 0..300 {
        if submissions.push(&record(1, 77, 0, 0, &[])).is_ok() {
            let _ = submissions.publish();
        }
        rig.serve(0);
    }
    assert_eq!(*rig.outside.reports.borrow(), [(0, Wrong::TooMany as u64)]);
}

#[test]
fn requests_of_a_dead_client_leave_the_device_before_the_next_life_begins() {
    let memory = Memory::new(1);
    let mut pair = Pair::new(Rig::new(&memory));
    pair.put(0, 5);
    pair.client
        .submit(&Request { op: Op::Write, sector: 0, sectors: 1, segments: &[segment(0, 1)] })
        .unwrap();
    let _ = pair.client.turn(|| pair.rig.outside.peer(), |_| {});
    pair.rig.serve(0);
    pair.rig.medium.take();
    assert_eq!(pair.rig.medium.pending.len(), 1);
    let mut next = pair.rig.start_client(0);
    for _ in 0..3 {
        pair.rig.serve(0);
        let _ = next.turn(|| pair.rig.outside.peer(), |_| panic!("an answer to nothing"));
        assert!(!next.is_together(), "the device still reads the old life's data");
        assert_eq!(next.geometry(), None);
    }
    pair.rig.medium.finish(0);
    for _ in 0..2 {
        pair.rig.serve(0);
        let _ = next.turn(|| pair.rig.outside.peer(), |_| panic!("an answer to nothing"));
    }
    assert!(next.is_together());
}

#[test]
fn who_joins_rings_the_other() {
    let memory = Memory::new(1);
    let mut rig = Rig::new(&memory);
    let mut client = rig.start_client(0);
    rig.outside.server.set(1);
    assert!(client.turn(|| rig.outside.peer(), |_| {}).ring);
    rig.client_wakes(0);
    rig.serve(0);
    assert!(rig.client_wakes(0), "the client waits for the server to join");
    let _ = client.turn(|| rig.outside.peer(), |_| {});
    assert!(client.is_together());
    // The other way round.
    let mut client = rig.start_client(0);
    rig.serve(0);
    assert!(client.turn(|| rig.outside.peer(), |_| {}).ring);
    assert!(client.is_together());
}
