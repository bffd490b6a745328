//! The machine: interrupts, ports, the kernel's log and trace.

use core::sync::atomic::Ordering;

use abi::boot::{KernelLog, LOG_BYTES};
use abi::trace::{Event, RECORDS, Ring};
use abi::{CPtr, Error, MapFlags, Rights, Syscall};
use ipc::{IoPort, IrqHandler, Message, buffer, bytes};

use crate::row;
use crate::table::{Need, Test};
use crate::world::{
    CNODE, IO_PORT, IRQ_CONTROL, Must, SILENT, SYSTEM, Slot, VSPACE, World, count, now, slots,
};

/// The tests of this area.
pub const TESTS: &[Test] = &[
    row!(
        "machine",
        an_interrupt_signals_its_notification,
        "the interrupts of a periodic clock arrive as signals, with the badge's bits"
    ),
    row!(
        "machine",
        an_interrupt_is_held_until_it_is_acknowledged,
        "without an ack no further interrupt of the line comes"
    ),
    row!(
        "machine",
        an_unbound_interrupt_signals_nothing,
        "after unbind no interrupt arrives, after another bind they come again"
    ),
    row!(
        "machine",
        an_interrupt_ends_a_receive_of_a_bound_thread,
        "a driver's receive ends with the interrupt's bits"
    ),
    row!(
        "machine",
        a_deleted_handler_frees_its_line_and_vector,
        "a line can be taken again when its handler is deleted, hundreds of times"
    ),
    row!(
        "machine",
        deleting_the_notification_silences_the_interrupt,
        "an interrupt whose Notification is gone harms nobody"
    ),
    row!(
        "machine",
        an_interrupt_preempts_a_spinning_thread,
        "a driver of higher priority runs at the interrupt though another thread spins"
    ),
    row!("machine", an_interrupt_arrives_on_another_cpu, "interrupts can be led to any CPU", Need::Cpus(2)),
    row!(
        "machine",
        message_interrupts_have_their_own_vectors,
        "each message-signalled interrupt has its own vector, and an address of the local APICs"
    ),
    row!("machine", ports_are_read_and_written, "a device's registers are reached through IoPort"),
    row!(
        "machine",
        a_port_range_is_kept_to_its_last_byte,
        "an access must lie wholly within the range, at both ends"
    ),
    row!(
        "machine",
        what_is_logged_can_be_read,
        "System.log appends to the kernel's log, which a read-only Frame shows",
        Need::Records
    ),
    row!(
        "machine",
        the_logs_frame_cannot_be_written,
        "kernel log and trace rings are mapped read-only or not at all",
        Need::Records
    ),
    row!(
        "machine",
        trace_records_what_happens,
        "while traced, each event leaves a record with its arguments",
        Need::Records
    ),
    row!(
        "machine",
        nothing_is_traced_when_tracing_is_off,
        "events that are not in the mask leave no record",
        Need::Records
    ),
    row!(
        "machine",
        traces_of_every_cpu_lie_in_its_own_ring,
        "an event on a CPU is in that CPU's ring",
        Need::Cpus(2)
    ),
    row!(
        "machine",
        latency_is_told_once,
        "System.latency tells the longest time since it was asked last, and where it was"
    ),
    row!(
        "machine",
        verify_finds_nothing_wrong_in_the_midst_of_things,
        "the invariants hold while threads wait, call, fault and run"
    ),
];

/// The real-time clock: its ports, registers, and line (MC146818A).
mod rtc {
    pub const PORTS: u64 = 0x70 | 0x71 << 16;
    pub const INDEX: u64 = 0x70;
    pub const DATA: u64 = 0x71;
    pub const A: u64 = 10;
    pub const B: u64 = 11;
    pub const C: u64 = 12;
    pub const PERIODIC: u64 = 0x40;
    pub const LINE: u64 = 8;
}

fn rtc_read(register: u64) -> u64 {
    IO_PORT.write(rtc::INDEX, 1, register).must("selecting a register");
    IO_PORT.read(rtc::DATA, 1).must("reading it")
}

