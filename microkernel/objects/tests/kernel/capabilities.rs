//! CNodes and the derivation tree: minting, moving, deleting, revoking.

use abi::table::method;
use abi::{Error, Kind, Rights, Syscall};
use objects::delete::Graves;
use objects::tcb::State;
use objects::{Ref, Tcb, tree};

use crate::world::{Done, NONE, Size, TURN, World, root};

const CNODE: u64 = root::CNODE as u64;

fn identify(w: &World, slot: u32) -> [u64; 8] {
    w.invoke(root::CNODE, method::CNode::identify, &[u64::from(slot)]).unwrap()
}

#[test]
fn rights_never_grow() {
    let w = World::new();
    let endpoint = w.make(Kind::Endpoint, 0);
    for rights in (0..16).chain([Rights::PHYSICAL.0, Rights::PHYSICAL.0 | 1, Rights::ALL.0]) {
        let less = w.mint(endpoint, Rights(rights), 0).unwrap();
        for more in (0..16u8).map(|more| more ^ rights & Rights::PHYSICAL.0) {
            let copy = w.mint(less, Rights(more), 0).unwrap();
            assert_eq!(identify(&w, copy)[2], u64::from(rights & more));
            w.delete(copy);
        }
        w.delete(less);
        w.delete(w.free_slot());
        // (Slots are plenty but not endless.)
        if rights == 7 {
            w.revoke(endpoint);
        }
    }
}

#[test]
fn a_badge_is_given_once() {
    let w = World::new();
    for kind in [Kind::Endpoint, Kind::Notification] {
        let object = w.make(kind, 0);
        let badged = w.mint(object, Rights::ALL, 5).unwrap();
        assert_eq!(identify(&w, badged)[3], 5);
        assert_eq!(w.mint(badged, Rights::ALL, 6), Err(Error::InvalidArgument));
        let copy = w.mint(badged, Rights::ALL, 0).unwrap();
        assert_eq!(identify(&w, copy)[3], 5);
    }
    assert_eq!(w.mint(root::TCB, Rights::ALL, 1), Err(Error::InvalidArgument));
    assert_eq!(w.mint(root::UNTYPED, Rights::ALL, 0), Err(Error::Busy));
}

#[test]
fn a_ceiling_and_a_port_range_only_shrink() {
    let w = World::new();
    let lower = w.mint(root::SCHED_CONTROL, Rights::ALL, 50).unwrap();
    assert_eq!(w.mint(lower, Rights::ALL, 51), Err(Error::InvalidArgument));
    let (cap, _) = w.passive();
    let set = |control, priority| {
        w.invoke(control, method::SchedControl::set_priority, &[u64::from(cap), priority]).map(|_| ())
    };
    assert_eq!(set(lower, 50), Ok(()));
    assert_eq!(set(lower, 51), Err(Error::OutOfRange));
    assert_eq!(set(root::SCHED_CONTROL, 256), Err(Error::OutOfRange));
    let ports = w.mint(root::IO_PORT, Rights::ALL, 0x3ff << 16 | 0x3f8).unwrap();
    assert_eq!(w.mint(ports, Rights::ALL, 0x400 << 16 | 0x3f8), Err(Error::InvalidArgument));
    assert_eq!(w.mint(ports, Rights::ALL, 0x3ff << 16 | 0x3f7), Err(Error::InvalidArgument));
    assert_eq!(w.mint(ports, Rights::ALL, 0x3f8 << 16 | 0x3f9), Err(Error::InvalidArgument));
    let write = |cap, port, width| w.invoke(cap, method::IoPort::write, &[port, width, 0x41]).map(|_| ());
    assert_eq!(write(ports, 0x3f8, 1), Ok(()));
    assert_eq!(w.invoke(ports, method::IoPort::read, &[0x3f8, 1]).unwrap()[0], 0x41);
    assert_eq!(write(ports, 0x3f7, 1), Err(Error::OutOfRange));
    assert_eq!(write(ports, 0x3fe, 4), Err(Error::OutOfRange));
    assert_eq!(write(ports, 0x3f8, 3), Err(Error::InvalidArgument));
    assert_eq!(write(root::IO_PORT, 0xffff, 2), Err(Error::OutOfRange));
    assert_eq!(write(root::IO_PORT, u64::MAX, 4), Err(Error::OutOfRange));
}

