//! A server of counters, killed after every single store, with clients that repeat.

mod poison;

use ipc::Message;
use proptest::prelude::*;
use proto::once::{Refusal, Stamp};
use proto::principal::{Principal, stranger};
use recover::mortal::Mortal;
use recover::server::{Layout, Life, MAX_BATCH, Request, Server, Service, View, Work};
use recover::sessions::Bounds;
use recover::{Extra, JournalFull, Memory, Ready, Retired};

const COUNTERS: usize = 4;
const BOUNDS: Bounds = Bounds { slots: 4, pool: 3, each: 2 };
/// Words of the service: the counters, for each slot what its clients have added, and the length of the log.
const ADDED: usize = COUNTERS;
const LENGTH: usize = ADDED + BOUNDS.slots as usize;
const LOG: u32 = 64;
const LAYOUT: Layout = Layout { scratch: LOG, ..Layout::new(8, BOUNDS, LENGTH as u32 + 1) };

/// Adds word 1 to counter word 0, and says what it has become.
const ADD: u32 = 1;
/// Adds 1 to every counter, word 0 times.
const SWEEP: u32 = 2;
/// What counter word 0 holds.
const READ: u32 = 3;
/// Logs word 0, word 1 times, in the scratch memory: it answers how much there was before.
const LOG_IT: u32 = 4;
/// What slot word 0 has added.
const ADDED_BY: u32 = 5;
/// Kills the server: a request, and a look.
const DEADLY: u32 = 6;
const DEADLY_LOOK: u32 = 7;

/// Counters that are added to; each has to be fetched before it can be used, unless it is told that all are there.
#[derive(Default)]
struct Counters {
    /// Bit n: counter n has to be fetched.
    missing: std::cell::Cell<u64>,
    /// Bit n: somebody wanted counter n.
    wanted: std::cell::Cell<u64>,
}

impl Service for Counters {
    const VERSION: u32 = 1;

    fn only_looks(&self, label: u32) -> bool {
        matches!(label, READ | ADDED_BY | DEADLY_LOOK)
    }

    fn prepare<M: Memory>(&self, _: &View<M>, request: &Request) -> Ready {
        if matches!(request.message.label(), DEADLY | DEADLY_LOOK) {
            std::panic::resume_unwind(Box::new("the server dies"));
        }
        let wanted = 1 << (request.words()[0] as usize % COUNTERS);
        if self.missing.get() & wanted == 0 {
            return Ready::Now;
        }
        self.wanted.set(self.wanted.get() | wanted);
        Ready::Later
    }

    fn retire<M: Memory>(&self, words: &mut Work<M>, slot: u16) -> Result<Retired, JournalFull> {
        let at = ADDED + usize::from(slot);
        let added = words.get(at);
        // A part at a time, though it is not much.
        words.set(at, added / 2)?;
        Ok(if added > 1 { Retired::Partly } else { Retired::Whole })
    }

    fn look<M: Memory>(&self, words: &View<M>, request: &Request, extra: &mut Extra) -> Message {
        let [first, ..] = request.words();
        extra.extend_from_slice(request.extra).expect("it came in as many");
        let at = match request.message.label() {
            READ => first as usize % COUNTERS,
            _ => ADDED + first as usize % BOUNDS.slots as usize,
        };
        Message::of(0, [words.get(at)])
    }

    fn work<M: Memory>(&self, words: &mut Work<M>, request: &Request) -> Result<Message, JournalFull> {
        let [first, second, ..] = request.words();
        let counter = first as usize % COUNTERS;
        match request.message.label() {
            ADD => {
                let slot = Principal::from_badge(request.badge).map_or(0, |client| usize::from(client.slot));
                words.set(ADDED + slot, words.get(ADDED + slot) + second)?;
                words.set(counter, words.get(counter) + second)?;
            }
            LOG_IT => {
                let length = words.get(LENGTH);
                for at in length..length + second {
                    words.write_scratch(at as usize, first);
                }
                words.set(LENGTH, length + second)?;
                return Ok(Message::of(0, [length]));
            }
            SWEEP => {
                for _ in 0..first {
                    for counter in 0..COUNTERS {
                        words.set(counter, words.get(counter) + 1)?;
                    }
                }
            }
            label => panic!("no test sends {label}"),
        }
        Ok(Message::of(0, [words.get(counter), first]))
    }
}

