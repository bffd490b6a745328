//! The kernel as a plain book of who has what: maps, lists and no cleverness. It says what each system call
//! comes to; `random` holds the kernel against it.
//!
//! Where to start reading: [`Model::syscall`], in `calls`.

mod calls;
mod capabilities;
mod deletion;
mod messages;
mod spaces;
mod threads;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use abi::{Error, Kind};
use objects::tcb::State;
use objects::{Ref, tree};

use crate::world::World;

/// An object, by its physical address; a capability, by its number.
pub type Object = u64;
pub type Id = usize;

/// Where a capability is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Slot(Object, u64),
    Thread(Object, usize),
    Donor(Object),
    /// The Notification that an IoSpace signals.
    Target(Object),
    Grave,
    Universe,
}

#[derive(Clone, Debug)]
pub struct Cap {
    pub kind: Kind,
    pub object: Object,
    pub rights: u8,
    /// Of an Untyped: bytes used.
    pub badge: u64,
    pub bits: u32,
    pub owner: bool,
    pub device: bool,
    pub parent: Id,
    pub children: VecDeque<Id>,
    pub place: Place,
}

/// rax, rdx, rsi and the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    pub status: u64,
    pub badge: u64,
    pub info: u64,
    pub words: [u64; 8],
}

#[derive(Clone, Debug)]
pub struct Thread {
    pub state: State,
    pub registers: Registers,
    pub on: Object,
    /// CSpace, VSpace, buffer, fault handler.
    pub slots: [Option<Id>; 4],
    pub bound: Option<Object>,
    pub context: Option<Object>,
    pub receives_with: Option<Object>,
    pub send_badge: u64,
    pub send_grant: bool,
    pub deadline: u64,
    pub priority: u64,
    /// The words of its fault message.
    pub fault: [u64; 8],
    /// That is a trap which nobody has answered.
    pub pending: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Endpoint {
    pub receivers: VecDeque<Object>,
    pub senders: VecDeque<Object>,
}

#[derive(Clone, Debug, Default)]
pub struct Notification {
    pub bits: u64,
    pub waiters: VecDeque<Object>,
    pub bound: Option<Object>,
}

#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub caller: Option<Object>,
    pub server: Option<Object>,
    pub no_grant: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub cap: Id,
    pub physical: u64,
    pub flags: u64,
    pub size: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Space {
    pub pages: BTreeMap<u64, Mapping>,
    /// Regions of 2 MiB that may have a table, empty or not.
    pub tables: BTreeSet<u64>,
    pub closed: bool,
    pub donors: usize,
}

/// The universe: parent of all that has none.
const UNIVERSE: Id = 0;

pub struct Model {
    pub caps: BTreeMap<Id, Cap>,
    pub slots: BTreeMap<(Object, u64), Id>,
    pub threads: BTreeMap<Object, Thread>,
    pub endpoints: BTreeMap<Object, Endpoint>,
    pub notifications: BTreeMap<Object, Notification>,
    pub replies: BTreeMap<Object, Reply>,
    pub contexts: BTreeMap<Object, Option<Object>>,
    /// VSpaces and IoSpaces.
    pub spaces: BTreeMap<Object, Space>,
    /// The IoSpace that each device is under.
    pub devices: BTreeMap<u16, Object>,
    /// SchedContexts that have a budget.
    configured: BTreeSet<Object>,
    /// What lay in the caller's IPC buffer before its system call.
    pub sent: [u64; 8],
    /// Threads that the kernel has receiving after what the model is about to do.
    receiving: BTreeSet<Object>,
    graves: Vec<(Id, u64)>,
    next: Id,
}

type Result<T> = core::result::Result<T, Error>;

/// What a system call does to the caller, besides what it did to the model.
enum Ended {
    /// Back with these results.
    With(Vec<u64>),
    /// The caller's registers and state say all.
    Said,
}

const CSPACE: usize = 0;
const VSPACE: usize = 1;
const BUFFER: usize = 2;
const FAULT: usize = 3;

impl Model {
    /// The model of a system that has just been made.
    pub fn of(world: &World) -> Model {
        let universe = Cap {
            kind: Kind::Null,
            object: 0,
            rights: abi::Rights::ALL.0,
            badge: 0,
            bits: 0,
            owner: false,
            device: false,
            parent: UNIVERSE,
            children: VecDeque::new(),
            place: Place::Universe,
        };
        let mut model = Model {
            caps: BTreeMap::from([(UNIVERSE, universe)]),
            slots: BTreeMap::new(),
            threads: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            notifications: BTreeMap::new(),
            replies: BTreeMap::new(),
            contexts: BTreeMap::new(),
            spaces: BTreeMap::new(),
            devices: BTreeMap::new(),
            configured: BTreeSet::new(),
            sent: [0; 8],
            receiving: BTreeSet::new(),
            graves: Vec::new(),
            next: 1,
        };
        let cnode = world.memory.physical(world.slot(crate::world::root::CNODE).object.get());
        let universe = Ref::of(&world.kernel.universe);
        for slot in tree::children(universe).collect::<Vec<_>>().into_iter().rev() {
            let at = (0..64).find(|&at| world.slot(at) == slot).unwrap();
            let kind = slot.kind.get();
            let cap = Cap {
                kind,
                object: match kind {
                    Kind::Untyped | Kind::Frame => slot.object.get(),
                    Kind::SchedControl | Kind::IrqControl | Kind::IoPort | Kind::System | Kind::IoControl => {
                        kind as u64
                    }
                    _ => world.memory.physical(slot.object.get()),
                },
                rights: slot.rights.get().0,
                badge: slot.badge.get(),
                bits: u32::from(slot.bits.get()),
                owner: slot.is_owner(),
                device: at == crate::world::root::DEVICE,
                parent: UNIVERSE,
                children: VecDeque::new(),
                place: Place::Slot(cnode, u64::from(at)),
            };
            model.insert(UNIVERSE, cap);
        }
        let at = |slot: u32| model.slots[&(cnode, u64::from(slot))];
        let (cspace, buffer) = (at(crate::world::root::CNODE), at(crate::world::root::BUFFER));
        let context = model.caps[&at(crate::world::root::CONTEXT)].object;
        let root = world.memory.physical(world.root.address());
        model.add_thread(root);
        model.contexts.insert(context, Some(root));
        model.set_thread_slot(root, CSPACE, cspace);
        model.set_thread_slot(root, BUFFER, buffer);
        model.configured.insert(context);
        let thread = model.thread(root);
        thread.state = State::Ready;
        thread.context = Some(context);
        thread.priority = u64::from(crate::world::PRIORITY);
        model
    }

    pub fn thread(&mut self, thread: Object) -> &mut Thread {
        self.threads.get_mut(&thread).unwrap()
    }

    fn add_thread(&mut self, object: Object) {
        let registers = Registers { status: 0, badge: 0, info: 0, words: [0; 8] };
        let thread = Thread {
            state: State::Inactive,
            registers,
            on: 0,
            slots: [None; 4],
            bound: None,
            context: None,
            receives_with: None,
            send_badge: 0,
            send_grant: false,
            deadline: 0,
            priority: 0,
            fault: [0; 8],
            pending: false,
        };
        self.threads.insert(object, thread);
        self.replies.insert(object, Reply { server: Some(object), ..Reply::default() });
    }
}
