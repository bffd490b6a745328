//! What devices reach, and whose interrupts they raise: IoSpaces on the machine's IOMMU, with a device that does
//! what it is told.

use abi::object::ANY_SOURCE;
use abi::{CPtr, Error, Kind, MapFlags, PAGE_SIZE, Rights};
use ipc::{IoSpace, IrqHandler};

use crate::edu::{Edu, Way};
use crate::row;
use crate::table::{Need, Test};
use crate::world::{CNODE, IO_CONTROL, IRQ_CONTROL, Must, SILENT, Slot, VSPACE, World};

/// The tests of this area.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    row!("iommu", translation_and_remapping_are_on, "with an IOMMU both DMA and interrupts go through it from the boot on", Need::Iommu),
    row!("iommu", frames_are_mapped_and_go, "Frames are mapped into an IoSpace, and taken out by unmap, by deleting them, and with it"),
    row!("iommu", a_device_is_under_one_io_space, "a device attached is Busy for all others until it is detached or its IoSpace goes", Need::Iommu),
    row!("iommu", messages_name_their_device, "with interrupts remapped a message is made for one device, and for no other", Need::Iommu),
    row!("iommu", a_device_reaches_what_is_mapped, "a device reads and writes what is mapped for it, where it is mapped", Need::Edu),
    row!("iommu", a_device_reaches_nothing_else, "what a device tries beyond does nothing, and its owner is told the device, the address and why", Need::Edu),
    row!("iommu", what_is_unmapped_is_out_of_reach, "after unmap, delete, detach or revoke a device reaches no more", Need::Edu),
    row!("iommu", a_message_reaches_its_notification, "a device's message signals the Notification that its IrqHandler is bound to", Need::Edu),
    row!("iommu", a_forged_message_reaches_nobody, "a device that signals by another's message, or by one that is no more, signals nobody", Need::Edu),
];

/// Where the page for the device is, to it and to the test.
const IO_ADDRESS: u64 = 0x12_3456_7000;
const HERE: u64 = 0x7_5000_0000;
const OTHER: u64 = 0x7_5001_0000;
/// Fault reasons (VT-d specification, fault reasons): may not be written, read.
const NO_WRITE: u64 = 5;
const NO_READ: u64 = 6 | 1 << 8;

fn space(w: &mut World) -> IoSpace {
    IoSpace(w.make_sized(Kind::IoSpace, 16))
}

/// A page that the test sees at `address`, and where it is physically.
fn page(w: &mut World, address: u64) -> (CPtr, u64) {
    let frame = w.frame(1);
    VSPACE.map(frame, address, 0, 1, MapFlags::WRITE).must("a map");
    (frame, ipc::Frame(frame).physical().must("its place"))
}

fn word(address: u64) -> &'static core::sync::atomic::AtomicU64 {
    // SAFETY: a word of a page that the test has mapped.
    unsafe { &*(address as *const core::sync::atomic::AtomicU64) }
}

fn get(address: u64) -> u64 {
    word(address).load(core::sync::atomic::Ordering::SeqCst)
}

fn set(address: u64, value: u64) {
    word(address).store(value, core::sync::atomic::Ordering::SeqCst);
}

fn translation_and_remapping_are_on(_: &mut World) {
    assert_eq!(IO_CONTROL.status(), Ok([1, 1]));
}

fn frames_are_mapped_and_go(w: &mut World) {
    let (space, frame) = (space(w), w.frame(4));
    for _ in 0..3 {
        space.map(frame, IO_ADDRESS, PAGE_SIZE, 2, MapFlags::WRITE).must("a map");
        assert_eq!(space.map(frame, IO_ADDRESS, 0, 1, MapFlags::READ), Err(Error::AlreadyMapped));
        space.unmap(IO_ADDRESS, 2).must("an unmap");
    }
    let read = w.mint(frame, Rights::READ, 0);
    assert_eq!(space.map(read, IO_ADDRESS, 0, 1, MapFlags::WRITE), Err(Error::NoRights));
    space.map(read, IO_ADDRESS, 0, 4, MapFlags::READ).must("a map for reading");
    w.delete(read);
    space.map(frame, IO_ADDRESS, 0, 4, MapFlags::WRITE).must("a map where the other was");
    w.delete(space.0);
    assert_eq!(space.map(frame, IO_ADDRESS, 0, 4, MapFlags::WRITE), Err(Error::NoCapability));
}

fn a_device_is_under_one_io_space(w: &mut World) {
    let [one, other] = [space(w), space(w)];
    IO_CONTROL.attach(one.0, SILENT).must("attaching");
    for space in [one, other] {
        assert_eq!(IO_CONTROL.attach(space.0, SILENT), Err(Error::Busy));
    }
    IO_CONTROL.detach(SILENT).must("detaching");
    IO_CONTROL.detach(SILENT).must("detaching what is not attached");
    IO_CONTROL.attach(other.0, SILENT).must("attaching it elsewhere");
    w.delete(other.0);
    IO_CONTROL.attach(one.0, SILENT).must("attaching it once its IoSpace is gone");
    assert_eq!(one.fault(), Ok([0; 4]));
}

