//! Who runs, for how long.

use abi::table::method;
use abi::{Kind, Syscall};
use objects::tcb::State;

use crate::world::{Done, PRIORITY, TURN, World, root};

#[test]
fn a_thread_that_sets_its_own_priority_gets_its_result() {
    let w = World::new();
    let (cap, _, tcb) = w.active_on(0);
    for priority in [PRIORITY + 1, PRIORITY, PRIORITY - 1] {
        let args = [u64::from(cap), u64::from(priority)];
        assert!(w.invoke_as(tcb, root::SCHED_CONTROL, method::SchedControl::set_priority, &args).is_ok());
        assert_eq!(tcb.priority.get(), priority);
        // What comes in next is not taken for void.
        assert!(!w.cpus[0].abandoned.get());
        if priority < PRIORITY {
            assert_eq!(w.cpus[0].thread(), w.root);
        } else {
            w.run(tcb);
        }
    }
}

#[test]
fn a_thread_that_stops_itself_leaves_its_cpu_to_others_at_once() {
    let w = World::new();
    let (cap, _, tcb) = w.active_on(0);
    let done = w.syscall(tcb, Syscall::invoke, u64::from(cap), u64::from(method::Tcb::suspend), [0; 8]);
    assert_eq!(done, Done::Blocked);
    assert_eq!(tcb.state.get(), State::Inactive);
    assert!(!w.cpus[0].abandoned.get());
    assert_eq!(w.cpus[0].thread(), w.root);
    w.invoke(cap, method::Tcb::resume, &[]).unwrap();
    assert!(w.result(tcb).is_ok());
}

#[test]
fn threads_of_one_priority_take_turns() {
    let w = World::new();
    let (a, b) = (w.thread(), w.thread());
    w.run(a);
    let mut order = Vec::new();
    for _ in 0..6 {
        order.push(w.cpus[0].thread());
        w.pass(TURN);
        crate::invariants::check(&w);
    }
    assert_eq!(order[..3], order[3..]);
    assert!(order.contains(&a) && order.contains(&b) && order.contains(&w.root));
}

#[test]
fn the_highest_priority_runs() {
    let w = World::new();
    let (cap, _, tcb) = w.active_on(0);
    w.run(w.root);
    w.set_priority(cap, PRIORITY + 1);
    assert_eq!(w.cpus[0].thread(), tcb);
    w.pass(10 * TURN);
    assert_eq!(w.cpus[0].thread(), tcb);
}

#[test]
fn a_budget_is_enforced_and_filled_up_every_period() {
    let w = World::new();
    let (cap, tcb) = w.passive();
    let context = w.budget_from(root::UNTYPED, 0, 3_000, 30_000);
    w.bind(context, cap);
    w.set_priority(cap, PRIORITY + 1);
    assert_eq!(w.cpus[0].thread(), tcb);
    let start = w.machine.now.get();
    let mut ran = 0;
    for _ in 0..3_000 {
        if w.cpus[0].thread() == tcb {
            ran += 100;
        }
        w.pass(100);
    }
    assert_eq!(w.machine.now.get() - start, 300_000);
    assert!((29_000..=33_100).contains(&ran), "it ran {ran} ticks of 300,000");
    while w.cpus[0].thread() == tcb {
        w.pass(100);
        ran += 100;
    }
    let consumed = w.invoke(context, method::SchedContext::consumed, &[]).unwrap()[0];
    assert!(consumed.abs_diff(ran) <= 3_000, "{consumed} {ran}");
}

#[test]
fn a_thread_without_a_budget_does_not_run() {
    let w = World::new();
    let (cap, context, tcb) = w.active_on(0);
    w.invoke(context, method::SchedContext::unbind, &[]).unwrap();
    w.pass(10 * TURN);
    assert_ne!(w.cpus[0].thread(), tcb);
    w.bind(context, cap);
    w.pass(2 * TURN);
    w.run(tcb);
}

