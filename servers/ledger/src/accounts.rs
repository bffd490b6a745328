//! The accounts, in the words of the state.
//!
//! An account's number is a serial number and its place in the table: so it is found at once, and a number that was
//! closed never comes to mean another account.

use proto::ledger::{Failure, MAX_NAME, NAME_WORDS, name_from_words};
use recover::{JournalFull, Memory, View, Work};

/// The last serial number given.
const SERIAL: usize = 0;
/// What was deposited in all.
const DEPOSITED: usize = 1;
const TABLE: usize = 2;

/// Words of an account: its number (0: none), what is in it, bytes of its name, its name.
const ACCOUNT: usize = 3 + NAME_WORDS;
const NUMBER: usize = 0;
const CONTENTS: usize = 1;
const LENGTH: usize = 2;
const NAME: usize = 3;

/// Bits of an account's number that are its place.
const PLACE_BITS: u32 = 16;

/// What a request comes to: a failure of its own changes nothing, a full journal takes back what it did.
pub type Outcome<T> = Result<Result<T, Failure>, JournalFull>;

/// The table of accounts.
#[derive(Clone, Copy, Debug)]
pub struct Accounts {
    /// Where it begins in the server's words.
    pub first: usize,
    /// How many accounts there can be, less than 2^16.
    pub places: usize,
}

/// An account, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its place.
    pub place: usize,
    /// Its number.
    pub number: u64,
    /// What is in it.
    pub contents: u64,
    /// Its name.
    pub name: [u64; NAME_WORDS],
    /// Bytes of its name.
    pub length: u64,
}

impl Accounts {
    /// Words that it takes.
    pub const fn words(self) -> usize {
        TABLE + self.places * ACCOUNT
    }

    fn at(&self, place: usize) -> usize {
        self.first + TABLE + place * ACCOUNT
    }

    /// Where account `number` is, if there is one.
    fn find<M: Memory>(&self, words: &View<M>, number: u64) -> Result<usize, Failure> {
        let place = (number & ((1 << PLACE_BITS) - 1)) as usize;
        let there = place < self.places && number != 0 && words.get(self.at(place) + NUMBER) == number;
        if there { Ok(self.at(place)) } else { Err(Failure::NoSuchAccount) }
    }

    /// The first account in `place` or behind.
    pub fn from_place<M: Memory>(&self, words: &View<M>, place: u64) -> Option<Listed> {
        let first = usize::try_from(place).ok()?;
        let place = (first..self.places).find(|&place| words.get(self.at(place) + NUMBER) != 0)?;
        let at = self.at(place);
        Some(Listed {
            place,
            number: words.get(at + NUMBER),
            contents: words.get(at + CONTENTS),
            name: core::array::from_fn(|word| words.get(at + NAME + word)),
            // A name that was stored is within bounds; what nobody stored is not believed.
            length: words.get(at + LENGTH).min(MAX_NAME as u64),
        })
    }

    /// Every account.
    pub fn all<M: Memory>(&self, words: &View<M>) -> impl Iterator<Item = Listed> {
        let mut next = 0;
        core::iter::from_fn(move || {
            let found = self.from_place(words, next)?;
            next = found.place as u64 + 1;
            Some(found)
        })
    }

    /// The account with this name.
    pub fn named<M: Memory>(&self, words: &View<M>, name: &[u64], length: u64) -> Result<Listed, Failure> {
        let name = padded(name, length)?;
        self.all(words).find(|account| account.name == name).ok_or(Failure::NoSuchAccount)
    }

    /// What is in an account.
    pub fn contents<M: Memory>(&self, words: &View<M>, number: u64) -> Result<u64, Failure> {
        self.find(words, number).map(|at| words.get(at + CONTENTS))
    }

    /// What was deposited in all, what is in all accounts together, and how many there are.
    pub fn totals<M: Memory>(&self, words: &View<M>) -> [u64; 3] {
        let (mut sum, mut count) = (0u64, 0);
        for account in self.all(words) {
            sum = sum.wrapping_add(account.contents);
            count += 1;
        }
        [words.get(self.first + DEPOSITED), sum, count]
    }

