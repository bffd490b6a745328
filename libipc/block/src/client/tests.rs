//! A client and a server of the tests' own making, which says whatever it likes.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use proto::block::{RINGS_BITS, segment};
use proto::channel::{PROPERTIES, SERVER, pairing};

use super::*;

const SECTORS: u64 = 1000;

fn memory() -> Vec<AtomicU64> {
    (0..(1 << RINGS_BITS) / 8).map(|_| AtomicU64::new(0)).collect()
}

/// A server, in its present life, and what the client has heard.
struct Rig<'m> {
    memory: &'m [AtomicU64],
    client: Client<'m, AtomicU64>,
    life: Cell<u32>,
    faults: Cell<u64>,
    submissions: Option<Consumer<'m, RECORD>>,
    completions: Option<Producer<'m, ANSWER>>,
    heard: Vec<Answer>,
}

impl<'m> Rig<'m> {
    /// A client that is together with a server.
    fn new(memory: &'m [AtomicU64]) -> Rig<'m> {
        let client = Client::new(memory, 1).unwrap();
        let mut rig = Rig {
            memory,
            client,
            life: Cell::new(1),
            faults: Cell::new(0),
            submissions: None,
            completions: None,
            heard: Vec::new(),
        };
        rig.join(&[SECTORS, properties::CACHE, 512, 0, 28]);
        rig
    }

    fn turn(&mut self) -> Turn {
        let peer = || Server { life: self.life.get(), faults: self.faults.get() };
        self.client.turn(peer, |answer| self.heard.push(answer))
    }

    /// The server's present life clears its words, describes its device, and joins.
    fn join(&mut self, properties: &[u64]) {
        clear(&self.memory[SUBMISSIONS], index::Role::Consumer);
        clear(&self.memory[COMPLETIONS], index::Role::Producer);
        for (word, value) in self.memory[PROPERTIES..].iter().zip(properties) {
            word.store(*value, Ordering::Relaxed);
        }
        self.memory[SERVER].store(pairing(1, self.life.get()), Ordering::Release);
        let _ = self.turn();
        self.submissions = Some(Consumer::new(&self.memory[SUBMISSIONS], Begin::New).unwrap());
        self.completions = Some(Producer::new(&self.memory[COMPLETIONS], Begin::New).unwrap());
    }

    /// The server dies, and is back.
    fn die(&mut self) {
        self.life.set(self.life.get() + 1);
        let _ = self.turn();
        self.join(&[SECTORS, properties::CACHE, 512, 0, 28]);
    }

    fn ask(&mut self, op: Op, sector: u64) -> Id {
        let segments = [segment(0, 1)];
        let (sectors, segments) = if op == Op::Flush { (0, &[][..]) } else { (1, &segments[..]) };
        self.client.submit(&Request { op, sector, sectors, segments }).unwrap()
    }

    /// What the server finds: identities and sectors.
    fn found(&mut self) -> Vec<(u64, u64)> {
        let submissions = self.submissions.as_mut().unwrap();
        let found =
            std::iter::from_fn(|| submissions.pop().unwrap()).map(|record| (record[0], record[2])).collect();
        let _ = submissions.publish();
        found
    }

    fn say(&mut self, id: u64, status: u64) {
        let completions = self.completions.as_mut().unwrap();
        completions.push(&[id, status]).unwrap();
        let _ = completions.publish();
    }
}

#[test]
fn requests_are_answered_by_name() {
    let memory = memory();
    let mut rig = Rig::new(&memory);
    let ids = [rig.ask(Op::Write, 4), rig.ask(Op::Read, 5), rig.ask(Op::Read, 6)];
    let _ = rig.turn();
    assert_eq!(rig.found(), [(ids[0].word(), 4), (ids[1].word(), 5), (ids[2].word(), 6)]);
    for (at, status) in [(2, Status::Ok), (0, Status::DeviceError), (1, Status::Invalid)] {
        rig.say(ids[at].word(), status as u64);
    }
    assert_eq!(rig.turn().wrong, None);
    let heard: Vec<_> = rig.heard.iter().map(|answer| (answer.id, answer.result)).collect();
    assert_eq!(heard, [(ids[2], Ok(())), (ids[0], Err(Failure::Device)), (ids[1], Err(Failure::Invalid))]);
}

#[test]
fn the_server_is_rung_once_for_a_batch_and_only_when_it_sleeps() {
    let memory = memory();
    let mut rig = Rig::new(&memory);
    assert_eq!(rig.submissions.as_mut().unwrap().sleep(), Ok(true));
    (0..5).for_each(|sector| _ = rig.ask(Op::Read, sector));
    assert!(rig.turn().ring);
    rig.ask(Op::Read, 9);
    assert!(!rig.turn().ring);
    assert!(rig.client.sleep());
}

#[test]
fn a_flush_is_a_barrier_across_deaths_too() {
    let memory = memory();
    let mut rig = Rig::new(&memory);
    let before = [rig.ask(Op::Write, 1), rig.ask(Op::Write, 2)];
    let flush = rig.ask(Op::Flush, 0);
    let behind = rig.ask(Op::Write, 3);
    for again in 0..3 {
        let _ = rig.turn();
        assert_eq!(rig.found(), [(before[0].word(), 1), (before[1].word(), 2)]);
        assert!(rig.client.sleep());
        if again < 2 {
            rig.die();
        }
    }
    before.iter().for_each(|id| rig.say(id.word(), 0));
    for again in 0..3 {
        let _ = rig.turn();
        assert_eq!(rig.found(), [(flush.word(), 0)]);
        if again < 2 {
            rig.die();
        }
    }
    rig.say(flush.word(), 0);
    let _ = rig.turn();
    assert_eq!(rig.found(), [(behind.word(), 3)]);
}

#[test]
fn answers_of_a_dead_server_are_true_and_the_rest_goes_out_again() {
    let memory = memory();
    let mut rig = Rig::new(&memory);
    let ids: Vec<Id> = (0..4).map(|sector| rig.ask(Op::Write, sector)).collect();
    let _ = rig.turn();
    assert_eq!(rig.found().len(), 4);
    rig.say(ids[1].word(), 0);
    rig.say(ids[3].word(), 0);
    rig.die();
    assert_eq!(rig.heard.iter().map(|answer| answer.id).collect::<Vec<_>>(), [ids[1], ids[3]]);
    assert_eq!(rig.found(), [(ids[0].word(), 0), (ids[2].word(), 2)]);
}

#[test]
fn requests_wait_while_there_is_no_server() {
    let memory = memory();
    let mut rig = Rig::new(&memory);
    rig.life.set(2);
    let id = rig.ask(Op::Read, 1);
    assert!(rig.turn().ring);
    assert!(rig.client.sleep() && !rig.client.is_together());
    rig.join(&[SECTORS, 0, 512, 0, 1]);
    assert_eq!(rig.found(), [(id.word(), 1)]);
}

/// What the server does after two requests; and what the client thinks of it.
fn wrong(does: impl Fn(&mut Rig, [Id; 2])) {
    let memory = memory();
    let mut rig = Rig::new(&memory);
    let ids = [rig.ask(Op::Write, 1), rig.ask(Op::Write, 2)];
    let _ = rig.turn();
    assert_eq!(rig.found().len(), 2);
    does(&mut rig, ids);
    // Once, and then its rings are left alone.
    assert_eq!(rig.turn(), Turn::default());
    assert!(rig.client.sleep() && !rig.client.is_together());
    // The next life gets what was not answered.
    let heard: Vec<Id> = rig.heard.iter().map(|answer| answer.id).collect();
    rig.die();
    let left: Vec<u64> = ids.iter().filter(|id| !heard.contains(id)).map(|id| id.word()).collect();
    let found: Vec<u64> = rig.found().iter().map(|(id, _)| *id).collect();
    assert_eq!(found, left);
    for id in left {
        rig.say(id, 0);
    }
    assert_eq!(rig.turn().wrong, None);
    assert_eq!((rig.heard.len(), rig.client.under_way()), (2, 0));
}

#[test]
fn answers_to_what_was_not_asked_are_wrong() {
    for nonsense in [0, 1, 512, u64::MAX] {
        wrong(|rig, _| {
            rig.say(nonsense, 0);
            assert_eq!(rig.turn().wrong, Some(Wrong::Id));
        });
    }
}

#[test]
fn a_second_answer_is_wrong() {
    wrong(|rig, ids| {
        rig.say(ids[0].word(), 0);
        rig.say(ids[0].word(), 0);
        assert_eq!(rig.turn().wrong, Some(Wrong::Id));
        assert_eq!(rig.heard.len(), 1);
    });
}

#[test]
fn an_answer_without_a_meaning_is_wrong() {
    for nonsense in [5, u64::MAX] {
        wrong(|rig, ids| {
            rig.say(ids[1].word(), nonsense);
            assert_eq!(rig.turn().wrong, Some(Wrong::Status));
        });
    }
}

#[test]
fn impossible_indexes_are_wrong() {
    for nonsense in [257, 1 << 50, u64::MAX] {
        wrong(|rig, _| {
            rig.memory[COMPLETIONS.start].store(nonsense, Ordering::Relaxed);
            assert_eq!(rig.turn().wrong, Some(Wrong::Index));
        });
        let memory = memory();
        let mut rig = Rig::new(&memory);
        let id = rig.ask(Op::Write, 1);
        let _ = rig.turn();
        rig.say(id.word(), 0);
        assert_eq!(rig.turn().wrong, None);
        // How far the server has taken requests is looked at only when there seems to be no more room.
        memory[SUBMISSIONS.start + 16].store(nonsense, Ordering::Relaxed);
        (0..256).for_each(|sector| _ = rig.ask(Op::Read, sector));
        assert_eq!(rig.turn().wrong, Some(Wrong::Index));
    }
}

#[test]
fn a_device_that_cannot_be_is_wrong() {
    for nonsense in
        [[u64::MAX, 0, 512, 0, 1], [1, 0, 0, 0, 1], [1, 0, 513, 0, 1], [1, 0, 256, 0, 1], [1, 0, 512, 0, 0]]
    {
        let memory = memory();
        let mut rig = Rig::new(&memory);
        rig.life.set(2);
        let _ = rig.turn();
        for (word, value) in memory[PROPERTIES..].iter().zip(nonsense) {
            word.store(value, Ordering::Relaxed);
        }
        memory[SERVER].store(pairing(1, 2), Ordering::Release);
        assert_eq!(rig.turn().wrong, Some(Wrong::Properties));
        assert_eq!(rig.turn(), Turn::default());
        rig.die();
        assert!(rig.client.is_together());
    }
}

#[test]
fn a_server_that_clears_its_words_for_its_next_life_is_not_wrong() {
    let memory = memory();
    let mut rig = Rig::new(&memory);
    let ids = [rig.ask(Op::Write, 1), rig.ask(Op::Write, 2)];
    let _ = rig.turn();
    rig.found();
    rig.say(ids[0].word(), 0);
    assert_eq!(rig.turn().wrong, None);
    // Its life changes between the client's looks: at the first it is the old one.
    clear(&memory[COMPLETIONS], index::Role::Producer);
    let looks = Cell::new(0);
    let peer = || {
        looks.set(looks.get() + 1);
        Server { life: if looks.get() == 1 { 1 } else { 2 }, faults: 0 }
    };
    let turn = rig.client.turn(peer, |answer| panic!("{answer:?}"));
    assert_eq!(turn, Turn { ring: true, wrong: None });
    rig.life.set(2);
    rig.join(&[SECTORS, 0, 512, 0, 1]);
    assert_eq!(rig.found(), [(ids[1].word(), 2)]);
}

#[test]
fn rings_that_are_too_small_are_refused() {
    let memory = memory();
    assert!(Client::new(&memory[..COMPLETIONS.end - 1], 1).is_err());
}

/// A world whose server answers when the client sleeps.
struct Obliging<'r, 'm> {
    submissions: &'r mut Consumer<'m, RECORD>,
    completions: &'r mut Producer<'m, ANSWER>,
    rung: bool,
}

impl World for Obliging<'_, '_> {
    fn server(&self) -> Server {
        Server { life: 1, faults: 0 }
    }

    fn ring(&mut self) {
        self.rung = true;
    }

    fn report(&mut self, wrong: Wrong) {
        panic!("{wrong:?}");
    }

    fn sleep(&mut self, _: Option<u64>) {
        while let Some(record) = self.submissions.pop().unwrap() {
            self.completions.push(&[record[0], record[2] % 2]).unwrap();
        }
        let _ = self.submissions.publish();
        let _ = self.completions.publish();
    }
}

#[test]
fn one_answer_can_be_waited_for() {
    let memory = memory();
    let mut rig = Rig::new(&memory);
    let ids = [rig.ask(Op::Write, 2), rig.ask(Op::Write, 3)];
    let (mut submissions, mut completions) =
        (rig.submissions.take().unwrap(), rig.completions.take().unwrap());
    let mut world = Obliging { submissions: &mut submissions, completions: &mut completions, rung: false };
    let mut others = Vec::new();
    assert_eq!(rig.client.wait(&mut world, ids[1], |answer| others.push(answer)), Err(Failure::Device));
    assert_eq!(others, [Answer { id: ids[0], result: Ok(()) }]);
}
