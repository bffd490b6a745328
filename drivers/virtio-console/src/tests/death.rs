//! Either side dies at every step there is, and a stream over the line loses and doubles nothing.

use net::wire::link::{Link, Side};
use net::wire::stream::Patience;

use super::bench::{Bench, HOST, Memory};

/// Bytes that the stream passes each way.
const BYTES: usize = 30_000;

/// One end of a link, and who uses it.
struct End {
    link: Link<Vec<u8>>,
    to_write: Vec<u8>,
    written: usize,
    read: Vec<u8>,
}

impl End {
    fn new(side: Side, salt: u32) -> End {
        End {
            link: Link::new(side, Patience { first: 1, most: 1 }, vec![0; 4096], vec![0; 4096]),
            to_write: (0..BYTES as u32)
                .map(|at| ((at + salt).wrapping_mul(0x9e37_79b9) >> 13) as u8)
                .collect(),
            written: 0,
            read: Vec::new(),
        }
    }

    /// Takes what came on the line, reads, and writes on. The clock stands still.
    fn work(&mut self, came: &[u8]) {
        self.link.arrived(0, came);
        let mut place = [0; 3000];
        let count = self.link.stream().read(&mut place);
        self.read.extend(&place[..count]);
        self.written += self.link.stream().write(&self.to_write[self.written..]);
        if self.written == BYTES {
            self.link.stream().end();
        }
    }

    /// Puts on the line what there is to send, as far as that takes it.
    fn send(&mut self, mut line: impl FnMut(&[u8]) -> usize) {
        while let bytes @ [_, ..] = self.link.to_send(0) {
            let count = line(bytes);
            self.link.sent(count);
            if count == 0 {
                return;
            }
        }
    }

    fn is_done(&mut self) -> bool {
        let stream = self.link.stream();
        stream.is_delivered() && stream.is_at_end()
    }
}

/// Passes a stream each way between the client and the host, until both have everything. The clock stands still, so
/// no timer expires: whatever is lost is made up for by what the client does at a new driver's beginning.
fn pass_streams(bench: &mut Bench) {
    let mut here = End::new(Side::Guest, 1);
    let mut there = End::new(Side::Host, 2);
    for _ in 0..1000 {
        bench.step();
        if std::mem::take(&mut bench.begun[0]) {
            here.link.resume();
        }
        let came = bench.read(0);
        here.work(&came);
        // Who reads or writes may have met the next driver by that; it has nothing of what was sent before.
        here.send(|bytes| bench.write(0, bytes));
        let side = &mut bench.qemu.sides[HOST as usize];
        there.work(&std::mem::take(&mut side.from_guest));
        there.send(|bytes| {
            side.to_guest.extend(bytes);
            bytes.len()
        });
        if here.is_done() && there.is_done() {
            assert!(here.read == there.to_write && there.read == here.to_write);
            let timeouts = [&mut here, &mut there].map(|end| end.link.stream().counts().timeouts);
            assert_eq!(timeouts, [0, 0]);
            return;
        }
    }
    panic!("the streams stand still: {:?} {:?}", here.link, there.link);
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
