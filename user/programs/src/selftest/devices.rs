//! Devices: their interrupts and ports.
//!
//! The device is one that every PC has: the real-time clock (MC146818A data sheet), whose periodic interrupt
//! comes by wire 8.

use abi::{CPtr, Error, Kind, Rights};
use ipc::{IoPort, IrqControl, IrqHandler};

use crate::arena;
use crate::row;
use crate::table::{Need, Test};
use crate::world::{CNODE, IO_PORT, IRQ_CONTROL, Must, SILENT, Slot, TCB, World, now, unless};

/// The tests of this area.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    row!("devices", an_interrupt_arrives_as_the_bits_of_the_badge, "an interrupt signals the Notification it is bound to with the badge bound, an unbadged one with bit 0"),
    row!("devices", an_interrupt_is_held_until_it_is_acknowledged, "after an interrupt no further one comes before ack, and then one does"),
    row!("devices", interrupts_come_at_the_devices_rate, "a stream of acknowledged interrupts keeps the device's pace"),
    row!("devices", an_interrupt_preempts_who_runs, "the thread that waits for an interrupt runs at once if its priority is higher"),
    row!("devices", an_interrupt_ends_the_receive_of_a_bound_thread, "a driver hears messages and interrupts by one receive"),
    row!("devices", nothing_arrives_after_unbind, "after unbind no interrupt arrives, not even by ack, until it is bound again"),
    row!("devices", nothing_arrives_after_the_handler_is_deleted, "deleting the IrqHandler silences its interrupt, and frees it for the next"),
    row!("devices", nothing_arrives_after_revoking_the_control, "revoking what IrqHandlers were made from deletes them"),
    row!("devices", a_second_bind_takes_the_place_of_the_first, "bound to another Notification an interrupt signals only that one"),
    row!("devices", a_deleted_notification_is_signalled_no_more, "an interrupt whose Notification is deleted goes nowhere, and can be bound anew"),
    row!("devices", interrupts_reach_the_cpu_they_are_routed_to, "an interrupt routed to any CPU reaches its waiter on any CPU", Need::Cpus(2)),
    row!("devices", a_wire_has_one_handler, "a second IrqHandler for a wire is Busy, whoever asks, until the first is gone"),
    row!("devices", refused_handlers_leave_nothing_behind, "IrqControl's refusals fill no slot and lose no vector"),
    row!("devices", every_message_interrupt_has_its_own_vector, "message-signalled interrupts have distinct vectors, an address that names the CPU, and come to an end in order"),
    row!("devices", vectors_come_back, "a thousand IrqHandlers made and deleted use up no vector"),
    row!("devices", interrupts_take_rights, "IrqControl and IrqHandler do nothing without WRITE, and a Notification without it cannot be bound"),
    row!("devices", ports_read_and_write_the_device, "what is written to a device by ports of a byte is read from it"),
    row!("devices", a_range_of_ports_is_only_that, "an IoPort for a range gives that range, by every width, and not a byte beside it"),
    row!("devices", a_range_of_ports_never_grows, "an IoPort can be narrowed again and again, and never widened or moved"),
    row!("devices", ports_take_rights, "an IoPort without READ reads nothing, without WRITE writes nothing"),
    row!("devices", odd_accesses_to_ports_are_refused, "widths other than 1, 2 and 4 and ports beyond 65535 are refused"),
];

/// The clock's wire.
const RTC_WIRE: u64 = 8;
/// Ports of the clock: index and data.
const RTC_INDEX: u64 = 0x70;
const RTC_DATA: u64 = 0x71;
/// Its control registers.
const RTC_A: u64 = 0x0a;
const RTC_B: u64 = 0x0b;
const RTC_C: u64 = 0x0c;
/// The first of two bytes of its memory that mean nothing.
const RTC_MEMORY: u64 = 0x52;
/// In `RTC_A`: the oscillator runs; with the rate added it ticks at 32768 >> (rate - 1) a second.
const RTC_RUNS: u64 = 0x20;
/// In `RTC_B`: periodic interrupts.
const RTC_PERIODIC: u64 = 0x40;
/// 256 a second.
const RATE: u64 = 8;
/// Reads of the clock that fill far more time than some of its ticks, however fast they are.
const MOST_READS: u64 = 20_000_000;
/// Ticks a second at this rate.
const HZ: u64 = 32768 >> (RATE - 1);