#[test]
fn mint_copy_and_relocate_refuse_what_the_table_says() {
    let w = World::new();
    let endpoint = u64::from(w.make(Kind::Endpoint, 0));
    let free = u64::from(w.free_slot());
    for which in [method::CNode::mint, method::CNode::copy, method::CNode::relocate] {
        let try_it =
            |to, from_cnode, from| w.invoke(root::CNODE, which, &[to, from_cnode, from, 15, 0]).map(|_| ());
        for slot in [0, 1, 512, u64::MAX] {
            assert_eq!(try_it(slot, CNODE, endpoint), Err(Error::OutOfRange));
            assert_eq!(try_it(free, CNODE, slot), Err(Error::OutOfRange));
        }
        assert_eq!(try_it(CNODE, CNODE, endpoint), Err(Error::SlotOccupied));
        assert_eq!(try_it(free, CNODE, free), Err(Error::NoCapability));
        assert_eq!(try_it(free, endpoint, endpoint), Err(Error::WrongKind));
        assert_eq!(try_it(free, 0, endpoint), Err(Error::NoCapability));
    }
    let rights = w.invoke(root::CNODE, method::CNode::mint, &[free, CNODE, endpoint, 32, 0]);
    assert_eq!(rights, Err(Error::InvalidArgument));
}

#[test]
fn a_moved_capability_keeps_its_place_in_the_tree() {
    let w = World::new();
    let endpoint = w.make(Kind::Endpoint, 0);
    let child = w.mint(endpoint, Rights::ALL, 3).unwrap();
    let to = w.free_slot();
    w.invoke(root::CNODE, method::CNode::relocate, &[u64::from(to), CNODE, u64::from(endpoint)]).unwrap();
    assert!(w.slot(endpoint).is_empty());
    assert_eq!(tree::children(w.slot(to)).collect::<Vec<_>>(), [w.slot(child)]);
    w.delete(to);
    assert!(w.slot(child).is_empty());
}

#[test]
fn deleting_a_copy_leaves_its_copies_to_its_parent() {
    let w = World::new();
    let endpoint = w.make(Kind::Endpoint, 0);
    let middle = w.mint(endpoint, Rights::ALL, 0).unwrap();
    let copies = [w.mint(middle, Rights::ALL, 1).unwrap(), w.mint(middle, Rights::ALL, 2).unwrap()];
    let before = w.mint(endpoint, Rights::ALL, 0).unwrap();
    w.delete(middle);
    assert_eq!(tree::children(w.slot(endpoint)).count(), 3);
    w.revoke(endpoint);
    assert!(copies.iter().chain([&before]).all(|&slot| w.slot(slot).is_empty()));
    assert!(!w.slot(endpoint).is_empty());
}

/// Graves that a thread has opened and not emptied.
fn graves(w: &World, tcb: Ref<Tcb>) -> usize {
    assert_eq!(Graves::iter(Ref::of(&w.kernel.graves)).count(), 0);
    Graves::iter(Ref::of(&tcb.get().graves)).count()
}

#[test]
fn a_cnode_that_holds_itself_can_be_deleted() {
    let w = World::new();
    let untyped = w.make(Kind::Untyped, 16);
    let cnode = w.make_from(untyped, Kind::CNode, 4);
    let inside = [2, CNODE, u64::from(cnode), 15, 0];
    w.invoke(cnode, method::CNode::mint, &inside).unwrap();
    // The owner moves into itself, by way of a copy: only the Untyped reaches it now.
    let copy = w.mint(cnode, Rights::ALL, 0).unwrap();
    w.invoke(copy, method::CNode::relocate, &[3, CNODE, u64::from(cnode)]).unwrap();
    w.revoke(untyped);
    assert!(w.slot(copy).is_empty() && graves(&w, w.root) == 0);
    assert_eq!(identify(&w, untyped)[5], 1 << 16);
}

