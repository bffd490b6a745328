//! A heap with undo pages beside a state: both are rolled back, or neither, after every single store.

use proptest::prelude::*;
use recover::Memory;
use recover::mortal::Mortal;
use recover::state::{Shape, State, no_upgrade};
use recover::undo::{BadUndo, PAGE, Undo, UndoFull};

const PAGES: usize = 3;
const COPIES: usize = 3;
const UNDO: usize = 8 + COPIES * (PAGE + 1);
const SHAPE: Shape = Shape { journal: 8, words: 2 };
/// The state's word that counts the heap's transactions, and one of its own.
const HEAP: usize = 1;
const OWN: usize = 2;

/// A part of memory that dies as a whole.
#[derive(Clone, Copy)]
struct Part<'m> {
    memory: &'m Mortal,
    first: usize,
    size: usize,
}

impl Memory for Part<'_> {
    fn size(&self) -> usize {
        self.size
    }

    fn load(&self, at: usize) -> u64 {
        assert!(at < self.size);
        self.memory.load(self.first + at)
    }

    fn store(&self, at: usize, value: u64) {
        assert!(at < self.size);
        self.memory.store(self.first + at, value);
    }
}

fn memory() -> Mortal {
    Mortal::new(PAGES * PAGE + UNDO + SHAPE.frame_words())
}

fn heap(memory: &Mortal) -> Part<'_> {
    Part { memory, first: 0, size: PAGES * PAGE }
}

fn undo(memory: &Mortal) -> Part<'_> {
    Part { memory, first: PAGES * PAGE, size: UNDO }
}

struct Server<'m> {
    heap: Part<'m>,
    undo: Undo<Part<'m>>,
    state: State<Part<'m>>,
    written: [bool; PAGES],
}

