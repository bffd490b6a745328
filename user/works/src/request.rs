//! One request at a time, with its servers dying at a chosen point of its way.

use alloc::sync::Arc;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ledger::Client;
use ledger::client::Account;
use proto::block::Op;
use recover::guest::{Endpoint, caller};
use rt::lock::Mutex;
use rt::thread::{Builder, JoinHandle};
use rt::{clock, memory};
use storm::bank::{DEPOSIT, OWN, Till};
use storm::disk::Task;
use storm::pattern::{BYTES, Pattern, Shared, Verdict, spoil};
use storm::tally::Tally;

use crate::bank::{LEDGER, PRIORITY, name};
use crate::disk::Disk;
use crate::{WorkError, pause};

/// A request that is made again and again.
pub trait Request {
    /// Its way has so many parts in which its server works.
    const STAGES: u64;

    /// Makes it.
    fn make(&mut self) -> Result<(), WorkError>;

    /// Lets it go on to the beginning of a stage; `time` is for [`pause`].
    fn advance(&mut self, stage: u64, time: ipc::CPtr) -> Result<(), WorkError>;

    /// Goes on as far as possible. True: nothing more can be done before the bell rings.
    fn step(&mut self) -> Result<bool, WorkError>;

    /// When the next step is due, if nothing else happens.
    fn deadline(&self) -> u64 {
        u64::MAX
    }

    /// It is answered.
    fn is_answered(&self) -> bool;

    /// How many ticks the last one took, if they say more than the time that its servers are charged for.
    fn took(&self) -> Option<u64> {
        None
    }

    /// Looks whether it did what it should.
    fn check(&mut self, tally: &mut Tally) -> Result<(), WorkError>;
}

/// A transfer from one account to another. Its way leads into the ledger and back: one stage.
pub struct TransferRequest {
    desk: Arc<Desk>,
    /// For looking at accounts.
    client: Client<Endpoint>,
    accounts: [Account; OWN + 1],
    _teller: JoinHandle<()>,
}

/// What a thread that makes transfers and its overseer share.
struct Desk {
    /// Signalled when there is one to be made.
    go: ipc::CPtr,
    busy: AtomicBool,
    took: AtomicU64,
    till: Mutex<Till>,
    tally: Mutex<Tally>,
}

impl TransferRequest {
    /// Moves money between accounts of its own.
    pub fn new(seed: u64) -> Result<TransferRequest, WorkError> {
        let mut client = Client::new(caller(LEDGER, 1)?);
        let mut open = |what, deposit| client.open(&name(what, 1), deposit);
        let accounts = [open("left", DEPOSIT)?, open("right", DEPOSIT)?, open("shared", 0)?];
        let desk = Arc::new(Desk {
            go: memory::make(ipc::Kind::Notification, 0)?,
            busy: AtomicBool::new(false),
            took: AtomicU64::new(0),
            till: Mutex::new(Till::new(seed)),
            tally: Mutex::new(Tally::default()),
        });
        let mut own = Client::new(caller(LEDGER, 0)?);
        let theirs = Arc::clone(&desk);
        let like = Builder { priority: PRIORITY, ..Builder::default() };
        let teller = like.spawn(move || {
            while ipc::wait(theirs.go).is_ok() {
                theirs.transfer(&mut own, &accounts);
            }
        });
        Ok(TransferRequest { desk, client, accounts, _teller: teller.map_err(WorkError::Thread)? })
    }
}

impl Desk {
    fn transfer(&self, client: &mut Client<Endpoint>, accounts: &[Account; OWN + 1]) {
        let planned = self.till.lock().plan();
        if let Some(transfer) = planned {
            let begun = clock::now();
            let moved = client.transfer(accounts[transfer.from], accounts[transfer.to], transfer.amount);
            self.took.store(clock::now() - begun, Ordering::Relaxed);
            let mut tally = self.tally.lock();
            match moved {
                Ok(moved) => self.till.lock().moved(&transfer, moved.left, &mut tally),
                Err(_) => tally.errors += 1,
            }
        }
        self.busy.store(false, Ordering::Release);
    }
}

impl Request for TransferRequest {
    const STAGES: u64 = 1;

    fn make(&mut self) -> Result<(), WorkError> {
        self.desk.busy.store(true, Ordering::Release);
        Ok(ipc::signal(self.desk.go)?)
    }

    fn advance(&mut self, _: u64, _: ipc::CPtr) -> Result<(), WorkError> {
        Ok(())
    }

    fn step(&mut self) -> Result<bool, WorkError> {
        Ok(!self.is_answered())
    }