#[test]
fn a_ring_of_cnodes_can_be_revoked() {
    let w = World::new();
    let untyped = w.make(Kind::Untyped, 18);
    let cnodes: Vec<u32> = (0..6).map(|_| w.make_from(untyped, Kind::CNode, 4)).collect();
    let copies: Vec<u32> = cnodes.iter().map(|&cnode| w.mint(cnode, Rights::ALL, 0).unwrap()).collect();
    for (at, &copy) in copies.iter().enumerate() {
        let next = cnodes[(at + 1) % 6];
        w.invoke(copy, method::CNode::relocate, &[5, CNODE, u64::from(next)]).unwrap();
    }
    w.revoke(untyped);
    assert!(copies.iter().all(|&copy| w.slot(copy).is_empty()));
    assert_eq!(identify(&w, untyped)[5], 1 << 18);
}

#[test]
fn deleting_a_cnode_deletes_what_is_in_it() {
    let w = World::new();
    let cnode = w.make(Kind::CNode, 8);
    let args = [Kind::Endpoint as u64, 0, u64::from(cnode), 100, 60];
    w.invoke(root::UNTYPED, method::Untyped::retype, &args).unwrap();
    let out = w.free_slot();
    let copy = [u64::from(out), u64::from(cnode), 130];
    w.invoke(root::CNODE, method::CNode::copy, &copy).unwrap();
    let waiter = w.thread();
    assert_eq!(w.recv(waiter, out), Done::Blocked);
    w.delete(cnode);
    assert!(w.slot(out).is_empty());
    assert_eq!(w.word(waiter), Err(Error::Cancelled));
    assert_eq!(graves(&w, w.root), 0);
}

#[test]
fn a_thread_that_loses_its_cspace_has_no_capabilities() {
    let w = World::new();
    let cnode = w.make(Kind::CNode, 4);
    let (cap, _, tcb) = w.active_on(0);
    w.invoke(cap, method::Tcb::suspend, &[]).unwrap();
    w.invoke(cap, method::Tcb::configure, &[u64::from(cnode), NONE, NONE, 0]).unwrap();
    w.invoke(cap, method::Tcb::resume, &[]).unwrap();
    w.delete(cnode);
    assert_eq!(w.recv(tcb, root::TCB), Done::With(Err(Error::NoCapability)));
    assert_eq!(w.invoke_as(tcb, 2, method::CNode::identify, &[2]), Err(Error::NoCapability));
}

#[test]
fn a_thread_can_revoke_the_memory_it_is_made_of() {
    let w = World::new();
    let untyped = w.make(Kind::Untyped, 18);
    let (cap, tcb) = w.passive_from(untyped);
    let context = w.budget_from(untyped, 0, TURN, TURN);
    w.bind(context, cap);
    let args = [u64::from(untyped), 0, 0, 0, 0, 0, 0, 0];
    w.run(tcb);
    w.prepare(tcb, Syscall::invoke, CNODE, u64::from(method::CNode::revoke), args);
    w.trap(0);
    crate::invariants::check(&w);
    assert_eq!(w.cpus[0].thread(), w.root);
    w.revoke(untyped);
    assert_eq!(identify(&w, untyped)[5], 1 << 18);
}

#[test]
fn a_revocation_ends_although_others_go_on_deriving() {
    let w = World::new();
    let untyped = w.make(Kind::Untyped, 20);
    let endpoint = w.make_from(untyped, Kind::Endpoint, 0);
    let cnode = w.make(Kind::CNode, 10);
    let copy = |at: u64| w.invoke(cnode, method::CNode::copy, &[at, CNODE, u64::from(endpoint)]).map(|_| ());
    (2..600).for_each(|at| copy(at).unwrap());
    let revoker = w.thread();
    let args = [u64::from(endpoint), 0, 0, 0, 0, 0, 0, 0];
    w.run(revoker);
    w.prepare(revoker, Syscall::invoke, CNODE, u64::from(method::CNode::revoke), args);
    let mut next = 600;
    let mut rounds = 0;
    while w.trap(0) {
        // Between two shares of the revocation the other derives as many as it takes away.
        for _ in 0..60 {
            copy(next).unwrap();
            next = if next == 1023 { 2 } else { next + 1 };
            while !w.slot_of(cnode, next).is_empty() {
                next = if next == 1023 { 2 } else { next + 1 };
            }
        }
        rounds += 1;
        assert!(rounds < 100, "the revocation does not end");
        if revoker.state.get() == State::Ready {
            w.run(revoker);
        }
    }
    assert!(w.slot(endpoint).first.get().is_none());
}

