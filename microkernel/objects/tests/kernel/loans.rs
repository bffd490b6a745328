//! Budgets that go along with calls, and come back: passive servers, chains of calls, deaths in the middle.

use abi::table::method;
use abi::{Error, Kind, Syscall};
use objects::tcb::State;
use objects::{Ref, Tcb};

use crate::world::{Done, Size, TURN, World, root};

/// A client, servers behind it, and the endpoints between: 0 calls 1 by the first, 1 calls 2 by the second...
struct Chain {
    threads: Vec<(u32, Option<u32>, Ref<Tcb>)>,
    endpoints: Vec<u32>,
    replies: Vec<u32>,
}

/// Builds a chain in which `active` says who has a SchedContext, and calls through to its end. With `apart`
/// each server receives with a Reply object.
fn chain(w: &World, active: &[bool], apart: bool) -> Chain {
    let threads: Vec<_> = active
        .iter()
        .map(|&active| {
            if active {
                let (cap, context, tcb) = w.active_on(0);
                return (cap, Some(context), tcb);
            }
            let (cap, tcb) = w.passive();
            (cap, None, tcb)
        })
        .collect();
    let endpoints: Vec<u32> = threads[1..].iter().map(|_| w.make(Kind::Endpoint, 0)).collect();
    let replies: Vec<u32> = threads[1..].iter().map(|_| w.make(Kind::Reply, 0)).collect();
    for (at, &(cap, context, tcb)) in threads.iter().enumerate().skip(1) {
        // A passive server comes to its first receive on somebody's budget.
        let own = context.is_some();
        let starter = if own { None } else { Some(w.budget_from(root::UNTYPED, 0, TURN, TURN)) };
        if let Some(starter) = starter {
            w.bind(starter, cap);
        }
        let done = if apart {
            w.recv_with(tcb, endpoints[at - 1], replies[at - 1])
        } else {
            w.recv(tcb, endpoints[at - 1])
        };
        assert_eq!(done, Done::Blocked);
        if let Some(starter) = starter {
            w.delete(starter);
        }
    }
    for (at, &endpoint) in endpoints.iter().enumerate() {
        assert_eq!(w.call(threads[at].2, endpoint, 0, at as u64), Done::Blocked);
        assert_eq!(w.word(threads[at + 1].2), Ok(at as u64));
    }
    Chain { threads, endpoints, replies }
}

/// Every way to build a chain of three, by the fast path and without.
fn chains(test: impl Fn(&World, &Chain)) {
    for ways in 0..16 {
        let w = World::new();
        w.fast.set(ways & 8 != 0);
        let chain = chain(&w, &[true, ways & 1 != 0, ways & 2 != 0], ways & 4 != 0);
        test(&w, &chain);
    }
}

/// The server `at` answers its caller.
fn answer(w: &World, chain: &Chain, at: usize, word: u64) {
    let server = chain.threads[at].2;
    let done = match server.receive_reply.get() {
        None => w.reply(server, word),
        Some(_) => w.send(server, chain.replies[at - 1], word),
    };
    // (A passive one is then without a budget.)
    assert!(done == Done::Blocked || matches!(done, Done::With(Ok(_))));
}

#[test]
fn a_budget_goes_down_a_chain_and_comes_back() {
    chains(|w, chain| {
        let context = w.context(chain.threads[0].1.unwrap());
        w.run(chain.threads[2].2);
        assert_eq!(w.cpus[0].charged.get(), Some(context));
        answer(w, chain, 2, 70);
        assert_eq!(w.word(chain.threads[1].2), Ok(70));
        w.run(chain.threads[1].2);
        assert_eq!(w.cpus[0].charged.get(), Some(context));
        answer(w, chain, 1, 71);
        assert_eq!(w.word(chain.threads[0].2), Ok(71));
        w.run(chain.threads[0].2);
        assert_eq!(w.cpus[0].charged.get(), Some(context));
    });
}

#[test]
fn a_client_that_dies_takes_its_budget_out_of_the_chain() {
    chains(|w, chain| {
        w.delete(chain.threads[0].0);
        let (middle, end) = (chain.threads[1].2, chain.threads[2].2);
        if chain.threads[2].1.is_some() {
            answer(w, chain, 2, 70);
            assert_eq!(w.word(middle), Ok(70));
            assert_eq!(middle.runs_on.get(), middle.sched_context.get());
        } else {
            assert_eq!(end.runs_on.get(), None);
        }
    });
}

