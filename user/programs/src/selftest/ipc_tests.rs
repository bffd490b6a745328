//! Messages: calls, answers, sends, buffers, capabilities that travel.

use abi::message::BUFFER_WORDS;
use abi::{CPtr, Error, MsgInfo, Rights, Syscall};
use ipc::trap::{Returned, trap};
use ipc::{Message, buffer};

use crate::arena;
use crate::row;
use crate::table::{Need, Test};
use crate::world::{CNODE, EMPTY, Must, Slot, Thread, World, now};

/// The tests of this area.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    row!("ipc", a_call_brings_eight_words_there_and_back, "a call carries label and eight words to another address space, and the answer's back"),
    row!("ipc", a_call_works_within_one_address_space, "a call and its answer between threads of one address space carry all words"),
    row!("ipc", a_thousand_calls_all_arrive_in_order, "each of a thousand calls is answered once, with its own answer"),
    row!("ipc", words_beyond_the_registers_travel_in_the_buffers, "64 further words travel through the IPC buffers, both ways"),
    row!("ipc", no_more_words_arrive_than_were_sent, "words of the receiver's buffer beyond those sent stay as they were"),
    row!("ipc", a_buffer_that_is_not_mapped_works_all_the_same, "the kernel reaches an IPC buffer that its thread cannot"),
    row!("ipc", without_its_buffer_a_thread_sends_plain_messages_only, "a thread whose IPC buffer's Frame is gone is refused all but plain messages"),
    row!("ipc", the_receiver_sees_the_badge_of_the_capability, "the badge that arrives is that of the capability used, and cannot be chosen by its holder"),
    row!("ipc", a_send_waits_for_its_receiver_and_wants_no_answer, "a send ends when it is received, and there is nobody to answer"),
    row!("ipc", a_try_send_reaches_a_receiver_that_waits, "try_send delivers to a waiting receiver and is refused otherwise"),
    row!("ipc", a_try_recv_takes_a_message_that_waits, "try_recv takes the message of a waiting sender and is refused otherwise"),
    row!("ipc", senders_are_served_first_come_first_served, "messages are received in the order in which their senders came"),
    row!("ipc", receivers_are_served_first_come_first_served, "messages go to receivers in the order in which they came"),
    row!("ipc", a_capability_travels_with_grant, "a capability sent along arrives in the named slot, badged as it was"),
    row!("ipc", no_capability_travels_without_grant, "over a capability without GRANT no capability travels; the message does"),
    row!("ipc", a_capability_travels_back_with_the_answer, "the answer to a call carries a capability if the caller's own had GRANT, else none"),
    row!("ipc", three_capabilities_travel_at_most_as_far_as_there_are_slots, "capabilities arrive in order until a slot is missing or occupied"),
    row!("ipc", a_capability_that_travelled_has_no_more_rights, "what arrives has the rights of what was sent, and dies with it"),
    row!("ipc", a_deadline_ends_a_receive_and_no_earlier, "a receive with a deadline ends with TimedOut, not before its time"),
    row!("ipc", a_message_before_the_deadline_is_received, "a receive with a deadline takes a message that comes in time, and the deadline is void then"),
    row!("ipc", a_deadline_in_the_past_ends_at_once, "a receive whose deadline has passed still takes what waits, and else ends at once"),
    row!("ipc", all_who_wait_on_a_deleted_endpoint_are_told, "deleting an Endpoint ends every wait on it with Cancelled"),
    row!("ipc", a_refused_call_tells_nothing_but_its_error, "after a refused call the registers are zero or as the caller had them"),
    row!("ipc", words_of_refused_messages_do_not_arrive, "a refused send leaves no message behind"),
    row!("ipc", a_call_reaches_a_server_on_another_cpu, "call and answer work between CPUs", Need::Cpus(2)),
    row!("ipc", senders_on_all_cpus_reach_one_server, "no message is lost or doubled when all CPUs call one server at once", Need::Cpus(2)),
    row!("ipc", buffers_and_capabilities_travel_between_cpus, "buffer words and capabilities travel between CPUs as within one", Need::Cpus(2)),
    row!("ipc", a_deadline_on_another_cpu_holds, "deadlines work on every CPU", Need::Cpus(2)),
];

