//! What a CSpace holds, and whether anything is derived from it.
//!
//! Every capability that a program's threads can make is derived from one of the program's: from its memory, or from the
//! authority it shares. So they have left nothing behind if the program's slots are as they were, with as much memory
//! free and as much derived. Components that start, die or work beside the program change none of that.

use abi::{Error, Kind};
use ipc::CNode;

/// Filled slots of a CSpace that an inventory has room for.
const ROOM: usize = 128;

/// What a slot shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The kind of object.
    pub kind: Kind,
    /// Which object.
    pub identity: u64,
    /// Of an Untyped its free bytes; of others 1 if anything is derived from the capability.
    pub free: u64,
}

/// The filled slots of a CSpace.
#[derive(Clone, Copy, Debug)]
pub struct Inventory {
    entries: [(u64, Entry); ROOM],
    used: usize,
}

impl Default for Inventory {
    fn default() -> Inventory {
        Inventory { entries: [(0, Entry { kind: Kind::Null, identity: 0, free: 0 }); ROOM], used: 0 }
    }
}

impl Inventory {
    /// Looks at every slot. Fails with `OutOfMemory` if more are filled than it has room for.
    pub fn of(cnode: CNode) -> Result<Inventory, Error> {
        let mut inventory = Inventory::default();
        let bits = cnode.describe(u64::from(cnode.0.0))?.bits;
        for slot in u64::from(abi::object::FIRST_SLOT)..1 << bits {
            let entry = look(cnode, slot)?;
            if entry.kind != Kind::Null {
                *inventory.entries.get_mut(inventory.used).ok_or(Error::OutOfMemory)? = (slot, entry);
                inventory.used += 1;
            }
        }
        Ok(inventory)
    }

    /// Returns the first slot that shows something else than it did, with both; `None` if all are as they were.
    pub fn changed(&self, cnode: CNode) -> Result<Option<(u64, Entry, Entry)>, Error> {
        for &(slot, was) in &self.entries[..self.used] {
            let is = look(cnode, slot)?;
            if is != was {
                return Ok(Some((slot, was, is)));
            }
        }
        Ok(None)
    }
}

fn look(cnode: CNode, slot: u64) -> Result<Entry, Error> {
    let found = cnode.describe(slot)?;
    Ok(Entry { kind: found.kind, identity: found.identity, free: found.free })
}
