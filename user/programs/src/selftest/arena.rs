//! The arena: one Frame that all of a test's threads see at one address, whatever their address space.
//!
//! In it lie the shared words, the threads' IPC buffers, stacks and closures, and what the bench and the
//! sandbox tell each other. The bench clears all but the stacks before each test.

use core::sync::atomic::{AtomicU64, Ordering};

/// Where it is mapped.
pub const ADDRESS: u64 = proto::start::FREE;
/// log2 of its size.
pub const BITS: u32 = 22;
/// Threads of a test, at most; thread 0 is the test itself.
pub const THREADS: usize = 160;
/// Words that a test's threads share.
pub const WORDS: usize = 512;
/// Bytes of a closure.
pub const CLOSURE: u64 = 256;
/// Bytes of IPC buffers: one for each thread, and some to spare for the test to use.
pub const BUFFERS: u64 = 256 * 1024;

const THREAD_TABLE: u64 = 0x1000;
const SETUP: u64 = 0x3000;
const CLOSURES: u64 = 0x1_0000;
const BUFFER_AREA: u64 = 0x4_0000;
/// What lies before this is cleared before each test.
pub const CLEARED: u64 = BUFFER_AREA + BUFFERS;
const FIRST_STACK_TOP: u64 = 0x10_0000;
const STACK: u64 = 0x4000;

const _: () = assert!(CLOSURES + THREADS as u64 * CLOSURE <= BUFFER_AREA);
const _: () = assert!(FIRST_STACK_TOP + THREADS as u64 * STACK <= 1 << BITS);
const _: () = assert!(THREADS * size_of::<Entry>() <= (SETUP - THREAD_TABLE) as usize);

/// What is known of one thread.
#[derive(Debug)]
#[repr(C)]
pub struct Entry {
    /// The slot of its Tcb in the test's CSpace.
    pub tcb: AtomicU64,
    /// Not 0 when its function has returned.
    pub done: AtomicU64,
}

fn at<T>(offset: u64) -> &'static T {
    // SAFETY: the arena is mapped wherever this program's code runs beyond the bench's set-up, is never
    // unmapped, and what lies in it is made of atomics or written before the threads that read it start.
    unsafe { &*((ADDRESS + offset) as *const T) }
}

/// A word that all threads of a test share; 0 when the test starts.
pub fn word(index: usize) -> &'static AtomicU64 {
    assert!(index < WORDS, "no such shared word");
    at(8 * index as u64)
}

/// Sets a shared word.
pub fn set(index: usize, value: u64) {
    word(index).store(value, Ordering::SeqCst);
}

/// Reads a shared word.
pub fn get(index: usize) -> u64 {
    word(index).load(Ordering::SeqCst)
}

/// Adds to a shared word; what it was.
pub fn add(index: usize, value: u64) -> u64 {
    word(index).fetch_add(value, Ordering::SeqCst)
}

/// What is known of thread `index`.
pub fn thread(index: usize) -> &'static Entry {
    assert!(index < THREADS, "too many threads for the arena");
    at(THREAD_TABLE + (index * size_of::<Entry>()) as u64)
}

/// Where the bench tells the test what it is.
pub fn setup() -> *mut crate::world::Setup {
    (ADDRESS + SETUP) as *mut crate::world::Setup
}

/// Where the closure of thread `index` lies.
pub fn closure(index: usize) -> u64 {
    ADDRESS + CLOSURES + index as u64 * CLOSURE
}

/// Offset of the IPC buffer of thread `index` in the arena's Frame. (Beyond the threads: to spare.)
pub fn buffer_offset(index: usize) -> u64 {
    assert!((index as u64) < BUFFERS / 1024, "no such IPC buffer");
    BUFFER_AREA + 1024 * index as u64
}

/// The IPC buffer of thread `index`.
pub fn buffer(index: usize) -> &'static ipc::buffer::Buffer {
    at(buffer_offset(index))
}

/// Top of the stack of thread `index`.
pub fn stack_top(index: usize) -> u64 {
    match index {
        0 => ADDRESS + FIRST_STACK_TOP,
        _ => ADDRESS + FIRST_STACK_TOP + index as u64 * STACK,
    }
}

/// Clears everything but the stacks.
///
/// # Safety
///
/// No thread that uses the arena may be running.
pub unsafe fn clear() {
    // SAFETY: the arena is mapped here, and nobody uses it, as the caller says.
    unsafe { core::ptr::write_bytes(ADDRESS as *mut u8, 0, CLEARED as usize) }
}