fn memory() -> Mortal {
    Mortal::new(LAYOUT.shape().frame_words())
}

fn open_in(memory: &Mortal, faults: u64) -> Server<&Mortal, Counters> {
    Server::open(memory, LAYOUT, Life { number: 1, faults }, Counters::default()).expect("a whole state")
}

fn open(memory: &Mortal) -> Server<&Mortal, Counters> {
    open_in(memory, 0)
}

/// A life that ends before anybody asks for anything.
fn begin_a_life(memory: &Mortal, faults: u64) {
    open_in(memory, faults);
}

/// The badge of the client in a slot.
fn client(slot: u16, generation: u64) -> u64 {
    Principal { slot, generation }.badge()
}

fn stamp(lane: u16, number: u64) -> Stamp {
    Stamp { lane, number }
}

fn request(badge: u64, stamp: Stamp, label: u32, words: [u64; 2]) -> Request<'static> {
    Request { badge, message: Message::of(label, [stamp.word(), words[0], words[1]]), extra: &[] }
}

/// An addition of the first client in a slot, by its lane 0.
fn add(slot: u16, number: u64, counter: u64, amount: u64) -> Request<'static> {
    request(client(slot, 1), stamp(0, number), ADD, [counter, amount])
}

fn serve(server: &mut Server<&Mortal, Counters>, request: Request) -> Message {
    server.serve(&request, &mut Extra::new())
}

fn refusal(answer: Message) -> Option<Refusal> {
    Refusal::from_label(answer.label())
}

fn counters(memory: &Mortal) -> [u64; COUNTERS] {
    let server = open(memory);
    core::array::from_fn(|at| server.view().get(at))
}

#[test]
fn a_repeated_request_gets_the_answer_it_got() {
    let memory = memory();
    let first = serve(&mut open(&memory), add(3, 1, 2, 5));
    assert_eq!(first.words[0], 5);
    let mut again = open(&memory);
    assert_eq!(serve(&mut again, add(3, 1, 2, 5)), first);
    assert_eq!(serve(&mut again, add(3, 2, 2, 5)).words[0], 10);
    assert_eq!(counters(&memory), [0, 0, 10, 0]);
}

#[test]
fn numbers_and_generations_out_of_order_are_refused_and_do_nothing() {
    let memory = memory();
    let mut server = open(&memory);
    let mut ask =
        |generation, stamp| refusal(serve(&mut server, request(client(2, generation), stamp, ADD, [0, 1])));
    assert_eq!(ask(4, stamp(0, 2)), Some(Refusal::NumberAhead));
    assert_eq!(ask(4, stamp(0, 1)), None);
    assert_eq!(ask(4, stamp(0, 2)), None);
    assert_eq!(ask(4, stamp(0, 1)), Some(Refusal::OldNumber));
    assert_eq!(ask(4, stamp(0, 4)), Some(Refusal::NumberAhead));
    assert_eq!(ask(3, stamp(0, 3)), Some(Refusal::OldGeneration));
    assert_eq!(ask(4, stamp(9, 1)), None, "another lane");
    assert_eq!(ask(5, stamp(0, 1)), None, "the slot's next holder");
    assert_eq!(ask(4, stamp(0, 3)), Some(Refusal::OldGeneration), "the former one is gone");
    assert_eq!(ask(5, stamp(9, 1)), None, "the other lane begins anew, too");
    assert_eq!(counters(&memory), [5, 0, 0, 0]);
}

