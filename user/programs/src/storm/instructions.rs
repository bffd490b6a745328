//! Death at every instruction of a request's way: the victim runs for so many ticks, then it is killed. Under
//! `--icount` a tick is an instruction, and a sweep kills it at each in turn.
//!
//! This program's priority is above the victims': while it waits for a time they run, and when the time has come they
//! stand still wherever they are.

use rt::{clock, env, memory};
use storm::arguments::{Arguments, Work as Kind};
use storm::report::{Rate, Report};
use storm::sweep::Range;
use storm::tally::Tally;
use works::request::{DiskRequest, Request, TransferRequest};
use works::victims::Killer;
use works::{WorkError, pause, wait};

/// Requests that are made undisturbed to see how long the victim works on one.
const MEASURED: u64 = 20;
/// Seconds until a request that is not answered is given up.
const PATIENCE: u64 = 30;
/// After so many deaths the sweep says how far it is.
const STEP: usize = 500;

/// Sweeps over a range of ticks; without an end it goes as far as the victim works on an undisturbed request.
pub fn sweep(arguments: &Arguments<'static>, range: Range, killer: &mut Killer) -> Result<Report, WorkError> {
    match arguments.work {
        Kind::Block => Sweep::new(DiskRequest::new(arguments.seed)?)?.run(arguments, range, killer),
        Kind::Ledger => Sweep::new(TransferRequest::new(arguments.seed)?)?.run(arguments, range, killer),
        Kind::Net => Err(WorkError::NotOffered("--at-instruction goes with block and ledger")),
    }
}

struct Sweep<R> {
    request: R,
    /// Never signalled: to wait for a time alone.
    time: ipc::CPtr,
    tally: Tally,
}

impl<R: Request> Sweep<R> {
    fn new(request: R) -> Result<Sweep<R>, WorkError> {
        Ok(Sweep { request, time: memory::make(ipc::Kind::Notification, 0)?, tally: Tally::default() })
    }

    fn run(
        mut self,
        arguments: &Arguments<'static>,
        range: Range,
        killer: &mut Killer,
    ) -> Result<Report, WorkError> {
        let (mut quiet, mut stormy, mut longest) = (Rate::default(), Rate::default(), 1);
        for _ in 0..MEASURED {
            let begun = clock::now();
            longest = longest.max(self.undisturbed(killer)?);
            quiet.add(1, clock::now() - begun);
        }
        let places = range.places(longest * R::STAGES - 1, arguments.sample, arguments.seed);
        rt::eprintln!(
            "storm: one request takes {longest} ticks at most; in {} stages it dies at {} places",
            R::STAGES,
            places.len()
        );
        for (number, place) in places.iter().enumerate() {
            let begun = clock::now();
            self.disturbed(place / longest, place % longest, killer)?;
            stormy.add(1, clock::now() - begun);
            if (number + 1) % STEP == 0 {
                rt::eprintln!("storm: died at {} places", number + 1);
            }
        }
        self.undisturbed(killer)?;
        killer.book()?;
        self.tally.errors += killer.refused();
        Ok(Report {
            kills: killer.kills(),
            recoveries: killer.recoveries(),
            tally: self.tally,
            quiet,
            stormy,
            recovery: killer.times().summary(),
            tsc_hz: env::tsc_hz(),
        })
    }

    /// One request in peace: for how many ticks the victims worked on it.
    fn undisturbed(&mut self, killer: &mut Killer) -> Result<u64, WorkError> {
        let before = killer.worked()?;
        self.request.make()?;
        self.settle(killer)?;
        let worked = killer.worked()? - before;
        let took = self.request.took().unwrap_or(worked);
        self.request.check(&mut self.tally)?;
        Ok(took)
    }

    /// One request whose victim dies `ticks` into a stage.
    fn disturbed(&mut self, stage: u64, ticks: u64, killer: &mut Killer) -> Result<(), WorkError> {
        self.request.make()?;
        self.request.advance(stage, self.time)?;
        pause(self.time, ticks)?;
        killer.shoot_now(0)?;
        self.settle(killer)?;
        self.request.check(&mut self.tally)
    }

    /// Waits until the request is answered and its victim is there again.
    fn settle(&mut self, killer: &mut Killer) -> Result<(), WorkError> {
        let give_up = clock::now() + PATIENCE * env::tsc_hz();
        let mut bits = 0;
        loop {
            let due = killer.step(bits)?;
            let idle = self.request.step()?;
            if self.request.is_answered() && killer.is_done() {
                return Ok(());
            }
            if clock::now() > give_up {
                return Err(WorkError::Stalled(PATIENCE));
            }
            bits = if idle { wait(due.min(give_up).min(self.request.deadline()))? } else { 0 };
        }
    }
}
