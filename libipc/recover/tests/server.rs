//! A server of counters, killed after every single store, with clients that repeat.

use ipc::Message;
use proptest::prelude::*;
use proto::once::{Refusal, Stamp};
use recover::mortal::Mortal;
use recover::server::{Layout, Life, MAX_BATCH, Request, Server, Service, View, Work};
use recover::sessions::Bounds;
use recover::{Extra, JournalFull, Memory};

const COUNTERS: usize = 4;
const BOUNDS: Bounds = Bounds { clients: 3, lanes: 2 };
const LAYOUT: Layout = Layout { journal: 8, bounds: BOUNDS, words: COUNTERS as u32 };

/// Adds word 1 to counter word 0, and says what it has become.
const ADD: u32 = 1;
/// Adds 1 to every counter, word 0 times.
const SWEEP: u32 = 2;
/// What counter word 0 holds.
const READ: u32 = 3;

struct Counters;

impl Service for Counters {
    const VERSION: u32 = 1;

    fn only_looks(&self, label: u32) -> bool {
        label == READ
    }

    fn look<M: Memory>(&self, words: &View<M>, request: &Request, extra: &mut Extra) -> Message {
        let counter = request.words()[0] as usize % COUNTERS;
        extra.extend_from_slice(request.extra).expect("it came in as many");
        Message::of(0, [words.get(counter)])
    }

    fn work<M: Memory>(&self, words: &mut Work<M>, request: &Request) -> Result<Message, JournalFull> {
        let [first, second, ..] = request.words();
        let counter = first as usize % COUNTERS;
        match request.message.label() {
            ADD => words.set(counter, words.get(counter) + second)?,
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
    Server::open(memory, LAYOUT, Life { number: 1, faults }, Counters).expect("a whole state")
}

fn open(memory: &Mortal) -> Server<&Mortal, Counters> {
    open_in(memory, 0)
}

/// A life that ends before anybody asks for anything.
fn begin_a_life(memory: &Mortal, faults: u64) {
    open_in(memory, faults);
}

fn stamp(epoch: u32, lane: u32, number: u64) -> Stamp {
    Stamp { epoch, lane, number }
}

fn request(badge: u64, stamp: Stamp, label: u32, words: [u64; 2]) -> Request<'static> {
    let [place, number] = stamp.words();
    Request { badge, message: Message::of(label, [place, number, words[0], words[1]]), extra: &[] }
}

fn add(badge: u64, number: u64, counter: u64, amount: u64) -> Request<'static> {
    request(badge, stamp(1, 0, number), ADD, [counter, amount])
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
    let first = serve(&mut open(&memory), add(9, 1, 2, 5));
    assert_eq!(first.words[0], 5);
    let mut again = open(&memory);
    assert_eq!(serve(&mut again, add(9, 1, 2, 5)), first);
    assert_eq!(serve(&mut again, add(9, 2, 2, 5)).words[0], 10);
    assert_eq!(counters(&memory), [0, 0, 10, 0]);
}

#[test]
fn numbers_and_epochs_out_of_order_are_refused_and_do_nothing() {
    let memory = memory();
    let mut server = open(&memory);
    let mut ask = |stamp| refusal(serve(&mut server, request(9, stamp, ADD, [0, 1])));
    assert_eq!(ask(stamp(4, 0, 2)), Some(Refusal::NumberAhead));
    assert_eq!(ask(stamp(4, 0, 1)), None);
    assert_eq!(ask(stamp(4, 0, 2)), None);
    assert_eq!(ask(stamp(4, 0, 1)), Some(Refusal::OldNumber));
    assert_eq!(ask(stamp(4, 0, 4)), Some(Refusal::NumberAhead));
    assert_eq!(ask(stamp(3, 0, 3)), Some(Refusal::OldEpoch));
    assert_eq!(ask(stamp(4, 2, 1)), Some(Refusal::NoSuchLane));
    assert_eq!(ask(stamp(4, 1, 1)), None, "the other lane");
    assert_eq!(ask(stamp(5, 0, 1)), None, "a new epoch");
    assert_eq!(ask(stamp(4, 0, 3)), Some(Refusal::OldEpoch), "the old one is over");
    assert_eq!(ask(stamp(5, 1, 1)), None, "its other lane begins anew, too");
    assert_eq!(counters(&memory), [5, 0, 0, 0]);
}