const COUNTED: Message = Message::of(7, [1, 2, 3, 4, 5, 6, 7, 8]);
const BACKWARDS: Message = Message::of(9, [8, 7, 6, 5, 4, 3, 2, 1]);

fn serve_once(endpoint: CPtr) {
    let received = ipc::recv(endpoint, CPtr::NULL).must("a message");
    assert_eq!(received.message, COUNTED);
    ipc::reply(BACKWARDS).must("an answer");
}

/// Answers every call with its words, each one greater.
fn serve_for_ever(endpoint: CPtr) {
    let mut received = ipc::recv(endpoint, CPtr::NULL).must("a first call");
    loop {
        let answer = Message::of(received.message.label(), received.message.words.map(|word| word + 1));
        received = ipc::reply_recv(endpoint, answer).must("a further call");
    }
}

fn a_call_brings_eight_words_there_and_back(w: &mut World) {
    let endpoint = w.endpoint();
    let space = w.space();
    w.thread().space(space).start(move || serve_once(endpoint));
    assert_eq!(ipc::call(endpoint, COUNTED), Ok(BACKWARDS));
}

fn a_call_works_within_one_address_space(w: &mut World) {
    let endpoint = w.endpoint();
    w.thread().start(move || serve_once(endpoint));
    assert_eq!(ipc::call(endpoint, COUNTED), Ok(BACKWARDS));
}

fn a_thousand_calls_all_arrive_in_order(w: &mut World) {
    let endpoint = w.endpoint();
    let space = w.space();
    w.thread().space(space).start(move || serve_for_ever(endpoint));
    for round in 0..1000 {
        let answer = ipc::call(endpoint, Message::of(round as u32, [round; 8])).must("a call");
        assert_eq!(answer, Message::of(round as u32, [round + 1; 8]));
    }
}

fn words_beyond_the_registers_travel_in_the_buffers(w: &mut World) {
    let endpoint = w.endpoint();
    let space = w.space();
    w.thread().space(space).start(move || {
        let received = ipc::recv(endpoint, CPtr::NULL).must("a call");
        assert_eq!(received.message.info.extra(), BUFFER_WORDS);
        for (at, word) in buffer().words.iter().enumerate() {
            assert_eq!(word.replace(1000 + at as u64), at as u64);
        }
        ipc::reply(Message::new(1).with(BUFFER_WORDS, 0)).must("an answer");
    });
    for (at, word) in buffer().words.iter().enumerate() {
        word.set(at as u64);
    }
    let answer = ipc::call(endpoint, COUNTED.with(BUFFER_WORDS, 0)).must("a call");
    assert_eq!(answer.info.extra(), BUFFER_WORDS);
    for (at, word) in buffer().words.iter().enumerate() {
        assert_eq!(word.get(), 1000 + at as u64);
    }
}

fn no_more_words_arrive_than_were_sent(w: &mut World) {
    let endpoint = w.endpoint();
    let server = w.thread().start(move || {
        buffer().words.iter().for_each(|word| word.set(77));
        let received = ipc::recv(endpoint, CPtr::NULL).must("a message");
        assert_eq!(received.message.info.extra(), 3);
        assert_eq!(buffer().words[2].get(), 5);
        assert!(buffer().words[3..].iter().all(|word| word.get() == 77));
    });
    w.until_blocked(&server);
    buffer().words.iter().for_each(|word| word.set(5));
    ipc::send(endpoint, COUNTED.with(3, 0)).must("a send");
    w.join(&server);
}

fn a_buffer_that_is_not_mapped_works_all_the_same(w: &mut World) {
    let [endpoint, frame] = [w.endpoint(), w.frame(1)];
    let server = w.thread().prepare();
    server.tcb.configure(CPtr::NULL, CPtr::NULL, frame, 1024).must("another buffer");
    server.run(move || {
        let received = ipc::recv(endpoint, CPtr::NULL).must("a call");
        // Its own words, which it cannot see, go back.
        ipc::reply(received.message).must("an answer");
    });
    buffer().words.iter().for_each(|word| word.set(4));
    let clean = Message::new(3).with(9, 0);
    w.until_blocked(&server);
    assert_eq!(ipc::call(endpoint, clean).map(|answer| answer.info), Ok(clean.info));
    w.join(&server);
    crate::world::VSPACE.map(frame, HERE, 0, 1, abi::MapFlags::READ).must("a look at it");
    // SAFETY: just mapped.
    let seen = unsafe { ((HERE + 1024) as *const [u64; 10]).read_volatile() };
    assert_eq!(seen, [4, 4, 4, 4, 4, 4, 4, 4, 4, 0]);
}

