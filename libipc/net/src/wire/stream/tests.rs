//! Two sides with a wire between them that does to frames what wires and restarted drivers do.

use proptest::prelude::*;

use super::*;

const HERE: Mac = Mac([2, 0, 0, 0, 0, 1]);
const THERE: Mac = Mac([2, 0, 0, 0, 0, 2]);
const PATIENCE: Patience = Patience { first: 50, most: 400 };

type Side = Stream<Vec<u8>>;

fn side(own: Mac, peer: Mac, memory: usize) -> Side {
    Stream::new(Ends { own, peer, session: 9 }, PATIENCE, vec![0; memory], vec![0; memory])
}

/// Two sides that know of each other what they have room for.
fn sides(memory: usize) -> [Side; 2] {
    let mut sides = [side(HERE, THERE, memory), side(THERE, HERE, memory)];
    for _ in 0..2 {
        exchange(&mut sides, 0);
    }
    sides
}

/// Each side's frames arrive at the other.
fn exchange(sides: &mut [Side; 2], now: u64) {
    for at in 0..2 {
        frames(&mut sides[at], now).iter().for_each(|frame| deliver(&mut sides[1 - at], now, frame));
    }
}

/// Bytes that no shift of themselves looks like.
fn pattern(length: usize, salt: u32) -> Vec<u8> {
    (0..length as u32).map(|at| ((at + salt).wrapping_mul(0x9e37_79b9) >> 13) as u8).collect()
}

/// What one side still has to write, and what it has read.
struct Program {
    to_write: Vec<u8>,
    written: usize,
    read: Vec<u8>,
}

impl Program {
    fn new(to_write: Vec<u8>) -> Program {
        Program { to_write, written: 0, read: Vec::new() }
    }

    /// Reads at most `most` bytes, writes what fits, and ends the stream behind that.
    fn step(&mut self, side: &mut Side, most: usize) {
        let mut place = vec![0; most];
        let count = side.read(&mut place);
        self.read.extend(&place[..count]);
        self.written += side.write(&self.to_write[self.written..]);
        if self.written == self.to_write.len() {
            side.end();
        }
    }
}

fn frames(side: &mut Side, now: u64) -> Vec<Vec<u8>> {
    let mut room = [0; 300];
    core::iter::from_fn(|| side.poll(now, &mut room).map(|length| room[..length].to_vec()))
        .take(1000)
        .collect()
}

fn deliver(side: &mut Side, now: u64, frame: &[u8]) {
    if let Ok(frame) = Frame::parse(frame) {
        assert!(side.receive(now, &frame));
    }
}

/// What the wire does, as chance (xorshift; Marsaglia 2003) has it.
struct Wire {
    chance: u64,
    /// Out of 100 frames.
    lost: u64,
    doubled: u64,
    damaged: u64,
    /// A frame arrives after one to so many ticks: those behind it can overtake it.
    slowest: u64,
    /// When it arrives, where, and what.
    under_way: Vec<(u64, usize, Vec<u8>)>,
}

impl Wire {
    fn below(&mut self, limit: u64) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance % limit
    }

    fn carry(&mut self, now: u64, to: usize, mut frame: Vec<u8>) {
        if self.below(100) < self.lost {
            return;
        }
        if self.below(100) < self.damaged {
            let at = self.below(frame.len() as u64 - 14) as usize + 14;
            frame[at] ^= 0x10;
        }
        let copies = if self.below(100) < self.doubled { 2 } else { 1 };
        for _ in 0..copies {
            let arrives = now + 1 + self.below(self.slowest);
            self.under_way.push((arrives, to, frame.clone()));
        }
    }

    fn arrived(&mut self, now: u64) -> Vec<(u64, usize, Vec<u8>)> {
        self.under_way.extract_if(.., |each| each.0 <= now).collect()
    }
}

/// Lets two sides talk until both have everything; gives how many ticks it took.
fn talk(sides: &mut [Side; 2], programs: &mut [Program; 2], wire: &mut Wire, reads: usize) -> u64 {
    for now in 0..1_000_000 {
        for (_, to, frame) in wire.arrived(now) {
            deliver(&mut sides[to], now, &frame);
        }
        for at in 0..2 {
            programs[at].step(&mut sides[at], reads);
            for frame in frames(&mut sides[at], now) {
                wire.carry(now, 1 - at, frame);
            }
        }
        if sides.iter().all(|side| side.is_delivered() && side.is_at_end()) {
            return now;
        }
    }
    panic!("the two never finish: {sides:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn everything_arrives_once_and_in_order(
        chance in 1u64..,
        lost in 0u64..40,
        doubled in 0u64..40,
        damaged in 0u64..20,
        slowest in 1u64..40,
        memory in 1usize..3000,
        reads in 1usize..2000,
        lengths in (0usize..4000, 0usize..4000),
    ) {
        let mut wire = Wire { chance, lost, doubled, damaged, slowest, under_way: Vec::new() };
        let mut sides = [side(HERE, THERE, memory), side(THERE, HERE, memory)];
        let mut programs = [Program::new(pattern(lengths.0, 1)), Program::new(pattern(lengths.1, 77))];
        talk(&mut sides, &mut programs, &mut wire, reads);
        prop_assert!(programs[0].read == programs[1].to_write);
        prop_assert!(programs[1].read == programs[0].to_write);
        prop_assert_eq!(sides[0].counts().nonsense + sides[1].counts().nonsense, 0);
    }

    #[test]
    fn any_header_is_taken_without_a_panic(
        headers in proptest::collection::vec(
            (any::<u8>(), any::<u64>(), any::<u64>(), any::<u32>(), 0usize..100), 1..40),
        small in any::<bool>(),
    ) {
        let mut side = side(HERE, THERE, 64);
        for (flags, number, acknowledged, window, length) in headers {
            let (number, acknowledged) = if small { (number % 128, acknowledged % 128) } else { (number, acknowledged) };
            let header = Header {
                to: HERE, from: THERE, kind: Kind::Stream, flags, session: 9, number, acknowledged, window,
            };
            side.write(b"some bytes");
            let taken = side.receive(0, &Frame { header, payload: &vec![7; length] });
            prop_assert!(taken);
            let mut place = [0; 30];
            side.read(&mut place);
            frames(&mut side, 0);
        }
    }
}