#[test]
fn a_budget_that_is_destroyed_under_a_chain_is_nowhere() {
    chains(|w, chain| {
        w.delete(chain.threads[0].1.unwrap());
        if chain.threads[2].1.is_some() {
            answer(w, chain, 2, 70);
        }
        crate::invariants::check(w);
    });
}

#[test]
fn suspending_any_of_a_chain_leaves_it_whole() {
    for at in 0..3 {
        chains(|w, chain| {
            w.invoke(chain.threads[at].0, method::Tcb::suspend, &[]).unwrap();
            crate::invariants::check(w);
            w.invoke(chain.threads[at].0, method::Tcb::resume, &[]).unwrap();
            crate::invariants::check(w);
        });
    }
}

#[test]
fn running_out_while_lent_leaves_an_active_server_its_own() {
    chains(|w, chain| {
        let end = chain.threads[2].2;
        w.run(end);
        w.pass(TURN + 1);
        crate::invariants::check(w);
        if let Some(own) = chain.threads[2].1 {
            assert_eq!(
                w.kernel
                    .cpus()
                    .find(|cpu| cpu.current.get() == Some(end))
                    .map_or(end.runs_on.get(), |cpu| cpu.charged.get()),
                Some(w.context(own))
            );
        }
        answer(w, chain, 2, 1);
        crate::invariants::check(w);
        w.pass(TURN);
        if w.tcb(chain.threads[1].0).state.get() == State::Ready && chain.threads[1].2.runs_on.get().is_some()
        {
            answer(w, chain, 1, 2);
            assert_eq!(w.word(chain.threads[0].2), Ok(2));
        }
    });
}
#[test]
fn a_queued_caller_without_budget_does_not_stop_an_active_server() {
    let w = World::new();
    let endpoint = w.make(Kind::Endpoint, 0);
    let server = w.thread();
    let (_, context, client) = w.active_on(0);
    w.call(client, endpoint, 0, 5);
    w.delete(context);
    assert!(matches!(w.recv(server, endpoint), Done::With(Ok(_))));
    assert_eq!(w.cpus[0].thread(), server);
}

#[test]
fn a_handler_of_faults_does_not_wait_for_the_budget_that_ran_out() {
    let w = World::new();
    let endpoint = w.make(Kind::Endpoint, 0);
    let handler = w.thread();
    assert_eq!(w.recv(handler, endpoint), Done::Blocked);
    let (cap, client) = w.passive();
    w.invoke(cap, method::Tcb::set_fault_handler, &[u64::from(endpoint)]).unwrap();
    let context = w.budget_from(root::UNTYPED, 0, 3_000, 1_000 * TURN);
    let args = [u64::from(context), 0, 3_000, 1_000 * TURN, 1];
    w.invoke(root::SCHED_CONTROL, method::SchedControl::configure, &args).unwrap();
    w.bind(context, cap);
    w.run(client);
    while w.cpus[0].thread() == client {
        w.pass(100);
    }
    // It goes on with its own, and the client gets its own back with the answer.
    assert_eq!((client.state.get(), handler.state.get()), (State::FaultAnswer, State::Ready));
    w.run(handler);
    assert_eq!(w.cpus[0].charged.get(), handler.sched_context.get());
    w.reply(handler, 0);
    assert_eq!(client.state.get(), State::Throttled);
    assert_eq!(client.runs_on.get(), Some(w.context(context)));
}

#[test]
fn the_middle_of_a_chain_can_die_without_harm() {
    chains(|w, chain| {
        w.delete(chain.threads[1].0);
        // With a Reply of its own, that is what dies.
        w.delete(chain.replies[0]);
        assert_eq!(w.word(chain.threads[0].2), Err(Error::PeerDied));
        w.run(chain.threads[0].2);
        assert_eq!(w.cpus[0].charged.get(), Some(w.context(chain.threads[0].1.unwrap())));
    });
}

