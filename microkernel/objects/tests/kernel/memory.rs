//! Untyped memory: made into objects, cleared, taken back.

use abi::table::method;
use abi::{Error, Kind, Rights, Syscall};
use objects::memory::Table;
use objects::{Ref, Slot};

use crate::world::{DEVICE_START, World, root};

/// Whether all of the memory that a Frame capability is for is clear.
fn is_clear(w: &World, frame: u32) -> bool {
    let slot = w.slot(frame);
    (0..slot.size() / 4096).all(|page| {
        let table: Ref<Table> = w.memory.object(slot.object.get() + page * 4096).unwrap();
        table.get().iter().all(|word| word.get() == 0)
    })
}

fn dirty(w: &World, frame: u32) {
    let slot = w.slot(frame);
    for page in 0..slot.size() / 4096 {
        let table: Ref<Table> = w.memory.object(slot.object.get() + page * 4096).unwrap();
        table.get().iter().for_each(|word| word.set(0x5a5a_5a5a_5a5a_5a5a));
    }
}

fn free_bytes(w: &World, untyped: u32) -> u64 {
    w.invoke(root::CNODE, method::CNode::identify, &[u64::from(untyped)]).unwrap()[5]
}

#[test]
fn a_large_object_is_cleared_in_shares_and_comes_to_be() {
    let w = World::new();
    let untyped = w.make(Kind::Untyped, 21);
    let frame = w.make_from(untyped, Kind::Frame, 20);
    assert!(is_clear(&w, frame));
    assert_eq!(free_bytes(&w, untyped), 1 << 20);
}

#[test]
fn memory_is_clear_again_after_a_revoke() {
    let w = World::new();
    let untyped = w.make(Kind::Untyped, 18);
    for _ in 0..3 {
        let frame = w.make_from(untyped, Kind::Frame, 17);
        assert!(is_clear(&w, frame));
        dirty(&w, frame);
        w.revoke(untyped);
        assert!(w.slot(frame).is_empty());
        assert_eq!(free_bytes(&w, untyped), 1 << 18);
    }
}