/// If a message could say it, one message would lock out all later lives of its client.
#[test]
fn nothing_in_a_message_says_who_asks_or_in_which_generation() {
    let memory = memory();
    let mut server = open(&memory);
    for word in (0..64).map(|bit| 1 << bit).chain([u64::MAX, u64::from(u32::MAX) << 32]) {
        let message = Message::of(ADD, [word, 0, 0, word, word, word, word, word]);
        serve(&mut server, Request { badge: client(1, 1), message, extra: &[] });
    }
    assert_eq!(refusal(serve(&mut server, request(client(1, 2), stamp(0, 1), ADD, [0, 1]))), None);
    assert_eq!(refusal(serve(&mut server, add(2, 1, 0, 1))), None, "nor is anyone else disturbed");
}

#[test]
fn who_is_no_principal_or_has_no_place_is_refused() {
    let memory = memory();
    let mut server = open(&memory);
    for badge in [0, 3, stranger(3)] {
        for label in [ADD, READ] {
            let answer = serve(&mut server, request(badge, stamp(0, 1), label, [0, 1]));
            assert_eq!(refusal(answer), Some(Refusal::NoPrincipal), "{badge:#x}");
        }
    }
    for label in [ADD, READ] {
        let answer = serve(&mut server, request(client(4, 1), stamp(0, 1), label, [0, 1]));
        assert_eq!(refusal(answer), Some(Refusal::NoSuchSlot));
    }
    assert_eq!(counters(&memory), [0; COUNTERS]);
}

#[test]
fn words_that_are_no_stamp_are_refused() {
    let memory = memory();
    let mut server = open(&memory);
    for word in [0, 1 << 48, 0xffff << 48] {
        let message = Message::of(ADD, [word, 0, 1]);
        let answer = serve(&mut server, Request { badge: client(1, 1), message, extra: &[] });
        assert_eq!(refusal(answer), Some(Refusal::NoStamp), "{word:#x}");
    }
    assert_eq!(counters(&memory), [0; COUNTERS]);
}

#[test]
fn every_client_has_a_lane_and_more_come_from_a_pool_until_it_is_empty() {
    let memory = memory();
    let mut server = open(&memory);
    let mut ask = |slot, lane, number| {
        refusal(serve(&mut server, request(client(slot, 1), stamp(lane, number), ADD, [0, 1])))
    };
    // The numbers of lanes are the client's choice.
    assert_eq!([ask(0, 500, 1), ask(0, 7, 1), ask(0, 65_535, 1)], [None; 3]);
    assert_eq!(ask(0, 8, 1), Some(Refusal::TooManyLanes), "one client does not get all");
    assert_eq!([ask(1, 7, 1), ask(1, 8, 1)], [None; 2]);
    assert_eq!(ask(1, 9, 1), Some(Refusal::TooManyLanes), "the pool is empty");
    assert_eq!([ask(2, 0, 1), ask(3, 0, 1)], [None; 2], "but each has one");
    assert_eq!([ask(0, 500, 2), ask(0, 7, 2), ask(0, 65_535, 2), ask(1, 7, 2), ask(1, 8, 2)], [None; 5]);
    assert_eq!(counters(&memory), [12, 0, 0, 0]);
    // What a client had goes with it, at once.
    server.sweep(|slot| Some(if slot == 0 { 2 } else { 1 }));
    assert_eq!(refusal(serve(&mut server, request(client(1, 1), stamp(9, 1), ADD, [0, 1]))), None);
    assert_eq!(
        refusal(serve(&mut server, request(client(0, 1), stamp(7, 3), ADD, [0, 1]))),
        Some(Refusal::OldGeneration)
    );
}

