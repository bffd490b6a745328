//! An IOMMU of plain data: it sees of the tables only what was written back, remembers every translation, and
//! lets nothing through that it does not find.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};

use abi::PAGE_SIZE;
use objects::Ref;
use objects::machine::IoFault;
use objects::memory::{Memory, Table};

const PRESENT: u64 = 1;
const WRITE: u64 = 2;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Why something was stopped: no entry for the device, no right to write, none to read (VT-d specification).
pub const NO_DEVICE: u64 = 2;
pub const NO_WRITE: u64 = 5;
pub const NO_READ: u64 = 6 | 1 << 8;

/// The IOMMU.
#[derive(Debug)]
pub struct Iommu {
    pub levels: Cell<u32>,
    pub remaps: Cell<bool>,
    /// Domain and root of each device.
    pub devices: RefCell<BTreeMap<u16, (u16, u64)>>,
    /// Entries of tables by their address, as they were written back.
    seen: RefCell<BTreeMap<u64, u64>>,
    /// Translations by domain and page, as they were found.
    cached: RefCell<BTreeMap<(u16, u64), u64>>,
    pub faults: RefCell<VecDeque<IoFault>>,
    /// The device that each vector is for.
    pub messages: RefCell<BTreeMap<u8, u64>>,
}

impl Iommu {
    pub fn new() -> Iommu {
        Iommu {
            levels: Cell::new(3),
            remaps: Cell::new(true),
            devices: RefCell::new(BTreeMap::new()),
            seen: RefCell::new(BTreeMap::new()),
            cached: RefCell::new(BTreeMap::new()),
            faults: RefCell::new(VecDeque::new()),
            messages: RefCell::new(BTreeMap::new()),
        }
    }

    pub fn let_through(&self, vector: u8, source: u64) {
        let before = self.messages.borrow_mut().insert(vector, source);
        assert_eq!(before, None, "a vector is given to two");
    }

    pub fn stop(&self, vector: u8) {
        self.messages.borrow_mut().remove(&vector);
    }

    pub fn set_domain(&self, source: u16, domain: u16, root: u64) {
        let mut devices = self.devices.borrow_mut();
        devices.remove(&source);
        self.cached.borrow_mut().retain(|&(of, _), _| of != domain);
        if root != 0 {
            assert!(devices.values().all(|&(other, _)| other != domain), "two devices are one domain");
            devices.insert(source, (domain, root));
        }
    }

    pub fn flush_domain(&self, domain: u16, made: bool) {
        if !made {
            self.cached.borrow_mut().retain(|&(of, _), _| of != domain);
        }
    }

    pub fn see(&self, address: u64, size: u64) {
        for at in (address..address + size).step_by(8) {
            self.seen.borrow_mut().insert(at, in_memory(at));
        }
    }

    /// The entry for `address` below `root`, by the entries that `entry` tells.
    fn walk(&self, memory: Memory, root: u64, address: u64, entry: impl Fn(u64) -> u64) -> u64 {
        let mut found = root | PRESENT | WRITE;
        for level in (0..self.levels.get()).rev() {
            let index = address >> (12 + 9 * level) & 511;
            let at = memory.address(found & ADDRESS) + 8 * index;
            let next = entry(at);
            assert_eq!(next & !(ADDRESS | PRESENT | WRITE), 0, "an entry has bits that it should not");
            if next & PRESENT == 0 {
                return 0;
            }
            found = next & (ADDRESS | found & (PRESENT | WRITE));
        }
        found
    }

    /// The device `source` reads or writes at `address`: where it gets to.
    pub fn reach(&self, memory: Memory, source: u16, address: u64, write: bool) -> Option<u64> {
        let stopped = |reason| {
            self.faults.borrow_mut().push_back(IoFault { source, address: address & !0xfff, reason });
            None
        };
        let device = self.devices.borrow().get(&source).copied();
        let Some((domain, root)) = device else { return stopped(NO_DEVICE) };
        let key = (domain, address / PAGE_SIZE);
        let cached = self.cached.borrow().get(&key).copied();
        let seen = |at| *self.seen.borrow().get(&at).expect("the IOMMU reads what was not written back");
        let beyond = address >> (12 + 9 * self.levels.get()) != 0;
        let entry = match cached {
            Some(entry) => entry,
            None if beyond => 0,
            None => self.walk(memory, root, address, seen),
        };
        match (entry & PRESENT != 0, entry & WRITE != 0) {
            (true, true) => {}
            (true, false) if !write => {}
            _ => return stopped(if write { NO_WRITE } else { NO_READ }),
        }
        self.cached.borrow_mut().insert(key, entry);
        Some(entry & ADDRESS | address & (PAGE_SIZE - 1))
    }

    /// Every translation it remembers is still in the tables, and it has seen those as they are.
    pub fn check(&self, memory: Memory) {
        let roots: BTreeMap<u16, u64> = self.devices.borrow().values().copied().collect();
        for (&(domain, page), &cached) in self.cached.borrow().iter() {
            let Some(&root) = roots.get(&domain) else { panic!("a device that is gone is remembered") };
            let now = self.walk(memory, root, page * PAGE_SIZE, in_memory);
            assert_eq!(cached, now, "the IOMMU remembers what is no more");
        }
    }
}

/// The word at `at`, in a table that exists.
fn in_memory(at: u64) -> u64 {
    let table = Ref::<Table>::at(at & !0xfff).expect("not in memory");
    table.get()[(at as usize & 0xfff) / 8].get()
}
