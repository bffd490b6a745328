//! Loans: a call lends its caller's time to the server.
//!
//! Times are bounds with room: what is compared are shares and orders, not speeds.

use abi::CPtr;
use ipc::Message;

use crate::arena;
use crate::row;
use crate::table::{Need, Test};
use crate::world::{BLOCKED, Must, READY, SCHED_CONTEXT, SCHED_CONTROL, TCB, THROTTLED, Thread, World, now};

/// The tests of this area.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    row!("loans", a_passive_server_runs_on_its_callers_time, "a server without a SchedContext works on its caller's, which is charged"),
    row!("loans", a_passive_server_returns_what_was_lent, "after the answer a passive server has nothing to run on, and its caller has it back"),
    row!("loans", a_chain_of_passive_servers_runs_on_the_first_callers_time, "the loan goes along a chain of calls and comes back"),
    row!("loans", an_active_server_goes_on_when_the_loan_runs_out, "when a caller's budget runs out within an active server, the server continues on its own"),
    row!("loans", a_passive_server_waits_when_the_loan_runs_out, "a passive server stops with its caller's budget and goes on with the next one"),
    row!("loans", a_callers_time_pays_for_the_server, "work an active server does for a caller on the same CPU is charged to the caller"),
    row!("loans", a_passive_server_comes_to_its_callers_cpu, "a passive server works on the CPU of each of its callers", Need::Cpus(2)),
];

/// A passive server that spins so many ticks for each call, and its Thread.
fn passive_server(w: &mut World, endpoint: CPtr, ticks: u64) -> Thread {
    let server = w.thread().start(move || {
        let mut received = ipc::recv(endpoint, CPtr::NULL).must("a call");
        loop {
            let start = now();
            while now() < start + ticks {
                arena::add(5, 1);
            }
            received = ipc::reply_recv(endpoint, received.message).must("a call");
        }
    });
    w.until_blocked(&server);
    server.context.unbind().must("unbinding");
    server
}

fn a_passive_server_runs_on_its_callers_time(w: &mut World) {
    let endpoint = w.endpoint();
    let work = w.milliseconds(5);
    passive_server(w, endpoint, work);
    w.measured(|| calls_are_charged(endpoint, 1, work));
}

/// Whether so many calls to `endpoint` are charged to this thread with at least so many ticks; what they were, if not.
/// (A component that runs meanwhile is charged itself.)
fn calls_are_charged(endpoint: CPtr, calls: u64, ticks: u64) -> Result<(), (u64, u64)> {
    SCHED_CONTEXT.consumed().must("its time");
    for round in 0..calls {
        assert_eq!(ipc::call(endpoint, Message::of(3, [round])), Ok(Message::of(3, [round])));
    }
    let own = SCHED_CONTEXT.consumed().must("its time");
    if own >= ticks { Ok(()) } else { Err((own, ticks)) }
}

fn a_passive_server_returns_what_was_lent(w: &mut World) {
    let endpoint = w.endpoint();
    let server = passive_server(w, endpoint, 0);
    for round in 0..20 {
        assert_eq!(ipc::call(endpoint, Message::of(3, [round])), Ok(Message::of(3, [round])));
        assert_eq!(server.state(), BLOCKED);
    }
    // Without a caller's time it cannot go on: a send does not lend any.
    let before = arena::get(5);
    ipc::send(endpoint, Message::new(1)).must("a send");
    w.sleep(5);
    assert_eq!(arena::get(5), before);
    assert_eq!(server.state(), READY);
}

fn a_chain_of_passive_servers_runs_on_the_first_callers_time(w: &mut World) {
    let [first, second] = [w.endpoint(), w.endpoint()];
    let work = w.milliseconds(3);
    passive_server(w, second, work);
    let middle = w.thread().start(move || {
        let mut received = ipc::recv(first, CPtr::NULL).must("a call");
        loop {
            let answer = ipc::call(second, received.message).must("a call further on");
            received = ipc::reply_recv(first, answer).must("a call");
        }
    });
    w.until_blocked(&middle);
    middle.context.unbind().must("unbinding");
    w.measured(|| calls_are_charged(first, 3, 3 * work));
}

