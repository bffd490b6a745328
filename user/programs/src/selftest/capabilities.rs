//! Capabilities and memory: deriving, moving, deleting, revoking; what objects are made of.

use abi::object::object_bits;
use abi::table::{METHODS, method};
use abi::{CPtr, Error, Kind, MapFlags, Rights};
use ipc::methods::{Identity, invoke};
use ipc::{CNode, Message, SchedControl, Tcb, Untyped};

use crate::arena;
use crate::row;
use crate::table::Test;
use crate::world::{
    CNODE, EMPTY, IRQ_CONTROL, Must, SCHED_CONTROL, SILENT, SLOT_BITS, SYSTEM, Slot, TCB, UNTYPED, VSPACE,
    World, count, slots,
};

/// The tests of this area.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    row!("capabilities", rights_shrink_and_never_grow, "a mint gives the rights that source and request share"),
    row!("capabilities", a_copy_keeps_rights_and_badge, "a copy is like its source"),
    row!("capabilities", a_badge_is_given_once, "a badged capability cannot be badged anew, and other kinds take no badge"),
    row!("capabilities", a_move_takes_along_what_was_derived, "after a move, revoking the new slot takes back what was derived from the old one"),
    row!("capabilities", a_moved_away_slot_is_empty, "a move empties its source, which then names nothing"),
    row!("capabilities", deleting_a_link_leaves_the_rest_of_the_chain, "what was derived from a deleted capability stays, derived from its parent"),
    row!("capabilities", deleting_the_owner_destroys_the_object, "deleting the capability that retype gave ends all others for the object"),
    row!("capabilities", a_revoke_takes_all_that_was_derived_and_no_more, "a revoke leaves its capability and its siblings alone"),
    row!("capabilities", a_long_chain_of_derivation_is_revoked_whole, "a chain of 300 derived capabilities goes with one revoke"),
    row!("capabilities", identify_tells_objects_apart, "identity is the same for one object's capabilities and differs for others"),
    row!("capabilities", identify_tells_kind_size_rights_and_badge, "identify tells all that a restarted owner must know"),
    row!("capabilities", an_empty_slot_names_nothing, "slots that are empty, reserved, or beyond the CSpace name no capability"),
    row!("capabilities", every_method_wants_a_capability, "each method of the interface is refused on an empty slot"),
    row!("capabilities", every_method_wants_its_own_kind, "each method of the interface is refused on every other kind of object"),
    row!("capabilities", every_method_wants_its_right, "each method that changes or reads is refused to a capability without rights"),
    row!("capabilities", no_other_number_is_a_method, "numbers that are in no table are no methods, on any kind"),
    row!("capabilities", a_spent_untyped_is_whole_again_after_a_revoke, "an Untyped gives out its memory once, and all of it again after a revoke"),
    row!("capabilities", an_untyped_is_whole_again_when_its_last_object_goes, "deleting the last object of an Untyped makes all of it free"),
    row!("capabilities", a_refused_retype_changes_nothing, "a retype that is refused leaves memory and slots as they were"),
    row!("capabilities", a_retype_makes_up_to_64_objects, "one retype makes 64 objects in 64 slots, and refuses 0 and 65"),
    row!("capabilities", objects_of_all_sizes_are_made_or_refused_by_one_rule, "retype takes exactly the kinds and sizes of `object_bits`"),
    row!("capabilities", objects_do_not_overlap, "Frames made of one Untyped lie side by side within it"),
    row!("capabilities", memory_is_cleared_before_it_is_used_again, "a Frame made of used memory holds only zeros"),
    row!("capabilities", nested_untypeds_go_with_the_outermost, "revoking an Untyped destroys what was made of Untypeds made of it"),
    row!("capabilities", an_untyped_cannot_be_copied, "two capabilities for the same unused memory cannot be had"),
    row!("capabilities", a_cnode_that_holds_itself_can_be_destroyed, "a CNode whose own capability lies within it goes with its memory"),
    row!("capabilities", cnodes_that_hold_each_other_can_be_destroyed, "a cycle of CNodes goes with its memory"),
    row!("capabilities", a_nest_of_full_cnodes_is_emptied, "deleting a CNode deletes the CNodes that it owns, and what these own"),
    row!("capabilities", a_thread_whose_cspace_goes_has_no_capability_left, "after its CSpace is deleted a thread runs on, and every capability is refused"),
    row!("capabilities", a_ceiling_of_priorities_can_only_be_lowered, "a SchedControl gives priorities up to its badge, which a mint only lowers"),
    row!("capabilities", a_port_range_can_only_be_narrowed, "an IoPort derived from another lies within it"),
    row!("capabilities", the_count_of_capabilities_follows_what_is_made, "System.verify counts each capability once"),
];

