//! Locks and mail between CPUs, as the entries of this machine use them (the protocol: [`objects::locks`]).
//!
//! A CPU that waits for a lock has interrupts off, so it looks into its mailbox meanwhile; so does the handler of the
//! IPI that announces mail. Only the holder of all locks sends mail, and waits until it is answered.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use abi::trace::MAX_CPUS;
use objects::Cpu;
use objects::cpu::Held;
use objects::locks::{HALT, Locks, Mailbox};
use objects::machine::Flush;
use objects::memory::zeroed;

use crate::hardware::{self, KERNEL};
use crate::machine::apic;

/// The locks of the CPUs. (The assembly takes and gives a CPU's own by this name.)
#[unsafe(no_mangle)]
pub static kernel_locks: Locks<AtomicU32, MAX_CPUS, 1_000> = zeroed();

/// A request to forget the translations of a range; [`HALT`] asks to load the kernel's root table and come to no user
/// code before holding a lock.
const FLUSH: u32 = 2;

/// What is asked of a CPU.
struct Mail {
    mailbox: Mailbox<AtomicU32>,
    address: AtomicU64,
    pages: AtomicU64,
}

static MAIL: [Mail; MAX_CPUS] =
    [const { Mail { mailbox: zeroed(), address: AtomicU64::new(0), pages: AtomicU64::new(0) } }; MAX_CPUS];

/// Takes the lock of this CPU, which holds none.
pub fn take_own(here: &Cpu) {
    if here.held.get() != Held::Alone {
        kernel_locks.take_own(here.number.get(), || answer(here));
    }
    arrive(here);
}

/// Takes all locks; the CPU holds its own, and gives it back meanwhile.
pub fn take_all(here: &Cpu) {
    if here.held.get() == Held::Alone {
        return;
    }
    let number = here.number.get();
    kernel_locks.give_own(number);
    kernel_locks.take_all(number, KERNEL.cpu_count(), || answer(here), apic::send_ipi);
    here.held.set(Held::All);
    arrive(here);
}

/// Gives back what the CPU holds.
#[inline(always)]
pub fn give(here: &Cpu) {
    match here.held.get() {
        Held::Alone => {}
        Held::Own => kernel_locks.give_own(here.number.get()),
        Held::All => give_all(here),
    }
}

#[cold]
fn give_all(here: &Cpu) {
    here.held.set(Held::Own);
    kernel_locks.give_all(KERNEL.cpu_count());
}

/// Mail from an earlier holder of all locks has been answered, or that one would not have given them back. If it was a
/// halt, the kernel's own root table is loaded: from here on it is again that of the current thread, which may be
/// another one now.
fn arrive(here: &Cpu) {
    if MAIL.get(here.number.get()).is_some_and(|mail| mail.mailbox.was_halted()) {
        hardware::load_root(here.thread().cr3.get());
    }
    here.root.set(here.thread().cr3.get());
}

fn answer(here: &Cpu) {
    core::hint::spin_loop();
    let Some(mail) = MAIL.get(here.number.get()) else { return };
    mail.mailbox.answer(|request| match request {
        FLUSH => {
            hardware::flush_here(mail.address.load(Ordering::Relaxed), mail.pages.load(Ordering::Relaxed))
        }
        _ => hardware::load_root(KERNEL.root.get()),
    });
}

fn ask(cpu: usize, request: u32) {
    if let Some(mail) = MAIL.get(cpu) {
        mail.mailbox.ask(request, || apic::send_ipi(cpu), core::hint::spin_loop);
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
