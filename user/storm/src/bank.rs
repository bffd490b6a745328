//! One who moves money between accounts of a ledger, and knows what must be in them.

use crate::random::Random;
use crate::tally::Tally;

/// Accounts of its own. Behind them comes one that all share.
pub const OWN: usize = 2;
/// What is deposited in each of the own accounts.
pub const DEPOSIT: u64 = 1_000_000;
/// The most that is moved at a time.
const MOST: u64 = 1_000;

/// A transfer, between accounts by their places; [`OWN`] is the shared one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// From one of the own ones.
    pub from: usize,
    /// To another of them, or to the shared one.
    pub to: usize,
    /// How much, at least 1.
    pub amount: u64,
}

/// What is known of the accounts.
#[derive(Clone, Debug)]
pub struct Till {
    own: [u64; OWN],
    /// Moved into the shared account.
    shared: u64,
    random: Random,
}

impl Till {
    /// Of accounts that were just opened.
    pub fn new(seed: u64) -> Till {
        Till { own: [DEPOSIT; OWN], shared: 0, random: Random::new(seed) }
    }

    /// What to move next; none if there is too little left.
    pub fn plan(&mut self) -> Option<Transfer> {
        let from = if self.own[0] >= self.own[1] { 0 } else { 1 };
        let amount = 1 + self.random.below(MOST);
        // One transfer of four goes to the shared account, which only grows.
        let to = if self.random.below(4) == 0 { OWN } else { 1 - from };
        (amount <= self.own[from]).then_some(Transfer { from, to, amount })
    }

    /// A transfer was answered: the ledger says what is `left` where it was from.
    pub fn moved(&mut self, transfer: &Transfer, left: u64, tally: &mut Tally) {
        self.own[transfer.from] -= transfer.amount;
        match self.own.get_mut(transfer.to) {
            Some(to) => *to += transfer.amount,
            None => self.shared += transfer.amount,
        }
        tally.requests += 1;
        judge(self.own[transfer.from], left, tally);
        // What was wrong once is not counted again.
        self.own[transfer.from] = left;
    }

    /// What the own account at a place turns out to hold.
    pub fn check(&self, place: usize, there: u64, tally: &mut Tally) {
        // More in an account than is known: a transfer to it was done twice.
        judge(there, self.own[place], tally);
    }

    /// What was left was moved into the shared account.
    pub fn give_up(&mut self, amount: u64) {
        self.shared += amount;
    }

    /// What was moved into the shared account.
    pub fn shared(&self) -> u64 {
        self.shared
    }
}

/// Compares what must have been taken from with what was: more left than known is lost, less was done twice.
fn judge(known: u64, there: u64, tally: &mut Tally) {
    tally.lost_bytes += there.saturating_sub(known);
    tally.duplicated += known.saturating_sub(there);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ledger that does each transfer as often as it is told.
    fn run(count: u64, mut times: impl FnMut(u64) -> u64) -> (Tally, [u64; OWN + 1], Till) {
        let (mut till, mut accounts, mut tally) = (Till::new(7), [DEPOSIT, DEPOSIT, 0], Tally::default());
        for number in 0..count {
            let transfer = till.plan().expect("enough is left");
            for _ in 0..times(number) {
                accounts[transfer.from] -= transfer.amount;
                accounts[transfer.to] += transfer.amount;
            }
            till.moved(&transfer, accounts[transfer.from], &mut tally);
        }
        (0..OWN).for_each(|place| till.check(place, accounts[place], &mut tally));
        (tally, accounts, till)
    }

    #[test]
    fn a_ledger_that_does_all_once_is_clean_and_the_shared_account_has_what_was_moved_there() {
        let (tally, accounts, till) = run(500, |_| 1);
        assert!(tally.is_clean() && tally.requests == 500, "{tally:?}");
        assert_eq!(accounts[OWN], till.shared());
        assert!(till.shared() > 0);
    }

    #[test]
    fn a_transfer_that_was_not_done_is_lost() {
        let (tally, ..) = run(500, |number| u64::from(number != 250));
        assert!(tally.lost_bytes > 0, "{tally:?}");
    }

    #[test]
    fn a_transfer_that_was_done_twice_is_doubled() {
        let (tally, ..) = run(500, |number| if number == 250 { 2 } else { 1 });
        assert!(tally.duplicated > 0, "{tally:?}");
    }

    #[test]
    fn it_never_moves_what_is_not_there() {
        let mut till = Till::new(1);
        till.own = [0, 0];
        assert_eq!(till.plan(), None);
    }
}
