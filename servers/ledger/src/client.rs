//! What a program calls the ledger by.

use ipc::Message;
use proto::ledger::{Failure, Name, OK, Request, TRANSFER_WORDS, name_from_words, name_words};
use recover::{CallError, Caller, Extra, Link};

use crate::history::Transfer;

/// An account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account(pub u64);

/// Why the ledger did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerError {
    /// It said so.
    Failed(Failure),
    /// The call has no answer of the ledger's.
    Call(CallError),
    /// Its answer makes no sense.
    Nonsense,
}

impl core::fmt::Display for LedgerError {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        match self {
            LedgerError::Failed(failure) => f.write_str(failure.meaning()),
            LedgerError::Call(error) => error.fmt(f),
            LedgerError::Nonsense => f.write_str("the ledger's answer makes no sense"),
        }
    }
}

impl From<CallError> for LedgerError {
    fn from(error: CallError) -> LedgerError {
        LedgerError::Call(error)
    }
}

/// What a transfer has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transferred {
    /// The transfer's number, counted from 0 over all clients.
    pub number: u64,
    /// What is left in the account it was from.
    pub left: u64,
}

/// An account, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its number.
    pub account: Account,
    /// Its name.
    pub name: Name,
    /// What is in it.
    pub contents: u64,
    /// Where the list goes on.
    pub next: u64,
}

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// What has been deposited.
    pub deposited: u64,
    /// What is in all accounts together.
    pub sum: u64,
    /// How many accounts there are.
    pub accounts: u64,
    /// How many transfers there have been.
    pub transfers: u64,
}

/// A page of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The number of its first transfer.
    pub first: u64,
    /// How many transfers there have been.
    pub count: u64,
    words: Extra,
}

impl Page {
    /// Its transfers: from, to, amount.
    pub fn transfers(&self) -> impl Iterator<Item = Transfer> {
        self.words.as_chunks::<TRANSFER_WORDS>().0.iter().copied()
    }
}

/// One lane to the ledger. What it asks happens exactly once, however often the ledger dies meanwhile.
#[derive(Debug)]
pub struct Client<L> {
    caller: Caller<L>,
}

impl<L: Link> Client<L> {
    /// A client over a caller to the ledger's endpoint.
    pub fn new(caller: Caller<L>) -> Client<L> {
        Client { caller }
    }

    /// The caller: for how often it had to repeat a request, and to finish one that it gave up.
    pub fn caller(&mut self) -> &mut Caller<L> {
        &mut self.caller
    }

    /// Opens an account with a first deposit.
    pub fn open(&mut self, name: &str, deposit: u64) -> Result<Account, LedgerError> {
        let words = name_words(name).ok_or(LedgerError::Failed(Failure::BadName))?;
        let [number] = self.change(Request::Open, [deposit, name.len() as u64], &words)?;
        Ok(Account(number))
    }

    /// Closes an empty account.
    pub fn close(&mut self, account: Account) -> Result<(), LedgerError> {
        let [] = self.change(Request::Close, [account.0], &[])?;
        Ok(())
    }

    /// Moves an amount from one account to another.
    pub fn transfer(&mut self, from: Account, to: Account, amount: u64) -> Result<Transferred, LedgerError> {
        let [number, left] = self.change(Request::Transfer, [from.0, to.0, amount], &[])?;
        Ok(Transferred { number, left })
    }

    /// What is in an account.
    pub fn balance(&mut self, account: Account) -> Result<u64, LedgerError> {
        let [contents] = self.look(Request::Balance, [account.0], &[], &mut Extra::new())?;
        Ok(contents)
    }

    /// The account with this name, and what is in it.
    pub fn find(&mut self, name: &str) -> Result<(Account, u64), LedgerError> {
        let words = name_words(name).ok_or(LedgerError::Failed(Failure::BadName))?;
        let [number, contents] = self.look(Request::Find, [name.len() as u64], &words, &mut Extra::new())?;
        Ok((Account(number), contents))
    }

    /// Transfers from number `from` on, as far as they are remembered, a page at most.
    pub fn history(&mut self, from: u64) -> Result<Page, LedgerError> {
        let mut words = Extra::new();
        let [transfers, first, count] = self.look(Request::History, [from], &[], &mut words)?;
        if words.len() as u64 != transfers.saturating_mul(TRANSFER_WORDS as u64) {
            return Err(LedgerError::Nonsense);
        }
        Ok(Page { first, count, words })
    }

    /// The first account in `place` or behind: begin with 0, go on with [`Listed::next`], until there is none.
    pub fn list(&mut self, place: u64) -> Result<Option<Listed>, LedgerError> {
        let mut words = Extra::new();
        match self.look(Request::Account, [place], &[], &mut words) {
            Ok([number, contents, next, length]) => {
                let name = name_from_words(&words, length).ok_or(LedgerError::Nonsense)?;
                Ok(Some(Listed { account: Account(number), name, contents, next }))
            }
            Err(LedgerError::Failed(Failure::NoSuchAccount)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Everything.
    pub fn totals(&mut self) -> Result<Totals, LedgerError> {
        let [deposited, sum, accounts, transfers] = self.look(Request::Totals, [], &[], &mut Extra::new())?;
        Ok(Totals { deposited, sum, accounts, transfers })
    }

    fn change<const N: usize, const R: usize>(
        &mut self,
        request: Request,
        words: [u64; N],
        extra: &[u64],
    ) -> Result<[u64; R], LedgerError> {
        answered(self.caller.request(request as u32, words, extra)?)
    }

    fn look<const N: usize, const R: usize>(
        &mut self,
        request: Request,
        words: [u64; N],
        extra: &[u64],
        answer: &mut Extra,
    ) -> Result<[u64; R], LedgerError> {
        answered(self.caller.look(request as u32, words, extra, answer)?)
    }
}

/// The first words of an answer that says that all went well.
fn answered<const R: usize>(answer: Message) -> Result<[u64; R], LedgerError> {
    const { assert!(R <= 8, "an answer has eight words") };
    match (answer.label(), Failure::from_label(answer.label())) {
        (OK, _) => answer.words.first_chunk().copied().ok_or(LedgerError::Nonsense),
        (_, Some(failure)) => Err(LedgerError::Failed(failure)),
        (_, None) => Err(LedgerError::Nonsense),
    }
}