impl<'m> Server<'m> {
    fn open(memory: &'m Mortal) -> Server<'m> {
        let frame = Part { memory, first: PAGES * PAGE + UNDO, size: SHAPE.frame_words() };
        let state = State::open(frame, SHAPE, 1, 1, no_upgrade).expect("a whole state");
        let undo = Undo::open(undo(memory), &heap(memory), state.word(HEAP)).expect("whole undo pages");
        Server { heap: heap(memory), undo, state, written: [false; PAGES] }
    }

    /// A write to the heap, noticed if it is the page's first.
    fn write(&mut self, at: usize, value: u64) {
        if !core::mem::replace(&mut self.written[at / PAGE], true) {
            self.undo.keep(&self.heap, at / PAGE).expect("there are as many copies as pages");
        }
        self.heap.store(at, value);
    }

    fn transaction(&mut self, writes: &[(usize, u64)]) {
        for &(at, value) in writes {
            self.write(at, value);
        }
        self.state.set(OWN, self.state.word(OWN) + 1).expect("it fits");
        self.state.set(HEAP, self.undo.transaction()).expect("it fits");
        self.state.commit();
        self.end();
    }

    fn end(&mut self) {
        self.undo.end(&self.heap, self.state.word(HEAP));
        self.written = [false; PAGES];
    }
}

/// What a new life finds: how many transactions, and the heap.
fn found(memory: &Mortal) -> (u64, Vec<u64>) {
    let server = Server::open(memory);
    (server.state.word(OWN), (0..PAGES * PAGE).map(|at| server.heap.load(at)).collect())
}

const FIRST: [(usize, u64); 4] = [(0, 1), (PAGE, 2), (1, 3), (0, 4)];
const SECOND: [(usize, u64); 4] = [(PAGE + 7, 5), (0, 6), (2 * PAGE, 7), (0, 8)];

#[test]
fn heap_and_state_are_committed_together_or_not_at_all() {
    let mut expected = vec![vec![0; PAGES * PAGE]];
    for writes in [FIRST, SECOND] {
        let mut heap = expected[expected.len() - 1].clone();
        writes.iter().for_each(|&(at, value)| heap[at] = value);
        expected.push(heap);
    }
    let undisturbed = memory();
    let both = |memory: &Mortal| {
        let mut server = Server::open(memory);
        server.transaction(&FIRST);
        server.transaction(&SECOND);
    };
    both(&undisturbed);
    assert_eq!(found(&undisturbed), (2, expected[2].clone()));
    // Copying a page is stores that are all alike; still every one of them is tried.
    let mut seen = [0; 3];
    for kill in 0..undisturbed.stores() {
        let memory = memory();
        memory.live(kill, || both(&memory));
        let (transactions, heap) = found(&memory);
        assert_eq!(heap, expected[transactions as usize], "killed after {kill} stores");
        assert_eq!(found(&memory), (transactions, heap), "and once more");
        seen[transactions as usize] += 1;
    }
    assert!(seen.iter().all(|&count| count > 0), "{seen:?}");
}

#[test]
fn a_rollback_that_is_killed_is_begun_again() {
    let half_done = |memory: &Mortal| {
        let mut server = Server::open(memory);
        server.transaction(&FIRST);
        SECOND.iter().for_each(|&(at, value)| server.write(at, value));
    };
    let whole = memory();
    Server::open(&whole).transaction(&FIRST);
    let expected = found(&whole);
    for kill in (0..).step_by(7) {
        let memory = memory();
        half_done(&memory);
        let survived = memory.live(kill, || found(&memory));
        assert_eq!(found(&memory), expected, "killed after {kill} stores");
        if survived.is_some() {
            break;
        }
    }
}

#[test]
fn requests_that_commit_nothing_leave_the_heap_as_it_was() {
    for kill in (0..).step_by(11) {
        let memory = memory();
        let survived = memory.live(kill, || {
            let mut server = Server::open(&memory);
            // One that looked only, then one that was refused when it had written already.
            server.end();
            SECOND.iter().for_each(|&(at, value)| server.write(at, value));
            server.end();
            server.end();
            assert!((0..PAGES * PAGE).all(|at| server.heap.load(at) == 0));
            server.transaction(&FIRST);
            server.end();
            SECOND.iter().for_each(|&(at, value)| server.write(at, value));
        });
        let (transactions, heap) = found(&memory);
        let expected: &[(usize, u64)] = if transactions == 1 { &FIRST } else { &[] };
        let mut words = vec![0; PAGES * PAGE];
        expected.iter().for_each(|&(at, value)| words[at] = value);
        assert_eq!(heap, words, "killed after {kill} stores, {transactions} committed");
        if survived.is_some() {
            assert_eq!(transactions, 1);
            break;
        }
    }
}

#[test]
fn a_page_kept_twice_goes_back_to_where_it_was_first() {
    let memory = memory();
    let mut server = Server::open(&memory);
    server.undo.keep(&server.heap, 1).expect("room");
    server.heap.store(PAGE, 1);
    server.undo.keep(&server.heap, 1).expect("room");
    server.heap.store(PAGE, 2);
    assert_eq!(server.undo.kept().collect::<Vec<_>>(), [1, 1]);
    assert_eq!(found(&memory).1[PAGE], 0);
}

#[test]
fn more_pages_than_copies_are_refused_and_rolled_back() {
    let memory = memory();
    let mut server = Server::open(&memory);
    for page in [0, 1, 2] {
        server.undo.keep(&server.heap, page).expect("room");
        server.heap.store(page * PAGE, 9);
    }
    assert_eq!(server.undo.keep(&server.heap, 0), Err(UndoFull));
    assert_eq!(found(&memory).1, vec![0; PAGES * PAGE]);
}

#[test]
fn damaged_undo_pages_are_an_error_and_never_a_panic() {
    let open = |memory: &Mortal, committed| Undo::open(undo(memory), &heap(memory), committed).err();
    let good = memory();
    Server::open(&good).transaction(&FIRST);
    for at in 0..8 + COPIES {
        for value in [0, 1, 2, 3, 4, 1 << 32, u64::MAX, recover::undo::MAGIC] {
            for count in [0, 1, 3] {
                let memory = memory();
                memory.fill(&good.contents());
                undo(&memory).store(2, count);
                undo(&memory).store(at, value);
                // Whatever it says, opening it ends.
                let _ = open(&memory, 1);
            }
        }
    }
    let with = |at: usize, value: u64| {
        let memory = memory();
        memory.fill(&good.contents());
        undo(&memory).store(2, 1);
        undo(&memory).store(at, value);
        open(&memory, 1)
    };
    assert_eq!(with(0, 1), Some(BadUndo::Damaged));
    assert_eq!(with(1, 4), Some(BadUndo::OtherHeap));
    assert_eq!(with(2, 4), Some(BadUndo::Damaged), "more copies than there is room for");
    assert_eq!(with(3, 3), Some(BadUndo::Damaged), "a transaction that cannot have begun");
    assert_eq!(with(8, 3), Some(BadUndo::Damaged), "a page behind the heap's end");
    let never_cleared = memory();
    undo(&never_cleared).store(100, 1);
    assert_eq!(open(&never_cleared, 0), Some(BadUndo::Damaged));
    let small = Part { memory: &good, first: 0, size: PAGE };
    assert_eq!(Undo::open(small, &heap(&good), 0).err(), Some(BadUndo::TooSmall));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_written_and_killed_a_new_life_finds_a_committed_heap(
        transactions in prop::collection::vec(
            (prop::collection::vec((0..PAGES * PAGE, any::<u64>()), 0..6), prop::option::of(0u64..2500)),
            1..12,
        ),
    ) {
        let memory = memory();
        let mut expected = vec![0; PAGES * PAGE];
        let mut count = 0;
        for (writes, kill) in transactions {
            memory.live(kill.unwrap_or(u64::MAX), || Server::open(&memory).transaction(&writes));
            let (now, heap) = found(&memory);
            if now > count {
                writes.iter().for_each(|&(at, value)| expected[at] = value);
                count += 1;
            }
            prop_assert_eq!(now, count);
            prop_assert_eq!(&heap, &expected);
        }
    }
}
