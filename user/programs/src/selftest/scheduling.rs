//! Processor time: priorities, turns, budgets.
//!
//! Times are bounds with room: what is compared are shares and orders, not speeds.

use abi::message::fault;
use abi::{CPtr, Error, Kind};
use ipc::{Message, SchedContext};

use crate::arena;
use crate::row;
use crate::table::{Need, Test};
use crate::world::{
    BLOCKED, INACTIVE, Must, READY, SCHED_CONTEXT, SCHED_CONTROL, TCB, THROTTLED, Thread, World, never_ends,
    now, unless,
};

/// The tests of this area.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    row!("scheduling", the_highest_priority_runs_first, "threads that become ready run in the order of their priorities"),
    row!("scheduling", a_lower_priority_waits_while_a_higher_one_runs, "a thread of lower priority gets no time while a higher one spins"),
    row!("scheduling", a_wake_up_of_higher_priority_preempts_at_once, "a signal to a higher thread runs it before the signaller goes on"),
    row!("scheduling", a_wake_up_of_equal_priority_does_not_preempt, "a signal to an equal thread leaves the signaller running"),
    row!("scheduling", equal_threads_take_turns, "spinning threads of equal priority get about equal time"),
    row!("scheduling", a_yield_lets_all_equals_run, "a yield runs every other ready thread of the priority once"),
    row!("scheduling", a_yield_does_not_run_lower_priorities, "a thread alone at its priority goes on after a yield"),
    row!("scheduling", a_changed_priority_takes_effect_at_once, "raising a ready thread above the running one runs it, lowering a running one does not"),
    row!("scheduling", a_spinning_thread_gets_no_more_than_its_budget, "a thread of equal priority with a budget takes its share and no more"),
    row!("scheduling", a_spinning_thread_of_higher_priority_gets_no_more_than_its_budget, "a budget bounds a higher thread, too, and the rest is left to the lower one"),
    row!("scheduling", a_budget_is_kept_on_an_idle_cpu, "a budget bounds a thread though nobody else wants the CPU"),
    row!("scheduling", a_throttled_thread_says_so_and_runs_again, "out of budget a thread is throttled until its period is over"),
    row!("scheduling", a_period_refills_the_whole_budget, "in so many periods a thread gets so many budgets"),
    row!("scheduling", running_out_of_budget_can_be_a_fault, "with the flag set, the handler hears of an exhausted budget and lets the thread go on"),
    row!("scheduling", consumed_time_is_counted, "consumed tells about the time a thread has run, and starts anew"),
    row!("scheduling", a_thread_without_a_sched_context_does_not_run, "a thread runs from the bind of a SchedContext to its unbind"),
    row!("scheduling", deleting_the_sched_context_stops_its_thread, "a thread whose SchedContext is deleted runs no more until it has another"),
    row!("scheduling", a_component_with_a_budget_cannot_delay_others, "threads with budgets, spinning at high priority and calling each other, leave a lower thread its time"),
    row!("scheduling", a_status_tells_state_cpu_and_priority, "status tells what a thread is doing, where, and at which priority"),
    row!("scheduling", a_status_tells_that_a_thread_waits_in_a_call, "status tells a wait for a receiver or an answer from any other wait"),
    row!("scheduling", every_cpu_runs_its_own_threads, "threads run on the CPU of their SchedContext, at the same time", Need::Cpus(2)),
    row!("scheduling", a_thread_moves_with_its_sched_context, "configuring a SchedContext for another CPU moves its thread", Need::Cpus(2)),
    row!("scheduling", a_budget_holds_on_another_cpu, "budgets are enforced on every CPU", Need::Cpus(2)),
    row!("scheduling", a_full_cpu_leaves_the_others_alone, "threads that fill one CPU take nothing from those of another", Need::Cpus(2)),
];

/// A spinning thread that counts in shared word `at`.
fn counting(w: &mut World, at: usize, priority: u64, cpu: u64, time: Option<(u64, u64)>) -> Thread {
    let turn = w.microseconds(200);
    let (budget, period) = time.unwrap_or((turn, turn));
    w.thread().cpu(cpu).priority(priority).budget(budget, period).start(move || {
        loop {
            arena::add(at, 1);
        }
    })
}

