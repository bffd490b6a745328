//! Answers: who owes them, what becomes of the caller when they fail to come.

use abi::{CPtr, Error, Kind};
use ipc::{Message, Untyped};

use crate::arena;
use crate::row;
use crate::table::{Need, Test};
use crate::world::{CNODE, Must, Slot, Thread, World, never_ends};

/// The tests of this area.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    row!("replies", a_caller_hears_that_its_server_was_deleted, "a caller gets PeerDied when the thread that serves it is deleted"),
    row!("replies", a_caller_hears_that_its_servers_memory_was_revoked, "a caller gets PeerDied when its server's Untyped is revoked"),
    row!("replies", a_caller_hears_that_the_reply_was_deleted, "a caller gets PeerDied when the Reply object its call waits on is deleted"),
    row!("replies", a_caller_hears_that_its_server_turned_away, "a caller gets PeerDied when its server receives again without an answer"),
    row!("replies", a_caller_hears_that_its_server_died_of_a_fault, "a caller gets PeerDied when the faulted server is taken down by its supervisor"),
    row!("replies", a_caller_in_a_chain_hears_only_of_its_own_server, "when the last server of a chain dies, the middle one gets PeerDied and can still answer the first"),
    row!("replies", a_caller_before_the_receive_hears_when_the_endpoint_goes, "a call that nobody has received yet is cancelled with the Endpoint, not by servers that come and go"),
    row!("replies", calls_wait_for_the_next_server, "a call that was not in service when its server died is received by the next one"),
    row!("replies", an_answer_is_given_once, "a second answer finds nobody"),
    row!("replies", a_reply_object_keeps_the_call_for_later, "with Reply objects a server answers calls in any order, after other receives"),
    row!("replies", any_holder_of_the_reply_can_answer, "another thread with the Reply capability answers in the server's stead"),
    row!("replies", a_caller_that_is_gone_cannot_be_answered, "an answer to a deleted caller is refused with NoCaller"),
    row!("replies", a_caller_that_was_stopped_hears_cancelled, "a suspend breaks off a call: NoCaller for the server, Cancelled for the caller"),
    row!("replies", a_server_that_is_stopped_keeps_its_caller, "suspending a server is not its death: resumed, it answers"),
    row!("replies", the_answer_of_a_dead_call_reaches_no_later_call, "a late answer does not reach the caller's next call"),
    row!("replies", callers_on_other_cpus_hear_of_the_death, "PeerDied reaches callers on other CPUs", Need::Cpus(2)),
    row!("replies", a_server_that_runs_on_another_cpu_can_be_deleted, "a server is deleted while it is at work on another CPU, and its caller hears of it", Need::Cpus(2)),
];

const QUESTION: Message = Message::of(1, [10]);
const ANSWER: Message = Message::of(2, [20]);

/// A server that receives a call and never answers; it spins, or blocks.
fn deaf_server(w: &mut World, endpoint: CPtr, cpu: u64, spins: bool) -> Thread {
    let never = w.notification();
    w.thread().cpu(cpu).priority(90).start(move || {
        ipc::recv(endpoint, CPtr::NULL).must("a call");
        arena::add(9, 1);
        if spins {
            loop {
                core::hint::spin_loop();
            }
        }
        never_ends(ipc::wait(never));
    })
}

/// A caller that must end with `error`.
fn caller(w: &mut World, endpoint: CPtr, cpu: u64, error: Error) -> Thread {
    w.thread().cpu(cpu).start(move || assert_eq!(ipc::call(endpoint, QUESTION), Err(error)))
}

fn in_service(w: &World, calls: u64) {
    w.until("the call is in service", || arena::get(9) == calls);
}

fn a_caller_hears_that_its_server_was_deleted(w: &mut World) {
    let endpoint = w.endpoint();
    let server = deaf_server(w, endpoint, 0, false);
    let caller = caller(w, endpoint, 0, Error::PeerDied);
    in_service(w, 1);
    w.delete(server.tcb.0);
    w.join(&caller);
}

fn a_caller_hears_that_its_servers_memory_was_revoked(w: &mut World) {
    let [endpoint, memory, never] = [w.endpoint(), w.make_sized(Kind::Untyped, 20), w.notification()];
    w.thread().priority(90).made_of(Untyped(memory)).start(move || {
        ipc::recv(endpoint, CPtr::NULL).must("a call");
        arena::add(9, 1);
        never_ends(ipc::wait(never));
    });
    let caller = caller(w, endpoint, 0, Error::PeerDied);
    in_service(w, 1);
    CNODE.revoke(memory.into_slot()).must("a revoke");
    w.join(&caller);
}