fn an_active_server_goes_on_when_the_loan_runs_out(w: &mut World) {
    SCHED_CONTROL.set_priority(TCB.0, 120).must("above all of them");
    let endpoint = w.endpoint();
    let server = w.thread().priority(110).start(move || {
        let mut received = ipc::recv(endpoint, CPtr::NULL).must("a call");
        loop {
            let start = now();
            while arena::get(0) == 0 {}
            arena::set(1, now() - start);
            received = ipc::reply_recv(endpoint, received.message).must("a call");
        }
    });
    w.until_blocked(&server);
    server.context.consumed().must("its time");
    let (budget, period) = (w.microseconds(500), w.milliseconds(200));
    let caller = w.thread().budget(budget, period).start(move || {
        assert_eq!(ipc::call(endpoint, Message::new(5)), Ok(Message::new(5)));
    });
    let (work, mut own) = (w.milliseconds(4), 0);
    w.until("it goes on on its own", || {
        own += server.context.consumed().must("its time");
        own > work
    });
    arena::set(0, 1);
    w.join(&caller);
    // It did not wait for the caller's next period.
    assert!(arena::get(1) < period * 9 / 10 || !w.setup.icount, "{} ticks for {work}", arena::get(1));
}

fn a_passive_server_waits_when_the_loan_runs_out(w: &mut World) {
    let endpoint = w.endpoint();
    let server = w.thread().start(move || {
        let mut received = ipc::recv(endpoint, CPtr::NULL).must("a call");
        loop {
            // At work until it was seen to wait.
            while arena::get(0) == 0 {}
            received = ipc::reply_recv(endpoint, received.message).must("a call");
        }
    });
    w.until_blocked(&server);
    server.context.unbind().must("unbinding");
    let (budget, period) = (w.milliseconds(1), w.milliseconds(30));
    let caller = w.thread().priority(90).budget(budget, period).start(move || {
        let start = now();
        ipc::call(endpoint, Message::new(5)).must("a call");
        arena::set(1, now() - start);
    });
    w.until("the loan runs out", || server.state() == THROTTLED);
    arena::set(0, 1);
    w.join(&caller);
    // At least one whole period went by.
    assert!(arena::get(1) >= period / 2 || !w.setup.icount, "{} ticks", arena::get(1));
}

fn a_callers_time_pays_for_the_server(w: &mut World) {
    let endpoint = w.endpoint();
    let work = w.milliseconds(2);
    let server = w.thread().start(move || {
        let mut received = ipc::recv(endpoint, CPtr::NULL).must("a call");
        loop {
            let start = now();
            while now() < start + work {}
            received = ipc::reply_recv(endpoint, received.message).must("a call");
        }
    });
    w.until_blocked(&server);
    w.measured(|| {
        server.context.consumed().must("its time");
        SCHED_CONTEXT.consumed().must("its time");
        ipc::call(endpoint, Message::new(5)).must("a call");
        let own = SCHED_CONTEXT.consumed().must("its time");
        let of_server = server.context.consumed().must("its time");
        if own >= work && of_server < work / 2 { Ok(()) } else { Err((own, of_server, work)) }
    });
}

fn a_passive_server_comes_to_its_callers_cpu(w: &mut World) {
    let endpoint = w.endpoint();
    let server = passive_server(w, endpoint, 0);
    for round in 0..20 {
        let cpu = round % w.cpus();
        let tcb = server.tcb;
        let caller = w.thread().cpu(cpu).start(move || {
            assert_eq!(ipc::call(endpoint, Message::of(2, [round])), Ok(Message::of(2, [round])));
            assert_eq!(tcb.status().must("a status")[1], cpu);
        });
        w.join(&caller);
    }
}
