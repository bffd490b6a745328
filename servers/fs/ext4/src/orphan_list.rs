//! The orphans in memory: in the order in which they became some, each found at once however many there are.

use hashbrown::HashMap;

use crate::inode::InodeNumber;

/// The orphans before and behind one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Neighbours {
    pub(crate) older: Option<InodeNumber>,
    pub(crate) newer: Option<InodeNumber>,
}

/// A list of orphans, linked both ways.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    links: HashMap<InodeNumber, Neighbours>,
    oldest: Option<InodeNumber>,
    newest: Option<InodeNumber>,
}

impl Orphans {
    pub(crate) fn contains(&self, number: InodeNumber) -> bool {
        self.links.contains_key(&number)
    }

    pub(crate) fn oldest(&self) -> Option<InodeNumber> {
        self.oldest
    }

    pub(crate) fn newest(&self) -> Option<InodeNumber> {
        self.newest
    }

    /// The neighbours of an orphan, if it is one.
    pub(crate) fn neighbours(&self, number: InodeNumber) -> Option<Neighbours> {
        self.links.get(&number).copied()
    }

    /// From the newest to the oldest.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = InodeNumber> {
        core::iter::successors(self.newest, |number| self.links.get(number)?.older)
    }

    /// Adds an orphan between two neighbours, which lie beside each other.
    pub(crate) fn insert(&mut self, number: InodeNumber, place: Neighbours) {
        self.links.insert(number, place);
        self.link(place.older, Some(number));
        self.link(Some(number), place.newer);
    }

    /// Adds the newest orphan.
    pub(crate) fn push(&mut self, number: InodeNumber) {
        self.insert(number, Neighbours { older: self.newest, newer: None });
    }

    /// Adds the oldest orphan.
    pub(crate) fn push_oldest(&mut self, number: InodeNumber) {
        self.insert(number, Neighbours { older: None, newer: self.oldest });
    }

    /// Takes an orphan off; answers between which it was.
    pub(crate) fn remove(&mut self, number: InodeNumber) -> Option<Neighbours> {
        let place = self.links.remove(&number)?;
        self.link(place.older, place.newer);
        Some(place)
    }

    fn link(&mut self, older: Option<InodeNumber>, newer: Option<InodeNumber>) {
        match older.and_then(|older| self.links.get_mut(&older)) {
            Some(links) => links.newer = newer,
            None => self.oldest = newer,
        }
        match newer.and_then(|newer| self.links.get_mut(&newer)) {
            Some(links) => links.older = older,
            None => self.newest = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn listed(orphans: &Orphans) -> Vec<u32> {
        orphans.newest_first().map(|number| number.0).collect()
    }

    #[test]
    fn orphans_are_taken_off_anywhere_and_put_back() {
        let mut orphans = Orphans::default();
        (12..=14).for_each(|number| orphans.push(InodeNumber(number)));
        orphans.push_oldest(InodeNumber(11));
        assert_eq!(listed(&orphans), [14, 13, 12, 11]);
        for number in [11, 12, 13, 14].map(InodeNumber) {
            let place = orphans.remove(number).unwrap();
            assert_eq!(orphans.newest_first().count(), 3);
            assert_eq!(orphans.remove(number), None);
            orphans.insert(number, place);
            assert_eq!(listed(&orphans), [14, 13, 12, 11]);
        }
        for number in [14, 12, 11, 13] {
            orphans.remove(InodeNumber(number));
        }
        assert_eq!((orphans.oldest(), orphans.newest()), (None, None));
        orphans.push(InodeNumber(20));
        assert_eq!((orphans.oldest(), orphans.newest()), (Some(InodeNumber(20)), Some(InodeNumber(20))));
    }
}
