//! The kernel lock, and what CPUs ask of each other while one of them holds it.
//!
//! One ticket lock, first come first served. A CPU that waits for it has interrupts off, so it looks into its
//! mailbox meanwhile; so does the handler of the IPI that announces mail. Only the holder of the lock sends
//! mail, and waits until it is answered.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use abi::trace::MAX_CPUS;
use objects::Cpu;
use objects::machine::Flush;

use crate::hardware::{self, KERNEL};
use crate::machine::apic;

/// A ticket lock: the next ticket, and the one whose turn it is. (The assembly knows the order.)
#[repr(C)]
pub struct TicketLock {
    next: AtomicU32,
    owner: AtomicU32,
}

/// The kernel lock.
#[unsafe(no_mangle)]
pub static kernel_lock: TicketLock = TicketLock { next: AtomicU32::new(0), owner: AtomicU32::new(0) };

/// Nothing asked.
const NOTHING: u32 = 0;
/// Forget the translations of a range.
const FLUSH: u32 = 1;
/// Load the kernel's root table and come to no user code before holding the lock.
const HALT: u32 = 2;

/// What is asked of a CPU.
struct Mail {
    request: AtomicU32,
    address: AtomicU64,
    pages: AtomicU64,
    /// It was halted since it last held the lock.
    halted: AtomicU32,
}

static MAIL: [Mail; MAX_CPUS] = [const {
    Mail {
        request: AtomicU32::new(NOTHING),
        address: AtomicU64::new(0),
        pages: AtomicU64::new(0),
        halted: AtomicU32::new(0),
    }
}; MAX_CPUS];

/// Takes the lock.
pub fn lock(here: &Cpu) {
    let ticket = kernel_lock.next.fetch_add(1, Ordering::Relaxed);
    wait_for(here, ticket);
}

/// Waits for the turn of `ticket`, answering mail.
pub fn wait_for(here: &Cpu, ticket: u32) {
    while kernel_lock.owner.load(Ordering::Acquire) != ticket {
        answer(here);
        core::hint::spin_loop();
    }
    // Mail from a holder before us was answered or it would not have given the lock on. If it was a halt, the
    // kernel's own root table is loaded: from here on it is again that of the current thread, whoever that is now.
    let halted = MAIL.get(here.number.get()).is_some_and(|mail| mail.halted.swap(0, Ordering::Relaxed) != 0);
    if halted {
        hardware::load_root(here.thread().cr3.get());
    }
    here.root.set(here.thread().cr3.get());
}

/// Gives the lock back.
pub fn unlock() {
    kernel_lock.owner.store(kernel_lock.owner.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
}

fn answer(here: &Cpu) {
    let Some(mail) = MAIL.get(here.number.get()) else { return };
    match mail.request.load(Ordering::Acquire) {
        FLUSH => {
            hardware::flush_here(mail.address.load(Ordering::Relaxed), mail.pages.load(Ordering::Relaxed))
        }
        HALT => {
            hardware::load_root(KERNEL.root.get());
            mail.halted.store(1, Ordering::Relaxed);
        }
        _ => return,
    }
    mail.request.store(NOTHING, Ordering::Release);
}

fn ask(cpu: usize, request: u32) {
    let Some(mail) = MAIL.get(cpu) else { return };
    mail.request.store(request, Ordering::Release);
    apic::send_ipi(cpu);
    while mail.request.load(Ordering::Acquire) != NOTHING {
        core::hint::spin_loop();
    }
}

/// Brings `cpu` out of user code: its thread's registers are saved when this returns.
pub fn halt(cpu: usize) {
    ask(cpu, HALT);
}

/// Has `cpu` forget translations.
pub fn flush(cpu: usize, flush: Flush) {
    if let Some(mail) = MAIL.get(cpu) {
        let pages = if flush.tables { u64::MAX } else { flush.pages };
        mail.address.store(flush.address, Ordering::Relaxed);
        mail.pages.store(pages, Ordering::Relaxed);
    }
    ask(cpu, FLUSH);
}

/// Whether the thread that this CPU came in with was taken from it while it waited.
pub fn was_abandoned(here: &Cpu) -> bool {
    here.abandoned.replace(false)
}
