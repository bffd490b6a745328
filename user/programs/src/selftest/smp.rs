//! Several CPUs at once: what one does to threads, mappings and objects that another is using.

use abi::message::fault;
use abi::{CPtr, Error, Kind, MapFlags, PAGE_SIZE};
use ipc::{Message, Untyped, VSpace};

use crate::arena;
use crate::row;
use crate::table::{Need, Test};
use crate::world::{CNODE, INACTIVE, Must, READY, SCHED_CONTROL, Slot, Thread, VSPACE, World, now, unless};

/// The tests of this area.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    row!("smp", a_thread_that_runs_elsewhere_is_stopped_at_once, "after a suspend from another CPU the thread has done its last instruction, and goes on where it was", Need::Cpus(2)),
    row!("smp", a_thread_that_runs_elsewhere_is_deleted_at_once, "a running thread is deleted from another CPU, and its memory is free", Need::Cpus(2)),
    row!("smp", a_priority_is_changed_under_a_running_thread, "priorities of threads that run on other CPUs can be changed", Need::Cpus(2)),
    row!("smp", a_sched_context_is_taken_from_a_running_thread, "unbinding from another CPU stops the thread", Need::Cpus(2)),
    row!("smp", a_cspace_is_taken_from_a_running_thread, "a CNode is deleted while a thread on another CPU makes system calls with it", Need::Cpus(2)),
    row!("smp", an_address_space_is_destroyed_under_a_running_thread, "a VSpace is deleted while threads run in it on all CPUs", Need::Cpus(2)),
    row!("smp", an_unmapped_page_is_gone_on_every_cpu, "after an unmap no CPU reaches the page any more", Need::Cpus(2)),
    row!("smp", a_protected_page_is_protected_on_every_cpu, "after protect no CPU writes the page any more", Need::Cpus(2)),
    row!("smp", frames_are_reused_from_all_cpus_at_once, "all CPUs map, use, unmap and reuse frames of one address space; each sees its own only", Need::Cpus(2)),
    row!("smp", freed_memory_is_written_by_nobody, "a Frame that was deleted while all CPUs wrote to it stays as it was when it is made anew", Need::Cpus(2)),
    row!("smp", all_cpus_make_and_destroy_objects, "objects are made and destroyed on all CPUs at once without loss", Need::Cpus(2)),
    row!("smp", all_cpus_derive_and_revoke_one_tree, "capabilities of one object are derived, moved and revoked on all CPUs at once", Need::Cpus(2)),
    row!("smp", all_cpus_call_within_themselves, "fast calls on all CPUs at once do not disturb each other", Need::Cpus(2)),
    row!("smp", threads_meet_at_one_endpoint_from_all_cpus, "callers and servers on all CPUs at one Endpoint exchange every message once", Need::Cpus(2)),
    row!("smp", a_deadline_and_a_message_from_elsewhere_do_not_both_win, "a receive ends with the message or with TimedOut, and no message is lost or doubled", Need::Cpus(2)),
    row!("smp", resume_and_suspend_from_all_cpus_are_survived, "threads are stopped, resumed, kicked and re-prioritised by all CPUs at once", Need::Cpus(2)),
];

const HERE: u64 = 0x30_0000_0000;

/// A thread that counts in shared word `at` on another CPU.
fn counting(w: &mut World, at: usize, cpu: u64) -> Thread {
    let thread = w.thread().cpu(cpu).priority(50).start(move || {
        loop {
            arena::add(at, 1);
            core::hint::spin_loop();
        }
    });
    w.until("it runs", || arena::get(at) > 0);
    thread
}

fn a_thread_that_runs_elsewhere_is_stopped_at_once(w: &mut World) {
    let thread = counting(w, 0, 1);
    for _ in 0..50 {
        thread.tcb.suspend().must("stopping it");
        let seen = arena::get(0);
        assert_eq!(thread.state(), INACTIVE);
        for _ in 0..1000 {
            assert_eq!(arena::get(0), seen);
        }
        thread.tcb.resume().must("letting it run");
        w.until("it runs", || arena::get(0) > seen);
    }
}

