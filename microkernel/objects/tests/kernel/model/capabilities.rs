//! Capabilities: the tree of who was derived from whom, the slots they are kept in, and what makes new ones.

use std::collections::VecDeque;

use abi::object::object_bits;
use abi::table::method;
use abi::{Error, Kind, Rights};

use super::{CSPACE, Cap, Ended, Endpoint, Id, Model, Notification, Object, Place, Reply, Result, Space};

impl Model {
    pub(super) fn insert(&mut self, parent: Id, mut cap: Cap) -> Id {
        let id = self.next;
        self.next += 1;
        cap.parent = parent;
        match cap.place {
            Place::Slot(cnode, at) => assert!(self.slots.insert((cnode, at), id).is_none()),
            Place::Thread(thread, at) => self.thread(thread).slots[at] = Some(id),
            _ => {}
        }
        self.caps.insert(id, cap);
        self.caps.get_mut(&parent).unwrap().children.push_front(id);
        id
    }

    /// Takes a capability away; what was derived from it takes its place.
    pub(super) fn unlink(&mut self, id: Id) {
        let cap = self.caps.remove(&id).unwrap();
        for child in &cap.children {
            self.caps.get_mut(child).unwrap().parent = cap.parent;
        }
        let siblings = &mut self.caps.get_mut(&cap.parent).unwrap().children;
        let at = siblings.iter().position(|&other| other == id).unwrap();
        siblings.remove(at);
        for (offset, &child) in cap.children.iter().enumerate() {
            siblings.insert(at + offset, child);
        }
        match cap.place {
            Place::Slot(cnode, at) => assert_eq!(self.slots.remove(&(cnode, at)), Some(id)),
            Place::Thread(thread, at) => self.thread(thread).slots[at] = None,
            _ => {}
        }
    }

    pub(super) fn derived(&self, from: Id, rights: u8, badge: u64, place: Place) -> Result<Cap> {
        let from = &self.caps[&from];
        let mut cap = Cap {
            rights: from.rights & rights,
            owner: false,
            children: VecDeque::new(),
            place,
            ..from.clone()
        };
        match from.kind {
            Kind::Untyped => return Err(Error::Busy),
            Kind::Endpoint | Kind::Notification if badge != 0 && from.badge != 0 => {
                return Err(Error::InvalidArgument);
            }
            Kind::SchedControl if badge > from.badge => return Err(Error::InvalidArgument),
            Kind::Endpoint | Kind::Notification | Kind::SchedControl if badge != 0 => cap.badge = badge,
            Kind::IoPort if badge != 0 => {
                let (first, last) = (badge & 0xffff, badge >> 16);
                if first < from.badge & 0xffff || last > from.badge >> 16 || first > last {
                    return Err(Error::InvalidArgument);
                }
                cap.badge = badge;
            }
            _ if badge != 0 => return Err(Error::InvalidArgument),
            _ => {}
        }
        Ok(cap)
    }

    /// Whether a thread is told physical addresses.
    pub(super) fn sees_physical(&self, thread: Object) -> bool {
        self.threads[&thread].slots[CSPACE]
            .is_some_and(|id| Rights(self.caps[&id].rights).has(Rights::PHYSICAL))
    }

    /// The CSpace of a thread: its CNode and how many slots that has.
    pub(super) fn cspace(&self, thread: Object) -> (Object, u64) {
        self.threads[&thread].slots[CSPACE]
            .map_or((0, 0), |id| (self.caps[&id].object, 1 << self.caps[&id].bits))
    }

    pub(super) fn slot(&self, thread: Object, cptr: u64) -> Result<Option<Id>> {
        let (cnode, slots) = self.cspace(thread);
        if cptr < 2 || cptr >= slots {
            return Err(Error::NoCapability);
        }
        Ok(self.slots.get(&(cnode, cptr)).copied())
    }

    pub(super) fn find(&self, thread: Object, cptr: u64, kind: Kind, rights: Rights) -> Result<Id> {
        let id = self.slot(thread, cptr)?.ok_or(Error::NoCapability)?;
        let cap = &self.caps[&id];
        if cap.kind != kind {
            return Err(Error::WrongKind);
        }
        if !Rights(cap.rights).has(rights) {
            return Err(Error::NoRights);
        }
        Ok(id)
    }

    pub(super) fn find_object(
        &self,
        thread: Object,
        cptr: u64,
        kind: Kind,
        rights: Rights,
    ) -> Result<Object> {
        self.find(thread, cptr, kind, rights).map(|id| self.caps[&id].object)
    }

