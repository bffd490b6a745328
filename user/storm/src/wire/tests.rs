//! The guest's side and the peer, on a wire that loses frames.

use net::wire::frame::Mac;
use proptest::prelude::*;

use super::*;
use crate::random::Random;
use crate::tally::Tally;

const GUEST: Mac = Mac([2, 0, 0, 0, 0, 1]);
const SECOND: u64 = 1_000_000;

/// A wire between the two, with a clock.
struct Wire {
    peer: Peer,
    now: u64,
    random: Random,
    /// Of a thousand frames so many are lost.
    losses: u64,
}

impl Wire {
    fn new(seed: u64, losses: u64) -> Wire {
        Wire { peer: Peer::default(), now: 0, random: Random::new(seed), losses }
    }

    fn carries(&mut self) -> bool {
        self.random.below(1000) >= self.losses
    }

    /// One frame each way; false if there was none.
    fn step(&mut self, exchange: &mut Exchange) -> bool {
        let mut room = [0; 2048];
        let mut moved = false;
        if let Some(length) = exchange.poll(self.now, &mut room) {
            moved = true;
            if self.carries() {
                self.peer.receive(self.now, &room[..length]);
            }
        }
        if let Some(length) = self.peer.poll(self.now, &mut room) {
            moved = true;
            if self.carries() {
                exchange.receive(self.now, &room[..length]);
            }
        }
        self.now += 10;
        moved
    }

    fn run(&mut self, exchange: &mut Exchange) {
        for _ in 0..1_000_000 {
            if exchange.is_done() {
                return;
            }
            if !self.step(exchange) && !exchange.is_done() {
                let deadlines = [exchange.deadline(), self.peer.deadline()];
                self.now = self.now.max(deadlines.into_iter().flatten().min().expect("someone waits"));
            }
        }
        panic!("it does not come to its end: {exchange:?}");
    }
}

fn exchange(session: u32, amount: Amount) -> Exchange {
    Exchange::new(GUEST, session, amount, SECOND)
}

#[test]
fn on_a_good_wire_all_comes_back() {
    let mut wire = Wire::new(1, 0);
    let amount = Amount { bytes: 300_000, echoes: 100, under_way: 16 };
    let mut exchange = exchange(1, amount);
    wire.run(&mut exchange);
    assert_eq!(exchange.tally(), Tally { bytes: 600_000, requests: 100, ..Tally::default() });
    assert_eq!((exchange.lost_frames(), exchange.round_trips().count()), (0, 100));
}

#[test]
fn sessions_follow_each_other() {
    let mut wire = Wire::new(1, 20);
    for session in [3, 4, 9] {
        let mut exchange = exchange(session, Amount { bytes: 10_000, echoes: 5, under_way: 16 });
        wire.run(&mut exchange);
        assert!(exchange.tally().is_clean(), "{:?}", exchange.tally());
    }
}

#[test]
fn a_stream_that_was_abandoned_is_no_error_of_those_after_it() {
    let mut wire = Wire::new(1, 0);
    let amount = Amount { bytes: 300_000, echoes: 0, under_way: 16 };
    for session in [1, 3] {
        let mut abandoned = exchange(session, amount);
        for _ in 0..10 {
            wire.step(&mut abandoned);
        }
        let mut next = exchange(session + 1, amount);
        wire.run(&mut next);
        assert_eq!(next.tally(), Tally { bytes: 600_000, ..Tally::default() });
    }
}

#[test]
fn what_a_driver_lost_is_asked_for_at_once_when_it_is_there_again() {
    let mut wire = Wire::new(1, 0);
    let mut exchange = exchange(1, Amount { bytes: 300_000, echoes: 100, under_way: 16 });
    for death in 0..20 {
        for _ in 0..5 {
            wire.step(&mut exchange);
        }
        wire.losses = 1000;
        for _ in 0..2 + death % 3 {
            wire.step(&mut exchange);
        }
        wire.losses = 0;
        exchange.resume();
    }
    wire.run(&mut exchange);
    assert!(exchange.tally().is_clean(), "{:?}", exchange.tally());
    // No timer of a stream ran out: all of it took less than the shortest.
    assert_eq!(exchange.counts().timeouts, 0);
}

#[test]
fn an_account_is_read_as_it_was_written() {
    let account = Account { arrived: 1, wrong: u64::MAX };
    assert_eq!(Account::from_bytes(&account.to_bytes()), account);
}

#[test]
fn a_wrong_byte_is_seen_wherever_it_is() {
    let mut bytes: Vec<u8> = (5..105).map(|place| byte(7, place)).collect();
    assert_eq!(wrong(7, 5, &bytes), 0);
    bytes[50] ^= 1;
    assert_eq!(wrong(7, 5, &bytes), 1);
    assert!(wrong(7, 6, &bytes) > 80);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn on_a_bad_wire_the_stream_comes_back_whole(bytes in 0u64..100_000, echoes in 0u64..50, losses in 0u64..300, seed: u64) {
        let mut wire = Wire::new(seed, losses);
        let mut exchange = exchange(1, Amount { bytes, echoes, under_way: 16 });
        wire.run(&mut exchange);
        prop_assert!(exchange.tally().is_clean(), "{:?}", exchange.tally());
        prop_assert_eq!(exchange.tally().bytes, bytes * 2);
    }
}
