//! A server that asks another one: both are killed after every single store of a request.

use std::cell::Cell;

use ipc::{Error, Message};
use proto::once::{Refusal, Stamp};
use proto::principal::Principal;
use recover::mortal::Mortal;
use recover::server::{Layout, Life, Request, Server, Service, View, Work};
use recover::sessions::Bounds;
use recover::{Ask, Caller, Extra, JournalFull, Link, Memory, Relay};

const LAYOUT: Layout = Layout { others: 2, ..Layout::new(4, Bounds { slots: 10, pool: 0, each: 0 }, 2) };

/// Takes word 0 from the store and puts it into the shop: asked of the shop, which asks the store; or the other store,
/// if word 1 says so.
const BUY: u32 = 1;
/// Word 0 straight into the shop.
const FIND: u32 = 2;
/// More than a transaction of the shop's holds, before the question.
const FLOOD: u32 = 3;
/// More than a transaction of the shop's holds, behind the answer; announced, or not.
const LARGE: u32 = 4;
const LARGE_UNANNOUNCED: u32 = 5;
/// The shop dies of the answer.
const DEADLY: u32 = 6;

/// The shop's and the store's client, and the shop as the store knows it.
const CLIENT: Principal = Principal { slot: 5, generation: 1 };
const OTHER_CLIENT: Principal = Principal { slot: 6, generation: 1 };
const SHOP: Principal = Principal::of_state(2, 0);

/// Gives away what it has.
struct Store;

impl Service for Store {
    const VERSION: u32 = 1;

    fn only_looks(&self, _: u32) -> bool {
        false
    }

    fn look<M: Memory>(&self, _: &View<M>, _: &Request, _: &mut Extra) -> Message {
        unreachable!("nothing only looks")
    }

    fn work<M: Memory>(&self, words: &mut Work<M>, request: &Request) -> Result<Message, JournalFull> {
        let [count, ..] = request.words();
        words.set(0, words.get(0) + count)?;
        words.set(1, words.get(1) + 1)?;
        Ok(Message::of(0, [words.get(0)]))
    }
}

/// Notes what it asks for before it asks, and what it has got.
struct Shop;

impl Service for Shop {
    const VERSION: u32 = 1;

    fn only_looks(&self, _: u32) -> bool {
        false
    }

    fn look<M: Memory>(&self, _: &View<M>, _: &Request, _: &mut Extra) -> Message {
        unreachable!("nothing only looks")
    }

    fn work<M: Memory>(&self, words: &mut Work<M>, request: &Request) -> Result<Message, JournalFull> {
        let [count, ..] = request.words();
        words.set(1, words.get(1) + count)?;
        Ok(Message::of(0, [words.get(1)]))
    }
}

impl Relay for Shop {
    fn ask<M: Memory>(&self, words: &mut Work<M>, request: &Request) -> Result<Option<Ask>, JournalFull> {
        let [count, server, ..] = request.words();
        let label = request.message.label();
        if label == FIND {
            return Ok(None);
        }
        for change in 1..if label == FLOOD { 100 } else { 2 } {
            words.set(0, words.get(0) + change * count)?;
        }
        let changes = if label == LARGE { 100 } else { 1 };
        Ok(Some(Ask { server: server as u32, label: BUY, words: [count, 0, 0, 0, 0, 0, 0], changes }))
    }

    fn answered<M: Memory>(
        &self,
        words: &mut Work<M>,
        request: &Request,
        answer: &Message,
    ) -> Result<Message, JournalFull> {
        let [count, ..] = request.words();
        if let Some(refusal) = Refusal::from_label(answer.label()) {
            return Ok(Message::of(7, [refusal as u64]));
        }
        match request.message.label() {
            LARGE | LARGE_UNANNOUNCED => {
                for change in 1..100 {
                    words.set(1, words.get(1) + change)?;
                }
            }
            DEADLY => std::panic::resume_unwind(Box::new("the shop dies")),
            _ => words.set(1, words.get(1) + count)?,
        }
        Ok(Message::of(0, [words.get(1), answer.words[0]]))
    }
}