#[test]
fn a_client_that_is_gone_leaves_nothing_whenever_the_server_dies_over_it() {
    for kill in 0.. {
        let memory = memory();
        for lane in [0, 5, 6] {
            serve(&mut open(&memory), request(client(1, 1), stamp(lane, 1), ADD, [0, 4]));
        }
        serve(&mut open(&memory), add(2, 1, 1, 9));
        let sweep = || open(&memory).sweep(|slot| Some(if slot == 1 { 2 } else { 1 }));
        let survived = memory.live(kill, sweep);
        sweep();
        let mut server = open(&memory);
        let added = |server: &mut _, slot| {
            let look = request(client(2, 1), stamp(0, 2), ADDED_BY, [slot, 0]);
            serve(server, look).words[0]
        };
        assert_eq!([added(&mut server, 1), added(&mut server, 2)], [0, 9], "killed after {kill}");
        assert_eq!(counters(&memory), [12, 9, 0, 0], "what it has done is not undone");
        // Its successor begins in all lanes at 1, and the pool is whole.
        for lane in [5, 6, 0] {
            let answer = serve(&mut server, request(client(1, 2), stamp(lane, 1), ADD, [2, 1]));
            assert_eq!(refusal(answer), None, "killed after {kill}");
        }
        assert_eq!(
            counters(&memory)[2],
            3,
            "killed after {kill}: no lane has an answer of the former holder's"
        );
        if survived.is_some() {
            break;
        }
    }
}

#[test]
fn an_emptied_state_loses_its_answers_and_the_component_keeps_its_own() {
    let memory = memory();
    let (own, of_state) = (Principal::of_component(1, 1), |emptied| Principal::of_state(1, emptied));
    let mut server = open(&memory);
    let add = |badge| request(badge, stamp(0, 1), ADD, [0, 1]);
    for badge in [own.badge(), of_state(0).badge()] {
        assert_eq!(refusal(serve(&mut server, add(badge))), None);
        assert_eq!(refusal(serve(&mut server, add(badge))), None, "its answer is kept");
    }
    assert_eq!(counters(&memory)[0], 2, "once for each of the two");
    server.sweep(|slot| Principal::holder(slot, |_| 1, |_| 1).map(|holder| holder.generation));
    let old = serve(&mut server, add(of_state(0).badge()));
    assert_eq!(refusal(old), Some(Refusal::OldGeneration), "nobody is answered as the former state was");
    for badge in [own.badge(), of_state(1).badge()] {
        assert_eq!(refusal(serve(&mut server, add(badge))), None);
    }
    assert_eq!(counters(&memory)[0], 3, "the empty state's first request is a new one");
}

#[test]
fn a_log_in_scratch_memory_grows_with_the_answer_or_not_at_all() {
    for kill in 0.. {
        let memory = memory();
        let log = |number, word, times| request(client(1, 1), stamp(0, number), LOG_IT, [word, times]);
        serve(&mut open(&memory), log(1, 7, 20));
        let ask = || serve(&mut open(&memory), log(2, 8, 30));
        let first = memory.live(kill, ask);
        let answer = first.unwrap_or_else(ask);
        assert_eq!((refusal(answer), answer.words[0]), (None, 20), "killed after {kill}");
        let server = open(&memory);
        assert_eq!(server.view().get(LENGTH), 50, "killed after {kill}");
        for at in 0..50 {
            assert_eq!(server.view().scratch(at), if at < 20 { 7 } else { 8 });
        }
        if first.is_some() {
            break;
        }
    }
}

#[test]
fn what_is_not_in_memory_yet_is_asked_for_again_under_the_same_number() {
    let memory = memory();
    let mut server = open(&memory);
    server.service().missing.set(0b100);
    assert_eq!(refusal(serve(&mut server, add(1, 1, 2, 5))), Some(Refusal::TryAgain));
    assert_eq!(refusal(serve(&mut server, add(1, 1, 1, 5))), None, "another request may have the number");
    let look = request(client(1, 1), stamp(0, 2), READ, [2, 0]);
    assert_eq!(refusal(serve(&mut server, look)), Some(Refusal::TryAgain));
    assert_eq!(server.service().wanted.get(), 0b100);
    server.service().missing.set(0);
    assert_eq!(refusal(serve(&mut server, add(1, 2, 2, 5))), None);
    // What is answered already needs nothing any more.
    server.service().missing.set(0b100);
    assert_eq!(serve(&mut server, add(1, 2, 2, 5)).words[0], 5);
    assert_eq!(counters(&memory), [0, 5, 5, 0]);
}