/// Reads a register of the clock.
fn rtc_read(register: u64) -> u64 {
    IO_PORT.write(RTC_INDEX, 1, register).must("the clock's index");
    IO_PORT.read(RTC_DATA, 1).must("the clock's data")
}

/// Writes one.
fn rtc_write(register: u64, value: u64) {
    IO_PORT.write(RTC_INDEX, 1, register).must("the clock's index");
    IO_PORT.write(RTC_DATA, 1, value).must("the clock's data");
}

/// Lets the clock interrupt or not.
fn rtc_ticks(on: bool) {
    let control = rtc_read(RTC_B);
    rtc_write(RTC_A, RTC_RUNS | RATE);
    rtc_write(RTC_B, if on { control | RTC_PERIODIC } else { control & !RTC_PERIODIC });
    // Takes back what it still asserts.
    rtc_read(RTC_C);
}

/// The clock's interrupt, handed to a Notification.
struct Clock {
    handler: IrqHandler,
    notification: CPtr,
}

impl Clock {
    /// With the clock ticking, bound with this badge, on this CPU.
    fn new(w: &mut World, badge: u64, cpu: u64) -> Clock {
        rtc_ticks(false);
        let [slot, notification] = [w.slot(), w.notification()];
        IRQ_CONTROL.handler(CNODE.0, slot.into_slot(), RTC_WIRE, cpu, 0).must("the clock's interrupt");
        let handler = IrqHandler(slot);
        let badged = if badge == 0 { notification } else { w.mint(notification, Rights::WRITE, badge) };
        handler.bind(badged).must("binding it");
        rtc_ticks(true);
        Clock { handler, notification }
    }

    /// Waits for an interrupt; its bits.
    #[track_caller]
    fn hear(&self, w: &World) -> u64 {
        w.bits(self.notification)
    }

    /// Makes the next one possible: in the device, and on the way from there.
    fn next(&self) {
        rtc_read(RTC_C);
        self.handler.ack().must("an ack");
    }

    /// Lets the device ask for an interrupt, and looks whether none arrives.
    #[track_caller]
    fn is_silent(&self, w: &World) {
        for _ in 0..5 {
            w.until("the clock ticks", || rtc_read(RTC_C) & RTC_PERIODIC != 0);
            w.sleep(1000 / HZ);
            assert_eq!(ipc::poll(self.notification), Err(Error::WouldBlock));
        }
    }
}

fn an_interrupt_arrives_as_the_bits_of_the_badge(w: &mut World) {
    for badge in [0x40, 0, 1 << 63 | 5] {
        let clock = Clock::new(w, badge, 0);
        assert_eq!(clock.hear(w), badge.max(1));
        // Bit 7 of the register is the wire's state. (One that was on its way before may have come first.)
        let mut cause = rtc_read(RTC_C);
        while cause == 0 {
            clock.handler.ack().must("an ack");
            assert_eq!(clock.hear(w), badge.max(1));
            cause = rtc_read(RTC_C);
        }
        assert_eq!(cause & (RTC_PERIODIC | 0x80), RTC_PERIODIC | 0x80);
        w.delete(clock.handler.0);
    }
    rtc_ticks(false);
}

fn an_interrupt_is_held_until_it_is_acknowledged(w: &mut World) {
    let clock = Clock::new(w, 2, 0);
    for _ in 0..3 {
        clock.hear(w);
        clock.is_silent(w);
        clock.next();
    }
    clock.hear(w);
    rtc_ticks(false);
}

fn interrupts_come_at_the_devices_rate(w: &mut World) {
    const COUNT: u64 = 50;
    let clock = Clock::new(w, 2, 0);
    clock.hear(w);
    let start = now();
    for _ in 0..COUNT {
        clock.next();
        clock.hear(w);
    }
    let took = now() - start;
    rtc_ticks(false);
    // (A tick that QEMU's main loop has put off may be followed by the next one closely.)
    let least = w.milliseconds(1000 * COUNT / HZ / 2);
    assert!(took > least, "{COUNT} interrupts took {took} ticks instead of {least} and more");
    assert!(took < w.milliseconds(5_000) || !w.setup.icount, "{COUNT} interrupts took {took} ticks");
}