struct World {
    shop: Mortal,
    store: Mortal,
    other_store: Mortal,
    /// Stores that a store lives for when it is next asked.
    store_lives: Cell<u64>,
    asked: Cell<u32>,
}

impl World {
    fn new() -> World {
        let memory = || Mortal::new(LAYOUT.shape().frame_words());
        World {
            shop: memory(),
            store: memory(),
            other_store: memory(),
            store_lives: Cell::new(u64::MAX),
            asked: Cell::new(0),
        }
    }

    fn open<S: Service>(memory: &Mortal, life: u32, service: S) -> Server<&Mortal, S> {
        Server::open(memory, LAYOUT, Life { number: life, faults: 0 }, service).expect("a whole state")
    }

    /// The ways of the shop to its stores.
    fn links(&self) -> [Way<'_>; 2] {
        let way = |store| Way { world: self, store, badge: SHOP.badge() };
        [way(&self.store), way(&self.other_store)]
    }

    /// One request, in a new life of the shop that is killed after so many stores.
    fn ask(&self, number: u64, label: u32, count: u64, stores: u64) -> Option<Message> {
        self.ask_in(Life { number: 4, faults: 0 }, number, label, [count, 0], stores)
    }

    fn ask_in(&self, life: Life, number: u64, label: u32, words: [u64; 2], stores: u64) -> Option<Message> {
        let message = Message::of(label, [Stamp { lane: 0, number }.word(), words[0], words[1]]);
        self.shop.live(stores, || {
            let mut shop = Server::open(&self.shop, LAYOUT, life, Shop).expect("a whole state");
            shop.resume(&mut self.links()).expect("the store answers");
            let request = Request { badge: CLIENT.badge(), message, extra: &[] };
            shop.serve_relayed(&request, &mut Extra::new(), &mut self.links()).expect("the store answers")
        })
    }

    /// What both have: the shop's note of what it wants, what it has got, what the store has given, and how often.
    fn words(&self) -> [u64; 4] {
        let (shop, store) = (World::open(&self.shop, 9, Shop), World::open(&self.store, 9, Store));
        [shop.view().get(0), shop.view().get(1), store.view().get(0), store.view().get(1)]
    }
}

/// Somebody's way to a store.
struct Way<'w> {
    world: &'w World,
    store: &'w Mortal,
    badge: u64,
}

impl Link for Way<'_> {
    fn call(&mut self, message: Message, extra: &[u64], answer: &mut Extra) -> Result<Message, Error> {
        let Way { world, store, badge } = *self;
        world.asked.set(world.asked.get() + 1);
        let request = Request { badge, message, extra };
        let lives = world.store_lives.replace(u64::MAX);
        let served = store.live(lives, || World::open(store, 1, Store).serve(&request, answer));
        served.ok_or(Error::PeerDied)
    }
}

#[test]
fn a_request_takes_effect_once_in_both_whenever_the_first_dies() {
    let mut kills = 0;
    for stores in 0.. {
        let world = World::new();
        let first = world.ask(1, BUY, 3, stores);
        let answer = first.or_else(|| world.ask(1, BUY, 3, u64::MAX)).expect("an answer");
        assert_eq!(answer.words[..2], [3, 3], "killed after {stores}");
        assert_eq!(world.words(), [3, 3, 3, 1], "killed after {stores}");
        assert_eq!(world.ask(2, BUY, 4, u64::MAX).map(|answer| answer.words[0]), Some(7));
        assert_eq!(world.words(), [7, 7, 7, 2], "and the next one");
        kills = stores;
        if first.is_some() {
            break;
        }
    }
    assert!(kills > 30, "{kills} kills");
}

#[test]
fn a_request_takes_effect_once_in_both_whenever_the_second_dies() {
    for stores in 0.. {
        let world = World::new();
        world.store_lives.set(stores);
        let answer = world.ask(1, BUY, 3, u64::MAX).expect("an answer");
        assert_eq!(answer.words[..2], [3, 3], "killed after {stores}");
        assert_eq!(world.words(), [3, 3, 3, 1], "killed after {stores}");
        if world.asked.get() == 1 {
            break;
        }
    }
}

