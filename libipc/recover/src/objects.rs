//! A store of objects in durable memory: extents of pages that a new life finds again by their keys.
//!
//! The pages lie in Frames that outlive the server; which of them are whose is a table in its words, two for each place:
//!
//! | word | what |
//! |---|---|
//! | 0 | the object's key; 0: the place is free |
//! | 1 | its first page (high half) and how many there are (low half) |
//!
//! Making and freeing an object are changes of the transaction that they are in, so an object is there when the request
//! is answered that made it, and not before. What is free is not written down anywhere: it is what no object has.
//!
//! What lies in the pages is the caller's affair. A new object's pages hold what the last one left there, so they are to be
//! cleared before the commit: with plain stores, as nobody looks there yet.

use core::ops::Range;

use crate::Memory;
use crate::server::{View, Work};
use crate::state::JournalFull;

const KEY: usize = 0;
const EXTENT: usize = 1;
const PLACE: usize = 2;

/// Changes of state that making or freeing an object makes.
pub const JOURNAL: u32 = 2;

/// The store: which of the service's words are its table, and how many pages there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Objects {
    /// The table's first word.
    pub first: usize,
    /// How many objects there can be.
    pub places: usize,
    /// How many pages.
    pub pages: u32,
}

/// Why an object was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoObject {
    /// 0 is no key, and no object has 0 pages.
    Malformed,
    /// Another object has the key.
    KeyTaken,
    /// There are as many objects as there can be.
    TooMany,
    /// There are not so many free pages in a row.
    NoRoom,
}

/// The table is not one that this store writes: an object lies outside the pages, or two share some, or a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadTable;

impl Objects {
    /// Words of the table.
    pub const fn words(&self) -> usize {
        self.places * PLACE
    }

    /// Says whether the table makes sense: to be asked once in each life, before it is relied on.
    pub fn check<M: Memory>(&self, words: &View<M>) -> Result<(), BadTable> {
        for (at, (key, extent)) in self.all(words).enumerate() {
            let mut others = self.all(words).skip(at + 1);
            let apart = |other: &(u64, Range<u32>)| {
                other.0 != key && (other.1.end <= extent.start || extent.end <= other.1.start)
            };
            let within = extent.start < extent.end && extent.end <= self.pages;
            if !within || !others.all(|other| apart(&other)) {
                return Err(BadTable);
            }
        }
        Ok(())
    }

    /// Returns the pages of the object with this key.
    pub fn find<M: Memory>(&self, words: &View<M>, key: u64) -> Option<Range<u32>> {
        self.all(words).find(|(each, _)| *each == key).map(|(_, extent)| extent)
    }

    /// Returns all objects: keys and pages.
    pub fn all<M: Memory>(&self, words: &View<M>) -> impl Iterator<Item = (u64, Range<u32>)> {
        (0..self.places).filter_map(|place| {
            let at = self.first + place * PLACE;
            let (key, extent) = (words.get(at + KEY), words.get(at + EXTENT));
            let (first, pages) = ((extent >> 32) as u32, extent as u32);
            (key != 0).then_some((key, first..first.saturating_add(pages)))
        })
    }

    /// Returns how many pages no object has.
    pub fn free_pages<M: Memory>(&self, words: &View<M>) -> u32 {
        self.all(words).fold(self.pages, |free, (_, extent)| free.saturating_sub(extent.end - extent.start))
    }

    /// Makes an object of so many pages, where the first gap is that they fit into.
    pub fn make<M: Memory>(
        &self,
        words: &mut Work<M>,
        key: u64,
        pages: u32,
    ) -> Result<Result<Range<u32>, NoObject>, JournalFull> {
        match self.plan(&words.view(), key, pages) {
            Ok((at, extent)) => {
                words.set(at + EXTENT, u64::from(extent.start) << 32 | u64::from(pages))?;
                words.set(at + KEY, key)?;
                Ok(Ok(extent))
            }
            Err(why) => Ok(Err(why)),
        }
    }

    /// Where a new object would go: its place in the table, and its pages.
    fn plan<M: Memory>(
        &self,
        words: &View<M>,
        key: u64,
        pages: u32,
    ) -> Result<(usize, Range<u32>), NoObject> {
        if key == 0 || pages == 0 {
            return Err(NoObject::Malformed);
        }
        if self.find(words, key).is_some() {
            return Err(NoObject::KeyTaken);
        }
        let mut places = (0..self.places).map(|place| self.first + place * PLACE);
        let at = places.find(|at| words.get(at + KEY) == 0).ok_or(NoObject::TooMany)?;
        let mut start = 0_u32;
        loop {
            let end = start.checked_add(pages).filter(|end| *end <= self.pages).ok_or(NoObject::NoRoom)?;
            // Each step goes behind an object, so there are no more steps than objects.
            match self.all(words).find(|(_, other)| other.start < end && start < other.end) {
                Some((_, other)) => start = other.end,
                None => return Ok((at, start..end)),
            }
        }
    }

    /// Frees the object with this key; returns the pages that it had.
    pub fn free<M: Memory>(&self, words: &mut Work<M>, key: u64) -> Result<Option<Range<u32>>, JournalFull> {
        let Some(extent) = self.find(&words.view(), key) else { return Ok(None) };
        let mut places = (0..self.places).map(|place| self.first + place * PLACE);
        if let Some(at) = places.find(|at| words.get(at + KEY) == key) {
            words.set(at + KEY, 0)?;
        }
        Ok(Some(extent))
    }
}
