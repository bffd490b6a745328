//! The derivation tree: who came from whom.
//!
//! Children are a doubly linked list; the outer ends of the list lead back to the parent. So inserting,
//! removing (the children move up into the list at the place of their parent) and moving are a handful of
//! writes each, whatever the size of the tree, and only the first and the last child know their parent.

use crate::memory::Ref;
use crate::slot::Slot;

/// A link to a sibling or, at the ends of a list, to the parent. Slots are 64-byte aligned: bit 0 is the mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Link(u64);

/// What a [`Link`] leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nothing: the slot is not in the tree, or is its root.
    None,
    /// A sibling.
    Sibling(Ref<Slot>),
    /// The parent: the list ends here.
    Parent(Ref<Slot>),
}

impl Link {
    /// Leads nowhere.
    pub const NONE: Link = Link(0);

    fn sibling(slot: Ref<Slot>) -> Link {
        Link(slot.address())
    }

    fn parent(slot: Ref<Slot>) -> Link {
        Link(slot.address() | 1)
    }

    /// What it leads to.
    pub fn target(self) -> Target {
        match Ref::at(self.0 & !1) {
            None => Target::None,
            Some(slot) if self.0 & 1 == 1 => Target::Parent(slot),
            Some(slot) => Target::Sibling(slot),
        }
    }
}

/// Makes `child`, which is in no tree, the first child of `parent`.
pub fn insert(parent: Ref<Slot>, child: Ref<Slot>) {
    child.prev.set(Link::parent(parent));
    match parent.first.replace(Some(child)) {
        Some(next) => {
            child.next.set(Link::sibling(next));
            next.prev.set(Link::sibling(child));
        }
        None => {
            child.next.set(Link::parent(parent));
            parent.last.set(Some(child));
        }
    }
}

/// Takes `slot` out of the tree; its children take its place.
pub fn remove(slot: Ref<Slot>) {
    let (before, after) = (slot.prev.replace(Link::NONE), slot.next.replace(Link::NONE));
    match (slot.first.take(), slot.last.take()) {
        (Some(first), Some(last)) => {
            first.prev.set(before);
            last.next.set(after);
            point_forward(before, Some(first), Link::sibling(first));
            point_back(after, Some(last), Link::sibling(last));
        }
        _ => {
            point_forward(before, sibling(after), after);
            point_back(after, sibling(before), before);
        }
    }
}

/// Puts `to`, which is in no tree, in the place of `from`, children and all.
pub fn replace(from: Ref<Slot>, to: Ref<Slot>) {
    let (before, after) = (from.prev.replace(Link::NONE), from.next.replace(Link::NONE));
    let (first, last) = (from.first.take(), from.last.take());
    to.prev.set(before);
    to.next.set(after);
    to.first.set(first);
    to.last.set(last);
    if let Some(first) = first {
        first.prev.set(Link::parent(to));
    }
    if let Some(last) = last {
        last.next.set(Link::parent(to));
    }
    point_forward(before, Some(to), Link::sibling(to));
    point_back(after, Some(to), Link::sibling(to));
}

/// What comes after `before` is now `slot` (as first child) or `link` (as next sibling).
fn point_forward(before: Link, slot: Option<Ref<Slot>>, link: Link) {
    match before.target() {
        Target::Sibling(previous) => previous.next.set(link),
        Target::Parent(parent) => parent.first.set(slot),
        Target::None => {}
    }
}

/// What comes before `after` is now `slot` (as last child) or `link` (as previous sibling).
fn point_back(after: Link, slot: Option<Ref<Slot>>, link: Link) {
    match after.target() {
        Target::Sibling(next) => next.prev.set(link),
        Target::Parent(parent) => parent.last.set(slot),
        Target::None => {}
    }
}

fn sibling(link: Link) -> Option<Ref<Slot>> {
    match link.target() {
        Target::Sibling(slot) => Some(slot),
        _ => None,
    }
}

/// The children of `parent`, first to last.
pub fn children(parent: Ref<Slot>) -> impl Iterator<Item = Ref<Slot>> {
    core::iter::successors(parent.first.get(), |child| sibling(child.next.get()))
}
