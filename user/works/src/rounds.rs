//! Runs a work, pass after pass, while a killer is about.

use rt::{clock, env};
use storm::report::Rate;
use storm::tally::Tally;

use crate::victims::Killer;
use crate::{Work, WorkError, wait};

/// Seconds without any progress after which a work is given up.
const PATIENCE: u64 = 60;

/// What came of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// What the work found.
    pub tally: Tally,
    /// How much it did in how long.
    pub rate: Rate,
}

/// Runs one pass, or with a killer as many as it takes until that is done.
pub fn run(work: &mut dyn Work, mut killer: Option<&mut Killer>) -> Result<Outcome, WorkError> {
    let begun = clock::now();
    let mut tally = Tally::default();
    loop {
        work.begin()?;
        let mut watch = Watch::new();
        let mut bits = 0;
        while !work.is_done() {
            // The killer goes first: a victim that has just come back is to hear its orders before it is given work.
            let due = killer.as_mut().map_or(Ok(u64::MAX), |killer| killer.step(bits))?;
            let idle = work.step()?;
            bits = if idle {
                wait(due.min(work.deadline().unwrap_or(u64::MAX)).min(watch.look(work)?))?
            } else {
                0
            };
        }
        tally.add(&work.tally());
        if killer.as_ref().is_none_or(|killer| killer.is_done()) {
            break;
        }
    }
    let amount = if tally.bytes > 0 { tally.bytes } else { tally.requests };
    Ok(Outcome { tally, rate: Rate { amount, ticks: clock::now() - begun } })
}

/// Sees to it that a work that does not move is not waited for for ever.
struct Watch {
    done: (u64, u64),
    until: u64,
}

impl Watch {
    fn new() -> Watch {
        Watch { done: (0, 0), until: clock::now() + PATIENCE * env::tsc_hz() }
    }

    /// When to look again at the latest.
    fn look(&mut self, work: &dyn Work) -> Result<u64, WorkError> {
        let tally = work.tally();
        let done = (tally.bytes, tally.requests);
        if done != self.done {
            *self = Watch { done, ..Watch::new() };
        } else if clock::now() > self.until {
            return Err(WorkError::Stalled(PATIENCE));
        }
        Ok(self.until)
    }
}
