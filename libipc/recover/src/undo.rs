//! Undo pages: a heap that outlives its server, rolled back to where the last commit left it.
//!
//! For servers whose state lies inside of a library that cannot be taken apart: their whole heap is durable, at a fixed
//! address, and each page is copied before it is first written in a transaction. Who notices the first write is not
//! this module's affair: in the guest it is the write protection (`pager`).
//!
//! | words | what |
//! |---|---|
//! | 0 | [`MAGIC`]; written last when the memory is set up |
//! | 1 | pages of the heap |
//! | 2 | copies in use |
//! | 3 | the number of the transaction that they belong to |
//! | from 8 on | of each copy which page it is of; then the copies, [`PAGE`] words each |
//!
//! A heap is committed together with a [`crate::state::State`], by the state's one store: a word of the state counts the
//! heap's transactions, the transaction in hand sets it to [`Undo::transaction`], and if a restart finds that number
//! there, the copies are of no use any more. Otherwise they are put back, from the last to the first; as that only
//! reads the copies, it may itself be killed and begin again.

use crate::Memory;

/// Words of a page.
pub const PAGE: usize = 512;
/// Word 0: the format of this module.
pub const MAGIC: u64 = u64::from_le_bytes(*b"SKUNDO_1");

const PAGES: usize = 1;
const COUNT: usize = 2;
const TRANSACTION: usize = 3;
const ENTRIES: usize = 8;

/// Words of undo memory for so many copies.
pub const fn words_for(copies: usize) -> usize {
    ENTRIES + copies * (PAGE + 1)
}

/// Why undo memory is of no use. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadUndo {
    /// It holds neither zeros nor what this module writes.
    Damaged,
    /// It is for another heap.
    OtherHeap,
    /// It has no room for a copy.
    TooSmall,
}

impl core::fmt::Display for BadUndo {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        f.write_str(match self {
            BadUndo::Damaged => "the undo pages are damaged",
            BadUndo::OtherHeap => "the undo pages are for a heap of another size",
            BadUndo::TooSmall => "the undo memory is smaller than a page",
        })
    }
}

/// The transaction writes more pages than there are copies for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UndoFull;

/// Copies of pages.
#[derive(Debug)]
pub struct Undo<U> {
    memory: U,
    /// How many fit.
    capacity: usize,
    used: usize,
    committed: u64,
}

impl<U: Memory> Undo<U> {
    /// The undo pages of `heap`, which is put back to where the last commit left it: the one after which the state's
    /// word held `committed`.
    pub fn open<H: Memory + ?Sized>(memory: U, heap: &H, committed: u64) -> Result<Undo<U>, BadUndo> {
        let capacity = memory.size().saturating_sub(ENTRIES) / (PAGE + 1);
        if capacity == 0 {
            return Err(BadUndo::TooSmall);
        }
        let mut undo = Undo { memory, capacity, used: 0, committed };
        let pages = heap.size() / PAGE;
        match undo.memory.load(0) {
            0 => undo.set_up(pages)?,
            MAGIC => undo.take_back(heap, pages)?,
            _ => return Err(BadUndo::Damaged),
        }
        Ok(undo)
    }

    fn set_up(&mut self, pages: usize) -> Result<(), BadUndo> {
        if (0..self.memory.size()).any(|at| at != PAGES && self.memory.load(at) != 0) {
            return Err(BadUndo::Damaged);
        }
        self.memory.store(PAGES, pages as u64);
        self.memory.store(0, MAGIC);
        Ok(())
    }

    fn take_back<H: Memory + ?Sized>(&mut self, heap: &H, pages: usize) -> Result<(), BadUndo> {
        if self.memory.load(PAGES) != pages as u64 {
            return Err(BadUndo::OtherHeap);
        }
        let (count, transaction) = (self.memory.load(COUNT), self.memory.load(TRANSACTION));
        let within = count <= self.capacity as u64 && transaction <= self.transaction();
        if !within || (0..count as usize).any(|copy| self.memory.load(ENTRIES + copy) >= pages as u64) {
            return Err(BadUndo::Damaged);
        }
        if transaction == self.transaction() {
            self.put_back(heap, count as usize);
        }
        self.memory.store(COUNT, 0);
        Ok(())
    }

    fn put_back<H: Memory + ?Sized>(&self, heap: &H, count: usize) {
        for copy in (0..count).rev() {
            let page = self.memory.load(ENTRIES + copy) as usize * PAGE;
            for word in 0..PAGE {
                heap.store(page + word, self.memory.load(self.copy_at(copy) + word));
            }
        }
    }

    fn copy_at(&self, copy: usize) -> usize {
        ENTRIES + self.capacity + copy * PAGE
    }

    /// The number of the transaction in hand: what a word of the state is set to in it, so that the state's commit is
    /// the heap's.
    pub fn transaction(&self) -> u64 {
        self.committed.wrapping_add(1)
    }

    /// Page `page` of `heap` is about to be written: copies it. To be called before the first write in a transaction;
    /// once more does no harm.
    ///
    /// # Panics
    /// If the heap has no such page, as a slice does.
    pub fn keep<H: Memory + ?Sized>(&mut self, heap: &H, page: usize) -> Result<(), UndoFull> {
        if self.used == self.capacity {
            return Err(UndoFull);
        }
        for word in 0..PAGE {
            self.memory.store(self.copy_at(self.used) + word, heap.load(page * PAGE + word));
        }
        self.memory.store(ENTRIES + self.used, page as u64);
        if self.used == 0 {
            self.memory.store(TRANSACTION, self.transaction());
        }
        self.used += 1;
        self.memory.store(COUNT, self.used as u64);
        Ok(())
    }

    /// The pages that were kept in this transaction.
    pub fn kept(&self) -> impl Iterator<Item = usize> {
        (0..self.used).map(|copy| self.memory.load(ENTRIES + copy) as usize)
    }

    /// A request is over, and the state's word holds `committed` now. If it has committed what is in hand, the next
    /// transaction begins; otherwise `heap` is put back to where it was.
    pub fn end<H: Memory + ?Sized>(&mut self, heap: &H, committed: u64) {
        if committed != self.transaction() {
            self.put_back(heap, self.used);
        }
        self.committed = committed;
        self.used = 0;
        self.memory.store(COUNT, 0);
    }
}
