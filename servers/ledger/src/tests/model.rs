//! Several clients at random, with a ledger that is shot at random, against the simplest ledger there is.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proto::ledger::Failure;

use super::*;
use crate::client::{Account, LedgerError};

/// Names and their contents.
#[derive(Clone, Debug, Default)]
struct Model {
    contents: BTreeMap<String, u64>,
    transfers: Vec<(String, String, u64)>,
}

impl Model {
    fn open(&mut self, name: &str, deposit: u64) -> Result<(), Failure> {
        if self.contents.contains_key(name) {
            return Err(Failure::NameTaken);
        }
        if self.contents.len() == 4 {
            return Err(Failure::TooManyAccounts);
        }
        self.contents.insert(name.into(), deposit);
        Ok(())
    }

    fn close(&mut self, name: &str) -> Result<(), Failure> {
        match self.contents.get(name) {
            Some(0) => self.contents.remove(name).map(|_| ()).ok_or(Failure::NoSuchAccount),
            Some(_) => Err(Failure::NotEmpty),
            None => Err(Failure::NoSuchAccount),
        }
    }

    fn transfer(&mut self, from: &str, to: &str, amount: u64) -> Result<u64, Failure> {
        if amount == 0 {
            return Err(Failure::Malformed);
        }
        if from == to {
            return Err(Failure::SameAccount);
        }
        let held = *self.contents.get(from).ok_or(Failure::NoSuchAccount)?;
        self.contents.get(to).ok_or(Failure::NoSuchAccount)?;
        let left = held.checked_sub(amount).ok_or(Failure::NotEnough)?;
        self.contents.insert(from.into(), left);
        *self.contents.get_mut(to).expect("just seen") += amount;
        self.transfers.push((from.into(), to.into(), amount));
        Ok(left)
    }
}

const NAMES: [&str; 6] = ["ann", "bob", "cat", "dan", "eve", "fay"];

#[derive(Clone, Debug)]
enum Ask {
    Open(usize, u64),
    Close(usize),
    Transfer(usize, usize, u64),
    Balance(usize),
}

fn ask() -> impl Strategy<Value = Ask> {
    let name = 0..NAMES.len();
    prop_oneof![
        3 => (name.clone(), 0u64..50).prop_map(|(name, deposit)| Ask::Open(name, deposit)),
        1 => name.clone().prop_map(Ask::Close),
        8 => (name.clone(), name.clone(), 0u64..40).prop_map(|(from, to, amount)| Ask::Transfer(from, to, amount)),
        1 => name.prop_map(Ask::Balance),
    ]
}

fn shot() -> impl Strategy<Value = Shot> {
    prop_oneof![
        5 => Just(Shot::Missed),
        5 => (0u64..60).prop_map(Shot::After),
        1 => Just(Shot::BeforeTheAnswer),
    ]
}

/// A client with its lane, and the numbers of the accounts it has heard of.
struct Party {
    clients: Vec<Client<Line>>,
    numbers: BTreeMap<String, Account>,
}

impl Party {
    /// The number of an account; of one that is not there a number that never was one.
    fn number(&self, name: &str) -> Account {
        let nobody = Account(0xdead_0000 + NAMES.iter().position(|each| *each == name).unwrap_or(0) as u64);
        self.numbers.get(name).copied().unwrap_or(nobody)
    }

    fn ask(&mut self, who: usize, ask: &Ask) -> Result<u64, LedgerError> {
        match *ask {
            Ask::Open(name, deposit) => {
                let account = self.clients[who].open(NAMES[name], deposit)?;
                self.numbers.insert(NAMES[name].into(), account);
                Ok(0)
            }
            Ask::Close(name) => {
                let account = self.number(NAMES[name]);
                self.clients[who].close(account)?;
                self.numbers.remove(NAMES[name]);
                Ok(0)
            }
            Ask::Transfer(from, to, amount) => {
                let (from, to) = (self.number(NAMES[from]), self.number(NAMES[to]));
                self.clients[who].transfer(from, to, amount).map(|done| done.left)
            }
            Ask::Balance(name) => {
                let account = self.number(NAMES[name]);
                self.clients[who].balance(account)
            }
        }
    }
}

fn expected(model: &mut Model, ask: &Ask) -> Result<u64, Failure> {
    match *ask {
        Ask::Open(name, deposit) => model.open(NAMES[name], deposit).map(|()| 0),
        Ask::Close(name) => model.close(NAMES[name]).map(|()| 0),
        Ask::Transfer(from, to, amount) => model.transfer(NAMES[from], NAMES[to], amount),
        Ask::Balance(name) => model.contents.get(NAMES[name]).copied().ok_or(Failure::NoSuchAccount),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn clients_see_the_model_and_never_a_death(
        asks in prop::collection::vec((0usize..6, ask(), shot()), 1..100),
    ) {
        let range = Range::new();
        // Three clients of two lanes each.
        let clients = (0..6).map(|at| range.client(at / 2, 1, at % 2)).collect();
        let mut party = Party { clients, numbers: BTreeMap::new() };
        let mut model = Model::default();
        for (who, ask, shot) in asks {
            range.next.set(shot);
            let answer = party.ask(who, &ask);
            prop_assert_eq!(answer, expected(&mut model, &ask).map_err(LedgerError::Failed), "{:?}", ask);
            let totals = range.totals();
            prop_assert_eq!(totals.sum, totals.deposited);
            prop_assert_eq!(totals.sum, model.contents.values().sum::<u64>());
            prop_assert_eq!(totals.transfers, model.transfers.len() as u64);
        }
        let page = range.client(LOOKER, 1, 0).history(0).expect("a page");
        let remembered = &model.transfers[page.first as usize..];
        let amounts: Vec<_> = remembered.iter().map(|(.., amount)| *amount).collect();
        prop_assert_eq!(page.transfers().map(|[.., amount]| amount).collect::<Vec<_>>(), amounts);
    }
}