fn an_interrupt_preempts_who_runs(w: &mut World) {
    let clock = Clock::new(w, 2, 0);
    let Clock { handler, notification } = clock;
    let driver = w.thread().priority(120).start(move || {
        for _ in 0..5 {
            ipc::wait(notification).must("an interrupt");
            arena::add(0, 1);
            handler.ack().must("an ack");
        }
    });
    // This thread does not wait for anything.
    for _ in 0..MOST_READS {
        if arena::get(0) == 5 {
            break;
        }
        rtc_read(RTC_C);
    }
    rtc_ticks(false);
    assert!(driver.is_done(), "{} interrupts", arena::get(0));
}

fn an_interrupt_ends_the_receive_of_a_bound_thread(w: &mut World) {
    let clock = Clock::new(w, 6, 0);
    let endpoint = w.endpoint();
    TCB.bind_notification(clock.notification).must("binding the Notification");
    for _ in 0..3 {
        let received = ipc::recv(endpoint, CPtr::NULL).must("an interrupt");
        assert_eq!((received.notified(), received.badge), (Some(6), 0));
        clock.next();
    }
    rtc_ticks(false);
    TCB.unbind_notification().must("unbinding it");
}

fn nothing_arrives_after_unbind(w: &mut World) {
    let clock = Clock::new(w, 2, 0);
    clock.hear(w);
    clock.handler.unbind().must("unbinding");
    clock.is_silent(w);
    clock.handler.ack().must("an ack");
    clock.is_silent(w);
    clock.handler.bind(clock.notification).must("binding again");
    rtc_read(RTC_C);
    assert_eq!(clock.hear(w), 1);
    rtc_ticks(false);
}

fn nothing_arrives_after_the_handler_is_deleted(w: &mut World) {
    let clock = Clock::new(w, 2, 0);
    clock.hear(w);
    clock.next();
    w.delete(clock.handler.0);
    unless(ipc::poll(clock.notification), &[Error::WouldBlock]);
    clock.is_silent(w);
    assert_eq!(clock.handler.ack(), Err(Error::NoCapability));
    let next = Clock::new(w, 4, 0);
    assert_eq!(next.hear(w), 4);
    assert_eq!(ipc::poll(clock.notification), Err(Error::WouldBlock));
    rtc_ticks(false);
}

fn nothing_arrives_after_revoking_the_control(w: &mut World) {
    let control = w.mint(IRQ_CONTROL.0, Rights::ALL, 0);
    rtc_ticks(false);
    let [slot, copy] = [w.slot(), w.slot()];
    let notification = w.notification();
    IrqControl(control).handler(CNODE.0, slot.into_slot(), RTC_WIRE, 0, 0).must("an interrupt");
    CNODE.copy(copy.into_slot(), CNODE.0, slot.into_slot()).must("a copy");
    IrqHandler(copy).bind(notification).must("binding it");
    rtc_ticks(true);
    let clock = Clock { handler: IrqHandler(copy), notification };
    clock.hear(w);
    clock.next();
    CNODE.revoke(control.into_slot()).must("a revoke");
    unless(ipc::poll(notification), &[Error::WouldBlock]);
    clock.is_silent(w);
    for gone in [slot, copy] {
        assert_eq!(CNODE.describe(gone.into_slot()).must("a look").kind, Kind::Null);
    }
    rtc_ticks(false);
    IRQ_CONTROL.handler(CNODE.0, slot.into_slot(), RTC_WIRE, 0, 0).must("the wire is free again");
}

fn a_second_bind_takes_the_place_of_the_first(w: &mut World) {
    let clock = Clock::new(w, 2, 0);
    clock.hear(w);
    let other = w.notification();
    clock.handler.bind(other).must("binding it elsewhere");
    rtc_read(RTC_C);
    assert_eq!(w.bits(other), 1);
    assert_eq!(ipc::poll(clock.notification), Err(Error::WouldBlock));
    rtc_ticks(false);
}

fn a_deleted_notification_is_signalled_no_more(w: &mut World) {
    let clock = Clock::new(w, 0, 0);
    clock.hear(w);
    w.delete(clock.notification);
    clock.handler.ack().must("an ack");
    for _ in 0..5 {
        rtc_read(RTC_C);
        w.sleep(2);
        clock.handler.ack().must("another ack");
    }
    let other = w.notification();
    clock.handler.bind(other).must("binding it anew");
    rtc_read(RTC_C);
    assert_eq!(w.bits(other), 1);
    rtc_ticks(false);
}

