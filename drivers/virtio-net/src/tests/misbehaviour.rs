//! Devices and clients that do what they must not.

use std::sync::atomic::Ordering;

use super::bench::{BUFFERS, Bench, CONFIG, Memory, PATIENCE};
use crate::device::{RECEIVE, TRANSMIT};
use proptest::prelude::*;
use proto::net::{RX_BUFFER, RX_DONE, RX_FREE, TX, TX_DONE};
use rt::work::Work;
use virtio::fake::Whims;
use virtio::{BeginError, DeviceError};

/// How a turn ends after the device has done `act`.
fn after(act: impl FnOnce(&Bench)) -> Result<(), DeviceError> {
    let memory = Memory::new();
    let mut bench = Bench::together(&memory);
    bench.send(&[1; 60]);
    bench.client_step();
    bench.driver_step();
    act(&bench);
    bench.try_driver_step().map(|_| ())
}

#[test]
fn a_device_that_lies_about_what_it_used_ends_the_life() {
    let more = after(|bench| {
        let chain = bench.device.take(RECEIVE).expect("buffers were posted");
        bench.device.complete(RECEIVE, chain.id.into(), chain.room() + 1);
    });
    assert!(matches!(more, Err(DeviceError::UsedLength { .. })));
    let written = after(|bench| {
        let chain = bench.device.take(TRANSMIT).expect("one was sent");
        bench.device.complete(TRANSMIT, chain.id.into(), 1);
    });
    assert_eq!(written, Err(DeviceError::UsedLength { said: 1, room: 0 }));
    let twice = after(|bench| {
        let chain = bench.device.take(RECEIVE).expect("buffers were posted");
        for _ in 0..2 {
            bench.device.complete(RECEIVE, chain.id.into(), 80);
        }
    });
    assert!(matches!(twice, Err(DeviceError::UsedId(_))));
    assert_eq!(after(|bench| bench.device.complete(TRANSMIT, 63, 0)), Err(DeviceError::UsedId(63)));
    assert!(matches!(after(|bench| bench.device.jump(RECEIVE, 60)), Err(DeviceError::UsedIndex { .. })));
}

#[test]
fn a_device_that_sends_nothing_for_too_long_ends_the_life_and_the_next_one_sends_it() {
    let memory = Memory::new();
    let mut bench = Bench::together(&memory);
    let deadline = |bench: &mut Bench, now| bench.driver.as_mut().expect("it lives").deadline(now);
    assert_eq!(deadline(&mut bench, 5), Ok(None), "it has nothing to send");
    bench.send(&[7; 60]);
    bench.client_step();
    bench.driver_step();
    assert_eq!(deadline(&mut bench, 10), Ok(Some(10 + PATIENCE)));
    // Frames that come do not show that it sends.
    assert!(bench.device_receives([0; 2], &[1; 60]));
    bench.driver_step();
    assert_eq!(deadline(&mut bench, 9 + PATIENCE), Ok(Some(10 + PATIENCE)));
    assert_eq!(deadline(&mut bench, 10 + PATIENCE), Err(DeviceError::Silent));
    bench.bury_driver();
    bench.meet();
    assert!(bench.device_sends().iter().any(|(_, frame)| *frame == [7; 60]));
}

#[test]
fn a_device_that_sends_or_cannot_is_waited_for() {
    let memory = Memory::new();
    let mut bench = Bench::together(&memory);
    let deadline = |bench: &mut Bench, now| bench.driver.as_mut().expect("it lives").deadline(now);
    let send = |bench: &mut Bench| {
        bench.send(&[7; 60]);
        bench.client_step();
        bench.driver_step();
    };
    send(&mut bench);
    send(&mut bench);
    assert_eq!(deadline(&mut bench, 0), Ok(Some(PATIENCE)));
    assert_eq!(bench.device_sends().len(), 2);
    send(&mut bench);
    assert_eq!(deadline(&mut bench, PATIENCE), Ok(Some(2 * PATIENCE)), "it has sent meanwhile");
    // Without a link nothing can be sent.
    let mut down = CONFIG;
    down[6] = 0;
    bench.device.set_config(&down);
    bench.look().expect("an honest device");
    assert_eq!(deadline(&mut bench, 9 * PATIENCE), Ok(None));
}

