//! IoSpaces: what devices reach, when they no longer do, and who hears of it.

use abi::object::{ANY_SOURCE, IO_INTERRUPTS, IO_TOP};
use abi::table::method;
use abi::{Error, Kind, MapFlags, PAGE_SIZE, Rights, Syscall};
use objects::io_space::MAX_DEVICES;

use crate::iommu::{NO_DEVICE, NO_READ, NO_WRITE};
use crate::world::{Done, World, root};

const BASE: u64 = 0x40_0000;
const WRITE: u64 = MapFlags::WRITE.0;
const DISK: u16 = 0x18;
const CARD: u16 = 0x0120;

fn map(w: &World, space: u32, frame: u32, args: [u64; 4]) -> Result<(), Error> {
    let [address, offset, pages, flags] = args;
    w.invoke(space, method::IoSpace::map, &[u64::from(frame), address, offset, pages, flags]).map(|_| ())
}

fn unmap(w: &World, space: u32, address: u64, pages: u64) -> Result<(), Error> {
    w.invoke(space, method::IoSpace::unmap, &[address, pages]).map(|_| ())
}

fn attach(w: &World, space: u32, source: u64) -> Result<(), Error> {
    w.invoke(root::IO_CONTROL, method::IoControl::attach, &[u64::from(space), source]).map(|_| ())
}

fn detach(w: &World, source: u64) -> Result<(), Error> {
    w.invoke(root::IO_CONTROL, method::IoControl::detach, &[source]).map(|_| ())
}

/// Count, source, address and reason of what was stopped.
fn fault(w: &World, space: u32) -> [u64; 4] {
    let words = w.invoke(space, method::IoSpace::fault, &[]).unwrap();
    [words[0], words[1], words[2], words[3]]
}

fn physical(w: &World, frame: u32) -> u64 {
    w.slot(frame).object.get()
}

/// An IoSpace with the disk under it.
fn disk(w: &World) -> u32 {
    let space = w.make(Kind::IoSpace, 17);
    attach(w, space, DISK.into()).unwrap();
    space
}

#[test]
fn a_device_reaches_what_is_mapped_for_it_and_nothing_else() {
    for levels in [3, 4] {
        let w = World::new();
        w.machine.iommu.levels.set(levels);
        let (space, frame) = (w.make(Kind::IoSpace, 17), w.make(Kind::Frame, 14));
        assert_eq!(w.dma(DISK, BASE, false), None);
        assert_eq!(map(&w, space, frame, [BASE, PAGE_SIZE, 2, WRITE]), Ok(()));
        assert_eq!(w.dma(DISK, BASE, false), None, "before it is attached");
        attach(&w, space, DISK.into()).unwrap();
        let first = physical(&w, frame) + PAGE_SIZE;
        assert_eq!(w.dma(DISK, BASE + 5, true), Some(first + 5));
        assert_eq!(w.dma(DISK, BASE + PAGE_SIZE, false), Some(first + PAGE_SIZE));
        assert_eq!(w.dma(DISK, BASE + 2 * PAGE_SIZE, false), None);
        assert_eq!(w.dma(DISK, BASE - 1, false), None);
        assert_eq!(w.dma(DISK, first, true), None, "a physical address");
        assert_eq!(w.dma(CARD, BASE, false), None, "another device");
        assert_eq!(unmap(&w, space, BASE, 1), Ok(()));
        assert_eq!(w.dma(DISK, BASE, false), None);
        assert_eq!(w.dma(DISK, BASE + PAGE_SIZE, false), Some(first + PAGE_SIZE));
        detach(&w, DISK.into()).unwrap();
        assert_eq!(w.dma(DISK, BASE + PAGE_SIZE, false), None);
    }
}

#[test]
fn a_frame_without_the_right_to_write_is_only_read() {
    let w = World::new();
    let (space, frame) = (disk(&w), w.make(Kind::Frame, 12));
    let read = w.mint(frame, Rights::READ, 0).unwrap();
    assert_eq!(map(&w, space, read, [BASE, 0, 1, WRITE]), Err(Error::NoRights));
    assert_eq!(map(&w, space, read, [BASE, 0, 1, 0]), Ok(()));
    assert_eq!(w.dma(DISK, BASE, false), Some(physical(&w, frame)));
    assert_eq!(w.dma(DISK, BASE, true), None);
    assert_eq!(fault(&w, space), [1, DISK.into(), BASE, NO_WRITE]);
}