fn interrupts_reach_the_cpu_they_are_routed_to(w: &mut World) {
    let last = w.cpus() - 1;
    for (route, waiter) in [(last, 0), (last, last), (0, last)] {
        let Clock { handler, notification } = Clock::new(w, 2, route);
        let thread = w.thread().cpu(waiter).start(move || {
            for _ in 0..5 {
                assert_eq!(ipc::wait(notification), Ok(2));
                rtc_read(RTC_C);
                handler.ack().must("an ack");
            }
        });
        w.join(&thread);
        w.delete(handler.0);
    }
    rtc_ticks(false);
}

fn a_wire_has_one_handler(w: &mut World) {
    let [first, second] = [w.slot(), w.slot()];
    let control = w.mint(IRQ_CONTROL.0, Rights::ALL, 0);
    let take =
        |control: CPtr, slot: CPtr| IrqControl(control).handler(CNODE.0, slot.into_slot(), RTC_WIRE, 0, 0);
    assert_eq!(take(IRQ_CONTROL.0, first), Ok(()));
    assert_eq!(take(IRQ_CONTROL.0, second), Err(Error::Busy));
    assert_eq!(take(control, second), Err(Error::Busy));
    w.delete(first);
    assert_eq!(take(control, second), Ok(()));
}

fn refused_handlers_leave_nothing_behind(w: &mut World) {
    let slot = w.slot().into_slot();
    let occupied = w.endpoint().into_slot();
    let cpus = w.cpus();
    let size = 1 << crate::world::SLOT_BITS;
    for _ in 0..300 {
        let try_with = |slot, wire, cpu, flags| IRQ_CONTROL.handler(CNODE.0, slot, wire, cpu, flags);
        assert_eq!(try_with(slot, 100_000, 0, 0), Err(Error::OutOfRange));
        assert_eq!(try_with(slot, u64::from(u32::MAX), 0, 0), Err(Error::OutOfRange));
        assert_eq!(try_with(slot, 1 << 32 | RTC_WIRE, 0, 0), Err(Error::OutOfRange));
        assert_eq!(try_with(slot, RTC_WIRE, cpus, 0), Err(Error::InvalidArgument));
        assert_eq!(try_with(slot, RTC_WIRE, u64::MAX, 0), Err(Error::InvalidArgument));
        assert_eq!(try_with(slot, RTC_WIRE, 0, 4), Err(Error::InvalidArgument));
        assert_eq!(try_with(occupied, RTC_WIRE, 0, 0), Err(Error::SlotOccupied));
        for outside in [0, 1, size, u64::MAX] {
            assert_eq!(try_with(outside, RTC_WIRE, 0, 0), Err(Error::OutOfRange));
        }
        assert_eq!(IRQ_CONTROL.msi(CNODE.0, slot, cpus, SILENT), Err(Error::InvalidArgument));
        assert_eq!(IRQ_CONTROL.msi(CNODE.0, occupied, 0, SILENT), Err(Error::SlotOccupied));
        assert_eq!(IRQ_CONTROL.msi(CNODE.0, size, 0, SILENT), Err(Error::OutOfRange));
    }
    assert_eq!(CNODE.describe(slot).must("a look").kind, Kind::Null);
    IRQ_CONTROL.msi(CNODE.0, slot, 0, SILENT).must("a vector is left");
}

/// First and last vector for devices, as `IrqControl.msi` gives them out.
const VECTORS: core::ops::RangeInclusive<u64> = 0x30..=0xef;

/// The vector that a message raises: in its data (SDM vol. 3, 11.11), or, where interrupts are remapped, by the
/// entry that its address names (VT-d specification, 5.1.2.2), of which the kernel has one for each vector.
fn vector_of([address, data]: [u64; 2]) -> u64 {
    const REMAPPABLE: u64 = 1 << 4;
    assert_eq!(address >> 20, 0xfee);
    if address & REMAPPABLE == 0 {
        assert_eq!(address & 0xfff, 0);
        return data;
    }
    assert_eq!((address & 0xf, data), (0, 0));
    address >> 5 & 0x7fff
}

/// Vectors for devices.
const VECTOR_COUNT: u32 = 0xc0;
/// Vectors that init and the drivers of the manifest hold, at most.
const HELD_BY_OTHERS: u32 = 32;

