//! Address spaces: mapping, unmapping, protecting; large pages; memory for tables; what CPUs have cached.

use abi::table::method;
use abi::{Error, Kind, MapFlags, PAGE_SIZE, Rights, Syscall, USER_TOP};
use objects::tcb::State;

use crate::world::{Done, MEMORY_START, World, root};

const BASE: u64 = 0x40_0000;
const WRITE: u64 = MapFlags::WRITE.0;
const LARGE_PAGE: u64 = 1 << 21;

fn map(w: &World, space: u32, frame: u32, args: [u64; 4]) -> Result<(), Error> {
    let [address, offset, pages, flags] = args;
    w.invoke(space, method::VSpace::map, &[u64::from(frame), address, offset, pages, flags]).map(|_| ())
}

fn unmap(w: &World, space: u32, address: u64, pages: u64) -> Result<(), Error> {
    w.invoke(space, method::VSpace::unmap, &[address, pages]).map(|_| ())
}

fn protect(w: &World, space: u32, address: u64, pages: u64, flags: u64) -> Result<(), Error> {
    w.invoke(space, method::VSpace::protect, &[address, pages, flags]).map(|_| ())
}

/// Flags, physical address and size of the page at `address`.
fn query(w: &World, space: u32, address: u64) -> Result<[u64; 3], Error> {
    w.invoke(space, method::VSpace::query, &[address]).map(|found| [found[0], found[1], found[2]])
}

fn physical(w: &World, frame: u32) -> u64 {
    w.slot(frame).object.get()
}

/// The pages of `space` that are mapped, of `pages` from `address` on.
fn mapped(w: &World, space: u32, address: u64, pages: u64) -> u64 {
    let root = w.memory.physical(w.slot(space).object.get());
    (0..pages).filter(|page| w.walk(root, address + page * PAGE_SIZE).is_some()).count() as u64
}

fn space(w: &World, bits: u64) -> u32 {
    w.make(Kind::VSpace, bits)
}

#[test]
fn a_frame_is_mapped_where_and_as_asked() {
    let w = World::new();
    let (space, frame) = (space(&w, 16), w.make(Kind::Frame, 14));
    assert_eq!(map(&w, space, frame, [BASE, PAGE_SIZE, 2, WRITE]), Ok(()));
    let first = physical(&w, frame) + PAGE_SIZE;
    assert_eq!(query(&w, space, BASE + 5), Ok([3, first, PAGE_SIZE]));
    assert_eq!(query(&w, space, BASE + PAGE_SIZE), Ok([3, first + PAGE_SIZE, PAGE_SIZE]));
    assert_eq!(query(&w, space, BASE + 2 * PAGE_SIZE), Err(Error::NotMapped));
    assert_eq!(query(&w, space, BASE - 1), Err(Error::NotMapped));
    assert_eq!(query(&w, space, USER_TOP), Err(Error::OutOfRange));
    assert_eq!(unmap(&w, space, BASE, 2), Ok(()));
    assert_eq!(query(&w, space, BASE), Err(Error::NotMapped));
}

