//! How init and a component keep an eye on each other: three pages of words, and the bell.
//!
//! Each page is one Frame that init owns and that outlives the component. All words are 8 bytes, read and written
//! whole; nobody believes more of them than their range.
//!
//! | page | written by | read by |
//! |---|---|---|
//! | orders | init | its component |
//! | status | its component | init |
//! | lives | init | all components |

use crate::codes::codes;
use crate::principal::COMPONENTS;
use crate::requests::Word;

/// Words of a page.
pub const WORDS: usize = 512;

/// Bits of a component's bell.
pub mod bell {
    /// The first of the bits of channels, up to [`IRQ`].
    pub const CHANNEL: u8 = 0;
    /// The first of the bits of a device's interrupts, eight of them.
    pub const IRQ: u8 = 32;
    /// For the component's own use: timers, its own threads.
    pub const OWN: u8 = 40;
    /// The first bit that only init signals.
    pub const INIT: u8 = 60;
    /// `orders` has changed: a heartbeat is asked for, or there is a new injection.
    pub const ORDERS: u8 = 60;
    /// `lives` has changed: a component this one shares a channel with has begun a new life.
    pub const LIVES: u8 = 61;
}

/// Words of the page of orders.
pub mod orders {
    /// Counts the heartbeats asked for. The component copies it to [`super::status::BEAT`] when it has seen it.
    pub const BEAT: usize = 0;
    /// What the component does to itself (a [`super::Injection`]), 0 for nothing. For tests of recovery.
    pub const INJECTION: usize = 1;
    /// It does so when it has begun so many messages in this life ([`super::status::MESSAGES`]); 0: at once.
    pub const AT_MESSAGE: usize = 2;
}

/// Words of the status page. init clears them before each life.
pub mod status {
    /// The last heartbeat that the component has seen.
    pub const BEAT: usize = 0;
    /// Messages, ring entries, interrupts: whatever the component has begun to handle in this life.
    pub const MESSAGES: usize = 1;
    /// When it had served its first request in this life, in TSC ticks; 0 before.
    pub const FIRST_SERVED: usize = 2;
    /// Requests it has served in this life.
    pub const SERVED: usize = 3;
    /// When it was ready to serve in this life, in TSC ticks; 0 before.
    pub const READY: usize = 4;
}

/// Words of the page of lives: [`lives::STRIDE`] for each component, in the order of the manifest.
pub mod lives {
    /// Which life the component is in, from 1 on; even while it is dead.
    pub const LIFE: usize = 0;
    /// How many of its lives have ended by its own fault: not by the operator's will.
    pub const FAULTS: usize = 1;
    /// How often its state Frame was emptied since boot.
    pub const EMPTIED: usize = 2;
    /// Words for each component.
    pub const STRIDE: usize = 3;
}

// Every component that can be a client has its words.
const _: () = assert!(COMPONENTS as usize / 2 * lives::STRIDE <= WORDS);

impl Word for Injection {
    fn to_word(self) -> u64 {
        self as u64
    }

    fn from_word(word: u64) -> Option<Injection> {
        Injection::from_word(word)
    }
}

codes! {
    /// What a component can be told to do to itself, so that its recovery can be tested.
    Injection: u64 = from_word, name {
        /// Be killed here: asks init for it.
        Kill = 1 => "kill",
        /// Touch memory that is not there.
        Fault = 2 => "fault",
        /// Stop answering, and spin.
        Hang = 3 => "hang",
        /// Write nonsense into its rings.
        Corrupt = 4 => "corrupt",
        /// Panic.
        Panic = 5 => "panic",
    }
}
