//! Either side dies at every step there is, and a stream over the line loses and doubles nothing.

use net::wire::frame::{Frame, Mac};
use net::wire::line::{LineReader, most_bytes, write};
use net::wire::stream::{Ends, Patience, Stream};

use super::bench::{Bench, HOST, Memory};

const HERE: Mac = Mac([2, 0, 0, 0, 0, 1]);
const THERE: Mac = Mac([2, 0, 0, 0, 0, 2]);
/// Bytes that the stream passes each way.
const BYTES: usize = 30_000;
/// Bytes of a frame, at most.
const FRAME: usize = 600;

/// One end of a stream over a line.
struct End {
    stream: Stream<Vec<u8>>,
    reader: LineReader<Vec<u8>>,
    to_write: Vec<u8>,
    written: usize,
    read: Vec<u8>,
    /// Bytes that wait for the line.
    waiting: Vec<u8>,
}

impl End {
    fn new(own: Mac, peer: Mac, salt: u32) -> End {
        let patience = Patience { first: 1, most: 1 };
        let ends = Ends { own, peer, session: 1 };
        End {
            stream: Stream::new(ends, patience, vec![0; 4096], vec![0; 4096]),
            reader: LineReader::new(vec![0; most_bytes(FRAME)]),
            to_write: (0..BYTES as u32)
                .map(|at| ((at + salt).wrapping_mul(0x9e37_79b9) >> 13) as u8)
                .collect(),
            written: 0,
            read: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// Takes what came on the line, and makes what goes there. The clock stands still.
    fn work(&mut self, came: &[u8]) {
        for byte in came {
            if let Some(Ok(frame)) = self.reader.push(*byte).map(Frame::parse) {
                self.stream.receive(0, &frame);
            }
        }
        let mut place = [0; 3000];
        let count = self.stream.read(&mut place);
        self.read.extend(&place[..count]);
        self.written += self.stream.write(&self.to_write[self.written..]);
        if self.written == BYTES {
            self.stream.end();
        }
        let (mut frame, mut room) = ([0; FRAME], [0; most_bytes(FRAME)]);
        while let Some(length) = self.stream.poll(0, &mut frame) {
            let length = write(&frame[..length], &mut room).expect("there is room");
            self.waiting.extend(&room[..length]);
        }
    }

    fn is_done(&self) -> bool {
        self.stream.is_delivered() && self.stream.is_at_end()
    }
}

/// Passes a stream each way between the client and the host, until both have everything. The clock stands still, so
/// no timer expires: whatever is lost is made up for by what the client does at a new driver's beginning.
fn pass_streams(bench: &mut Bench) {
    let mut here = End::new(HERE, THERE, 1);
    let mut there = End::new(THERE, HERE, 2);
    for _ in 0..1000 {
        bench.step();
        if std::mem::take(&mut bench.begun[0]) {
            // What waits was made for the rings of a dead driver.
            here.waiting.clear();
            here.stream.resume();
        }
        let came = bench.read(0);
        here.work(&came);
        // Who reads or writes may have met the next driver by that; it has nothing of what waits either.
        let count = bench.write(0, &here.waiting);
        here.waiting.drain(..count);
        let side = &mut bench.qemu.sides[HOST as usize];
        there.work(&std::mem::take(&mut side.from_guest));
        side.to_guest.extend(there.waiting.drain(..));
        if here.is_done() && there.is_done() {
            assert!(here.read == there.to_write && there.read == here.to_write);
            assert_eq!((here.stream.counts().timeouts, there.stream.counts().timeouts), (0, 0));
            return;
        }
    }
    panic!("the streams stand still: {:?} {:?}", here.stream.counts(), there.stream.counts());
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
        assert!(bench.qemu.device.faults().is_empty());
        deaths += 1;
    }
    assert!(deaths > 200, "{deaths} steps are too few to be all");
}

#[test]
fn a_stream_survives_driver_after_driver() {
    for every in 150..156 {
        let memory = Memory::new();
        let mut bench = Bench::new(&memory);
        let fuse = bench.fuse.clone();
        for life in 1..20 {
            fuse.set(every);
            while bench.driver_life == life {
                bench.write(0, b"something");
                bench.step();
            }
        }
        fuse.set(0);
        pass_streams(&mut bench);
    }
}

#[test]
fn a_dead_client_s_bytes_are_not_counted_for_the_next_one() {
    let memory = Memory::new();
    let mut bench = Bench::together(&memory);
    bench.write(0, b"the dead one's");
    bench.clients[0].flush();
    bench.driver_step().expect("an honest device");
    // The device has them, and the client dies.
    bench.next_clients();
    for _ in 0..2 {
        for client in &mut bench.clients {
            client.update(bench.driver_life);
        }
        bench.driver_step().expect("an honest device");
    }
    assert_eq!(bench.write(0, b"the next one's"), 14);
    bench.clients[0].flush();
    bench.driver_step().expect("an honest device");
    bench.meet();
    assert_eq!(bench.qemu.sides[HOST as usize].from_guest, b"the dead one'sthe next one's");
}

#[test]
fn bytes_from_the_host_wait_for_a_client() {
    let memory = Memory::new();
    let mut bench = Bench::together(&memory);
    bench.next_clients();
    bench.qemu.sides[HOST as usize].to_guest.extend([7; 5000]);
    bench.driver_step().expect("an honest device");
    bench.qemu.work();
    bench.driver_step().expect("an honest device");
    bench.meet();
    let mut came = bench.read(0);
    bench.meet();
    came.extend(bench.read(0));
    assert_eq!(came, [7; 5000]);
}