/// Where a test maps what it wants to look at.
const HERE: u64 = 0x30_0000_0000;

fn without_its_buffer_a_thread_sends_plain_messages_only(w: &mut World) {
    let [endpoint, frame] = [w.endpoint(), w.frame(1)];
    let sender = w.thread().priority(90).prepare();
    sender.tcb.configure(CPtr::NULL, CPtr::NULL, frame, 0).must("another buffer");
    sender.run(move || {
        assert_eq!(ipc::send(endpoint, COUNTED.with(1, 0)), Ok(()));
        assert_eq!(ipc::send(endpoint, COUNTED.with(1, 0)), Err(Error::InvalidArgument));
        assert_eq!(ipc::send(endpoint, COUNTED), Ok(()));
    });
    assert_eq!(ipc::recv(endpoint, CPtr::NULL).must("a message").message.info.extra(), 1);
    w.delete(frame);
    assert_eq!(ipc::recv(endpoint, CPtr::NULL).must("a message").message, COUNTED);
    w.join(&sender);
}

fn the_receiver_sees_the_badge_of_the_capability(w: &mut World) {
    let endpoint = w.endpoint();
    let badged = w.mint(endpoint, Rights::ALL, 0x1234_5678_9abc_def0);
    let copied = w.mint(badged, Rights::WRITE, 0);
    let server = w.thread().start(move || {
        for badge in [0, 0x1234_5678_9abc_def0, 0x1234_5678_9abc_def0] {
            assert_eq!(ipc::recv(endpoint, CPtr::NULL).must("a message").badge, badge);
        }
    });
    for capability in [endpoint, badged, copied] {
        ipc::send(capability, COUNTED).must("a send");
    }
    w.join(&server);
    let slot = w.slot();
    assert_eq!(
        CNODE.mint(slot.into_slot(), CNODE.0, badged.into_slot(), Rights::ALL, 5),
        Err(Error::InvalidArgument)
    );
}

fn a_send_waits_for_its_receiver_and_wants_no_answer(w: &mut World) {
    let endpoint = w.endpoint();
    let sender = w.thread().start(move || {
        ipc::send(endpoint, COUNTED).must("a send");
        arena::set(0, 1);
    });
    w.until_blocked(&sender);
    assert_eq!(arena::get(0), 0);
    assert_eq!(ipc::recv(endpoint, CPtr::NULL).must("a message").message, COUNTED);
    assert_eq!(ipc::reply(COUNTED), Err(Error::NoCaller));
    w.join(&sender);
    assert_eq!(arena::get(0), 1);
}

fn a_try_send_reaches_a_receiver_that_waits(w: &mut World) {
    let endpoint = w.endpoint();
    assert_eq!(ipc::try_send(endpoint, COUNTED), Err(Error::WouldBlock));
    let receiver = w.thread().start(move || {
        assert_eq!(ipc::recv(endpoint, CPtr::NULL).must("a message").message, COUNTED);
    });
    w.until_blocked(&receiver);
    assert_eq!(ipc::try_send(endpoint, COUNTED), Ok(()));
    assert_eq!(ipc::try_send(endpoint, COUNTED), Err(Error::WouldBlock));
    w.join(&receiver);
}

fn a_try_recv_takes_a_message_that_waits(w: &mut World) {
    let endpoint = w.endpoint();
    assert_eq!(ipc::try_recv(endpoint, CPtr::NULL), Err(Error::WouldBlock));
    let sender = w.thread().start(move || {
        assert_eq!(ipc::call(endpoint, COUNTED), Ok(BACKWARDS));
    });
    w.until_blocked(&sender);
    assert_eq!(ipc::try_recv(endpoint, CPtr::NULL).must("a message").message, COUNTED);
    ipc::reply(BACKWARDS).must("an answer");
    w.join(&sender);
}