fn look(slot: CPtr) -> Identity {
    CNODE.describe(slot.into_slot()).must("a look")
}

fn is_empty(slot: CPtr) -> bool {
    look(slot).kind == Kind::Null
}

fn revoke(slot: CPtr) {
    CNODE.revoke(slot.into_slot()).must("a revoke");
}

fn rights_shrink_and_never_grow(w: &mut World) {
    let endpoint = w.endpoint();
    for bits in 0..16 {
        let some = w.mint(endpoint, Rights(bits), 0);
        assert_eq!(look(some).rights, Rights(bits));
        let fewer = w.mint(some, Rights(0b0101), 0);
        assert_eq!(look(fewer).rights, Rights(bits & 0b0101));
        let no_more = w.mint(fewer, Rights::ALL, 0);
        assert_eq!(look(no_more).rights, Rights(bits & 0b0101));
    }
}

fn a_copy_keeps_rights_and_badge(w: &mut World) {
    let notification = w.notification();
    let badged = w.mint(notification, Rights::WRITE, 99);
    let slot = w.slot();
    CNODE.copy(slot.into_slot(), CNODE.0, badged.into_slot()).must("a copy");
    let copy = look(slot);
    assert_eq!((copy.kind, copy.rights, copy.badge), (Kind::Notification, Rights::WRITE, 99));
}

fn a_badge_is_given_once(w: &mut World) {
    let (endpoint, frame) = (w.endpoint(), w.frame(1));
    let badged = w.mint(endpoint, Rights::ALL, 1);
    let slot = w.slot().into_slot();
    for from in [badged, frame, TCB.0, VSPACE.0, SYSTEM.0, IRQ_CONTROL.0, CNODE.0] {
        let refused = CNODE.mint(slot, CNODE.0, from.into_slot(), Rights::ALL, 2);
        assert_eq!(refused, Err(Error::InvalidArgument));
    }
}

fn a_move_takes_along_what_was_derived(w: &mut World) {
    let endpoint = w.endpoint();
    let parent = w.mint(endpoint, Rights::ALL, 0);
    let child = w.mint(parent, Rights::ALL, 0);
    let to = w.slot();
    CNODE.relocate(to.into_slot(), CNODE.0, parent.into_slot()).must("a move");
    assert!(!is_empty(child));
    revoke(to);
    assert!(is_empty(child) && !is_empty(to) && !is_empty(endpoint));
    // The owner can move, too, and still owns.
    let new = w.slot();
    CNODE.relocate(new.into_slot(), CNODE.0, endpoint.into_slot()).must("a move");
    w.delete(new);
    assert!(is_empty(to));
}

fn a_moved_away_slot_is_empty(w: &mut World) {
    let [from, to] = [w.notification(), w.slot()];
    CNODE.relocate(to.into_slot(), CNODE.0, from.into_slot()).must("a move");
    assert_eq!(ipc::signal(from), Err(Error::NoCapability));
    assert_eq!(ipc::signal(to), Ok(()));
    let third = w.slot();
    let again = CNODE.relocate(third.into_slot(), CNODE.0, from.into_slot());
    assert_eq!(again, Err(Error::NoCapability));
}

