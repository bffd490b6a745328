//! The driver against a device of software.

use ipc::Message;
use proto::rng::{OK, Refusal, Request};
use virtio::fake::{Arena, FakeDevice, Whims};
use virtio::{BeginError, DeviceError, Transport};

use crate::entropy::BUFFER;
use crate::{Entropy, answer};

/// PCI identity of an entropy device (VirtIO 1.2, 4.1.2 and 5.4.1).
const ENTROPY: u16 = 0x1044;

fn device(arena: &Arena) -> FakeDevice<'_> {
    FakeDevice::new(arena, FakeDevice::FEATURES, &[8], &[])
}

fn open<'m>(arena: &'m Arena, device: &FakeDevice<'m>) -> Result<Entropy<'m, FakeDevice<'m>>, BeginError> {
    let transport = Transport::new(device.clone(), ENTROPY)?;
    Entropy::open(transport, &mut &*arena)
}

/// Gives the buffer that is asked for: `length` bytes that begin with `first` and count.
fn give(device: &FakeDevice, first: u8, length: usize) {
    let chain = device.take(0).expect("it is asked for bytes");
    assert_eq!((chain.segments.len(), chain.room()), (1, BUFFER as u32));
    let bytes: Vec<u8> = (0..length).map(|at| first.wrapping_add(at as u8)).collect();
    assert!(device.write(chain.segments[0].address, &bytes));
    device.complete(0, chain.id.into(), length as u32);
}

#[test]
fn what_the_device_gives_is_given_out_once_and_in_order() {
    let arena = Arena::new(1 << 20);
    let device = device(&arena);
    let mut entropy = open(&arena, &device).expect("a good device");
    let mut bytes = [0; 5];
    assert_eq!(entropy.take(&mut bytes), Ok(false));
    give(&device, 1, 7);
    assert_eq!(entropy.take(&mut bytes), Ok(true));
    assert_eq!(bytes, [1, 2, 3, 4, 5]);
    assert_eq!(entropy.take(&mut bytes), Ok(false), "two are left");
    give(&device, 100, 3);
    assert_eq!(entropy.take(&mut bytes), Ok(true));
    assert_eq!(bytes, [6, 7, 100, 101, 102]);
    assert!(device.faults().is_empty());
}

#[test]
fn a_full_store_takes_no_more_and_goes_on_when_there_is_room() {
    let arena = Arena::new(1 << 20);
    let device = device(&arena);
    let mut entropy = open(&arena, &device).expect("a good device");
    for first in [0, 50] {
        give(&device, first, BUFFER);
        assert_eq!(entropy.look(), Ok(()));
    }
    let mut all = [0; BUFFER];
    assert_eq!(entropy.take(&mut all), Ok(true));
    assert_eq!((all[0], all[BUFFER - 1]), (0, 255));
    assert_eq!(entropy.take(&mut all[..1]), Ok(true));
    assert_eq!(all[0], 50);
}

#[test]
fn calls_are_answered() {
    let arena = Arena::new(1 << 20);
    let device = device(&arena);
    let mut entropy = open(&arena, &device).expect("a good device");
    let read = Request::Read as u32;
    assert_eq!(answer(&mut entropy, read, 8), Ok(Message::new(Refusal::NotNow as u32)));
    give(&device, 1, 100);
    assert_eq!(answer(&mut entropy, read, 3), Ok(Message::of(OK, [0x03_02_01])));
    let whole = answer(&mut entropy, read, 64).expect("a good device");
    assert_eq!((whole.label(), whole.words[0]), (OK, 0x0b0a_0908_0706_0504));
    assert_eq!(whole.words[7] >> 56, 67);
    for (label, count) in [(read, 0), (read, 65), (read, u64::MAX), (0, 8), (2, 8)] {
        let malformed = Message::new(Refusal::Malformed as u32);
        assert_eq!(answer(&mut entropy, label, count), Ok(malformed));
    }
}

#[test]
fn lengths_names_and_indexes_that_cannot_be_end_it() {
    let arena = Arena::new(1 << 20);
    let long = DeviceError::UsedLength { said: BUFFER as u32 + 1, room: BUFFER as u32 };
    for (id, length, error) in [(0, BUFFER as u32 + 1, long), (5, 1, DeviceError::UsedId(5))] {
        let device = device(&arena);
        let mut entropy = open(&arena, &device).expect("a good device");
        device.complete(0, id, length);
        assert_eq!(entropy.look(), Err(error));
    }
    let device = device(&arena);
    let mut entropy = open(&arena, &device).expect("a good device");
    device.jump(0, 2);
    assert_eq!(entropy.look(), Err(DeviceError::UsedIndex { from: 0, to: 2 }));
}

#[test]
fn a_device_that_completes_twice_or_without_bytes_ends_it() {
    let arena = Arena::new(1 << 20);
    let device = device(&arena);
    let mut entropy = open(&arena, &device).expect("a good device");
    give(&device, 1, 1);
    device.complete(0, 0, 1);
    let twice = entropy.look();
    assert!(matches!(twice, Err(DeviceError::UsedIndex { .. })), "{twice:?}");

    let device = self::device(&arena);
    let mut entropy = open(&arena, &device).expect("a good device");
    let ended = (0..1000).find_map(|_| {
        give(&device, 0, 0);
        entropy.look().err()
    });
    assert_eq!(ended, Some(DeviceError::Empty));
}

#[test]
fn devices_that_cannot_be_begun_with_are_refused() {
    let arena = Arena::new(1 << 20);
    let bad = |whims| {
        let device = device(&arena);
        // A driver has run before.
        assert!(open(&arena, &device).is_ok());
        device.set_whims(whims);
        open(&arena, &device).map(|_| ())
    };
    assert_eq!(bad(Whims { gone: true, ..Whims::default() }), Err(DeviceError::Gone.into()));
    assert_eq!(bad(Whims { never_resets: true, ..Whims::default() }), Err(DeviceError::NoReset.into()));
    assert_eq!(
        bad(Whims { refuses_vectors: true, ..Whims::default() }),
        Err(DeviceError::NoVector(0).into())
    );
    let block = Transport::new(device(&arena), 0x1042).expect("its registers are good");
    assert!(Entropy::open(block, &mut &arena).is_err());
    assert_eq!(open(&Arena::new(0), &device(&arena)).map(|_| ()), Err(BeginError::NoMemory));
}

#[test]
fn a_device_that_breaks_down_ends_it() {
    let arena = Arena::new(1 << 20);
    let device = device(&arena);
    let mut entropy = open(&arena, &device).expect("a good device");
    device.break_down();
    assert_eq!(entropy.look(), Err(DeviceError::NeedsReset));
}

#[test]
fn a_new_life_begins_with_whatever_the_old_one_left() {
    let arena = Arena::new(1 << 20);
    let device = device(&arena);
    let entropy = open(&arena, &device).expect("a good device");
    drop(entropy);
    device.reset();
    arena.take_back(u64::MAX);
    let mut entropy = open(&arena, &device).expect("a good device");
    give(&device, 9, 4);
    let mut bytes = [0; 4];
    assert_eq!(entropy.take(&mut bytes), Ok(true));
    assert_eq!(bytes, [9, 10, 11, 12]);
}
