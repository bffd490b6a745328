//! What the ledger answers when nobody shoots at it.

use proto::ledger::{Failure, PAGE};

use super::*;
use crate::client::{Account, LedgerError};

fn failed<T>(failure: Failure) -> Result<T, LedgerError> {
    Err(LedgerError::Failed(failure))
}

#[test]
fn money_moves_from_one_account_to_another() {
    let mut client = Range::new().client(1, 1, 0);
    let alice = client.open("alice", 100).expect("opened");
    let bob = client.open("bob", 5).expect("opened");
    let done = client.transfer(alice, bob, 30).expect("moved");
    assert_eq!((done.number, done.left), (0, 70));
    assert_eq!((client.balance(alice), client.balance(bob)), (Ok(70), Ok(35)));
    assert_eq!(client.find("bob"), Ok((bob, 35)));
    let totals = Totals { deposited: 105, sum: 105, accounts: 2, transfers: 1 };
    assert_eq!(client.totals(), Ok(totals));
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let range = Range::new();
    let mut client = range.client(1, 1, 0);
    let alice = client.open("alice", 100).expect("opened");
    let bob = client.open("bob", 0).expect("opened");
    assert_eq!(client.open("alice", 1), failed(Failure::NameTaken));
    assert_eq!(client.open("", 1), failed(Failure::BadName));
    assert_eq!(client.open("rich", u64::MAX - 99), failed(Failure::TooMuch));
    assert_eq!(client.transfer(alice, bob, 101), failed(Failure::NotEnough));
    assert_eq!(client.transfer(alice, alice, 1), failed(Failure::SameAccount));
    assert_eq!(client.transfer(alice, bob, 0), failed(Failure::Malformed));
    assert_eq!(client.close(alice), failed(Failure::NotEmpty));
    for nobody in [0, 1, alice.0 + 1, alice.0 + (1 << 16), u64::MAX].map(Account) {
        if nobody != bob {
            assert_eq!(client.transfer(nobody, bob, 1), failed(Failure::NoSuchAccount));
            assert_eq!(client.transfer(alice, nobody, 1), failed(Failure::NoSuchAccount));
            assert_eq!(client.balance(nobody), failed(Failure::NoSuchAccount));
            assert_eq!(client.close(nobody), failed(Failure::NoSuchAccount));
        }
    }
    assert_eq!(client.find("carol"), failed(Failure::NoSuchAccount));
    let totals = Totals { deposited: 100, sum: 100, accounts: 2, transfers: 0 };
    assert_eq!(client.totals(), Ok(totals));
    range.check_conservation();
}

#[test]
fn everything_there_is_can_be_in_one_account() {
    let mut client = Range::new().client(1, 1, 0);
    let [all, none] = [("all", u64::MAX), ("none", 0)].map(|(name, deposit)| client.open(name, deposit));
    let (all, none) = (all.expect("opened"), none.expect("opened"));
    client.transfer(all, none, u64::MAX).expect("moved");
    assert_eq!((client.balance(all), client.balance(none)), (Ok(0), Ok(u64::MAX)));
}

#[test]
fn a_closed_account_makes_room_and_its_number_never_returns() {
    let mut client = Range::new().client(1, 1, 0);
    let opened: Vec<_> = ["a", "b", "c", "d"].map(|name| client.open(name, 0).expect("room")).into();
    assert_eq!(client.open("e", 0), failed(Failure::TooManyAccounts));
    client.close(opened[1]).expect("empty");
    assert_eq!(client.close(opened[1]), failed(Failure::NoSuchAccount));
    let again = client.open("b", 0).expect("there is room again");
    assert!(!opened.contains(&again));
    assert_eq!(client.balance(opened[1]), failed(Failure::NoSuchAccount));
}

#[test]
fn accounts_are_listed_with_their_names() {
    let mut client = Range::new().client(1, 1, 0);
    let names = ["Zoë", "A name of 32 bytes, and no more!", "x"];
    for (name, deposit) in names.iter().zip(1..) {
        client.open(name, deposit).expect("opened");
    }
    let (mut place, mut listed) = (0, Vec::new());
    while let Some(account) = client.list(place).expect("a list") {
        listed.push((account.name.as_str().to_owned(), account.contents));
        place = account.next;
    }
    assert_eq!(listed, names.iter().zip(1..).map(|(name, sum)| ((*name).into(), sum)).collect::<Vec<_>>());
    assert_eq!(client.list(u64::MAX), Ok(None));
}

#[test]
fn the_history_holds_the_latest_transfers_and_says_what_it_has_forgotten() {
    let mut client = Range::new().client(1, 1, 0);
    let alice = client.open("alice", 1000).expect("opened");
    let bob = client.open("bob", 0).expect("opened");
    assert_eq!(client.history(0).map(|page| page.transfers().count()), Ok(0));
    for amount in 1..=11 {
        client.transfer(alice, bob, amount).expect("moved");
    }
    let page = client.history(0).expect("a page");
    let expected: Vec<_> = (4..=11).map(|amount| [alice.0, bob.0, amount]).collect();
    assert_eq!((page.first, page.count, page.transfers().collect::<Vec<_>>()), (3, 11, expected));
    let page = client.history(9).expect("a page");
    assert_eq!(
        (page.first, page.transfers().map(|[.., amount]| amount).collect::<Vec<_>>()),
        (9, vec![10, 11])
    );
    assert_eq!(client.history(u64::MAX).map(|page| page.transfers().count()), Ok(0));
}

#[test]
fn a_long_history_comes_in_pages() {
    let memory = Mortal::new(Ledger::default().layout(BOUNDS).shape().frame_words());
    let layout = Ledger::default().layout(BOUNDS);
    let life = Life { number: 1, faults: 0 };
    let mut server = Server::open(&memory, layout, life, Ledger::default()).expect("a new state");
    let mut ask = |label, number, words: [u64; 3], extra: &[u64], answer: &mut Extra| {
        let message = Message::of(label, [number, words[0], words[1], words[2]]);
        server.serve(&Request { badge: badge(1, 1), message, extra }, answer).words
    };
    let answer = &mut Extra::new();
    let from = ask(1, 1, [1000, 1, 0], &[u64::from(b'a')], answer)[0];
    let to = ask(1, 2, [0, 1, 0], &[u64::from(b'b')], answer)[0];
    for number in 0..40 {
        ask(3, 3 + number, [from, to, number + 1], &[], answer);
    }
    let (mut next, mut amounts) = (0, Vec::new());
    while next < 40 {
        let [count, first, all, ..] = ask(6, 43, [next, 0, 0], &[], answer);
        assert_eq!((first, all), (next, 40));
        assert!((1..=PAGE as u64).contains(&count));
        amounts.extend(answer.as_chunks::<3>().0.iter().map(|[.., amount]| *amount));
        next += count;
    }
    assert_eq!(amounts, (1..=40).collect::<Vec<_>>());
}

#[test]
fn the_state_of_the_running_system_fits_its_frame() {
    assert_eq!(Ledger::default().layout(crate::BOUNDS).frame_bits(), 16);
}
