//! What init remembers of deaths: the last crashes, what each component said last, how long recoveries took.
//!
//! All of it has a fixed size and is set up before the first death, so that dying takes no memory.

extern crate alloc;

use alloc::collections::VecDeque;

use proto::control::{RECOVERIES, recovery};

use crate::registry::crash::Record;

/// Crashes that are remembered.
pub const MOST_CRASHES: usize = 64;
/// Bytes of a component's last words.
pub const TAIL: usize = 512;

/// The last bytes that a component has printed.
#[derive(Clone, Debug, Default)]
pub struct Tail(heapless::Deque<u8, TAIL>);

impl Tail {
    /// Takes what it prints.
    pub fn push(&mut self, text: &[u8]) {
        for &byte in text.get(text.len().saturating_sub(TAIL)..).unwrap_or_default() {
            if self.0.is_full() {
                self.0.pop_front();
            }
            // There is room now.
            let _ = self.0.push_back(byte);
        }
    }

    /// The bytes from `from` on, as many as `place` has room for: how many.
    pub fn read(&self, from: usize, place: &mut [u8]) -> usize {
        let mut count = 0;
        for (place, byte) in place.iter_mut().zip(self.0.iter().skip(from)) {
            *place = *byte;
            count += 1;
        }
        count
    }
}

/// A crash as it is remembered.
#[derive(Debug)]
pub struct Crash {
    /// The component's name.
    pub name: &'static str,
    /// Its place in the manifest.
    pub place: usize,
    /// When it was noticed, in TSC ticks.
    pub when: u64,
    /// What is known of it.
    pub record: Record,
    /// What the component had printed last.
    pub log: Tail,
}

/// The last crashes.
#[derive(Debug)]
pub struct Crashes(VecDeque<Crash>);

impl Crashes {
    /// None yet.
    pub fn new() -> Crashes {
        Crashes(VecDeque::with_capacity(MOST_CRASHES))
    }

    /// Remembers one, and forgets the oldest if there are too many.
    pub fn add(&mut self, crash: Crash) {
        self.0.truncate(MOST_CRASHES - 1);
        self.0.push_front(crash);
    }

    /// The crash so many before the latest.
    pub fn get(&self, number: u64) -> Option<&Crash> {
        self.0.get(usize::try_from(number).ok()?)
    }
}

impl Default for Crashes {
    fn default() -> Crashes {
        Crashes::new()
    }
}

/// Times of one recovery: the words of `proto::control::recovery`, in TSC ticks.
pub type Times = [u64; recovery::LIFE + 1];

/// The last recoveries of a component.
#[derive(Debug)]
pub struct Recoveries(VecDeque<Times>);

impl Recoveries {
    /// None yet. With room for all of them, or for none.
    pub fn new(room: bool) -> Recoveries {
        Recoveries(VecDeque::with_capacity(if room { RECOVERIES } else { 0 }))
    }

    /// A death was noticed.
    pub fn begin(&mut self, detected: u64) {
        if self.0.capacity() == 0 {
            return;
        }
        self.0.truncate(RECOVERIES - 1);
        let mut times = Times::default();
        times[recovery::DETECTED] = detected;
        self.0.push_front(times);
    }

    /// Notes a word of the latest, the first time only.
    pub fn note(&mut self, word: usize, value: u64) {
        if let Some(times) = self.0.front_mut()
            && times[word] == 0
        {
            times[word] = value;
        }
    }

    /// The recovery so many before the latest.
    pub fn get(&self, number: u64) -> Option<&Times> {
        self.0.get(usize::try_from(number).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_what_was_printed_last() {
        let mut tail = Tail::default();
        let text: std::vec::Vec<u8> = (0..2000u32).map(|at| (at % 251) as u8).collect();
        for chunk in text.chunks(77) {
            tail.push(chunk);
        }
        let mut last = [0; TAIL];
        assert_eq!(tail.read(0, &mut last), TAIL);
        assert_eq!(last[..], text[text.len() - TAIL..]);
        assert_eq!(tail.read(TAIL - 3, &mut last), 3);
        assert_eq!(tail.read(TAIL + 1, &mut last), 0);
        tail.push(&text);
        assert_eq!(tail.read(0, &mut last), TAIL);
        assert_eq!(last[..], text[text.len() - TAIL..]);
    }

    #[test]
    fn recoveries_are_counted_back_from_the_latest_and_a_time_is_noted_once() {
        let mut recoveries = Recoveries::new(true);
        for detected in 1..=RECOVERIES as u64 + 5 {
            recoveries.begin(detected);
            recoveries.note(recovery::READY, detected + 1);
            recoveries.note(recovery::READY, 0);
            recoveries.note(recovery::READY, 7);
        }
        let latest = recoveries.get(0).expect("there");
        assert_eq!((latest[recovery::DETECTED], latest[recovery::READY]), (261, 262));
        assert_eq!(recoveries.get(255).map(|times| times[recovery::DETECTED]), Some(6));
        assert_eq!(recoveries.get(256), None);
        assert_eq!(recoveries.get(u64::MAX), None);
    }
}
