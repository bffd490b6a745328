//! Bytes between clients and ports, all as they should be.

use proto::stream::BYTES;

use super::bench::{Bench, HOST, LOG, Memory};
use crate::port::OUT;

fn pattern(length: usize, salt: u32) -> Vec<u8> {
    (0..length as u32).map(|at| ((at + salt).wrapping_mul(0x9e37_79b9) >> 13) as u8).collect()
}

#[test]
fn each_client_has_the_port_of_its_name() {
    let memory = Memory::new();
    let mut bench = Bench::together(&memory);
    bench.write(0, b"to the host");
    bench.write(1, b"to the log");
    bench.qemu.sides[HOST as usize].to_guest.extend(b"run this");
    bench.step();
    assert_eq!(bench.qemu.sides[HOST as usize].from_guest, b"to the host");
    assert_eq!(bench.qemu.sides[LOG as usize].from_guest, b"to the log");
    assert!(bench.qemu.sides[0].from_guest.is_empty());
    assert_eq!(bench.read(0), b"run this");
    assert!(bench.read(1).is_empty());
}

#[test]
fn more_than_there_is_room_for_waits_on_either_side() {
    let memory = Memory::new();
    let mut bench = Bench::together(&memory);
    let (out, inc) = (pattern(5 * BYTES, 1), pattern(5 * BYTES, 2));
    bench.qemu.sides[HOST as usize].to_guest.extend(&inc);
    let (mut written, mut read) = (0, Vec::new());
    for _ in 0..200 {
        written += bench.write(0, &out[written..]);
        bench.step();
        // A client that reads seldom.
        if written.is_multiple_of(3) || written == out.len() {
            read.extend(bench.read(0));
        }
    }
    assert!(read == inc);
    assert!(bench.qemu.sides[HOST as usize].from_guest == out);
}

#[test]
fn bytes_are_the_client_s_until_the_device_has_taken_them() {
    let memory = Memory::new();
    let mut bench = Bench::together(&memory);
    assert_eq!(bench.write(0, &pattern(2 * BYTES, 1)), BYTES);
    bench.clients[0].flush();
    bench.driver_step().expect("an honest device");
    assert_eq!(bench.write(0, &[1; 10]), 0, "the device has them, and has not used them");
    bench.qemu.work();
    bench.driver_step().expect("an honest device");
    assert_eq!(bench.write(0, &pattern(BYTES, 1)), OUT);
}

#[test]
fn bytes_wait_until_somebody_is_at_the_other_end() {
    let memory = Memory::new();
    let mut bench = Bench::together(&memory);
    bench.around.rung = [0; 2];
    assert!(bench.qemu.says(HOST, 6, 0, b""));
    bench.step();
    assert!(!bench.clients[0].is_open() && bench.clients[1].is_open());
    assert_eq!(bench.around.rung[0], 1, "that is news");
    bench.write(0, b"is there anybody?");
    bench.step();
    assert!(bench.qemu.sides[HOST as usize].from_guest.is_empty());
    assert!(bench.qemu.says(HOST, 6, 1, b""));
    bench.step();
    assert_eq!(bench.qemu.sides[HOST as usize].from_guest, b"is there anybody?");
}

#[test]
fn a_port_can_go_and_come_back_under_another_number() {
    let memory = Memory::new();
    let mut bench = Bench::together(&memory);
    assert!(bench.qemu.says(HOST, 2, 0, b""));
    bench.write(0, b"wait for me");
    bench.step();
    assert!(!bench.clients[0].is_open());
    assert!(bench.qemu.sides[HOST as usize].from_guest.is_empty());
    bench.qemu.plugged = vec![(0, "skink.host")];
    assert!(bench.qemu.says(0, 1, 0, b""));
    bench.meet();
    assert!(bench.clients[0].is_open());
    assert_eq!(bench.qemu.sides[0].from_guest, b"wait for me");
}

#[test]
fn a_port_that_nobody_knows_is_left_alone() {
    let memory = Memory::new();
    let mut bench = Bench::new(&memory);
    bench.qemu.plugged.push((0, "somebody.else"));
    bench.meet();
    assert!(!bench.qemu.sides[0].opened);
    assert!(bench.qemu.sides[HOST as usize].opened && bench.qemu.sides[LOG as usize].opened);
}

#[test]
fn who_sleeps_is_rung_and_who_does_not_is_not() {
    let memory = Memory::new();
    let mut bench = Bench::together(&memory);
    bench.write(0, b"first");
    bench.step();
    bench.around.rung = [0; 2];
    bench.write(0, b"second");
    bench.step();
    assert_eq!(bench.around.rung, [0; 2], "nobody waits for room");
    assert_eq!(bench.clients[0].sleep(false), Ok(true));
    bench.qemu.sides[HOST as usize].to_guest.extend(b"wake up");
    bench.step();
    assert_eq!(bench.around.rung, [1, 0]);
    assert_eq!(bench.clients[0].sleep(false), Ok(false));
}
