//! The driver against a line of software that misbehaves, and a client of the stream.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use proto::channel::{CLIENT, HANDSHAKE_WORDS, pairing};
use proto::stream::{BYTES, IN, OUT, RINGS_BITS};
use ring::Begin;
use ring::stream::{Reader, Writer};
use rt::work::{Work, World};
use uart::fake::Fake;
use uart::{FIFO, Gone, Line};

use crate::Port;

/// The life of the client, in all tests but one.
const LIFE: u32 = 4;

/// The world of the driver: which life the client is in, and what was done for it since it was looked at.
#[derive(Debug)]
struct Around {
    life: u32,
    rung: bool,
    reported: bool,
    served: usize,
}

impl World for Around {
    fn life(&self, _: usize) -> u32 {
        self.life
    }

    fn ring(&mut self, _: usize) {
        self.rung = true;
    }

    fn begun(&mut self) {}

    fn served(&mut self) {
        self.served += 1;
    }

    fn report(&mut self, _: usize, _: u64) {
        self.reported = true;
    }
}

/// A turn of the driver, with the client in life `life`: what it did for it.
fn turn_in(port: &mut TestPort, life: u32) -> Result<Around, Gone> {
    let mut around = Around { life, rung: false, reported: false, served: 0 };
    assert!(port.turn(&mut around)?, "it sleeps, and the line interrupts for the rest");
    Ok(around)
}

/// The same of a line that is good.
fn turn(port: &mut TestPort) -> Around {
    turn_in(port, LIFE).expect("a good line")
}

fn memory() -> Vec<AtomicU64> {
    (0..1 << (RINGS_BITS - 3)).map(|_| AtomicU64::new(0)).collect()
}

type TestPort<'m> = Port<'m, Fake, AtomicU64>;

/// A client in life `life` that meets the server's life `server`.
fn meet<'m>(words: &'m [AtomicU64], life: u32, server: u32) -> (Writer<'m>, Reader<'m>) {
    ring::index::clear(&words[OUT], ring::index::Role::Producer);
    ring::index::clear(&words[IN], ring::index::Role::Consumer);
    words[CLIENT].store(pairing(life, server), Ordering::Release);
    let out = Writer::new(&words[OUT], Begin::New).expect("large enough");
    (out, Reader::new(&words[IN], Begin::New).expect("large enough"))
}

fn open<'m>(fake: &Fake, words: &'m [AtomicU64], life: u32) -> TestPort<'m> {
    let line = Line::open(fake.clone()).expect("a good line");
    Port::new(line, words, life).expect("large enough")
}

fn together<'m>(fake: &Fake, words: &'m [AtomicU64]) -> (TestPort<'m>, Writer<'m>, Reader<'m>) {
    let mut port = open(fake, words, 1);
    let (out, input) = meet(words, LIFE, 1);
    assert!(turn(&mut port).rung);
    (port, out, input)
}

fn put(out: &mut Writer, bytes: &[u8]) {
    assert_eq!(out.write(bytes), Ok(bytes.len()));
    let _ = out.publish();
}

fn get(input: &mut Reader) -> Vec<u8> {
    let mut bytes = vec![0; BYTES];
    let count = input.read(&mut bytes).expect("a good ring");
    let _ = input.publish();
    bytes[..count].to_vec()
}

#[test]
fn what_the_line_does_not_take_at_once_follows_by_interrupt_in_order() {
    let (fake, words) = (Fake::default(), memory());
    let (mut port, mut out, _) = together(&fake, &words);
    let bytes: Vec<u8> = (0..100).collect();
    put(&mut out, &bytes);
    assert!(!fake.wants_to_send());
    turn(&mut port);
    assert_eq!(fake.sent(), bytes[..FIFO]);
    while fake.wants_to_send() {
        fake.drain();
        port.interrupt();
        turn(&mut port);
    }
    assert_eq!(fake.sent(), bytes);
}

#[test]
fn what_comes_is_passed_on_and_waits_where_there_is_no_room() {
    let (fake, words) = (Fake::default(), memory());
    let (mut port, _, mut input) = together(&fake, &words);
    let bytes: Vec<u8> = (0..BYTES + 100).map(|at| (at % 251) as u8).collect();
    fake.0.borrow_mut().to_receive.extend(&bytes);
    while turn(&mut port).served > 0 {}
    assert!(!fake.listens(), "there is no room");
    let mut got = get(&mut input);
    assert_eq!(got.len(), BYTES);
    while turn(&mut port).served > 0 {}
    got.extend(get(&mut input));
    assert_eq!(got, bytes);
    assert!(fake.listens());
}

#[test]
fn the_client_is_signalled_when_it_sleeps() {
    let (fake, words) = (Fake::default(), memory());
    let (mut port, mut out, mut input) = together(&fake, &words);
    assert_eq!(input.sleep(), Ok(true));
    fake.0.borrow_mut().to_receive.push_back(7);
    assert!(turn(&mut port).rung);
    assert!(!turn(&mut port).rung);
    put(&mut out, &[0; BYTES]);
    assert_eq!(out.sleep(), Ok(true));
    assert!(turn(&mut port).rung);
}