fn senders_are_served_first_come_first_served(w: &mut World) {
    let endpoint = w.endpoint();
    for number in 0..5 {
        let sender = w.thread().start(move || {
            ipc::send(endpoint, Message::of(0, [number])).must("a send");
        });
        w.until_blocked(&sender);
    }
    for number in 0..5 {
        assert_eq!(ipc::recv(endpoint, CPtr::NULL).must("a message").message.words[0], number);
    }
}

fn receivers_are_served_first_come_first_served(w: &mut World) {
    let endpoint = w.endpoint();
    let receivers: [Thread; 5] = core::array::from_fn(|at| {
        let receiver = w.thread().start(move || {
            let received = ipc::recv(endpoint, CPtr::NULL).must("a message");
            arena::set(at, received.message.words[0]);
        });
        w.until_blocked(&receiver);
        receiver
    });
    for number in 1..=5 {
        ipc::send(endpoint, Message::of(0, [number])).must("a send");
    }
    for (at, receiver) in receivers.iter().enumerate() {
        w.join(receiver);
        assert_eq!(arena::get(at), at as u64 + 1);
    }
}

/// A thread that receives one message with a capability into the first of its slots; how many came is in shared
/// word 0.
fn receiver_of_capabilities<const N: usize>(w: &mut World, endpoint: CPtr, slots: [CPtr; N]) -> Thread {
    let receiver = w.thread().start(move || {
        buffer().receive_into(&slots);
        let received = ipc::recv(endpoint, CPtr::NULL).must("a message");
        arena::set(0, 1 + received.message.info.caps() as u64);
    });
    w.until_blocked(&receiver);
    receiver
}

fn a_capability_travels_with_grant(w: &mut World) {
    let [endpoint, sent, slot] = [w.endpoint(), w.notification(), w.slot()];
    let sent = w.mint(sent, Rights::WRITE, 44);
    let receiver = receiver_of_capabilities(w, endpoint, [slot]);
    buffer().send_caps(&[sent]);
    ipc::send(endpoint, COUNTED.with(0, 1)).must("a send");
    w.join(&receiver);
    assert_eq!(arena::get(0), 2);
    let [from, to] = [sent, slot].map(|slot| CNODE.describe(slot.into_slot()).must("a look"));
    assert_eq!((to.kind, to.badge, to.rights, to.identity), (from.kind, 44, Rights::WRITE, from.identity));
}

fn no_capability_travels_without_grant(w: &mut World) {
    let [endpoint, sent, slot] = [w.endpoint(), w.notification(), w.slot()];
    let weak = w.mint(endpoint, Rights::WRITE, 0);
    let receiver = receiver_of_capabilities(w, endpoint, [slot]);
    buffer().send_caps(&[sent]);
    ipc::send(weak, COUNTED.with(0, 1)).must("a send");
    w.join(&receiver);
    assert_eq!(arena::get(0), 1);
    assert_eq!(CNODE.describe(slot.into_slot()).must("a look").identity, 0);
}

fn a_capability_travels_back_with_the_answer(w: &mut World) {
    let [endpoint, sent] = [w.endpoint(), w.notification()];
    let weak = w.mint(endpoint, Rights::WRITE, 0);
    w.thread().start(move || {
        let mut received = ipc::recv(endpoint, CPtr::NULL).must("a call");
        loop {
            buffer().send_caps(&[sent]);
            received = ipc::reply_recv(endpoint, received.message.with(0, 1)).must("a call");
        }
    });
    let [first, second] = [w.slot(), w.slot()];
    buffer().receive_into(&[first]);
    assert_eq!(ipc::call(endpoint, COUNTED).must("a call").info.caps(), 1);
    assert_eq!(ipc::signal(first), Ok(()));
    buffer().receive_into(&[second]);
    assert_eq!(ipc::call(weak, COUNTED).must("a call").info.caps(), 0);
    assert_eq!(ipc::signal(second), Err(Error::NoCapability));
}

fn three_capabilities_travel_at_most_as_far_as_there_are_slots(w: &mut World) {
    let endpoint = w.endpoint();
    let sent = [w.notification(), w.notification(), w.notification()];
    let free = [w.slot(), w.slot(), w.slot()];
    for (slots, arrive) in [(free, 3), ([w.slot(), sent[0], w.slot()], 1), ([EMPTY, CPtr::NULL, free[2]], 1)]
    {
        let receiver = receiver_of_capabilities(w, endpoint, slots);
        buffer().send_caps(&sent);
        ipc::send(endpoint, COUNTED.with(0, 3)).must("a send");
        w.join(&receiver);
        assert_eq!(arena::get(0), 1 + arrive);
    }
}