#[test]
fn map_refuses_what_the_table_says() {
    let w = World::new();
    let (space, frame) = (space(&w, 17), w.make(Kind::Frame, 14));
    let try_it = |args| map(&w, space, frame, args);
    assert_eq!(try_it([BASE + 1, 0, 1, 0]), Err(Error::InvalidArgument));
    assert_eq!(try_it([BASE, 1, 1, 0]), Err(Error::InvalidArgument));
    assert_eq!(try_it([BASE, 0, 0, 0]), Err(Error::InvalidArgument));
    assert_eq!(try_it([BASE, 0, 1, 128]), Err(Error::InvalidArgument));
    assert_eq!(try_it([BASE, 0, 1, WRITE | MapFlags::EXECUTE.0]), Err(Error::InvalidArgument));
    assert_eq!(try_it([BASE, 0, 1, MapFlags::LARGE.0]), Err(Error::InvalidArgument));
    assert_eq!(try_it([BASE, 0, 5, 0]), Err(Error::OutOfRange));
    assert_eq!(try_it([BASE, 4 * PAGE_SIZE, 1, 0]), Err(Error::OutOfRange));
    assert_eq!(try_it([BASE, !0xfff, 1, 0]), Err(Error::OutOfRange));
    assert_eq!(try_it([BASE, 0, u64::MAX, 0]), Err(Error::OutOfRange));
    assert_eq!(try_it([USER_TOP, 0, 1, 0]), Err(Error::OutOfRange));
    assert_eq!(try_it([!0xfff, 0, 1, 0]), Err(Error::OutOfRange));
    assert_eq!(try_it([USER_TOP - PAGE_SIZE, 0, 1, 0]), Ok(()));
    assert_eq!(try_it([BASE, 0, 2, 0]), Ok(()));
    assert_eq!(try_it([BASE + PAGE_SIZE, 0, 1, 0]), Err(Error::AlreadyMapped));
    assert_eq!(try_it([BASE - PAGE_SIZE, 0, 2, 0]), Err(Error::AlreadyMapped));
    assert_eq!(query(&w, space, BASE - PAGE_SIZE), Err(Error::NotMapped));
    let read = w.mint(frame, Rights::READ, 0).unwrap();
    assert_eq!(map(&w, space, read, [0, 0, 1, WRITE]), Err(Error::NoRights));
    assert_eq!(map(&w, space, read, [0, 0, 1, MapFlags::EXECUTE.0]), Err(Error::NoRights));
    assert_eq!(map(&w, space, read, [0, 0, 1, 0]), Ok(()));
    assert_eq!(map(&w, space, root::TCB, [0, 0, 1, 0]), Err(Error::WrongKind));
}

#[test]
fn protection_stays_within_the_rights_of_the_frame() {
    let w = World::new();
    let (space, frame) = (space(&w, 16), w.make(Kind::Frame, 13));
    let read = w.mint(frame, Rights::READ.or(Rights::EXECUTE), 0).unwrap();
    map(&w, space, read, [BASE, 0, 2, 0]).unwrap();
    assert_eq!(protect(&w, space, BASE, 2, WRITE), Err(Error::NoRights));
    assert_eq!(protect(&w, space, BASE, 2, MapFlags::EXECUTE.0), Ok(()));
    assert_eq!(query(&w, space, BASE).unwrap()[0], 9);
    assert_eq!(protect(&w, space, BASE, 2, WRITE | MapFlags::EXECUTE.0), Err(Error::InvalidArgument));
    assert_eq!(protect(&w, space, BASE, 2, MapFlags::UNCACHED.0), Err(Error::InvalidArgument));
    assert_eq!(protect(&w, space, BASE + 1, 1, 0), Err(Error::InvalidArgument));
    assert_eq!(protect(&w, space, USER_TOP, 1, 0), Err(Error::OutOfRange));
    assert_eq!(query(&w, space, BASE).unwrap()[0], 9, "a refusal changed something");
    assert_eq!(unmap(&w, space, BASE + 1, 1), Err(Error::InvalidArgument));
    assert_eq!(unmap(&w, space, BASE, u64::MAX), Err(Error::OutOfRange));
}

#[test]
fn protect_passes_over_holes_of_every_size() {
    let w = World::new();
    let (space, frame) = (space(&w, 17), w.make(Kind::Frame, 14));
    let read = w.mint(frame, Rights::READ, 0).unwrap();
    let places = [BASE, BASE + 2 * PAGE_SIZE, BASE + (1 << 21), BASE + (1 << 30), BASE + (1 << 39)];
    for (page, &place) in places.iter().take(4).enumerate() {
        map(&w, space, frame, [place, page as u64 * PAGE_SIZE, 1, WRITE]).unwrap();
    }
    map(&w, space, read, [places[4], 0, 1, 0]).unwrap();
    let flags = || places.map(|place| query(&w, space, place).unwrap()[0]);
    assert_eq!(protect(&w, space, BASE, 1 << 28, 0), Ok(()));
    assert_eq!(flags(), [1; 5]);
    assert_eq!(protect(&w, space, BASE - (1 << 21), (1 << 21) / PAGE_SIZE, 0), Ok(()), "nothing but a hole");
    assert_eq!(protect(&w, space, BASE, (1 << 18) + 1, WRITE), Ok(()));
    assert_eq!(flags(), [3, 3, 3, 3, 1]);
    assert_eq!(protect(&w, space, BASE + (1 << 21), 1 << 28, WRITE), Err(Error::NoRights));
    assert_eq!(flags(), [3, 3, 3, 3, 1]);
}

