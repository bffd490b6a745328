//! Readiness words: how a client waits without a kept reply.
//!
//! A server never leaves a caller waiting. What would have to wait is answered "try again", and the client waits for a
//! word in shared memory to change: the server counts it up whenever something has become ready, and signals the
//! client's bell if the client sleeps. Each client has its pair of words, [`WORDS`] of them:
//!
//! | word | what | written by |
//! |---|---|---|
//! | 0 | the count | server |
//! | 8 | the wish: the count that the client saw when it went to sleep | client |
//!
//! The client looks at the count *before* it tries. If the answer is "try again", it writes the count it saw as its
//! wish and looks again: only if the count is still the same may it sleep. The server counts up and then looks at the
//! wish. With a barrier between write and read on both sides one of the two sees the other. (As crate `ring` does it.)
//!
//! A server that died may have counted up and not signalled. So each new life counts up and signals, unasked. Nobody
//! believes a word: whatever it holds, the worst is a look in vain, or that who wrote nonsense is not woken.

use ring::Word;

/// Words of a pair, each of the two on a cache line of its own.
pub const WORDS: usize = 16;
const COUNT: usize = 0;
const WISH: usize = 8;

/// The server's side.
#[derive(Debug)]
pub struct Source<'m, W> {
    words: &'m [W; WORDS],
    count: u64,
}

impl<'m, W: Word> Source<'m, W> {
    /// The side of a server that begins a life: what was ready before may be so still. The client's bell is to be
    /// signalled, whatever it wishes.
    pub fn begin(words: &'m [W; WORDS]) -> Source<'m, W> {
        let count = words[COUNT].read().wrapping_add(1);
        words[COUNT].write_release(count);
        Source { words, count }
    }

    /// Something has become ready. True: the client sleeps, signal its bell.
    #[must_use = "a client that sleeps is to be signalled"]
    pub fn advance(&mut self) -> bool {
        let before = self.count;
        self.count = before.wrapping_add(1);
        self.words[COUNT].write_release(self.count);
        W::barrier();
        self.words[WISH].read() == before
    }
}

/// The client's side.
#[derive(Debug)]
pub struct Watch<'m, W> {
    words: &'m [W; WORDS],
}

impl<'m, W: Word> Watch<'m, W> {
    /// The client's side.
    pub fn new(words: &'m [W; WORDS]) -> Watch<'m, W> {
        Watch { words }
    }

    /// The count, to be looked at before trying.
    pub fn seen(&self) -> u64 {
        self.words[COUNT].read_acquire()
    }

    /// Asks to be signalled when the count is not `seen` any more. True: it still is, so the client may wait for its
    /// bell. False: try again now.
    #[must_use = "who waits though something is ready may wait for ever"]
    pub fn sleep(&self, seen: u64) -> bool {
        self.words[WISH].write(seen);
        W::barrier();
        self.seen() == seen
    }
}