fn messages_name_their_device(w: &mut World) {
    let slot = w.slot().into_slot();
    assert_eq!(IRQ_CONTROL.msi(CNODE.0, slot, 0, ANY_SOURCE), Err(Error::InvalidArgument));
    assert_eq!(IRQ_CONTROL.msi(CNODE.0, slot, 0, 1 << 16), Err(Error::InvalidArgument));
    IRQ_CONTROL.msi(CNODE.0, slot, 0, SILENT).must("a message");
}

fn a_device_reaches_what_is_mapped(w: &mut World) {
    let edu = Edu::start(w);
    let (space, (frame, _)) = (space(w), page(w, HERE));
    IO_CONTROL.attach(space.0, edu.source).must("attaching");
    space.map(frame, IO_ADDRESS, 0, 1, MapFlags::WRITE).must("a map");
    for round in 1..4 {
        set(HERE, round * 0x0123_4567_89ab);
        set(HERE + 0x800, 0);
        edu.copy(w, Way::In, IO_ADDRESS, 8);
        edu.copy(w, Way::Out, IO_ADDRESS + 0x800, 8);
        assert_eq!(get(HERE + 0x800), round * 0x0123_4567_89ab);
    }
    assert_eq!(space.fault(), Ok([0; 4]));
    edu.stop();
}

fn a_device_reaches_nothing_else(w: &mut World) {
    let edu = Edu::start(w);
    let (space, (frame, _), (_, foreign)) = (space(w), page(w, HERE), page(w, OTHER));
    let notification = w.notification();
    space.bind(w.mint(notification, Rights::ALL, 4)).must("a bind");
    IO_CONTROL.attach(space.0, edu.source).must("attaching");
    space.map(frame, IO_ADDRESS, 0, 1, MapFlags::READ).must("a map for reading");
    set(HERE, 0xdead);
    set(OTHER, 7);
    let tries = [
        (Way::Out, foreign, NO_WRITE),
        (Way::In, foreign, NO_READ),
        // (Nothing has been read there yet: QEMU tells of no fault where it remembers a translation.)
        (Way::Out, IO_ADDRESS, NO_WRITE),
        (Way::Out, IO_ADDRESS + PAGE_SIZE, NO_WRITE),
    ];
    for (way, address, reason) in tries {
        edu.copy(w, way, address, 8);
        assert_eq!(w.bits(notification), 4, "{way:?} at {address:#x}");
        let [count, source, at, why] = space.fault().must("what was stopped");
        assert!(count > 0);
        assert_eq!([source, at, why], [edu.source, address & !0xfff, reason]);
    }
    assert_eq!((get(OTHER), get(HERE)), (7, 0xdead));
    assert_eq!(space.fault(), Ok([0; 4]));
    edu.stop();
}

fn what_is_unmapped_is_out_of_reach(w: &mut World) {
    let edu = Edu::start(w);
    for way_out in 0..4 {
        let (space, (frame, _)) = (space(w), page(w, HERE));
        let given = w.mint(frame, Rights::ALL, 0);
        IO_CONTROL.attach(space.0, edu.source).must("attaching");
        space.map(given, IO_ADDRESS, 0, 1, MapFlags::WRITE).must("a map");
        set(HERE, 1);
        edu.copy(w, Way::In, IO_ADDRESS, 8);
        edu.copy(w, Way::Out, IO_ADDRESS, 8);
        set(HERE, 2);
        match way_out {
            0 => space.unmap(IO_ADDRESS, 1).must("an unmap"),
            1 => w.delete(given),
            2 => IO_CONTROL.detach(edu.source).must("detaching"),
            _ => w.delete(space.0),
        }
        edu.copy(w, Way::Out, IO_ADDRESS, 8);
        assert_eq!(get(HERE), 2, "by way {way_out}");
        if way_out < 2 {
            assert_eq!(space.fault().must("what was stopped")[1..], [edu.source, IO_ADDRESS, NO_WRITE]);
            w.delete(space.0);
        }
        w.delete(frame);
    }
    edu.stop();
}

/// An IrqHandler for messages of `source`, bound to a Notification of its own: the message, and that.
fn message(w: &mut World, source: u64) -> ([u64; 2], CPtr, CPtr) {
    let (slot, notification) = (w.slot(), w.notification());
    let message = IRQ_CONTROL.msi(CNODE.0, slot.into_slot(), 0, source).must("a message");
    IrqHandler(slot).bind(notification).must("a bind");
    (message, notification, slot)
}

fn a_message_reaches_its_notification(w: &mut World) {
    let edu = Edu::start(w);
    for _ in 0..3 {
        let (message, notification, handler) = message(w, edu.source);
        edu.set_message(message);
        for _ in 0..3 {
            edu.signal();
            assert_eq!(w.bits(notification), 1);
        }
        assert_eq!(ipc::poll(notification), Err(Error::WouldBlock));
        w.delete(handler);
    }
    edu.stop();
}

fn a_forged_message_reaches_nobody(w: &mut World) {
    let edu = Edu::start(w);
    let (own, mine, _) = message(w, edu.source);
    let (others, theirs, _) = message(w, SILENT);
    let (gone, late, handler) = message(w, edu.source);
    w.delete(handler);
    for forged in [others, gone] {
        edu.set_message(forged);
        edu.signal();
        // What comes after it shows that it has had its time.
        edu.set_message(own);
        edu.signal();
        assert_eq!(w.bits(mine), 1);
    }
    assert_eq!((ipc::poll(theirs), ipc::poll(late)), (Err(Error::WouldBlock), Err(Error::WouldBlock)));
    edu.stop();
}
