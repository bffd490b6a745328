//! The longest time with interrupts off: operations that would be long if they did not give way.
//!
//! The bench asks the kernel for the longest time after each test; these rows make it long. Their promise holds
//! only where ticks are instructions, so it is the bench that judges.

use abi::{CPtr, Error, Kind, MapFlags, Registers, Rights};
use ipc::{CNode, Untyped, VSpace};

use crate::arena;
use crate::row;
use crate::table::{Need, Test};
use crate::world::{
    CNODE, Must, SCHED_CONTEXT, SCHED_CONTROL, SPACE_BITS, SYSTEM, Slot, UNTYPED, World, count, now, slots,
};

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
    row!("latency", deadlines_of_lower_threads_do_not_stop_a_higher_one, "waits of many threads of lower priority that end at one moment take little of a higher one's time"),
    row!("latency", a_chain_of_a_thousand_calls_is_taken_apart_in_steps, "so does revoking a thousand threads that are in one chain of nested calls"),
    row!("latency", stopping_the_first_of_a_thousand_calls_gives_way, "so does stopping the first of a thousand threads in one chain of nested calls"),
    row!("latency", a_map_of_a_gigabyte_that_is_refused_gives_way, "so does a map of a gigabyte for which the tables do not suffice", Need::Device),
    row!("latency", a_burier_does_not_hold_up_a_revoke, "a revoke of 2,048 slots ends beside a thread that buries CNodes with half of the CPU, in its own time"),
    row!("latency", deleting_an_empty_slot_empties_no_grave, "deleting an empty slot does nothing for a deletion of a lower thread"),
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
    waiters_at(w, 150, count, number, on, info, word);
}

/// The same of a priority of their own; those below the test's first thread wait when that does.
fn waiters_at(
    w: &mut World,
    priority: u64,
    count: u32,
    number: abi::Syscall,
    on: CPtr,
    info: u64,
    word: u64,
) {
    let tcbs = w.slots(2 * count);
    for at in 0..count {
        let place = (CPtr(tcbs.0 + at), CPtr(tcbs.0 + count + at));
        let registers = Registers {
            rip: call_and_stop as *const () as u64,
            rax: number.number().into(),
            rdx: on.into_slot(),
            rsi: info,
            rdi: word,
            ..Registers::default()
        };
        bare_thread(UNTYPED, place, priority, &registers);
    }
}

