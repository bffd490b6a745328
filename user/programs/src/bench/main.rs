//! `bench --unit instructions|cycles|ns [NAME...]`: measures the kernel from user space, and `block` and `net` if asked.
//!
//! A name is a benchmark's or the beginning of one; `ipc` is the whole suite, as no name is. Each benchmark
//! prints `result NAME UNIT MIN MEDIAN P99 MAX N`: figures of one operation over N samples, user stubs
//! included, the cost of the measuring loop taken off (see [`meter`]). Everything it makes comes out of one
//! Untyped, which is revoked before the next one.
#![no_std]
#![no_main]

extern crate alloc;

mod messages;
mod meter;
mod objects;
mod peer;
mod resources;
mod scaling;
mod servers;
mod threads;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use meter::{Meter, Samples, Unit};
use resources::Resources;
use rt::alloc::AllocError;

rt::entry!(main);

/// What a benchmark works with.
struct Bench {
    resources: Resources,
    meter: Meter,
}

/// Measures one operation.
type Measure = fn(&Bench) -> Result<Samples, Failure>;

/// Measures ratios, in hundredths.
type Scaling = fn(&Bench) -> Result<Vec<u64>, Failure>;

/// Name, what is measured, how.
#[rustfmt::skip]
const BENCHMARKS: &[(&str, &str, Measure)] = &[
    ("ipc.call_reply.cross.0", "call and reply_recv, two address spaces, no words", messages::cross::<0, 0>),
    ("ipc.call_reply.cross.4", "the same with 4 words", messages::cross::<4, 0>),
    ("ipc.call_reply.cross.8", "8 words: all that travel in registers", messages::cross::<8, 0>),
    ("ipc.call_reply.cross.16", "16 words: 8 in the IPC buffers", messages::cross::<8, 8>),
    ("ipc.call_reply.cross.72", "72 words: full IPC buffers", messages::cross::<8, 64>),
    ("ipc.call_reply.same.0", "call and reply_recv in one address space", messages::same),
    ("ipc.call_reply.passive.0", "a server that runs on its caller's time", messages::passive),
    ("ipc.call_reply.cap", "one capability each way", messages::capability),
    ("ipc.call_reply.xcpu.0", "a server on another CPU", messages::other_cpu),
    ("syscall.null", "into the kernel and back", threads::null),
    ("sched.yield_pair", "two threads in two address spaces yield to each other: both switches", threads::yield_pair),
    ("notify.signal_wait", "signal to a waiter of higher priority, which waits again", threads::signal_wait),
    ("notify.ping_pong", "two threads wait for each other's signal: two signals, two waits", threads::ping_pong),
    ("fault.handle", "a page fault, its handler in another address space, the answer", threads::fault),
    ("bounce.null", "a foreign system call that the thread's library answers at once", threads::bounce),
    ("vspace.map_unmap_4k", "map and unmap a page", objects::map_unmap_page),
    ("vspace.map_unmap_512x4k", "map and unmap 512 pages at once: per page", objects::map_unmap_range),
    ("thread.create_run_join_delete", "make a thread, let it run, wait for its end, take it apart", objects::thread),
    ("cap.mint_delete", "derive a capability and delete it", objects::mint_delete),
    ("endpoint.retype_delete", "make an Endpoint and delete it", objects::retype_delete),
    ("component.create_destroy", "a component of 8 pages: built, started, torn down", objects::component),
    ("server.request.1", "what a server with state does for a request, one client", servers::request::<1>),
    ("server.request.500", "the same, 500 clients in turn", servers::request::<500>),
    ("server.look", "the same for a request that only looks", servers::look),
    ("irq.latency", "from a timer's deadline to the waiting thread, which a running one makes way for", threads::timer),
];

/// What all CPUs do together in times of what one does alone. The number of CPUs ends the name.
#[rustfmt::skip]
const SCALING: &[(&str, &str, Scaling)] = &[
    ("ipc.scaling", "calls and answers on each CPU", scaling::calls),
    ("notify.scaling", "signals to a more urgent waiter on each CPU", scaling::signals),
    ("sched.scaling", "threads that yield on each CPU", scaling::yields),
    ("fault.scaling", "faults and their answers on each CPU", scaling::faults),
    ("vspace.scaling", "pages mapped and unmapped on each CPU", scaling::maps),
];

/// What is measured by `storm`, which has the channels to disk and network: the beginnings of its figures' names.
const BY_STORM: [&str; 2] = ["block", "net"];

