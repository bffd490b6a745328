//! Transactions, killed after every single store.

use recover::mortal::Mortal;
use recover::state::{MAGIC, Shape, State, no_upgrade};
use recover::{BadState, JournalFull, Memory};

const SHAPE: Shape = Shape { journal: 6, words: 5 };
const VERSION: u32 = 7;

fn memory() -> Mortal {
    Mortal::new(SHAPE.frame_words())
}

fn open(memory: &Mortal) -> Result<State<&Mortal>, BadState> {
    State::open(memory, SHAPE, VERSION, 1, no_upgrade)
}

fn opened(memory: &Mortal) -> State<&Mortal> {
    open(memory).expect("a state that was left by a kill is whole")
}

/// A life that ends before it has changed anything.
fn begin_a_life(memory: &Mortal) {
    opened(memory);
}

fn words(memory: &Mortal) -> Vec<u64> {
    let state = opened(memory);
    (1..state.size()).map(|at| state.word(at)).collect()
}

/// A state of 10, 20, 30, 40, 50.
fn filled() -> Mortal {
    let memory = memory();
    let mut state = opened(&memory);
    for at in 1..6 {
        state.set(at, at as u64 * 10).expect("it fits");
    }
    state.commit();
    memory
}

/// Changes words, one of them twice and one of them not really.
fn transaction(memory: &Mortal) {
    let mut state = opened(memory);
    for (at, value) in [(1, 11), (2, 21), (1, 12), (3, 30), (5, 55)] {
        state.set(at, value).expect("it fits");
    }
    state.commit();
}

const BEFORE: [u64; 5] = [10, 20, 30, 40, 50];
const AFTER: [u64; 5] = [12, 21, 30, 40, 55];

#[test]
fn a_transaction_happens_as_a_whole_or_not_at_all() {
    let whole = filled();
    let before = whole.stores();
    transaction(&whole);
    assert_eq!(words(&whole), AFTER);
    let stores = whole.stores() - before;
    let mut seen = [0, 0];
    for kill in 0..stores {
        let memory = filled();
        assert_eq!(memory.live(kill, || transaction(&memory)), None, "killed after {kill} stores");
        let found = words(&memory);
        assert!(found == BEFORE, "killed after {kill} of {stores} stores: {found:?}");
        seen[0] += 1;
        transaction(&memory);
        assert_eq!(words(&memory), AFTER, "done again after a kill at {kill}");
        seen[1] += 1;
    }
    assert_eq!(seen, [stores as usize; 2], "the last store is the commit");
}

#[test]
fn a_recovery_that_is_killed_is_begun_again() {
    let once = filled();
    let before = once.stores();
    transaction(&once);
    let stores = once.stores() - before;
    for kill in 0..stores {
        for second in 0.. {
            let memory = filled();
            memory.live(kill, || transaction(&memory));
            let survived = memory.live(second, || begin_a_life(&memory));
            assert_eq!(words(&memory), BEFORE, "killed after {kill}, and after {second} of recovery");
            if survived.is_some() {
                break;
            }
        }
    }
}

#[test]
fn setting_up_can_be_killed_too() {
    for kill in 0.. {
        let memory = memory();
        let survived = memory.live(kill, || begin_a_life(&memory));
        assert_eq!(words(&memory), [0; 5], "killed after {kill} stores");
        if survived.is_some() {
            break;
        }
    }
}

#[test]
fn what_is_undone_leaves_what_was_done_before_it() {
    let memory = filled();
    let mut state = opened(&memory);
    state.set(1, 11).expect("it fits");
    let position = state.position();
    state.set(1, 12).expect("it fits");
    state.set(2, 22).expect("it fits");
    state.undo_to(position);
    state.commit();
    assert_eq!(words(&memory), [11, 20, 30, 40, 50]);
}

