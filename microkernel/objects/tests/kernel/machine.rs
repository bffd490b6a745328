//! A machine made of plain data: a clock that stands still until told, one translation cache for each CPU, and
//! a record of what the kernel asked for.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use objects::Machine;
use objects::machine::{Flush, IoFault};

use crate::iommu::Iommu;

/// CPUs, at most.
pub const MAX_CPUS: usize = 4;

/// A cached translation: the leaf entry as the walk found it.
pub type Tlb = BTreeMap<u64, u64>;

/// One interrupt line as the kernel set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    pub vector: u8,
    pub cpu: usize,
    pub masked: bool,
}

/// What the machine remembers.
#[derive(Debug)]
pub struct State {
    pub now: Cell<u64>,
    /// The CPU that holds the kernel lock.
    pub here: Cell<usize>,
    pub timers: [Cell<u64>; MAX_CPUS],
    /// CPUs that were asked to look at their queues.
    pub pokes: Cell<u64>,
    /// CPUs that were brought out of user code and have not entered the kernel since.
    pub halted: Cell<u64>,
    pub kernel_root: Cell<u64>,
    /// The root table that each CPU has loaded.
    pub roots: [Cell<u64>; MAX_CPUS],
    pub tlbs: [RefCell<Tlb>; MAX_CPUS],
    pub flushes: Cell<u64>,
    pub lines: RefCell<BTreeMap<u32, Line>>,
    pub ports: RefCell<BTreeMap<u16, u64>>,
    pub log: RefCell<Vec<u8>>,
    pub ended: Cell<Option<u64>>,
    pub fast: Cell<bool>,
    pub iommu: Iommu,
}

impl State {
    pub fn new() -> State {
        State {
            now: Cell::new(1_000_000),
            here: Cell::new(0),
            timers: [const { Cell::new(u64::MAX) }; MAX_CPUS],
            pokes: Cell::new(0),
            halted: Cell::new(0),
            kernel_root: Cell::new(0),
            roots: [const { Cell::new(0) }; MAX_CPUS],
            tlbs: [const { RefCell::new(Tlb::new()) }; MAX_CPUS],
            flushes: Cell::new(0),
            lines: RefCell::new(BTreeMap::new()),
            ports: RefCell::new(BTreeMap::new()),
            log: RefCell::new(Vec::new()),
            ended: Cell::new(None),
            fast: Cell::new(false),
            iommu: Iommu::new(),
        }
    }

    /// Loads a root table on `cpu`, which forgets every translation.
    pub fn load_root_on(&self, cpu: usize, root: u64) {
        self.roots[cpu].set(root);
        self.tlbs[cpu].borrow_mut().clear();
    }

    fn forget(&self, cpu: usize, flush: Flush) {
        if self.roots[cpu].get() != flush.root {
            return;
        }
        let end = flush.address + flush.pages * abi::PAGE_SIZE;
        self.tlbs[cpu]
            .borrow_mut()
            .retain(|&address, _| !flush.tables && !(flush.address..end).contains(&address));
    }
}

/// The machine as the kernel has it.
#[derive(Clone, Copy, Debug)]
pub struct Fake(pub &'static State);

/// Lines that the fake I/O APIC has.
pub const LINES: u32 = 24;

impl Machine for Fake {
    fn now(&self) -> u64 {
        self.0.now.get()
    }

    fn set_timer(&self, at: u64) {
        self.0.timers[self.0.here.get()].set(at);
    }

    fn poke(&self, cpu: usize) {
        self.0.pokes.set(self.0.pokes.get() | 1 << cpu);
    }

    fn halt(&self, cpu: usize) {
        assert_ne!(cpu, self.0.here.get(), "a CPU halts itself");
        self.0.halted.set(self.0.halted.get() | 1 << cpu);
        self.0.load_root_on(cpu, self.0.kernel_root.get());
    }

    fn load_root(&self, root: u64) {
        self.0.load_root_on(self.0.here.get(), root);
    }

    fn flush(&self, flush: Flush, here: bool, others: u64) {
        self.0.flushes.set(self.0.flushes.get() + 1);
        assert_eq!(others & 1 << self.0.here.get(), 0, "a CPU asks itself");
        if here {
            self.0.forget(self.0.here.get(), flush);
        }
        (0..MAX_CPUS).filter(|cpu| others & 1 << cpu != 0).for_each(|cpu| self.0.forget(cpu, flush));
    }

    fn route(&self, gsi: u32, vector: u8, cpu: usize, _: bool, _: bool) -> bool {
        if gsi < LINES {
            self.0.lines.borrow_mut().insert(gsi, Line { vector, cpu, masked: true });
        }
        gsi < LINES
    }

    fn mask(&self, gsi: u32, masked: bool) {
        if let Some(line) = self.0.lines.borrow_mut().get_mut(&gsi) {
            line.masked = masked;
        }
    }

    fn msi(&self, vector: u8, cpu: usize, source: u64) -> (u64, u64) {
        self.0.iommu.let_through(vector, source);
        (0xfee0_0000 | (cpu as u64) << 12, u64::from(vector))
    }

    fn free_vector(&self, vector: u8) {
        self.0.iommu.stop(vector);
    }

    fn remaps_interrupts(&self) -> bool {
        self.0.iommu.remaps.get()
    }

    fn io_levels(&self) -> u32 {
        self.0.iommu.levels.get()
    }

    fn set_domain(&self, source: u16, domain: u16, root: u64) {
        self.0.iommu.set_domain(source, domain, root);
    }

    fn flush_domain(&self, domain: u16, made: bool) {
        self.0.iommu.flush_domain(domain, made);
    }

    fn write_back(&self, address: u64, size: u64) {
        self.0.iommu.see(address, size);
    }

    fn next_fault(&self) -> Option<IoFault> {
        self.0.iommu.faults.borrow_mut().pop_front()
    }

    fn port_read(&self, port: u16, width: u64) -> u64 {
        self.0.ports.borrow().get(&port).copied().unwrap_or(0) & (u64::MAX >> (64 - 8 * width))
    }

    fn port_write(&self, port: u16, _: u64, value: u64) {
        self.0.ports.borrow_mut().insert(port, value);
    }

    fn log(&self, bytes: &[u8]) {
        self.0.log.borrow_mut().extend_from_slice(bytes);
    }

    fn shutdown(&self, status: u64) {
        self.0.ended.set(Some(status));
    }

    fn fast_path(&self, on: bool) {
        self.0.fast.set(on);
    }

    fn latency(&self) -> (u64, u64) {
        (17, 0x301)
    }
}
