//! Which lanes of the pool are whose.
//!
//! Each slot has one lane of its own, at its own number; so a client with one thread always has a place. Further lanes
//! come from a pool that all clients share. Which lane of the pool is whose stands in the lane itself, and changes by
//! transactions ([`crate::sessions`]). This module is the index over that: lists by owner, and by client, and of what is
//! free. It lies in the state's words, too, but outside of transactions: each life builds it anew from the owners.
//!
//! | words | what |
//! |---|---|
//! | 0 | the first free lane |
//! | one for each slot | its first lane of the pool (low half), how many it has (high half) |
//! | a power of two | the first lane of each hash of an owner |
//! | one for each lane of the pool | the next of the same hash (low half), the next of the same client or free one (high half) |
//!
//! Lanes stand in it as their number in the pool, plus 1; 0 ends a list.

use crate::Memory;
use crate::state::State;

const FREE: usize = 0;
const SLOTS: usize = 1;

/// The index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pool {
    /// Its own words.
    pub(crate) first: usize,
    /// Clients' slots.
    pub(crate) slots: usize,
    /// Lanes of the pool.
    pub(crate) lanes: usize,
    /// The word with the owner of the first lane, and how far it is to the next one's.
    pub(crate) owners: (usize, usize),
}

/// What the lanes hold is not what a server writes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadOwner;

impl Pool {
    /// Words of an index over so many lanes.
    pub(crate) const fn words(slots: usize, lanes: usize) -> usize {
        SLOTS + slots + buckets(lanes) + lanes
    }

    /// Builds the index.
    pub(crate) fn build<M: Memory>(&self, state: &mut State<M>) -> Result<(), BadOwner> {
        for at in self.first..self.link_at(0) {
            state.set_now(at, 0);
        }
        for lane in (0..self.lanes).rev() {
            match self.owner(state, lane) {
                0 => self.set_free(state, lane),
                owner if slot_of(owner) >= self.slots || self.find(state, owner).is_some() => {
                    return Err(BadOwner);
                }
                _ => self.link(state, lane),
            }
        }
        Ok(())
    }

    /// Returns the lane with this owner.
    #[inline]
    pub(crate) fn find<M: Memory>(&self, state: &State<M>, owner: u64) -> Option<usize> {
        if self.lanes == 0 {
            return None;
        }
        let mut next = low(state.word(self.bucket_at(owner)));
        while next != 0 {
            if self.owner(state, next - 1) == owner {
                return Some(next - 1);
            }
            next = low(state.word(self.link_at(next - 1)));
        }
        None
    }

    /// Returns a free lane. It stays free until it has an owner and is linked.
    pub(crate) fn free<M: Memory>(&self, state: &State<M>) -> Option<usize> {
        low(state.word(self.first + FREE)).checked_sub(1)
    }

    /// Returns how many lanes of the pool a client has.
    pub(crate) fn count<M: Memory>(&self, state: &State<M>, slot: usize) -> usize {
        high(state.word(self.slot_at(slot)))
    }

    /// Returns a lane of the client's, if it has any in the pool.
    pub(crate) fn some_lane<M: Memory>(&self, state: &State<M>, slot: usize) -> Option<usize> {
        low(state.word(self.slot_at(slot))).checked_sub(1)
    }

    /// Takes the lane that [`Self::free`] has returned, which has an owner now.
    pub(crate) fn take<M: Memory>(&self, state: &mut State<M>, lane: usize) {
        let next = high(state.word(self.link_at(lane)));
        state.set_now(self.first + FREE, next as u64);
        self.link(state, lane);
    }

    /// Gives back the lane that [`Self::some_lane`] has returned, which had `owner` and has none now.
    pub(crate) fn give_back<M: Memory>(&self, state: &mut State<M>, lane: usize, owner: u64) {
        let link = state.word(self.link_at(lane));
        let mut at = self.bucket_at(owner);
        while low(state.word(at)) != lane + 1 {
            at = self.link_at(low(state.word(at)) - 1);
        }
        let before = state.word(at);
        state.set_now(at, pair(low(link), high(before)));
        let slot = self.slot_at(slot_of(owner));
        let count = high(state.word(slot));
        state.set_now(slot, pair(high(link), count - 1));
        self.set_free(state, lane);
    }

    /// Puts a lane in front of the lists of its owner's.
    fn link<M: Memory>(&self, state: &mut State<M>, lane: usize) {
        let owner = self.owner(state, lane);
        let (bucket, slot) = (self.bucket_at(owner), self.slot_at(slot_of(owner)));
        let (same_hash, same_client) = (low(state.word(bucket)), state.word(slot));
        state.set_now(self.link_at(lane), pair(same_hash, low(same_client)));
        state.set_now(bucket, lane as u64 + 1);
        state.set_now(slot, pair(lane + 1, high(same_client) + 1));
    }

    fn set_free<M: Memory>(&self, state: &mut State<M>, lane: usize) {
        let next = low(state.word(self.first + FREE));
        state.set_now(self.link_at(lane), pair(0, next));
        state.set_now(self.first + FREE, lane as u64 + 1);
    }

    fn owner<M: Memory>(&self, state: &State<M>, lane: usize) -> u64 {
        let (first, stride) = self.owners;
        state.word(first + lane * stride)
    }

    fn slot_at(&self, slot: usize) -> usize {
        self.first + SLOTS + slot
    }

    fn bucket_at(&self, owner: u64) -> usize {
        // Fibonacci hashing (Knuth, vol. 3, 6.4): the upper bits are the well mixed ones.
        let hash = (owner.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
        self.first + SLOTS + self.slots + (hash & (buckets(self.lanes) - 1))
    }

    fn link_at(&self, lane: usize) -> usize {
        self.first + SLOTS + self.slots + buckets(self.lanes) + lane
    }
}

/// The word that says whose a lane is: never 0.
pub(crate) const fn owner(slot: usize, lane: u16) -> u64 {
    OWNED | (slot as u64) << 16 | lane as u64
}

/// The slot in such a word.
pub(crate) const fn slot_of(owner: u64) -> usize {
    (owner >> 16) as u16 as usize
}

const OWNED: u64 = 1 << 32;

const fn buckets(lanes: usize) -> usize {
    lanes.next_power_of_two()
}

const fn pair(low: usize, high: usize) -> u64 {
    low as u64 | (high as u64) << 32
}

const fn low(word: u64) -> usize {
    word as u32 as usize
}

const fn high(word: u64) -> usize {
    (word >> 32) as usize
}