#[test]
fn a_request_larger_than_a_transaction_is_refused_for_good_and_changes_nothing() {
    let memory = memory();
    let mut server = open(&memory);
    let large = request(client(1, 1), stamp(0, 1), SWEEP, [9, 0]);
    assert_eq!(refusal(serve(&mut server, large)), Some(Refusal::TooLarge));
    assert_eq!(refusal(serve(&mut server, large)), Some(Refusal::TooLarge), "as its stored answer");
    assert_eq!(refusal(serve(&mut server, add(1, 2, 0, 7))), None, "its number is used");
    assert_eq!(counters(&memory), [7, 0, 0, 0]);
}

#[test]
fn what_only_looks_uses_no_number_and_is_answered_whole() {
    let memory = memory();
    let mut server = open(&memory);
    serve(&mut server, add(1, 1, 3, 8));
    let looks = Request { extra: &[7; 64], ..request(client(1, 1), stamp(0, 2), READ, [3, 0]) };
    let mut extra = Extra::new();
    assert_eq!(server.serve(&looks, &mut extra).words[0], 8);
    assert_eq!(extra, [7; 64]);
    let unstamped = Request { badge: client(3, 1), message: Message::of(READ, [0, 3]), extra: &[] };
    assert_eq!(serve(&mut server, unstamped).words[0], 8);
    assert_eq!(refusal(serve(&mut server, add(1, 2, 3, 1))), None);
}

/// Serves `requests` one by one in a server that is killed after `kill` stores, then as often as it takes in one
/// that lives; each client repeats its unanswered request, as it had begun, before it goes on.
fn with_a_kill(memory: &Mortal, requests: &[Request], kill: u64) -> (Vec<Message>, bool) {
    let answers = std::cell::RefCell::new(Vec::new());
    let survived = memory.live(kill, || {
        let mut server = open(memory);
        for request in requests {
            let answer = serve(&mut server, *request);
            answers.borrow_mut().push(answer);
        }
    });
    let mut answers = answers.into_inner();
    let mut server = open(memory);
    for request in &requests[answers.len()..] {
        answers.push(serve(&mut server, *request));
    }
    (answers, survived.is_some())
}

#[test]
fn a_kill_after_any_store_of_any_request_loses_and_doubles_nothing() {
    let requests = [
        add(1, 1, 0, 1),
        add(2, 1, 0, 10),
        request(client(1, 1), stamp(1, 1), SWEEP, [2, 0]),
        add(1, 2, 1, 100),
        request(client(2, 1), stamp(0, 2), SWEEP, [9, 0]),
        request(client(2, 2), stamp(0, 1), ADD, [3, 5]),
        add(1, 3, 0, 1000),
    ];
    let undisturbed = memory();
    let (expected, _) = with_a_kill(&undisturbed, &requests, u64::MAX);
    assert_eq!(counters(&undisturbed), [1013, 102, 2, 7]);
    let mut kills = 0;
    for kill in 0.. {
        let memory = memory();
        let (answers, survived) = with_a_kill(&memory, &requests, kill);
        assert_eq!(answers, expected, "killed after {kill} stores");
        assert_eq!(counters(&memory), counters(&undisturbed), "killed after {kill} stores");
        kills = kill;
        if survived {
            break;
        }
    }
    assert!(kills > 100, "so many stores were tried: {kills}");
}

#[test]
fn a_batch_releases_nothing_before_it_is_committed() {
    let requests: Vec<_> = (1..=MAX_BATCH as u64 + 5).map(|number| add(1, number, number, number)).collect();
    for kill in 0.. {
        let memory = memory();
        let released = std::cell::RefCell::new(Vec::new());
        let survived = memory.live(kill, || {
            let batch = requests.iter().copied().enumerate();
            open(&memory).serve_batch(batch, |at, answer, _| released.borrow_mut().push((at, *answer)));
        });
        let released = released.into_inner();
        // What was acknowledged is there: its repetition is answered from what is stored, or is long past.
        let mut server = open(&memory);
        let before = counters(&memory);
        if let Some((at, answer)) = released.last() {
            assert_eq!(released.len(), at + 1, "in their order");
            let repeated = serve(&mut server, requests[*at]);
            // The batch may have been committed beyond what was released.
            assert!(
                repeated == *answer || refusal(repeated) == Some(Refusal::OldNumber),
                "killed after {kill}: {repeated:?}"
            );
            assert_eq!(counters(&memory), before, "the repetition did nothing");
        }
        if survived.is_some() {
            assert_eq!(released.len(), requests.len());
            break;
        }
    }
}