fn a_thread_that_runs_elsewhere_is_deleted_at_once(w: &mut World) {
    let memory = Untyped(w.make_sized(Kind::Untyped, 12));
    for _ in 0..20 {
        arena::set(0, 0);
        w.thread().made_of(memory).cpu(1).start(|| {
            loop {
                arena::add(0, 1);
                core::hint::spin_loop();
            }
        });
        w.until("it runs", || arena::get(0) > 0);
        CNODE.revoke(memory.0.into_slot()).must("a revoke");
        let seen = arena::get(0);
        assert_eq!(CNODE.describe(memory.0.into_slot()).must("a look").free, 1 << 12);
        assert!((0..1000).all(|_| arena::get(0) == seen));
    }
}

fn a_priority_is_changed_under_a_running_thread(w: &mut World) {
    let [one, other] = [counting(w, 0, 1), counting(w, 1, 1)];
    for round in 0..50 {
        let (high, low, at) = if round % 2 == 0 { (&one, &other, 0) } else { (&other, &one, 1) };
        SCHED_CONTROL.set_priority(low.tcb.0, 20).must("a priority");
        SCHED_CONTROL.set_priority(high.tcb.0, 60).must("a priority");
        let seen = arena::get(at);
        w.until("the higher one runs", || arena::get(at) > seen);
    }
}

fn a_sched_context_is_taken_from_a_running_thread(w: &mut World) {
    let thread = counting(w, 0, 1);
    for _ in 0..50 {
        thread.context.unbind().must("unbinding");
        let seen = arena::get(0);
        assert!((0..1000).all(|_| arena::get(0) == seen));
        assert_eq!(thread.state(), READY);
        thread.context.bind(thread.tcb.0).must("binding");
        w.until("it runs", || arena::get(0) > seen);
    }
}

fn a_cspace_is_taken_from_a_running_thread(w: &mut World) {
    for round in 0..20 {
        let (cspace, notification) = (w.cspace(4), w.notification());
        w.give(cspace, 2, notification);
        w.thread().cpu(1).cspace(cspace).start(move || {
            while ipc::signal(CPtr(2)).is_ok() {
                arena::set(0, round + 1);
            }
            arena::set(1, round + 1);
        });
        w.until("it runs", || arena::get(0) == round + 1);
        w.delete(cspace.0);
        w.until("it notices", || arena::get(1) == round + 1);
    }
}

fn an_address_space_is_destroyed_under_a_running_thread(w: &mut World) {
    for _ in 0..10 {
        let space = w.space();
        let cpus = w.cpus();
        arena::set(0, 0);
        let threads: [Thread; 4] = core::array::from_fn(|at| {
            w.thread().cpu(at as u64 % cpus).priority(50).space(space).start(move || {
                arena::add(0, 1);
                loop {
                    arena::add(1, 1);
                    core::hint::spin_loop();
                }
            })
        });
        w.until("all run", || arena::get(0) == 4);
        w.delete(space.0);
        let seen = arena::get(1);
        assert!(threads.iter().all(|thread| thread.state() == INACTIVE));
        assert_eq!(arena::get(1), seen);
        threads.iter().for_each(|thread| w.delete(thread.tcb.0));
    }
}