#[test]
fn the_end_of_a_chain_can_die_without_harm() {
    chains(|w, chain| {
        w.delete(chain.threads[2].0);
        w.delete(chain.replies[1]);
        assert_eq!(w.word(chain.threads[1].2), Err(Error::PeerDied));
        w.run(chain.threads[1].2);
        answer(w, chain, 1, 9);
        assert_eq!(w.word(chain.threads[0].2), Ok(9));
    });
}

#[test]
fn a_server_that_stands_in_a_dead_ones_place_keeps_budgets_apart() {
    // Two servers share a Reply; the first dies while it holds a call, the second answers.
    let w = World::new();
    let Chain { threads, replies, .. } = chain(&w, &[true, true, true], true);
    w.delete(threads[2].0);
    assert!(matches!(w.send(w.root, replies[1], 5), Done::With(Ok(_))));
    assert_eq!(w.word(threads[1].2), Ok(5));
    assert!(matches!(w.send(w.root, replies[0], 6), Done::With(Ok(_))));
    assert_eq!(w.word(threads[0].2), Ok(6));
}

#[test]
fn a_reply_that_passed_to_another_server_leaves_no_trace_with_the_first() {
    let w = World::new();
    let endpoint = w.make(Kind::Endpoint, 0);
    let reply = w.make(Kind::Reply, 0);
    let (first, second, client) = (w.thread(), w.thread(), w.thread());
    w.recv_with(first, endpoint, reply);
    w.call(client, endpoint, 0, 0);
    assert_eq!(w.recv_with(second, endpoint, reply), Done::Blocked);
    assert_eq!(w.word(client), Err(Error::PeerDied));
    w.delete(reply);
    crate::invariants::check(&w);
}

#[test]
fn a_dead_server_is_forgotten_by_every_reply_it_used() {
    let w = World::new();
    let endpoint = w.make(Kind::Endpoint, 0);
    let replies = [w.make(Kind::Reply, 0), w.make(Kind::Reply, 0)];
    let (cap, _, server) = w.active_on(0);
    w.recv_with(server, endpoint, replies[0]);
    w.send(w.root, endpoint, 0);
    w.recv_with(server, endpoint, replies[1]);
    w.delete(cap);
    let other = w.thread();
    assert_eq!(w.recv_with(other, endpoint, replies[0]), Done::Blocked);
}

#[test]
fn a_receive_whose_reply_is_deleted_gives_up_the_callers_of_the_own_one() {
    let w = World::new();
    let endpoint = w.make(Kind::Endpoint, 0);
    let reply = w.make(Kind::Reply, 0);
    let (server, first, second) = (w.thread(), w.thread(), w.thread());
    w.recv(server, endpoint);
    w.call(first, endpoint, 0, 1);
    w.recv_with(server, endpoint, reply);
    w.delete(reply);
    w.call(second, endpoint, 0, 2);
    assert_eq!(w.word(first), Err(Error::PeerDied));
    assert_eq!(w.word(server), Ok(2));
}

#[test]
fn a_server_that_revokes_its_caller_and_itself_runs_on_nothing() {
    // All is made of one Untyped: client, its budget, and the budget of the server that revokes it.
    let w = World::new();
    let endpoint = w.make(Kind::Endpoint, 0);
    let (server_cap, server) = w.passive();
    let part = w.make(Kind::Untyped, 20);
    let own = w.budget_from(part, 0, TURN, TURN);
    w.bind(own, server_cap);
    let (client_cap, client) = w.passive_from(part);
    let lent = w.budget_from(part, 0, TURN, TURN);
    w.bind(lent, client_cap);
    w.recv(server, endpoint);
    w.call(client, endpoint, 0, 0);
    w.run(server);
    let args = [u64::from(part), 0, 0, 0, 0, 0, 0, 0];
    let revoke = u64::from(method::CNode::revoke);
    w.syscall(server, Syscall::invoke, u64::from(root::CNODE), revoke, args);
    crate::invariants::check(&w);
    assert_ne!(w.cpus[0].thread(), server);
}