/// The time that threads consume while this one sleeps so long.
fn consumed_while<const N: usize>(w: &World, milliseconds: u64, threads: [&Thread; N]) -> [u64; N] {
    let consumed = || threads.map(|thread| thread.context.consumed().must("its time"));
    consumed();
    w.sleep(milliseconds);
    consumed()
}

/// Whether a share of time is from `least` to `most`. Where time goes on while the host does other things, whoever
/// runs then is charged for it: there the range is wider, but no share without a limit is in it.
fn within(w: &World, share: u64, least: u64, most: u64) -> bool {
    if w.setup.icount { (least..=most).contains(&share) } else { (least / 5..=most * 5 / 2).contains(&share) }
}

fn the_highest_priority_runs_first(w: &mut World) {
    SCHED_CONTROL.set_priority(TCB.0, 150).must("above all of them");
    for (at, priority) in [40, 90, 10, 70, 60].into_iter().enumerate() {
        w.thread().priority(priority).start(move || {
            let order = arena::add(0, 1);
            arena::set(10 + at, order + 1);
        });
    }
    w.until("all have run", || arena::get(0) == 5);
    assert_eq!(core::array::from_fn(|at| arena::get(10 + at)), [4, 1, 5, 2, 3]);
}

fn a_lower_priority_waits_while_a_higher_one_runs(w: &mut World) {
    let low = counting(w, 0, 20, 0, None);
    w.until("it runs", || arena::get(0) > 0);
    let high = counting(w, 1, 30, 0, None);
    w.measured(|| {
        let [of_low, of_high] = consumed_while(w, 20, [&low, &high]);
        if of_low * 50 < of_high { Ok(()) } else { Err((of_low, of_high)) }
    });
    high.tcb.suspend().must("stopping it");
    w.until("the low one runs", || low.context.consumed().must("its time") > 0);
}

fn a_wake_up_of_higher_priority_preempts_at_once(w: &mut World) {
    let notification = w.notification();
    let high = w.thread().priority(120).start(move || {
        for _ in 0..10 {
            ipc::wait(notification).must("a signal");
            arena::add(0, 1);
        }
    });
    for round in 1..=10 {
        w.until_blocked(&high);
        ipc::signal(notification).must("a signal");
        assert_eq!(arena::get(0), round);
        if round == 10 {
            break;
        }
    }
    w.join(&high);
}

fn a_wake_up_of_equal_priority_does_not_preempt(w: &mut World) {
    let notification = w.notification();
    let equal = w.thread().start(move || {
        ipc::wait(notification).must("a signal");
        arena::set(0, 1);
    });
    w.until_blocked(&equal);
    // With a turn that no pause of the host's ends.
    let hour = w.milliseconds(3_600_000);
    SCHED_CONTROL.configure(SCHED_CONTEXT.0, 0, hour, hour, 0).must("a long turn");
    ipc::signal(notification).must("a signal");
    assert_eq!(arena::get(0), 0);
    w.join(&equal);
}

fn equal_threads_take_turns(w: &mut World) {
    let threads: [Thread; 3] = core::array::from_fn(|at| counting(w, at, 50, 0, None));
    let [a, b, c] = &threads;
    // Long enough that one pause of the host's, which is charged to whoever runs, does not decide.
    w.measured(|| {
        let times = consumed_while(w, if w.setup.icount { 40 } else { 400 }, [a, b, c]);
        let whole: u64 = times.iter().sum();
        if times.iter().all(|time| (whole / 5..=whole / 2).contains(time)) { Ok(()) } else { Err(times) }
    });
}

fn a_yield_lets_all_equals_run(w: &mut World) {
    let turn = w.milliseconds(3_600_000);
    SCHED_CONTROL.set_priority(TCB.0, 120).must("above them");
    let threads: [Thread; 3] = core::array::from_fn(|at| {
        w.thread().budget(turn, turn).start(move || {
            for _ in 0..100 {
                arena::add(at, 1);
                // Nobody is more than one round ahead.
                let counts: [u64; 3] = core::array::from_fn(arena::get);
                let (least, most) = (counts.iter().min(), counts.iter().max());
                assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{counts:?}");
                ipc::yield_now();
            }
        })
    });
    threads.iter().for_each(|thread| w.join(thread));
}

