//! Components: confined, and taken apart without a trace.

use abi::message::fault;
use abi::{CPtr, Error, Kind, MapFlags, Registers, Rights};
use ipc::{CNode, Message, SchedContext, Tcb, Untyped, VSpace};

use rt::inventory::Inventory;

use crate::arena;
use crate::row;
use crate::table::{Need, Test};
use crate::world::{
    CNODE, Must, PRIORITY, SCHED_CONTROL, Slot, VSPACE, World, finish, never_ends, slots, unless,
};

/// The tests of this area.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    row!("components", a_component_is_built_run_and_destroyed_2000_times, "memory and slots are the same after 2,000 cycles of build, run and revoke"),
    row!("components", a_component_without_capabilities_can_do_nothing, "with an empty CSpace every system call that names anything is refused"),
    row!("components", a_component_cannot_touch_others_memory, "addresses that are mapped elsewhere only are faults"),
    row!("components", a_component_cannot_name_others_capabilities, "slot numbers of another CSpace name nothing in one's own"),
    row!("components", a_component_cannot_use_up_others_memory, "one that takes all memory it has leaves the others theirs"),
    row!("components", a_component_cannot_signal_what_it_may_only_wait_for, "rights of a shared object are each holder's own"),
    row!("components", a_component_cannot_give_itself_more, "from its own capabilities nothing derives more rights, priority, time or memory"),
    row!("components", a_revoked_component_is_gone_at_once, "after the revoke none of its threads runs, none of its capabilities works, its partners hear of it"),
    row!("components", a_component_that_waits_for_its_death_does_not_delay_it, "a component with threads in all states is revoked whole"),
    row!("components", a_component_revoked_while_it_deletes_itself_is_gone, "a component that deletes and revokes its own capabilities while it is revoked"),
    row!("components", a_component_on_all_cpus_is_revoked_while_it_runs, "revoke stops threads that run on other CPUs", Need::Cpus(2)),
];

/// log2 of a small component's memory.
const SMALL: u32 = 18;
/// Where a small component has its page.
const PAGE: u64 = 0x40_0000;

/// A component of eight pages of its own, made of `memory`; slots of the test's CSpace that it takes.
struct Small {
    memory: Untyped,
    first: u32,
}

impl Small {
    /// Takes memory and slots.
    fn new(w: &mut World) -> Small {
        Small { memory: Untyped(w.make_sized(Kind::Untyped, SMALL)), first: w.slots(6).0 }
    }

    fn part(&self, at: u32) -> CPtr {
        CPtr(self.first + at)
    }

    fn make(&self, kind: Kind, bits: u64, at: u32) -> CPtr {
        let slot = self.part(at);
        self.memory.retype(kind, bits, CNODE.0, slot.into_slot(), 1).must(kind.name());
        slot
    }

    /// Builds it: `code` in its first page, which begins to run.
    fn build(&self, code: &[u8], faults: CPtr) {
        let vspace = VSpace(self.make(Kind::VSpace, 16, 0));
        let pages = self.make(Kind::Frame, 15, 1);
        let cnode = CNode(self.make(Kind::CNode, 5, 2));
        let tcb = Tcb(self.make(Kind::Tcb, 0, 3));
        let context = SchedContext(self.make(Kind::SchedContext, 0, 4));
        VSPACE.map(pages, HERE, 0, 8, MapFlags::WRITE).must("a look into it");
        // SAFETY: just mapped, and as large.
        unsafe { core::ptr::copy_nonoverlapping(code.as_ptr(), HERE as *mut u8, code.len()) };
        VSPACE.unmap(HERE, 8).must("an unmap");
        vspace.map(pages, PAGE, 0, 4, MapFlags::EXECUTE).must("its code");
        vspace.map(pages, PAGE + 0x4000, 0x4000, 4, MapFlags::WRITE).must("its data");
        cnode.copy(2, CNODE.0, slots::JOIN.into()).must("a capability");
        tcb.configure(cnode.0, vspace.0, pages, 0x7000).must("configuring");
        tcb.set_fault_handler(faults).must("a handler");
        SCHED_CONTROL.configure(context.0, 0, 1 << 24, 1 << 24, 0).must("time");
        SCHED_CONTROL.set_priority(tcb.0, PRIORITY).must("a priority");
        context.bind(tcb.0).must("binding");
        let registers = Registers { rip: PAGE, rsp: PAGE + 0x7000, ..Registers::default() };
        rt::thread::write_registers(tcb, &registers, true).must("starting it");
    }
}

