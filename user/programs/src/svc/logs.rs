//! What the kernel says: its log, and its trace.

use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::MapFlags;
use abi::trace::{Event, MAX_CPUS, RECORDS, Ring};
use proto::component::MAX_BYTES;
use proto::start::FREE;
use rt::{clock, control, env, memory};

use crate::{Outcome, refused};

/// `svc log`.
pub fn log() -> Outcome {
    let mut from = 0;
    loop {
        let mut bytes = [0; MAX_BYTES];
        let (length, first) = control::log(from, &mut bytes).map_err(refused)?;
        if length == 0 {
            return Ok(());
        }
        rt::print!("{}", String::from_utf8_lossy(&bytes[..length]));
        from = first + length as u64;
    }
}

/// Where the trace is mapped: behind what else this program maps.
const TRACE: u64 = FREE + (1 << 36);
/// Records that are shown, at most.
const SHOWN: usize = 200;
/// Events that are traced: those that a person can follow.
const EVENTS: [(Event, &str, &str, &str); 7] = [
    (Event::Syscall, "syscall", "number", "capability"),
    (Event::Ipc, "message", "from", "to"),
    (Event::Switch, "switch", "from", "to"),
    (Event::Irq, "interrupt", "vector", ""),
    (Event::Fault, "fault", "kind", "address"),
    (Event::Map, "map", "address", "pages"),
    (Event::Unmap, "unmap", "address", "pages"),
];

/// A record of the trace.
struct Record {
    time: u64,
    event: u64,
    a: u64,
    b: u64,
}

/// `svc trace [MILLISECONDS]`.
pub fn trace(milliseconds: u64) -> Outcome {
    let rings = rings()?;
    let before: Vec<u64> = rings.iter().map(|ring| ring.written.load(Ordering::Acquire)).collect();
    control::trace(EVENTS.iter().fold(0, |mask, (event, ..)| mask | 1 << *event as u64)).map_err(refused)?;
    let until = clock::now() + clock::microseconds(milliseconds.saturating_mul(1000));
    // Nobody signals it; the wait is for the time.
    let _ = ipc::wait_until(env::required(proto::start::names::READY), until);
    control::trace(0).map_err(refused)?;
    let mut records: Vec<Record> = Vec::new();
    for (ring, before) in rings.iter().zip(before) {
        records.extend(new_records(ring, before));
    }
    records.sort_by_key(|record| record.time);
    let first = records.len().saturating_sub(SHOWN);
    rt::println!("{} events; the last {}:", records.len(), records.len() - first);
    let start = records.get(first).map_or(0, |record| record.time);
    for record in &records[first..] {
        let (event, cpu) = (record.event & 0xff, record.event >> 8 & 0xff);
        let known = EVENTS.iter().find(|(known, ..)| *known as u64 == event);
        let (what, a, b) = known.map_or(("?", "", ""), |(_, what, a, b)| (what, a, b));
        let ticks = record.time.saturating_sub(start);
        rt::println!("{ticks:>12} CPU {cpu} {what:10} {a} {:#x} {b} {:#x}", record.a, record.b);
    }
    Ok(())
}

fn rings() -> Result<&'static [Ring; MAX_CPUS], String> {
    let frame = env::required("trace");
    let pages = (size_of::<Ring>() * MAX_CPUS) as u64 / 4096;
    memory::map(frame, TRACE, 0, pages, MapFlags::READ)
        .map_err(|error| alloc::format!("the trace: {error}"))?;
    // SAFETY: just mapped there, for good; the kernel keeps the rings there, which consist of atomics.
    Ok(unsafe { &*(TRACE as *const [Ring; MAX_CPUS]) })
}

/// The records since the one of number `before`, as far as they are kept.
fn new_records(ring: &Ring, before: u64) -> impl Iterator<Item = Record> {
    let written = ring.written.load(Ordering::Acquire);
    let oldest = written.saturating_sub(RECORDS as u64).max(before);
    (oldest..written).map(|number| {
        let record = &ring.records[(number % RECORDS as u64) as usize];
        let word = |word: &core::sync::atomic::AtomicU64| word.load(Ordering::Relaxed);
        Record {
            time: word(&record.time),
            event: word(&record.event),
            a: word(&record.a),
            b: word(&record.b),
        }
    })
}
