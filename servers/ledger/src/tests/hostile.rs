//! Messages that nobody's library has made.

use proptest::prelude::*;
use proto::ledger::Failure;
use proto::once::Refusal;

use super::*;

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
        4 => (1u64..3, 0u64..3, 1u64..20).prop_map(|(epoch, lane, number)| [epoch << 32 | lane, number]),
        1 => [any::<u64>(), any::<u64>()],
    ];
    let label = prop_oneof![8 => 0u32..10, 1 => any::<u32>()];
    let words = prop::array::uniform6(word());
    let extra = prop::collection::vec(any::<u64>(), 0..=64);
    (0u64..6, label, stamp, words, extra).prop_map(|(badge, label, stamp, words, extra)| {
        let [a, b, c, d, e, f] = words;
        (badge, label, [stamp[0], stamp[1], a, b, c, d, e, f], extra)
    })
}

proptest! {
    #[test]
    fn nonsense_is_answered_and_moves_no_money(messages in prop::collection::vec(message(), 1..60)) {
        let range = Range::new();
        let mut client = range.client(77, 1, 0);
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
        words in prop::collection::vec((0usize..400, word()), 1..30),
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
                let message = Message::of(label, [2 << 32, 1 + u64::from(label), 1 << 16, 1]);
                server.serve(&Request { badge: 1, message, extra: &[97] }, &mut Extra::new());
            }
        }
    }
}

#[test]
fn clients_beyond_the_bound_are_pushed_back_and_harm_nobody() {
    let range = Range::new();
    for badge in 0..3 {
        range.client(badge, 1, 0).open(&format!("of {badge}"), 10).expect("opened");
    }
    let mut late = range.client(3, 1, 0);
    let refused = late.open("late", 10);
    let expected = recover::CallError::Refused(Refusal::TooManyClients);
    assert_eq!(refused, Err(crate::client::LedgerError::Call(expected)));
    assert_eq!(late.totals().map(|totals| totals.accounts), Ok(3), "it may look");
    open(&range.memory).forget(1);
    late.open("late", 10).expect("there is room now");
}
