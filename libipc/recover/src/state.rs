//! A server's state frame: words that change by transactions.
//!
//! | words of the frame | what |
//! |---|---|
//! | 0 | [`MAGIC`]; written last when the frame is set up |
//! | 1 | how large the journal and the state are |
//! | 2 | entries of the journal in use: not 0 within a transaction |
//! | 3 | the life that set it up |
//! | 4 to 7 | 0 |
//! | from 8 on | the journal: two words for each entry, which word of the state and what it held |
//! | then | the state, of which word 0 is the version that the server gives it |
//!
//! A change first goes to the journal with what the word held, then the count of entries grows, then the word changes:
//! so a count of n says that the first n entries, put back from the last to the first, lead to where the transaction
//! began. The store that makes the count 0 commits. [`State::open`] takes back what no commit has ended; as it puts
//! back whole words and lowers the count behind them, it may itself be killed and begin again.

use crate::Memory;

/// Word 0 of a state frame: the format of this module.
pub const MAGIC: u64 = u64::from_le_bytes(*b"SKSTATE1");

const SHAPE: usize = 1;
const COUNT: usize = 2;
const SET_UP_BY: usize = 3;
const JOURNAL: usize = 8;
const ENTRY: usize = 2;
/// The word of the state with the version of what the server keeps there.
const VERSION: usize = 0;
/// The first word of the state that is not this module's.
pub(crate) const FIRST: usize = 1;

/// How a state frame is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Words that a transaction can change (each time a word changes counts).
    pub journal: u32,
    /// Words of state.
    pub words: u32,
}

impl Shape {
    /// Words of the frame.
    pub const fn frame_words(self) -> usize {
        JOURNAL + self.journal as usize * ENTRY + FIRST + self.words as usize
    }

    const fn word(self) -> u64 {
        (self.journal as u64) << 32 | self.words as u64
    }
}

/// Why a state frame is of no use. Nothing of it was changed, but for what no commit had ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadState {
    /// The frame is smaller than the state that is to lie in it.
    TooSmall,
    /// It holds neither zeros nor what this module writes.
    Damaged,
    /// It is divided otherwise.
    OtherShape,
    /// What it holds has this version, from which the server cannot go on.
    OtherVersion(u64),
    /// A change that leads from this version to the next is larger than a transaction.
    UpgradeTooLarge(u64),
}

impl core::fmt::Display for BadState {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        match self {
            BadState::TooSmall => f.write_str("the state frame is too small"),
            BadState::Damaged => f.write_str("the state frame is damaged"),
            BadState::OtherShape => f.write_str("the state frame is divided otherwise"),
            BadState::OtherVersion(version) => {
                write!(f, "the state has version {version}, which is not known")
            }
            BadState::UpgradeTooLarge(version) => {
                write!(f, "to bring the state up from version {version} takes more than a transaction holds")
            }
        }
    }
}

/// The journal is full: the transaction changes too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalFull;

/// How far a transaction has come, to go back there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(usize);

/// Words that change by transactions.
#[derive(Debug)]
pub struct State<M> {
    memory: M,
    shape: Shape,
    /// Entries of the journal in use, as the frame has it.
    used: usize,
}

impl<M: Memory> State<M> {
    /// The state in `memory`, where the last commit has left it; all zero in the first life. `life` is this one.
    /// If the state has not `version`, `upgrade` changes it from the version given to `version`, all in one
    /// transaction, or says that it does not know that version (`Ok(false)`).
    pub fn open(
        memory: M,
        shape: Shape,
        version: u32,
        life: u32,
        upgrade: impl FnOnce(u64, &mut State<M>) -> Result<bool, JournalFull>,
    ) -> Result<State<M>, BadState> {
        if memory.size() < shape.frame_words() {
            return Err(BadState::TooSmall);
        }
        let mut state = State { memory, shape, used: 0 };
        match state.memory.load(0) {
            0 => state.set_up(version, life)?,
            MAGIC => state.take_back()?,
            _ => return Err(BadState::Damaged),
        }
        state.bring_up(version, upgrade)?;
        Ok(state)
    }

