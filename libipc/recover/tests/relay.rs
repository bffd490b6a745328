//! A server that asks another one: both are killed after every single store of a request.

use std::cell::Cell;

use ipc::{Error, Message};
use proto::once::{Refusal, STAMP_WORDS, Stamp};
use recover::mortal::Mortal;
use recover::server::{Layout, Life, Request, Server, Service, View, Work};
use recover::sessions::Bounds;
use recover::{Ask, Extra, JournalFull, Link, Memory, Relay};

const LAYOUT: Layout = Layout { journal: 4, bounds: Bounds { clients: 2, lanes: 1 }, words: 2 };

/// Takes word 0 from the store and puts it into the shop: asked of the shop, which asks the store.
const BUY: u32 = 1;
/// Word 0 straight into the shop.
const FIND: u32 = 2;
/// More than a transaction of the shop's holds.
const FLOOD: u32 = 3;

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
        let [count, ..] = request.words();
        if request.message.label() == FIND {
            return Ok(None);
        }
        for change in 1..if request.message.label() == FLOOD { 100 } else { 2 } {
            words.set(0, words.get(0) + change * count)?;
        }
        Ok(Some(Ask { label: BUY, words: [count, 0, 0, 0, 0, 0] }))
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
        words.set(1, words.get(1) + count)?;
        Ok(Message::of(0, [words.get(1), answer.words[0]]))
    }
}

struct World {
    shop: Mortal,
    store: Mortal,
    /// Stores that the store lives for when it is next asked.
    store_lives: Cell<u64>,
    asked: Cell<u32>,
}

impl World {
    fn new() -> World {
        let memory = || Mortal::new(LAYOUT.shape().frame_words());
        World { shop: memory(), store: memory(), store_lives: Cell::new(u64::MAX), asked: Cell::new(0) }
    }

    fn open<S: Service>(memory: &Mortal, life: u32, service: S) -> Server<&Mortal, S> {
        Server::open(memory, LAYOUT, Life { number: life, faults: 0 }, service).expect("a whole state")
    }

    /// One request, in a new life of the shop that is killed after so many stores.
    fn ask(&self, number: u64, label: u32, count: u64, stores: u64) -> Option<Message> {
        let [place, number] = Stamp { epoch: 1, lane: 0, number }.words();
        let message = Message::of(label, [place, number, count]);
        let mut link = self;
        self.shop.live(stores, || {
            let mut shop = World::open(&self.shop, 4, Shop);
            shop.resume(&mut link).expect("the store answers");
            let request = Request { badge: 5, message, extra: &[] };
            shop.serve_relayed(&request, &mut Extra::new(), &mut link).expect("the store answers")
        })
    }

    /// What both have: the shop's note of what it wants, what it has got, what the store has given, and how often.
    fn words(&self) -> [u64; 4] {
        let (shop, store) = (World::open(&self.shop, 9, Shop), World::open(&self.store, 9, Store));
        [shop.view().get(0), shop.view().get(1), store.view().get(0), store.view().get(1)]
    }
}

impl Link for &World {
    fn call(&mut self, message: Message, extra: &[u64], answer: &mut Extra) -> Result<Message, Error> {
        self.asked.set(self.asked.get() + 1);
        let stamp = Stamp::from_words([message.words[0], message.words[1]]).expect("a stamp");
        assert_eq!((stamp.epoch, stamp.lane), (4, 0), "the life that asked first; {STAMP_WORDS} words");
        let request = Request { badge: 1, message, extra };
        let lives = self.store_lives.replace(u64::MAX);
        let served = self.store.live(lives, || World::open(&self.store, 1, Store).serve(&request, answer));
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
        let mut link = &world;
        let mut shop = World::open(&world.shop, 5, Shop);
        shop.resume(&mut link).expect("the store answers");
        let [place, number] = Stamp { epoch: 1, lane: 0, number: 1 }.words();
        let other = Request { badge: 6, message: Message::of(FIND, [place, number, 10]), extra: &[] };
        shop.serve_relayed(&other, &mut Extra::new(), &mut link).expect("no question is asked");
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

#[test]
fn a_refusal_of_the_others_is_an_answer_like_any() {
    let world = World::new();
    // The store knows as many clients as it can.
    for badge in [7, 8] {
        let [place, number] = Stamp { epoch: 1, lane: 0, number: 1 }.words();
        let request = Request { badge, message: Message::of(BUY, [place, number, 0]), extra: &[] };
        World::open(&world.store, 1, Store).serve(&request, &mut Extra::new());
    }
    let answer = world.ask(1, BUY, 3, u64::MAX).expect("an answer");
    assert_eq!((answer.label(), answer.words[0]), (7, Refusal::TooManyClients as u64));
    assert_eq!(world.words(), [3, 0, 0, 2]);
    World::open(&world.store, 1, Store).forget(7);
    assert_eq!(world.ask(2, BUY, 4, u64::MAX).map(|answer| answer.words[..2].to_vec()), Some(vec![4, 4]));
}
