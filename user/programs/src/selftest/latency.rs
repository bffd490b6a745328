//! The longest time with interrupts off: operations that would be long if they did not give way.
//!
//! The bench asks the kernel for the longest time after each test; these rows make it long. Their promise holds
//! only where ticks are instructions, so it is the bench that judges.

use abi::{CPtr, Error, Kind, MapFlags, Registers, Rights};
use ipc::{CNode, Untyped, VSpace};

use crate::arena;
use crate::row;
use crate::table::{Need, Test};
use crate::world::{CNODE, Must, SPACE_BITS, SYSTEM, Slot, UNTYPED, World, now};

/// The tests of this area.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    row!("latency", a_revoke_of_100_000_capabilities_gives_way, "revoking an Untyped with 100,000 derived capabilities lets interrupts in, and a higher thread keeps its times"),
    row!("latency", a_deletion_of_a_space_with_100_000_pages_gives_way, "so does deleting a VSpace with 100,000 pages"),
    row!("latency", mapping_100_000_pages_gives_way, "so do map, protect and unmap of 100,000 pages"),
    row!("latency", pages_of_many_mappings_go_one_by_one, "so does deleting a Frame that is mapped in a thousand places"),
    row!("latency", clearing_a_large_frame_gives_way, "so does a retype that clears many megabytes"),
    row!("latency", a_full_cnode_is_emptied_in_steps, "so does deleting a CNode of 65,536 full slots"),
    row!("latency", an_endpoint_with_hundreds_of_waiters_is_deleted_in_steps, "so do deleting an Endpoint and a Notification that hundreds of threads wait on"),
    row!("latency", hundreds_of_deadlines_at_one_moment_end_in_steps, "so do hundreds of waits that end at the same time"),
    row!("latency", a_deep_tree_is_revoked_in_steps, "so does revoking chains of thousands of capabilities derived from each other"),
    row!("latency", unmapping_of_pages_in_use_everywhere_is_short, "shooting down translations on all CPUs is short", Need::Cpus(2)),
];

const HERE: u64 = 0x30_0000_0000;
/// How many: as the promise has it.
const MANY: u64 = 100_000;

/// Wakes every 200 microseconds meanwhile, to see that interrupts come.
fn with_a_clock(w: &mut World, act: impl FnOnce(&mut World)) {
    let (step, waker) = (w.microseconds(200), w.notification());
    let clock = w.thread().priority(200).start(move || {
        while arena::get(1) == 0 {
            assert_eq!(ipc::wait_until(waker, now() + step), Err(Error::TimedOut));
            arena::add(0, 1);
        }
    });
    SYSTEM.latency().must("a beginning");
    act(w);
    arena::set(1, 1);
    w.join(&clock);
}

/// A CNode filled with 2^`bits` - 2 capabilities, derived from `from` by a copy each.
fn full_cnode(w: &mut World, bits: u32, from: CPtr, count: u64) -> CNode {
    let cnode = w.cspace(bits);
    for slot in 2..2 + count {
        cnode.copy(slot, CNODE.0, from.into_slot()).must("a copy");
    }
    cnode
}

fn a_revoke_of_100_000_capabilities_gives_way(w: &mut World) {
    let memory = w.make_sized(Kind::Untyped, 20);
    let endpoint = w.slot();
    Untyped(memory).retype(Kind::Endpoint, 0, CNODE.0, endpoint.into_slot(), 1).must("an Endpoint");
    full_cnode(w, 17, endpoint, MANY);
    with_a_clock(w, |_| {
        CNODE.revoke(memory.into_slot()).must("a revoke");
    });
}

/// An address space of its own with room for the tables of so many pages.
fn large_space(w: &mut World) -> VSpace {
    // A pair of pages for each table of 512 entries.
    let space = VSpace(w.make_sized(Kind::VSpace, 22));
    w.fill_space(space);
    space
}

/// Maps so many pages, 4 MiB at a time.
fn map_many(frame: CPtr, space: VSpace, flags: MapFlags) {
    const PART: u64 = 1024;
    let mut page = 0;
    while page < MANY {
        let pages = PART.min(MANY - page);
        // The same memory again and again: what counts is the pages.
        space.map(frame, HERE + page * 4096, 0, pages, flags).must("a map");
        page += pages;
    }
}

fn a_deletion_of_a_space_with_100_000_pages_gives_way(w: &mut World) {
    let (space, frame) = (large_space(w), w.frame(1024));
    map_many(frame, space, MapFlags::READ);
    with_a_clock(w, |w| w.delete(space.0));
}

fn mapping_100_000_pages_gives_way(w: &mut World) {
    let (space, frame) = (large_space(w), w.frame(1024));
    with_a_clock(w, |_| {
        map_many(frame, space, MapFlags::WRITE);
        space.protect(HERE, MANY, MapFlags::READ).must("a protect");
        space.unmap(HERE, MANY).must("an unmap");
        // Over holes, too.
        space.unmap(0x60_0000_0000, 1 << 26).must("an unmap");
    });
}