#[test]
fn a_line_that_never_stops_giving_lets_others_have_their_turn() {
    let (fake, words) = (Fake::default(), memory());
    let (mut port, mut out, _) = together(&fake, &words);
    fake.0.borrow_mut().babbles = true;
    put(&mut out, b"through");
    assert!(turn(&mut port).served < BYTES / FIFO);
    assert_eq!(fake.sent(), b"through");
    assert!(fake.listens(), "and it comes back for the rest");
}

#[test]
fn a_line_that_takes_nothing_holds_up_nobody() {
    let (fake, words) = (Fake::default(), memory());
    let (mut port, mut out, mut input) = together(&fake, &words);
    fake.0.borrow_mut().in_transmitter = 1;
    put(&mut out, b"stuck");
    fake.0.borrow_mut().to_receive.extend(b"goes on");
    turn(&mut port);
    assert_eq!(get(&mut input), b"goes on");
    assert!(fake.sent().is_empty() && fake.wants_to_send());
}

#[test]
fn a_line_that_is_not_there_or_goes_away_is_noticed() {
    let (fake, words) = (Fake::default(), memory());
    fake.0.borrow_mut().gone = true;
    assert_eq!(Line::open(fake.clone()).map(|_| ()), Err(Gone));
    fake.0.borrow_mut().gone = false;
    let (mut port, mut out, _) = together(&fake, &words);
    fake.0.borrow_mut().gone = true;
    put(&mut out, b"x");
    assert_eq!(turn_in(&mut port, LIFE).map(|_| ()), Err(Gone));
}

#[test]
fn a_client_that_writes_nonsense_is_told_of_and_served_again_in_its_next_life() {
    let (fake, words) = (Fake::default(), memory());
    let (mut port, ..) = together(&fake, &words);
    for word in OUT.chain(IN) {
        words[word].store(0x1234_5678_9abc_def0, Ordering::Relaxed);
    }
    assert!(turn(&mut port).reported && fake.sent().is_empty());
    assert!(!turn(&mut port).reported, "it is told once");
    assert!(!fake.listens());
    // In its next life the client resets its words when it knows of the server, and then so does the server.
    assert!(turn_in(&mut port, LIFE + 1).expect("a good line").rung);
    let (mut out, _) = meet(&words, LIFE + 1, 1);
    put(&mut out, b"again");
    turn_in(&mut port, LIFE + 1).expect("a good line");
    assert_eq!(fake.sent(), b"again");
}

#[test]
fn nothing_moves_before_both_sides_are_ready() {
    let (fake, words) = (Fake::default(), memory());
    let mut port = open(&fake, &words, 1);
    for client in [0, LIFE] {
        turn_in(&mut port, client).expect("a good line");
        assert!(!fake.listens());
    }
    words[CLIENT].store(u64::MAX, Ordering::Relaxed);
    assert_eq!(turn(&mut port).served, 0);
    assert!(
        Port::<_, AtomicU64>::new(Line::open(fake).expect("good"), &words[..HANDSHAKE_WORDS], 1).is_none()
    );
}

#[test]
fn a_death_at_any_byte_loses_none_of_the_output_and_doubles_at_most_a_fifo() {
    let bytes: Vec<u8> = (0..100).collect();
    for lives_for in 0..=bytes.len() {
        let (fake, words) = (Fake::default(), memory());
        let (mut port, mut out, _) = together(&fake, &words);
        put(&mut out, &bytes);
        fake.0.borrow_mut().dies_after = Some(lives_for);
        let died = catch_unwind(AssertUnwindSafe(|| send_all(&mut port, &fake))).is_err();
        assert_eq!(died, lives_for < bytes.len());
        let sent = fake.sent().len();
        // What the dead one has said to have taken is true.
        out.sleep().expect("a good ring");
        let Begin::Again { own, seen } = out.position() else { panic!("it has begun") };
        let taken = bytes.len() - (own - seen) as usize;
        assert!(taken <= sent && sent - taken <= FIFO, "{sent} were sent, {taken} are said to be");
        fake.0.borrow_mut().dies_after = None;
        let mut port = open(&fake, &words, 2);
        turn(&mut port);
        let (mut out, _) = meet(&words, LIFE, 2);
        put(&mut out, &bytes[taken..]);
        send_all(&mut port, &fake);
        assert_eq!(fake.sent(), [&bytes[..sent], &bytes[taken..]].concat());
    }
}

fn send_all(port: &mut TestPort, fake: &Fake) {
    while turn(port).served > 0 || fake.wants_to_send() {
        fake.drain();
        port.interrupt();
    }
}

#[test]
fn an_answer_that_comes_at_once_reaches_a_client_of_the_library() {
    let (fake, words) = (Fake::default(), memory());
    let mut port = open(&fake, &words, 1);
    let mut client = stream::Client::new(&words, LIFE).expect("large enough");
    turn(&mut port);
    while client.update(1) != stream::Update::Begun {
        turn(&mut port);
    }
    assert_eq!(client.write(b"hello"), Ok(5));
    assert!(client.flush());
    assert_eq!(client.sleep(false), Ok(true));
    fake.0.borrow_mut().to_receive.extend(b"at once");
    assert!(turn(&mut port).rung);
    let mut bytes = [0; 20];
    assert_eq!(client.write(&[]), Ok(0));
    assert_eq!(client.read(&mut bytes), Ok(7));
    assert_eq!(&bytes[..7], b"at once");
}
