//! A durable heap in the guest: first writes are noticed by the write protection of its pages.
//!
//! The state Frame holds, one behind the other, the heap's pages, their copies ([`crate::undo`]) and the state. All of
//! it is mapped as words, by which copies are made and put back; the heap is mapped once more at the address where
//! the component uses it, read-only but for the pages that were kept in this transaction. A write to another page
//! faults; the component's second thread hears the fault, keeps the page, lifts the protection, and answers.
//!
//! The main thread is the only one to use the heap, and not between a commit and [`DurableHeap::end`].

extern crate alloc;

use alloc::sync::Arc;

use abi::message::fault;
use abi::object::PAGE_SIZE;
use abi::{CPtr, Kind, MapFlags};
use ipc::{Message, Tcb, VSpace};
use proto::start::names;
use rt::lock::Mutex;
use rt::thread::{Builder, ThreadError};
use rt::{env, memory};

use crate::guest::{NoService, Words, state};
use crate::undo::{BadUndo, PAGE, Undo};

/// Vector of a page fault, and bits of its error code: the page is there, it was a write (SDM vol. 3, 4.7).
const PAGE_FAULT: u64 = 14;
const WRITE_TO_PRESENT: u64 = 0b11;

/// Why there is no durable heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHeap {
    /// There is no state frame, or it is not mapped.
    Service(NoService),
    /// It is smaller than what is to lie in it.
    TooSmall,
    /// The copies are of no use.
    Undo(BadUndo),
    /// The second thread could not be started.
    Thread(ThreadError),
}

impl core::fmt::Display for NoHeap {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        match self {
            NoHeap::Service(error) => error.fmt(f),
            NoHeap::TooSmall => {
                f.write_str("the state frame is smaller than the heap, its copies and the state")
            }
            NoHeap::Undo(error) => error.fmt(f),
            NoHeap::Thread(error) => error.fmt(f),
        }
    }
}

impl<E: Into<NoService>> From<E> for NoHeap {
    fn from(error: E) -> NoHeap {
        NoHeap::Service(error.into())
    }
}

/// The state Frame, divided.
#[derive(Clone, Copy, Debug)]
pub struct Divided {
    frame: CPtr,
    heap: Words,
    copies: Words,
    /// For [`crate::Server::open`] and its like.
    pub state: Words,
}

/// Maps the component's state Frame, and divides it: a heap of so many pages, so many copies, and what is left.
pub fn divide(pages: usize, copies: usize) -> Result<Divided, NoHeap> {
    let frame = env::state().ok_or(NoService::NoState)?;
    let words = state()?;
    let (heap, rest) = words.split_at_checked(pages * PAGE).ok_or(NoHeap::TooSmall)?;
    let (copies, state) = rest.split_at_checked(crate::undo::words_for(copies)).ok_or(NoHeap::TooSmall)?;
    Ok(Divided { frame: CPtr(frame.slot), heap, copies, state })
}

/// A heap at a fixed address, which is rolled back to the last commit in each new life.
#[derive(Debug)]
pub struct DurableHeap {
    shared: Arc<Shared>,
}

/// What both threads use; never at the same time, as the main thread waits while its fault is handled.
#[derive(Debug)]
struct Shared {
    heap: Words,
    undo: Mutex<Undo<Words>>,
    vspace: VSpace,
    address: u64,
}

impl DurableHeap {
    /// Puts the heap back to where the transaction that made the state's word `committed` has left it, maps it at
    /// `address`, and starts the thread (like `pager`) that hears of first writes.
    pub fn open(parts: Divided, address: u64, committed: u64, pager: Builder) -> Result<DurableHeap, NoHeap> {
        let undo = Undo::open(parts.copies, parts.heap, committed).map_err(NoHeap::Undo)?;
        let pages = (parts.heap.len() / PAGE) as u64;
        memory::map(parts.frame, address, 0, pages, MapFlags::READ)?;
        let vspace = memory::vspace()?;
        let shared = Arc::new(Shared { heap: parts.heap, undo: Mutex::new(undo), vspace, address });
        let faults = memory::make(Kind::Endpoint, 0)?;
        let main = Tcb(env::required(names::TCB));
        let of_pager = Arc::clone(&shared);
        // The thread lives as long as the component.
        let _ = pager.spawn(move || of_pager.hear_faults(faults, main)).map_err(NoHeap::Thread)?;
        main.set_fault_handler(faults).map_err(NoService::Kernel)?;
        Ok(DurableHeap { shared })
    }

    /// The number of the transaction in hand: what a word of the state is to be set to in it.
    pub fn transaction(&self) -> u64 {
        self.shared.undo.lock().transaction()
    }

    /// A request is over, and the state's word holds `committed` now: what it has done to the heap stays if it was
    /// committed with the state, and is taken back otherwise. From here on first writes are noticed again.
    pub fn end(&self, committed: u64) {
        let mut undo = self.shared.undo.lock();
        for page in undo.kept() {
            self.shared.protect(page, MapFlags::READ);
        }
        undo.end(self.shared.heap, committed);
    }
}

impl Shared {
    fn protect(&self, page: usize, flags: MapFlags) {
        let address = self.address + page as u64 * PAGE_SIZE;
        if let Err(error) = self.vspace.protect(address, 1, flags) {
            panic!("a page of the durable heap cannot be protected: {}", error.name());
        }
    }

    /// The second thread: answers the main thread's faults.
    fn hear_faults(&self, faults: CPtr, main: Tcb) {
        let mut received = ipc::recv(faults, CPtr::NULL);
        loop {
            match received {
                Ok(fault) => {
                    if !self.keep(&fault.message) {
                        // It faults again, and init hears it. Nothing else can be done about a refusal.
                        let _ = main.set_fault_handler(env::required(names::FAULT));
                    }
                }
                Err(error) => panic!("the pager cannot receive: {}", error.name()),
            }
            received = ipc::reply_recv(faults, Message::new(0));
        }
    }

    /// Keeps the page that a write has faulted on; false if the fault is another.
    fn keep(&self, message: &Message) -> bool {
        let [kind, code, _, address, ..] = message.words;
        debug_assert_eq!((fault::KIND, fault::CODE, fault::ADDRESS), (0, 1, 3));
        let page = (address.wrapping_sub(self.address) / PAGE_SIZE) as usize;
        if kind != PAGE_FAULT || code & WRITE_TO_PRESENT != WRITE_TO_PRESENT || page >= self.heap.len() / PAGE
        {
            return false;
        }
        if self.undo.lock().keep(self.heap, page).is_err() {
            rt::eprintln!("{}: a transaction writes more pages than there are copies for", env::name());
            return false;
        }
        self.protect(page, MapFlags::WRITE);
        true
    }
}
