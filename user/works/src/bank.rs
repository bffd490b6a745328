//! Money on the move: several threads call `ledger`, each with a lane of its own.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ipc::CPtr;
use ledger::Client;
use ledger::client::{Account, LedgerError};
use recover::guest::{Endpoint, NoService, caller};
use rt::lock::Mutex;
use rt::thread::{Builder, JoinHandle};
use rt::{clock, env, memory};
use storm::bank::{DEPOSIT, OWN, Till};
use storm::tally::Tally;

use crate::{Work, WorkError};

/// The ledger's endpoint.
pub(crate) const LEDGER: &str = "ledger";
/// Threads that move money; the lane behind theirs is the overseer's.
const TELLERS: u16 = 3;
/// Less urgent than the ledger, and than who kills it.
pub(crate) const PRIORITY: u64 = 90;
/// Microseconds between looks at how far they are.
const GLANCE: u64 = 2_000;

/// What a thread and its overseer share.
struct Desk {
    /// Signalled when there is a pass to be done, or the end.
    go: CPtr,
    /// Transfers in the next pass.
    transfers: AtomicU64,
    /// The pass is not finished.
    busy: AtomicBool,
    is_over: AtomicBool,
    /// Transfers made so far in all passes.
    made: AtomicU64,
    /// What was found in the last pass, and moved into the shared account.
    found: Mutex<(Tally, u64)>,
}

/// Transfers between the accounts of several clients.
pub struct BankWork {
    desks: Vec<Arc<Desk>>,
    tellers: Vec<JoinHandle<()>>,
    client: Client<Endpoint>,
    shared: Account,
    transfers: u64,
    /// What is known to be in the shared account, and the transfers made, at the pass's beginning.
    in_shared: u64,
    made_before: u64,
    tally: Tally,
    is_done: bool,
}

impl BankWork {
    /// `transfers` in each pass.
    pub fn new(transfers: u64, seed: u64) -> Result<BankWork, WorkError> {
        let mut client = Client::new(caller(LEDGER, TELLERS)?);
        let shared = client.open(&name("shared", TELLERS), 0)?;
        let mut desks = Vec::new();
        let mut tellers = Vec::new();
        for lane in 0..TELLERS {
            let desk = Arc::new(Desk::new()?);
            let teller = Teller::new(lane, seed, shared)?;
            let theirs = Arc::clone(&desk);
            let like = Builder { priority: PRIORITY, ..Builder::default() };
            tellers.push(like.spawn(move || teller.work(&theirs)).map_err(WorkError::Thread)?);
            desks.push(desk);
        }
        let (tally, is_done) = (Tally::default(), true);
        Ok(BankWork {
            desks,
            tellers,
            client,
            shared,
            transfers,
            in_shared: 0,
            made_before: 0,
            tally,
            is_done,
        })
    }

    fn made(&self) -> u64 {
        self.desks.iter().map(|desk| desk.made.load(Ordering::Relaxed)).sum()
    }

    /// All have finished their pass: adds up what they found, and looks at what they share.
    fn close(&mut self) -> Result<(), WorkError> {
        let mut tally = Tally::default();
        for desk in &self.desks {
            let (found, shared) = *desk.found.lock();
            tally.add(&found);
            self.in_shared += shared;
        }
        let there = self.client.balance(self.shared)?;
        tally.lost_bytes += self.in_shared.saturating_sub(there);
        tally.duplicated += there.saturating_sub(self.in_shared);
        let totals = self.client.totals()?;
        tally.errors += u64::from(totals.sum != totals.deposited);
        self.in_shared = there;
        self.tally = tally;
        self.is_done = true;
        Ok(())
    }
}

impl Work for BankWork {
    fn begin(&mut self) -> Result<(), WorkError> {
        self.is_done = false;
        self.made_before = self.made();
        for desk in &self.desks {
            desk.transfers.store(self.transfers.div_ceil(u64::from(TELLERS)), Ordering::Relaxed);
            desk.busy.store(true, Ordering::Release);
            ipc::signal(desk.go)?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<bool, WorkError> {
        if self.desks.iter().any(|desk| desk.busy.load(Ordering::Acquire)) {
            return Ok(true);
        }
        self.close()?;
        Ok(false)
    }

    fn deadline(&self) -> Option<u64> {
        Some(clock::now() + clock::microseconds(GLANCE))
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn tally(&self) -> Tally {
        if self.is_done {
            return self.tally;
        }
        Tally { requests: self.made() - self.made_before, ..Tally::default() }
    }
}

impl Drop for BankWork {
    fn drop(&mut self) {
        for (desk, teller) in self.desks.iter().zip(self.tellers.drain(..)) {
            desk.is_over.store(true, Ordering::Relaxed);
            // The program is about to end; a thread that does not end before it ends with it.
            let _ = ipc::signal(desk.go);
            let _ = teller.join();
        }
    }
}

impl Desk {
    fn new() -> Result<Desk, WorkError> {
        Ok(Desk {
            go: memory::make(ipc::Kind::Notification, 0)?,
            transfers: AtomicU64::new(0),
            busy: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            made: AtomicU64::new(0),
            found: Mutex::new((Tally::default(), 0)),
        })
    }
}

/// One who moves money.
struct Teller {
    client: Client<Endpoint>,
    lane: u16,
    seed: u64,
    shared: Account,
}

impl Teller {
    fn new(lane: u16, seed: u64, shared: Account) -> Result<Teller, WorkError> {
        Ok(Teller { client: Client::new(caller(LEDGER, lane)?), lane, seed, shared })
    }

    fn work(mut self, desk: &Desk) {
        while ipc::wait(desk.go).is_ok() && !desk.is_over.load(Ordering::Relaxed) {
            let mut tally = Tally::default();
            self.seed += 1;
            let mut till = Till::new(self.seed << 8 | u64::from(self.lane));
            if self.pass(desk, &mut till, &mut tally).is_err() {
                // Whatever it was: a client of a server that dies is not to see it.
                tally.errors += 1;
            }
            *desk.found.lock() = (tally, till.shared());
            desk.busy.store(false, Ordering::Release);
        }
    }

    fn pass(&mut self, desk: &Desk, till: &mut Till, tally: &mut Tally) -> Result<(), LedgerError> {
        let left = self.client.open(&name("left", self.lane), DEPOSIT)?;
        let right = self.client.open(&name("right", self.lane), DEPOSIT)?;
        let accounts = [left, right, self.shared];
        for _ in 0..desk.transfers.load(Ordering::Relaxed) {
            let Some(transfer) = till.plan() else { break };
            let (from, to) = (accounts[transfer.from], accounts[transfer.to]);
            let left = self.client.transfer(from, to, transfer.amount)?.left;
            till.moved(&transfer, left, tally);
            desk.made.fetch_add(1, Ordering::Relaxed);
        }
        for (place, account) in accounts[..OWN].iter().enumerate() {
            let there = self.client.balance(*account)?;
            till.check(place, there, tally);
            if there > 0 {
                self.client.transfer(*account, self.shared, there)?;
                till.give_up(there);
            }
            self.client.close(*account)?;
        }
        Ok(())
    }
}

/// A name that no other life of this program has used.
pub(crate) fn name(what: &str, lane: u16) -> String {
    format!("{what} {} {lane}", env::life())
}

impl From<NoService> for WorkError {
    fn from(error: NoService) -> WorkError {
        WorkError::Ledger(format!("{error}"))
    }
}

impl From<LedgerError> for WorkError {
    fn from(error: LedgerError) -> WorkError {
        WorkError::Ledger(format!("{error}"))
    }
}
