//! What the logic asks of the machine.

/// Pages whose translations must go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flush {
    /// The address space, by the physical address of its root table.
    pub root: u64,
    /// First address.
    pub address: u64,
    /// Pages of 4 KiB; beyond a few dozen everything is flushed.
    pub pages: u64,
    /// Whether tables went, too (their entries are cached apart: SDM vol. 3, 4.10.3).
    pub tables: bool,
}

/// Something that the IOMMU stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoFault {
    /// The device.
    pub source: u16,
    /// What it would have reached; of an interrupt the index of its entry << 48.
    pub address: u64,
    /// Why (VT-d specification, fault reasons), with bit 8 set for a read.
    pub reason: u64,
}

/// The machine below the kernel. `cpu` is always a CPU's number; calls come from the CPU that holds the
/// kernel lock.
pub trait Machine: 'static {
    /// TSC ticks since boot: never goes back on one CPU, and on no CPU further behind another than a few microseconds.
    fn now(&self) -> u64;
    /// Sets the one-shot timer of this CPU to the time `at`.
    fn set_timer(&self, at: u64);
    /// Makes CPU `cpu` look at its ready queues soon.
    fn poke(&self, cpu: usize);
    /// Brings CPU `cpu` out of user code: when this returns its thread's registers are saved, and it returns to
    /// no thread before it has held the lock and found out what to run; the kernel's own root table is loaded.
    fn halt(&self, cpu: usize);
    /// Loads the root table at physical address `root` on this CPU.
    fn load_root(&self, root: u64);
    /// Forgets translations, on this CPU (`here`: whether it uses that address space) and on those of `others`.
    fn flush(&self, flush: Flush, here: bool, others: u64);
    /// Routes interrupt line `gsi` of the I/O APIC to `vector` of `cpu`, masked. False if there is no such line.
    fn route(&self, gsi: u32, vector: u8, cpu: usize, level: bool, active_low: bool) -> bool;
    /// Lets line `gsi` through, or holds it.
    fn mask(&self, gsi: u32, masked: bool);
    /// Address and data with which the device `source` signals `vector` to `cpu` (SDM vol. 3, 11.11).
    fn msi(&self, vector: u8, cpu: usize, source: u64) -> (u64, u64);
    /// No line or device signals `vector` any more.
    fn free_vector(&self, vector: u8);
    /// Whether a message counts only from the device that it is for.
    fn remaps_interrupts(&self) -> bool;
    /// Levels of the tables that the IOMMU walks, 3 or 4; 0 where devices reach all memory.
    fn io_levels(&self) -> u32;
    /// Lets the device `source` reach what the tables at physical address `root` map, as `domain`; with a root of
    /// 0 nothing, and when this returns nothing it asked for before is under way.
    fn set_domain(&self, source: u16, domain: u16, root: u64);
    /// Forgets the translations of a domain, and waits for what is under way by them. `made`: nothing has been
    /// taken away, and only that something is not there needs to be forgotten.
    fn flush_domain(&self, domain: u16, made: bool);
    /// Lets the IOMMU see what was written to `size` bytes at `address` of the window.
    fn write_back(&self, address: u64, size: u64);
    /// Takes the next fault that the IOMMU has recorded.
    fn next_fault(&self) -> Option<IoFault>;
    /// Reads a port.
    fn port_read(&self, port: u16, width: u64) -> u64;
    /// Writes a port.
    fn port_write(&self, port: u16, width: u64, value: u64);
    /// Writes bytes to the kernel's log.
    fn log(&self, bytes: &[u8]);
    /// Ends the machine. On the host it returns.
    fn shutdown(&self, status: u64);
    /// Takes the fast path in or out of service (out: every call is seen by tracing).
    fn fast_path(&self, on: bool);
    /// The longest time in the kernel since the last call, and where.
    fn latency(&self) -> (u64, u64);
}
