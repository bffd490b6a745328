//! The protocol over the tables.

use ipc::Message;
use proto::ledger::{Failure, NAME_WORDS, OK, Request as Asked};
use recover::server::{Layout, Service};
use recover::sessions::Bounds;
use recover::{Extra, JournalFull, Memory, Request, View, Work};

use crate::accounts::{Accounts, Listed};
use crate::history::History;

/// The ledger.
#[derive(Clone, Copy, Debug)]
pub struct Ledger {
    accounts: Accounts,
    history: History,
}

impl Default for Ledger {
    /// Its size in the running system.
    fn default() -> Ledger {
        Ledger::new(64, 512)
    }
}

impl Ledger {
    /// A ledger of so many accounts, which remembers so many transfers; at least one of each.
    pub const fn new(accounts: usize, transfers: usize) -> Ledger {
        let accounts = Accounts { first: 0, places: accounts };
        Ledger { accounts, history: History { first: accounts.words(), length: transfers } }
    }

    /// What its state frame holds, for so many clients.
    pub const fn layout(&self, bounds: Bounds) -> Layout {
        let words = (self.accounts.words() + self.history.words()) as u32;
        // Opening an account changes most: serial number, deposits, and the account.
        Layout::new(5 + NAME_WORDS as u32, bounds, words)
    }

    fn transfer<M: Memory>(&self, words: &mut Work<M>, request: &Request) -> Result<Message, JournalFull> {
        let [from, to, amount, ..] = request.words();
        match self.accounts.transfer(words, from, to, amount)? {
            Ok(left) => Ok(Message::of(OK, [self.history.add(words, [from, to, amount])?, left])),
            Err(failure) => Ok(failed(failure)),
        }
    }

    fn page<M: Memory>(&self, words: &View<M>, from: u64, extra: &mut Extra) -> Message {
        let (first, transfers) = self.history.page(words, from);
        extra.extend(transfers.flatten());
        let count = extra.len() / proto::ledger::TRANSFER_WORDS;
        Message::of(OK, [count as u64, first, self.history.count(words)])
    }

    fn list<M: Memory>(&self, words: &View<M>, place: u64, extra: &mut Extra) -> Message {
        match self.accounts.from_place(words, place) {
            Some(Listed { place, number, contents, name, length }) => {
                extra.extend(name);
                Message::of(OK, [number, contents, place as u64 + 1, length])
            }
            None => failed(Failure::NoSuchAccount),
        }
    }
}

impl Service for Ledger {
    const VERSION: u32 = 1;

    fn only_looks(&self, label: u32) -> bool {
        // What is no request changes nothing either.
        Asked::from_label(label).is_none_or(Asked::only_looks)
    }

    fn look<M: Memory>(&self, words: &View<M>, request: &Request, extra: &mut Extra) -> Message {
        let [first, ..] = request.words();
        match Asked::from_label(request.message.label()) {
            Some(Asked::Balance) => answered(self.accounts.contents(words, first).map(|contents| [contents])),
            Some(Asked::Find) => {
                let found = self.accounts.named(words, request.extra, first);
                answered(found.map(|account| [account.number, account.contents]))
            }
            Some(Asked::History) => self.page(words, first, extra),
            Some(Asked::Account) => self.list(words, first, extra),
            Some(Asked::Totals) => {
                let [deposited, sum, accounts] = self.accounts.totals(words);
                Message::of(OK, [deposited, sum, accounts, self.history.count(words)])
            }
            Some(Asked::Open | Asked::Close | Asked::Transfer) | None => failed(Failure::Malformed),
        }
    }

    fn work<M: Memory>(&self, words: &mut Work<M>, request: &Request) -> Result<Message, JournalFull> {
        let [first, second, ..] = request.words();
        match Asked::from_label(request.message.label()) {
            Some(Asked::Open) => {
                let opened = self.accounts.open(words, request.extra, second, first)?;
                Ok(answered(opened.map(|number| [number])))
            }
            Some(Asked::Close) => Ok(answered(self.accounts.close(words, first)?.map(|()| []))),
            Some(Asked::Transfer) => self.transfer(words, request),
            _ => Ok(failed(Failure::Malformed)),
        }
    }
}

fn answered<const N: usize>(outcome: Result<[u64; N], Failure>) -> Message {
    match outcome {
        Ok(words) => Message::of(OK, words),
        Err(failure) => failed(failure),
    }
}

fn failed(failure: Failure) -> Message {
    Message::new(failure as u32)
}