/// A thread on each CPU writes to a page until it faults; meanwhile `act` takes the page from them. The faults'
/// error codes must be `code`, and nothing may be written afterwards.
fn take_page_from_writers(w: &mut World, act: fn(), code: u64) {
    let [frame, faults] = [w.frame(1), w.endpoint()];
    VSPACE.map(frame, HERE, 0, 1, MapFlags::WRITE).must("a map");
    VSPACE.map(frame, HERE + PAGE_SIZE, 0, 1, MapFlags::READ).must("another view");
    let cpus = w.cpus();
    for cpu in 0..cpus {
        w.thread().cpu(cpu).priority(50).faults_to(faults).start(move || {
            for round in 1u64.. {
                // SAFETY: a word of its own in the page, until it is taken away.
                unsafe { ((HERE + 8 * cpu) as *mut u64).write_volatile(round) };
                if round == 1 {
                    arena::add(0, 1);
                }
            }
        });
    }
    w.until("all write", || arena::get(0) == cpus);
    act();
    // SAFETY: mapped above.
    let words = || unsafe { ((HERE + PAGE_SIZE) as *const [u64; 8]).read_volatile() };
    let seen = words();
    for _ in 0..cpus {
        let heard = ipc::recv(faults, CPtr::NULL).must("a fault").message.words;
        assert_eq!([heard[fault::KIND], heard[fault::CODE]], [14, code]);
        assert!((HERE..HERE + 64).contains(&heard[fault::ADDRESS]));
        ipc::reply(Message::new(1)).must("an answer");
    }
    assert_eq!(words(), seen, "someone has written after it was taken");
}

fn an_unmapped_page_is_gone_on_every_cpu(w: &mut World) {
    take_page_from_writers(w, || VSPACE.unmap(HERE, 1).must("an unmap"), 6);
}

fn a_protected_page_is_protected_on_every_cpu(w: &mut World) {
    take_page_from_writers(w, || VSPACE.protect(HERE, 1, MapFlags::READ).must("a protect"), 7);
}

fn frames_are_reused_from_all_cpus_at_once(w: &mut World) {
    let threads = w.cpus() * 2;
    let (space, pool) = (w.space(), w.frame(64));
    for number in 0..threads {
        w.thread().cpu(number / 2).space(space).start(move || {
            for round in 0..60 {
                use_a_page(space, pool, number, round);
            }
            arena::add(0, 1);
        });
    }
    w.until("all are through", || arena::get(0) == threads);
}

/// Takes a page of the pool that nobody else has, maps it, writes and checks it, unmaps it, gives it back.
fn use_a_page(space: VSpace, pool: CPtr, number: u64, round: u64) {
    let page = (0..).map(|try_at| (number * 7 + round + try_at) % 64).find(|&page| {
        let taken = arena::word(10 + page as usize);
        taken.swap(1, core::sync::atomic::Ordering::SeqCst) == 0
    });
    let page = page.unwrap_or(0);
    let address = HERE + number * 16 * PAGE_SIZE + round % 4 * PAGE_SIZE;
    space.map(pool, address, page * PAGE_SIZE, 1, MapFlags::WRITE).must("a map");
    let mark = number << 32 | round;
    for word in (address..address + PAGE_SIZE).step_by(256) {
        // SAFETY: just mapped, and this thread's alone.
        unsafe { (word as *mut u64).write_volatile(mark) };
    }
    for word in (address..address + PAGE_SIZE).step_by(256) {
        // SAFETY: as above.
        assert_eq!(unsafe { (word as *const u64).read_volatile() }, mark);
    }
    space.unmap(address, 1).must("an unmap");
    arena::set(10 + page as usize, 0);
}

fn freed_memory_is_written_by_nobody(w: &mut World) {
    let [memory, faults] = [w.make_sized(Kind::Untyped, 12), w.endpoint()];
    let cpus = w.cpus();
    for round in 0..10 {
        let frame = w.slot();
        let make = || Untyped(memory).retype(Kind::Frame, 12, CNODE.0, frame.into_slot(), 1).must("a Frame");
        make();
        VSPACE.map(frame, HERE, 0, 1, MapFlags::WRITE).must("a map");
        arena::set(0, 0);
        for cpu in 0..cpus {
            w.thread().cpu(cpu).priority(50).faults_to(faults).start(move || {
                arena::add(0, 1);
                loop {
                    // SAFETY: mapped until the Frame is deleted, which ends this thread.
                    unsafe { ((HERE + 8 * cpu) as *mut u64).write_volatile(round + 1) };
                }
            });
        }
        w.until("all write", || arena::get(0) == cpus);
        w.delete(frame);
        make();
        VSPACE.map(frame, HERE + PAGE_SIZE, 0, 1, MapFlags::READ).must("a map");
        for _ in 0..200 {
            // SAFETY: just mapped.
            let words = unsafe { ((HERE + PAGE_SIZE) as *const [u64; 8]).read_volatile() };
            assert_eq!(words, [0; 8]);
        }
        for _ in 0..cpus {
            ipc::recv(faults, CPtr::NULL).must("a fault");
            ipc::reply(Message::new(1)).must("an answer");
        }
        w.delete(frame);
    }
}

