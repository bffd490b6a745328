//! Devices and clients that do what they must not.

use std::sync::atomic::Ordering;

use proptest::prelude::*;
use proto::stream::{IN, OUT};
use rt::work::Work;
use virtio::fake::{FakeDevice, Whims};
use virtio::{BeginError, DeviceError};

use super::bench::{Bench, HOST, LOG, Memory, NAMES, rx};
use crate::console::{HEAR, MULTIPORT, NO_PORTS};

#[test]
fn what_the_device_says_and_cannot_mean_is_dropped_and_counted() {
    let memory = Memory::new();
    let mut bench = Bench::together(&memory);
    let long = [b'a'; 65];
    for (at, (port, event, value, name)) in [
        (3, 1, 0, b"".as_slice()),
        (u32::MAX, 6, 1, b""),
        (HOST, 0, 0, b""),
        (HOST, 99, 0, b""),
        (HOST, 6, 2, b""),
        (HOST, 7, 1, b""),
        (HOST, 7, 1, &long),
        (HOST, 7, 1, b"another name"),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(bench.qemu.says(port, event, value, name));
        bench.step();
        assert_eq!(bench.driver.as_ref().map(|driver| driver.nonsense()), Some(at as u64 + 1));
    }
    assert!(bench.qemu.says_bytes(&[1, 2, 3]));
    bench.write(0, b"still there");
    bench.step();
    assert_eq!(bench.qemu.sides[HOST as usize].from_guest, b"still there");
}

#[test]
fn the_second_of_two_ports_of_a_name_is_nobody_s() {
    let memory = Memory::new();
    let mut bench = Bench::new(&memory);
    bench.qemu.plugged = vec![(0, NAMES[0]), (LOG, NAMES[1]), (HOST, NAMES[0])];
    bench.meet();
    bench.write(0, b"to the first");
    bench.step();
    assert_eq!(bench.qemu.sides[0].from_guest, b"to the first");
    assert!(!bench.qemu.sides[HOST as usize].opened);
}

#[test]
fn a_device_that_lies_about_what_it_used_ends_the_life() {
    let after = |act: &dyn Fn(&FakeDevice)| {
        let memory = Memory::new();
        let mut bench = Bench::together(&memory);
        act(&bench.qemu.device);
        bench.driver_step()
    };
    let more = after(&|device| {
        let chain = device.take(HEAR).expect("buffers were posted");
        device.complete(HEAR, chain.id.into(), chain.room() + 1);
    });
    assert!(matches!(more, Err(DeviceError::UsedLength { .. })));
    assert_eq!(after(&|device| device.complete(rx(HOST), 9, 0)), Err(DeviceError::UsedId(9)));
    assert!(matches!(after(&|device| device.jump(rx(LOG), 30)), Err(DeviceError::UsedIndex { .. })));
    let memory = Memory::new();
    let mut bench = Bench::together(&memory);
    bench.qemu.device.break_down();
    assert_eq!(
        bench.driver.take().expect("it lives").rung(u64::MAX, &mut bench.around),
        Err(DeviceError::NeedsReset)
    );
}

#[test]
fn a_device_that_cannot_be_begun_with_is_said_to_be_so() {
    let sane = Whims::default();
    for (whims, error) in [
        (Whims { gone: true, ..sane }, DeviceError::Gone),
        (Whims { refuses_vectors: true, ..sane }, DeviceError::NoVector(u16::MAX)),
        (Whims { refuses_queues: true, ..sane }, DeviceError::NoQueue(2)),
        (Whims { restless: true, ..sane }, DeviceError::Configuration),
    ] {
        let memory = Memory::new();
        let mut bench = Bench::new(&memory);
        bench.qemu.device.set_whims(whims);
        assert_eq!(bench.begin().err(), Some(BeginError::Device(error)));
    }
    let memory = Memory::new();
    for (offered, queues, config) in [
        (FakeDevice::FEATURES, [16; 8].as_slice(), [0, 0, 0, 0, 3, 0, 0, 0]),
        (FakeDevice::FEATURES | MULTIPORT, &[16; 8], [0; 8]),
        (FakeDevice::FEATURES | MULTIPORT, &[16; 2], [0, 0, 0, 0, 3, 0, 0, 0]),
    ] {
        let mut bench = Bench::new(&memory);
        bench.qemu.device = FakeDevice::new(&memory.arena, offered, queues, &config);
        assert_eq!(bench.begin().err(), Some(BeginError::Device(NO_PORTS)));
    }
}