#[test]
fn large_pages_go_whole_or_not() {
    let w = World::new();
    let space = space(&w, 16);
    let frame = w.make_from(root::DEVICE, Kind::Frame, 22);
    let large = MapFlags::LARGE.0;
    assert_eq!(map(&w, space, frame, [BASE, 0, 512, large]), Ok(()));
    assert_eq!(map(&w, space, frame, [BASE, 0, 1, 0]), Err(Error::AlreadyMapped));
    // (A device Frame is never mapped cached.)
    let flags = 1 | large | MapFlags::UNCACHED.0;
    assert_eq!(query(&w, space, BASE + 0x1234), Ok([flags, physical(&w, frame), LARGE_PAGE]));
    assert_eq!(unmap(&w, space, BASE, 511), Err(Error::InvalidArgument));
    assert_eq!(unmap(&w, space, BASE + PAGE_SIZE, 511), Err(Error::InvalidArgument));
    assert_eq!(protect(&w, space, BASE, 1, 0), Err(Error::InvalidArgument));
    assert_eq!(protect(&w, space, BASE, 512, WRITE), Ok(()));
    assert_eq!(query(&w, space, BASE).unwrap()[0], flags | WRITE);
    assert_eq!(unmap(&w, space, BASE, 512), Ok(()));
    assert_eq!(mapped(&w, space, BASE, 512), 0);
    let huge = w.make_from(root::DEVICE, Kind::Frame, 30);
    let at = 1 << 30;
    assert_eq!(map(&w, space, huge, [at, 0, 1 << 18, MapFlags::HUGE.0]), Ok(()));
    assert_eq!(query(&w, space, at + 0x1234_5678).unwrap()[2], 1 << 30);
    assert_eq!(map(&w, space, huge, [at, 0, 1, large | MapFlags::HUGE.0]), Err(Error::InvalidArgument));
    assert_eq!(unmap(&w, space, at, 512), Err(Error::InvalidArgument));
    w.delete(huge);
    assert_eq!(query(&w, space, at), Err(Error::NotMapped));
}

#[test]
fn a_large_page_takes_the_place_of_small_ones_that_are_gone() {
    let w = World::new();
    let space = space(&w, 16);
    let frame = w.make_from(root::DEVICE, Kind::Frame, 22);
    assert_eq!(map(&w, space, frame, [BASE, 0, 512, 0]), Ok(()));
    assert_eq!(unmap(&w, space, BASE, 512), Ok(()));
    assert_eq!(map(&w, space, frame, [BASE, 0, 512, MapFlags::LARGE.0]), Ok(()));
}

#[test]
fn a_long_range_is_mapped_and_unmapped_in_shares() {
    let w = World::new();
    let space = space(&w, 20);
    let frame = w.make_from(root::DEVICE, Kind::Frame, 28);
    let pages = 1 << 14;
    assert_eq!(map(&w, space, frame, [BASE, 1 << 26, pages, WRITE]), Ok(()));
    for page in [0, 1, 511, 512, 5000, pages - 1] {
        let expected = physical(&w, frame) + (1 << 26) + page * PAGE_SIZE;
        assert_eq!(query(&w, space, BASE + page * PAGE_SIZE).unwrap()[1], expected);
    }
    assert_eq!(mapped(&w, space, BASE, pages + 1), pages);
    assert_eq!(protect(&w, space, BASE, pages, 0), Ok(()));
    assert_eq!(query(&w, space, BASE + (pages - 1) * PAGE_SIZE).unwrap()[0] & WRITE, 0);
    assert_eq!(unmap(&w, space, BASE + PAGE_SIZE, pages - 2), Ok(()));
    assert_eq!(mapped(&w, space, BASE, pages), 2);
}