#[test]
fn what_is_no_frame_does_not_reach_the_client_and_costs_no_buffer() {
    let memory = Memory::new();
    let mut bench = Bench::together(&memory);
    for round in 0..4 * BUFFERS {
        let (flags, length) = [([0, 0], 13), ([0, 0], 0), ([0, 1], 60)][round % 3];
        assert!(bench.device_receives(flags, &vec![1; length]));
        bench.driver_step();
        assert_eq!(bench.receive(), None);
    }
    let posted = core::iter::from_fn(|| bench.device.take(RECEIVE)).count();
    assert_eq!(posted, BUFFERS);
}

#[test]
fn a_device_that_asks_for_a_reset_ends_the_life() {
    let memory = Memory::new();
    let mut bench = Bench::together(&memory);
    bench.device.break_down();
    assert_ne!(bench.device.interrupts() & 1 << 2, 0);
    assert_eq!(bench.look().err(), Some(DeviceError::NeedsReset));
}

#[test]
fn a_device_that_cannot_be_begun_with_is_said_to_be_so() {
    let sane = Whims::default();
    for (whims, error) in [
        (Whims { gone: true, ..sane }, DeviceError::Gone),
        (Whims { never_resets: true, ..sane }, DeviceError::NoReset),
        (Whims { refuses_vectors: true, ..sane }, DeviceError::NoVector(u16::MAX)),
        (Whims { refuses_queues: true, ..sane }, DeviceError::NoQueue(RECEIVE)),
        (Whims { restless: true, ..sane }, DeviceError::Configuration),
    ] {
        let memory = Memory::new();
        let mut bench = Bench::together(&memory);
        bench.device.set_whims(whims);
        assert_eq!(bench.begin().err(), Some(BeginError::Device(error)));
    }
    let memory = Memory::new();
    let mut bench = Bench::new(&memory);
    bench.device.set_config(&CONFIG[..7]);
    assert_eq!(bench.begin().err(), Some(BeginError::Device(DeviceError::Configuration)));
}

#[test]
fn records_that_make_no_sense_are_dropped_and_counted() {
    let memory = Memory::new();
    let mut bench = Bench::together(&memory);
    let data = bench.data.bytes() as u64;
    let fine = RX_BUFFER as u64 | 60 << 32;
    let wrong = [
        [data, fine, 0, 0],
        [4, fine, 0, 0],
        [u64::MAX - 7, fine, 0, 0],
        [0, u64::from(u32::MAX), 0, 0],
        [0, 60 << 32, 0, 0],
        [0, RX_BUFFER as u64 | 13 << 32, 0, 0],
        [0, RX_BUFFER as u64 | 1519 << 32, 0, 0],
        [0, RX_BUFFER as u64 | 2033 << 32, 0, 0],
        [0, fine, 59 << 32 | 14, 0],
        [0, fine, u64::MAX, 0],
    ];
    let words = &memory.rings[TX.start + ring::HEADER_WORDS..];
    for (at, value) in wrong.iter().chain([&[0, fine, 0, 0]]).flatten().enumerate() {
        words[at].store(*value, Ordering::Relaxed);
    }
    memory.rings[TX.start].store(wrong.len() as u64 + 1, Ordering::Release);
    bench.driver_step();
    assert_eq!(bench.device_sends().len(), 1);
    assert_eq!(bench.counts().refused, wrong.len() as u64);
}