#[test]
fn more_ports_than_there_are_queues_for_are_not_looked_at() {
    let memory = Memory::new();
    let mut bench = Bench::new(&memory);
    let offered = FakeDevice::FEATURES | MULTIPORT;
    bench.qemu.device =
        FakeDevice::new(&memory.arena, offered, &[16; 8], &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    bench.meet();
    assert!(bench.clients[0].is_open());
    assert!(bench.qemu.says(3, 1, 0, b""));
    bench.step();
    assert_eq!(bench.driver.map(|driver| driver.nonsense()), Some(1));
}

#[test]
fn a_corrupt_ring_ends_its_pairing_and_nothing_else() {
    for index in [OUT.start, IN.start + 16] {
        let memory = Memory::new();
        let mut bench = Bench::together(&memory);
        memory.rings[0][index].store(1 << 40, Ordering::Relaxed);
        bench.qemu.sides[HOST as usize].to_guest.extend(b"for the first");
        bench.step();
        bench.step();
        assert_eq!(bench.around.reported, [1, 0], "once");
        bench.write(1, b"the other goes on");
        bench.step();
        assert_eq!(bench.qemu.sides[LOG as usize].from_guest, b"the other goes on");
        bench.next_clients();
        bench.meet();
        assert_eq!(bench.read(0), b"for the first");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever a device says of its ports, and whatever clients write: the driver goes on or gives up, and does
    /// what it should for the next ones.
    #[test]
    fn nobody_confuses_the_driver(
        acts in proptest::collection::vec((0u8..8, 0u32..5, 0u16..9, 0u16..3, any::<u64>()), 1..80),
    ) {
        let memory = Memory::new();
        let mut bench = Bench::together(&memory);
        for (act, port, event, value, random) in acts {
            match act {
                0 | 1 => {
                    let name = ["", "x", NAMES[0], NAMES[1]][random as usize % 4];
                    bench.qemu.says(port, event, value, name.as_bytes());
                }
                2 => { bench.qemu.says_bytes(&random.to_le_bytes()[..usize::from(value) * 4]); }
                // It was never given as many.
                3 => bench.qemu.device.complete((port as u16 + event) % 8, 16 + (random % 20) as u32, value.into()),
                4 => memory.rings[value as usize % 2][random as usize % IN.end].store(random, Ordering::Relaxed),
                5 => memory.rings[value as usize % 2][OUT.start].store(random % 100, Ordering::Relaxed),
                6 => {
                    let queue = rx(port % 3);
                    if let Some(chain) = bench.qemu.device.take(queue) {
                        bench.qemu.device.complete(queue, chain.id.into(), (random % 1025) as u32);
                    }
                }
                _ => {
                    let queue = rx(port % 3) + 1;
                    if let Some(chain) = bench.qemu.device.take(queue) {
                        bench.qemu.device.complete(queue, chain.id.into(), 0);
                    }
                }
            }
            if bench.driver_step().is_err() {
                bench.bury_driver();
            }
        }
        prop_assert!(bench.qemu.device.faults().is_empty());
        bench.bury_driver();
        bench.next_clients();
        bench.qemu.sides = Default::default();
        bench.meet();
        prop_assert_eq!(bench.write(0, b"hello"), 5);
        bench.qemu.sides[HOST as usize].to_guest.extend(b"hello yourself");
        bench.step();
        prop_assert_eq!(&bench.qemu.sides[HOST as usize].from_guest, b"hello");
        prop_assert_eq!(bench.read(0), b"hello yourself");
    }
}