#[test]
fn a_request_takes_effect_once_in_both_when_both_die() {
    let undisturbed = World::new();
    undisturbed.ask(1, BUY, 3, u64::MAX);
    for first in 0..undisturbed.shop.stores() {
        for second in 0..undisturbed.store.stores() {
            let world = World::new();
            world.store_lives.set(second);
            assert_eq!(world.ask(1, BUY, 3, first), None);
            world.store_lives.set(second);
            assert_eq!(world.ask(1, BUY, 3, u64::MAX).map(|answer| answer.words[0]), Some(3));
            assert_eq!(world.words(), [3, 3, 3, 1], "killed after {first} and {second}");
        }
    }
}

#[test]
fn what_is_under_way_is_ended_even_if_its_client_never_asks_again() {
    let mut ended = [0, 0];
    for stores in 0.. {
        let world = World::new();
        let survived = world.ask(1, BUY, 3, stores).is_some();
        // Another client's request in the next life: what was logged comes first.
        let mut links = world.links();
        let mut shop = World::open(&world.shop, 5, Shop);
        shop.resume(&mut links).expect("the store answers");
        shop.sweep(|slot| (slot == CLIENT.slot).then_some(2));
        let message = Message::of(FIND, [Stamp { lane: 0, number: 1 }.word(), 10]);
        let other = Request { badge: OTHER_CLIENT.badge(), message, extra: &[] };
        shop.serve_relayed(&other, &mut Extra::new(), &mut links).expect("no question is asked");
        let words = world.words();
        match words {
            [0, 10, 0, 0] => ended[0] += 1,
            [3, 13, 3, 1] => ended[1] += 1,
            _ => panic!("killed after {stores}: {words:?}"),
        }
        if survived {
            break;
        }
    }
    assert!(ended[0] > 5 && ended[1] > 5, "both came about: {ended:?}");
}

#[test]
fn a_question_larger_than_a_transaction_is_never_asked() {
    let world = World::new();
    let answer = world.ask(1, FLOOD, 1, u64::MAX).expect("an answer");
    assert_eq!(Refusal::from_label(answer.label()), Some(Refusal::TooLarge));
    assert_eq!((world.words(), world.asked.get()), ([0; 4], 0));
    assert_eq!(world.ask(2, BUY, 1, u64::MAX).map(|answer| answer.words[0]), Some(1));
}

/// What the client is told must be true: once the store has acted, "nothing was done" is not.
#[test]
fn what_does_not_fit_behind_the_answer_is_refused_before_the_store_acts_or_told_as_it_is() {
    let world = World::new();
    let answer = world.ask(1, LARGE, 1, u64::MAX).expect("an answer");
    assert_eq!(Refusal::from_label(answer.label()), Some(Refusal::TooLarge));
    assert_eq!((world.words(), world.asked.get()), ([0; 4], 0), "nothing was done");
    let answer = world.ask(2, LARGE_UNANNOUNCED, 1, u64::MAX).expect("an answer");
    assert_eq!(Refusal::from_label(answer.label()), Some(Refusal::HalfDone));
    assert_eq!(world.words(), [1, 0, 1, 1], "the store has acted");
    assert_eq!(world.ask(3, BUY, 1, u64::MAX).map(|answer| answer.words[0]), Some(1));
}

#[test]
fn a_request_of_whose_answer_the_first_dies_again_and_again_is_told_as_it_is() {
    let world = World::new();
    for faults in 0..3 {
        let life = Life { number: 4, faults };
        let asked = || world.ask_in(life, 1, DEADLY, [3, 0], u64::MAX);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(asked)).is_err());
    }
    let life = Life { number: 4, faults: 3 };
    let answer = world.ask_in(life, 1, DEADLY, [3, 0], u64::MAX).expect("an answer");
    assert_eq!(Refusal::from_label(answer.label()), Some(Refusal::HalfDone));
    assert_eq!(world.words(), [3, 0, 3, 1], "the store has acted, once");
    let next = world.ask_in(life, 2, BUY, [1, 0], u64::MAX);
    assert_eq!(next.map(|answer| answer.words[..2].to_vec()), Some(vec![1, 4]));
}

