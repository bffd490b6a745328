//! A request that its driver dies of is given up, and the others are carried out.

use std::collections::HashMap;

use block::{Failure, Id, Request};
use proto::block::{Op, segment};

use super::rig::{Memory, Rig, TestClient};

/// Sectors that make the driver die when it has a request for one of them.
struct Cursed(Vec<u64>);

/// Runs until all requests are answered; the answers.
fn run(
    rig: &mut Rig,
    client: &mut TestClient,
    sectors: &HashMap<Id, u64>,
    cursed: &Cursed,
    at_fault: bool,
) -> HashMap<u64, Result<(), Failure>> {
    let mut answers = HashMap::new();
    for _ in 0..200 {
        rig.serve(0);
        rig.medium.take();
        let is_cursed = |chain: &virtio::fake::Chain| {
            let mut header = [0; 16];
            rig.medium.device.read(chain.segments[0].address, &mut header);
            cursed.0.contains(&u64::from_le_bytes(header[8..].try_into().unwrap()))
        };
        if rig.medium.pending.iter().any(is_cursed) {
            rig.kill_server(at_fault);
            rig.fence(0);
        } else {
            rig.medium.finish_all();
        }
        rig.serve(0);
        let turn = client.turn(
            || rig.outside.peer(),
            |answer| {
                let before = answers.insert(sectors[&answer.id], answer.result);
                assert_eq!(before, None, "answered twice");
            },
        );
        assert_eq!(turn.wrong, None);
        if answers.len() == sectors.len() {
            return answers;
        }
    }
    panic!("{} of {} answered", answers.len(), sectors.len());
}

fn write(client: &mut TestClient, sectors: impl Iterator<Item = u64>) -> HashMap<Id, u64> {
    let submit = |sector| {
        let segments = &[segment(sector, 1)];
        (client.submit(&Request { op: Op::Write, sector, sectors: 1, segments }).unwrap(), sector)
    };
    sectors.map(submit).collect()
}

#[test]
fn the_poisoned_requests_fail_and_all_others_live() {
    for cursed in [vec![0], vec![7], vec![19], vec![3, 4, 12]] {
        let memory = Memory::new(1);
        let mut rig = Rig::new(&memory);
        let mut client = rig.start_client(0);
        let sectors = write(&mut client, 0..20);
        let deaths = 2 + cursed.len() as u64;
        let cursed = Cursed(cursed);
        let answers = run(&mut rig, &mut client, &sectors, &cursed, true);
        for (sector, result) in answers {
            let expected = if cursed.0.contains(&sector) { Err(Failure::Poisoned) } else { Ok(()) };
            assert_eq!(result, expected, "sector {sector}");
        }
        assert_eq!(rig.deaths, deaths);
        // It is over: what comes now goes as ever.
        let more = write(&mut client, 20..40);
        assert!(run(&mut rig, &mut client, &more, &cursed, true).values().all(Result::is_ok));
        assert_eq!(rig.deaths, deaths);
    }
}

#[test]
fn kills_by_the_operator_poison_nothing() {
    let memory = Memory::new(1);
    let mut rig = Rig::new(&memory);
    let mut client = rig.start_client(0);
    let sectors = write(&mut client, 0..5);
    for _ in 0..10 {
        rig.serve(0);
        let turn = client.turn(|| rig.outside.peer(), |answer| panic!("{answer:?}"));
        assert_eq!(turn.wrong, None);
        rig.serve(0);
        rig.kill_server(false);
        rig.fence(0);
    }
    let answers = run(&mut rig, &mut client, &sectors, &Cursed(vec![]), false);
    assert!(answers.values().all(Result::is_ok));
}

#[test]
fn a_poisoned_answer_waits_until_the_device_is_stopped() {
    let memory = Memory::new(1);
    let mut rig = Rig::new(&memory);
    let mut client = rig.start_client(0);
    write(&mut client, 0..1);
    for _ in 0..3 {
        for _ in 0..3 {
            rig.serve(0);
            let _ = client.turn(|| rig.outside.peer(), |answer| panic!("{answer:?}"));
        }
        rig.serve(0);
        rig.medium.take();
        assert_eq!(rig.medium.pending.len(), 1);
        rig.kill_server(true);
        let _ = client.turn(|| rig.outside.peer(), |answer| panic!("{answer:?} while the device runs"));
        rig.fence(0);
    }
    let mut answer = None;
    for _ in 0..3 {
        rig.serve(0);
        let _ = client.turn(|| rig.outside.peer(), |each| answer = Some(each.result));
    }
    assert_eq!(answer, Some(Err(Failure::Poisoned)));
}