fn pages_of_many_mappings_go_one_by_one(w: &mut World) {
    let (space, frame) = (large_space(w), w.frame(1));
    for at in 0..1000 {
        space.map(frame, HERE + at * 2 * 4096, 0, 1, MapFlags::READ).must("a map");
    }
    with_a_clock(w, |w| w.delete(frame));
}

fn clearing_a_large_frame_gives_way(w: &mut World) {
    let bits = u64::from(w.setup.untyped_bits - 2);
    let slot = w.slot();
    with_a_clock(w, |_| {
        UNTYPED.retype(Kind::Frame, bits, CNODE.0, slot.into_slot(), 1).must("a large Frame");
    });
    let spaces = w.slots(9);
    UNTYPED.retype(Kind::VSpace, SPACE_BITS.into(), CNODE.0, spaces.into_slot(), 8).must("many at once");
    let refused = UNTYPED.retype(Kind::VSpace, SPACE_BITS.into(), CNODE.0, spaces.into_slot(), 9);
    assert_eq!(refused, Err(Error::InvalidArgument));
    w.delete(slot);
}

fn a_full_cnode_is_emptied_in_steps(w: &mut World) {
    let endpoint = w.endpoint();
    let cnode = full_cnode(w, 16, endpoint, (1 << 16) - 2);
    with_a_clock(w, |w| w.delete(cnode.0));
}

/// A thread that only makes a system call, without a stack: as many as one likes.
fn waiters(w: &mut World, count: u32, number: abi::Syscall, on: CPtr, info: u64, word: u64) {
    let tcbs = w.slots(2 * count);
    for at in 0..count {
        let (tcb, context) = (ipc::Tcb(CPtr(tcbs.0 + at)), ipc::SchedContext(CPtr(tcbs.0 + count + at)));
        UNTYPED.retype(Kind::Tcb, 0, CNODE.0, tcb.0.into_slot(), 1).must("a Tcb");
        UNTYPED.retype(Kind::SchedContext, 0, CNODE.0, context.0.into_slot(), 1).must("a SchedContext");
        tcb.configure(CNODE.0, crate::world::VSPACE.0, CPtr::NULL, 0).must("configuring");
        crate::world::SCHED_CONTROL.configure(context.0, 0, 1 << 24, 1 << 24, 0).must("time");
        crate::world::SCHED_CONTROL.set_priority(tcb.0, 150).must("a priority");
        context.bind(tcb.0).must("binding");
        let registers = Registers {
            rip: call_and_stop as *const () as u64,
            rax: number.number().into(),
            rdx: on.into_slot(),
            rsi: info,
            rdi: word,
            ..Registers::default()
        };
        rt::thread::write_registers(tcb, &registers, true).must("starting it");
    }
}

/// A system call, and a fault that nobody handles.
#[unsafe(naked)]
extern "C" fn call_and_stop() -> ! {
    core::arch::naked_asm!("syscall", "ud2")
}

fn an_endpoint_with_hundreds_of_waiters_is_deleted_in_steps(w: &mut World) {
    let [endpoint, other, notification] = [w.endpoint(), w.endpoint(), w.notification()];
    waiters(w, 400, abi::Syscall::call, endpoint, 0, 0);
    waiters(w, 400, abi::Syscall::recv, other, 0, 0);
    waiters(w, 400, abi::Syscall::wait, notification, 0, 0);
    with_a_clock(w, |w| [endpoint, other, notification].iter().for_each(|&object| w.delete(object)));
}

fn hundreds_of_deadlines_at_one_moment_end_in_steps(w: &mut World) {
    let [endpoint, notification] = [w.endpoint(), w.notification()];
    let end = now() + w.milliseconds(300);
    waiters(w, 700, abi::Syscall::recv, endpoint, abi::MsgInfo::DEADLINE, end);
    waiters(w, 700, abi::Syscall::wait, notification, abi::MsgInfo::DEADLINE, end);
    assert!(now() < end || !w.setup.icount, "they were not ready in time");
    with_a_clock(w, |w| w.sleep(400));
    assert_eq!(ipc::try_send(endpoint, ipc::Message::new(0)), Err(Error::WouldBlock));
}

fn a_deep_tree_is_revoked_in_steps(w: &mut World) {
    let cnode = w.cspace(15);
    let endpoint = w.endpoint();
    cnode.copy(2, CNODE.0, endpoint.into_slot()).must("the first");
    for slot in 3..1 << 15 {
        cnode.mint(slot, cnode.0, slot - 1, Rights::ALL, 0).must("the next");
    }
    with_a_clock(w, |_| CNODE.revoke(endpoint.into_slot()).must("a revoke"));
}

fn unmapping_of_pages_in_use_everywhere_is_short(w: &mut World) {
    let frame = w.frame(512);
    let space = w.space();
    let cpus = w.cpus();
    for cpu in 0..cpus {
        w.thread().cpu(cpu).priority(50).space(space).start(|| {
            loop {
                arena::add(5, 1);
                core::hint::spin_loop();
            }
        });
    }
    with_a_clock(w, |_| {
        for _ in 0..50 {
            space.map(frame, HERE, 0, 512, MapFlags::WRITE).must("a map");
            space.unmap(HERE, 512).must("an unmap");
        }
    });
}
