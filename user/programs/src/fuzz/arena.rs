//! The arena: one Frame that the supervisor and all threads of a world see at one address. No capability to it
//! is in the world. In it lie IPC buffers, stacks, the call being made, and what was counted.

use core::sync::atomic::{AtomicU64, Ordering};

use ipc::buffer::Buffer;

use crate::sandbox::Block;
use crate::table::{ROWS, STATUSES};

/// Where it is mapped.
pub const ADDRESS: u64 = proto::start::FREE;
/// log2 of its size.
pub const BITS: u32 = 18;
/// Threads with a stack and an IPC buffer: the fuzzing thread, and the others of its world.
pub const THREADS: usize = 7;

const BUFFERS: u64 = 0x8000;
const STACKS: u64 = 0x1_0000;
const STACK: u64 = 0x4000;

const _: () = assert!(size_of::<Control>() as u64 <= BUFFERS);
const _: () = assert!(BUFFERS + 1024 * THREADS as u64 <= STACKS);
const _: () = assert!(STACKS + THREADS as u64 * STACK <= 1 << BITS);

/// What supervisor and fuzzing thread tell each other.
#[derive(Debug)]
#[repr(C)]
pub struct Control {
    /// The call being made.
    pub block: Block,
    /// Of the sequence.
    pub seed: AtomicU64,
    /// Calls begun: the number of the next one.
    pub issued: AtomicU64,
    /// The fuzzing thread stops before this call.
    pub limit: AtomicU64,
    /// CPUs that run.
    pub cpus: AtomicU64,
    /// TSC ticks in a microsecond.
    pub microsecond: AtomicU64,
    /// What went wrong: a [`crate::sandbox::Wrong`], or 0.
    pub wrong: AtomicU64,
    /// What it should have been, and what it was.
    pub wrong_values: [AtomicU64; 2],
    /// Calls begun, for each row.
    pub begun: [AtomicU64; ROWS],
    /// Calls that came back, for each row and status.
    pub ended: [[AtomicU64; STATUSES]; ROWS],
    /// Actions of the other threads.
    pub noise: AtomicU64,
}

fn at<T>(offset: u64) -> &'static T {
    // SAFETY: the arena is mapped wherever code uses it (a thread whose own mapping of it is gone faults), and
    // what is read through references are atomics and cells.
    unsafe { &*((ADDRESS + offset) as *const T) }
}

/// What supervisor and fuzzing thread tell each other.
pub fn control() -> &'static Control {
    at(0)
}

/// Reads a word.
pub fn get(word: &AtomicU64) -> u64 {
    word.load(Ordering::SeqCst)
}

/// Writes a word.
pub fn set(word: &AtomicU64, value: u64) {
    word.store(value, Ordering::SeqCst);
}

/// Counts, in a word that only one thread counts in.
pub fn count(word: &AtomicU64) {
    word.store(word.load(Ordering::Relaxed) + 1, Ordering::SeqCst);
}

/// Offset in the arena of the IPC buffer of thread `index`.
pub const fn buffer_offset(index: usize) -> u64 {
    BUFFERS + 1024 * index as u64
}

/// The IPC buffer of thread `index`.
pub fn buffer(index: usize) -> &'static Buffer {
    assert!(index < THREADS, "no such thread");
    at(buffer_offset(index))
}

/// The top of the stack of thread `index`.
pub const fn stack_top(index: usize) -> u64 {
    ADDRESS + STACKS + (index as u64 + 1) * STACK
}
