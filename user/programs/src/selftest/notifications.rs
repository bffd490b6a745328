//! Notifications: bits that stick until someone takes them.

use abi::{CPtr, Error, Rights};
use ipc::Message;

use crate::arena;
use crate::row;
use crate::table::{Need, Test};
use crate::world::{Must, TCB, Thread, World, give_way, now};

/// The tests of this area.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    row!("notifications", signals_add_up_until_they_are_taken, "bits of several signals add up, and a wait takes all of them"),
    row!("notifications", a_badge_of_zero_counts_as_bit_zero, "a signal over an unbadged capability sets bit 0"),
    row!("notifications", a_poll_takes_bits_or_is_refused, "a poll takes what there is and never waits"),
    row!("notifications", a_signal_wakes_one_waiter_and_hands_it_the_bits, "each signal wakes the waiter that came first, and no other"),
    row!("notifications", a_wait_with_a_deadline_ends_in_time, "a wait ends with TimedOut at its deadline and not before"),
    row!("notifications", a_signal_before_the_deadline_ends_the_wait, "a wait with a deadline takes bits that come in time"),
    row!("notifications", a_bound_notification_ends_a_receive, "a signal ends the receive of the thread it is bound to"),
    row!("notifications", bits_that_wait_end_the_next_receive, "bits signalled before a bound thread receives end that receive at once"),
    row!("notifications", a_bound_notification_ends_a_reply_recv_that_comes_later, "the fast path of reply_recv does not pass over a bound notification's bits"),
    row!("notifications", a_thread_that_unbinds_is_left_alone, "after unbinding, signals no longer end receives, and the bits stay"),
    row!("notifications", a_bound_notification_does_not_disturb_a_call, "a signal does not end a call of the thread it is bound to"),
    row!("notifications", deleting_a_notification_unbinds_it_and_tells_waiters, "deleting a Notification cancels its waiters and frees its thread for another one"),
    row!("notifications", a_signal_wakes_a_thread_on_another_cpu, "signals between CPUs wake their waiters", Need::Cpus(2)),
    row!("notifications", no_signal_of_any_cpu_is_lost, "signals from all CPUs at once lose none", Need::Cpus(2)),
];

fn signals_add_up_until_they_are_taken(w: &mut World) {
    let whole = w.notification();
    let [a, b] = [0x10, 1 << 63].map(|bits| w.mint(whole, Rights::WRITE, bits));
    for capability in [a, b, a, whole] {
        ipc::signal(capability).must("a signal");
    }
    assert_eq!(ipc::wait(whole), Ok(0x11 | 1 << 63));
    assert_eq!(ipc::poll(whole), Err(Error::WouldBlock));
}

fn a_badge_of_zero_counts_as_bit_zero(w: &mut World) {
    let notification = w.notification();
    ipc::signal(notification).must("a signal");
    assert_eq!(ipc::poll(notification), Ok(1));
}

fn a_poll_takes_bits_or_is_refused(w: &mut World) {
    let notification = w.notification();
    assert_eq!(ipc::poll(notification), Err(Error::WouldBlock));
    ipc::signal(notification).must("a signal");
    assert_eq!(ipc::poll(notification), Ok(1));
    assert_eq!(ipc::poll(notification), Err(Error::WouldBlock));
}

fn a_signal_wakes_one_waiter_and_hands_it_the_bits(w: &mut World) {
    let notification = w.notification();
    let waiters: [Thread; 4] = core::array::from_fn(|at| {
        let waiter = w.thread().start(move || arena::set(at, ipc::wait(notification).must("bits")));
        w.until_blocked(&waiter);
        waiter
    });
    for (at, waiter) in waiters.iter().enumerate() {
        let badged = w.mint(notification, Rights::WRITE, 5 + at as u64);
        ipc::signal(badged).must("a signal");
        w.join(waiter);
        assert_eq!(arena::get(at), 5 + at as u64);
        assert!(waiters[at + 1..].iter().all(|other| !other.is_done()));
    }
}

fn a_wait_with_a_deadline_ends_in_time(w: &mut World) {
    let notification = w.notification();
    for milliseconds in [0, 1, 20] {
        let end = now() + w.milliseconds(milliseconds);
        assert_eq!(ipc::wait_until(notification, end), Err(Error::TimedOut));
        assert!(now() >= end, "it ended too early");
    }
}

fn a_signal_before_the_deadline_ends_the_wait(w: &mut World) {
    let notification = w.notification();
    w.thread().priority(50).start(move || ipc::signal(notification).must("a signal"));
    let end = now() + w.milliseconds(3_600_000);
    assert_eq!(ipc::wait_until(notification, end), Ok(1));
    assert!(now() < end, "it waited for the deadline");
}

