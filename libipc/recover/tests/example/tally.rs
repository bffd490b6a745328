use ipc::Message;
use proto::once::FIRST_REFUSAL;
use recover::server::{Layout, Service};
use recover::sessions::Bounds;
use recover::{Extra, JournalFull, Memory, Request, View, Work};

/// Labels of requests: add word 1 to counter word 0; what counter word 0 holds. Labels of answers.
pub const ADD: u32 = 1;
pub const READ: u32 = 2;
pub const OK: u32 = 0;
pub const FAILED: u32 = 1;
const _: () = assert!(FAILED < FIRST_REFUSAL);

/// Counters, and in the last word how often any was changed.
pub struct Tally;

const COUNTERS: usize = 16;
const CHANGES: usize = COUNTERS;

impl Tally {
    /// A transaction changes two words. Eight clients, each with a thread; two threads more, of whichever clients.
    pub const LAYOUT: Layout = Layout::new(2, Bounds { slots: 8, pool: 2, each: 1 }, COUNTERS as u32 + 1);

    /// The counter that a request names. Nothing that a client says is an index before it is checked.
    fn counter(request: &Request) -> Option<usize> {
        let [counter, ..] = request.words();
        usize::try_from(counter).ok().filter(|counter| *counter < COUNTERS)
    }
}

impl Service for Tally {
    const VERSION: u32 = 1;

    fn only_looks(&self, label: u32) -> bool {
        label != ADD
    }

    fn look<M: Memory>(&self, words: &View<M>, request: &Request, _: &mut Extra) -> Message {
        match Tally::counter(request) {
            Some(counter) if request.message.label() == READ => Message::of(OK, [words.get(counter)]),
            _ => Message::new(FAILED),
        }
    }

    fn work<M: Memory>(&self, words: &mut Work<M>, request: &Request) -> Result<Message, JournalFull> {
        let [_, amount, ..] = request.words();
        let Some(counter) = Tally::counter(request) else { return Ok(Message::new(FAILED)) };
        // Checked first: an answer that says no has changed nothing.
        let Some(sum) = words.get(counter).checked_add(amount) else { return Ok(Message::new(FAILED)) };
        words.set(counter, sum)?;
        words.set(CHANGES, words.get(CHANGES) + 1)?;
        Ok(Message::of(OK, [sum]))
    }
}