    fn deadline(&self) -> u64 {
        clock::now() + clock::microseconds(GLANCE)
    }

    fn is_answered(&self) -> bool {
        !self.desk.busy.load(Ordering::Acquire)
    }

    fn took(&self) -> Option<u64> {
        Some(self.desk.took.load(Ordering::Relaxed))
    }

    fn check(&mut self, tally: &mut Tally) -> Result<(), WorkError> {
        tally.add(&core::mem::take(&mut *self.desk.tally.lock()));
        for (place, account) in self.accounts[..OWN].iter().enumerate() {
            let there = self.client.balance(*account)?;
            self.desk.till.lock().check(place, there, tally);
        }
        Ok(())
    }
}

/// Sectors that are written.
const SECTORS: u64 = 8;
/// Slots of the disk's memory: what is written, and what is read back.
const WRITE: usize = 0;
const READ: usize = 1;
/// Ticks in which a driver has handed a request to its device, and those in which the device has carried it out.
const HANDED_OVER: u64 = 200_000;
const CARRIED_OUT: u64 = 2_000_000;
/// Microseconds between looks at a transfer.
const GLANCE: u64 = 100;

/// A write to a disk. Its driver works on it twice: to hand it to the device, and when the device has done it.
#[derive(Debug)]
pub struct DiskRequest {
    disk: Disk,
    seed: u64,
    number: u64,
    answers: [Option<bool>; 2],
    /// More answers came than requests were made.
    again: u64,
}

impl DiskRequest {
    /// Writes to the first sectors of the disk.
    pub fn new(seed: u64) -> Result<DiskRequest, WorkError> {
        let disk = Disk::open()?;
        disk.shape(SECTORS * BYTES)?;
        Ok(DiskRequest { disk, seed, number: 0, answers: [None; 2], again: 0 })
    }

    fn pattern(&self) -> Pattern {
        Pattern::new(self.seed, self.number)
    }

    fn memory(&self, slot: usize) -> &'static [Shared] {
        &self.disk.memory()[slot * SECTORS as usize..][..SECTORS as usize]
    }

    fn submit(&mut self, slot: usize, op: Op) {
        self.answers[slot] = None;
        self.disk.submit(&Task { slot, op, sector: 0, sectors: SECTORS }, SECTORS);
        self.turn();
    }

    fn turn(&mut self) {
        let (answers, again) = (&mut self.answers, &mut self.again);
        self.disk.turn(|slot, ok| match answers.get_mut(slot) {
            Some(place @ None) => *place = Some(ok),
            _ => *again += 1,
        });
    }

    fn read_back(&mut self) -> Result<(), WorkError> {
        self.memory(READ).iter().for_each(spoil);
        self.submit(READ, Op::Read);
        while self.answers[READ].is_none() {
            if self.disk.sleep() {
                crate::wait(u64::MAX)?;
            }
            self.turn();
        }
        Ok(())
    }
}

impl Request for DiskRequest {
    const STAGES: u64 = 2;

    fn make(&mut self) -> Result<(), WorkError> {
        self.number += 1;
        let pattern = self.pattern();
        for (sector, place) in (0..).zip(self.memory(WRITE)) {
            pattern.fill(place, sector);
        }
        self.submit(WRITE, Op::Write);
        Ok(())
    }

    fn advance(&mut self, stage: u64, time: ipc::CPtr) -> Result<(), WorkError> {
        if stage > 0 {
            pause(time, HANDED_OVER)?;
            // The device goes on while the driver, whose priority is lower, stands still.
            let until = clock::now() + CARRIED_OUT;
            while clock::now() < until {
                spin_loop();
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<bool, WorkError> {
        self.turn();
        Ok(!self.is_answered() && self.disk.sleep())
    }

    fn is_answered(&self) -> bool {
        self.answers[WRITE].is_some()
    }

    fn check(&mut self, tally: &mut Tally) -> Result<(), WorkError> {
        self.read_back()?;
        tally.requests += 2;
        tally.bytes += 2 * SECTORS * BYTES;
        tally.errors += self.answers.iter().filter(|answer| **answer == Some(false)).count() as u64;
        tally.duplicated += core::mem::take(&mut self.again);
        let before = self.number.checked_sub(1).map(|before| Pattern::new(self.seed, before));
        for (sector, place) in (0..).zip(self.memory(READ)) {
            match self.pattern().check(place, sector, before).0 {
                Verdict::Right => {}
                Verdict::Old => tally.lost_bytes += BYTES,
                Verdict::Wrong(bytes) => tally.wrong_bytes += bytes,
            }
        }
        Ok(())
    }
}