/// Takes every vector that is free into the slots from `first` on; returns how many.
fn take_vectors(w: &World, first: CPtr) -> u32 {
    let mut seen = [false; 256];
    let mut count = 0;
    let refused = loop {
        let cpu = u64::from(count) % w.cpus();
        match IRQ_CONTROL.msi(CNODE.0, u64::from(first.0 + count), cpu, SILENT) {
            Ok(message) => {
                let vector = vector_of(message);
                assert!(VECTORS.contains(&vector), "vector {vector:#x}");
                assert!(!core::mem::replace(&mut seen[vector as usize], true), "{vector:#x} twice");
            }
            Err(error) => break error,
        }
        count += 1;
        assert!(count <= VECTOR_COUNT, "more than there are");
    };
    assert_eq!(refused, Error::Unavailable);
    count
}

fn every_message_interrupt_has_its_own_vector(w: &mut World) {
    let first = w.slots(VECTOR_COUNT + 1);
    let count = take_vectors(w, first);
    assert!(count >= VECTOR_COUNT - HELD_BY_OTHERS, "only {count}");
    let next = u64::from(first.0 + count);
    assert_eq!(IRQ_CONTROL.handler(CNODE.0, next, RTC_WIRE, 0, 0), Err(Error::Unavailable));
    assert_eq!(CNODE.describe(next).must("a look").kind, Kind::Null);
    w.delete(first);
    IRQ_CONTROL.handler(CNODE.0, next, RTC_WIRE, 0, 0).must("with one free again");
    // Each has an address of its own, or shares that of its CPU.
    let addresses: [u64; 2] = [1, 2].map(|at: u32| {
        let slot = u64::from(first.0 + at);
        CNODE.delete(slot).must("a delete");
        IRQ_CONTROL.msi(CNODE.0, slot, u64::from(at - 1) % w.cpus(), SILENT).must("a vector")[0]
    });
    let shared = w.cpus() == 1 && addresses[0] & 0x10 == 0;
    assert_eq!(addresses[0] == addresses[1], shared);
}

fn vectors_come_back(w: &mut World) {
    let slot = w.slot();
    let notification = w.notification();
    for round in 0..1000 {
        match round % 2 {
            0 => IRQ_CONTROL.msi(CNODE.0, slot.into_slot(), 0, SILENT).map(|_| ()),
            _ => IRQ_CONTROL.handler(CNODE.0, slot.into_slot(), RTC_WIRE, 0, round / 2 % 4),
        }
        .must(format_args!("handler {round}"));
        IrqHandler(slot).bind(notification).must("binding it");
        w.delete(slot);
    }
}

fn interrupts_take_rights(w: &mut World) {
    let control = w.mint(IRQ_CONTROL.0, Rights::READ, 0);
    let slot = w.slot();
    let refused = IrqControl(control).handler(CNODE.0, slot.into_slot(), RTC_WIRE, 0, 0);
    assert_eq!(refused, Err(Error::NoRights));
    assert_eq!(IrqControl(control).msi(CNODE.0, slot.into_slot(), 0, SILENT), Err(Error::NoRights));
    IRQ_CONTROL.msi(CNODE.0, slot.into_slot(), 0, SILENT).must("a vector");
    let notification = w.notification();
    let deaf = w.mint(notification, Rights::READ, 0);
    assert_eq!(IrqHandler(slot).bind(deaf), Err(Error::NoRights));
    let weak = IrqHandler(w.mint(slot, Rights::READ, 0));
    assert_eq!(weak.bind(notification), Err(Error::NoRights));
    assert_eq!(weak.ack(), Err(Error::NoRights));
    assert_eq!(weak.unbind(), Err(Error::NoRights));
    IrqHandler(slot).bind(notification).must("binding it");
}

fn ports_read_and_write_the_device(_: &mut World) {
    let places = [RTC_MEMORY, RTC_MEMORY + 1];
    let before = places.map(rtc_read);
    for value in [0x5a, 0xa5, 0, 0xff] {
        // Of a wider value only the port's byte counts.
        rtc_write(places[0], 0xffff_ffff_ffff_ff00 | value);
        rtc_write(places[1], value ^ 0xff);
        assert_eq!(places.map(rtc_read), [value, value ^ 0xff]);
    }
    places.into_iter().zip(before).for_each(|(place, value)| rtc_write(place, value));
}

/// The badge for a range of ports.
const fn ports(first: u64, last: u64) -> u64 {
    first | last << 16
}