fn deleting_a_link_leaves_the_rest_of_the_chain(w: &mut World) {
    let endpoint = w.endpoint();
    let top = w.mint(endpoint, Rights::ALL, 0);
    let middle = w.mint(top, Rights::ALL, 0);
    let bottom = [w.mint(middle, Rights::ALL, 0), w.mint(middle, Rights::ALL, 0)];
    w.delete(middle);
    assert!(bottom.iter().all(|&slot| !is_empty(slot)));
    revoke(top);
    assert!(bottom.iter().all(|&slot| is_empty(slot)) && !is_empty(top));
}

fn deleting_the_owner_destroys_the_object(w: &mut World) {
    let notification = w.notification();
    let derived = w.mint(notification, Rights::ALL, 7);
    let further = w.mint(derived, Rights::WRITE, 0);
    w.delete(notification);
    assert_eq!(ipc::signal(derived), Err(Error::NoCapability));
    assert_eq!(ipc::signal(further), Err(Error::NoCapability));
}

fn a_revoke_takes_all_that_was_derived_and_no_more(w: &mut World) {
    let endpoint = w.endpoint();
    let [one, other] = [w.mint(endpoint, Rights::ALL, 0), w.mint(endpoint, Rights::ALL, 0)];
    let of_one = [w.mint(one, Rights::ALL, 1), w.mint(one, Rights::ALL, 2), w.mint(one, Rights::ALL, 3)];
    let of_other = w.mint(other, Rights::ALL, 4);
    revoke(one);
    assert!(of_one.iter().all(|&slot| is_empty(slot)));
    assert!([endpoint, one, other, of_other].iter().all(|&slot| !is_empty(slot)));
    // Nothing left to revoke is no error.
    revoke(one);
}

fn a_long_chain_of_derivation_is_revoked_whole(w: &mut World) {
    let endpoint = w.endpoint();
    let mut last = endpoint;
    for _ in 0..300 {
        last = w.mint(last, Rights::ALL, 0);
    }
    assert!(!is_empty(last));
    revoke(endpoint);
    assert!((endpoint.0 + 1..=last.0).all(|slot| is_empty(CPtr(slot))));
}

fn identify_tells_objects_apart(w: &mut World) {
    let [one, other] = [w.endpoint(), w.endpoint()];
    let badged = w.mint(one, Rights::READ, 12);
    assert_eq!(look(one).identity, look(badged).identity);
    assert_ne!(look(one).identity, look(other).identity);
    assert_ne!(look(one).identity, 0);
    assert_eq!(look(EMPTY).identity, 0);
}

fn identify_tells_kind_size_rights_and_badge(w: &mut World) {
    let frame = w.make_sized(Kind::Frame, 14);
    let cspace = w.cspace(5);
    let untyped = w.make_sized(Kind::Untyped, 13);
    let notification = w.notification();
    let badged = w.mint(notification, Rights::READ, 77);
    let seen = look(frame);
    assert_eq!((seen.kind, seen.bits, seen.rights, seen.badge), (Kind::Frame, 14, Rights::ALL, 0));
    assert_eq!((look(cspace.0).kind, look(cspace.0).bits), (Kind::CNode, 5));
    assert_eq!((look(untyped).kind, look(untyped).bits, look(untyped).free), (Kind::Untyped, 13, 1 << 13));
    let seen = look(badged);
    assert_eq!((seen.kind, seen.rights, seen.badge), (Kind::Notification, Rights::READ, 77));
    assert_eq!((look(notification).free, look(badged).free), (1, 0));
}

fn an_empty_slot_names_nothing(_: &mut World) {
    for slot in [0, 1, slots::EMPTY, 1 << SLOT_BITS, (1 << SLOT_BITS) + 2, u32::MAX] {
        assert_eq!(ipc::signal(CPtr(slot)), Err(Error::NoCapability));
        assert_eq!(Tcb(CPtr(slot)).suspend(), Err(Error::NoCapability));
        assert_eq!(ipc::call(CPtr(slot), Message::new(0)), Err(Error::NoCapability));
        assert_eq!(ipc::reply_recv(CPtr(slot), Message::new(0)), Err(Error::NoCapability));
    }
    // A capability pointer has 32 bits; of a call the high half must be zero.
    let high = u64::from(slots::JOIN) | 1 << 32;
    let returned = ipc::trap::trap(abi::Syscall::signal, high, 0, ipc::trap::NO_WORDS);
    assert_eq!(returned.status, Error::NoCapability as u64);
}