#[test]
fn each_of_the_others_has_its_own_sequence_of_numbers() {
    for stores in 0.. {
        let world = World::new();
        let mut survived = true;
        for (number, server) in [0, 0, 1, 0, 1].into_iter().enumerate() {
            let number = number as u64 + 1;
            let life = Life { number: 4, faults: 0 };
            let first = world.ask_in(life, number, BUY, [1, server], stores);
            survived &= first.is_some();
            let answer = first.or_else(|| world.ask_in(life, number, BUY, [1, server], u64::MAX));
            assert_eq!(answer.map(|answer| (answer.label(), answer.words[0])), Some((0, number)));
        }
        assert_eq!(world.words(), [5, 5, 3, 3], "killed after {stores}");
        assert_eq!(World::open(&world.other_store, 9, Store).view().get(0), 2);
        if survived {
            break;
        }
    }
}

#[test]
fn a_plain_caller_beside_it_in_later_lives_disturbs_no_relay() {
    let world = World::new();
    for life in 4..9 {
        let number = u64::from(life) - 3;
        let undone = world.ask_in(Life { number: life, faults: 0 }, number, BUY, [1, 0], 30);
        // The same component as a client like any other, in its next life.
        let badge = Principal::of_component(2, life + 1).badge();
        let mut plain = Caller::new(Way { world: &world, store: &world.store, badge }, 0);
        plain.request(BUY, [10], &[]).expect("served");
        let next = Life { number: life + 1, faults: 0 };
        let done = undone.or_else(|| world.ask_in(next, number, BUY, [1, 0], u64::MAX));
        assert_eq!(done.map(|answer| (answer.label(), answer.words[0])), Some((0, number)));
    }
    assert_eq!(world.words(), [5, 5, 55, 10]);
}

#[test]
fn no_slot_changes_hands_while_the_answer_for_its_holder_is_out() {
    let world = World::new();
    let kill = (0..).find(|stores| {
        // The question is logged and was asked; its answer is not there yet.
        let world = World::new();
        world.ask(1, BUY, 3, *stores);
        world.asked.get() == 1
    });
    world.ask(1, BUY, 3, kill.expect("at some store"));
    let mut shop = World::open(&world.shop, 5, Shop);
    shop.sweep(|slot| (slot == CLIENT.slot).then_some(2));
    let message = Message::of(FIND, [Stamp { lane: 0, number: 1 }.word(), 10]);
    let next = Principal { generation: 2, ..CLIENT };
    let request = Request { badge: next.badge(), message, extra: &[] };
    let refused = shop.serve(&request, &mut Extra::new());
    assert_eq!(Refusal::from_label(refused.label()), Some(Refusal::TryAgain));
    shop.resume(&mut world.links()).expect("the store answers");
    assert_eq!(shop.serve(&request, &mut Extra::new()).words[0], 13);
    assert_eq!(world.words(), [3, 13, 3, 1]);
}

#[test]
fn a_refusal_of_the_others_is_an_answer_like_any() {
    let world = World::new();
    // The store serves the shop's successor already.
    let next = Principal { generation: 2, ..SHOP };
    let message = Message::of(BUY, [Stamp { lane: 0, number: 1 }.word(), 0]);
    let request = Request { badge: next.badge(), message, extra: &[] };
    World::open(&world.store, 1, Store).serve(&request, &mut Extra::new());
    let answer = world.ask(1, BUY, 3, u64::MAX).expect("an answer");
    assert_eq!((answer.label(), answer.words[0]), (7, Refusal::OldGeneration as u64));
    assert_eq!(world.words(), [3, 0, 0, 1]);
    let other = world.ask_in(Life { number: 4, faults: 0 }, 2, BUY, [4, 1], u64::MAX);
    assert_eq!(other.map(|answer| answer.words[..2].to_vec()), Some(vec![4, 4]));
}