fn all_cpus_make_and_destroy_objects(w: &mut World) {
    let cpus = w.cpus();
    for cpu in 0..cpus {
        let memory = w.make_sized(Kind::Untyped, 17);
        let slots = w.slots(20);
        w.thread().cpu(cpu).start(move || {
            for round in 0..40 {
                make_some(memory, slots, round);
                CNODE.revoke(memory.into_slot()).must("a revoke");
                assert_eq!(CNODE.describe(memory.into_slot()).must("a look").free, 1 << 17);
            }
            arena::add(0, 1);
        });
    }
    w.until("all are through", || arena::get(0) == cpus);
}

fn make_some(memory: CPtr, slots: CPtr, round: u64) {
    let kinds = [
        (Kind::Endpoint, 0),
        (Kind::Tcb, 0),
        (Kind::Frame, 12),
        (Kind::CNode, 4),
        (Kind::VSpace, 14),
        (Kind::Notification, 0),
    ];
    for (at, (kind, bits)) in kinds.into_iter().enumerate() {
        let slot = slots.into_slot() + (at as u64 + round) % 20;
        Untyped(memory).retype(kind, bits, CNODE.0, slot, 1).must(kind.name());
    }
}

fn all_cpus_derive_and_revoke_one_tree(w: &mut World) {
    let endpoint = w.endpoint();
    let cpus = w.cpus();
    for cpu in 0..cpus {
        let own = w.mint(endpoint, abi::Rights::ALL, 0);
        let slots = w.slots(16).into_slot();
        w.thread().cpu(cpu).start(move || {
            for round in 0..100 {
                for at in 0..8 {
                    // From its own capability; now and then everything of someone else's goes, too.
                    let gone = [Error::NoCapability, Error::SlotOccupied];
                    unless(CNODE.copy(slots + at, CNODE.0, own.into_slot()), &gone);
                    unless(CNODE.relocate(slots + 8 + at, CNODE.0, slots + at), &gone);
                }
                unless(CNODE.revoke(own.into_slot()), &[Error::NoCapability]);
                if round % 10 == cpu {
                    CNODE.revoke(endpoint.into_slot()).must("a revoke");
                    unless(
                        CNODE.copy(own.into_slot(), CNODE.0, endpoint.into_slot()),
                        &[Error::SlotOccupied],
                    );
                }
            }
            arena::add(0, 1);
        });
    }
    w.until("all are through", || arena::get(0) == cpus);
    CNODE.revoke(endpoint.into_slot()).must("a revoke");
    assert_eq!(CNODE.describe(endpoint.into_slot()).must("a look").free, 0);
}

fn all_cpus_call_within_themselves(w: &mut World) {
    const ROUNDS: u64 = 2_000;
    let cpus = w.cpus();
    for cpu in 0..cpus {
        let (endpoint, space) = (w.endpoint(), w.space());
        w.thread().cpu(cpu).space(space).start(move || {
            let mut received = ipc::recv(endpoint, CPtr::NULL).must("a call");
            loop {
                let answer = Message::of(cpu as u32, received.message.words.map(|word| word ^ cpu));
                received = ipc::reply_recv(endpoint, answer).must("a call");
            }
        });
        w.thread().cpu(cpu).start(move || {
            for round in 0..ROUNDS {
                let answer = ipc::call(endpoint, Message::of(0, [round; 8])).must("a call");
                assert_eq!(answer, Message::of(cpu as u32, [round ^ cpu; 8]));
            }
            arena::add(0, 1);
        });
    }
    w.until("all are through", || arena::get(0) == cpus);
}