/// A capability of each kind that can be had.
fn one_of_each(w: &mut World) -> [(Kind, CPtr); 14] {
    let handler = w.slot();
    IRQ_CONTROL.msi(CNODE.0, handler.into_slot(), 0, SILENT).must("an IrqHandler");
    [
        (Kind::Untyped, w.make_sized(Kind::Untyped, 12)),
        (Kind::CNode, CNODE.0),
        (Kind::VSpace, VSPACE.0),
        (Kind::Frame, w.frame(1)),
        (Kind::Tcb, w.make(Kind::Tcb)),
        (Kind::SchedContext, w.make(Kind::SchedContext)),
        (Kind::Endpoint, w.endpoint()),
        (Kind::Notification, w.notification()),
        (Kind::Reply, w.make(Kind::Reply)),
        (Kind::IrqControl, IRQ_CONTROL.0),
        (Kind::IrqHandler, handler),
        (Kind::IoSpace, w.make_sized(Kind::IoSpace, 14)),
        (Kind::IoPort, crate::world::IO_PORT.0),
        (Kind::SchedControl, SCHED_CONTROL.0),
    ]
}

fn every_method_wants_a_capability(_: &mut World) {
    for entry in METHODS {
        let refused = invoke(EMPTY, entry.number, [0; 8]).err();
        assert_eq!(refused, Some(Error::NoCapability), "{}", entry.name);
    }
}

fn every_method_wants_its_own_kind(w: &mut World) {
    let objects = one_of_each(w);
    for entry in METHODS {
        for (_, object) in objects.iter().filter(|(kind, _)| Some(*kind) != entry.kind) {
            let refused = invoke(*object, entry.number, [0; 8]).err();
            assert_eq!(refused, Some(Error::WrongKind), "{} on {object:?}", entry.name);
        }
    }
}

fn every_method_wants_its_right(w: &mut World) {
    /// Methods that tell only what any holder may know.
    const FREE: [u32; 4] =
        [method::CNode::identify, method::VSpace::query, method::Frame::physical, method::Tcb::status];
    let system = (Kind::System, SYSTEM.0);
    let objects = one_of_each(w);
    for (kind, object) in objects.into_iter().chain([system]) {
        // An Untyped cannot be derived: what it is good for takes a right that it always has.
        if kind == Kind::Untyped {
            continue;
        }
        let powerless = w.mint(object, Rights::NONE, 0);
        for entry in METHODS.iter().filter(|entry| entry.kind == Some(kind) && !FREE.contains(&entry.number))
        {
            let refused = invoke(powerless, entry.number, [0; 8]).err();
            assert_eq!(refused, Some(Error::NoRights), "{}", entry.name);
        }
    }
}

fn no_other_number_is_a_method(w: &mut World) {
    for (kind, object) in one_of_each(w) {
        for number in (0..0x1000).filter(|&number| abi::table::find_method(number).is_none()) {
            let refused = invoke(object, number, [0; 8]).err();
            assert_eq!(refused, Some(Error::NoSuchMethod), "{number:#x} on {}", kind.name());
        }
    }
    for number in [1 << 32 | 0x506, u64::MAX, 1 << 63] {
        let returned = ipc::trap::trap(abi::Syscall::invoke, TCB.0.into_slot(), number, ipc::trap::NO_WORDS);
        assert_eq!(returned.status, Error::NoSuchMethod as u64);
    }
}

fn a_spent_untyped_is_whole_again_after_a_revoke(w: &mut World) {
    let untyped = w.make_sized(Kind::Untyped, 16);
    for _ in 0..3 {
        let slot = w.slots(17).into_slot();
        Untyped(untyped).retype(Kind::Frame, 12, CNODE.0, slot, 16).must("sixteen Frames");
        assert_eq!(look(untyped).free, 0);
        let refused = Untyped(untyped).retype(Kind::Endpoint, 0, CNODE.0, slot + 16, 1);
        assert_eq!(refused, Err(Error::OutOfMemory));
        revoke(untyped);
        assert_eq!(look(untyped).free, 1 << 16);
    }
}