#[test]
fn words_that_are_no_stamp_are_refused() {
    let memory = memory();
    let mut server = open(&memory);
    for [place, number] in
        [[0, 0], [0, 1], [1 << 32, 0], [u64::MAX, 1], [1 << 32, u64::MAX], [1 << 32, 1 << 55]]
    {
        let message = Message::of(ADD, [place, number, 0, 1]);
        let answer = serve(&mut server, Request { badge: 1, message, extra: &[] });
        assert_eq!(refusal(answer), Some(Refusal::NoStamp), "{place:#x} {number:#x}");
    }
    assert_eq!(counters(&memory), [0; COUNTERS]);
}

#[test]
fn more_clients_than_are_known_at_a_time_are_pushed_back_until_one_is_forgotten() {
    let memory = memory();
    let mut server = open(&memory);
    for badge in 0..3 {
        assert_eq!(refusal(serve(&mut server, add(badge, 1, 0, 1))), None);
    }
    assert_eq!(refusal(serve(&mut server, add(3, 1, 0, 1))), Some(Refusal::TooManyClients));
    assert_eq!(refusal(serve(&mut server, add(0, 2, 0, 1))), None, "the known are served");
    server.forget(1);
    assert_eq!(refusal(serve(&mut server, add(3, 1, 0, 1))), None);
    assert_eq!(counters(&memory), [5, 0, 0, 0]);
}

#[test]
fn a_request_larger_than_a_transaction_is_refused_for_good_and_changes_nothing() {
    let memory = memory();
    let mut server = open(&memory);
    let large = request(1, stamp(1, 0, 1), SWEEP, [9, 0]);
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
    let looks = Request { extra: &[7; 64], ..request(1, stamp(1, 0, 2), READ, [3, 0]) };
    let mut extra = Extra::new();
    assert_eq!(server.serve(&looks, &mut extra).words[0], 8);
    assert_eq!(extra, [7; 64]);
    let unstamped = Request { badge: 5, message: Message::of(READ, [0, 0, 3]), extra: &[] };
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
        request(1, stamp(1, 1, 1), SWEEP, [2, 0]),
        add(1, 2, 1, 100),
        request(2, stamp(1, 0, 2), SWEEP, [9, 0]),
        request(2, stamp(2, 0, 1), ADD, [3, 5]),
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
        request(1, stamp(1, 0, 1), SWEEP, [1, 0]),
        request(1, stamp(1, 1, 1), SWEEP, [2, 0]),
        request(2, stamp(1, 0, 1), SWEEP, [9, 0]),
        request(2, stamp(1, 0, 2), READ, [0, 0]),
        request(2, stamp(1, 0, 2), SWEEP, [1, 0]),
    ];
    let memory = memory();
    let mut answers = Vec::new();
    open(&memory).serve_batch(requests.map(|request| ((), request)), |(), answer, _| answers.push(*answer));
    let labels: Vec<_> = answers.iter().map(|answer| answer.label()).collect();
    assert_eq!(labels, [0, 0, Refusal::TooLarge as u32, 0, 0]);
    assert_eq!((answers[3].words[0], counters(&memory)), (3, [4; COUNTERS]));
}

#[test]
fn a_request_that_the_server_dies_of_three_times_is_refused_and_the_others_live() {
    let memory = memory();
    serve(&mut open(&memory), add(1, 1, 0, 1));
    let before_work = 2;
    let deadly = add(1, 2, 0, 10);
    for faults in 0..3 {
        // Dies in its service: after the two stores of the mark.
        let mut server = open_in(&memory, faults);
        assert_eq!(memory.live(before_work, || serve(&mut server, deadly)), None);
    }
    let mut server = open_in(&memory, 3);
    assert_eq!(refusal(serve(&mut server, deadly)), Some(Refusal::Poison));
    assert_eq!(refusal(serve(&mut server, deadly)), Some(Refusal::Poison), "as its stored answer");
    assert_eq!(refusal(serve(&mut server, add(1, 3, 0, 100))), None);
    assert_eq!(counters(&memory), [101, 0, 0, 0]);
}

#[test]
fn deaths_by_the_operators_will_poison_nothing() {
    let memory = memory();
    serve(&mut open(&memory), add(1, 1, 0, 1));
    for _ in 0..10 {
        let mut server = open_in(&memory, 0);
        assert_eq!(memory.live(2, || serve(&mut server, add(1, 2, 0, 10))), None);
    }
    assert_eq!(refusal(serve(&mut open(&memory), add(1, 2, 0, 10))), None);
}