#[test]
fn a_deadline_ends_a_wait_on_time_and_not_before() {
    for which in [Syscall::recv, Syscall::wait] {
        let w = World::new();
        let kind = if which == Syscall::recv { Kind::Endpoint } else { Kind::Notification };
        let (object, tcb) = (w.make(kind, 0), w.thread());
        let at = w.machine.now.get() + 50_000;
        let done =
            w.syscall(tcb, which, u64::from(object), abi::MsgInfo::DEADLINE, [at, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(done, Done::Blocked);
        w.pass(49_999);
        assert!(tcb.is_blocked());
        w.pass(1);
        assert_eq!(w.word(tcb), Err(abi::Error::TimedOut));
    }
}

#[test]
fn processor_time_that_nobody_gave_is_not_bound() {
    let w = World::new();
    let (cap, _) = w.passive();
    let context = w.make(Kind::SchedContext, 0);
    let bind = || w.invoke(context, method::SchedContext::bind, &[u64::from(cap)]).map(|_| ());
    assert_eq!(bind(), Err(abi::Error::NotConfigured));
    w.invoke(root::SCHED_CONTROL, method::SchedControl::configure, &[u64::from(context), 0, TURN, TURN, 0])
        .unwrap();
    assert_eq!(bind(), Ok(()));
    assert_eq!(bind(), Err(abi::Error::Busy));
}

#[test]
fn a_short_call_that_found_the_lock_taken_leaves_in_the_right_address_space() {
    // (Then it comes by the general way, which had not noted what is loaded.)
    let w = World::new();
    let other = w.thread();
    assert_ne!(other.cr3.get(), w.root.cr3.get());
    w.run(w.root);
    w.run(other);
    assert_eq!(w.syscall(other, Syscall::nop, 0, 0, [0; 8]), Done::With(w.result(other)));
    w.prepare(other, Syscall::yield_now, 0, 0, [0; 8]);
    w.trap(0);
    assert_eq!(w.cpus[0].thread(), w.root);
    w.prepare(w.root, Syscall::yield_now, 0, 0, [0; 8]);
    w.trap(0);
    assert_eq!(w.cpus[0].thread(), other);
    w.prepare(other, Syscall::yield_now, 0, 0, [0; 8]);
    w.trap(0);
    assert_eq!(w.machine.roots[0].get(), w.cpus[0].thread().cr3.get());
}

#[test]
fn a_deadline_that_another_cpu_sets_is_kept_although_the_thread_there_goes_on() {
    let w = World::with_cpus(2);
    let endpoint = w.make(Kind::Endpoint, 0);
    let (_, context, tcb) = w.active_on(0);
    let (_, _, other) = w.active_on(1);
    let at = w.machine.now.get() + 500;
    w.syscall(tcb, Syscall::recv, u64::from(endpoint), abi::MsgInfo::DEADLINE, [at, 0, 0, 0, 0, 0, 0, 0]);
    // The wait moves over, with its deadline.
    let args = [u64::from(context), 1, TURN, TURN, 0];
    w.invoke(root::SCHED_CONTROL, method::SchedControl::configure, &args).unwrap();
    assert_eq!(w.cpus[1].thread(), other);
    w.pass(500);
    assert_eq!(w.word(tcb), Err(abi::Error::TimedOut));
}

#[test]
fn many_deadlines_end_each_on_its_time_whatever_is_broken_off_between() {
    let w = World::of_size(crate::world::Size { cpus: 1, slots: 9, untyped: 22 });
    let notification = w.make(Kind::Notification, 0);
    let mut seed = crate::seed::Seed::new(7);
    let start = w.machine.now.get() + 1_000;
    let mut waits = Vec::new();
    for _ in 0..60 {
        let (cap, _, tcb) = w.active_on(0);
        let at = start + u64::from(seed.next() % 5_000);
        let words = [at, 0, 0, 0, 0, 0, 0, 0];
        w.syscall(tcb, Syscall::wait, u64::from(notification), abi::MsgInfo::DEADLINE, words);
        waits.push((at, cap, tcb));
    }
    while !waits.is_empty() {
        // Some are broken off, from anywhere in the heap.
        for _ in 0..seed.next() % 3 {
            let (_, cap, tcb) = waits.swap_remove(seed.next() as usize % waits.len());
            w.invoke(cap, method::Tcb::suspend, &[]).unwrap();
            assert_eq!(tcb.timer.at.get(), 0);
            if waits.is_empty() {
                return;
            }
        }
        w.pass(200);
        let now = w.machine.now.get();
        for &(at, _, tcb) in &waits {
            assert_eq!(tcb.is_blocked(), at > now, "{at} at {now}");
        }
        waits.retain(|&(at, _, _)| at > now);
    }
}