fn a_yield_does_not_run_lower_priorities(w: &mut World) {
    counting(w, 0, 99, 0, None);
    for _ in 0..100 {
        ipc::yield_now();
    }
    assert_eq!(arena::get(0), 0);
}

fn a_changed_priority_takes_effect_at_once(w: &mut World) {
    let thread = w.thread().priority(50).start(|| arena::set(0, 1));
    assert_eq!(arena::get(0), 0);
    SCHED_CONTROL.set_priority(thread.tcb.0, 120).must("above this one");
    assert_eq!(arena::get(0), 1);
    w.thread().priority(90).start(|| arena::set(1, 1));
    assert_eq!(arena::get(1), 0);
    SCHED_CONTROL.set_priority(TCB.0, 80).must("below that one");
    assert_eq!(arena::get(1), 1);
}

/// Of a thread with a fifth of the time, beside one without a limit, the share in thousandths is from `least` to 260.
fn share_of_a_fifth(w: &mut World, priority: u64, least: u64) {
    let period = w.milliseconds(5);
    let limited = counting(w, 0, priority, 0, Some((period / 5, period)));
    let other = counting(w, 1, 50, 0, None);
    w.measured(|| {
        let start = now();
        let [of_limited, of_other] = consumed_while(w, 100, [&limited, &other]);
        let whole = now() - start;
        let share = of_limited * 1000 / whole;
        // (A pause of the host's is charged to whoever runs.)
        let of_others = if w.setup.icount { 5 } else { 3 };
        let fair = of_other * 10 > whole * of_others && within(w, share, least, 260);
        if fair { Ok(()) } else { Err((share, of_other, whole)) }
    });
}

fn a_spinning_thread_gets_no_more_than_its_budget(w: &mut World) {
    share_of_a_fifth(w, 50, 50);
}

fn a_spinning_thread_of_higher_priority_gets_no_more_than_its_budget(w: &mut World) {
    share_of_a_fifth(w, 60, 150);
}

fn a_budget_is_kept_on_an_idle_cpu(w: &mut World) {
    let period = w.milliseconds(5);
    let limited = counting(w, 0, 50, 0, Some((period / 5, period)));
    w.measured(|| {
        let start = now();
        let [time] = consumed_while(w, 100, [&limited]);
        let share = time * 1000 / (now() - start);
        if within(w, share, 150, 260) { Ok(()) } else { Err(share) }
    });
}

fn a_throttled_thread_says_so_and_runs_again(w: &mut World) {
    let period = w.milliseconds(50);
    let limited = counting(w, 0, 50, 0, Some((period / 50, period)));
    w.measured(|| {
        w.until("it is throttled", || limited.state() == THROTTLED);
        let seen = arena::get(0);
        w.sleep(5);
        let later = (limited.state(), arena::get(0));
        w.until("it runs again", || arena::get(0) > seen);
        if later == (THROTTLED, seen) { Ok(()) } else { Err((later, seen)) }
    });
    limited.tcb.suspend().must("stopping it");
    assert_eq!(limited.state(), INACTIVE);
}

fn a_period_refills_the_whole_budget(w: &mut World) {
    let period = w.milliseconds(4);
    let limited = counting(w, 0, 90, 0, Some((period / 4, period)));
    // A hundred periods, so that one pause of the host's, which is charged to whoever runs, does not decide.
    w.measured(|| {
        let [time] = consumed_while(w, 400, [&limited]);
        let budgets = time * 4 / period;
        if within(w, budgets, 80, 130) { Ok(()) } else { Err(budgets) }
    });
}