#[test]
fn deleting_a_frame_unmaps_it_everywhere() {
    let w = World::new();
    let (one, other) = (space(&w, 18), space(&w, 18));
    let frame = w.make_from(root::DEVICE, Kind::Frame, 24);
    let copy = w.mint(frame, Rights::ALL, 0).unwrap();
    for at in 0..4 {
        map(&w, one, frame, [at << 32, 0, 1000, 0]).unwrap();
        map(&w, other, copy, [at << 32, at << 12, 1000, 0]).unwrap();
    }
    let moved = w.free_slot();
    let args = [u64::from(moved), u64::from(root::CNODE), u64::from(copy)];
    w.invoke(root::CNODE, method::CNode::relocate, &args).unwrap();
    w.delete(moved);
    for at in 0..4 {
        assert_eq!((mapped(&w, one, at << 32, 1000), mapped(&w, other, at << 32, 1000)), (1000, 0));
    }
    w.delete(frame);
    (0..4).for_each(|at| assert_eq!(mapped(&w, one, at << 32, 1000), 0));
}

#[test]
fn tables_that_run_out_are_refused_and_more_can_be_donated() {
    let w = World::new();
    let space = space(&w, 14);
    let frame = w.make(Kind::Frame, 12);
    // One pair: the root's first table would take it, and leave none for the next.
    assert_eq!(map(&w, space, frame, [BASE, 0, 1, 0]), Err(Error::OutOfTables));
    let untyped = w.make(Kind::Untyped, 15);
    let donate = |cap: u32| w.invoke(space, method::VSpace::donate, &[u64::from(cap)]).map(|_| ());
    assert_eq!(donate(untyped), Ok(()));
    assert!(w.slot(untyped).is_empty());
    assert_eq!(map(&w, space, frame, [BASE, 0, 1, 0]), Ok(()));
    assert_eq!(donate(w.make(Kind::Untyped, 12)), Err(Error::InvalidArgument));
    assert_eq!(donate(w.make_from(root::DEVICE, Kind::Untyped, 14)), Err(Error::InvalidArgument));
    let used = w.make(Kind::Untyped, 14);
    w.make_from(used, Kind::Endpoint, 0);
    assert_eq!(donate(used), Err(Error::Busy));
    for _ in 1..16 {
        assert_eq!(donate(w.make(Kind::Untyped, 13)), Ok(()));
    }
    assert_eq!(donate(w.make(Kind::Untyped, 13)), Err(Error::OutOfRange));
}

#[test]
fn memory_donated_comes_back_by_revoking_and_the_space_is_empty_after() {
    let w = World::new();
    let outer = w.make(Kind::Untyped, 20);
    let space = space(&w, 14);
    let inner = w.make_from(outer, Kind::Untyped, 19);
    w.invoke(space, method::VSpace::donate, &[u64::from(inner)]).unwrap();
    let frame = w.make_from(root::DEVICE, Kind::Frame, 30);
    map(&w, space, frame, [BASE, 0, 5000, 0]).unwrap();
    w.revoke(outer);
    assert_eq!(mapped(&w, space, BASE, 5000), 0);
    assert_eq!(map(&w, space, frame, [BASE, 0, 1, 0]), Err(Error::OutOfTables));
    let more = w.make(Kind::Untyped, 14);
    assert_eq!(w.invoke(space, method::VSpace::donate, &[u64::from(more)]), Err(Error::InvalidArgument));
    w.delete(frame);
    w.delete(space);
}