fn a_capability_that_travelled_has_no_more_rights(w: &mut World) {
    let [endpoint, whole, slot] = [w.endpoint(), w.notification(), w.slot()];
    let weak = w.mint(whole, Rights::READ, 0);
    let receiver = receiver_of_capabilities(w, endpoint, [slot]);
    buffer().send_caps(&[weak]);
    ipc::send(endpoint, COUNTED.with(0, 1)).must("a send");
    w.join(&receiver);
    assert_eq!(ipc::signal(slot), Err(Error::NoRights));
    assert_eq!(ipc::poll(slot), Err(Error::WouldBlock));
    CNODE.revoke(weak.into_slot()).must("a revoke");
    assert_eq!(ipc::poll(slot), Err(Error::NoCapability));
}

fn a_deadline_ends_a_receive_and_no_earlier(w: &mut World) {
    let endpoint = w.endpoint();
    for milliseconds in [0, 1, 20] {
        let end = now() + w.milliseconds(milliseconds);
        assert_eq!(ipc::recv_until(endpoint, CPtr::NULL, end), Err(Error::TimedOut));
        assert!(now() >= end, "it ended too early");
    }
}

fn a_message_before_the_deadline_is_received(w: &mut World) {
    let endpoint = w.endpoint();
    w.thread().priority(50).start(move || ipc::send(endpoint, COUNTED).must("a send"));
    let end = now() + w.milliseconds(100);
    assert_eq!(ipc::recv_until(endpoint, CPtr::NULL, end).must("a message").message, COUNTED);
    // The deadline is taken back: nothing happens when its time comes.
    let later = ipc::recv_until(endpoint, CPtr::NULL, end + w.milliseconds(50));
    assert_eq!(later, Err(Error::TimedOut));
    assert!(now() >= end + w.milliseconds(50), "the first deadline ended the second receive");
}

fn a_deadline_in_the_past_ends_at_once(w: &mut World) {
    let endpoint = w.endpoint();
    assert_eq!(ipc::recv_until(endpoint, CPtr::NULL, 0), Err(Error::TimedOut));
    assert_eq!(ipc::recv_until(endpoint, CPtr::NULL, 1), Err(Error::TimedOut));
    let sender = w.thread().start(move || ipc::send(endpoint, COUNTED).must("a send"));
    w.until_blocked(&sender);
    assert_eq!(ipc::recv_until(endpoint, CPtr::NULL, 1).must("a message").message, COUNTED);
}

fn all_who_wait_on_a_deleted_endpoint_are_told(w: &mut World) {
    let endpoints = [w.endpoint(), w.endpoint()];
    let waiting: [Thread; 12] = core::array::from_fn(|at| {
        let thread = w.thread().start(move || {
            let error = match at % 4 {
                0 => ipc::call(endpoints[0], COUNTED).err(),
                1 => ipc::send(endpoints[0], COUNTED).err(),
                2 => ipc::recv(endpoints[1], CPtr::NULL).err(),
                _ => ipc::reply_recv(endpoints[1], COUNTED).err(),
            };
            assert_eq!(error, Some(Error::Cancelled));
        });
        w.until_blocked(&thread);
        thread
    });
    endpoints.iter().for_each(|&endpoint| w.delete(endpoint));
    waiting.iter().for_each(|thread| w.join(thread));
}

fn a_refused_call_tells_nothing_but_its_error(w: &mut World) {
    let endpoint = w.endpoint();
    let words = [core::mem::MaybeUninit::new(0x5555); 8];
    for number in [Syscall::call, Syscall::send, Syscall::recv, Syscall::signal, Syscall::invoke] {
        let returned = trap(number, EMPTY.into_slot(), 0, words);
        assert_eq!(returned.status, Error::NoCapability as u64);
        assert!(tells_nothing(&returned, EMPTY));
    }
    let returned = trap(Syscall::try_recv, endpoint.into_slot(), 0, words);
    assert_eq!(returned.status, Error::WouldBlock as u64);
    assert!(tells_nothing(&returned, endpoint));
}