fn running_out_of_budget_can_be_a_fault(w: &mut World) {
    let faults = w.endpoint();
    let period = w.milliseconds(5);
    let thread =
        w.thread().priority(50).budget(period / 5, period).fault_when_out().faults_to(faults).start(|| {
            loop {
                arena::add(0, 1);
            }
        });
    for _ in 0..3 {
        let heard = ipc::recv(faults, CPtr::NULL).must("a fault").message.words;
        assert_eq!(heard[fault::KIND], fault::BUDGET);
        assert_eq!(thread.state(), BLOCKED);
        ipc::reply(Message::new(0)).must("an answer");
    }
    assert!(arena::get(0) > 0);
}

fn consumed_time_is_counted(w: &mut World) {
    let thread = counting(w, 0, 90, 0, None);
    w.measured(|| {
        let start = now();
        let [time] = consumed_while(w, 20, [&thread]);
        let whole = now() - start;
        // (A pause of the host's is charged to whoever runs.)
        let least = if w.setup.icount { 7 } else { 3 };
        assert!(time <= whole, "{time} of {whole}");
        if time * 10 > whole * least { Ok(()) } else { Err((time, whole)) }
    });
    thread.tcb.suspend().must("stopping it");
    thread.context.consumed().must("its time");
    assert_eq!(thread.context.consumed(), Ok(0));
    // One's own, too.
    SCHED_CONTEXT.consumed().must("its time");
    let start = now();
    while now() < start + w.milliseconds(2) {}
    let own = SCHED_CONTEXT.consumed().must("its time");
    assert!(own > w.milliseconds(1), "{own}");
}

fn a_thread_without_a_sched_context_does_not_run(w: &mut World) {
    let thread = w.thread().passive().priority(50).start(|| {
        loop {
            arena::add(0, 1);
            ipc::yield_now();
        }
    });
    w.sleep(2);
    assert_eq!(arena::get(0), 0);
    thread.context.bind(thread.tcb.0).must("binding");
    w.until("it runs", || arena::get(0) > 0);
    thread.context.unbind().must("unbinding");
    let seen = arena::get(0);
    w.sleep(5);
    assert_eq!(arena::get(0), seen);
    thread.context.bind(thread.tcb.0).must("binding");
    w.until("it runs again", || arena::get(0) > seen);
}

fn deleting_the_sched_context_stops_its_thread(w: &mut World) {
    let thread = counting(w, 0, 50, 0, None);
    w.until("it runs", || arena::get(0) > 0);
    w.delete(thread.context.0);
    let seen = arena::get(0);
    w.sleep(5);
    assert_eq!(arena::get(0), seen);
    let turn = w.milliseconds(10);
    let context = SchedContext(w.make(Kind::SchedContext));
    SCHED_CONTROL.configure(context.0, 0, turn, turn, 0).must("time");
    context.bind(thread.tcb.0).must("binding");
    w.until("it runs again", || arena::get(0) > seen);
}

fn a_component_with_a_budget_cannot_delay_others(w: &mut World) {
    let endpoint = w.endpoint();
    let period = w.milliseconds(4);
    for number in 0..3 {
        let space = w.space();
        w.thread().priority(200).budget(period / 20, period).space(space).start(move || {
            loop {
                // Calls, sends, spins, yields: whatever it does, it pays for.
                match number {
                    0 => ipc::yield_now(),
                    1 => assert_eq!(ipc::call(endpoint, Message::new(1)), Ok(Message::new(1))),
                    _ => {
                        let received = ipc::try_recv(endpoint, CPtr::NULL).map(|_| ());
                        unless(received, &[Error::WouldBlock]);
                        assert_eq!(ipc::reply(Message::new(1)), received.map_err(|_| Error::NoCaller));
                    }
                }
            }
        });
    }
    let victim = counting(w, 0, 50, 0, None);
    w.measured(|| {
        let start = now();
        let [time] = consumed_while(w, 60, [&victim]);
        let share = time * 1000 / (now() - start);
        // (Three spinners without a budget would leave nothing.)
        if share > if w.setup.icount { 600 } else { 200 } { Ok(()) } else { Err(share) }
    });
}

