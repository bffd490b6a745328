use super::*;
use proto::block::segment;

fn write(requests: &mut Requests, sector: u64) -> Id {
    requests.add(&Request { op: Op::Write, sector, sectors: 1, segments: &[segment(sector, 1)] }).unwrap()
}

/// Sends all; the sectors of the records, in the order of sending.
fn send(requests: &mut Requests) -> Vec<u64> {
    let mut sectors = Vec::new();
    while let Some((record, _)) = requests.next() {
        sectors.push(record[2]);
        requests.next_is_sent();
    }
    sectors
}

#[test]
fn records_are_as_the_protocol_has_them() {
    let mut requests = Requests::new();
    let segments = [segment(8, 3), segment(40, 1)];
    let id = requests.add(&Request { op: Op::Read, sector: 7, sectors: 4, segments: &segments }).unwrap();
    let (record, deaths) = requests.next().unwrap();
    assert_eq!(record[..6], [id.word(), 2 << 32, 7, 4, segments[0], segments[1]]);
    assert_eq!((deaths, id.place()), (0, 0));
}

#[test]
fn they_go_out_in_order_and_again_in_order_when_the_server_dies() {
    let mut requests = Requests::new();
    let ids: Vec<Id> = (0..5).map(|sector| write(&mut requests, sector)).collect();
    assert_eq!(send(&mut requests), [0, 1, 2, 3, 4]);
    for at in [3, 0] {
        assert_eq!(requests.answered(ids[at].word()), Some(ids[at]));
    }
    write(&mut requests, 9);
    assert_eq!((requests.count(), requests.sent()), (4, 3));
    assert_eq!(requests.server_died(false, 3), None);
    assert_eq!((requests.count(), requests.sent()), (4, 0));
    assert_eq!(send(&mut requests), [1, 2, 4, 9]);
}

#[test]
fn only_what_the_server_has_can_be_answered_and_only_once() {
    let mut requests = Requests::new();
    let id = write(&mut requests, 0);
    assert_eq!(requests.answered(id.word()), None, "not sent yet");
    send(&mut requests);
    for word in [0, 1, id.word() + 1, id.word() + DEPTH as u64, u64::MAX] {
        assert_eq!(requests.answered(word), None);
    }
    assert_eq!(requests.answered(id.word()), Some(id));
    assert_eq!(requests.answered(id.word()), None, "twice");
    // Its place is used again, by another name.
    let next = write(&mut requests, 0);
    assert_eq!(next.place(), id.place());
    send(&mut requests);
    assert_eq!(requests.answered(id.word()), None);
    assert_eq!(requests.answered(next.word()), Some(next));
}

#[test]
fn all_places_can_be_used_and_no_more() {
    let mut requests = Requests::new();
    for round in 0..3 {
        let ids: Vec<Id> = (0..DEPTH as u64).map(|sector| write(&mut requests, sector)).collect();
        let segments = &[segment(0, 1)];
        let one_more = Request { op: Op::Read, sector: 0, sectors: 1, segments };
        assert_eq!(requests.add(&one_more), Err(Refused::Full));
        assert_eq!(send(&mut requests).len(), DEPTH);
        for at in 0..DEPTH {
            let id = ids[(at * 7 + round) % DEPTH];
            assert_eq!(requests.answered(id.word()), Some(id));
        }
        assert_eq!((requests.count(), requests.sent()), (0, 0));
    }
}

#[test]
fn deaths_are_counted_for_those_that_the_server_had() {
    let mut requests = Requests::new();
    let first = write(&mut requests, 0);
    send(&mut requests);
    write(&mut requests, 1);
    assert_eq!(requests.server_died(true, 2), None);
    let next: Vec<u8> = std::iter::from_fn(|| {
        let deaths = requests.next().map(|(_, deaths)| deaths);
        requests.next_is_sent();
        deaths
    })
    .collect();
    assert_eq!(next, [1, 0]);
    // The operator's kill counts for nobody.
    assert_eq!(requests.server_died(false, 2), None);
    send(&mut requests);
    assert_eq!(requests.server_died(true, 2), Some(first));
    assert_eq!(requests.server_died(true, 2), None);
    assert_eq!(send(&mut requests), [1]);
}

#[test]
fn too_many_segments_are_refused() {
    let mut requests = Requests::new();
    let segments = [segment(0, 1); MAX_SEGMENTS + 1];
    let request = Request { op: Op::Read, sector: 0, sectors: MAX_SEGMENTS as u64 + 1, segments: &segments };
    assert_eq!(requests.add(&request), Err(Refused::TooManySegments));
    let request = Request { segments: &segments[1..], ..request };
    assert!(requests.add(&request).is_ok());
}