#[test]
fn nothing_is_mapped_into_a_space_that_is_being_emptied() {
    let w = World::new();
    let outer = w.make(Kind::Untyped, 20);
    let space = space(&w, 16);
    let inner = w.make_from(outer, Kind::Untyped, 19);
    w.invoke(space, method::VSpace::donate, &[u64::from(inner)]).unwrap();
    let frame = w.make_from(root::DEVICE, Kind::Frame, 30);
    map(&w, space, frame, [BASE, 0, 15_000, 0]).unwrap();
    w.run(w.root);
    let args = [u64::from(outer), 0, 0, 0, 0, 0, 0, 0];
    let revoke = u64::from(method::CNode::revoke);
    w.prepare(w.root, Syscall::invoke, u64::from(root::CNODE), revoke, args);
    assert!(w.trap(0), "it should give way");
    let late = w.make(Kind::Frame, 12);
    assert_eq!(map(&w, space, late, [0, 0, 1, 0]), Err(Error::OutOfTables));
    w.revoke(outer);
    // If the kernel still held a mapping of it, it would look for that in memory given back.
    w.delete(late);
    assert_eq!(mapped(&w, space, 0, 1), 0);
}

#[test]
fn deleting_a_space_stops_its_threads_and_frees_all() {
    let w = World::with_cpus(2);
    let outer = w.make(Kind::Untyped, 18);
    let space = w.make_from(outer, Kind::VSpace, 16);
    let frame = w.make(Kind::Frame, 12);
    map(&w, space, frame, [BASE, 0, 1, 0]).unwrap();
    let (cap, _, tcb) = w.active_on(1);
    w.invoke(cap, method::Tcb::suspend, &[]).unwrap();
    w.invoke(cap, method::Tcb::configure, &[0, u64::from(space), 0, 0]).unwrap();
    w.invoke(cap, method::Tcb::resume, &[]).unwrap();
    w.answer_pokes();
    assert_eq!(w.cpus[1].thread(), tcb);
    assert!(w.touch(1, BASE).is_some());
    w.revoke(outer);
    assert_eq!(tcb.state.get(), State::Inactive);
    assert!(w.cpus[1].is_idle());
    assert_eq!(w.touch(1, BASE), None);
}

#[test]
fn every_cpu_forgets_what_is_unmapped_or_protected() {
    let w = World::with_cpus(4);
    let (space, frame) = (w.vspace(), w.make_from(root::DEVICE, Kind::Frame, 24));
    let threads: Vec<_> = (1..4).map(|cpu| w.active_on(cpu)).collect();
    for (cpu, &(_, _, tcb)) in threads.iter().enumerate() {
        assert_eq!(w.cpus[cpu + 1].thread(), tcb);
    }
    let touch_all = || (1..4).filter(|&cpu| w.touch(cpu, BASE + 7 * PAGE_SIZE).is_some()).count();
    map(&w, space, frame, [BASE, 0, 100, WRITE]).unwrap();
    assert_eq!(touch_all(), 3);
    protect(&w, space, BASE, 100, 0).unwrap();
    w.check_tlbs();
    assert_eq!(touch_all(), 3);
    unmap(&w, space, BASE + 7 * PAGE_SIZE, 1).unwrap();
    assert_eq!(touch_all(), 0);
    map(&w, space, frame, [BASE + 7 * PAGE_SIZE, 0, 1, 0]).unwrap();
    assert_eq!(touch_all(), 3);
    w.delete(frame);
    assert_eq!(touch_all(), 0);
}

#[test]
fn a_refused_map_of_two_tables_leaves_neither() {
    let w = World::new();
    let space = space(&w, 17);
    let frame = w.make_from(root::DEVICE, Kind::Frame, 24);
    map(&w, space, frame, [2 * BASE, 0, 1, 0]).unwrap();
    let start = 2 * BASE - 100 * PAGE_SIZE;
    assert_eq!(map(&w, space, frame, [start, 0, 200, 0]), Err(Error::AlreadyMapped));
    assert_eq!(mapped(&w, space, start, 100), 0);
    let start = 2 * BASE - 511 * PAGE_SIZE;
    assert_eq!(map(&w, space, frame, [start, 0, 512, 0]), Err(Error::AlreadyMapped));
    assert_eq!(mapped(&w, space, start, 511), 0);
    assert!(physical(&w, frame) > MEMORY_START);
    assert_ne!(w.recv(w.root, root::TCB), Done::Blocked);
}
