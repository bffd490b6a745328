//! Messages that nobody's library has made.

use proptest::prelude::*;
use proto::ledger::Failure;
use proto::once::{Refusal, Stamp};

use super::*;
use crate::client::LedgerError;

/// Words that are likely to be mistaken for something.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..5,
        Just(u64::MAX),
        (0u64..6, 0u64..6).prop_map(|(serial, place)| serial << 16 | place),
        any::<u64>(),
    ]
}

fn message() -> impl Strategy<Value = (u64, u32, [u64; 8], Vec<u64>)> {
    let stamp = prop_oneof![
        4 => (0u16..3, 1u64..20).prop_map(|(lane, number)| Stamp { lane, number }.word()),
        1 => any::<u64>(),
    ];
    let label = prop_oneof![8 => 0u32..10, 1 => any::<u32>()];
    let words = prop::array::uniform7(word());
    let extra = prop::collection::vec(any::<u64>(), 0..=64);
    // Known, unknown, without a place, and strangers; never those that the test itself looks by.
    let slot = prop_oneof![3 => 0..3u16, 1 => Just(BOUNDS.slots as u16)];
    let client = prop_oneof![
        8 => (slot, 1u64..3).prop_map(|(slot, life)| badge(slot, life)),
        1 => any::<u64>().prop_map(|badge| badge | 1 << 63),
    ];
    (client, label, stamp, words, extra).prop_map(|(client, label, stamp, words, extra)| {
        let [a, b, c, d, e, f, g] = words;
        (client, label, [stamp, a, b, c, d, e, f, g], extra)
    })
}

proptest! {
    #[test]
    fn nonsense_is_answered_and_moves_no_money(messages in prop::collection::vec(message(), 1..60)) {
        let range = Range::new();
        let mut client = range.client(3, u64::from(u32::MAX), 0);
        let honest = client.open("honest", 1_000).expect("opened");
        let mut server = open(&range.memory);
        for (badge, label, words, extra) in messages {
            let message = Message::of(label, words);
            let answer = server.serve(&Request { badge, message, extra: &extra }, &mut Extra::new());
            let known = Failure::from_label(answer.label()).is_some()
                || Refusal::from_label(answer.label()).is_some();
            prop_assert!(answer.label() == 0 || known, "{:?}", answer);
        }
        range.check_conservation();
        prop_assert!(client.balance(honest).is_ok());
    }

    #[test]
    fn a_state_frame_of_nonsense_is_refused_or_served_from(
        words in prop::collection::vec((0usize..500, word()), 1..30),
    ) {
        use recover::Memory;
        let range = Range::new();
        range.client(1, 1, 0).open("alice", 100).expect("opened");
        for (at, value) in words {
            if at < range.memory.size() {
                range.memory.store(at, value);
            }
        }
        let life = Life { number: 2, faults: 1 };
        if let Ok(mut server) = Server::open(&range.memory, LEDGER.layout(BOUNDS), life, LEDGER) {
            for label in 0..10 {
                let message = Message::of(label, [1 + u64::from(label), 1 << 16, 1]);
                server.serve(&Request { badge: badge(1, 2), message, extra: &[97] }, &mut Extra::new());
            }
        }
    }
}

#[test]
fn threads_beyond_the_bound_are_pushed_back_and_harm_nobody() {
    let range = Range::new();
    for slot in 0..3 {
        for lane in 0..2 {
            range.client(slot, 1, lane).open(&format!("of {slot} {lane}"), 10).ok();
        }
    }
    let mut late = range.client(3, 1, 0);
    assert!(matches!(late.open("late", 10), Err(LedgerError::Failed(Failure::TooManyAccounts))));
    let mut more = range.client(3, 1, 1);
    let refused = more.open("more", 10);
    let expected = recover::CallError::Refused(Refusal::TooManyLanes);
    assert_eq!(refused, Err(LedgerError::Call(expected)));
    assert_eq!(more.totals().map(|totals| totals.accounts), Ok(4), "it may look");
    open(&range.memory).sweep(|slot| (slot == 1).then_some(2));
    assert!(matches!(more.open("more", 10), Err(LedgerError::Failed(Failure::TooManyAccounts))));
}