fn an_untyped_is_whole_again_when_its_last_object_goes(w: &mut World) {
    let untyped = w.make_sized(Kind::Untyped, 13);
    let [a, b] = [w.slot(), w.slot()];
    let make = |slot: CPtr| Untyped(untyped).retype(Kind::Frame, 12, CNODE.0, slot.into_slot(), 1);
    make(a).must("a Frame");
    make(b).must("a Frame");
    w.delete(a);
    assert_eq!(make(a), Err(Error::OutOfMemory));
    w.delete(b);
    make(a).must("a Frame again");
}

fn a_refused_retype_changes_nothing(w: &mut World) {
    let untyped = w.make_sized(Kind::Untyped, 14);
    let first = w.slots(8);
    // The last of the slots is taken.
    let taken = CPtr(first.0 + 7);
    UNTYPED.retype(Kind::Endpoint, 0, CNODE.0, taken.into_slot(), 1).must("an Endpoint");
    let refusals = [
        (Kind::Endpoint, 0, 8, Error::SlotOccupied),
        (Kind::Frame, 12, 5, Error::OutOfMemory),
        (Kind::Frame, 11, 1, Error::InvalidArgument),
        (Kind::Null, 12, 1, Error::InvalidArgument),
        (Kind::System, 12, 1, Error::InvalidArgument),
    ];
    for (kind, bits, count, error) in refusals {
        let refused = Untyped(untyped).retype(kind, bits, CNODE.0, first.into_slot(), count);
        assert_eq!(refused, Err(error));
        assert_eq!(look(untyped).free, 1 << 14);
        assert!((0..7).all(|at| is_empty(CPtr(first.0 + at))));
    }
}

fn a_retype_makes_up_to_64_objects(w: &mut World) {
    let first = w.slots(65);
    let make = |count| UNTYPED.retype(Kind::Notification, 0, CNODE.0, first.into_slot(), count);
    assert_eq!(make(0), Err(Error::InvalidArgument));
    assert_eq!(make(65), Err(Error::InvalidArgument));
    make(64).must("64 Notifications");
    assert!((0..64).all(|at| look(CPtr(first.0 + at)).kind == Kind::Notification));
    assert!(is_empty(CPtr(first.0 + 64)));
}

fn objects_of_all_sizes_are_made_or_refused_by_one_rule(w: &mut World) {
    let slot = w.slot();
    for &kind in Kind::ALL {
        for bits in 0..=21 {
            let size = object_bits(kind, bits as u32);
            if size.is_some_and(|size| size > 22) {
                continue;
            }
            let made = UNTYPED.retype(kind, bits, CNODE.0, slot.into_slot(), 1);
            match size {
                Some(_) => made.must(format_args!("{} of {bits}", kind.name())),
                None => assert_eq!(made, Err(Error::InvalidArgument), "{} of {bits}", kind.name()),
            }
            w.delete(slot);
        }
    }
    for bits in [48, 63, 64, 1 << 32, u64::MAX] {
        let refused = UNTYPED.retype(Kind::Frame, bits, CNODE.0, slot.into_slot(), 1);
        assert_eq!(refused, Err(Error::InvalidArgument));
    }
}

fn objects_do_not_overlap(w: &mut World) {
    let untyped = w.make_sized(Kind::Untyped, 18);
    let base = look(untyped).identity & ((1 << 56) - 1);
    let mut end = base;
    for bits in [12, 13, 12, 14, 12, 16] {
        let slot = w.slot();
        Untyped(untyped).retype(Kind::Frame, bits, CNODE.0, slot.into_slot(), 1).must("a Frame");
        let start = ipc::Frame(slot).physical().must("its address");
        assert!(start >= end && start % (1 << bits) == 0);
        end = start + (1 << bits);
    }
    assert!(end <= base + (1 << 18));
}

