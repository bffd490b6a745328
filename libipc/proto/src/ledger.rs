//! Accounts with names, and transfers between them: what `ledger` serves.
//!
//! Words begin behind the stamp ([`crate::once`]): word 0 here is word 1 of the message. The label of a request is a
//! [`Request`], that of an answer [`OK`], a [`Failure`] or a [`crate::once::Refusal`]. An account goes by the number
//! it got when it was opened, which is never given again; a name, of at most [`MAX_NAME`] bytes, is looked up once.
//! Names travel in the words of the IPC buffer, padded with zeros. In answers, words begin with word 0 of the message.

use crate::codes::codes;

/// Bytes of a name, at most; at least one. UTF-8 without control characters.
pub const MAX_NAME: usize = 32;
/// Words that a name travels in.
pub const NAME_WORDS: usize = MAX_NAME / 8;
/// Transfers in one answer to [`Request::History`], at most.
pub const PAGE: usize = 16;
/// Words of a transfer in such an answer: from, to, amount.
pub const TRANSFER_WORDS: usize = 3;

codes! {
    /// What is asked.
    Request: u32 = from_label {
        /// Open an account: a first deposit (word 0) and a name of word 1's number of bytes. Answer: its number.
        Open = 1,
        /// Close account word 0, which is empty.
        Close = 2,
        /// Move from account word 0 to account word 1 the amount in word 2, which is not 0. Answer: the transfer's number,
        /// counted from 0, and what is left in the first account.
        Transfer = 3,
        /// What is in account word 0. Only looks, as all that follow.
        Balance = 4,
        /// The account with a name of word 0's number of bytes. Answer: its number, and what is in it.
        Find = 5,
        /// Transfers from number word 0 on. Answer: how many come, the number of the first (later than asked for, if that
        /// is forgotten), and how many there have been; in the buffer [`TRANSFER_WORDS`] for each.
        History = 6,
        /// The first account in place word 0 or behind. Answer: number, contents, the place behind it, bytes of its name;
        /// the name in the buffer. [`Failure::NoSuchAccount`]: there are no more.
        Account = 7,
        /// Everything: what has been deposited, what is in all accounts together, how many there are, and how many
        /// transfers there have been.
        Totals = 8,
    }
}

impl Request {
    /// Whether it changes nothing.
    pub const fn only_looks(self) -> bool {
        !matches!(self, Request::Open | Request::Close | Request::Transfer)
    }
}

/// The label of an answer where all went well.
pub const OK: u32 = 0;

codes! {
    /// The label of an answer otherwise. Nothing was changed.
    Failure: u32 = from_label, meaning {
        /// No such request, or words that make no sense in it.
        Malformed = 1 => "the request makes no sense",
        /// It is no name: empty, too long, not UTF-8, or with control characters.
        BadName = 2 => "it is no name for an account",
        /// Another account has the name.
        NameTaken = 3 => "another account has the name",
        /// There is no such account.
        NoSuchAccount = 4 => "there is no such account",
        /// There are as many accounts as there can be: close one first.
        TooManyAccounts = 5 => "there are as many accounts as there can be",
        /// There is something in the account.
        NotEmpty = 6 => "there is something in the account",
        /// Both accounts are the same.
        SameAccount = 7 => "both accounts are the same",
        /// The account has less than that.
        NotEnough = 8 => "the account has less than that",
        /// There cannot be so much in all accounts together.
        TooMuch = 9 => "there cannot be so much in all accounts together",
    }
}

/// A name.
pub type Name = heapless::String<MAX_NAME>;

/// A name as words; `None` if it is none.
pub fn name_words(name: &str) -> Option<[u64; NAME_WORDS]> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() > MAX_NAME || name.chars().any(char::is_control) {
        return None;
    }
    let mut padded = [0; MAX_NAME];
    padded[..bytes.len()].copy_from_slice(bytes);
    let (words, _) = padded.as_chunks();
    Some(core::array::from_fn(|at| u64::from_le_bytes(words[at])))
}

/// A name out of words that hold `length` bytes of it; `None` if it is none.
pub fn name_from_words(words: &[u64], length: u64) -> Option<Name> {
    let length = usize::try_from(length).ok().filter(|length| (1..=MAX_NAME).contains(length))?;
    let words = words.get(..length.div_ceil(8))?;
    let bytes: heapless::Vec<u8, MAX_NAME> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let name = core::str::from_utf8(bytes.get(..length)?).ok()?;
    if name.chars().any(char::is_control) { None } else { name.try_into().ok() }
}