    fn set_up(&mut self, version: u32, life: u32) -> Result<(), BadState> {
        // A life that was killed in here has left words of this header at most.
        let first_word = self.first_word();
        let allowed = |at: usize| at == SHAPE || at == SET_UP_BY || at == first_word + VERSION;
        if (0..self.memory.size()).any(|at| !allowed(at) && self.memory.load(at) != 0) {
            return Err(BadState::Damaged);
        }
        self.memory.store(SHAPE, self.shape.word());
        self.memory.store(SET_UP_BY, u64::from(life));
        self.memory.store(first_word + VERSION, u64::from(version));
        self.memory.store(0, MAGIC);
        Ok(())
    }

    fn take_back(&mut self) -> Result<(), BadState> {
        if self.memory.load(SHAPE) != self.shape.word() {
            return Err(BadState::OtherShape);
        }
        let count = self.memory.load(COUNT);
        if count > u64::from(self.shape.journal) {
            return Err(BadState::Damaged);
        }
        let words = (FIRST + self.shape.words as usize) as u64;
        if (0..count as usize).any(|entry| self.memory.load(JOURNAL + entry * ENTRY) >= words) {
            return Err(BadState::Damaged);
        }
        self.used = count as usize;
        self.undo_to(Position(0));
        Ok(())
    }

    fn bring_up(
        &mut self,
        version: u32,
        upgrade: impl FnOnce(u64, &mut State<M>) -> Result<bool, JournalFull>,
    ) -> Result<(), BadState> {
        let found = self.word(VERSION);
        if found == u64::from(version) {
            return Ok(());
        }
        let changed =
            upgrade(found, self).and_then(|known| self.set(VERSION, u64::from(version)).map(|()| known));
        match changed {
            Ok(true) => {
                self.commit();
                Ok(())
            }
            other => {
                self.undo_to(Position(0));
                Err(if other.is_ok() {
                    BadState::OtherVersion(found)
                } else {
                    BadState::UpgradeTooLarge(found)
                })
            }
        }
    }

    fn first_word(&self) -> usize {
        JOURNAL + self.shape.journal as usize * ENTRY
    }

    /// Words of the state.
    pub fn size(&self) -> usize {
        FIRST + self.shape.words as usize
    }

    /// The life that found the frame empty.
    pub fn set_up_by(&self) -> u32 {
        self.memory.load(SET_UP_BY) as u32
    }

    /// What a word holds, changed by this transaction or not.
    ///
    /// # Panics
    /// If there is no such word, as a slice does.
    #[inline]
    pub fn word(&self, at: usize) -> u64 {
        assert!(at < self.size(), "a word behind the state's end");
        self.memory.load(self.first_word() + at)
    }

    /// Changes a word in this transaction.
    ///
    /// # Panics
    /// If there is no such word, as a slice does.
    #[inline]
    pub fn set(&mut self, at: usize, value: u64) -> Result<(), JournalFull> {
        let held = self.word(at);
        if held == value {
            return Ok(());
        }
        if self.used >= self.shape.journal as usize {
            return Err(JournalFull);
        }
        let entry = JOURNAL + self.used * ENTRY;
        self.memory.store(entry, at as u64);
        self.memory.store(entry + 1, held);
        self.used += 1;
        self.memory.store(COUNT, self.used as u64);
        self.memory.store(self.first_word() + at, value);
        Ok(())
    }

    /// Changes a word at once and for good, whatever becomes of the transaction, which has not changed it.
    #[inline]
    pub(crate) fn set_now(&mut self, at: usize, value: u64) {
        assert!(at < self.size(), "a word behind the state's end");
        self.memory.store(self.first_word() + at, value);
    }

    /// How far the transaction has come.
    pub fn position(&self) -> Position {
        Position(self.used)
    }

    /// Whether the transaction has changed anything.
    pub fn is_changed(&self) -> bool {
        self.used != 0
    }

    /// Takes back what was changed since `position`.
    pub fn undo_to(&mut self, position: Position) {
        while self.used > position.0 {
            let entry = JOURNAL + (self.used - 1) * ENTRY;
            let (at, held) = (self.memory.load(entry), self.memory.load(entry + 1));
            self.memory.store(self.first_word() + at as usize, held);
            self.used -= 1;
            self.memory.store(COUNT, self.used as u64);
        }
    }

    /// Ends the transaction and begins the next: what it changed stays. One store.
    pub fn commit(&mut self) {
        if self.used != 0 {
            self.used = 0;
            self.memory.store(COUNT, 0);
        }
    }
}

/// For servers that know of one version only.
pub fn no_upgrade<M>(_: u64, _: &mut State<M>) -> Result<bool, JournalFull> {
    Ok(false)
}
