//! The two indexes of a ring, and who is to be signalled when.
//!
//! An index counts what has ever been put in (the producer's) or taken out (the consumer's). Beside its index each
//! side keeps a wish: "signal me when you get past this". It sets the wish to what it has seen of the other's
//! index when it is about to sleep, and looks once more; the other looks at the wish after it has published. With
//! a barrier between write and read on both sides one of the two sees the other, so no wake-up is lost; and a
//! wish that lies behind needs no taking back. (The same idea as VirtIO 1.2, 2.7.10, "used_event".)

use crate::{Begin, Corrupt, Word};

/// Words before the ring's contents: each of the four on a cache line of its own.
pub const HEADER_WORDS: usize = 32;

const PRODUCER: usize = 0;
const CONSUMER: usize = 16;
/// The wish lies so far behind its side's index.
const WISH: usize = 8;

/// Which side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Puts in.
    Producer,
    /// Takes out.
    Consumer,
}

/// One side's indexes.
#[derive(Debug)]
pub struct Side<'m, W> {
    header: &'m [W; HEADER_WORDS],
    role: Role,
    capacity: u64,
    /// How far this side is, and how far it has told the other.
    index: u64,
    published: u64,
    /// How far the other side was when last looked.
    seen: u64,
}

impl<'m, W: Word> Side<'m, W> {
    /// A side of the ring with this header, which holds `capacity` at a time.
    pub fn new(header: &'m [W; HEADER_WORDS], role: Role, capacity: u64, begin: Begin) -> Side<'m, W> {
        let (index, seen) = match begin {
            Begin::New => (0, 0),
            Begin::Again { own, seen } => (own, seen),
        };
        Side { header, role, capacity, index, published: index, seen }
    }

    /// Where this side is, for [`Begin::Again`]: what it has published, and what it has seen.
    pub fn position(&self) -> Begin {
        Begin::Again { own: self.published, seen: self.seen }
    }

    /// The private index: the number of the next record or byte.
    #[inline]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How many this side can put in or take out, as far as it has looked.
    #[inline]
    pub fn known(&self) -> u64 {
        match self.role {
            Role::Producer => self.capacity.wrapping_sub(self.index.wrapping_sub(self.seen)),
            Role::Consumer => self.seen.wrapping_sub(self.index),
        }
    }

    /// Looks how far the other side is, and says how many can be put in or taken out.
    #[inline]
    pub fn look(&mut self) -> Result<u64, Corrupt> {
        let (theirs, _) = self.words(other(self.role));
        let theirs = theirs.read_acquire();
        // The other side only goes forward, and no further than it can know: the consumer up to what this side has
        // published, the producer up to a ring full from there.
        let furthest = match self.role {
            Role::Producer => self.published.wrapping_sub(self.seen),
            Role::Consumer => self.capacity.wrapping_sub(self.seen.wrapping_sub(self.published)),
        };
        if theirs.wrapping_sub(self.seen) > furthest {
            return Err(Corrupt);
        }
        self.seen = theirs;
        Ok(self.known())
    }

    /// Goes on by `count`, at most [`Self::known`]. The other side does not see it yet.
    #[inline]
    pub fn advance(&mut self, count: u64) {
        debug_assert!(count <= self.known());
        self.index = self.index.wrapping_add(count);
    }

    /// Lets the other side see how far this one is. True: it asked to be signalled.
    #[inline]
    #[must_use = "a side that asked for it sleeps until it is signalled"]
    pub fn publish(&mut self) -> bool {
        let before = core::mem::replace(&mut self.published, self.index);
        let passed = self.index.wrapping_sub(before);
        if passed == 0 {
            return false;
        }
        let (own, _) = self.words(self.role);
        own.write_release(self.index);
        W::barrier();
        let (_, wish) = self.words(other(self.role));
        // Whether `before <= wish < index`, on the circle of numbers.
        self.index.wrapping_sub(wish.read()).wrapping_sub(1) < passed
    }

    /// Asks to be signalled when the other side goes on, and looks once more: true when there is still nothing to
    /// put in or take out, so that this side may sleep until it is signalled.
    pub fn sleep(&mut self) -> Result<bool, Corrupt> {
        let (_, wish) = self.words(self.role);
        wish.write(self.seen);
        W::barrier();
        Ok(self.look()? == 0)
    }

    /// Index and wish of a side.
    #[inline]
    fn words(&self, role: Role) -> (&'m W, &'m W) {
        let header: &'m [W; HEADER_WORDS] = self.header;
        match role {
            Role::Producer => (&header[PRODUCER], &header[PRODUCER + WISH]),
            Role::Consumer => (&header[CONSUMER], &header[CONSUMER + WISH]),
        }
    }
}

/// Makes the words 0 that the side `role` of the ring in `memory` writes, for a new beginning (see [`Begin::New`]) of
/// which the other side knows.
pub fn clear<W: Word>(memory: &[W], role: Role) {
    let index = match role {
        Role::Producer => PRODUCER,
        Role::Consumer => CONSUMER,
    };
    for word in [index, index + WISH] {
        if let Some(word) = memory.get(word) {
            word.write_release(0);
        }
    }
}

/// Writes nonsense wherever the producer of the ring in `memory` writes, and nowhere else: what a producer does that is out
/// of its mind. Its consumer is to notice.
pub fn garble<W: Word>(memory: &[W]) {
    const NONSENSE: u64 = 0x5a5a_5a5a_5a5a_5a5a;
    for (at, word) in memory.iter().enumerate() {
        if !(CONSUMER..HEADER_WORDS).contains(&at) {
            word.write(NONSENSE);
        }
    }
}

const fn other(role: Role) -> Role {
    match role {
        Role::Producer => Role::Consumer,
        Role::Consumer => Role::Producer,
    }
}

#[cfg(test)]
mod tests;
