//! A server whose state lies in a durable heap: it adds to a word of each page, and says what all words come to.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::rc::Rc;
use core::cell::OnceCell;
use core::sync::atomic::{AtomicU64, Ordering};

use ipc::Message;
use recover::guest::{serve_then, this_life};
use recover::pager::{DurableHeap, NoHeap, divide};
use recover::server::Layout;
use recover::sessions::Bounds;
use recover::undo::PAGE;
use recover::{Extra, JournalFull, Memory, Request, Server, Service, View, Work};
use rt::thread::Builder;

rt::entry!(main);

/// Add word 0 to a word of every page. What all words come to, and how often something was added.
const ADD: u32 = 1;

const PAGES: usize = 8;
/// Far from everything else.
const ADDRESS: u64 = proto::start::FREE + (1 << 40);
const BOUNDS: Bounds = Bounds { slots: proto::principal::COMPONENTS as u32, pool: 0, each: 0 };
const LAYOUT: Layout = Layout::new(2, BOUNDS, 2);
/// Words of its state: the heap's transactions, and how often something was added.
const TRANSACTIONS: usize = 0;
const ADDED: usize = 1;

struct Pages {
    heap: OnceCell<Rc<DurableHeap>>,
}

fn main() -> Result<(), NoHeap> {
    let parts = divide(PAGES, PAGES)?;
    let mut server = Server::open(parts.state, LAYOUT, this_life(), Pages { heap: OnceCell::new() })
        .map_err(recover::guest::NoService::State)?;
    let committed = server.view().get(TRANSACTIONS);
    let heap = DurableHeap::open(parts, ADDRESS, committed, Builder { priority: 130, ..Builder::default() })?;
    let heap = Rc::new(heap);
    // Nobody has set it before.
    let _ = server.service().heap.set(Rc::clone(&heap));
    Err(serve_then("pages", &mut server, |words| heap.end(words.get(TRANSACTIONS))).into())
}

/// The heap's words, as the main thread uses them.
fn words() -> &'static [AtomicU64; PAGES * PAGE] {
    // SAFETY: `DurableHeap::open` maps as many words there for good, before this is called; writes to pages that are
    // read-only are made when the pager has lifted that.
    unsafe { &*(ADDRESS as *const [AtomicU64; PAGES * PAGE]) }
}

impl Service for Pages {
    const VERSION: u32 = 1;

    fn only_looks(&self, label: u32) -> bool {
        label != ADD
    }

    fn look<M: Memory>(&self, state: &View<M>, _: &Request, _: &mut Extra) -> Message {
        let sum = words().iter().map(|word| word.load(Ordering::Relaxed)).sum();
        Message::of(0, [sum, state.get(ADDED)])
    }

    fn work<M: Memory>(&self, state: &mut Work<M>, request: &Request) -> Result<Message, JournalFull> {
        let (Some(heap), [amount, ..]) = (self.heap.get(), request.words()) else {
            return Ok(Message::new(1));
        };
        let added = state.get(ADDED) + 1;
        for page in 0..PAGES {
            // Each time another word, and the pages in another order.
            let page = (page + added as usize) % PAGES;
            let word = &words()[page * PAGE + added as usize % PAGE];
            word.store(word.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
        }
        state.set(TRANSACTIONS, heap.transaction())?;
        state.set(ADDED, added)?;
        Ok(Message::of(0, [added]))
    }
}
