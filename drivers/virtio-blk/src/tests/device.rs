//! A device that misbehaves: its driver notices and dies at worst, and the next life goes on.

use std::sync::atomic::Ordering;

use block::Request;
use proto::block::{Op, segment};
use rt::work::Work;
use virtio::fake::{FakeDevice, Whims};
use virtio::fragile::Fragile;
use virtio::{BeginError, DeviceError, Features, Transport};

use super::medium::{ALL, RO, SECTOR, SECTORS, config};
use super::rig::{Memory, PATIENCE, Rig, TestClient};
use crate::disk::Disk;
use crate::server::Asked;

/// Lets driver and client do what they have to do; the driver's error.
fn go(rig: &mut Rig, client: &mut TestClient, answers: &mut usize) -> Result<(), DeviceError> {
    if rig.outside.server.get() == 0 {
        rig.outside.server.set(1);
    }
    rig.start_server().unwrap();
    let server = rig.server.as_mut().unwrap();
    while !server.turn(&mut &rig.outside)? {}
    let turn = client.turn(
        || rig.outside.peer(),
        |answer| {
            assert_eq!(answer.result, Ok(()));
            *answers += 1;
        },
    );
    assert_eq!(turn.wrong, None);
    Ok(())
}

/// A driver with three writes at its device, which then does `what`; the driver finds out, and after its death
/// everything is written.
fn misbehaves(what: impl Fn(&FakeDevice, &[u32])) -> DeviceError {
    let memory = Memory::new(1);
    let mut rig = Rig::new(&memory);
    let mut client = rig.start_client(0);
    let mut answers = 0;
    rig.data[0].words().iter().for_each(|word| word.store(0x33, Ordering::Relaxed));
    for sector in 0..3 {
        let segments = &[segment(sector, 1)];
        client.submit(&Request { op: Op::Write, sector, sectors: 1, segments }).unwrap();
    }
    for _ in 0..3 {
        go(&mut rig, &mut client, &mut answers).unwrap();
    }
    rig.medium.take();
    let ids: Vec<u32> = rig.medium.pending.iter().map(|chain| chain.id.into()).collect();
    assert_eq!(ids.len(), 3);
    what(&rig.medium.device, &ids);
    let server = rig.server.as_mut().unwrap();
    let error = server
        .rung(u64::MAX, &mut &rig.outside)
        .and_then(|()| server.turn(&mut &rig.outside))
        .and_then(|_| server.deadline(7 * PATIENCE))
        .inspect(|until| {
            assert_eq!(*until, Some(8 * PATIENCE), "it counts from when the requests were there")
        })
        .and_then(|_| server.deadline(8 * PATIENCE))
        .expect_err("the driver goes on");
    rig.medium.device.set_whims(Whims::default());
    rig.medium.device.set_config(&config(SECTORS, 512, 254, 64));
    rig.kill_server(true);
    rig.fence(1);
    for _ in 0..4 {
        go(&mut rig, &mut client, &mut answers).unwrap();
        rig.medium.finish_all();
    }
    assert_eq!((answers, client.under_way()), (3, 0));
    assert!(rig.medium.sectors[..3 * SECTOR].as_chunks().0.iter().all(|word| *word == 0x33u64.to_le_bytes()));
    assert_eq!(rig.medium.device.faults(), []);
    error
}

#[test]
fn lengths_and_identities_that_cannot_be_are_noticed() {
    let wrong = misbehaves(|device, ids| device.complete(0, ids[0], 2));
    assert_eq!(wrong, DeviceError::UsedLength { said: 2, room: 1 });
    let wrong = misbehaves(|device, _| device.complete(0, 200, 1));
    assert_eq!(wrong, DeviceError::UsedId(200));
    let wrong = misbehaves(|device, _| device.complete(0, u32::MAX, 1));
    assert_eq!(wrong, DeviceError::UsedId(u32::MAX));
}

#[test]
fn an_index_that_runs_away_is_noticed() {
    let wrong = misbehaves(|device, _| device.jump(0, 4));
    assert_eq!(wrong, DeviceError::UsedIndex { from: 0, to: 4 });
}

#[test]
fn a_request_that_is_done_without_a_status_is_noticed() {
    let wrong = misbehaves(|device, ids| device.complete(0, ids[1], 1));
    assert_eq!(wrong, DeviceError::Answer(0xff));
}

#[test]
fn requests_that_are_never_done_are_noticed() {
    assert_eq!(misbehaves(|_, _| {}), DeviceError::Silent);
}

#[test]
fn a_device_that_breaks_down_or_goes_is_noticed() {
    assert_eq!(misbehaves(|device, _| device.break_down()), DeviceError::NeedsReset);
    let gone = Whims { gone: true, ..Whims::default() };
    assert_eq!(misbehaves(|device, _| device.set_whims(gone)), DeviceError::Gone);
}

