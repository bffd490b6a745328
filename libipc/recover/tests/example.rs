//! The worked example of docs/recovery.md: that it is what the page shows, and that it keeps what the page promises.

#[path = "example/tally.rs"]
mod tally;

use ipc::Message;
use proto::once::Stamp;
use proto::principal::Principal;
use recover::mortal::Mortal;
use recover::server::Life;
use recover::{Extra, Request, Server};
use tally::{ADD, FAILED, OK, READ, Tally};

const PAGE: &str = include_str!("../../../docs/recovery.md");

/// The blocks of Rust that the page shows.
fn shown() -> Vec<&'static str> {
    PAGE.split("```rust\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```").map(|(block, _)| block))
        .collect()
}

#[test]
fn the_page_shows_this_code() {
    assert!(shown().contains(&include_str!("example/tally.rs")));
    assert!(shown().contains(&include_str!("../../../servers/ledger/src/main.rs")));
    assert_eq!(shown().len(), 3, "a block that nobody compiles goes stale");
    let lines: usize = shown().iter().map(|block| block.lines().count()).sum();
    assert!(lines < 150, "{lines} lines are more than a worked example should have");
}

#[test]
fn the_page_shows_this_test() {
    let own = include_str!("example.rs");
    assert!(shown().iter().any(|block| own.contains(block)));
}

fn request(number: u64, label: u32, words: [u64; 2]) -> Request<'static> {
    let badge = Principal { slot: 1, generation: 1 }.badge();
    let stamp = Stamp { lane: 0, number }.word();
    Request { badge, message: Message::of(label, [stamp, words[0], words[1]]), extra: &[] }
}

#[test]
fn what_makes_no_sense_is_answered_so() {
    let memory = Mortal::new(Tally::LAYOUT.shape().frame_words());
    let mut server = open(&memory);
    let mut ask = |number, label, words| server.serve(&request(number, label, words), &mut Extra::new());
    for (number, words) in [(1, [16, 1]), (2, [u64::MAX, 1])] {
        assert_eq!(ask(number, ADD, words).label(), FAILED);
        assert_eq!(ask(number + 1, READ, words).label(), FAILED);
    }
    assert_eq!(ask(3, ADD, [0, u64::MAX]).label(), OK);
    assert_eq!(ask(4, ADD, [0, 1]).label(), FAILED);
    assert_eq!(ask(5, 9, [0, 0]).label(), FAILED);
}

fn open(memory: &Mortal) -> Server<&Mortal, Tally> {
    Server::open(memory, Tally::LAYOUT, Life { number: 1, faults: 0 }, Tally).expect("a whole state")
}

#[test]
fn a_request_happens_once_wherever_the_server_dies() {
    for stores in 0.. {
        let memory = Mortal::new(Tally::LAYOUT.shape().frame_words());
        let ask = || open(&memory).serve(&request(1, ADD, [3, 5]), &mut Extra::new());
        // The first life makes so many stores; the client repeats its request if it got no answer.
        let first = memory.live(stores, ask);
        let answer = first.unwrap_or_else(ask);
        assert_eq!((answer.words[0], open(&memory).view().get(3)), (5, 5), "killed after {stores}");
        if first.is_some() {
            break;
        }
    }
}