const HERE: u64 = 0x30_0000_0000;

/// Writes to its data, and comes to its end: `mov [0x404000], rsp; ud2`.
const WRITE_AND_END: &[u8] = &[0x48, 0x89, 0x24, 0x25, 0x00, 0x40, 0x40, 0x00, 0x0f, 0x0b];

fn a_component_is_built_run_and_destroyed_2000_times(w: &mut World) {
    let faults = w.endpoint();
    let small = Small::new(w);
    let is_empty = |at| CNODE.describe(small.part(at).into_slot()).must("a look").kind == Kind::Null;
    let books = Inventory::of(CNODE).must("what there is");
    let cycles = if w.setup.long { 20_000 } else { 2_000 };
    for _ in 0..cycles {
        small.build(WRITE_AND_END, faults);
        let heard = ipc::recv(faults, CPtr::NULL).must("its end").message.words;
        assert_eq!([heard[fault::KIND], heard[fault::RIP]], [6, PAGE + 8]);
        CNODE.revoke(small.memory.0.into_slot()).must("a revoke");
    }
    assert!((0..6).all(is_empty));
    assert_eq!(books.changed(CNODE), Ok(None));
}

fn a_component_without_capabilities_can_do_nothing(w: &mut World) {
    let (cspace, space) = (w.cspace(5), w.space());
    w.thread().cspace(cspace).space(space).start(|| {
        for slot in 0..40 {
            let slot = CPtr(slot);
            assert_eq!(ipc::call(slot, Message::new(0)), Err(Error::NoCapability));
            assert_eq!(ipc::send(slot, Message::new(0)), Err(Error::NoCapability));
            assert_eq!(ipc::recv(slot, CPtr::NULL), Err(Error::NoCapability));
            assert_eq!(ipc::signal(slot), Err(Error::NoCapability));
            assert_eq!(ipc::wait(slot), Err(Error::NoCapability));
            for method in abi::table::METHODS {
                let refused = ipc::methods::invoke(slot, method.number, [2; 8]).err();
                assert_eq!(refused, Some(Error::NoCapability));
            }
        }
        arena::set(0, 1);
    });
    w.until("it has tried", || arena::get(0) == 1);
}

fn a_component_cannot_touch_others_memory(w: &mut World) {
    let [frame, faults] = [w.frame(1), w.endpoint()];
    VSPACE.map(frame, HERE, 0, 1, MapFlags::WRITE).must("a map");
    let space = w.space();
    let cspace = w.cspace(5);
    for act in [false, true] {
        let prisoner = w.thread().space(space).cspace(cspace).faults_to(faults).start(move || {
            if act {
                // SAFETY: it is the fault that the test is about.
                unsafe { (HERE as *mut u64).write_volatile(1) }
            } else {
                // SAFETY: as above.
                arena::set(1, unsafe { (HERE as *const u64).read_volatile() });
            }
        });
        let heard = ipc::recv(faults, CPtr::NULL).must("a fault").message.words;
        assert_eq!([heard[fault::KIND], heard[fault::ADDRESS]], [14, HERE]);
        w.delete(prisoner.tcb.0);
    }
    // SAFETY: mapped above.
    assert_eq!(unsafe { (HERE as *const u64).read_volatile() }, 0);
}

fn a_component_cannot_name_others_capabilities(w: &mut World) {
    let [mine, theirs] = [w.notification(), w.notification()];
    let (cspace, space) = (w.cspace(6), w.space());
    // The same number in both CSpaces, for different objects.
    let number = mine.0.min(63);
    w.give(cspace, number, theirs);
    w.thread().cspace(cspace).space(space).start(move || {
        ipc::signal(CPtr(number)).must("a signal");
        for slot in (2..64).filter(|&slot| slot != number) {
            assert_eq!(ipc::signal(CPtr(slot)), Err(Error::NoCapability));
        }
        arena::set(0, 1);
    });
    w.until("it has tried", || arena::get(0) == 1);
    assert_eq!((ipc::poll(theirs), ipc::poll(mine)), (Ok(1), Err(Error::WouldBlock)));
}