fn a_caller_hears_that_the_reply_was_deleted(w: &mut World) {
    let [endpoint, reply, never] = [w.endpoint(), w.make(Kind::Reply), w.notification()];
    w.thread().start(move || {
        ipc::recv(endpoint, reply).must("a call");
        arena::add(9, 1);
        never_ends(ipc::wait(never));
    });
    let caller = caller(w, endpoint, 0, Error::PeerDied);
    in_service(w, 1);
    w.delete(reply);
    w.join(&caller);
}

fn a_caller_hears_that_its_server_turned_away(w: &mut World) {
    let endpoint = w.endpoint();
    w.thread().start(move || {
        ipc::recv(endpoint, CPtr::NULL).must("a first call");
        ipc::recv(endpoint, CPtr::NULL).must("a second call");
        ipc::reply(ANSWER).must("an answer");
    });
    assert!(matches!(ipc::call(endpoint, QUESTION), Err(Error::PeerDied)));
    assert_eq!(ipc::call(endpoint, QUESTION), Ok(ANSWER));
}

fn a_caller_hears_that_its_server_died_of_a_fault(w: &mut World) {
    let [endpoint, faults] = [w.endpoint(), w.endpoint()];
    let server = w.thread().faults_to(faults).start(move || {
        ipc::recv(endpoint, CPtr::NULL).must("a call");
        crate::world::finish();
    });
    let caller = caller(w, endpoint, 0, Error::PeerDied);
    assert!(ipc::recv(faults, CPtr::NULL).must("a fault").is_fault());
    assert_eq!(caller.state(), crate::world::BLOCKED);
    w.delete(server.tcb.0);
    w.join(&caller);
}

fn a_caller_in_a_chain_hears_only_of_its_own_server(w: &mut World) {
    let [first, second] = [w.endpoint(), w.endpoint()];
    let last = deaf_server(w, second, 0, false);
    w.thread().start(move || {
        ipc::recv(first, CPtr::NULL).must("a call");
        assert_eq!(ipc::call(second, QUESTION), Err(Error::PeerDied));
        ipc::reply(ANSWER).must("an answer");
    });
    let caller = w.thread().start(move || assert_eq!(ipc::call(first, QUESTION), Ok(ANSWER)));
    in_service(w, 1);
    w.delete(last.tcb.0);
    w.join(&caller);
}

fn a_caller_before_the_receive_hears_when_the_endpoint_goes(w: &mut World) {
    let [endpoint, other] = [w.endpoint(), w.endpoint()];
    let server = deaf_server(w, other, 0, false);
    let caller = caller(w, endpoint, 0, Error::Cancelled);
    w.until_blocked(&caller);
    w.delete(server.tcb.0);
    assert_eq!(caller.state(), crate::world::BLOCKED);
    w.delete(endpoint);
    w.join(&caller);
}

fn calls_wait_for_the_next_server(w: &mut World) {
    let endpoint = w.endpoint();
    let server = deaf_server(w, endpoint, 0, false);
    let first = caller(w, endpoint, 0, Error::PeerDied);
    in_service(w, 1);
    let second = w.thread().start(move || assert_eq!(ipc::call(endpoint, QUESTION), Ok(ANSWER)));
    w.until_blocked(&second);
    w.delete(server.tcb.0);
    w.join(&first);
    ipc::recv(endpoint, CPtr::NULL).must("the second call");
    ipc::reply(ANSWER).must("an answer");
    w.join(&second);
}

fn an_answer_is_given_once(w: &mut World) {
    let [endpoint, reply] = [w.endpoint(), w.make(Kind::Reply)];
    let caller = w.thread().start(move || assert_eq!(ipc::call(endpoint, QUESTION), Ok(ANSWER)));
    ipc::recv(endpoint, reply).must("a call");
    assert_eq!(ipc::send(reply, ANSWER), Ok(()));
    assert_eq!(ipc::send(reply, ANSWER), Err(Error::NoCaller));
    assert_eq!(ipc::try_send(reply, ANSWER), Err(Error::NoCaller));
    w.join(&caller);
}