fn memory_is_cleared_before_it_is_used_again(w: &mut World) {
    const HERE: u64 = 0x30_0000_0000;
    const PAGES: u64 = 64;
    let untyped = w.make_sized(Kind::Untyped, 12 + PAGES.ilog2());
    for round in 0..3 {
        let frame = w.slot();
        Untyped(untyped)
            .retype(Kind::Frame, 12 + u64::from(PAGES.ilog2()), CNODE.0, frame.into_slot(), 1)
            .must("a Frame");
        VSPACE.map(frame, HERE, 0, PAGES, MapFlags::WRITE).must("a map");
        // SAFETY: just mapped, for this test alone.
        let words = unsafe { core::slice::from_raw_parts_mut(HERE as *mut u64, PAGES as usize * 512) };
        assert!(words.iter().all(|&word| word == 0), "round {round}");
        words.fill(0x6666_6666_6666_6666);
        revoke(untyped);
    }
}

fn nested_untypeds_go_with_the_outermost(w: &mut World) {
    let outermost = w.make_sized(Kind::Untyped, 18);
    let mut inner = outermost;
    for bits in [17, 16, 15] {
        let slot = w.slot();
        Untyped(inner).retype(Kind::Untyped, bits, CNODE.0, slot.into_slot(), 1).must("an Untyped");
        inner = slot;
    }
    let frame = w.slot();
    Untyped(inner).retype(Kind::Frame, 12, CNODE.0, frame.into_slot(), 1).must("a Frame");
    revoke(outermost);
    assert!((outermost.0 + 1..=frame.0).all(|slot| is_empty(CPtr(slot))));
    assert_eq!(look(outermost).free, 1 << 18);
}

fn an_untyped_cannot_be_copied(w: &mut World) {
    let untyped = w.make_sized(Kind::Untyped, 12);
    let slot = w.slot().into_slot();
    let from = untyped.into_slot();
    assert_eq!(CNODE.copy(slot, CNODE.0, from), Err(Error::Busy));
    assert_eq!(CNODE.mint(slot, CNODE.0, from, Rights::NONE, 0), Err(Error::Busy));
    assert_eq!(CNODE.relocate(slot, CNODE.0, from), Ok(()));
}

fn a_cnode_that_holds_itself_can_be_destroyed(w: &mut World) {
    let memory = w.make_sized(Kind::Untyped, 16);
    let slot = w.slot();
    for owner_inside in [false, true] {
        Untyped(memory).retype(Kind::CNode, 4, CNODE.0, slot.into_slot(), 1).must("a CNode");
        let inner = CNode(slot);
        inner.copy(2, CNODE.0, slot.into_slot()).must("itself within itself");
        inner.copy(3, CNODE.0, slots::JOIN.into()).must("something else");
        if owner_inside {
            // Nobody outside knows it any more.
            inner.relocate(4, CNODE.0, slot.into_slot()).must("its owner within itself");
            assert!(is_empty(slot));
            revoke(memory);
        } else {
            w.delete(slot);
        }
        assert_eq!(look(memory).free, 1 << 16);
    }
}

fn cnodes_that_hold_each_other_can_be_destroyed(w: &mut World) {
    let memory = w.make_sized(Kind::Untyped, 16);
    let ring = w.slots(5);
    Untyped(memory).retype(Kind::CNode, 4, CNODE.0, ring.into_slot(), 5).must("CNodes");
    for at in 0..5u32 {
        let next = CPtr(ring.0 + (at + 1) % 5);
        CNode(CPtr(ring.0 + at)).copy(2, CNODE.0, next.into_slot()).must("the next");
        CNode(next).copy(3, CNODE.0, u64::from(ring.0 + at)).must("the one before");
    }
    revoke(memory);
    assert_eq!(look(memory).free, 1 << 16);
    assert!((0..5).all(|at| is_empty(CPtr(ring.0 + at))));
}