#[test]
fn a_batch_may_hold_what_does_not_fit_into_one_transaction() {
    let requests = [
        request(client(1, 1), stamp(0, 1), SWEEP, [1, 0]),
        request(client(1, 1), stamp(1, 1), SWEEP, [2, 0]),
        request(client(2, 1), stamp(0, 1), SWEEP, [9, 0]),
        request(client(2, 1), stamp(0, 2), READ, [0, 0]),
        request(client(2, 1), stamp(0, 2), SWEEP, [1, 0]),
    ];
    let memory = memory();
    let mut answers = Vec::new();
    open(&memory).serve_batch(requests.map(|request| ((), request)), |(), answer, _| answers.push(*answer));
    let labels: Vec<_> = answers.iter().map(|answer| answer.label()).collect();
    assert_eq!(labels, [0, 0, Refusal::TooLarge as u32, 0, 0]);
    assert_eq!((answers[3].words[0], counters(&memory)), (3, [4; COUNTERS]));
}

/// A client of the model: what it has asked, and whether it was answered.
#[derive(Clone, Debug)]
struct Client {
    badge: u64,
    stamp: Stamp,
    asked: Option<Request<'static>>,
}

#[derive(Clone, Debug)]
enum Event {
    /// The client asks, or repeats what is unanswered, and the server is killed after so many stores.
    Ask { client: usize, counter: u64, amount: u64, kill: Option<u64> },
    /// The client loses the answer (it dies between answer and use of it), and repeats later all the same.
    Repeat { client: usize },
    /// The client begins another life.
    NextLife { client: usize },
}