#[test]
fn a_transaction_that_is_too_large_is_refused_before_anything_is_lost() {
    let memory = filled();
    let mut state = opened(&memory);
    for value in 0..6 {
        state.set(1, value).expect("it fits");
    }
    assert_eq!(state.set(1, 6), Err(JournalFull));
    assert_eq!(state.word(1), 5);
    assert_eq!(words(&memory), BEFORE);
}

#[test]
fn a_frame_that_is_too_small_is_refused() {
    let memory = Mortal::new(SHAPE.frame_words() - 1);
    assert_eq!(open(&memory).err(), Some(BadState::TooSmall));
}

#[test]
fn a_frame_of_another_shape_or_version_is_refused_and_left_alone() {
    let memory = filled();
    let contents = memory.contents();
    let other = Shape { journal: 5, ..SHAPE };
    assert_eq!(State::open(&memory, other, VERSION, 1, no_upgrade).err(), Some(BadState::OtherShape));
    let newer = State::open(&memory, SHAPE, VERSION + 1, 1, no_upgrade);
    assert_eq!(newer.err(), Some(BadState::OtherVersion(VERSION.into())));
    // The journal holds what the attempt left there; nothing else may differ.
    assert_eq!(words(&memory), BEFORE);
    assert_eq!(memory.contents()[..8], contents[..8]);
}

#[test]
fn an_upgrade_happens_as_a_whole_or_not_at_all() {
    let upgrade = |from: u64, state: &mut State<&Mortal>| {
        assert_eq!(from, VERSION.into());
        for at in 1..6 {
            state.set(at, state.word(at) + 1)?;
        }
        Ok(true)
    };
    for kill in 0.. {
        let memory = filled();
        let survived = memory.live(kill, || {
            State::open(&memory, SHAPE, VERSION + 1, 1, upgrade).map(drop).expect("it can be")
        });
        let again = State::open(&memory, SHAPE, VERSION + 1, 1, upgrade).expect("it can be");
        assert_eq!((1..6).map(|at| again.word(at)).collect::<Vec<_>>(), [11, 21, 31, 41, 51], "after {kill}");
        assert_eq!(open(&memory).err(), Some(BadState::OtherVersion(u64::from(VERSION) + 1)));
        if survived.is_some() {
            break;
        }
    }
}

#[test]
fn an_upgrade_larger_than_a_transaction_is_an_error_that_changes_nothing() {
    let memory = filled();
    let endless = |_, state: &mut State<&Mortal>| {
        for value in 0.. {
            state.set(1, value)?;
        }
        Ok(true)
    };
    let refused = State::open(&memory, SHAPE, VERSION + 1, 1, endless).err();
    assert_eq!(refused, Some(BadState::UpgradeTooLarge(VERSION.into())));
    assert_eq!(words(&memory), BEFORE);
}

#[test]
fn memory_that_was_never_cleared_is_damaged() {
    for at in 0..SHAPE.frame_words() {
        let memory = memory();
        memory.store(at, 1);
        // The words that a killed set-up may have left are written anew.
        let expected = if [1, 3, 20].contains(&at) { None } else { Some(BadState::Damaged) };
        assert_eq!(open(&memory).err(), expected, "word {at}");
    }
}

#[test]
fn a_hostile_header_is_an_error_or_read_as_it_is_and_never_a_panic() {
    let good = filled();
    let values = [0, 1, 2, 5, 6, 7, 8, 1 << 31, 1 << 32, u64::MAX - 1, u64::MAX, MAGIC];
    for at in 0..SHAPE.frame_words() {
        for value in values {
            for count in [0, 1, 6] {
                let memory = memory();
                memory.fill(&good.contents());
                memory.store(2, count);
                memory.store(at, value);
                // Whatever it says, opening it ends.
                let _ = open(&memory);
            }
        }
    }
    let memory = memory();
    memory.fill(&good.contents());
    memory.store(2, 7);
    assert_eq!(open(&memory).err(), Some(BadState::Damaged), "more entries than the journal has");
    memory.store(2, 1);
    memory.store(8, 6);
    assert_eq!(open(&memory).err(), Some(BadState::Damaged), "an entry for a word behind the end");
}