fn a_nest_of_full_cnodes_is_emptied(w: &mut World) {
    let memory = w.make_sized(Kind::Untyped, 20);
    let outer = w.slot();
    Untyped(memory).retype(Kind::CNode, 5, CNODE.0, outer.into_slot(), 1).must("a CNode");
    let inner = w.slots(30);
    Untyped(memory).retype(Kind::CNode, 5, CNODE.0, inner.into_slot(), 30).must("CNodes");
    for at in 0..30 {
        let each = CNode(CPtr(inner.0 + at));
        Untyped(memory).retype(Kind::Endpoint, 0, each.0, 2, 30).must("Endpoints");
        CNode(outer).relocate(u64::from(2 + at), CNODE.0, u64::from(inner.0 + at)).must("a move");
    }
    w.delete(outer);
    assert_eq!(look(memory).free, 1 << 20);
}

fn a_thread_whose_cspace_goes_has_no_capability_left(w: &mut World) {
    let cspace = w.cspace(5);
    w.give(cspace, slots::JOIN, CPtr(slots::JOIN));
    w.give(cspace, 2, cspace.0);
    let thread = w.thread().cspace(cspace).start(|| {
        assert_eq!(ipc::signal(CPtr(slots::JOIN)), Ok(()));
        // The thread's own capability for its CSpace goes with the CNode.
        while ipc::poll(CPtr(slots::JOIN)) != Err(Error::NoCapability) {
            arena::add(0, 1);
            ipc::yield_now();
        }
        assert_eq!(ipc::signal(CPtr(2)), Err(Error::NoCapability));
    });
    w.until("it runs", || arena::get(0) > 0);
    w.delete(cspace.0);
    w.join(&thread);
}

fn a_ceiling_of_priorities_can_only_be_lowered(w: &mut World) {
    let tcb = w.make(Kind::Tcb);
    let low = SchedControl(w.mint(SCHED_CONTROL.0, Rights::ALL, 60));
    assert_eq!(low.set_priority(tcb, 60), Ok(()));
    assert_eq!(low.set_priority(tcb, 61), Err(Error::OutOfRange));
    let slot = w.slot().into_slot();
    assert_eq!(CNODE.mint(slot, CNODE.0, low.0.into_slot(), Rights::ALL, 61), Err(Error::InvalidArgument));
    let lower = SchedControl(w.mint(low.0, Rights::ALL, 10));
    assert_eq!(lower.set_priority(tcb, 11), Err(Error::OutOfRange));
    assert_eq!(lower.set_priority(tcb, 10), Ok(()));
}

fn a_port_range_can_only_be_narrowed(w: &mut World) {
    let range = |first: u64, last: u64| first | last << 16;
    let narrow = w.mint(crate::world::IO_PORT.0, Rights::ALL, range(0x70, 0x77));
    let slot = w.slot().into_slot();
    for wider in [range(0x6f, 0x77), range(0x70, 0x78), range(0x75, 0x71), 1 << 40] {
        let refused = CNODE.mint(slot, CNODE.0, narrow.into_slot(), Rights::ALL, wider);
        assert_eq!(refused, Err(Error::InvalidArgument));
    }
    let narrower = ipc::IoPort(w.mint(narrow, Rights::READ, range(0x70, 0x71)));
    assert!(narrower.read(0x71, 1).is_ok());
    assert_eq!(narrower.read(0x72, 1), Err(Error::OutOfRange));
    assert_eq!(narrower.write(0x70, 1, 0), Err(Error::NoRights));
}

fn the_count_of_capabilities_follows_what_is_made(w: &mut World) {
    // Components that come or go meanwhile are counted as well: then it is tried again.
    const TRIES: usize = 20;
    let mut found = [0; 6];
    for _ in 0..TRIES {
        let before = count();
        let more = || count().wrapping_sub(before);
        let endpoint = w.endpoint();
        found[0] = more();
        let badged = w.mint(endpoint, Rights::ALL, 3);
        found[1] = more();
        let thread = w.thread().faults_to(badged).prepare();
        found[2] = more();
        w.delete(thread.tcb.0);
        found[3] = more();
        w.delete(endpoint);
        found[4] = more();
        w.delete(thread.context.0);
        found[5] = more();
        // Of the thread: Tcb and SchedContext; CSpace, VSpace, buffer and fault handler within the Tcb.
        if found == [1, 2, 8, 3, 1, 0] {
            return;
        }
    }
    panic!("{found:?} more at last");
}