fn a_component_cannot_use_up_others_memory(w: &mut World) {
    let cspace = w.cspace(8);
    let memory = w.make_sized(Kind::Untyped, 16);
    let free = || CNODE.describe(slots::UNTYPED.into()).must("a look").free;
    cspace.relocate(2, CNODE.0, memory.into_slot()).must("its memory");
    w.give(cspace, 3, cspace.0);
    let prisoner = w.thread().cspace(cspace).prepare();
    let before = free();
    prisoner.run(|| {
        let mut slot = 4;
        while Untyped(CPtr(2)).retype(Kind::Frame, 12, CPtr(3), slot, 1).is_ok() {
            slot += 1;
        }
        arena::set(0, slot);
    });
    w.until("it has taken all", || arena::get(0) != 0);
    assert_eq!((arena::get(0), free()), (4 + 16, before));
    w.frame(1);
}

fn a_component_cannot_signal_what_it_may_only_wait_for(w: &mut World) {
    let [notification, endpoint] = [w.notification(), w.endpoint()];
    let cspace = w.cspace(5);
    for (slot, from, rights) in [(2, notification, Rights::READ), (3, endpoint, Rights::WRITE)] {
        cspace.mint(slot, CNODE.0, from.into_slot(), rights, 0).must("a mint");
    }
    w.thread().cspace(cspace).start(|| {
        assert_eq!(ipc::signal(CPtr(2)), Err(Error::NoRights));
        assert_eq!(ipc::poll(CPtr(2)), Err(Error::WouldBlock));
        assert_eq!(ipc::recv(CPtr(3), CPtr::NULL), Err(Error::NoRights));
        assert_eq!(ipc::try_send(CPtr(3), Message::new(1)), Err(Error::WouldBlock));
        arena::set(0, 1);
    });
    w.until("it has tried", || arena::get(0) == 1);
}

fn a_component_cannot_give_itself_more(w: &mut World) {
    let cspace = w.cspace(6);
    let [frame, low] = [w.frame(1), w.mint(SCHED_CONTROL.0, Rights::ALL, 50)];
    cspace.copy(2, CNODE.0, cspace.0.into_slot()).must("its CSpace");
    cspace.mint(3, CNODE.0, frame.into_slot(), Rights::READ, 0).must("a Frame");
    cspace.copy(4, CNODE.0, low.into_slot()).must("a SchedControl");
    let space = w.space();
    cspace.copy(6, CNODE.0, space.0.into_slot()).must("its VSpace");
    let prisoner = w.thread().cspace(cspace).space(space).prepare();
    cspace.copy(5, CNODE.0, prisoner.tcb.0.into_slot()).must("its Tcb");
    prisoner.run(|| {
        let own = CNode(CPtr(2));
        own.mint(10, CPtr(2), 3, Rights::ALL, 0).must("a copy");
        assert_eq!(VSpace(CPtr(6)).map(CPtr(10), HERE, 0, 1, MapFlags::WRITE), Err(Error::NoRights));
        let control = ipc::SchedControl(CPtr(4));
        assert_eq!(control.set_priority(CPtr(5), 51), Err(Error::OutOfRange));
        assert_eq!(own.mint(11, CPtr(2), 4, Rights::ALL, 255), Err(Error::InvalidArgument));
        // Nor does another place in its CSpace help, or its own Tcb.
        own.relocate(12, CPtr(2), 10).must("a move");
        assert_eq!(own.describe(12).must("a look").rights, Rights::READ);
        let wider = Tcb(CPtr(5)).configure(CPtr(3), CPtr::NULL, CPtr::NULL, 0);
        assert_eq!(wider, Err(Error::WrongKind));
        arena::set(0, 1);
    });
    w.until("it has tried", || arena::get(0) == 1);
}

