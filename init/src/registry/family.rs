//! Who has started whom, and ends that the starter has not asked about yet.
//!
//! Components go by their numbers, so a component that waits for its device and has not begun belongs to its parent, too.

extern crate alloc;

use alloc::vec::Vec;

/// The end of a component, as its parent is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The exit status.
    pub status: u8,
    /// It crashed, was ended, or was never started.
    pub crashed: bool,
}

/// Parents and children.
#[derive(Debug, Default)]
pub struct Family {
    /// Child and parent.
    children: Vec<(u32, u32)>,
    /// Parent, child, and how that ended.
    ended: Vec<(u32, u32, End)>,
}

impl Family {
    /// Notes that `parent` has started `child`.
    pub fn adopt(&mut self, parent: u32, child: u32) {
        self.forget_child(child);
        self.children.push((child, parent));
    }

    /// Returns the component that has started `child`.
    pub fn parent(&self, child: u32) -> Option<u32> {
        self.children.iter().find(|(each, _)| *each == child).map(|(_, parent)| *parent)
    }

    /// Returns the components that `parent` has started and that have not ended.
    pub fn children(&self, parent: u32) -> impl Iterator<Item = u32> {
        self.children.iter().filter(move |(_, of)| *of == parent).map(|(child, _)| *child)
    }

    /// Notes the end of `child` for its parent, and returns that.
    pub fn ended(&mut self, child: u32, end: End) -> Option<u32> {
        let parent = self.parent(child)?;
        self.forget_child(child);
        // A number that was given out again has one end to be asked about: the last.
        self.ended.retain(|(of, each, _)| (*of, *each) != (parent, child));
        self.ended.push((parent, child, end));
        Some(parent)
    }

    /// Returns, once, how a child of `parent` has ended.
    pub fn take_end(&mut self, parent: u32, child: u32) -> Option<End> {
        let at = self.ended.iter().position(|(of, each, _)| (*of, *each) == (parent, child))?;
        Some(self.ended.swap_remove(at).2)
    }

    fn forget_child(&mut self, child: u32) {
        self.children.retain(|(each, _)| *each != child);
    }

    /// Forgets the ends that `parent`, which is no more, has not asked about.
    pub fn forget_ends(&mut self, parent: u32) {
        self.ended.retain(|(of, ..)| *of != parent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: End = End { status: 0, crashed: false };
    const KILLED: End = End { status: 134, crashed: true };

    #[test]
    fn an_end_is_told_once_and_to_the_parent_only() {
        let mut family = Family::default();
        family.adopt(1, 7);
        assert_eq!((family.parent(7), family.take_end(1, 7)), (Some(1), None));
        assert_eq!(family.ended(7, WELL), Some(1));
        assert_eq!((family.parent(7), family.take_end(2, 7)), (None, None));
        assert_eq!((family.take_end(1, 7), family.take_end(1, 7)), (Some(WELL), None));
    }

    #[test]
    fn of_a_number_that_was_given_out_again_the_last_end_is_told() {
        let mut family = Family::default();
        for end in [WELL, KILLED] {
            family.adopt(1, 7);
            family.ended(7, end);
        }
        assert_eq!((family.take_end(1, 7), family.take_end(1, 7)), (Some(KILLED), None));
    }

    #[test]
    fn a_dead_parent_leaves_nothing_behind() {
        let mut family = Family::default();
        family.adopt(1, 7);
        family.adopt(1, 8);
        family.ended(7, WELL);
        assert_eq!(family.children(1).collect::<Vec<_>>(), [8]);
        family.ended(8, KILLED);
        family.forget_ends(1);
        // The number's next component starts with nothing.
        assert_eq!(
            (family.children(1).count(), family.take_end(1, 7), family.take_end(1, 8)),
            (0, None, None)
        );
    }
}