fn a_bound_notification_ends_a_receive(w: &mut World) {
    let [endpoint, notification] = [w.endpoint(), w.notification()];
    let badged = w.mint(notification, Rights::WRITE, 0x40);
    let receiver = w.thread().start(move || {
        let received = ipc::recv(endpoint, CPtr::NULL).must("bits");
        assert_eq!((received.notified(), received.badge), (Some(0x40), 0));
        let received = ipc::recv(endpoint, CPtr::NULL).must("a message");
        assert_eq!((received.notified(), received.message), (None, Message::new(4)));
    });
    receiver.tcb.bind_notification(notification).must("binding");
    w.until_blocked(&receiver);
    ipc::signal(badged).must("a signal");
    w.until_blocked(&receiver);
    ipc::send(endpoint, Message::new(4)).must("a send");
    w.join(&receiver);
}

fn bits_that_wait_end_the_next_receive(w: &mut World) {
    let [endpoint, notification] = [w.endpoint(), w.notification()];
    TCB.bind_notification(notification).must("binding");
    ipc::signal(notification).must("a signal");
    let sender = w.thread().start(move || ipc::send(endpoint, Message::new(4)).must("a send"));
    w.until_blocked(&sender);
    assert_eq!(ipc::try_recv(endpoint, CPtr::NULL).must("bits").notified(), Some(1));
    assert_eq!(ipc::recv(endpoint, CPtr::NULL).must("a message").message, Message::new(4));
    ipc::signal(notification).must("a signal");
    assert_eq!(ipc::recv(endpoint, CPtr::NULL).must("bits").notified(), Some(1));
}

fn a_bound_notification_ends_a_reply_recv_that_comes_later(w: &mut World) {
    let [endpoint, notification] = [w.endpoint(), w.notification()];
    let server = w.thread().start(move || {
        let mut received = ipc::recv(endpoint, CPtr::NULL).must("a call");
        for _ in 0..10 {
            ipc::signal(notification).must("a signal");
            received = ipc::reply_recv(endpoint, received.message).must("bits");
            assert_eq!(received.notified(), Some(1));
            received = ipc::recv(endpoint, CPtr::NULL).must("a call");
        }
    });
    server.tcb.bind_notification(notification).must("binding");
    for round in 0..10 {
        let question = Message::of(5, [round]);
        assert_eq!(ipc::call(endpoint, question), Ok(question));
    }
}

fn a_thread_that_unbinds_is_left_alone(w: &mut World) {
    let [endpoint, notification] = [w.endpoint(), w.notification()];
    TCB.bind_notification(notification).must("binding");
    ipc::signal(notification).must("a signal");
    TCB.unbind_notification().must("unbinding");
    assert_eq!(ipc::try_recv(endpoint, CPtr::NULL), Err(Error::WouldBlock));
    assert_eq!(ipc::poll(notification), Ok(1));
    TCB.bind_notification(notification).must("binding again");
}

fn a_bound_notification_does_not_disturb_a_call(w: &mut World) {
    let [endpoint, notification] = [w.endpoint(), w.notification()];
    TCB.bind_notification(notification).must("binding");
    w.thread().start(move || {
        let received = ipc::recv(endpoint, CPtr::NULL).must("a call");
        ipc::signal(notification).must("a signal");
        ipc::reply(received.message).must("an answer");
    });
    assert_eq!(ipc::call(endpoint, Message::new(8)), Ok(Message::new(8)));
    assert_eq!(ipc::try_recv(endpoint, CPtr::NULL).must("bits").notified(), Some(1));
}

fn deleting_a_notification_unbinds_it_and_tells_waiters(w: &mut World) {
    let [first, second] = [w.notification(), w.notification()];
    TCB.bind_notification(first).must("binding");
    let waiter = w.thread().start(move || assert_eq!(ipc::wait(first), Err(Error::Cancelled)));
    w.until_blocked(&waiter);
    w.delete(first);
    w.join(&waiter);
    TCB.bind_notification(second).must("binding another");
}

fn a_signal_wakes_a_thread_on_another_cpu(w: &mut World) {
    let [ping, pong] = [w.notification(), w.notification()];
    w.thread().cpu(1).start(move || {
        loop {
            ipc::wait(ping).must("a ping");
            arena::add(0, 1);
            ipc::signal(pong).must("a pong");
        }
    });
    for round in 1..=200 {
        ipc::signal(ping).must("a ping");
        ipc::wait(pong).must("a pong");
        assert_eq!(arena::get(0), round);
    }
}

fn no_signal_of_any_cpu_is_lost(w: &mut World) {
    const ROUNDS: u64 = 200;
    let whole = w.notification();
    let cpus = w.cpus();
    for cpu in 0..cpus {
        let badged = w.mint(whole, Rights::WRITE, 1 << cpu);
        w.thread().cpu(cpu).start(move || {
            for round in 1..=ROUNDS {
                ipc::signal(badged).must("a signal");
                // The next one only when this one was seen.
                while arena::get(cpu as usize) < round {
                    // Only on this CPU somebody else is to run meanwhile.
                    if cpu == 0 { give_way() } else { core::hint::spin_loop() }
                }
            }
        });
    }
    let mut seen = 0;
    while seen < cpus * ROUNDS {
        let bits = w.bits(whole);
        for cpu in (0..cpus).filter(|cpu| bits & 1 << cpu != 0) {
            arena::add(cpu as usize, 1);
            seen += 1;
        }
    }
}