#[test]
fn map_and_unmap_refuse_what_the_table_says() {
    let w = World::new();
    let (space, frame) = (w.make(Kind::IoSpace, 17), w.make(Kind::Frame, 14));
    let try_it = |args| map(&w, space, frame, args);
    assert_eq!(try_it([BASE + 1, 0, 1, 0]), Err(Error::InvalidArgument));
    assert_eq!(try_it([BASE, 1, 1, 0]), Err(Error::InvalidArgument));
    assert_eq!(try_it([BASE, 0, 0, 0]), Err(Error::InvalidArgument));
    for flags in [MapFlags::EXECUTE, MapFlags::LARGE, MapFlags::HUGE, MapFlags::UNCACHED, MapFlags(128)] {
        assert_eq!(try_it([BASE, 0, 1, flags.0]), Err(Error::InvalidArgument));
    }
    assert_eq!(try_it([BASE, 0, 5, 0]), Err(Error::OutOfRange));
    assert_eq!(try_it([IO_TOP, 0, 1, 0]), Err(Error::OutOfRange));
    assert_eq!(try_it([!0xfff, 0, 1, 0]), Err(Error::OutOfRange));
    assert_eq!(try_it([IO_INTERRUPTS.start, 0, 1, 0]), Err(Error::OutOfRange));
    assert_eq!(try_it([IO_INTERRUPTS.end - PAGE_SIZE, 0, 2, 0]), Err(Error::OutOfRange));
    assert_eq!(try_it([IO_INTERRUPTS.start - PAGE_SIZE, 0, 2, 0]), Err(Error::OutOfRange));
    assert_eq!(try_it([IO_INTERRUPTS.start - PAGE_SIZE, 0, 1, 0]), Ok(()));
    assert_eq!(try_it([IO_INTERRUPTS.end, 0, 1, 0]), Ok(()));
    assert_eq!(try_it([IO_TOP - PAGE_SIZE, 0, 1, 0]), Ok(()));
    assert_eq!(try_it([IO_TOP - PAGE_SIZE, 0, 1, 0]), Err(Error::AlreadyMapped));
    assert_eq!(map(&w, space, root::TCB, [0, 0, 1, 0]), Err(Error::WrongKind));
    assert_eq!(unmap(&w, space, BASE + 1, 1), Err(Error::InvalidArgument));
    assert_eq!(unmap(&w, space, IO_TOP, 1), Err(Error::OutOfRange));
    assert_eq!(unmap(&w, space, BASE, u64::MAX), Err(Error::OutOfRange));
    assert_eq!(unmap(&w, space, 0, IO_TOP / PAGE_SIZE), Ok(()));
    let small = w.make(Kind::IoSpace, 14);
    assert_eq!(map(&w, small, frame, [BASE, 0, 1, 0]), Err(Error::OutOfTables));
    let more = w.make(Kind::Untyped, 15);
    w.invoke(small, method::IoSpace::donate, &[u64::from(more)]).unwrap();
    assert_eq!(map(&w, small, frame, [BASE, 0, 1, 0]), Ok(()));
}

#[test]
fn an_io_space_is_no_vspace_and_the_other_way_round() {
    let w = World::new();
    let (io, space) = (w.make(Kind::IoSpace, 16), w.make(Kind::VSpace, 16));
    let configure = |space: u32| w.invoke(root::TCB, method::Tcb::configure, &[0, u64::from(space), 0, 0]);
    assert_eq!(configure(io), Err(Error::WrongKind));
    assert_eq!(attach(&w, space, 0), Err(Error::WrongKind));
    let frame = u64::from(w.make(Kind::Frame, 12));
    assert_eq!(w.invoke(io, method::VSpace::map, &[frame, BASE, 0, 1, 0]), Err(Error::WrongKind));
    assert_eq!(w.invoke(space, method::IoSpace::map, &[frame, BASE, 0, 1, 0]), Err(Error::WrongKind));
}

