//! Every kind of request, with a ledger that dies after every single store of it.

use recover::CallError;

use super::*;
use crate::client::{Account, LedgerError};

/// A ledger with two accounts.
fn range() -> (Rc<Range>, Client<Line>, [Account; 2]) {
    let range = Range::new();
    let mut client = range.client(1, 1, 0);
    let alice = client.open("alice", 100).expect("opened");
    let bob = client.open("bob", 0).expect("opened");
    (range, client, [alice, bob])
}

/// What there is to see of a ledger.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    totals: Totals,
    /// Name, number, contents.
    accounts: Vec<(String, u64, u64)>,
    history: Vec<[u64; 3]>,
}

fn seen(range: &Rc<Range>) -> Seen {
    let mut client = range.client(LOOKER, 1, 0);
    let (mut place, mut accounts) = (0, Vec::new());
    while let Some(account) = client.list(place).expect("a list") {
        accounts.push((account.name.as_str().to_owned(), account.account.0, account.contents));
        place = account.next;
    }
    let history = client.history(0).expect("a page").transfers().collect();
    Seen { totals: client.totals().expect("totals"), accounts, history }
}

type Ask = fn(&mut Client<Line>, [Account; 2]) -> Result<u64, LedgerError>;

const REQUESTS: [(&str, Ask); 13] = [
    ("open", |client, _| client.open("carol", 7).map(|account| account.0)),
    ("open: taken", |client, _| client.open("bob", 7).map(|account| account.0)),
    ("open: too much", |client, _| client.open("carol", u64::MAX).map(|account| account.0)),
    ("close", |client, [_, bob]| client.close(bob).map(|()| 0)),
    ("close: not empty", |client, [alice, _]| client.close(alice).map(|()| 0)),
    ("transfer", |client, [alice, bob]| client.transfer(alice, bob, 30).map(|done| done.left)),
    ("transfer of all", |client, [alice, bob]| client.transfer(alice, bob, 100).map(|done| done.left)),
    ("transfer: not enough", |client, [alice, bob]| client.transfer(alice, bob, 101).map(|done| done.left)),
    ("balance", |client, [alice, _]| client.balance(alice)),
    ("find", |client, _| client.find("bob").map(|(account, _)| account.0)),
    ("history", |client, _| client.history(0).map(|page| page.count)),
    ("list", |client, _| client.list(0).map(|found| found.map_or(0, |account| account.contents))),
    ("totals", |client, _| client.totals().map(|totals| totals.sum)),
];

#[test]
fn a_request_happens_once_whenever_the_ledger_dies_of_it() {
    let mut deaths = 0;
    for (name, ask) in REQUESTS {
        let (undisturbed, mut client, accounts) = range();
        let before = undisturbed.memory.stores();
        let expected = ask(&mut client, accounts);
        let stores = undisturbed.memory.stores() - before;
        let shots = (0..=stores).map(Shot::After).chain([Shot::BeforeTheAnswer]);
        for shot in shots {
            let (range, mut client, accounts) = range();
            range.next.set(shot);
            assert_eq!(ask(&mut client, accounts), expected, "{name}, {shot:?} of {stores}");
            assert_eq!(seen(&range), seen(&undisturbed), "{name}, {shot:?} of {stores}");
            let died = range.deaths.get();
            assert_eq!((died, client.caller().repeats()), (u64::from(shot != Shot::After(stores)), died));
            deaths += died;
        }
    }
    assert!(deaths > 200, "{deaths} deaths");
}

#[test]
fn a_client_that_dies_in_doubt_finds_its_request_done_once_or_not_at_all() {
    for stores in 0.. {
        let (range, mut client, [alice, bob]) = range();
        range.next.set(Shot::After(stores));
        // The client dies with its ledger: nobody repeats the request.
        let line = &mut Line { range: Rc::clone(&range), badge: badge(1, 1) };
        let message = Message::of(3, [3, alice.0, bob.0, 30]);
        let survived = line.call(message, &[], &mut Extra::new()).is_ok();
        let mut next_life = range.client(1, 2, 0);
        let left = next_life.balance(alice).expect("an answer");
        assert!(left == 100 || left == 70, "{left} after {stores}");
        assert_eq!(next_life.transfer(alice, bob, 5).map(|done| done.left), Ok(left - 5));
        range.check_conservation();
        // What the dead one had asked cannot come after all.
        let late = client.transfer(alice, bob, 30);
        assert_eq!(late, Err(LedgerError::Call(CallError::Refused(proto::once::Refusal::OldGeneration))));
        if survived {
            break;
        }
    }
}