#[test]
fn a_configuration_that_makes_no_sense_or_never_stays_is_noticed() {
    for nonsense in [
        config(u64::MAX, 512, 254, 64),
        config(SECTORS, 0, 254, 64),
        config(SECTORS, 511, 254, 64),
        config(SECTORS, 1536, 254, 64),
        config(SECTORS, 512, 0, 64),
        vec![0; 16],
    ] {
        let wrong = misbehaves(|device, _| device.set_config(&nonsense));
        assert_eq!(wrong, DeviceError::Configuration);
    }
    let restless = Whims { restless: true, ..Whims::default() };
    let wrong = misbehaves(|device, _| device.set_whims(restless));
    assert_eq!(wrong, DeviceError::Configuration);
}

#[test]
fn a_request_that_is_done_twice_is_noticed() {
    let wrong = misbehaves(|device, ids| {
        // Nothing is at risk: the test's device has not written the status of any of them.
        device.complete(0, ids[0], 1);
        device.complete(0, ids[0], 1);
    });
    assert_eq!(wrong, DeviceError::Answer(0xff));
    let memory = Memory::new(1);
    let mut rig = Rig::new(&memory);
    let mut client = rig.start_client(0);
    let mut answers = 0;
    for _ in 0..2 {
        client.submit(&Request { op: Op::Read, sector: 0, sectors: 1, segments: &[segment(0, 1)] }).unwrap();
    }
    for _ in 0..3 {
        go(&mut rig, &mut client, &mut answers).unwrap();
    }
    rig.medium.take();
    let id = u32::from(rig.medium.pending[0].id);
    rig.medium.finish(0);
    go(&mut rig, &mut client, &mut answers).unwrap();
    assert_eq!(answers, 1);
    rig.medium.device.complete(0, id, 513);
    assert_eq!(go(&mut rig, &mut client, &mut answers), Err(DeviceError::UsedId(id)));
}

#[test]
fn a_read_that_is_done_with_less_than_it_was_to_read_is_noticed() {
    let memory = Memory::new(1);
    let mut rig = Rig::new(&memory);
    let mut client = rig.start_client(0);
    client.submit(&Request { op: Op::Read, sector: 0, sectors: 2, segments: &[segment(0, 2)] }).unwrap();
    for _ in 0..3 {
        go(&mut rig, &mut client, &mut 0).unwrap();
    }
    rig.medium.take();
    let chain = rig.medium.pending.remove(0);
    rig.medium.carry_out(&chain);
    rig.medium.device.complete(0, chain.id.into(), 513);
    let short = DeviceError::Short { said: 513, wanted: 1024 };
    assert_eq!(go(&mut rig, &mut client, &mut 0), Err(short));
}

fn open(features: u64, config: &[u8], whims: Whims, queues: &[u16], identity: u16) -> Option<BeginError> {
    let memory = Memory::new(0);
    let device = FakeDevice::new(&memory.arena, features, queues, config);
    device.set_whims(whims);
    let transport = match Transport::new(Fragile(device), identity) {
        Ok(transport) => transport,
        Err(error) => return Some(error.into()),
    };
    Disk::<_, Asked>::open(transport, &mut &memory.arena).err()
}

#[test]
fn a_device_that_does_not_come_up_is_no_disk() {
    let fine = || config(SECTORS, 512, 254, 64);
    let none = Whims::default();
    assert_eq!(open(ALL | RO, &fine(), none, &[256], 0x1042), None);
    let device = |error| Some(BeginError::Device(error));
    assert_eq!(open(ALL, &fine(), none, &[256], 0x1041), device(DeviceError::WrongType(1)));
    assert_eq!(open(ALL, &fine(), none, &[], 0x1042), device(DeviceError::NoQueue(0)));
    assert_eq!(open(ALL, &[], none, &[256], 0x1042), device(DeviceError::Configuration));
    let old = ALL & !Features::VERSION_1.bits();
    let refused = open(old, &fine(), none, &[256], 0x1042);
    assert_eq!(refused, device(DeviceError::Features(old)));
    let whims = [
        (Whims { gone: true, ..none }, DeviceError::Gone),
        (Whims { refuses_features: true, ..none }, DeviceError::Features(ALL)),
        (Whims { refuses_vectors: true, ..none }, DeviceError::NoVector(u16::MAX)),
        (Whims { refuses_queues: true, ..none }, DeviceError::NoQueue(0)),
    ];
    for (whims, error) in whims {
        assert_eq!(open(ALL, &fine(), whims, &[256], 0x1042), device(error));
    }
}