fn event() -> impl Strategy<Value = Event> {
    let kill = prop_oneof![2 => Just(None), 3 => (0u64..40).prop_map(Some)];
    prop_oneof![
        8 => (0usize..6, 0u64..4, 1u64..100, kill)
            .prop_map(|(client, counter, amount, kill)| Event::Ask { client, counter, amount, kill }),
        2 => (0usize..6).prop_map(|client| Event::Repeat { client }),
        1 => (0usize..6).prop_map(|client| Event::NextLife { client }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_is_killed_when_the_counters_are_the_sum_of_what_was_acknowledged(
        events in prop::collection::vec(event(), 1..80),
    ) {
        let memory = memory();
        // Three clients of two lanes.
        let mut clients: Vec<_> = (0..6)
            .map(|at| Client { badge: client(at / 2, 1), stamp: stamp(at % 2, 1), asked: None })
            .collect();
        let mut expected = [0; COUNTERS];
        let mut last: Vec<Option<(Request, Message)>> = vec![None; 6];
        for event in events {
            match event {
                Event::Ask { client, counter, amount, kill } => {
                    let who = &mut clients[client];
                    let asked =
                        *who.asked.get_or_insert(request(who.badge, who.stamp, ADD, [counter, amount]));
                    let answer = memory.live(kill.unwrap_or(u64::MAX), || serve(&mut open(&memory), asked));
                    if let Some(answer) = answer {
                        prop_assert_eq!(refusal(answer), None);
                        let [counter, amount, ..] = asked.words();
                        expected[counter as usize] += amount;
                        prop_assert_eq!(answer.words[0], expected[counter as usize]);
                        who.asked = None;
                        who.stamp.number += 1;
                        last[client] = Some((asked, answer));
                    }
                }
                Event::Repeat { client } => {
                    if let Some((asked, answer)) = last[client]
                        && clients[client].asked.is_none()
                    {
                        prop_assert_eq!(serve(&mut open(&memory), asked), answer);
                    }
                }
                Event::NextLife { client } => {
                    let badge = clients[client].badge;
                    for at in 0..6 {
                        if clients[at].badge != badge {
                            continue;
                        }
                        // What is in doubt has either happened or not, and never will from here on: asks once more.
                        if let Some(asked) = clients[at].asked.take() {
                            prop_assert_eq!(refusal(serve(&mut open(&memory), asked)), None);
                            let [counter, amount, ..] = asked.words();
                            expected[counter as usize] += amount;
                        }
                        let was = Principal::from_badge(badge).expect("one");
                        clients[at].badge =
                            Principal { generation: was.generation + 1, ..was }.badge();
                        clients[at].stamp.number = 1;
                        last[at] = None;
                    }
                }
            }
        }
        for client in &clients {
            if let Some(asked) = client.asked {
                prop_assert_eq!(refusal(serve(&mut open(&memory), asked)), None);
                let [counter, amount, ..] = asked.words();
                expected[counter as usize] += amount;
            }
        }
        prop_assert_eq!(counters(&memory), expected);
    }

    #[test]
    fn a_hostile_client_gets_an_answer_to_everything(
        messages in prop::collection::vec((0u16..6, prop::array::uniform8(any::<u64>()), 0u64..6, 0u64..4), 1..40),
    ) {
        let memory = memory();
        let mut server = open(&memory);
        for (slot, words, place, number) in messages {
            let mut message = Message::of(ADD, words);
            // Some of them nearly right.
            if place < 5 {
                message.words[0] = place << 48 | number;
            }
            message.words[2] &= 0xffff;
            let badge = client(slot, 1 + words[0] % 3);
            let answer = serve(&mut server, Request { badge, message, extra: &[] });
            prop_assert!(answer.label() == 0 || refusal(answer).is_some());
        }
    }
}

/// Memory that counts how often it is used.
struct Counted {
    words: Mortal,
    uses: std::cell::Cell<u64>,
}

impl Memory for Counted {
    fn size(&self) -> usize {
        self.words.size()
    }

    fn load(&self, at: usize) -> u64 {
        self.uses.set(self.uses.get() + 1);
        self.words.load(at)
    }

    fn store(&self, at: usize, value: u64) {
        self.uses.set(self.uses.get() + 1);
        self.words.store(at, value);
    }
}

/// Uses of memory in a request and in a look of a client's thread, when so many clients with two threads are known.
fn uses(clients: u16) -> [u64; 2] {
    let bounds = Bounds { slots: 512, pool: 512, each: 4 };
    let layout = Layout { bounds, words: 600, ..LAYOUT };
    let memory = Counted { words: Mortal::new(layout.shape().frame_words()), uses: Default::default() };
    let life = Life { number: 1, faults: 0 };
    let mut server = Server::open(&memory, layout, life, Counters::default()).expect("a new state");
    let mut serve = |request: Request| {
        let before = memory.uses.get();
        assert_eq!(refusal(server.serve(&request, &mut Extra::new())), None);
        memory.uses.get() - before
    };
    for slot in 0..clients {
        for lane in 0..2 {
            serve(request(client(slot, 1), stamp(lane, 1), LOG_IT, [1, 0]));
        }
    }
    let last = client(clients - 1, 1);
    let of_first_thread = serve(request(last, stamp(0, 2), ADD, [0, 1]));
    assert!(of_first_thread <= serve(request(last, stamp(1, 2), ADD, [0, 1])));
    [of_first_thread, serve(request(last, stamp(0, 3), READ, [0, 0]))]
}

#[test]
fn a_request_costs_the_same_with_one_and_with_500_clients() {
    let [of_one, look_of_one] = uses(1);
    assert_eq!(uses(500), [of_one, look_of_one]);
    assert!(look_of_one < 10, "a look costs next to nothing: {look_of_one} uses of memory");
}
