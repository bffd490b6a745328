//! Requests that the server dies of.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

#[test]
fn a_request_that_the_server_dies_of_three_times_is_refused_and_the_others_live() {
    let memory = memory();
    serve(&mut open(&memory), add(1, 1, 0, 1));
    let before_work = 2;
    let deadly = add(1, 2, 0, 10);
    for faults in 0..3 {
        // Dies in its service: after the two stores of the mark.
        let mut server = open_in(&memory, faults);
        assert_eq!(memory.live(before_work, || serve(&mut server, deadly)), None);
    }
    let mut server = open_in(&memory, 3);
    assert_eq!(refusal(serve(&mut server, deadly)), Some(Refusal::Poison));
    assert_eq!(refusal(serve(&mut server, deadly)), Some(Refusal::Poison), "as its stored answer");
    assert_eq!(refusal(serve(&mut server, add(1, 3, 0, 100))), None);
    assert_eq!(counters(&memory), [101, 0, 0, 0]);
}

#[test]
fn deaths_by_the_operators_will_poison_nothing() {
    let memory = memory();
    serve(&mut open(&memory), add(1, 1, 0, 1));
    for _ in 0..10 {
        let mut server = open_in(&memory, 0);
        assert_eq!(memory.live(2, || serve(&mut server, add(1, 2, 0, 10))), None);
    }
    assert_eq!(refusal(serve(&mut open(&memory), add(1, 2, 0, 10))), None);
}

#[test]
fn deaths_outside_of_any_service_are_nobodys() {
    let memory = memory();
    serve(&mut open(&memory), add(1, 1, 0, 1));
    for faults in 1..10 {
        begin_a_life(&memory, faults);
    }
    assert_eq!(refusal(serve(&mut open_in(&memory, 10), add(1, 2, 0, 10))), None);
}

#[test]
fn a_death_is_counted_once_however_often_the_counting_is_killed() {
    for kill in 0.. {
        let memory = memory();
        serve(&mut open(&memory), add(1, 1, 0, 1));
        for faults in 0..2 {
            let mut server = open_in(&memory, faults);
            assert_eq!(memory.live(2, || serve(&mut server, add(1, 2, 0, 10))), None);
        }
        let survived = memory.live(kill, || begin_a_life(&memory, 2));
        begin_a_life(&memory, 2);
        // Two deaths: not yet poison.
        assert_eq!(refusal(serve(&mut open_in(&memory, 2), add(1, 2, 0, 10))), None, "killed after {kill}");
        if survived.is_some() {
            break;
        }
    }
}

/// Has the server die of a request, in the life that follows so many of its own faults.
fn die_of(memory: &Mortal, faults: u64, deadly: Request) {
    let mut server = open_in(memory, faults);
    // In its service: after the two stores of the mark.
    assert_eq!(memory.live(2, || serve(&mut server, deadly)), None);
}

#[test]
fn a_deadly_look_stays_refused_and_holds_nothing_else_up() {
    let memory = memory();
    serve(&mut open(&memory), add(1, 1, 0, 1));
    let path = [7; 3];
    let look = Request { extra: &path, ..request(client(1, 1), stamp(0, 2), READ, [0, 0]) };
    for faults in 0..3 {
        die_of(&memory, faults, look);
    }
    let mut server = open_in(&memory, 3);
    for _ in 0..10 {
        assert_eq!(refusal(serve(&mut server, look)), Some(Refusal::Poison));
    }
    let later = Request { extra: &path, ..request(client(1, 1), stamp(5, 9), READ, [0, 0]) };
    assert_eq!(refusal(serve(&mut server, later)), Some(Refusal::Poison), "whatever its stamp");
    assert_eq!(serve(&mut server, Request { extra: &[7; 4], ..look }).words[0], 1, "another look");
    assert_eq!(serve(&mut server, request(client(1, 1), stamp(0, 2), READ, [1, 0])).words[0], 0);
    assert_eq!(serve(&mut server, Request { badge: client(2, 1), ..look }).words[0], 1, "another's look");
    assert_eq!(serve(&mut server, add(1, 2, 0, 1)).words[0], 2, "and the lane's next request");
    assert_eq!(refusal(serve(&mut server, look)), Some(Refusal::Poison), "and nothing of that acquits it");
}

#[test]
fn one_client_costs_a_bounded_number_of_lives_whatever_it_asks() {
    let memory = memory();
    serve(&mut open(&memory), add(1, 1, 0, 1));
    serve(&mut open(&memory), add(2, 1, 0, 1));
    let (mut faults, mut cost) = (0, Vec::new());
    // Looks and requests in turn, no two of them alike. The server dies of each that it serves.
    for deadly in 0..40 {
        let number = 2 + deadly / 2;
        let asked = match deadly % 2 {
            0 => request(client(1, 1), stamp(0, number), DEADLY, [0, deadly]),
            _ => request(client(1, 1), stamp(0, number), DEADLY_LOOK, [deadly, deadly]),
        };
        let before = faults;
        // The client repeats what died, until it is refused.
        for _ in 0..5 {
            let mut server = open_in(&memory, faults);
            match catch_unwind(AssertUnwindSafe(|| serve(&mut server, asked))) {
                Err(_) => faults += 1,
                Ok(answer) => {
                    assert!(refusal(answer).is_some(), "{answer:?}");
                    break;
                }
            }
        }
        cost.push(faults - before);
        assert_eq!(refusal(serve(&mut open_in(&memory, faults), add(2, 2 + deadly, 0, 1))), None);
    }
    assert_eq!((faults, &cost[..5]), (6, &[3, 1, 1, 1, 0][..]));
    let banned = serve(&mut open_in(&memory, faults), add(1, 50, 0, 1));
    assert_eq!(refusal(banned), Some(Refusal::Banned));
    // Its next generation is not to blame.
    let next = serve(&mut open_in(&memory, faults), request(client(1, 2), stamp(0, 1), ADD, [0, 1]));
    assert_eq!(refusal(next), None);
}

#[test]
fn requests_that_are_answered_after_all_are_held_against_nobody() {
    let memory = memory();
    serve(&mut open(&memory), add(1, 1, 0, 1));
    for faults in 0..20 {
        let number = 2 + faults / 2;
        let asked = match faults % 2 {
            0 => add(1, number, 0, 1),
            _ => request(client(1, 1), stamp(0, number + 1), READ, [faults, 0]),
        };
        die_of(&memory, faults, asked);
        assert_eq!(refusal(serve(&mut open_in(&memory, faults + 1), asked)), None, "{faults}");
    }
    assert_eq!(counters(&memory), [11, 0, 0, 0]);
}