#[test]
fn a_signal_finds_a_server_on_its_own_budget_after_a_fast_answer() {
    let w = World::new();
    w.fast.set(true);
    let (endpoint, notification) = (w.make(Kind::Endpoint, 0), w.make(Kind::Notification, 0));
    let (cap, context, server) = w.active_on(0);
    let client = w.thread();
    w.invoke(cap, method::Tcb::bind_notification, &[u64::from(notification)]).unwrap();
    w.recv(server, endpoint);
    w.call(client, endpoint, 0, 0);
    assert_eq!(w.cpus[0].thread(), server);
    // Any entry while the server is at work.
    w.look(0);
    w.reply_recv(server, endpoint, 0);
    assert_eq!(w.cpus[0].thread(), client);
    w.signal(client, notification);
    assert_eq!(server.runs_on.get(), Some(w.context(context)));
}

#[test]
fn a_budget_bound_or_taken_while_a_server_works_on_a_lent_one_is_seen_after() {
    for unbind in [false, true] {
        let w = World::with_cpus(2);
        let (endpoint, notification) = (w.make(Kind::Endpoint, 0), w.make(Kind::Notification, 0));
        let (cap, context, server) = w.active_on(1);
        w.invoke(cap, method::Tcb::bind_notification, &[u64::from(notification)]).unwrap();
        let (_, _, client) = w.active_on(1);
        w.recv(server, endpoint);
        if !unbind {
            w.invoke(context, method::SchedContext::unbind, &[]).unwrap();
        }
        w.fast.set(true);
        w.call(client, endpoint, 0, 0);
        w.look(1);
        assert_eq!(w.cpus[1].thread(), server);
        if unbind {
            w.invoke(context, method::SchedContext::unbind, &[]).unwrap();
        } else {
            w.bind(context, cap);
        }
        w.run(server);
        w.reply_recv(server, endpoint, 0);
        crate::invariants::check(&w);
        w.signal(w.root, notification);
        crate::invariants::check(&w);
        assert_eq!(server.runs_on.get().is_some(), !unbind);
    }
}

#[test]
fn a_server_at_work_is_not_bound_to_another_cpu() {
    let w = World::with_cpus(2);
    let endpoint = w.make(Kind::Endpoint, 0);
    let (cap, context, server) = w.active_on(0);
    w.recv(server, endpoint);
    w.delete(context);
    let client = w.thread();
    w.call(client, endpoint, 0, 0);
    let there = w.budget_from(root::UNTYPED, 1, TURN, TURN);
    let bind = || w.invoke(there, method::SchedContext::bind, &[u64::from(cap)]).map(|_| ());
    assert_eq!(bind(), Err(Error::Busy));
    w.run(server);
    assert_eq!(w.reply_recv(server, endpoint, 0), Done::Blocked);
    assert_eq!(bind(), Ok(()));
    w.call(client, endpoint, 0, 0);
    assert_eq!((server.cpu(), server.state.get()), (1, State::Ready));
}

#[test]
fn a_budget_whose_thread_is_at_work_on_a_lent_one_stays_on_its_cpu() {
    let w = World::with_cpus(2);
    let (endpoint, faults) = (w.make(Kind::Endpoint, 0), w.make(Kind::Endpoint, 0));
    let (cap, context, server) = w.active_on(0);
    let client = w.thread();
    w.invoke(cap, method::Tcb::set_fault_handler, &[u64::from(faults)]).unwrap();
    w.recv(server, endpoint);
    w.call(client, endpoint, 0, 0);
    w.run(server);
    w.fault(0, [14, 0, 0x1000]);
    assert_eq!(server.state.get(), State::Faulting);
    let args = [u64::from(context), 1, TURN, TURN, 0];
    let configure = || w.invoke(root::SCHED_CONTROL, method::SchedControl::configure, &args).map(|_| ());
    assert_eq!(configure(), Err(Error::Busy));
    assert!(matches!(w.recv(w.root, faults), Done::With(Ok(_))));
    w.reply(w.root, 0);
    assert_eq!(w.reply_recv(server, endpoint, 0), Done::Blocked);
    assert_eq!(configure(), Ok(()));
    assert_eq!(server.cpu(), 1);
}

#[test]
fn a_caller_of_another_cpu_can_be_given_another_budget() {
    let w = World::with_cpus(2);
    let endpoint = w.make(Kind::Endpoint, 0);
    let server = w.thread();
    let (cap, context, client) = w.active_on(1);
    w.recv(server, endpoint);
    w.call(client, endpoint, 0, 0);
    w.invoke(context, method::SchedContext::unbind, &[]).unwrap();
    w.bind(context, cap);
    w.reply(server, 8);
    assert_eq!(w.word(client), Ok(8));
    assert_eq!(w.cpus[1].thread(), client);
}

