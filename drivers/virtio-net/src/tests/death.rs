//! Either side dies at every step there is.

use super::bench::{BUFFERS, Bench, Memory};
use virtio::Dma;

use crate::device::RECEIVE;
use std::sync::atomic::AtomicU64;

use net::client::{Client, Update};
use net::wire::frame::{Frame, Mac};
use net::wire::stream::{Ends, Patience, Stream};

const HERE: Mac = Mac(super::bench::MAC);
const THERE: Mac = Mac([2, 9, 9, 9, 9, 9]);
/// Bytes that a stream passes each way.
const BYTES: usize = 40_000;

fn stream(own: Mac, peer: Mac) -> Stream<Vec<u8>> {
    let patience = Patience { first: 1, most: 1 };
    Stream::new(Ends { own, peer, session: 1 }, patience, vec![0; 4096], vec![0; 4096])
}

fn pattern(salt: u32) -> Vec<u8> {
    (0..BYTES as u32).map(|at| ((at + salt).wrapping_mul(0x9e37_79b9) >> 13) as u8).collect()
}

/// One end of the stream: what it is to write, and has read.
struct End {
    stream: Stream<Vec<u8>>,
    to_write: Vec<u8>,
    written: usize,
    read: Vec<u8>,
}

impl End {
    fn new(own: Mac, peer: Mac, salt: u32) -> End {
        End { stream: stream(own, peer), to_write: pattern(salt), written: 0, read: Vec::new() }
    }

    fn work(&mut self) {
        let mut place = [0; 1500];
        let count = self.stream.read(&mut place);
        self.read.extend(&place[..count]);
        self.written += self.stream.write(&self.to_write[self.written..]);
        if self.written == BYTES {
            self.stream.end();
        }
    }

    fn take(&mut self, frame: &[u8]) {
        // What was sent before the stream may be on the wire, too.
        if let Ok(frame) = Frame::parse(frame) {
            assert!(self.stream.receive(0, &frame));
        }
    }

    fn is_done(&self) -> bool {
        self.stream.is_delivered() && self.stream.is_at_end()
    }
}

/// Passes a stream each way between the client and a machine on the wire, until both have everything. The clock stands
/// still, so no timer expires: whatever is lost is made up for by what the client does at a new server's beginning.
fn pass_streams(bench: &mut Bench) {
    let mut here = End::new(HERE, THERE, 1);
    let mut there = End::new(THERE, HERE, 2);
    let mut room = [0; 1514];
    for _ in 0..2000 {
        if bench.client_step() == Update::Begun {
            here.stream.resume();
        }
        while let Some(frame) = bench.receive() {
            here.take(&frame);
        }
        here.work();
        while let Some(place) = bench.client.room().expect("an honest driver") {
            match here.stream.poll(0, &mut room) {
                Some(length) => {
                    bench.client.copy_in(&place, &room[..length]);
                    bench.client.send(place, length, None);
                }
                None => {
                    bench.client.discard(place);
                    break;
                }
            }
        }
        bench.client_step();
        bench.driver_step();
        bench.device_sends().iter().for_each(|(_, frame)| there.take(frame));
        there.work();
        while let Some(length) = there.stream.poll(0, &mut room) {
            bench.wire.push(room[..length].to_vec());
        }
        bench.wire_arrives();
        if here.is_done() && there.is_done() {
            assert!(here.read == there.to_write && there.read == here.to_write);
            assert_eq!((here.stream.counts().timeouts, there.stream.counts().timeouts), (0, 0));
            return;
        }
    }
    panic!("the streams stand still: {:?} {:?}", here.stream, there.stream);
}

/// All buffers are in use, or can be.
fn no_buffer_is_lost(bench: &mut Bench) {
    for _ in 0..4 {
        bench.client_step();
        bench.driver_step();
        bench.device_sends();
        while bench.receive().is_some() {}
    }
    assert_eq!(core::iter::from_fn(|| bench.client.room().expect("an honest driver")).count(), BUFFERS);
    assert_eq!(core::iter::from_fn(|| bench.device.take(RECEIVE)).count(), BUFFERS);
}

#[test]
fn a_stream_survives_the_driver_s_death_at_every_step() {
    let mut deaths = 0;
    for step in 1.. {
        let memory = Memory::new();
        let mut bench = Bench::new(&memory);
        bench.fuse.set(step);
        pass_streams(&mut bench);
        if bench.driver_life == 1 {
            break;
        }
        assert_eq!(bench.driver_life, 2);
        assert!(bench.device.faults().is_empty());
        no_buffer_is_lost(&mut bench);
        deaths += 1;
    }
    assert!(deaths > 250, "{deaths} steps are too few to be all");
}