#[test]
fn a_device_is_under_one_io_space_at_a_time() {
    let w = World::new();
    let (one, other) = (disk(&w), w.make(Kind::IoSpace, 16));
    let frame = w.make(Kind::Frame, 12);
    map(&w, one, frame, [BASE, 0, 1, 0]).unwrap();
    assert_eq!(attach(&w, other, DISK.into()), Err(Error::Busy));
    assert_eq!(attach(&w, one, DISK.into()), Err(Error::Busy));
    assert_eq!(attach(&w, one, 1 << 16), Err(Error::OutOfRange));
    assert_eq!(detach(&w, 1 << 16), Err(Error::OutOfRange));
    let weak = w.mint(other, Rights::READ, 0).unwrap();
    assert_eq!(attach(&w, weak, CARD.into()), Err(Error::NoRights));
    assert!(w.dma(DISK, BASE, false).is_some());
    detach(&w, DISK.into()).unwrap();
    detach(&w, DISK.into()).unwrap();
    attach(&w, other, DISK.into()).unwrap();
    assert_eq!(w.dma(DISK, BASE, false), None);
    // Two under one: what is unmapped is gone for both.
    attach(&w, one, CARD.into()).unwrap();
    attach(&w, one, u64::from(CARD) + 1).unwrap();
    assert!(w.dma(CARD, BASE, false).is_some() && w.dma(CARD + 1, BASE, false).is_some());
    unmap(&w, one, BASE, 1).unwrap();
    assert_eq!((w.dma(CARD, BASE, false), w.dma(CARD + 1, BASE, false)), (None, None));
}

#[test]
fn there_are_so_many_devices_and_no_more() {
    let w = World::new();
    let space = w.make(Kind::IoSpace, 16);
    (0..MAX_DEVICES as u64).for_each(|source| attach(&w, space, source).unwrap());
    assert_eq!(attach(&w, space, 0xffff), Err(Error::Unavailable));
    w.delete(space);
    assert!(w.machine.iommu.devices.borrow().is_empty());
    attach(&w, w.make(Kind::IoSpace, 16), 0xffff).unwrap();
}

#[test]
fn without_an_iommu_nothing_is_attached() {
    let w = World::new();
    let status = || w.invoke(root::IO_CONTROL, method::IoControl::status, &[]).unwrap();
    assert_eq!(status()[..2], [1, 1]);
    w.machine.iommu.levels.set(0);
    w.machine.iommu.remaps.set(false);
    assert_eq!(status()[..2], [0, 0]);
    assert_eq!(attach(&w, w.make(Kind::IoSpace, 16), 0), Err(Error::Unavailable));
}

#[test]
fn deleting_a_frame_takes_it_from_devices_and_threads() {
    let w = World::new();
    let (io, space) = (disk(&w), w.make(Kind::VSpace, 17));
    let frame = w.make_from(root::DEVICE, Kind::Frame, 24);
    map(&w, io, frame, [BASE, 0, 3000, WRITE]).unwrap();
    w.invoke(space, method::VSpace::map, &[u64::from(frame), BASE, 0, 3000, WRITE]).unwrap();
    for page in [0, 511, 512, 2999] {
        assert!(w.dma(DISK, BASE + page * PAGE_SIZE, true).is_some());
    }
    w.delete(frame);
    for page in [0, 511, 512, 2999] {
        assert_eq!(w.dma(DISK, BASE + page * PAGE_SIZE, false), None);
    }
    let root = w.memory.physical(w.slot(space).object.get());
    assert_eq!(w.walk(root, BASE), None);
}

#[test]
fn a_frame_is_out_of_reach_whenever_its_deletion_gives_way() {
    let w = World::new();
    let io = disk(&w);
    let frame = w.make_from(root::DEVICE, Kind::Frame, 28);
    let pages = 1 << 13;
    let more = w.make(Kind::Untyped, 18);
    w.invoke(io, method::IoSpace::donate, &[u64::from(more)]).unwrap();
    map(&w, io, frame, [BASE, 0, pages, 0]).unwrap();
    (0..pages).for_each(|page| assert!(w.dma(DISK, BASE + page * PAGE_SIZE, false).is_some()));
    w.run(w.root);
    let delete = u64::from(method::CNode::delete);
    let args = [u64::from(frame), 0, 0, 0, 0, 0, 0, 0];
    w.prepare(w.root, Syscall::invoke, u64::from(root::CNODE), delete, args);
    let mut times = 0;
    while w.trap(0) {
        // (It asserts that the IOMMU remembers nothing that is no more mapped.)
        crate::invariants::check(&w);
        times += 1;
        w.run(w.root);
    }
    assert!(times > 2, "it should give way");
    assert_eq!(w.dma(DISK, BASE + (pages - 1) * PAGE_SIZE, false), None);
}