fn a_reply_object_keeps_the_call_for_later(w: &mut World) {
    let endpoint = w.endpoint();
    let replies = [w.make(Kind::Reply), w.make(Kind::Reply), w.make(Kind::Reply)];
    let callers: [Thread; 3] = core::array::from_fn(|number| {
        let question = Message::of(1, [number as u64]);
        let thread = w.thread().start(move || assert_eq!(ipc::call(endpoint, question), Ok(question)));
        w.until_blocked(&thread);
        thread
    });
    let calls = replies.map(|reply| ipc::recv(endpoint, reply).must("a call").message);
    for at in [1, 2, 0] {
        ipc::send(replies[at], calls[at]).must("an answer");
    }
    callers.iter().for_each(|caller| w.join(caller));
}

fn any_holder_of_the_reply_can_answer(w: &mut World) {
    let [endpoint, reply] = [w.endpoint(), w.make(Kind::Reply)];
    let other = w.mint(reply, abi::Rights::WRITE, 0);
    let caller = w.thread().start(move || assert_eq!(ipc::call(endpoint, QUESTION), Ok(ANSWER)));
    ipc::recv(endpoint, reply).must("a call");
    let stead = w.thread().start(move || ipc::send(other, ANSWER).must("an answer"));
    w.join(&stead);
    w.join(&caller);
}

fn a_caller_that_is_gone_cannot_be_answered(w: &mut World) {
    let endpoint = w.endpoint();
    let caller = w.thread().start(move || {
        never_ends(ipc::call(endpoint, QUESTION));
    });
    ipc::recv(endpoint, CPtr::NULL).must("a call");
    w.delete(caller.tcb.0);
    assert_eq!(ipc::reply(ANSWER), Err(Error::NoCaller));
}

fn a_caller_that_was_stopped_hears_cancelled(w: &mut World) {
    let endpoint = w.endpoint();
    let caller = caller(w, endpoint, 0, Error::Cancelled);
    ipc::recv(endpoint, CPtr::NULL).must("a call");
    caller.tcb.suspend().must("stopping it");
    assert_eq!(ipc::reply(ANSWER), Err(Error::NoCaller));
    caller.tcb.resume().must("letting it run");
    w.join(&caller);
}

fn a_server_that_is_stopped_keeps_its_caller(w: &mut World) {
    let [endpoint, go] = [w.endpoint(), w.notification()];
    let server = w.thread().start(move || {
        ipc::recv(endpoint, CPtr::NULL).must("a call");
        arena::add(9, 1);
        assert_eq!(ipc::wait(go), Err(Error::Cancelled));
        ipc::reply(ANSWER).must("an answer");
    });
    let caller = w.thread().start(move || assert_eq!(ipc::call(endpoint, QUESTION), Ok(ANSWER)));
    in_service(w, 1);
    w.until_blocked(&server);
    server.tcb.suspend().must("stopping it");
    assert_eq!(caller.state(), crate::world::BLOCKED);
    server.tcb.resume().must("letting it run");
    w.join(&caller);
}

fn the_answer_of_a_dead_call_reaches_no_later_call(w: &mut World) {
    let [endpoint, second] = [w.endpoint(), w.endpoint()];
    let caller = w.thread().start(move || {
        assert_eq!(ipc::call(endpoint, QUESTION), Err(Error::Cancelled));
        assert_eq!(ipc::call(second, QUESTION), Ok(ANSWER));
    });
    ipc::recv(endpoint, CPtr::NULL).must("a call");
    caller.tcb.suspend().must("stopping it");
    caller.tcb.resume().must("letting it run");
    w.until_blocked(&caller);
    assert_eq!(ipc::reply(QUESTION), Err(Error::NoCaller));
    ipc::recv(second, CPtr::NULL).must("the later call");
    ipc::reply(ANSWER).must("an answer");
    w.join(&caller);
}

fn callers_on_other_cpus_hear_of_the_death(w: &mut World) {
    let endpoint = w.endpoint();
    let other = w.cpus() - 1;
    for (server_cpu, caller_cpu) in [(0, other), (other, 0), (other, other)] {
        let before = arena::get(9);
        let server = deaf_server(w, endpoint, server_cpu, false);
        let caller = caller(w, endpoint, caller_cpu, Error::PeerDied);
        in_service(w, before + 1);
        w.delete(server.tcb.0);
        w.join(&caller);
    }
}

fn a_server_that_runs_on_another_cpu_can_be_deleted(w: &mut World) {
    let endpoint = w.endpoint();
    for round in 1..=20 {
        let server = deaf_server(w, endpoint, 1, true);
        let caller = caller(w, endpoint, 0, Error::PeerDied);
        in_service(w, round);
        w.delete(server.tcb.0);
        w.join(&caller);
    }
}