fn rtc_write(register: u64, value: u64) {
    IO_PORT.write(rtc::INDEX, 1, register).must("selecting a register");
    IO_PORT.write(rtc::DATA, 1, value).must("writing it");
}

/// The clock ticks 1024 times a second, on its line.
fn start_clock() {
    rtc_write(rtc::A, 0x26);
    rtc_write(rtc::B, rtc_read(rtc::B) | rtc::PERIODIC);
    rtc_read(rtc::C);
}

fn stop_clock() {
    rtc_write(rtc::B, rtc_read(rtc::B) & !rtc::PERIODIC);
    rtc_read(rtc::C);
}

/// A handler for the clock's line, on this CPU.
fn clock_handler(w: &mut World, cpu: u64) -> IrqHandler {
    let slot = w.slot();
    IRQ_CONTROL.handler(CNODE.0, slot.into_slot(), rtc::LINE, cpu, 0).must("the clock's line");
    IrqHandler(slot)
}

/// Waits for a tick, and lets the clock give the next one.
fn tick(w: &World, notification: CPtr, handler: IrqHandler) -> u64 {
    let bits = ipc::wait_until(notification, now() + w.milliseconds(30_000)).must("an interrupt");
    // What it reads tells the clock that the tick was seen; the next one comes after it only.
    rtc_read(rtc::C);
    handler.ack().must("an ack");
    bits
}

fn an_interrupt_signals_its_notification(w: &mut World) {
    let notification = w.notification();
    let badged = w.mint(notification, Rights::WRITE, 0x80);
    let handler = clock_handler(w, 0);
    handler.bind(badged).must("binding");
    start_clock();
    for _ in 0..10 {
        assert_eq!(tick(w, notification, handler), 0x80);
    }
    stop_clock();
}

fn an_interrupt_is_held_until_it_is_acknowledged(w: &mut World) {
    let notification = w.notification();
    let handler = clock_handler(w, 0);
    handler.bind(notification).must("binding");
    start_clock();
    ipc::wait_until(notification, now() + w.milliseconds(30_000)).must("an interrupt");
    // The clock may tick: the line is held.
    for _ in 0..5 {
        rtc_read(rtc::C);
        w.sleep(3);
    }
    assert_eq!(ipc::poll(notification), Err(Error::WouldBlock));
    rtc_read(rtc::C);
    handler.ack().must("an ack");
    tick(w, notification, handler);
    stop_clock();
}

fn an_unbound_interrupt_signals_nothing(w: &mut World) {
    let notification = w.notification();
    let handler = clock_handler(w, 0);
    handler.bind(notification).must("binding");
    start_clock();
    tick(w, notification, handler);
    handler.unbind().must("unbinding");
    let _ = ipc::poll(notification);
    rtc_read(rtc::C);
    w.sleep(10);
    assert_eq!(ipc::poll(notification), Err(Error::WouldBlock));
    handler.bind(notification).must("binding again");
    rtc_read(rtc::C);
    tick(w, notification, handler);
    stop_clock();
}

fn an_interrupt_ends_a_receive_of_a_bound_thread(w: &mut World) {
    let [endpoint, notification] = [w.endpoint(), w.notification()];
    let badged = w.mint(notification, Rights::WRITE, 6);
    let handler = clock_handler(w, 0);
    crate::world::TCB.bind_notification(notification).must("binding");
    handler.bind(badged).must("binding");
    start_clock();
    let end = now() + w.milliseconds(30_000);
    assert_eq!(ipc::recv_until(endpoint, CPtr::NULL, end).must("an interrupt").notified(), Some(6));
    stop_clock();
}

fn a_deleted_handler_frees_its_line_and_vector(w: &mut World) {
    let slot = w.slot();
    for round in 0..400 {
        IRQ_CONTROL.handler(CNODE.0, slot.into_slot(), rtc::LINE, 0, round % 4).must(round);
        w.delete(slot);
    }
}