    /// Opens an account with a first deposit: its number.
    pub fn open<M: Memory>(
        &self,
        words: &mut Work<M>,
        name: &[u64],
        length: u64,
        deposit: u64,
    ) -> Outcome<u64> {
        let checked = self.check_opening(&words.view(), name, length, deposit);
        let (place, name, deposited) = match checked {
            Ok(checked) => checked,
            Err(failure) => return Ok(Err(failure)),
        };
        let (at, serial) = (self.at(place), words.get(self.first + SERIAL) + 1);
        let number = serial << PLACE_BITS | place as u64;
        words.set(self.first + SERIAL, serial)?;
        words.set(self.first + DEPOSITED, deposited)?;
        words.set(at + NUMBER, number)?;
        words.set(at + CONTENTS, deposit)?;
        words.set(at + LENGTH, length)?;
        for (word, value) in name.into_iter().enumerate() {
            words.set(at + NAME + word, value)?;
        }
        Ok(Ok(number))
    }

    /// The place for an account, its name, and what will have been deposited in all.
    fn check_opening<M: Memory>(
        &self,
        words: &View<M>,
        name: &[u64],
        length: u64,
        deposit: u64,
    ) -> Result<(usize, [u64; NAME_WORDS], u64), Failure> {
        let name = padded(name, length)?;
        if self.all(words).any(|account| account.name == name) {
            return Err(Failure::NameTaken);
        }
        let unused = |place: &usize| words.get(self.at(*place) + NUMBER) == 0;
        let place = (0..self.places).find(unused).ok_or(Failure::TooManyAccounts)?;
        let deposited = words.get(self.first + DEPOSITED).checked_add(deposit).ok_or(Failure::TooMuch)?;
        Ok((place, name, deposited))
    }

    /// Closes an empty account.
    pub fn close<M: Memory>(&self, words: &mut Work<M>, number: u64) -> Outcome<()> {
        match self.find(&words.view(), number) {
            Ok(at) if words.get(at + CONTENTS) == 0 => words.set(at + NUMBER, 0).map(Ok),
            Ok(_) => Ok(Err(Failure::NotEmpty)),
            Err(failure) => Ok(Err(failure)),
        }
    }

    /// Moves an amount: what is left in the first account.
    pub fn transfer<M: Memory>(&self, words: &mut Work<M>, from: u64, to: u64, amount: u64) -> Outcome<u64> {
        match self.check_transfer(&words.view(), from, to, amount) {
            Ok([(from, left), (to, sum)]) => {
                words.set(from + CONTENTS, left)?;
                words.set(to + CONTENTS, sum)?;
                Ok(Ok(left))
            }
            Err(failure) => Ok(Err(failure)),
        }
    }

    /// Where both accounts are, and what will be in them.
    fn check_transfer<M: Memory>(
        &self,
        words: &View<M>,
        from: u64,
        to: u64,
        amount: u64,
    ) -> Result<[(usize, u64); 2], Failure> {
        if amount == 0 {
            return Err(Failure::Malformed);
        }
        if from == to {
            return Err(Failure::SameAccount);
        }
        let (from, to) = (self.find(words, from)?, self.find(words, to)?);
        let left = words.get(from + CONTENTS).checked_sub(amount).ok_or(Failure::NotEnough)?;
        // As all that was deposited fits, so does this.
        let sum = words.get(to + CONTENTS).checked_add(amount).ok_or(Failure::TooMuch)?;
        Ok([(from, left), (to, sum)])
    }
}

/// A name, as it came, with zeros where it has no bytes.
fn padded(name: &[u64], length: u64) -> Result<[u64; NAME_WORDS], Failure> {
    let name = name_from_words(name, length).ok_or(Failure::BadName)?;
    proto::ledger::name_words(&name).ok_or(Failure::BadName)
}
