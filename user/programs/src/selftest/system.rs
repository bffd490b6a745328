//! The machine as a whole: the kernel's log, traces, figures, and the check of its invariants.

use core::sync::atomic::Ordering;

use abi::boot::{KernelLog, LOG_BYTES};
use abi::trace::{Event, RECORDS, Ring};
use abi::{CPtr, Error, MapFlags, Syscall};
use ipc::{Message, buffer, bytes};

use crate::row;
use crate::subject::HERE;
use crate::table::{Need, Test};
use crate::world::{CNODE, Must, SYSTEM, Slot, VSPACE, World, count, never_ends, slots};

/// The tests of this area.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    row!("system", what_is_logged_can_be_read, "System.log appends to the kernel's log, which a read-only Frame shows", Need::Records),
    row!("system", the_logs_frame_cannot_be_written, "kernel log and trace rings are mapped read-only or not at all", Need::Records),
    row!("system", trace_records_what_happens, "while traced, each event leaves a record with its arguments", Need::Records),
    row!("system", nothing_is_traced_when_tracing_is_off, "events that are not in the mask leave no record", Need::Records),
    row!("system", traces_of_every_cpu_lie_in_its_own_ring, "an event on a CPU is in that CPU's ring", Need::Cpus(2)),
    row!("system", latency_is_told_once, "System.latency tells the longest time since it was asked last, and where it was"),
    row!("system", verify_finds_nothing_wrong_in_the_midst_of_things, "the invariants hold while threads wait, call, fault and run"),
];

fn kernel_log() -> &'static KernelLog {
    VSPACE.map(CPtr(slots::KERNEL_LOG), HERE, 0, 8, MapFlags::READ).must("mapping the log");
    // SAFETY: just mapped; the kernel keeps a `KernelLog` there, which consists of atomics.
    unsafe { &*(HERE as *const KernelLog) }
}

fn what_is_logged_can_be_read(_: &mut World) {
    const LINE: &[u8] = b"selftest: a line for the kernel's log\n";
    let log = kernel_log();
    let before = log.written.load(Ordering::SeqCst);
    bytes::put(&buffer().words, LINE);
    SYSTEM.log(LINE.len() as u64).must("logging");
    assert!(log.written.load(Ordering::SeqCst) >= before + LINE.len() as u64);
    let at = |place: usize| log.text[(before as usize + place) % LOG_BYTES].load(Ordering::SeqCst);
    assert!(LINE.iter().enumerate().all(|(place, &byte)| at(place) == byte));
}

fn the_logs_frame_cannot_be_written(_: &mut World) {
    for slot in [slots::KERNEL_LOG, slots::TRACE] {
        assert_eq!(VSPACE.map(CPtr(slot), HERE, 0, 1, MapFlags::WRITE), Err(Error::NoRights));
        assert_eq!(VSPACE.map(CPtr(slot), HERE, 0, 1, MapFlags::EXECUTE), Err(Error::NoRights));
    }
}

fn rings() -> &'static [Ring; abi::trace::MAX_CPUS] {
    const PAGES: u64 = (size_of::<Ring>() * abi::trace::MAX_CPUS / 4096) as u64;
    VSPACE.map(CPtr(slots::TRACE), HERE, 0, PAGES, MapFlags::READ).must("mapping the rings");
    // SAFETY: just mapped; the kernel keeps its rings there, which consist of atomics.
    unsafe { &*(HERE as *const [Ring; abi::trace::MAX_CPUS]) }
}

/// The records of an event since `from`: CPU and arguments.
fn records(ring: &'static Ring, from: u64, event: Event) -> impl Iterator<Item = (u64, u64, u64)> {
    let written = ring.written.load(Ordering::SeqCst);
    (from.max(written.saturating_sub(RECORDS as u64))..written).filter_map(move |at| {
        let record = &ring.records[at as usize % RECORDS];
        let kind = record.event.load(Ordering::SeqCst);
        let arguments = (record.a.load(Ordering::SeqCst), record.b.load(Ordering::SeqCst));
        (kind & 0xff == event as u64).then_some((kind >> 8, arguments.0, arguments.1))
    })
}

fn trace(events: &[Event]) {
    SYSTEM.trace(events.iter().fold(0, |mask, &event| mask | 1 << event as u64)).must("tracing");
}