fn deleting_the_notification_silences_the_interrupt(w: &mut World) {
    let notification = w.notification();
    let handler = clock_handler(w, 0);
    handler.bind(notification).must("binding");
    start_clock();
    tick(w, notification, handler);
    w.delete(notification);
    for _ in 0..3 {
        rtc_read(rtc::C);
        handler.ack().must("an ack");
        w.sleep(2);
    }
    stop_clock();
}

fn an_interrupt_preempts_a_spinning_thread(w: &mut World) {
    let turn = w.milliseconds(60_000);
    w.thread().priority(90).budget(turn, turn).start(|| {
        loop {
            core::hint::spin_loop();
        }
    });
    an_interrupt_signals_its_notification(w);
}

fn an_interrupt_arrives_on_another_cpu(w: &mut World) {
    let notification = w.notification();
    let cpu = w.cpus() - 1;
    let handler = clock_handler(w, cpu);
    handler.bind(notification).must("binding");
    start_clock();
    for _ in 0..5 {
        tick(w, notification, handler);
    }
    stop_clock();
}

/// The vector that a message raises: in its data (SDM vol. 3, 11.11), or, where interrupts are remapped, by the
/// entry that its address names (VT-d specification, 5.1.2.2), of which the kernel has one for each vector.
pub fn vector_of([address, data]: [u64; 2]) -> u64 {
    const REMAPPABLE: u64 = 1 << 4;
    assert_eq!(address >> 20, 0xfee);
    if address & REMAPPABLE == 0 {
        assert_eq!(address & 0xfff, 0);
        return data;
    }
    assert_eq!((address & 0xf, data), (0, 0));
    address >> 5 & 0x7fff
}

fn message_interrupts_have_their_own_vectors(w: &mut World) {
    let mut seen = [false; 256];
    for round in 0..20 {
        let slot = w.slot();
        let cpu = round % w.cpus();
        let message = IRQ_CONTROL.msi(CNODE.0, slot.into_slot(), cpu, SILENT).must("a vector");
        let vector = vector_of(message);
        assert!((0x30..=0xef).contains(&vector), "{vector:#x}");
        assert!(!core::mem::replace(&mut seen[vector as usize], true), "{vector:#x} twice");
    }
}

fn ports_are_read_and_written(w: &mut World) {
    let clock = IoPort(w.mint(IO_PORT.0, Rights::ALL, rtc::PORTS));
    // Two bytes of its memory that keep what is written.
    for value in [0x55, 0xaa] {
        for register in [0x70, 0x71] {
            clock.write(rtc::INDEX, 1, register).must("selecting");
            clock.write(rtc::DATA, 1, value + register).must("writing");
        }
        for register in [0x70, 0x71] {
            clock.write(rtc::INDEX, 1, register).must("selecting");
            assert_eq!(clock.read(rtc::DATA, 1), Ok((value + register) & 0xff));
        }
    }
    assert!(IO_PORT.read(0x40, 2).is_ok() && IO_PORT.read(0xcf8, 4).is_ok());
}

fn a_port_range_is_kept_to_its_last_byte(w: &mut World) {
    let four = IoPort(w.mint(IO_PORT.0, Rights::ALL, 0xcf8 | 0xcfb << 16));
    assert!(four.read(0xcf8, 4).is_ok() && four.read(0xcfb, 1).is_ok() && four.read(0xcfa, 2).is_ok());
    for (port, width) in
        [(0xcf7, 1), (0xcf7, 2), (0xcfa, 4), (0xcfb, 2), (0xcfc, 1), (u64::MAX, 1), (1 << 16, 1)]
    {
        assert_eq!(four.read(port, width), Err(Error::OutOfRange));
        assert_eq!(four.write(port, width, 0), Err(Error::OutOfRange));
    }
    assert_eq!(IO_PORT.read(0xffff, 2), Err(Error::OutOfRange));
    assert!(IO_PORT.read(0xffff, 1).is_ok());
}

const HERE: u64 = 0x30_0000_0000;

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
        w.thread().cpu(cpu).budget(period / 4, period).faults_to(faults).start(move || match number % 4 {
            0 => {
                let _ = ipc::call(endpoint, Message::new(1));
            }
            1 => {
                let _ = ipc::wait(notification);
            }
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