#[test]
fn a_stream_survives_a_driver_that_dies_again_and_again() {
    for every in [80, 97, 150] {
        let memory = Memory::new();
        let mut bench = Bench::new(&memory);
        let fuse = bench.fuse.clone();
        bench.fuse.set(every);
        let before = bench.driver_life;
        // Each life is shorter than the work, and longer than a beginning.
        for _ in 0..100 {
            bench.client_step();
            bench.driver_step();
            bench.device_sends();
            bench.send(&[1; 60]);
            if bench.driver.is_none() {
                fuse.set(every);
            }
        }
        assert!(bench.driver_life > before + 1);
        fuse.set(0);
        pass_streams(&mut bench);
        no_buffer_is_lost(&mut bench);
    }
}

#[test]
fn a_dead_client_s_buffers_are_taken_from_the_device_before_the_next_one_comes() {
    for sent in 0..BUFFERS {
        let memory = Memory::new();
        let mut bench = Bench::together(&memory);
        for number in 0..sent as u8 {
            bench.send(&[number; 60]);
        }
        bench.client_step();
        bench.driver_step();
        // It dies with every buffer posted, and frames half sent.
        let held = bench.device.take(RECEIVE).expect("all were posted");
        bench.next_client();
        bench.client_step();
        assert!(!bench.client.is_together(), "not before the driver has looked");
        assert!(bench.driver_step().ring);
        // What the device was about to write is not its any more: it was reset, and runs anew.
        assert!(bench.device.runs());
        assert_eq!(bench.client_step(), Update::Begun);
        bench.driver_step();
        assert!(bench.device_sends().is_empty(), "the dead client's frames are not sent for the new one");
        let posted: Vec<_> = core::iter::from_fn(|| bench.device.take(RECEIVE)).collect();
        assert_eq!(posted.len(), BUFFERS);
        assert!(posted.iter().any(|chain| chain.segments[1] == held.segments[1]));
    }
}

#[test]
fn both_can_die() {
    let memory = Memory::new();
    let mut bench = Bench::together(&memory);
    for round in 0..20 {
        bench.send(&[1; 60]);
        bench.client_step();
        if round % 2 == 0 {
            bench.driver_step();
        }
        bench.bury_driver();
        bench.next_client();
        if round % 3 == 0 {
            bench.client_step();
        }
        bench.meet();
    }
    pass_streams(&mut bench);
    no_buffer_is_lost(&mut bench);
}

#[test]
fn a_device_that_is_another_after_a_reset_ends_the_life() {
    let memory = Memory::new();
    let mut bench = Bench::together(&memory);
    bench.device.set_whims(virtio::fake::Whims { refuses_features: true, ..Default::default() });
    bench.next_client();
    assert!(bench.try_driver_step().is_err());
}

#[test]
fn the_client_that_comes_last_has_the_device() {
    let memory = Memory::new();
    let rings: Vec<_> = memory.rings.iter().map(|_| AtomicU64::new(0)).collect();
    let mut bench = Bench::new(&memory);
    let data = (&memory.arena).allocate(bench.data.bytes()).expect("the arena is large enough");
    bench.other = Some((&rings, data, 0));
    bench.meet();
    bench.send(&[1; 60]);
    bench.client_step();
    // The other one begins, while the first one's buffers are with the device.
    bench.driver_step();
    bench.other = Some((&rings, data, 1));
    let mut other = Client::new(&rings, data.words(), 1).expect("the memory is large enough");
    assert_eq!(other.update(1), Ok(Update::Apart));
    let turn = bench.driver_step();
    assert_eq!(other.update(1), Ok(Update::Begun));
    bench.driver_step();
    assert!(bench.device_sends().is_empty());
    // The first one hears of it, and sees no link from now on, whatever the device says of it.
    let up = |client: &mut Client| client.link().expect("a driver").up;
    assert!(turn.ring && !up(&mut bench.client) && up(&mut other));
    assert!(!bench.look().expect("an honest device").ring);
    assert!(!up(&mut bench.client) && up(&mut other));
    assert!(bench.device_receives([0; 2], &[2; 60]));
    bench.driver_step();
    assert_eq!(bench.receive(), None);
    assert!(other.receive().is_ok_and(|frame| frame.is_some()));
    // It ends, and the first one, which is started again, has the device.
    bench.next_client();
    bench.meet();
    assert!(up(&mut bench.client) && !up(&mut other));
    assert!(bench.device_receives([0; 2], &[3; 60]));
    bench.driver_step();
    assert_eq!(bench.receive(), Some(vec![3; 60]));
    // So it is after the driver's death, too: the dead do not answer.
    bench.bury_driver();
    bench.meet();
    assert!(bench.device_receives([0; 2], &[4; 60]));
    bench.driver_step();
    assert_eq!(bench.receive(), Some(vec![4; 60]));
}