fn a_range_of_ports_is_only_that(w: &mut World) {
    // Ports where nothing answers (QEMU's q35 has none there), so that any access does no harm.
    const FIRST: u64 = 0x2100;
    const LAST: u64 = 0x2107;
    let range = IoPort(w.mint(IO_PORT.0, Rights::ALL, ports(FIRST, LAST)));
    for width in [1, 2, 4] {
        for port in FIRST - 4..=LAST + 4 {
            let inside = port >= FIRST && port + width - 1 <= LAST;
            let expected = if inside { Ok(()) } else { Err(Error::OutOfRange) };
            assert_eq!(range.read(port, width).map(|_| ()), expected, "read {port:#x} {width}");
            assert_eq!(range.write(port, width, 0), expected, "write {port:#x} {width}");
        }
    }
    for beyond in [1 << 16, u64::MAX] {
        assert_eq!(range.read(beyond, 1).map(|_| ()), Err(Error::OutOfRange));
        assert_eq!(range.write(beyond, 1, 0), Err(Error::OutOfRange));
    }
    let one = IoPort(w.mint(range.0, Rights::ALL, ports(FIRST, FIRST)));
    assert!(one.read(FIRST, 1).is_ok());
    assert_eq!(one.read(FIRST, 2), Err(Error::OutOfRange));
    assert_eq!(one.read(RTC_DATA, 1), Err(Error::OutOfRange));
}

fn a_range_of_ports_never_grows(w: &mut World) {
    let range = w.mint(IO_PORT.0, Rights::ALL, ports(0x2100, 0x21ff));
    let slot = w.slot().into_slot();
    for (first, last) in [
        (0x20ff, 0x21ff),
        (0x2100, 0x2200),
        (0, 0xffff),
        (0x2200, 0x22ff),
        (0x2180, 0x217f),
        (0x21ff, 0x2100),
    ] {
        let wider = CNODE.mint(slot, CNODE.0, range.into_slot(), Rights::ALL, ports(first, last));
        assert_eq!(wider, Err(Error::InvalidArgument), "{first:#x} to {last:#x}");
    }
    let beyond = CNODE.mint(slot, CNODE.0, range.into_slot(), Rights::ALL, 1 << 32 | ports(0x2100, 0x21ff));
    assert_eq!(beyond, Err(Error::InvalidArgument));
    let copy = w.mint(range, Rights::ALL, 0);
    assert_eq!(IoPort(copy).read(0x2200, 1), Err(Error::OutOfRange), "no badge is the same badge");
    let narrow = w.mint(range, Rights::ALL, ports(0x2110, 0x211f));
    let back = CNODE.mint(slot, CNODE.0, narrow.into_slot(), Rights::ALL, ports(0x2100, 0x21ff));
    assert_eq!(back, Err(Error::InvalidArgument));
    assert_eq!(CNODE.describe(slot).must("a look").kind, Kind::Null);
}

fn ports_take_rights(w: &mut World) {
    let range = ports(RTC_INDEX, RTC_DATA);
    let reads = IoPort(w.mint(IO_PORT.0, Rights::READ, range));
    let writes = IoPort(w.mint(IO_PORT.0, Rights::WRITE, range));
    rtc_write(RTC_MEMORY, 0x33);
    assert_eq!(reads.read(RTC_DATA, 1), Ok(0x33));
    assert_eq!(reads.write(RTC_DATA, 1, 0x44), Err(Error::NoRights));
    assert_eq!(reads.read(RTC_DATA, 1), Ok(0x33));
    assert_eq!(writes.read(RTC_DATA, 1), Err(Error::NoRights));
    writes.write(RTC_DATA, 1, 0).must("a write");
    assert_eq!(reads.read(RTC_DATA, 1), Ok(0));
}

fn odd_accesses_to_ports_are_refused(_: &mut World) {
    for width in [0, 3, 5, 8, 16, u64::MAX] {
        assert_eq!(IO_PORT.read(0x2100, width), Err(Error::InvalidArgument));
        assert_eq!(IO_PORT.write(0x2100, width, 0), Err(Error::InvalidArgument));
    }
    for port in [0x1_0000, 0x1_0000 + RTC_DATA, 1 << 32 | RTC_DATA, u64::MAX - 1, u64::MAX] {
        for width in [1, 2, 4] {
            assert_eq!(IO_PORT.read(port, width), Err(Error::OutOfRange));
            assert_eq!(IO_PORT.write(port, width, 0), Err(Error::OutOfRange));
        }
    }
    assert_eq!(IO_PORT.read(0xffff, 2), Err(Error::OutOfRange));
    assert_eq!(IO_PORT.read(0xfffd, 4), Err(Error::OutOfRange));
    assert!(IO_PORT.read(0xffff, 1).is_ok(), "the last port there is");
}