fn a_revoked_component_is_gone_at_once(w: &mut World) {
    let endpoint = w.endpoint();
    let memory = Untyped(w.make_sized(Kind::Untyped, 20));
    let server = w.thread().made_of(memory).start(move || {
        ipc::recv(endpoint, CPtr::NULL).must("a call");
        arena::set(1, 1);
        loop {
            arena::add(0, 1);
            ipc::yield_now();
        }
    });
    let partner = w.thread().start(move || {
        assert_eq!(ipc::call(endpoint, Message::new(1)), Err(Error::PeerDied));
    });
    w.until("it runs", || arena::get(0) > 3);
    CNODE.revoke(memory.0.into_slot()).must("a revoke");
    let seen = arena::get(0);
    assert_eq!(server.tcb.status(), Err(Error::NoCapability));
    w.join(&partner);
    w.sleep(2);
    assert_eq!(arena::get(0), seen);
}

/// Threads in all states, made of `memory`, on all CPUs.
fn crowd(w: &mut World, memory: Untyped, cpus: u64) {
    let [endpoint, faults, notification] = [w.endpoint(), w.endpoint(), w.notification()];
    for number in 0..16 {
        let period = w.milliseconds(20);
        let budget = if number % 8 == 7 { period / 200 } else { period };
        let builder = w.thread().made_of(memory).cpu(number % cpus).budget(budget, period);
        // A fault that nobody hears is a state of its own. The bench hears of all others.
        let builder = if number % 8 == 2 { builder.faults_to(faults) } else { builder };
        builder.start(move || match number % 8 {
            0 => assert_eq!(ipc::call(endpoint, Message::new(1)), Err(Error::PeerDied)),
            1 => never_ends(ipc::wait(notification)),
            2 => finish(),
            3 => never_ends(ipc::wait_until(notification, u64::MAX >> 1)),
            4 => {
                ipc::recv(endpoint, CPtr::NULL).must("a call");
                never_ends(ipc::wait(notification))
            }
            5 => loop {
                ipc::yield_now();
            },
            _ => loop {
                arena::add(0, 1);
            },
        });
    }
}

fn a_component_that_waits_for_its_death_does_not_delay_it(w: &mut World) {
    let memory = Untyped(w.make_sized(Kind::Untyped, 20));
    crowd(w, memory, 1);
    w.sleep(30);
    CNODE.revoke(memory.0.into_slot()).must("a revoke");
    assert_eq!(CNODE.describe(memory.0.into_slot()).must("a look").free, 1 << 20);
}

fn a_component_revoked_while_it_deletes_itself_is_gone(w: &mut World) {
    for round in 0..20 {
        let memory = Untyped(w.make_sized(Kind::Untyped, 18));
        let cspace = CNode(w.slot());
        memory.retype(Kind::CNode, 8, CNODE.0, cspace.0.into_slot(), 1).must("a CNode");
        w.give(cspace, 2, cspace.0);
        memory.retype(Kind::Endpoint, 0, cspace.0, 3, 60).must("Endpoints");
        let cpu = round % w.cpus();
        let thread = w.thread().made_of(memory).cpu(cpu).cspace(cspace).start(move || {
            arena::set(0, round + 1);
            for slot in (2..64).rev() {
                unless(CNode(CPtr(2)).revoke(slot), &[Error::NoCapability]);
                unless(CNode(CPtr(2)).delete(slot), &[Error::NoCapability]);
            }
        });
        w.until("it has begun", || arena::get(0) == round + 1);
        CNODE.revoke(memory.0.into_slot()).must("a revoke");
        assert_eq!(thread.tcb.status(), Err(Error::NoCapability));
        w.delete(memory.0);
    }
}

fn a_component_on_all_cpus_is_revoked_while_it_runs(w: &mut World) {
    for _ in 0..5 {
        let memory = Untyped(w.make_sized(Kind::Untyped, 20));
        let cpus = w.cpus();
        crowd(w, memory, cpus);
        w.sleep(5);
        CNODE.revoke(memory.0.into_slot()).must("a revoke");
        let seen = arena::get(0);
        w.sleep(2);
        assert_eq!(arena::get(0), seen);
    }
}