#[test]
fn what_lies_before_a_half_cleared_object_is_cleared_too() {
    let w = World::new();
    let untyped = w.make(Kind::Untyped, 21);
    w.make_from(untyped, Kind::Frame, 12);
    // A large, aligned Frame leaves a gap before it; the caller breaks off half way.
    let args = [Kind::Frame as u64, 20, u64::from(root::CNODE), u64::from(w.free_slot()), 1, 0, 0, 0];
    w.run(w.root);
    let retype = u64::from(method::Untyped::retype);
    w.prepare(w.root, Syscall::invoke, u64::from(untyped), retype, args);
    assert!(w.trap(0), "it should give way");
    for _ in 0..20 {
        match w.try_make(untyped, Kind::Frame, 16, w.free_slot()) {
            Ok(frame) => assert!(is_clear(&w, frame)),
            Err(error) => assert_eq!(error, Error::OutOfMemory),
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_and_uses_nothing() {
    let w = World::new();
    let untyped = w.make(Kind::Untyped, 14);
    let make = |kind: Kind, bits, count| {
        let slot = u64::from(w.free_slots(64));
        let args = [kind as u64, bits, u64::from(root::CNODE), slot, count];
        w.invoke(untyped, method::Untyped::retype, &args).map(|_| ())
    };
    assert_eq!(make(Kind::Frame, 15, 1), Err(Error::OutOfMemory));
    assert_eq!(make(Kind::Frame, 12, 5), Err(Error::OutOfMemory));
    assert_eq!(make(Kind::Frame, 47, 64), Err(Error::OutOfMemory));
    assert_eq!(make(Kind::Frame, 12, 4), Ok(()));
    assert_eq!(make(Kind::Endpoint, 0, 1), Err(Error::OutOfMemory));
}

#[test]
fn retype_refuses_what_the_table_says() {
    let w = World::new();
    let retype = |args: [u64; 5]| w.invoke(root::UNTYPED, method::Untyped::retype, &args).map(|_| ());
    let (cnode, free) = (u64::from(root::CNODE), u64::from(w.free_slot()));
    let frame = Kind::Frame as u64;
    for (kind, bits, count) in [
        (99, 12, 1),
        (0, 12, 1),
        (10, 0, 1),
        (4, 11, 1),
        (4, 48, 1),
        (4, 1 << 32, 1),
        (2, 1, 1),
        (3, 13, 1),
        (4, 12, 0),
        (4, 12, 65),
        (15, 12, 1),
    ] {
        assert_eq!(
            retype([kind, bits, cnode, free, count]),
            Err(Error::InvalidArgument),
            "{kind} {bits} {count}"
        );
    }
    for slot in [0, 1, 512, u64::MAX, u64::MAX - 1] {
        assert_eq!(retype([frame, 12, cnode, slot, 1]), Err(Error::OutOfRange));
    }
    assert_eq!(retype([frame, 12, cnode, 510, 3]), Err(Error::OutOfRange));
    assert_eq!(retype([frame, 12, cnode, u64::from(root::TCB), 1]), Err(Error::SlotOccupied));
    assert_eq!(retype([frame, 12, u64::from(root::TCB), free, 1]), Err(Error::WrongKind));
    assert_eq!(retype([frame, 12, 300, free, 1]), Err(Error::NoCapability));
    let narrow = w.mint(root::CNODE, Rights::READ, 0).unwrap();
    assert_eq!(retype([frame, 12, u64::from(narrow), free, 1]), Err(Error::NoRights));
}

#[test]
fn device_memory_is_neither_cleared_nor_made_into_objects() {
    let w = World::new();
    let untyped = w.make_from(root::DEVICE, Kind::Untyped, 30);
    let frame = w.make_from(untyped, Kind::Frame, 21);
    assert_eq!(w.invoke(frame, method::Frame::physical, &[]).unwrap()[0], DEVICE_START);
    assert_eq!(w.try_make(untyped, Kind::CNode, 4, w.free_slot()), Err(Error::InvalidArgument));
    assert_eq!(w.try_make(root::DEVICE, Kind::Tcb, 0, w.free_slot()), Err(Error::InvalidArgument));
    let (cap, _) = w.passive();
    w.invoke(cap, method::Tcb::suspend, &[]).unwrap();
    let args = [0, 0, u64::from(frame), 0];
    assert_eq!(w.invoke(cap, method::Tcb::configure, &args), Err(Error::InvalidArgument));
}

#[test]
fn objects_of_every_kind_come_and_go_and_leave_all_memory() {
    let w = World::new();
    let untyped = w.make(Kind::Untyped, 18);
    for _ in 0..20 {
        for (kind, bits) in [
            (Kind::Untyped, 12),
            (Kind::CNode, 4),
            (Kind::VSpace, 14),
            (Kind::Frame, 13),
            (Kind::Tcb, 0),
            (Kind::SchedContext, 0),
            (Kind::Endpoint, 0),
            (Kind::Notification, 0),
            (Kind::Reply, 0),
        ] {
            let slot = 400 + kind as u32;
            w.try_make(untyped, kind, bits, slot).unwrap();
        }
        w.revoke(untyped);
        assert_eq!(free_bytes(&w, untyped), 1 << 18);
    }
}

#[test]
fn an_untyped_that_is_deleted_leaves_what_was_made_of_it() {
    let w = World::new();
    let outer = w.make(Kind::Untyped, 16);
    let inner = w.make_from(outer, Kind::Untyped, 14);
    let endpoint = w.make_from(inner, Kind::Endpoint, 0);
    w.delete(inner);
    assert_eq!(w.slot(endpoint).kind.get(), Kind::Endpoint);
    w.revoke(outer);
    assert!(Slot::is_empty(&w.slot(endpoint)));
}
