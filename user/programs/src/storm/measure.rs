//! `storm --measure block|net`: what disk and network reach, and how long their drivers take to come back. The
//! benchmark program starts it, and prints its lines as its own: `result NAME UNIT MIN MEDIAN P99 MAX N`.

use alloc::vec::Vec;

use proto::block::Op;
use rt::{clock, env};
use storm::arguments::{Arguments, Mode, When, Work as Kind};
use storm::disk::Task;
use storm::random::Random;
use storm::wire::Amount;
use works::disk::{Disk, DiskWork};
use works::rounds;
use works::victims::{Killer, PARTS};
use works::wire::{Wire, WireWork};
use works::{Work, WorkError, wait};

/// Sectors of the disk that are touched.
const EXTENT: u64 = 32 << 11;
/// Samples of each figure.
const SAMPLES: u64 = 20;
/// Deaths of a driver.
const DEATHS: u64 = 30;
/// Milliseconds between them.
const EVERY: u64 = 50;
/// Sectors of a long and of a short request.
const LONG: u64 = 128;
const SHORT: u64 = 8;
/// Seconds until a device that does nothing is given up.
const PATIENCE: u64 = 60;

/// Measures what is asked for.
pub fn measure(what: &str) -> Result<(), WorkError> {
    match what {
        "block" => block(),
        "net" => net(),
        _ => Err(WorkError::NotOffered("there are block and net to measure")),
    }
}

fn block() -> Result<(), WorkError> {
    let mut disk = Disk::open()?;
    disk.shape(EXTENT * 512)?;
    let requests = |bytes: u64, sectors: u64| bytes / (sectors * 512);
    let sequential = |number: u64| number * LONG % EXTENT;
    let mut random = Random::new(1);
    let mut anywhere = move |_: u64| random.below(EXTENT / SHORT) * SHORT;
    // The first time that something is written the host has to find room for it.
    run(&mut disk, Op::Write, LONG, 32, requests(EXTENT * 512, LONG), &mut { sequential })?;
    let long = requests(8 << 20, LONG);
    let mut bytes = |name, op, sectors, depth, count, sector: &mut dyn FnMut(u64) -> u64| {
        let mut rates = Vec::new();
        for _ in 0..SAMPLES {
            let ticks = run(&mut disk, op, sectors, depth, count, sector)?;
            rates.push(per_second(count * if sectors == LONG { LONG * 512 } else { 1 }, ticks));
        }
        tell(name, if sectors == LONG { "bytes/s" } else { "requests/s" }, rates);
        Ok::<(), WorkError>(())
    };
    bytes("block.write.sequential", Op::Write, LONG, 32, long, &mut { sequential })?;
    bytes("block.read.sequential", Op::Read, LONG, 32, long, &mut { sequential })?;
    let mut far = Random::new(2);
    let mut far_apart = move |_: u64| far.below(EXTENT / LONG) * LONG;
    bytes("block.write.random", Op::Write, LONG, 32, long, &mut far_apart)?;
    bytes("block.read.random", Op::Read, LONG, 32, long, &mut far_apart)?;
    bytes("block.requests.depth1", Op::Read, SHORT, 1, 200, &mut anywhere)?;
    bytes("block.requests.depth32", Op::Read, SHORT, 32, 1000, &mut anywhere)?;
    restarts(Kind::Block, "virtio-blk", "block", &mut DiskWork::new(disk, 8 << 20, 1)?)
}

/// Carries out requests, `depth` at a time: in how many ticks.
fn run(
    disk: &mut Disk,
    op: Op,
    sectors: u64,
    depth: usize,
    count: u64,
    sector: &mut dyn FnMut(u64) -> u64,
) -> Result<u64, WorkError> {
    let mut free: Vec<usize> = (0..depth).collect();
    let (mut made, mut answered, mut failed) = (0, 0, false);
    let begun = clock::now();
    while answered < count {
        while made < count
            && let Some(slot) = free.pop()
        {
            disk.submit(&Task { slot, op, sector: sector(made), sectors }, sectors);
            made += 1;
        }
        disk.turn(|slot, ok| {
            free.push(slot);
            answered += 1;
            failed |= !ok;
        });
        if answered < count && (free.is_empty() || made == count) && disk.sleep() {
            wait(clock::now() + PATIENCE * env::tsc_hz())?;
        }
    }
    if failed { Err(WorkError::NotOffered("the disk reports errors")) } else { Ok(clock::now() - begun) }
}

fn net() -> Result<(), WorkError> {
    let mut wire = Wire::open()?;
    let mut alone = wire.exchange_of(Amount { bytes: 0, echoes: 500, under_way: 1 })?;
    while !alone.is_done() {
        if wire.step(&mut alone) {
            wait(alone.deadline().unwrap_or(u64::MAX))?;
        }
    }
    tell("net.round_trip", "ns", alone.round_trips().all().iter().map(|&ticks| nanoseconds(ticks)).collect());
    let mut work = WireWork::new(wire, 1 << 20)?;
    let mut rates = Vec::new();
    for _ in 0..SAMPLES {
        let outcome = rounds::run(&mut work, None)?;
        rates.push(outcome.rate.per_second(env::tsc_hz()));
    }
    tell("net.stream", "bytes/s", rates);
    restarts(Kind::Net, "virtio-net", "net", &mut work)
}

/// How long a driver takes to come back while it works, and the parts of that.
fn restarts(work: Kind, driver: &'static str, area: &str, running: &mut dyn Work) -> Result<(), WorkError> {
    let arguments = Arguments {
        work,
        size: 0,
        victims: [driver].into(),
        when: When::Every(EVERY),
        mode: Mode::Always(proto::life::Injection::Kill),
        kills: DEATHS,
        sample: None,
        seed: 1,
        json: false,
    };
    let mut killer = Killer::new(&arguments)?;
    rounds::run(running, Some(&mut killer))?;
    rounds::run(running, None)?;
    killer.book()?;
    let all = |times: &storm::times::Times| times.all().iter().map(|&ticks| nanoseconds(ticks)).collect();
    tell(&alloc::format!("{area}.restart"), "ns", all(killer.times()));
    for ((part, _), times) in PARTS.iter().zip(killer.parts()) {
        tell(&alloc::format!("{area}.restart.{part}"), "ns", all(times));
    }
    Ok(())
}

fn tell(name: &str, unit: &str, mut samples: Vec<u64>) {
    samples.sort_unstable();
    let at = |hundredth: usize| {
        let rank = (samples.len() * hundredth).div_ceil(100);
        samples.get(rank.saturating_sub(1)).copied().unwrap_or(0)
    };
    rt::println!("result {name} {unit} {} {} {} {} {}", at(0), at(50), at(99), at(100), samples.len());
}

fn per_second(amount: u64, ticks: u64) -> u64 {
    (u128::from(amount) * u128::from(env::tsc_hz()) / u128::from(ticks.max(1))) as u64
}

fn nanoseconds(ticks: u64) -> u64 {
    (u128::from(ticks) * 1_000_000_000 / u128::from(env::tsc_hz().max(1))) as u64
}