#[test]
fn configuring_a_thread_from_what_a_revocation_takes_is_refused() {
    // A revocation gives way; the next derivation helps it along, and finds its own arguments gone.
    for what in 0..2 {
        let w = World::new();
        let untyped = w.make(Kind::Untyped, 18);
        let (cap, tcb) = w.passive();
        w.invoke(cap, method::Tcb::suspend, &[]).unwrap();
        let cnode = w.make_from(untyped, Kind::CNode, 4);
        let bulk = w.make(Kind::CNode, 8);
        // The newest children go first: enough for one share of work, then what the call names.
        let args = [Kind::Endpoint as u64, 0, u64::from(bulk), 2, 60];
        let made = w.make_from(untyped, Kind::Frame, 12);
        for at in 0..2 {
            let args = [args[0], args[1], args[2], 2 + 60 * at, args[4]];
            w.invoke(untyped, method::Untyped::retype, &args).unwrap();
        }
        w.run(w.root);
        let args = [u64::from(untyped), 0, 0, 0, 0, 0, 0, 0];
        w.prepare(w.root, Syscall::invoke, CNODE, u64::from(method::CNode::revoke), args);
        assert!(w.trap(0));
        while !w.slot(if what == 0 { made } else { cnode }).is_empty() {
            let args = [u64::from(cnode), 0, if what == 0 { u64::from(made) } else { 0 }, 0];
            let done = w.invoke(cap, method::Tcb::configure, &args);
            assert!(matches!(done, Ok(_) | Err(Error::NoCapability)), "{done:?}");
            crate::invariants::check(&w);
        }
        assert_eq!(tcb.buffer.get() == 0, what == 0);
    }
}

#[test]
fn physical_addresses_are_told_only_to_those_whose_cspace_may_tell_them() {
    for told in [true, false] {
        let w = World::new();
        let (cap, _, tcb) = w.active_on(0);
        let hidden = if told { Rights::NONE } else { Rights::PHYSICAL };
        let cspace = w.mint(root::CNODE, Rights::ALL.without(hidden), 0).unwrap();
        let space = w.make(Kind::VSpace, 16);
        w.invoke(cap, method::Tcb::suspend, &[]).unwrap();
        let args = [u64::from(cspace), u64::from(space), 0, 0];
        w.invoke(cap, method::Tcb::configure, &args).unwrap();
        w.invoke(cap, method::Tcb::resume, &[]).unwrap();
        let frame = w.make(Kind::Frame, 12);
        let address = w.slot(frame).object.get();
        w.invoke(space, method::VSpace::map, &[u64::from(frame), 0x1000, 0, 1, 1]).unwrap();
        let seen = w.invoke_as(tcb, frame, method::Frame::physical, &[]).map(|words| words[0]);
        assert_eq!(seen, if told { Ok(address) } else { Err(Error::NoRights) });
        let page = w.invoke_as(tcb, space, method::VSpace::query, &[0x1000]).unwrap();
        assert_eq!(page[1..3], [if told { address } else { 0 }, 4096]);
        let identity = |slot: u32| {
            w.invoke_as(tcb, root::CNODE, method::CNode::identify, &[u64::from(slot)]).unwrap()[4]
        };
        assert_eq!(identity(frame), if told { address | 12 << 56 } else { 1 });
        assert_eq!(identity(500), 0);
        // A CSpace that it makes itself tells no more.
        let args = [Kind::CNode as u64, 4, u64::from(root::CNODE), 501, 1];
        w.invoke_as(tcb, root::UNTYPED, method::Untyped::retype, &args).unwrap();
        assert_eq!(w.slot(501).rights.get().has(Rights::PHYSICAL), told);
    }
}

/// Makes `tcb` begin to delete what is in slot `at` of the root CSpace; whether it gave way.
fn begin_delete(w: &World, tcb: Ref<Tcb>, at: u32) -> bool {
    w.run(tcb);
    let args = [u64::from(at), 0, 0, 0, 0, 0, 0, 0];
    w.prepare(tcb, Syscall::invoke, CNODE, u64::from(method::CNode::delete), args);
    w.trap(0)
}