fn a_status_tells_state_cpu_and_priority(w: &mut World) {
    let cpu = w.cpus() - 1;
    let notification = w.notification();
    let thread = w.thread().cpu(cpu).priority(33).prepare();
    assert_eq!(thread.tcb.status(), Ok([INACTIVE, cpu, 33, 0]));
    thread.run(move || {
        ipc::wait(notification).must("a signal");
        loop {
            core::hint::spin_loop();
        }
    });
    w.until_blocked(&thread);
    assert_eq!(thread.tcb.status(), Ok([BLOCKED, cpu, 33, 0]));
    ipc::signal(notification).must("a signal");
    w.until("it runs", || thread.state() == READY);
    thread.tcb.suspend().must("stopping it");
    SCHED_CONTROL.set_priority(thread.tcb.0, 44).must("another priority");
    assert_eq!(thread.tcb.status(), Ok([INACTIVE, cpu, 44, 0]));
}

fn a_status_tells_that_a_thread_waits_in_a_call(w: &mut World) {
    let endpoint = w.endpoint();
    let caller = w.thread().start(move || {
        ipc::call(endpoint, Message::of(1, [2])).must("an answer");
        never_ends(ipc::recv(endpoint, CPtr::NULL));
    });
    w.until_blocked(&caller);
    let calls = |thread: &Thread| thread.tcb.status().must("a status")[3];
    assert_eq!(calls(&caller), 1, "nobody receives yet");
    let received = ipc::recv(endpoint, CPtr::NULL).must("its call");
    assert_eq!((received.message.words[0], calls(&caller)), (2, 1), "it waits for the answer");
    ipc::reply(Message::new(0)).must("the answer");
    w.until_blocked(&caller);
    assert_eq!(calls(&caller), 0, "it receives");
}

fn every_cpu_runs_its_own_threads(w: &mut World) {
    let cpus = w.cpus();
    // Each waits, spinning, for all the others: they come to an end only if all run at the same time.
    let turn = w.milliseconds(10_000);
    for cpu in 0..cpus {
        w.thread().cpu(cpu).budget(turn, turn).priority(90).start(move || {
            arena::add(0, 1);
            while arena::get(0) < cpus {
                core::hint::spin_loop();
            }
            arena::add(1, 1);
        });
    }
    w.until("all have met", || arena::get(1) == cpus);
}

fn a_thread_moves_with_its_sched_context(w: &mut World) {
    let notification = w.notification();
    let thread = w.thread().start(move || {
        loop {
            ipc::wait(notification).must("a signal");
            arena::add(0, 1);
        }
    });
    for round in 0..20 {
        w.until_blocked(&thread);
        let cpu = round % w.cpus();
        let turn = w.milliseconds(10);
        SCHED_CONTROL.configure(thread.context.0, cpu, turn, turn, 0).must("another CPU");
        assert_eq!(thread.tcb.status().must("a status")[1], cpu);
        ipc::signal(notification).must("a signal");
        w.until("it runs there", || arena::get(0) == round + 1);
    }
}

fn a_budget_holds_on_another_cpu(w: &mut World) {
    let period = w.milliseconds(5);
    let limited = counting(w, 0, 50, 1, Some((period / 5, period)));
    let other = counting(w, 1, 50, 1, None);
    w.until("both run", || arena::get(0) > 0 && other.context.consumed().must("its time") > 0);
    w.measured(|| {
        // (Time that the other CPU has not charged yet would be missing at both ends.)
        limited.tcb.suspend().must("stopping it");
        let start = now();
        limited.context.consumed().must("its time");
        limited.tcb.resume().must("letting it run");
        w.sleep(100);
        limited.tcb.suspend().must("stopping it");
        let time = limited.context.consumed().must("its time");
        let share = time * 1000 / (now() - start);
        if within(w, share, 30, 270) { Ok(()) } else { Err(share) }
    });
}

fn a_full_cpu_leaves_the_others_alone(w: &mut World) {
    for _ in 0..4 {
        counting(w, 0, 240, 1, None);
    }
    // They are more urgent than this thread: on its CPU they would let it come to no end.
    for _ in 0..10_000 {
        ipc::nop();
    }
    w.until("the others run, too", || arena::get(0) > 100);
}