/// Why there is no figure.
#[derive(Debug)]
enum Failure {
    /// Memory, slots or the kernel.
    Refused(AllocError),
    /// It cannot be measured on this machine or in this unit.
    LeftOut(&'static str),
    /// The result of an operation was not what it should be.
    Wrong(&'static str),
}

impl From<AllocError> for Failure {
    fn from(error: AllocError) -> Failure {
        Failure::Refused(error)
    }
}

impl From<abi::Error> for Failure {
    fn from(error: abi::Error) -> Failure {
        Failure::Refused(error.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Failure::Refused(error) => error.fmt(f),
            Failure::LeftOut(why) | Failure::Wrong(why) => f.write_str(why),
        }
    }
}

fn main() -> u8 {
    let (unit, names) = match arguments() {
        Ok(arguments) => arguments,
        Err(complaint) => {
            rt::eprintln!("bench: {complaint}; usage: bench --unit instructions|cycles|ns [NAME...]");
            return 2;
        }
    };
    let is_wanted = |benchmark: &str| {
        names.is_empty() || names.iter().any(|&name| name == "ipc" || benchmark.starts_with(name))
    };
    let unknown = |name: &&&str| {
        let mut all =
            BENCHMARKS.iter().map(|(known, ..)| known).chain(SCALING.iter().map(|(known, ..)| known));
        let is_known = all.any(|known| known.starts_with(**name));
        **name != "ipc" && !BY_STORM.contains(*name) && !is_known
    };
    if let Some(name) = names.iter().find(unknown) {
        rt::eprintln!("bench: {name}: no benchmark has a name that begins so");
        return 2;
    }
    let areas = BY_STORM.into_iter().filter(|area| names.contains(area));
    let by_storm = areas.map(measured_by_storm).fold(true, |all, one| all & one);
    match measure(unit, is_wanted) {
        Ok(true) => u8::from(!by_storm),
        Ok(false) => 1,
        Err(failure) => {
            rt::eprintln!("bench: {failure}");
            1
        }
    }
}

/// Has `storm` measure an area; false if it fails.
fn measured_by_storm(area: &str) -> bool {
    let ended = rt::io::run(&alloc::format!("storm\0--measure\0{area}\0")).and_then(rt::io::wait_for);
    match ended {
        Ok(ended) => ended.status == 0 && !ended.crashed,
        Err(error) => {
            rt::eprintln!("bench: {area}: {error}");
            false
        }
    }
}

fn arguments() -> Result<(Unit, Vec<&'static str>), &'static str> {
    let mut arguments = rt::env::arguments().skip(1);
    let (Some("--unit"), Some(unit)) = (arguments.next(), arguments.next()) else {
        return Err("say the unit first");
    };
    let unit = Unit::named(unit).ok_or("no such unit")?;
    Ok((unit, arguments.collect()))
}

/// Runs the benchmarks that are wanted; false if one of them failed. Nothing is printed before all have run: the line
/// that it goes out by would interrupt the next one when the host gets round to it.
fn measure(unit: Unit, is_wanted: impl Fn(&str) -> bool) -> Result<bool, Failure> {
    let bench = Bench { resources: Resources::take()?, meter: Meter::calibrated(unit)? };
    let mut outcomes = Vec::with_capacity(BENCHMARKS.len() + SCALING.len());
    for (name, what, measure) in BENCHMARKS.iter().filter(|(name, ..)| is_wanted(name)) {
        let summary = measure(&bench).map(|samples| bench.meter.summary(samples));
        bench.resources.clear()?;
        outcomes.push((String::from(*name), what, summary));
    }
    for (name, what, measure) in SCALING.iter().filter(|(name, ..)| is_wanted(name)) {
        let summary = measure(&bench).map(meter::ratios);
        bench.resources.clear()?;
        outcomes.push((format!("{name}.{}", bench.resources.cpus), what, summary));
    }
    bench.meter.tell_calibration();
    let mut all = true;
    for (name, what, outcome) in outcomes {
        match outcome {
            Ok(summary) => rt::println!("result {name} {summary}"),
            Err(Failure::LeftOut(why)) => rt::eprintln!("bench: {name} ({what}) is left out: {why}"),
            Err(failure) => {
                rt::eprintln!("bench: {name} ({what}): {failure}");
                all = false;
            }
        }
    }
    Ok(all)
}