#[test]
fn an_io_space_that_goes_lets_go_of_its_devices() {
    let w = World::new();
    let outer = w.make(Kind::Untyped, 19);
    let space = w.make_from(outer, Kind::IoSpace, 17);
    let frame = w.make(Kind::Frame, 12);
    map(&w, space, frame, [BASE, 0, 1, 0]).unwrap();
    attach(&w, space, DISK.into()).unwrap();
    assert!(w.dma(DISK, BASE, false).is_some());
    w.revoke(outer);
    assert_eq!(w.dma(DISK, BASE, false), None);
    crate::invariants::check(&w);
    attach(&w, w.make(Kind::IoSpace, 16), DISK.into()).unwrap();
}

#[test]
fn memory_that_goes_from_under_an_io_space_takes_its_devices_off_first() {
    let w = World::new();
    let outer = w.make(Kind::Untyped, 20);
    let space = w.make(Kind::IoSpace, 14);
    let inner = w.make_from(outer, Kind::Untyped, 17);
    w.invoke(space, method::IoSpace::donate, &[u64::from(inner)]).unwrap();
    attach(&w, space, DISK.into()).unwrap();
    let frame = w.make(Kind::Frame, 12);
    map(&w, space, frame, [BASE, 0, 1, 0]).unwrap();
    assert!(w.dma(DISK, BASE, false).is_some());
    w.revoke(outer);
    assert_eq!(w.dma(DISK, BASE, false), None);
    assert!(w.machine.iommu.devices.borrow().is_empty(), "the IOMMU would walk memory that is used again");
    assert_eq!(attach(&w, space, DISK.into()), Err(Error::OutOfTables));
    assert_eq!(map(&w, space, frame, [BASE, 0, 1, 0]), Err(Error::OutOfTables));
}

#[test]
fn faults_are_counted_the_first_is_kept_and_the_owner_is_told() {
    let w = World::new();
    let space = disk(&w);
    let notification = w.make(Kind::Notification, 0);
    let badged = w.mint(notification, Rights::ALL, 4).unwrap();
    w.invoke(space, method::IoSpace::bind, &[u64::from(badged)]).unwrap();
    assert_eq!(fault(&w, space), [0; 4]);
    w.dma(DISK, 0x1234_5678, false);
    w.dma(DISK, 0x2000, true);
    assert!(matches!(w.wait(w.root, notification), Done::With(Ok(message)) if message.words[0] == 4));
    assert_eq!(fault(&w, space), [2, DISK.into(), 0x1234_5000, NO_READ]);
    assert_eq!(fault(&w, space), [0; 4]);
    w.dma(CARD, 0x2000, true);
    assert_eq!(fault(&w, space), [0; 4], "another device's");
    w.delete(notification);
    w.dma(DISK, 0x3000, true);
    assert_eq!(fault(&w, space), [1, DISK.into(), 0x3000, NO_WRITE]);
    // Asking is enough where nobody has told.
    w.machine.iommu.reach(w.memory, DISK, 0x4000, true);
    assert_eq!(fault(&w, space), [1, DISK.into(), 0x4000, NO_WRITE]);
    let last = w.machine.iommu.reach(w.memory, CARD, 0, true);
    assert_eq!((last, w.machine.iommu.faults.borrow()[0].reason), (None, NO_DEVICE));
}

#[test]
fn a_message_counts_from_its_device_until_its_handler_goes() {
    let w = World::new();
    let slot = w.free_slot();
    let msi = |source: u64| {
        let args = [u64::from(root::CNODE), u64::from(slot), 0, source];
        w.invoke(root::IRQ_CONTROL, method::IrqControl::msi, &args).map(|_| ())
    };
    assert_eq!(msi(1 << 16), Err(Error::InvalidArgument));
    assert_eq!(msi(ANY_SOURCE), Err(Error::InvalidArgument), "with interrupts remapped");
    assert_eq!(msi(DISK.into()), Ok(()));
    let sources = || w.machine.iommu.messages.borrow().values().copied().collect::<Vec<_>>();
    assert_eq!(sources(), [u64::from(DISK)]);
    w.delete(slot);
    assert!(sources().is_empty());
    w.machine.iommu.remaps.set(false);
    assert_eq!(msi(ANY_SOURCE), Ok(()));
}