#[test]
fn a_server_that_deletes_the_address_space_of_all_takes_no_budget_with_it() {
    // (The caller is stopped first, which takes its budget back; then the server itself.)
    let w = World::new();
    let endpoint = w.make(Kind::Endpoint, 0);
    let (server, client) = (w.thread(), w.thread());
    w.recv(server, endpoint);
    w.call(client, endpoint, 0, 0);
    w.run(server);
    let args = [u64::from(root::VSPACE), 0, 0, 0, 0, 0, 0, 0];
    let delete = u64::from(method::CNode::delete);
    assert_eq!(w.syscall(server, Syscall::invoke, u64::from(root::CNODE), delete, args), Done::Blocked);
    assert_eq!(server.runs_on.get(), server.sched_context.get());
}

#[test]
fn a_budget_taken_from_under_a_chain_of_four_is_made_up_for_by_nobody() {
    let w = World::new();
    let Chain { threads, replies, .. } = chain(&w, &[true; 4], true);
    // The first call is answered out of turn, which takes the budget from the end of the chain.
    assert!(matches!(w.send(w.root, replies[0], 1), Done::With(Ok(_))));
    for at in [2, 1] {
        assert!(matches!(w.send(threads[at + 1].2, replies[at], 2), Done::With(Ok(_))));
        assert_eq!(w.word(threads[at].2), Ok(2));
        w.run(threads[at].2);
        assert_eq!(w.cpus[0].charged.get(), threads[at].2.sched_context.get());
    }
}

/// A chain of calls so long that it is not walked at once.
fn long_chain(w: &World) -> Chain {
    chain(w, &[true; 450], false)
}

/// Makes the root thread call a method until it is done; how often it gave way.
fn invoke_in_shares(w: &World, cap: u64, method: u32, word: u64) -> usize {
    w.run(w.root);
    w.prepare(w.root, Syscall::invoke, cap, u64::from(method), [word, 0, 0, 0, 0, 0, 0, 0]);
    let mut shares = 0;
    while w.trap(0) {
        shares += 1;
        assert!(shares < 1000, "a call that gives way for ever");
        w.run(w.root);
    }
    shares
}

#[test]
fn a_walk_along_a_long_chain_gives_way_and_finds_the_budget() {
    let w = World::of_size(Size { cpus: 1, slots: 12, untyped: 22 });
    let chain = long_chain(&w);
    let (cap, context, first) = chain.threads[0];
    let shares = invoke_in_shares(&w, u64::from(cap), method::Tcb::suspend, 0);
    assert!(shares >= 1, "it does not give way");
    assert_eq!(first.runs_on.get(), context.map(|context| w.context(context)));
    crate::invariants::check(&w);
    // Below, nothing is left to be found but what is each one's own.
    for &(cap, context, tcb) in &chain.threads[1..4] {
        invoke_in_shares(&w, u64::from(cap), method::Tcb::suspend, 0);
        assert_eq!(tcb.runs_on.get(), context.map(|context| w.context(context)));
    }
    crate::invariants::check(&w);
}

#[test]
fn a_walk_is_not_believed_once_the_chain_has_changed() {
    let w = World::of_size(Size { cpus: 1, slots: 12, untyped: 22 });
    w.fast.set(true);
    let chain = long_chain(&w);
    let (cap, context, first) = chain.threads[0];
    let begin = |of: u32| {
        w.run(w.root);
        w.prepare(w.root, Syscall::invoke, u64::from(of), u64::from(method::Tcb::suspend), [0; 8]);
        assert!(w.trap(0), "it is done at once");
    };
    begin(cap);
    // Where it stands, the answers come back up the chain by the path that is fast otherwise.
    for at in (300..450).rev() {
        w.run(chain.threads[at].2);
        answer(&w, &chain, at, 7);
    }
    // And a part in the middle is broken off.
    w.delete(chain.threads[200].0);
    invoke_in_shares(&w, u64::from(cap), method::Tcb::suspend, 0);
    assert_eq!(first.state.get(), State::Inactive);
    assert_eq!(first.runs_on.get(), context.map(|context| w.context(context)));
    crate::invariants::check(&w);
}
