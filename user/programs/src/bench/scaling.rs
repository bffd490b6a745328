//! How many times as much all CPUs do together as one does alone, where each works with threads and objects of its
//! own. It says something only where the host runs all of them at once.

use alloc::vec::Vec;

use abi::{CPtr, Kind, Rights};

use crate::meter::{Unit, now};
use crate::peer::{
    Entry, Peer, Space, call_in_turns, echo, fault_always, handle_in_turns, map_in_turns, signal_in_turns,
    slots, wait_always, yield_in_turns,
};
use crate::{Bench, Failure};

/// Operations of each CPU in a turn.
const ROUNDS: u64 = 20_000;
/// Ratios are in hundredths.
const HUNDRED: u64 = 100;
/// Turns, of one CPU and then of all, in each of which the ratio is taken.
const TURNS: usize = 7;

/// A thread of a CPU's team: what it runs, and whether it takes its turns on a signal.
struct Member {
    entry: Entry,
    in_turns: bool,
    /// Above the lowest priority of the team.
    priority: u64,
}

const fn driver(entry: Entry) -> Member {
    Member { entry, in_turns: true, priority: 0 }
}

const fn partner(entry: Entry) -> Member {
    Member { entry, in_turns: false, priority: 1 }
}

/// Calls and answers.
pub fn calls(bench: &Bench) -> Result<Vec<u64>, Failure> {
    scaling(bench, &[partner(echo), driver(call_in_turns)])
}

/// Signals to a waiter that is more urgent.
pub fn signals(bench: &Bench) -> Result<Vec<u64>, Failure> {
    scaling(bench, &[partner(wait_always), driver(signal_in_turns)])
}

/// Two threads that yield to each other.
pub fn yields(bench: &Bench) -> Result<Vec<u64>, Failure> {
    scaling(bench, &[driver(yield_in_turns), driver(yield_in_turns)])
}

/// Faults and their answers.
pub fn faults(bench: &Bench) -> Result<Vec<u64>, Failure> {
    scaling(bench, &[driver(handle_in_turns), partner(fault_always)])
}

/// A page mapped and unmapped.
pub fn maps(bench: &Bench) -> Result<Vec<u64>, Failure> {
    scaling(bench, &[driver(map_in_turns)])
}

/// The threads of one CPU that take turns.
struct Team {
    /// What each waits for.
    starts: Vec<CPtr>,
    /// What they signal when they are through.
    bits: u64,
}

/// Lets these teams take a turn: the ticks until all are through. They signal `done`.
fn turn(teams: &[Team], done: CPtr) -> Result<u64, Failure> {
    let begin = now();
    // (This CPU's own team last: it is the one that has to wait for this thread.)
    for start in teams.iter().rev().flat_map(|team| &team.starts) {
        ipc::signal(*start)?;
    }
    let mut left = teams.iter().fold(0, |all, team| all | team.bits);
    while left != 0 {
        left &= !ipc::wait(done)?;
    }
    Ok(now() - begin)
}

/// Makes the team of a CPU.
fn team(bench: &Bench, members: &[Member], cpu: u64, done: CPtr) -> Result<Team, Failure> {
    let r = &bench.resources;
    let (endpoint, bell, frame) =
        (r.make(Kind::Endpoint, 0)?, r.make(Kind::Notification, 0)?, r.make(Kind::Frame, 12)?);
    let mut team = Team { starts: Vec::new(), bits: 0 };
    for member in members {
        let peer = Peer::new(r, Space::Other, r.priority - 3 + member.priority, cpu)?;
        peer.give(r, slots::ENDPOINT, endpoint)?;
        peer.give(r, slots::OTHER, bell)?;
        peer.give(r, slots::FRAME, frame)?;
        peer.give_space(r)?;
        if member.in_turns {
            let start = r.make(Kind::Notification, 0)?;
            let bit = 1 << (2 * cpu + team.starts.len() as u64);
            peer.give(r, slots::WAIT, start)?;
            peer.give_badged(r, slots::SIGNAL, done, Rights::WRITE, bit)?;
            team.starts.push(start);
            team.bits |= bit;
        } else {
            peer.give(r, slots::WAIT, bell)?;
            peer.tcb.set_fault_handler(endpoint)?;
        }
        peer.start_with(member.entry, [ROUNDS, 0])?;
    }
    Ok(team)
}

fn scaling(bench: &Bench, members: &[Member]) -> Result<Vec<u64>, Failure> {
    let r = &bench.resources;
    if r.cpus < 2 {
        return Err(Failure::LeftOut("it takes two CPUs (--smp 2)"));
    }
    if bench.meter.unit == Unit::Instructions {
        return Err(Failure::LeftOut("it takes CPUs that run at once (no --icount)"));
    }
    let done = r.make(Kind::Notification, 0)?;
    let teams = (0..r.cpus).map(|cpu| team(bench, members, cpu, done)).collect::<Result<Vec<_>, _>>()?;
    turn(&teams, done)?;
    let mut ratios = Vec::with_capacity(TURNS);
    for _ in 0..TURNS {
        let alone = turn(teams.get(..1).unwrap_or_default(), done)?;
        let together = turn(&teams, done)?;
        ratios.push(alone * r.cpus * HUNDRED / together.max(1));
    }
    Ok(ratios)
}