#[test]
fn a_ring_that_makes_no_sense_ends_the_pairing_and_nothing_else() {
    for index in [TX.start, RX_FREE.start, RX_DONE.start + 16, TX_DONE.start + 16] {
        let memory = Memory::new();
        let mut bench = Bench::together(&memory);
        memory.rings[index].store(1 << 40, Ordering::Relaxed);
        assert!(bench.driver_step().wrong, "init is to hear of it");
        assert!(!bench.driver_step().wrong, "once");
        bench.next_client();
        bench.driver_step();
        assert_eq!(bench.device.take(RECEIVE), None, "what it still had was taken back");
        bench.meet();
        assert_eq!(core::iter::from_fn(|| bench.device.take(RECEIVE)).count(), BUFFERS);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever a client writes into its rings: the driver goes on, and the device is led nowhere but into the client's
    /// own data and the driver's headers.
    #[test]
    fn no_client_leads_the_device_astray(
        scribbles in proptest::collection::vec((0usize..TX_DONE.end, any::<u64>(), 0u8..6), 0..100),
    ) {
        let memory = Memory::new();
        let mut bench = Bench::together(&memory);
        let data = bench.data.address()..bench.data.address() + bench.data.bytes() as u64;
        for (place, value, act) in scribbles {
            match act {
                0 => memory.rings[place].store(value, Ordering::Relaxed),
                1 => {
                    let index = [RX_FREE.start, TX.start, RX_DONE.start + 16, TX_DONE.start + 16][place % 4];
                    memory.rings[index].store(value % 20, Ordering::Relaxed);
                }
                2 => {
                    let ring = if place % 2 == 0 { &RX_FREE } else { &TX };
                    let record = &memory.rings[ring.start + ring::HEADER_WORDS + place % 20 * 4..];
                    record[0].store((value % (data.end - data.start + 4096)) & !7, Ordering::Relaxed);
                    record[1].store(RX_BUFFER as u64 | ((value >> 32) % 3000) << 32, Ordering::Relaxed);
                    record[2].store(if value % 3 == 0 { value >> 20 & 0xff_0000_00ff } else { 0 }, Ordering::Relaxed);
                }
                _ => {
                    bench.driver_step();
                    for queue in [RECEIVE, TRANSMIT] {
                        while let Some(chain) = bench.device.take(queue) {
                            let frame = chain.segments[1];
                            let end = frame.address + u64::from(frame.length);
                            prop_assert!(data.contains(&frame.address) && end <= data.end);
                            bench.device.complete(queue, chain.id.into(), if queue == RECEIVE { 80 } else { 0 });
                        }
                    }
                }
            }
        }
        prop_assert!(bench.device.faults().is_empty());
        bench.next_client();
        bench.meet();
        prop_assert_eq!(core::iter::from_fn(|| bench.device.take(RECEIVE)).count(), BUFFERS);
    }

    /// Whatever a device says: the driver gives up, or goes on, and never tells its client what cannot be.
    #[test]
    fn no_device_makes_the_driver_lie(
        says in proptest::collection::vec((0u16..2, 0u32..70, 0u32..2100, 0u16..80, 0u8..8), 1..60),
    ) {
        let memory = Memory::new();
        let mut bench = Bench::together(&memory);
        for (queue, id, length, by, act) in says {
            match act {
                0 => bench.device.complete(queue, id, length),
                1 if by > 60 => bench.device.jump(queue, by),
                2 => if let Some(chain) = bench.device.take(queue) {
                    bench.device.complete(queue, chain.id.into(), length);
                },
                3 => { bench.send(&[1; 60]); }
                4 => { bench.device_sends(); }
                _ => { bench.device_receives([0; 2], &[1; 60]); }
            }
            bench.client_step();
            if bench.try_driver_step().is_err() {
                bench.bury_driver();
                bench.client_step();
                bench.meet();
            }
            while let Some(frame) = bench.try_receive().expect("the driver never lies") {
                prop_assert!(frame.len() >= 14);
            }
        }
    }
}