#[test]
fn deaths_outside_of_any_service_are_nobodys() {
    let memory = memory();
    serve(&mut open(&memory), add(1, 1, 0, 1));
    for faults in 1..10 {
        begin_a_life(&memory, faults);
    }
    assert_eq!(refusal(serve(&mut open_in(&memory, 10), add(1, 2, 0, 10))), None);
}

#[test]
fn a_death_is_counted_once_however_often_the_counting_is_killed() {
    for kill in 0.. {
        let memory = memory();
        serve(&mut open(&memory), add(1, 1, 0, 1));
        for faults in 0..2 {
            let mut server = open_in(&memory, faults);
            assert_eq!(memory.live(2, || serve(&mut server, add(1, 2, 0, 10))), None);
        }
        let survived = memory.live(kill, || begin_a_life(&memory, 2));
        begin_a_life(&memory, 2);
        // Two deaths: not yet poison.
        assert_eq!(refusal(serve(&mut open_in(&memory, 2), add(1, 2, 0, 10))), None, "killed after {kill}");
        if survived.is_some() {
            break;
        }
    }
}

#[test]
fn a_look_that_kills_is_refused_and_holds_nothing_else_up() {
    let memory = memory();
    serve(&mut open(&memory), add(1, 1, 0, 1));
    let look = request(1, stamp(1, 0, 2), READ, [0, 0]);
    for faults in 0..3 {
        let mut server = open_in(&memory, faults);
        assert_eq!(memory.live(2, || serve(&mut server, look)), None);
    }
    let mut server = open_in(&memory, 3);
    assert_eq!(refusal(serve(&mut server, look)), Some(Refusal::Poison));
    assert_eq!(serve(&mut server, request(1, stamp(1, 0, 2), READ, [1, 0])).words[0], 0, "another look");
    assert_eq!(serve(&mut server, add(1, 2, 0, 1)).words[0], 2, "and the lane's next request");
}

#[test]
fn a_strangers_look_that_kills_is_refused_and_takes_no_clients_place() {
    let memory = memory();
    let look = request(8, stamp(1, 0, 1), READ, [0, 0]);
    for faults in 0..3 {
        let mut server = open_in(&memory, faults);
        assert_eq!(memory.live(2, || serve(&mut server, look)), None);
    }
    let mut server = open_in(&memory, 3);
    let other = Request { badge: 7, ..look };
    assert_eq!(refusal(serve(&mut server, other)), None, "another stranger");
    assert_eq!(refusal(serve(&mut server, look)), Some(Refusal::Poison));
    assert_eq!(refusal(serve(&mut server, look)), None, "told once; it has three more");
    for badge in 0..3 {
        assert_eq!(refusal(serve(&mut server, add(badge, 1, 0, 1))), None, "room for all clients");
    }
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
    NewEpoch { client: usize },
}

fn event() -> impl Strategy<Value = Event> {
    let kill = prop_oneof![2 => Just(None), 3 => (0u64..40).prop_map(Some)];
    prop_oneof![
        8 => (0usize..6, 0u64..4, 1u64..100, kill)
            .prop_map(|(client, counter, amount, kill)| Event::Ask { client, counter, amount, kill }),
        2 => (0usize..6).prop_map(|client| Event::Repeat { client }),
        1 => (0usize..6).prop_map(|client| Event::NewEpoch { client }),
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
            .map(|at| Client { badge: at / 2, stamp: stamp(1, (at % 2) as u32, 1), asked: None })
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
                Event::NewEpoch { client } => {
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
                        let lane = clients[at].stamp.lane;
                        clients[at].stamp = stamp(clients[at].stamp.epoch + 1, lane, 1);
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
        messages in prop::collection::vec((0u64..5, prop::array::uniform8(any::<u64>()), 0u64..6, 0u64..4), 1..40),
    ) {
        let memory = memory();
        let mut server = open(&memory);
        for (badge, words, place, number) in messages {
            let mut message = Message::of(ADD, words);
            // Some of them nearly right.
            if place < 5 {
                message.words[0] = place << 32 | words[0] & 3;
                message.words[1] = number;
            }
            message.words[3] &= 0xffff;
            let answer = serve(&mut server, Request { badge, message, extra: &[] });
            prop_assert!(answer.label() == 0 || refusal(answer).is_some());
        }
    }
}
