//! Trace records: what the kernel writes into per-CPU rings while tracing is on.
//!
//! The rings lie in one Frame (slot [`crate::boot::slots::TRACE`]): [`MAX_CPUS`] rings of [`Ring`], one after
//! the other.

use core::sync::atomic::AtomicU64;

/// CPUs the kernel can run on.
pub const MAX_CPUS: usize = 8;
/// Records in a ring.
pub const RECORDS: usize = 1023;

/// One record: 32 bytes.
#[derive(Debug)]
#[repr(C)]
pub struct Record {
    /// TSC at the event.
    pub time: AtomicU64,
    /// The [`Event`] in the low byte, the CPU in the next.
    pub event: AtomicU64,
    /// First argument (see [`Event`]).
    pub a: AtomicU64,
    /// Second argument.
    pub b: AtomicU64,
}

/// The ring of one CPU: 32 KiB.
#[derive(Debug)]
#[repr(C)]
pub struct Ring {
    /// Records ever written; record n is at `records[n % RECORDS]`.
    pub written: AtomicU64,
    /// Reserved, so that records are aligned.
    pub reserved: [u64; 3],
    /// The records.
    pub records: [Record; RECORDS],
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// A system call entered the slow path: number, capability.
    Syscall = 1,
    /// A message passed: identity of sender, of receiver.
    Ipc = 2,
    /// The CPU switched threads: identity of old, of new.
    Switch = 3,
    /// An interrupt: vector, 0.
    Irq = 4,
    /// A fault: kind, address.
    Fault = 5,
    /// A range was mapped: address, pages.
    Map = 6,
    /// A range was unmapped: address, pages.
    Unmap = 7,
}