fn trace_records_what_happens(w: &mut World) {
    const THERE: u64 = HERE + (1 << 30);
    let [endpoint, frame] = [w.endpoint(), w.frame(2)];
    let faults = w.endpoint();
    w.thread().start(move || {
        let received = ipc::recv(endpoint, CPtr::NULL).must("a call");
        ipc::reply(received.message).must("an answer");
    });
    let ring = &rings()[0];
    let from = ring.written.load(Ordering::SeqCst);
    trace(&[Event::Syscall, Event::Ipc, Event::Switch, Event::Fault, Event::Map, Event::Unmap]);
    ipc::call(endpoint, Message::new(1)).must("a call");
    VSPACE.map(frame, THERE, 0, 2, MapFlags::READ).must("a map");
    VSPACE.unmap(THERE, 2).must("an unmap");
    w.thread().faults_to(faults).start(|| crate::world::finish());
    ipc::recv(faults, CPtr::NULL).must("a fault");
    trace(&[]);
    assert!(records(ring, from, Event::Ipc).count() >= 2);
    assert!(records(ring, from, Event::Switch).count() >= 2);
    let map = Syscall::invoke.number().into();
    assert!(
        records(ring, from, Event::Syscall)
            .any(|(_, number, capability)| { number == map && capability == u64::from(slots::VSPACE) })
    );
    assert!(records(ring, from, Event::Map).eq([(0, THERE, 2)]));
    assert!(records(ring, from, Event::Unmap).eq([(0, THERE, 2)]));
    assert!(records(ring, from, Event::Fault).any(|record| record == (0, 6, 0)));
}

fn nothing_is_traced_when_tracing_is_off(w: &mut World) {
    let rings = rings();
    trace(&[]);
    let written = || rings.iter().map(|ring| ring.written.load(Ordering::SeqCst)).sum::<u64>();
    w.sleep(1);
    let before = written();
    let frame = w.frame(1);
    VSPACE.map(frame, HERE + (1 << 30), 0, 1, MapFlags::READ).must("a map");
    w.sleep(2);
    assert_eq!(written(), before);
    trace(&[Event::Unmap]);
    ipc::yield_now();
    assert_eq!(written(), before);
    VSPACE.unmap(HERE + (1 << 30), 1).must("an unmap");
    assert_eq!(written(), before + 1);
    trace(&[]);
}

fn traces_of_every_cpu_lie_in_its_own_ring(w: &mut World) {
    if CNODE.describe(slots::TRACE.into()).must("a look").identity == 0 {
        // Without the rings there is no more to see than that tracing harms no CPU.
        trace(&[Event::Map]);
        w.sleep(1);
        return trace(&[]);
    }
    let rings = rings();
    let cpu = w.cpus() - 1;
    let frame = w.frame(1);
    let from = [0, cpu].map(|cpu| rings[cpu as usize].written.load(Ordering::SeqCst));
    trace(&[Event::Map]);
    let thread = w.thread().cpu(cpu).start(move || {
        VSPACE.map(frame, HERE + (1 << 30), 0, 1, MapFlags::READ).must("a map");
    });
    w.join(&thread);
    trace(&[]);
    assert!(records(&rings[cpu as usize], from[1], Event::Map).eq([(cpu, HERE + (1 << 30), 1)]));
    assert_eq!(records(&rings[0], from[0], Event::Map).count(), 0);
}

fn latency_is_told_once(w: &mut World) {
    SYSTEM.latency().must("a figure");
    let memory = w.make_sized(abi::Kind::Untyped, 16);
    let slot = w.slot().into_slot();
    ipc::Untyped(memory).retype(abi::Kind::Frame, 14, CNODE.0, slot, 1).must("a Frame");
    let [ticks, place] = SYSTEM.latency().must("a figure");
    assert!(ticks > 0);
    assert!(place < 256 || Syscall::from_number(place as u32).is_some(), "{place:#x}");
}

fn verify_finds_nothing_wrong_in_the_midst_of_things(w: &mut World) {
    let [endpoint, faults, notification] = [w.endpoint(), w.endpoint(), w.notification()];
    for number in 0..12 {
        let cpu = number % w.cpus();
        let period = w.milliseconds(1);
        let builder = w.thread().cpu(cpu).budget(period / 4, period);
        // A fault that nobody hears is a state of its own. The bench hears of all others.
        let builder = if number % 4 == 2 { builder.faults_to(faults) } else { builder };
        builder.start(move || match number % 4 {
            0 => never_ends(ipc::call(endpoint, Message::new(1))),
            1 => never_ends(ipc::wait(notification)),
            2 => crate::world::finish(),
            _ => loop {
                core::hint::spin_loop();
            },
        });
    }
    for _ in 0..20 {
        count();
        w.sleep(1);
    }
}