#[test]
fn without_loss_nothing_is_sent_twice_and_no_timer_expires() {
    let mut wire = Wire { chance: 5, lost: 0, doubled: 0, damaged: 0, slowest: 1, under_way: Vec::new() };
    let mut sides = sides(1000);
    let mut programs = [Program::new(pattern(50_000, 1)), Program::new(pattern(30_000, 2))];
    talk(&mut sides, &mut programs, &mut wire, 1000);
    assert_eq!(programs[1].read, programs[0].to_write);
    for side in &sides {
        assert_eq!(side.counts(), Counts::default());
    }
}

/// Fills the wire from the first side, loses all of it, and gives the two.
fn after_a_loss() -> [Side; 2] {
    let mut sides = sides(2000);
    sides[0].write(&pattern(1000, 3));
    sides[1].write(&pattern(500, 4));
    assert!(frames(&mut sides[0], 0).len() > 1);
    assert!(frames(&mut sides[1], 0).len() > 1);
    sides
}

#[test]
fn who_knows_of_a_loss_recovers_both_ways_without_the_timer() {
    let mut sides = after_a_loss();
    sides[0].resume();
    for _ in 0..3 {
        exchange(&mut sides, 1);
    }
    let [mut here, mut there] = sides;
    let mut place = [0; 2000];
    assert_eq!(there.read(&mut place), 1000);
    assert_eq!(place[..1000], pattern(1000, 3));
    assert_eq!(here.read(&mut place), 500);
    assert_eq!((here.counts().timeouts, there.counts().timeouts), (0, 0));
}

#[test]
fn who_does_not_know_of_it_waits_for_the_timer_twice_as_long_each_time() {
    let [mut here, _] = after_a_loss();
    for expected in [50, 150, 350, 750, 1150] {
        assert_eq!(here.deadline(), Some(expected));
        assert!(frames(&mut here, expected - 1).is_empty());
        assert!(!frames(&mut here, expected).is_empty());
    }
}

#[test]
fn a_gap_makes_the_sender_go_back_once() {
    let [mut here, mut there] = sides(2000);
    here.write(&pattern(1000, 3));
    let sent = frames(&mut here, 0);
    sent[1..].iter().for_each(|frame| deliver(&mut there, 0, frame));
    let said = frames(&mut there, 0);
    assert_eq!(said.len(), 1);
    deliver(&mut here, 0, &said[0]);
    assert_eq!(frames(&mut here, 0).len(), sent.len());
    deliver(&mut here, 0, &said[0]);
    assert!(frames(&mut here, 0).is_empty());
}

#[test]
fn a_window_that_opens_unheard_is_asked_for() {
    let mut sides = sides(600);
    sides[0].write(&pattern(600, 3));
    exchange(&mut sides, 0);
    let [mut here, mut there] = sides;
    here.write(b"more");
    assert!(frames(&mut here, 1).is_empty(), "the window is closed");
    assert_eq!(there.read(&mut [0; 600]), 600);
    assert_eq!(frames(&mut there, 2).len(), 1, "the news of the window, which is lost");
    let asked = frames(&mut here, 51);
    assert_eq!(asked.len(), 1);
    deliver(&mut there, 51, &asked[0]);
    let mut sides = [there, here];
    exchange(&mut sides, 51);
    let mut place = [0; 10];
    assert_eq!(sides[0].read(&mut place), 4);
    assert_eq!(&place[..4], b"more");
}

#[test]
fn what_was_never_sent_cannot_be_acknowledged() {
    let [mut here, mut there] = sides(600);
    there.write(b"hello");
    frames(&mut there, 0);
    let header = Header {
        to: HERE,
        from: THERE,
        kind: Kind::Stream,
        flags: 0,
        session: 9,
        number: 0,
        acknowledged: 1,
        window: 9,
    };
    assert!(here.receive(0, &Frame { header, payload: &[] }));
    assert_eq!(here.counts().nonsense, 1);
    assert!(!here.receive(0, &Frame { header: Header { session: 8, ..header }, payload: &[] }));
    assert!(!here.receive(0, &Frame { header: Header { from: HERE, ..header }, payload: &[] }));
}