/// Whether all registers are 0, or as the caller had them.
fn tells_nothing(returned: &Returned, capability: CPtr) -> bool {
    let words = returned.words.iter().all(|&word| word == 0 || word == 0x5555);
    words && returned.info == 0 && (returned.badge == 0 || returned.badge == capability.into_slot())
}

fn words_of_refused_messages_do_not_arrive(w: &mut World) {
    let endpoint = w.endpoint();
    let bad = Message { info: MsgInfo(66), words: [6; 8] };
    assert_eq!(ipc::send(endpoint, bad), Err(Error::InvalidArgument));
    assert_eq!(
        ipc::send(endpoint, Message { info: MsgInfo(MsgInfo::DEADLINE), words: [6; 8] }),
        Err(Error::InvalidArgument)
    );
    assert_eq!(ipc::try_send(endpoint, COUNTED), Err(Error::WouldBlock));
    assert_eq!(ipc::try_recv(endpoint, CPtr::NULL), Err(Error::WouldBlock));
}

fn a_call_reaches_a_server_on_another_cpu(w: &mut World) {
    let endpoint = w.endpoint();
    let space = w.space();
    w.thread().cpu(1).space(space).start(move || serve_for_ever(endpoint));
    for round in 0..200 {
        let answer = ipc::call(endpoint, Message::of(3, [round; 8])).must("a call");
        assert_eq!(answer, Message::of(3, [round + 1; 8]));
    }
}

fn senders_on_all_cpus_reach_one_server(w: &mut World) {
    const ROUNDS: u64 = 200;
    let endpoint = w.endpoint();
    let space = w.space();
    w.thread().space(space).start(move || {
        let mut received = ipc::recv(endpoint, CPtr::NULL).must("a call");
        loop {
            arena::add(0, received.message.words[0]);
            arena::add(1, 1);
            received = ipc::reply_recv(endpoint, received.message).must("a call");
        }
    });
    let callers = w.cpus() * 2;
    for caller in 0..callers {
        w.thread().cpu(caller / 2).start(move || {
            for round in 0..ROUNDS {
                let message = Message::of(1, [round, caller]);
                assert_eq!(ipc::call(endpoint, message), Ok(message));
            }
            arena::add(2, 1);
        });
    }
    let all = || arena::get(2) == callers;
    w.until_or(all, || panic!("{} calls of {} came through", arena::get(1), callers * ROUNDS));
    assert_eq!((arena::get(0), arena::get(1)), (callers * ROUNDS * (ROUNDS - 1) / 2, callers * ROUNDS));
}

fn buffers_and_capabilities_travel_between_cpus(w: &mut World) {
    let [endpoint, sent, slot] = [w.endpoint(), w.notification(), w.slot()];
    w.thread().cpu(1).start(move || {
        buffer().receive_into(&[slot]);
        let received = ipc::recv(endpoint, CPtr::NULL).must("a call");
        assert_eq!((received.message.info.caps(), received.message.info.extra()), (1, 20));
        assert!(buffer().words[..20].iter().all(|word| word.get() == 31));
        ipc::signal(slot).must("a signal");
        ipc::reply(BACKWARDS.with(5, 0)).must("an answer");
    });
    buffer().words.iter().for_each(|word| word.set(31));
    buffer().send_caps(&[sent]);
    let answer = ipc::call(endpoint, COUNTED.with(20, 1)).must("a call");
    assert_eq!((answer.info.extra(), answer.words), (5, BACKWARDS.words));
    assert_eq!(ipc::poll(sent), Ok(1));
}

fn a_deadline_on_another_cpu_holds(w: &mut World) {
    let endpoint = w.endpoint();
    let wait = w.milliseconds(5);
    let threads: [Thread; 4] = core::array::from_fn(|at| {
        let cpu = at as u64 % w.cpus();
        w.thread().cpu(cpu).start(move || {
            for _ in 0..5 {
                let end = now() + wait;
                assert_eq!(ipc::recv_until(endpoint, CPtr::NULL, end), Err(Error::TimedOut));
                assert!(now() >= end, "it ended too early");
            }
        })
    });
    threads.iter().for_each(|thread| w.join(thread));
}
