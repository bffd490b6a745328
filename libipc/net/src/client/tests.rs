//! The client against a server of the test's, which can do what no driver should.

use proptest::prelude::*;
use proto::channel::{SERVER, pairing};
use proto::net::RINGS_BITS;
use ring::index::HEADER_WORDS;

use super::*;

const BUFFERS: usize = 8;
const SOME_MAC: u64 = 0x0605_0403_0202;

struct Memory {
    rings: std::vec::Vec<AtomicU64>,
    data: std::vec::Vec<AtomicU64>,
}

impl Memory {
    fn new() -> Memory {
        let words = |bytes: usize| (0..bytes / 8).map(|_| AtomicU64::new(0)).collect();
        Memory { rings: words(1 << RINGS_BITS), data: words(2 * BUFFERS * BUFFER) }
    }

    fn client(&self) -> Client<'_> {
        Client::new(&self.rings, &self.data, 1).expect("the memory is large enough")
    }

    fn server(&self, life: u32) -> Server<'_> {
        Server::join(&self.rings, &self.data, life)
    }
}

/// The server's sides of the rings.
struct Server<'m> {
    data: Data<'m>,
    rx_free: Consumer<'m, RECORD>,
    rx_done: Producer<'m, RECORD>,
    tx: Consumer<'m, RECORD>,
    tx_done: Producer<'m, RECORD>,
}

impl<'m> Server<'m> {
    /// A server in this life, ready for a client in its first.
    fn join(rings: &'m [AtomicU64], data: &'m [AtomicU64], life: u32) -> Server<'m> {
        for (range, role) in [
            (RX_FREE, RingRole::Consumer),
            (RX_DONE, RingRole::Producer),
            (TX, RingRole::Consumer),
            (TX_DONE, RingRole::Producer),
        ] {
            clear(&rings[range], role);
        }
        rings[MAC].store(SOME_MAC, Ordering::Relaxed);
        rings[MTU].store(1500, Ordering::Relaxed);
        rings[FLAGS].store(LINK_UP | RX_CHECKSUM, Ordering::Relaxed);
        rings[SERVER].store(pairing(1, life), Ordering::Relaxed);
        Server {
            data: Data::new(data),
            rx_free: Consumer::new(&rings[RX_FREE], Begin::New).expect("large enough"),
            rx_done: Producer::new(&rings[RX_DONE], Begin::New).expect("large enough"),
            tx: Consumer::new(&rings[TX], Begin::New).expect("large enough"),
            tx_done: Producer::new(&rings[TX_DONE], Begin::New).expect("large enough"),
        }
    }

    fn posted(&mut self) -> Option<[u64; RECORD]> {
        let record = self.rx_free.pop().expect("an honest client");
        let _ = self.rx_free.publish();
        record
    }

    fn pass_on(&mut self, buffer: &[u64; RECORD], frame: &[u8]) {
        self.data.write(buffer[OFFSET] as usize + HEADROOM, frame);
        self.done([buffer[OFFSET], buffer[LENGTHS] | (frame.len() as u64) << 32, 1, 0]);
    }

    fn done(&mut self, record: [u64; RECORD]) {
        self.rx_done.push(&record).expect("there is room");
        let _ = self.rx_done.publish();
    }

    /// The next frame to send, and its record.
    fn next_to_send(&mut self) -> Option<([u64; RECORD], std::vec::Vec<u8>)> {
        let record = self.tx.pop().expect("an honest client")?;
        let _ = self.tx.publish();
        let mut frame = vec![0; (record[LENGTHS] >> 32) as usize];
        self.data.read(record[OFFSET] as usize + HEADROOM, &mut frame);
        Some((record, frame))
    }

    fn sent(&mut self, record: &[u64; RECORD]) {
        self.tx_done.push(record).expect("there is room");
        let _ = self.tx_done.publish();
    }
}

fn together(memory: &Memory) -> (Client<'_>, Server<'_>) {
    let mut client = memory.client();
    assert_eq!(client.update(0), Ok(Update::Same));
    assert_eq!(client.update(1), Ok(Update::Apart));
    let server = memory.server(1);
    assert_eq!(client.update(1), Ok(Update::Begun));
    (client, server)
}