    pub(super) fn retype(&mut self, me: Object, untyped: Id, args: [u64; 8]) -> Result<()> {
        let [kind, bits, cnode, slot, count, ..] = args;
        let kind = Kind::from_word(kind).ok_or(Error::InvalidArgument)?;
        let bits = u32::try_from(bits).map_err(|_| Error::InvalidArgument)?;
        let size_bits = object_bits(kind, bits).ok_or(Error::InvalidArgument)?;
        let plain = matches!(kind, Kind::Untyped | Kind::Frame);
        let device = self.caps[&untyped].device;
        if device && !plain || count == 0 || count > 64 {
            return Err(Error::InvalidArgument);
        }
        let cnode = self.find(me, cnode, Kind::CNode, Rights::WRITE)?;
        let (cnode, slots) = (self.caps[&cnode].object, 1u64 << self.caps[&cnode].bits);
        if slot < 2 || slot.checked_add(count).is_none_or(|end| end > slots) {
            return Err(Error::OutOfRange);
        }
        if self.slots.range((cnode, slot)..(cnode, slot + count)).next().is_some() {
            return Err(Error::SlotOccupied);
        }
        let Cap { object: start, bits: untyped_bits, badge: used, .. } = self.caps[&untyped];
        let used = if self.caps[&untyped].children.is_empty() { 0 } else { used };
        let first = used.next_multiple_of(1 << size_bits);
        let end = first as u128 + (u128::from(count) << size_bits);
        if end > 1 << untyped_bits {
            return Err(Error::OutOfMemory);
        }
        self.caps.get_mut(&untyped).unwrap().badge = end as u64;
        let sized = plain || matches!(kind, Kind::CNode | Kind::VSpace | Kind::IoSpace);
        let hidden = if self.sees_physical(me) { Rights::NONE } else { Rights::PHYSICAL };
        let rights = Rights::ALL.without(hidden).0;
        for at in 0..count {
            let object = start + first + (at << size_bits);
            let cap = Cap {
                kind,
                object,
                rights,
                badge: 0,
                bits: if sized { bits } else { size_bits },
                owner: kind != Kind::Untyped,
                device,
                parent: untyped,
                children: VecDeque::new(),
                place: Place::Slot(cnode, slot + at),
            };
            self.insert(untyped, cap);
            self.create(kind, object);
        }
        Ok(())
    }

    pub(super) fn create(&mut self, kind: Kind, object: Object) {
        match kind {
            Kind::Tcb => self.add_thread(object),
            Kind::Endpoint => drop(self.endpoints.insert(object, Endpoint::default())),
            Kind::Notification => drop(self.notifications.insert(object, Notification::default())),
            Kind::Reply => drop(self.replies.insert(object, Reply::default())),
            Kind::SchedContext => drop(self.contexts.insert(object, None)),
            Kind::VSpace | Kind::IoSpace => drop(self.spaces.insert(object, Space::default())),
            _ => {}
        }
    }

    pub(super) fn slot_in(&self, cnode: Id, at: u64) -> Result<(Object, u64)> {
        if at < 2 || at >= 1 << self.caps[&cnode].bits {
            return Err(Error::OutOfRange);
        }
        Ok((self.caps[&cnode].object, at))
    }

    /// mint, copy, relocate
    pub(super) fn place(&mut self, me: Object, cnode: Id, number: u32, args: [u64; 8]) -> Result<()> {
        let [to, from_cnode, from, rights, badge, ..] = args;
        let minted = number == method::CNode::mint;
        if minted && rights > u64::from(Rights::ALL.0) {
            return Err(Error::InvalidArgument);
        }
        let to = self.slot_in(cnode, to)?;
        let from_cnode = self.find(me, from_cnode, Kind::CNode, Rights::WRITE)?;
        let from = self.slot_in(from_cnode, from)?;
        let from = *self.slots.get(&from).ok_or(Error::NoCapability)?;
        if self.slots.contains_key(&to) {
            return Err(Error::SlotOccupied);
        }
        let place = Place::Slot(to.0, to.1);
        if number == method::CNode::relocate {
            let Place::Slot(cnode, at) = self.caps[&from].place else { panic!("a slot elsewhere") };
            self.slots.remove(&(cnode, at));
            self.slots.insert(to, from);
            self.caps.get_mut(&from).unwrap().place = place;
            return Ok(());
        }
        let (rights, badge) = if minted { (rights as u8, badge) } else { (Rights::ALL.0, 0) };
        let cap = self.derived(from, rights, badge, place)?;
        self.insert(from, cap);
        Ok(())
    }

    /// delete, revoke, identify
    pub(super) fn in_cnode(&mut self, me: Object, cnode: Id, number: u32, at: u64) -> Result<Ended> {
        let slot = self.slot_in(cnode, at)?;
        let found = self.slots.get(&slot).copied();
        match number {
            method::CNode::delete => self.delete(slot.0, slot.1),
            method::CNode::revoke => self.revoke(found.ok_or(Error::NoCapability)?),
            _ => return Ok(Ended::With(found.map_or(vec![0; 6], |id| self.identify(me, id)))),
        }
        Ok(Ended::With(vec![]))
    }

    fn identify(&self, me: Object, id: Id) -> Vec<u64> {
        let cap = &self.caps[&id];
        let (bits, full) = (u64::from(cap.bits), 1u64 << cap.bits);
        let identity = if matches!(cap.kind, Kind::Untyped | Kind::Frame) {
            cap.object | bits << 56
        } else {
            cap.object
        };
        let identity = if self.sees_physical(me) { identity } else { identity.min(1) };
        let (badge, last) = match cap.kind {
            Kind::Untyped if cap.children.is_empty() => (0, full),
            Kind::Untyped => (0, full - cap.badge),
            _ => (cap.badge, u64::from(!cap.children.is_empty())),
        };
        vec![cap.kind as u64, bits, u64::from(cap.rights), badge, identity, last]
    }
}
