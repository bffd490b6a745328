//! Messages and answers.

use abi::{Error, Kind, MsgInfo, Rights, Syscall};
use objects::tcb::State;

use crate::world::{Done, PRIORITY, TURN, World};

/// A call in either way: by the fast path where it applies, and never.
fn both(test: impl Fn(&World)) {
    for fast in [false, true] {
        let w = World::new();
        w.fast.set(fast);
        test(&w);
    }
}

#[test]
fn a_call_meets_a_waiting_receiver_and_gets_its_answer() {
    both(|w| {
        let endpoint = w.make(Kind::Endpoint, 0);
        let (server, client) = (w.thread(), w.thread());
        assert_eq!(w.recv(server, endpoint), Done::Blocked);
        assert_eq!(w.call(client, endpoint, 7, 41), Done::Blocked);
        assert_eq!(w.word(server), Ok(41));
        assert_eq!(w.result(server).unwrap().info, MsgInfo::plain(7));
        assert_eq!(w.reply_recv(server, endpoint, 42), Done::Blocked);
        assert_eq!(w.word(client), Ok(42));
    });
}

#[test]
fn a_receiver_meets_a_waiting_caller() {
    both(|w| {
        let endpoint = w.make(Kind::Endpoint, 0);
        let (server, client) = (w.thread(), w.thread());
        assert_eq!(w.call(client, endpoint, 7, 41), Done::Blocked);
        assert!(matches!(w.recv(server, endpoint), Done::With(Ok(message)) if message.words[0] == 41));
        assert!(matches!(w.reply(server, 42), Done::With(Ok(_))));
        assert_eq!(w.word(client), Ok(42));
    });
}

#[test]
fn callers_are_served_in_the_order_they_came() {
    both(|w| {
        let endpoint = w.make(Kind::Endpoint, 0);
        let server = w.thread();
        let clients = [w.thread(), w.thread(), w.thread()];
        for (number, &client) in clients.iter().enumerate() {
            assert_eq!(w.call(client, endpoint, 0, number as u64), Done::Blocked);
        }
        for (number, &client) in clients.iter().enumerate() {
            assert!(
                matches!(w.recv(server, endpoint), Done::With(Ok(message)) if message.words[0] == number as u64)
            );
            w.reply(server, number as u64 + 10);
            assert_eq!(w.word(client), Ok(number as u64 + 10));
        }
    });
}

#[test]
fn an_urgent_caller_is_served_before_those_who_came_earlier() {
    both(|w| {
        let endpoint = w.make(Kind::Endpoint, 0);
        let (server_cap, _, server) = w.active_on(0);
        // Who came earlier goes first only among those of one priority; a priority counts as it is by then.
        let priorities = [PRIORITY, PRIORITY - 2, PRIORITY, PRIORITY - 1, PRIORITY + 5, PRIORITY - 2];
        let callers = priorities.map(|_| w.active_on(0));
        for (number, &(cap, _, tcb)) in callers.iter().enumerate() {
            assert_eq!(w.call(tcb, endpoint, 0, number as u64), Done::Blocked);
            w.set_priority(cap, priorities[number]);
        }
        w.set_priority(server_cap, PRIORITY + 10);
        for expected in [4, 0, 2, 3, 1, 5] {
            let Done::With(Ok(message)) = w.recv(server, endpoint) else { panic!("no message") };
            assert_eq!(message.words[0], expected);
            crate::invariants::check(w);
        }
    });
}

#[test]
fn callers_that_wait_in_great_number_cost_little() {
    let w = World::new();
    let endpoint = w.make(Kind::Endpoint, 0);
    let callers: Vec<_> = (0..100).map(|_| w.active_on(0)).collect();
    for &(_, _, tcb) in &callers {
        w.call(tcb, endpoint, 0, 0);
    }
    // The way to the root of a leftist heap along right sons has at most log2(n + 1) steps.
    let mut at = callers[0].2;
    while let Some(parent) = at.timer.parent.get() {
        at = parent;
    }
    let rights = std::iter::successors(Some(at), |tcb| tcb.timer.right.get()).count();
    assert!(rights <= 6, "{rights}");
    for &(cap, ..) in &callers {
        w.invoke(cap, abi::table::method::Tcb::suspend, &[]).unwrap();
        crate::invariants::check(&w);
    }
}