fn send(client: &mut Client, frame: &[u8]) {
    let room = client.room().expect("an honest server").expect("there is room");
    let length = client.copy_in(&room, frame);
    client.send(room, length, None);
}

fn received(client: &mut Client) -> Option<std::vec::Vec<u8>> {
    let frame = client.receive().expect("an honest server")?;
    let mut place = [0; LONGEST];
    let bytes = client.copy_out(&frame, &mut place).to_vec();
    client.give_back(frame);
    Some(bytes)
}

/// All rooms there are; discards them again.
fn rooms(client: &mut Client) -> usize {
    let rooms: std::vec::Vec<Room> = core::iter::from_fn(|| client.room().ok().flatten()).collect();
    let count = rooms.len();
    rooms.into_iter().for_each(|room| client.discard(room));
    count
}

#[test]
fn frames_go_both_ways_and_buffers_come_back() {
    let memory = Memory::new();
    let (mut client, mut server) = together(&memory);
    for round in 0..100u8 {
        let frame = [round; 60];
        send(&mut client, &frame);
        client.flush().expect("an honest server");
        let (record, sent) = server.next_to_send().expect("it was handed over");
        assert_eq!(sent, frame);
        server.sent(&record);
        let buffer = server.posted().expect("buffers come back");
        server.pass_on(&buffer, &frame);
        assert_eq!(received(&mut client), Some(frame.to_vec()));
        client.flush().expect("an honest server");
    }
    assert_eq!(rooms(&mut client), BUFFERS);
    assert_eq!(core::iter::from_fn(|| server.posted()).count(), BUFFERS);
}

#[test]
fn without_a_copy_it_is_the_same_frame() {
    let memory = Memory::new();
    let (mut client, mut server) = together(&memory);
    let mut room = client.room().expect("an honest server").expect("there is room");
    // SAFETY: this server keeps its hands off.
    let place = unsafe { client.bytes_mut(&mut room) };
    place[..14].copy_from_slice(b"fourteen bytes");
    client.send(room, 14, Some(Checksum { from: 2, to: 6 }));
    client.flush().expect("an honest server");
    let (record, frame) = server.next_to_send().expect("it was handed over");
    assert_eq!((frame.as_slice(), record[CHECKSUM]), (b"fourteen bytes".as_slice(), 6 << 32 | 2));
    let buffer = server.posted().expect("all were posted");
    server.pass_on(&buffer, b"fourteen bytes");
    let frame = client.receive().expect("an honest server").expect("it was passed on");
    assert!(frame.is_checked());
    // SAFETY: this server keeps its hands off.
    assert_eq!(unsafe { client.bytes(&frame) }, b"fourteen bytes");
}

#[test]
fn the_device_is_known_while_its_driver_is_dead() {
    let memory = Memory::new();
    let mut client = memory.client();
    assert_eq!(client.link(), None);
    let (mut client, _server) = together(&memory);
    let link =
        Link { mac: Mac([2, 2, 3, 4, 5, 6]), mtu: 1500, up: true, tx_checksum: false, rx_checksum: true };
    assert_eq!(client.link(), Some(link));
    memory.rings[FLAGS].store(0, Ordering::Relaxed);
    assert_eq!(client.link(), Some(Link { up: false, ..link }));
    assert_eq!(client.update(2), Ok(Update::Apart));
    memory.rings[FLAGS].store(LINK_UP, Ordering::Relaxed);
    assert_eq!(client.link(), Some(Link { up: false, ..link }));
}

