//! Frames between a client and a device, both as they should be.

use super::bench::{BUFFERS, Bench, CONFIG, MAC, Memory};
use crate::device::{HEADER, Offer, RECEIVE, TRANSMIT};
use net::client::{Checksum, Link};
use net::wire::frame::Mac;
use virtio::fake::FakeDevice;

#[test]
fn frames_go_both_ways() {
    let memory = Memory::new();
    let mut bench = Bench::together(&memory);
    for round in 0..200u8 {
        let frame = vec![round; 14 + 5 * usize::from(round)];
        assert!(bench.send(&frame));
        bench.client_step();
        bench.driver_step();
        assert_eq!(bench.device_sends(), [([0; 3], frame.clone())]);
        assert!(bench.device_receives([0; 2], &frame));
        bench.driver_step();
        assert_eq!(bench.receive(), Some(frame));
        assert_eq!(bench.receive(), None);
    }
    let counts = bench.driver.expect("it lives").counts();
    assert_eq!((counts.sent, counts.received, counts.refused), (200, 200, 0));
}

#[test]
fn it_works_without_any_feature() {
    let memory = Memory::new();
    let version_1 = virtio::Features::VERSION_1.bits();
    let mut bench = Bench::offering(&memory, version_1);
    bench.meet();
    assert_eq!(bench.device.accepted(), version_1);
    let link = bench.client.link().expect("they are together");
    let substitute = Mac([2, 0, 0, 0, 0, 0]);
    assert_eq!((link.mac, link.mtu, link.up, link.tx_checksum), (substitute, 1500, true, false));
    for round in 0..200u8 {
        assert!(bench.send(&[round; 60]));
        bench.client_step();
        bench.driver_step();
        assert_eq!(bench.device_sends().len(), 1);
        assert!(bench.device_receives([1, 0], &[round; 60]));
        bench.driver_step();
        let frame = bench.client.receive().expect("an honest driver").expect("one has arrived");
        assert!(!frame.is_checked(), "nobody has offered that");
        bench.client.give_back(frame);
    }
}

#[test]
fn a_batch_costs_each_side_one_notification() {
    let memory = Memory::new();
    let mut bench = Bench::together(&memory);
    assert_eq!(bench.device.take(RECEIVE).map(|chain| chain.room()), Some(HEADER + 2032));
    // The first of all is rung for in any case.
    bench.send(&[1; 60]);
    bench.client_step();
    bench.driver_step();
    bench.device_sends();
    bench.driver_step();
    let kicks = |bench: &Bench| (bench.device.kicks(RECEIVE), bench.device.kicks(TRANSMIT));
    let before = kicks(&bench);
    assert!(bench.client.sleep(false).expect("an honest driver"));
    for number in 0..BUFFERS as u8 {
        assert!(bench.send(&[number; 60]));
    }
    assert_eq!(bench.client.flush(), Ok(true), "the driver sleeps");
    bench.driver_step();
    assert_eq!(kicks(&bench), (before.0, before.1 + 1));
    assert_eq!(bench.device_sends().len(), BUFFERS);
    assert!(!bench.driver_step().ring, "the client does not wait for room");
}

#[test]
fn the_client_is_rung_once_when_it_waits() {
    let memory = Memory::new();
    let mut bench = Bench::together(&memory);
    assert!(bench.client.sleep(false).expect("an honest driver"));
    for number in 0..BUFFERS as u8 {
        assert!(bench.device_receives([0; 2], &[number; 60]));
    }
    assert!(bench.driver_step().ring);
    assert!(!bench.driver_step().ring);
    assert!(!bench.client.sleep(false).expect("an honest driver"));
    for number in 0..BUFFERS as u8 {
        assert_eq!(bench.receive(), Some(vec![number; 60]));
    }
}

#[test]
fn interrupts_come_on_the_vectors_of_their_queues() {
    let memory = Memory::new();
    let mut bench = Bench::together(&memory);
    bench.device.interrupts();
    bench.send(&[1; 60]);
    bench.client_step();
    bench.driver_step();
    assert_eq!(bench.device.interrupts(), 0);
    bench.device_sends();
    assert_eq!(bench.device.interrupts(), 1 << 1);
    bench.driver_step();
    bench.device_receives([0; 2], &[1; 60]);
    assert_eq!(bench.device.interrupts(), 1 << 0);
    bench.device.set_config(&CONFIG);
    assert_eq!(bench.device.interrupts(), 1 << 2);
}

#[test]
fn the_client_knows_what_the_device_is() {
    let memory = Memory::new();
    let mut bench = Bench::together(&memory);
    let up = Link { mac: Mac(MAC), mtu: 1500, up: true, tx_checksum: true, rx_checksum: true };
    assert_eq!(bench.client.link(), Some(up));
    let mut unplugged = CONFIG;
    unplugged[6] = 0;
    bench.device.set_config(&unplugged);
    let mut driver = bench.driver.take().expect("it lives");
    assert_eq!(driver.look(), Ok(true));
    assert_eq!(bench.client.link(), Some(Link { up: false, ..up }));
    assert_eq!(driver.look(), Ok(false));
}

#[test]
fn frames_larger_than_buffers_are_not_agreed_to() {
    let memory = Memory::new();
    let mut bench = Bench::new(&memory);
    let mut jumbo = CONFIG;
    [jumbo[10], jumbo[11]] = 9000u16.to_le_bytes();
    bench.device.set_config(&jumbo);
    bench.meet();
    assert_eq!(bench.device.accepted() & Offer::MTU.bits(), 0);
    assert_eq!(bench.client.link().map(|link| link.mtu), Some(1500));
}

#[test]
fn the_device_computes_checksums_where_it_is_told() {
    let memory = Memory::new();
    let mut bench = Bench::together(&memory);
    let room = bench.client.room().expect("an honest driver").expect("there is room");
    let length = bench.client.copy_in(&room, &[9; 80]);
    bench.client.send(room, length, Some(Checksum { from: 34, to: 16 }));
    bench.send(&[8; 80]);
    bench.client_step();
    bench.driver_step();
    assert_eq!(bench.device_sends(), [([1, 34, 16], vec![9; 80]), ([0; 3], vec![8; 80])]);
}

#[test]
fn what_the_device_has_checked_is_said_to_be() {
    let memory = Memory::new();
    let mut bench = Bench::together(&memory);
    for (flags, checked) in [(0, false), (1, true), (2, true)] {
        assert!(bench.device_receives([flags, 0], &[1; 60]));
        bench.driver_step();
        let frame = bench.client.receive().expect("an honest driver").expect("one has arrived");
        assert_eq!(frame.is_checked(), checked);
        bench.client.give_back(frame);
    }
}

#[test]
fn a_queue_shorter_than_the_client_has_buffers_is_filled_as_room_comes() {
    let memory = Memory::new();
    let mut bench = Bench::new(&memory);
    let offered = super::bench::OFFERED & !virtio::Features::INDIRECT_DESC.bits();
    bench.device = FakeDevice::new(&memory.arena, offered, &[8, 8], &CONFIG);
    bench.meet();
    for number in 0..BUFFERS as u8 {
        assert!(bench.send(&[number; 60]));
    }
    for number in 0..4 * BUFFERS as u8 {
        bench.client_step();
        bench.driver_step();
        assert!(bench.device_receives([0; 2], &[number; 60]));
        bench.driver_step();
        assert_eq!(bench.receive(), Some(vec![number; 60]));
    }
    let mut sent = 0;
    for _ in 0..BUFFERS {
        sent += bench.device_sends().len();
        bench.driver_step();
    }
    assert_eq!(sent, BUFFERS);
}