fn threads_meet_at_one_endpoint_from_all_cpus(w: &mut World) {
    const ROUNDS: u64 = 100;
    let endpoint = w.endpoint();
    let cpus = w.cpus();
    for cpu in 0..cpus {
        w.thread().cpu(cpu).start(move || {
            let mut received = ipc::recv(endpoint, CPtr::NULL).must("a call");
            loop {
                arena::add(1, received.message.words[0]);
                received = ipc::reply_recv(endpoint, received.message).must("a call");
            }
        });
        w.thread().cpu(cpu).start(move || {
            for round in 0..ROUNDS {
                let message = Message::of(3, [round, cpu]);
                assert_eq!(ipc::call(endpoint, message), Ok(message));
            }
            arena::add(0, 1);
        });
    }
    w.until("all are through", || arena::get(0) == cpus);
    assert_eq!(arena::get(1), cpus * ROUNDS * (ROUNDS - 1) / 2);
}

fn a_deadline_and_a_message_from_elsewhere_do_not_both_win(w: &mut World) {
    let endpoint = w.endpoint();
    let step = w.microseconds(20);
    let sender = w.thread().cpu(1).start(move || {
        while arena::get(1) == 0 {
            if ipc::try_send(endpoint, Message::new(5)).is_ok() {
                arena::add(0, 1);
            }
        }
    });
    let (mut received, mut timed_out) = (0, 0);
    for round in 0..500 {
        match ipc::recv_until(endpoint, CPtr::NULL, now() + round % 10 * step) {
            Ok(message) => {
                assert_eq!(message.message, Message::new(5));
                received += 1;
            }
            Err(Error::TimedOut) => timed_out += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    arena::set(1, 1);
    w.join(&sender);
    assert_eq!((arena::get(0), received + timed_out), (received, 500));
}

fn resume_and_suspend_from_all_cpus_are_survived(w: &mut World) {
    let victims: [Thread; 4] = core::array::from_fn(|at| counting(w, at, at as u64 % w.cpus()));
    let cpus = w.cpus();
    let turn = w.milliseconds(1);
    for cpu in 0..cpus {
        w.thread().cpu(cpu).start(move || {
            for round in 0..100 {
                let victim = &victims[(round * 3 + cpu as usize) % 4];
                match round % 5 {
                    0 => victim.tcb.suspend().must("a stop"),
                    1 => victim.tcb.resume().must("letting it run"),
                    2 => SCHED_CONTROL.set_priority(victim.tcb.0, 40 + round as u64 % 20).must("a priority"),
                    3 => victim.context.unbind().must("unbinding"),
                    // (Unless another CPU has bound it meanwhile.)
                    _ => {
                        let cpu = round as u64 % cpus;
                        let configured = SCHED_CONTROL.configure(victim.context.0, cpu, turn, turn, 0);
                        unless(configured, &[Error::Busy]);
                        unless(victim.context.bind(victim.tcb.0), &[Error::Busy]);
                    }
                }
            }
            arena::add(10, 1);
        });
    }
    w.until("all are through", || arena::get(10) == cpus);
    victims.iter().for_each(|victim| victim.tcb.suspend().must("stopping it"));
    for (at, victim) in victims.iter().enumerate() {
        // One at a time: the more urgent ones of a CPU, which never wait, would let no other run.
        unless(victim.context.bind(victim.tcb.0), &[Error::Busy]);
        victim.tcb.resume().must("letting it run");
        let seen = arena::get(at);
        w.until("it runs", || arena::get(at) > seen);
        victim.tcb.suspend().must("stopping it");
    }
}