#[test]
fn a_caller_that_moves_to_another_cpu_keeps_its_place() {
    let w = World::with_cpus(2);
    let endpoint = w.make(Kind::Endpoint, 0);
    let (server, (_, context, first), (_, _, second)) = (w.thread(), w.active_on(0), w.active_on(0));
    w.call(first, endpoint, 0, 1);
    w.call(second, endpoint, 0, 2);
    let args = [u64::from(context), 1, TURN, TURN, 0];
    w.invoke(crate::world::root::SCHED_CONTROL, abi::table::method::SchedControl::configure, &args).unwrap();
    assert_eq!(first.cpu(), 1);
    crate::invariants::check(&w);
    assert!(matches!(w.recv(server, endpoint), Done::With(Ok(message)) if message.words[0] == 1));
}

#[test]
fn a_receiver_on_the_callers_own_cpu_is_preferred() {
    for here in 0..2 {
        let w = World::with_cpus(2);
        let endpoint = w.make(Kind::Endpoint, 0);
        let servers = [0, 1].map(|cpu| w.active_on(cpu).2);
        servers.iter().for_each(|&server| assert_eq!(w.recv(server, endpoint), Done::Blocked));
        let client = w.active_on(here).2;
        w.call(client, endpoint, 0, 7);
        assert_eq!(servers.map(|server| server.state.get() == State::Receiving), [here == 1, here == 0]);
        // The other one is still there for the next.
        w.call(w.active_on(here).2, endpoint, 0, 8);
        assert!(servers.iter().all(|server| server.state.get() != State::Receiving));
    }
}

#[test]
fn the_badge_says_who_calls() {
    both(|w| {
        let endpoint = w.make(Kind::Endpoint, 0);
        let badged = w.mint(endpoint, Rights::ALL, 0x77).unwrap();
        let (server, client) = (w.thread(), w.thread());
        w.recv(server, endpoint);
        w.call(client, badged, 0, 0);
        assert_eq!(w.result(server).unwrap().badge, 0x77);
        w.reply_recv(server, endpoint, 0);
        assert_eq!(w.result(client).unwrap().badge, 0);
    });
}

#[test]
fn an_answer_without_a_caller_is_refused() {
    let w = World::new();
    assert_eq!(w.reply(w.root, 0), Done::With(Err(Error::NoCaller)));
    let reply = w.make(Kind::Reply, 0);
    assert_eq!(w.send(w.root, reply, 0), Done::With(Err(Error::NoCaller)));
}

#[test]
fn try_calls_do_not_wait() {
    let w = World::new();
    let endpoint = w.make(Kind::Endpoint, 0);
    let try_it = |which| w.syscall(w.root, which, u64::from(endpoint), 0, [0; 8]);
    assert_eq!(try_it(Syscall::try_send), Done::With(Err(Error::WouldBlock)));
    assert_eq!(try_it(Syscall::try_recv), Done::With(Err(Error::WouldBlock)));
    let other = w.thread();
    w.recv(other, endpoint);
    assert!(matches!(try_it(Syscall::try_send), Done::With(Ok(_))));
    assert_eq!(other.state.get(), State::Ready);
}

#[test]
fn deleting_an_endpoint_cancels_everyone_at_it() {
    let w = World::new();
    let endpoint = w.make(Kind::Endpoint, 0);
    let (caller, sender) = (w.thread(), w.thread());
    w.call(caller, endpoint, 0, 0);
    w.send(sender, endpoint, 0);
    w.delete(endpoint);
    assert_eq!(w.word(caller), Err(Error::Cancelled));
    assert_eq!(w.word(sender), Err(Error::Cancelled));
}

#[test]
fn the_death_of_a_server_is_told_to_its_caller() {
    both(|w| {
        let endpoint = w.make(Kind::Endpoint, 0);
        let (cap, _, server) = w.active_on(0);
        let client = w.thread();
        w.recv(server, endpoint);
        w.call(client, endpoint, 0, 0);
        w.delete(cap);
        assert_eq!(w.word(client), Err(Error::PeerDied));
    });
}