#[test]
fn a_new_server_gets_every_buffer_and_unsent_frames_in_their_order() {
    let memory = Memory::new();
    let (mut client, mut server) = together(&memory);
    for number in 0..6u8 {
        send(&mut client, &[number; 20]);
        client.flush().expect("an honest server");
    }
    let (first, _) = server.next_to_send().expect("handed over");
    let (second, _) = server.next_to_send().expect("handed over");
    // The second is done before the first, and its buffer used again: the order is not that of the buffers.
    server.sent(&second);
    let kept = core::iter::from_fn(|| client.room().expect("an honest server")).collect::<std::vec::Vec<_>>();
    kept.into_iter().for_each(|room| client.send(room, 20, None));
    send_waits(&mut client, &mut server);
    server.sent(&first);
    let buffer = server.posted().expect("posted");
    server.pass_on(&buffer, b"published before the death");

    assert_eq!(client.update(2), Ok(Update::Apart));
    assert_eq!(received(&mut client), Some(b"published before the death".to_vec()));
    send(&mut client, &[99; 20]);
    let mut server = memory.server(2);
    assert_eq!(client.update(2), Ok(Update::Begun));
    let sent = core::iter::from_fn(|| server.next_to_send())
        .map(|(_, frame)| frame[0])
        .collect::<std::vec::Vec<_>>();
    assert_eq!(sent[..4], [2, 3, 4, 5]);
    assert_eq!(sent.last(), Some(&99));
    assert_eq!(core::iter::from_fn(|| server.posted()).count(), BUFFERS);
    assert_eq!(client.counts().pairings, 2);
}

/// Hands over what waits, and sees that the server finds it behind what it has.
fn send_waits(client: &mut Client, server: &mut Server) {
    client.flush().expect("an honest server");
    assert!(server.tx.pop().expect("an honest client").is_some());
}

#[test]
fn frames_wait_while_there_is_no_server() {
    let memory = Memory::new();
    let mut client = memory.client();
    for number in 0..BUFFERS as u8 {
        send(&mut client, &[number; 20]);
    }
    assert!(client.room().expect("nobody is wrong").is_none());
    assert_eq!(client.flush(), Ok(false));
    assert_eq!(client.sleep(true), Ok(true));
    assert_eq!(client.update(1), Ok(Update::Apart));
    let mut server = memory.server(1);
    assert_eq!(client.update(1), Ok(Update::Begun));
    assert_eq!(core::iter::from_fn(|| server.next_to_send()).count(), BUFFERS);
}

#[test]
fn it_sleeps_only_when_there_is_nothing_to_do() {
    let memory = Memory::new();
    let (mut client, mut server) = together(&memory);
    assert_eq!(client.sleep(false), Ok(true));
    assert_eq!(client.sleep(true), Ok(false), "there is room");
    let buffer = server.posted().expect("posted");
    server.data.write(buffer[OFFSET] as usize + HEADROOM, &[1; 20]);
    server.rx_done.push(&[buffer[OFFSET], buffer[LENGTHS] | 20 << 32, 0, 0]).expect("there is room");
    assert!(server.rx_done.publish(), "the client asked to be woken");
    assert_eq!(client.sleep(false), Ok(false));
    assert_eq!(received(&mut client), Some(vec![1; 20]));
    assert_eq!(client.sleep(false), Ok(true));
}

/// What the client says when the server passes on these records.
fn verdict(records: &[[u64; RECORD]]) -> Result<usize, Wrong> {
    let memory = Memory::new();
    let (mut client, mut server) = together(&memory);
    records.iter().for_each(|record| server.done(*record));
    let mut count = 0;
    loop {
        match client.receive() {
            Ok(Some(_)) => count += 1,
            Ok(None) => return Ok(count),
            Err(wrong) => {
                assert!(!client.is_together());
                assert_eq!(client.counts().wrong, 1);
                return Err(wrong);
            }
        }
    }
}

#[test]
fn nonsense_about_received_frames_is_found_out() {
    let fine = [BUFFER as u64, BUFFER as u64 | 60 << 32, 0, 0];
    assert_eq!(verdict(&[fine]), Ok(1));
    assert_eq!(verdict(&[fine, fine]), Err(Wrong::Buffer), "twice");
    for offset in [1, 8, (BUFFERS * BUFFER) as u64, u64::MAX, u64::MAX - 7] {
        assert_eq!(verdict(&[[offset, fine[1], 0, 0]]), Err(Wrong::Buffer));
    }
    for length in [0, 13, LONGEST as u64 + 1, u64::from(u32::MAX)] {
        assert_eq!(verdict(&[[0, BUFFER as u64 | length << 32, 0, 0]]), Err(Wrong::Length));
    }
    assert_eq!(verdict(&[[0, 60 << 32, 0, 0]]), Err(Wrong::Length));
    assert_eq!(verdict(&[[0, fine[1], 2, 0]]), Err(Wrong::Record));
}

