//! A server that keeps objects for its clients, killed after every single store.

use std::collections::BTreeMap;
use std::ops::Range;

use ipc::Message;
use proptest::prelude::*;
use proto::once::Stamp;
use proto::principal::Principal;
use recover::mortal::Mortal;
use recover::objects::{self, BadTable, NoObject, Objects};
use recover::server::{Layout, Life};
use recover::sessions::Bounds;
use recover::{Extra, JournalFull, Memory, Request, Server, Service, View, Work};

const STORE: Objects = Objects { first: 0, places: 6, pages: 20 };
const LAYOUT: Layout =
    Layout::new(objects::JOURNAL, Bounds { slots: 2, pool: 0, each: 0 }, STORE.words() as u32);

/// Makes object word 0 of word 1 pages; frees object word 0.
const MAKE: u32 = 1;
const FREE: u32 = 2;

struct Keeper;

fn refused(why: NoObject) -> Message {
    Message::of(10, [why as u64])
}

impl Service for Keeper {
    const VERSION: u32 = 1;

    fn only_looks(&self, _: u32) -> bool {
        false
    }

    fn look<M: Memory>(&self, _: &View<M>, _: &Request, _: &mut Extra) -> Message {
        unreachable!("nothing only looks")
    }

    fn work<M: Memory>(&self, words: &mut Work<M>, request: &Request) -> Result<Message, JournalFull> {
        let [key, pages, ..] = request.words();
        let done = match request.message.label() {
            MAKE => STORE.make(words, key, pages as u32)?.map_or_else(refused, answered),
            _ => STORE.free(words, key)?.map_or(Message::new(11), answered),
        };
        Ok(done)
    }
}

fn answered(pages: Range<u32>) -> Message {
    Message::of(0, [u64::from(pages.start), u64::from(pages.end)])
}

fn open(memory: &Mortal) -> Server<&Mortal, Keeper> {
    let server = Server::open(memory, LAYOUT, Life { number: 1, faults: 0 }, Keeper).expect("whole");
    assert_eq!(STORE.check(&server.view()), Ok(()));
    server
}

fn ask(memory: &Mortal, number: u64, label: u32, key: u64, pages: u64) -> Message {
    let message = Message::of(label, [Stamp { lane: 0, number }.word(), key, pages]);
    let badge = Principal { slot: 1, generation: 1 }.badge();
    open(memory).serve(&Request { badge, message, extra: &[] }, &mut Extra::new())
}

fn memory() -> Mortal {
    Mortal::new(LAYOUT.shape().frame_words())
}

#[test]
fn an_object_is_found_again_by_its_key_and_its_pages_are_nobody_elses() {
    let memory = memory();
    assert_eq!(ask(&memory, 1, MAKE, 7, 5), answered(0..5));
    assert_eq!(ask(&memory, 2, MAKE, 8, 10), answered(5..15));
    assert_eq!(ask(&memory, 3, MAKE, 7, 1), refused(NoObject::KeyTaken));
    assert_eq!(ask(&memory, 4, MAKE, 9, 6), refused(NoObject::NoRoom));
    assert_eq!(ask(&memory, 5, FREE, 7, 0), answered(0..5));
    assert_eq!(ask(&memory, 6, MAKE, 9, 5), answered(0..5), "the gap");
    assert_eq!(ask(&memory, 7, MAKE, 0, 1), refused(NoObject::Malformed));
    assert_eq!(ask(&memory, 8, MAKE, 1, 0), refused(NoObject::Malformed));
    let server = open(&memory);
    assert_eq!(STORE.find(&server.view(), 8), Some(5..15));
    assert_eq!(STORE.find(&server.view(), 7), None);
    assert_eq!(STORE.free_pages(&server.view()), 5);
}

#[test]
fn an_object_is_made_and_freed_once_wherever_the_server_dies() {
    for kill in 0.. {
        let memory = memory();
        ask(&memory, 1, MAKE, 7, 5);
        let made = || ask(&memory, 2, MAKE, 8, 10);
        let freed = || ask(&memory, 3, FREE, 7, 0);
        let (mut survived, first) = (true, memory.live(kill, made));
        survived &= first.is_some();
        assert_eq!(first.unwrap_or_else(made), answered(5..15), "killed after {kill}");
        let second = memory.live(kill, freed);
        survived &= second.is_some();
        assert_eq!(second.unwrap_or_else(freed), answered(0..5), "killed after {kill}");
        let server = open(&memory);
        assert_eq!(STORE.all(&server.view()).collect::<Vec<_>>(), [(8, 5..15)], "killed after {kill}");
        if survived {
            break;
        }
    }
}

#[test]
fn a_table_that_is_damaged_is_not_relied_on() {
    let extent = |first: u64, pages: u64| first << 32 | pages;
    for (second, whole) in [
        ([8, extent(5, 15)], true),
        ([8, extent(4, 3)], false),
        ([7, extent(5, 3)], false),
        ([8, extent(5, 16)], false),
        ([8, extent(5, 0)], false),
        ([8, u64::MAX], false),
    ] {
        let memory = memory();
        ask(&memory, 1, MAKE, 7, 5);
        let table = memory.size() - STORE.words();
        memory.store(table + 2, second[0]);
        memory.store(table + 3, second[1]);
        let server = Server::open(&memory, LAYOUT, Life { number: 1, faults: 0 }, Keeper).expect("whole");
        let expected = if whole { Ok(()) } else { Err(BadTable) };
        assert_eq!(STORE.check(&server.view()), expected, "{second:x?}");
    }
}

proptest! {
    #[test]
    fn objects_are_those_of_the_model_and_never_overlap(
        asked in prop::collection::vec((any::<bool>(), 1u64..9, 1u64..9, prop::option::of(0u64..30)), 1..60),
    ) {
        let memory = memory();
        let mut model: BTreeMap<u64, u32> = BTreeMap::new();
        for (number, (makes, key, pages, kill)) in (1..).zip(asked) {
            let label = if makes { MAKE } else { FREE };
            let request = || ask(&memory, number, label, key, pages);
            let answer = memory.live(kill.unwrap_or(u64::MAX), request).unwrap_or_else(request);
            let was_there = model.contains_key(&key);
            match (makes, answer.label()) {
                (true, 0) => prop_assert_eq!(model.insert(key, pages as u32), None),
                (true, _) => {
                    let free = STORE.pages - model.values().sum::<u32>();
                    // Refused for a reason: there may be room, but not in a row.
                    let row = answer.words[0] == NoObject::NoRoom as u64;
                    prop_assert!(was_there || model.len() == STORE.places || row && free < STORE.pages);
                }
                (false, 0) => prop_assert!(model.remove(&key).is_some()),
                (false, _) => prop_assert!(!was_there),
            }
            let server = open(&memory);
            let there: BTreeMap<u64, u32> =
                STORE.all(&server.view()).map(|(key, pages)| (key, pages.end - pages.start)).collect();
            prop_assert_eq!(&there, &model);
        }
    }
}