/// A CNode of `count` Endpoints, all made of `untyped`.
fn endpoints(w: &World, untyped: u32, count: u64) -> u32 {
    let cnode = w.make_from(untyped, Kind::CNode, 9);
    for at in (0..count).step_by(50) {
        let args = [Kind::Endpoint as u64, 0, u64::from(cnode), 2 + at, 50];
        w.invoke(untyped, method::Untyped::retype, &args).unwrap();
    }
    cnode
}

#[test]
fn a_thread_empties_its_own_graves_and_no_others() {
    let w = World::new();
    let (mine, theirs) = (endpoints(&w, root::UNTYPED, 200), endpoints(&w, root::UNTYPED, 200));
    let burier = w.thread();
    assert!(begin_delete(&w, burier, theirs));
    assert_eq!((graves(&w, burier), graves(&w, w.root)), (1, 0));
    // An empty slot costs another thread one entry, and so does a whole deletion only what is its own.
    let empty = w.free_slot();
    assert!(!begin_delete(&w, w.root, empty));
    w.delete(mine);
    assert_eq!((graves(&w, burier), graves(&w, w.root)), (1, 0));
    w.run(burier);
    while w.trap(0) {
        w.run(burier);
    }
    assert_eq!(graves(&w, burier), 0);
}

#[test]
fn a_revocation_empties_the_graves_it_meets_and_no_others() {
    let w = World::new();
    let [mine, theirs] = [w.make(Kind::Untyped, 18), w.make(Kind::Untyped, 18)];
    let [met, other] = [endpoints(&w, mine, 200), endpoints(&w, theirs, 200)];
    let buriers = [w.thread(), w.thread()];
    assert!(begin_delete(&w, buriers[0], met) && begin_delete(&w, buriers[1], other));
    w.revoke(mine);
    assert_eq!((graves(&w, buriers[0]), graves(&w, buriers[1])), (0, 1));
    assert_eq!(identify(&w, mine)[5], 1 << 18);
    w.revoke(theirs);
    assert_eq!(graves(&w, buriers[1]), 0);
}

#[test]
fn a_thread_that_is_deleted_leaves_its_graves_to_the_one_that_deletes_it() {
    let w = World::new();
    let cnode = endpoints(&w, root::UNTYPED, 400);
    let (cap, _, burier) = w.active_on(0);
    assert!(begin_delete(&w, burier, cnode));
    w.delete(cap);
    assert_eq!(graves(&w, w.root), 0);
    crate::invariants::check(&w);
    let left = tree::children(w.slot(root::UNTYPED)).filter(|slot| slot.kind.get() == Kind::Endpoint);
    assert_eq!(left.count(), 0);
}

#[test]
fn a_revocation_ends_although_others_retype_many_objects_at_once() {
    let w = World::of_size(Size { cpus: 1, slots: 11, untyped: 22 });
    let untyped = w.make(Kind::Untyped, 20);
    let cnode = w.make(Kind::CNode, 11);
    let retype = |at: u64, count: u64| {
        let args = [Kind::Endpoint as u64, 0, u64::from(cnode), at, count];
        w.invoke(untyped, method::Untyped::retype, &args).map(|_| ())
    };
    (0..20).for_each(|at| retype(2 + 50 * at, 50).unwrap());
    let revoker = w.thread();
    w.run(revoker);
    let args = [u64::from(untyped), 0, 0, 0, 0, 0, 0, 0];
    w.prepare(revoker, Syscall::invoke, CNODE, u64::from(method::CNode::revoke), args);
    let children = || tree::children(w.slot(untyped)).count();
    let mut free = 1002;
    while w.trap(0) {
        // Between two shares of the revocation (40 steps) the other makes many more than that at once.
        let before = children();
        let first = if free + 64 > 2000 { 2 } else { free };
        if (first..first + 64).all(|at| w.slot_of(cnode, at).is_empty()) {
            retype(first, 64).unwrap();
            free = first + 64;
        }
        if w.kernel.revoking.get().is_none() {
            return;
        }
        assert!(children() <= before, "{before} children, then {}", children());
        w.run(revoker);
    }
    panic!("it ended before the other could help it along");
}