#[test]
fn nonsense_about_sent_frames_is_found_out() {
    for offset in [0, (BUFFERS * BUFFER) as u64, (2 * BUFFERS * BUFFER) as u64, u64::MAX] {
        let memory = Memory::new();
        let (mut client, mut server) = together(&memory);
        // None was sent from the first of the buffers, and the others are none to send from.
        server.sent(&[offset, 0, 0, 0]);
        let rooms: std::vec::Vec<Room> = core::iter::from_fn(|| client.room().unwrap_or(None)).collect();
        assert_eq!((rooms.len(), client.counts().wrong), (BUFFERS, 1));
    }
}

#[test]
fn a_wrong_server_is_not_used_again_but_its_successor_is() {
    let memory = Memory::new();
    let (mut client, mut server) = together(&memory);
    send(&mut client, &[5; 20]);
    client.flush().expect("nobody is wrong yet");
    server.done([7, 0, 0, 0]);
    assert_eq!(client.receive().map(|_| ()), Err(Wrong::Buffer));
    assert_eq!(client.update(1), Ok(Update::Same), "it is no new life: it is to be reported");
    assert_eq!(client.receive().map(|_| ()), Ok(()));
    assert_eq!(client.update(2), Ok(Update::Apart));
    let mut server = memory.server(2);
    assert_eq!(client.update(2), Ok(Update::Begun));
    assert_eq!(server.next_to_send().map(|(_, frame)| frame), Some(vec![5; 20]));
    assert_eq!(core::iter::from_fn(|| server.posted()).count(), BUFFERS);
}

#[test]
fn memory_too_small_for_a_buffer_each_way_is_refused() {
    let memory = Memory::new();
    let few = &memory.data[..2 * BUFFER / 8 - 1];
    assert!(Client::new(&memory.rings, few, 1).is_err());
    assert!(Client::new(&memory.rings[..TX_DONE.end - 1], &memory.data, 1).is_err());
}

proptest! {
    /// A server that writes anything anywhere, and then one that does not: the client neither panics nor loses a
    /// buffer.
    #[test]
    fn no_server_can_take_buffers_away(
        scribbles in proptest::collection::vec((0usize..TX_DONE.end, any::<u64>(), 0u8..8), 0..200),
    ) {
        let memory = Memory::new();
        let (mut client, _) = together(&memory);
        for (place, value, act) in scribbles {
            // Small values, mostly, in the words that matter: the others are found out at once.
            let index = [RX_DONE.start, TX_DONE.start, RX_FREE.start + 16, TX.start + 16][place % 4];
            match act {
                0 => memory.rings[place].store(value, Ordering::Relaxed),
                1 => memory.rings[index].store(value % 10, Ordering::Relaxed),
                2 | 3 => {
                    let record = if act == 2 { RX_DONE } else { TX_DONE }.start + HEADER_WORDS;
                    let words = &memory.rings[record + place % 16 * RECORD..];
                    words[OFFSET].store(value % 17 * BUFFER as u64, Ordering::Relaxed);
                    words[LENGTHS].store(BUFFER as u64 | 60 << 32, Ordering::Relaxed);
                    words[CHECKSUM].store(0, Ordering::Relaxed);
                }
                4 => if let Ok(Some(room)) = client.room() { client.send(room, 60, None) },
                5 => if let Ok(Some(frame)) = client.receive() { client.give_back(frame) },
                6 => { let _ = client.flush(); }
                _ => { let _ = client.sleep(true); }
            }
        }
        prop_assert_eq!(client.update(2), Ok(Update::Apart));
        while received(&mut client).is_some() {}
        let mut server = memory.server(2);
        prop_assert_eq!(client.update(2), Ok(Update::Begun));
        prop_assert_eq!(core::iter::from_fn(|| server.posted()).count(), BUFFERS);
        while let Some((record, _)) = server.next_to_send() {
            server.sent(&record);
        }
        prop_assert_eq!(rooms(&mut client), BUFFERS);
    }
}