/// A thread of `memory`, with its Tcb and SchedContext in these slots, that starts with these registers.
fn bare_thread(
    memory: Untyped,
    (tcb, context): (CPtr, CPtr),
    priority: u64,
    registers: &Registers,
) -> ipc::Tcb {
    let (tcb, context) = (ipc::Tcb(tcb), ipc::SchedContext(context));
    memory.retype(Kind::Tcb, 0, CNODE.0, tcb.0.into_slot(), 1).must("a Tcb");
    memory.retype(Kind::SchedContext, 0, CNODE.0, context.0.into_slot(), 1).must("a SchedContext");
    tcb.configure(CNODE.0, crate::world::VSPACE.0, CPtr::NULL, 0).must("configuring");
    SCHED_CONTROL.configure(context.0, 0, 1 << 24, 1 << 24, 0).must("time");
    SCHED_CONTROL.set_priority(tcb.0, priority).must("a priority");
    context.bind(tcb.0).must("binding");
    rt::thread::write_registers(tcb, registers, true).must("starting it");
    tcb
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

fn deadlines_of_lower_threads_do_not_stop_a_higher_one(w: &mut World) {
    let notification = w.notification();
    let end = now() + w.milliseconds(300);
    waiters_at(w, 50, 1500, abi::Syscall::wait, notification, abi::MsgInfo::DEADLINE, end);
    w.sleep(100);
    let (mut longest, mut last) = (0, now());
    assert!(last < end, "they were not ready in time");
    while last < end + w.milliseconds(20) {
        let next = now();
        (longest, last) = (longest.max(next - last), next);
    }
    // All have ended once there is nothing more urgent to do.
    w.sleep(100);
    ipc::signal(notification).must("a signal");
    assert_ne!(ipc::poll(notification), Err(Error::WouldBlock), "one still waits");
    assert!(!w.setup.icount || longest < 10_000, "it stood still for {longest} instructions");
}

/// Receives, then calls the Endpoint that rbx names with the system call that rbp names.
#[unsafe(naked)]
extern "C" fn receive_and_call() -> ! {
    core::arch::naked_asm!("syscall", "mov rdx, rbx", "mov rax, rbp", "xor esi, esi", "syscall", "ud2")
}

/// So many threads, each of which waits for the answer of the next; the last waits for a receiver. The first.
fn chain_of_calls(w: &mut World, memory: Untyped, length: u32) -> ipc::Tcb {
    let [endpoints, threads] = [w.slots(length), w.slots(2 * length)];
    for at in 0..length {
        UNTYPED.retype(Kind::Endpoint, 0, CNODE.0, (endpoints.0 + at).into(), 1).must("an Endpoint");
    }
    let thread = |at: u32, number: abi::Syscall, on: u32| {
        let registers = Registers {
            rip: receive_and_call as *const () as u64,
            rax: number.number().into(),
            rdx: on.into(),
            rbx: (on + 1).into(),
            rbp: abi::Syscall::call.number().into(),
            ..Registers::default()
        };
        bare_thread(memory, (CPtr(threads.0 + at), CPtr(threads.0 + length + at)), 150, &registers)
    };
    for at in 1..length {
        thread(at, abi::Syscall::recv, endpoints.0 + at - 1);
    }
    thread(0, abi::Syscall::call, endpoints.0)
}

fn a_chain_of_a_thousand_calls_is_taken_apart_in_steps(w: &mut World) {
    let memory = w.make_sized(Kind::Untyped, 22);
    chain_of_calls(w, Untyped(memory), 1000);
    with_a_clock(w, |_| CNODE.revoke(memory.into_slot()).must("a revoke"));
}

fn stopping_the_first_of_a_thousand_calls_gives_way(w: &mut World) {
    let first = chain_of_calls(w, UNTYPED, 1000);
    assert_eq!(first.status().must("a status")[0], crate::world::BLOCKED);
    with_a_clock(w, |_| first.suspend().must("stopping it"));
    assert_eq!(first.status().must("a status")[0], crate::world::INACTIVE);
}

fn a_map_of_a_gigabyte_that_is_refused_gives_way(w: &mut World) {
    let (space, frame) = (large_space(w), w.slot());
    Untyped(CPtr(slots::DEVICE)).retype(Kind::Frame, 30, CNODE.0, frame.into_slot(), 1).must("a Frame");
    with_a_clock(w, |_| {
        assert_eq!(space.map(frame, HERE, 0, 1 << 18, MapFlags::READ), Err(Error::OutOfTables));
    });
    w.delete(frame);
}

/// A revoke of 2,048 slots; the time that it takes of the thread's own.
fn revoke_2048(cnode: CNode, endpoint: CPtr) -> u64 {
    for slot in 2..2050 {
        cnode.copy(slot, CNODE.0, endpoint.into_slot()).must("a copy");
    }
    SCHED_CONTEXT.consumed().must("its time");
    CNODE.revoke(endpoint.into_slot()).must("a revoke");
    SCHED_CONTEXT.consumed().must("its time")
}

fn a_burier_does_not_hold_up_a_revoke(w: &mut World) {
    let (cnode, endpoint) = (w.cspace(12), w.endpoint());
    let alone = revoke_2048(cnode, endpoint);
    // A CNode full of CNodes that are buried with it, again and again.
    let [memory, outer] = [w.make_sized(Kind::Untyped, 22), w.slot()];
    let turn = w.microseconds(50);
    w.thread().budget(turn, turn).start(move || {
        loop {
            Untyped(memory).retype(Kind::CNode, 13, CNODE.0, outer.into_slot(), 1).must("a CNode");
            for at in 0..100 {
                let first = 2 + 64 * at;
                Untyped(memory).retype(Kind::CNode, 2, outer, first, 64).must("CNodes");
            }
            arena::add(0, 1);
            CNODE.delete(outer.into_slot()).must("a burial");
        }
    });
    w.until("it buries", || arena::get(0) > 2);
    for _ in 0..5 {
        let beside = revoke_2048(cnode, endpoint);
        assert!(!w.setup.icount || beside < 2 * alone, "{beside} instructions instead of {alone}");
    }
}

fn deleting_an_empty_slot_empties_no_grave(w: &mut World) {
    let (endpoint, empty) = (w.endpoint(), w.slot());
    let cnode = full_cnode(w, 16, endpoint, (1 << 16) - 2);
    let before = count();
    let burier = w.thread().priority(50).start(move || {
        CNODE.delete(cnode.0.into_slot()).must("a burial");
    });
    w.until("it has begun", || count() < before - 100);
    assert!(!burier.is_done(), "it was over before it could be seen");
    let (left, since) = (count(), now());
    w.delete(empty);
    let took = now() - since;
    assert_eq!(count(), left, "what another has buried was emptied");
    assert!(!w.setup.icount || took < 2_000, "it took {took} instructions");
    w.join(&burier);
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
