//! Budgets that go along with calls, and come back: passive servers, chains of calls, deaths in the middle.

use abi::Kind;

use crate::world::{Done, World};

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

