//! The kernel on this machine: its one instance, and the logic's [`Machine`] on top of the machine layer.

use core::arch::asm;
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use abi::trace::MAX_CPUS;
use objects::machine::{Flush, IoFault};
use objects::memory::{Memory, zeroed};
use objects::{Cpu, Kernel, Machine, Ref};
use x86_64::instructions::port::Port;
use x86_64::structures::port::{PortRead, PortWrite};

use crate::entry;
use crate::machine::layout::WINDOW;
use crate::machine::{apic, cpu, ioapic, iommu, log, power, stacks};
use crate::remote;

/// A static of the kernel whose parts only the holders of the locks that protect them touch ([`objects::local`]).
#[repr(transparent)]
pub struct Locked<T>(pub T);

// SAFETY: the entry paths take this CPU's lock before they reach it (crate::entry, asm/fastpath.s), and all locks for
// what that one does not protect.
unsafe impl<T> Sync for Locked<T> {}

impl<T> core::ops::Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// The CPUs. The assembly knows them by this name.
#[unsafe(no_mangle)]
pub static kernel_cpus: Locked<[Cpu; MAX_CPUS]> = Locked([const { zeroed() }; MAX_CPUS]);

// SAFETY: boot maps all RAM that it hands over at WINDOW, and keeps nothing else in it.
const MEMORY: Memory = unsafe { Memory::new(WINDOW) };

/// The kernel.
pub static KERNEL: Locked<Kernel<Hardware>> = Locked(Kernel::new(Hardware, MEMORY, &kernel_cpus.0));

/// The machine as the logic sees it.
#[derive(Debug)]
pub struct Hardware;

/// A late time that was told: TSCs of different CPUs may be out of step. All CPUs read it, so it is written seldom.
static LATEST: AtomicU64 = AtomicU64::new(0);

/// Ticks by which a CPU's time may be behind what another one was told.
const SLACK: u64 = 1 << 14;

/// The time where this CPU's is behind, or far before, what was told.
#[cold]
fn later(now: u64) -> u64 {
    now.max(LATEST.fetch_max(now, Ordering::Relaxed))
}

/// Longest time in the kernel and where, and whether it is measured.
static LONGEST: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
static MEASURING: Locked<Cell<bool>> = Locked(Cell::new(false));
/// When and why each CPU last entered the slow path.
static ENTERED: [[AtomicU64; 2]; MAX_CPUS] = [const { [const { AtomicU64::new(0) }; 2] }; MAX_CPUS];

/// Whether the command line took the fast path out of service for good.
static NO_FAST_PATH: AtomicBool = AtomicBool::new(false);
/// Whether it is to be in service: each CPU follows when it next enters the kernel.
static FAST_PATH: AtomicBool = AtomicBool::new(true);

/// Takes the fast path out of service for good (`nofast`).
pub fn disable_fast_path() {
    NO_FAST_PATH.store(true, Ordering::Relaxed);
    Hardware.fast_path(false);
}

/// Sets this CPU's system call entry as the fast path's switch has it.
pub fn follow_fast_path(cpu: usize) {
    cpu::set_syscall_entry(entry::syscall_entry(cpu, FAST_PATH.load(Ordering::Relaxed)));
}

/// Loads a root table.
pub fn load_root(root: u64) {
    // SAFETY: a VSpace's root has the kernel's entries; the logic drops no root that a CPU has loaded.
    unsafe { asm!("mov cr3, {}", in(reg) root, options(nostack, preserves_flags)) };
}

/// Forgets the translations of `pages` from `address` on, or all of the current address space.
pub fn flush_here(address: u64, pages: u64) {
    const WORTHWHILE: u64 = 32;
    if pages > WORTHWHILE {
        let root: u64;
        // SAFETY: reads a register.
        unsafe { asm!("mov {}, cr3", out(reg) root, options(nomem, nostack, preserves_flags)) };
        load_root(root);
        return;
    }
    for page in 0..pages {
        let at = address.wrapping_add(page << 12);
        // SAFETY: forgetting a translation is always sound.
        unsafe { asm!("invlpg [{}]", in(reg) at, options(nostack, preserves_flags)) };
    }
}

/// Notes that this CPU has a lock, for [`Machine::latency`].
pub fn note_entering(here: &Cpu, place: u64) {
    if MEASURING.get()
        && let Some([since, why]) = ENTERED.get(here.number.get())
    {
        since.store(cpu::tsc(), Ordering::Relaxed);
        why.store(place, Ordering::Relaxed);
    }
}

/// Notes that it is about to give back what it holds.
pub fn note_leaving(here: &Cpu) {
    if MEASURING.get()
        && let Some([since, why]) = ENTERED.get(here.number.get())
    {
        let [longest, place] = &LONGEST;
        let since = since.load(Ordering::Relaxed);
        // (0: it entered before anything was measured.)
        let took = if since == 0 { 0 } else { cpu::tsc().saturating_sub(since) };
        if took > longest.fetch_max(took, Ordering::Relaxed) {
            place.store(why.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

/// Readies the CPU's stack and entry for traps and system calls.
pub fn init_cpu(here: &Cpu) {
    let number = here.number.get();
    stacks::name_cpu(number, Ref::address_of(here));
    here.stack.set(stacks::trap_top(stacks::main_top(number)));
    follow_fast_path(number);
}

fn read<T: PortRead>(port: u16) -> T {
    // SAFETY: who holds the IoPort capability may do to the device what it likes; no port is the kernel's memory.
    unsafe { Port::new(port).read() }
}

fn write<T: PortWrite>(port: u16, value: T) {
    // SAFETY: as for reading.
    unsafe { Port::new(port).write(value) }
}

/// Methods that a function of the machine layer is.
macro_rules! forward {
    ($(fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? = $to:expr;)*) => {
        $(fn $name(&self, $($argument: $type),*) $(-> $result)? {
            $to
        })*
    };
}

impl Machine for Hardware {
    forward! {
        fn poke(cpu: usize) = apic::send_ipi(cpu);
        fn halt(cpu: usize) = remote::halt(cpu);
        fn load_root(root: u64) = load_root(root);
        fn route(gsi: u32, vector: u8, cpu: usize, level: bool, active_low: bool) -> bool = ioapic::route(gsi, vector, cpu, level, active_low);
        fn mask(gsi: u32, masked: bool) = ioapic::mask(gsi, masked);
        fn free_vector(vector: u8) = iommu::free_vector(vector);
        fn remaps_interrupts() -> bool = iommu::remaps_interrupts();
        fn io_levels() -> u32 = iommu::levels();
        fn set_domain(source: u16, domain: u16, root: u64) = iommu::set_domain(source, domain, root);
        fn flush_domain(domain: u16, made: bool) = iommu::flush_domain(domain, made);
        fn write_back(address: u64, size: u64) = iommu::write_back(address, size);
        fn next_fault() -> Option<IoFault> = iommu::next_fault();
        fn log(bytes: &[u8]) = log::text(bytes);
        fn shutdown(status: u64) = power::shutdown(status as u32);
    }

    fn now(&self) -> u64 {
        let (latest, now) = (LATEST.load(Ordering::Relaxed), cpu::tsc());
        // (It wraps where this CPU is behind.)
        if now.wrapping_sub(latest) > SLACK { later(now) } else { now }
    }

    fn set_timer(&self, at: u64) {
        apic::set_timer(at.saturating_sub(cpu::tsc()).max(1));
    }

    fn flush(&self, flush: Flush, here: bool, others: u64) {
        if others != 0 {
            for cpu in (0..MAX_CPUS).filter(|cpu| others & 1 << cpu != 0) {
                remote::flush(cpu, flush);
            }
        }
        if here {
            flush_here(flush.address, if flush.tables { u64::MAX } else { flush.pages });
        }
    }

    fn msi(&self, vector: u8, cpu: usize, source: u64) -> (u64, u64) {
        // (A source beyond 16 bits is none, and taken only where nothing is remapped.)
        iommu::message(cpu, vector, source as u16).unwrap_or_else(|| apic::message(cpu, vector))
    }

    fn port_read(&self, port: u16, width: u64) -> u64 {
        match width {
            1 => u64::from(read::<u8>(port)),
            2 => u64::from(read::<u16>(port)),
            _ => u64::from(read::<u32>(port)),
        }
    }

    fn port_write(&self, port: u16, width: u64, value: u64) {
        match width {
            1 => write(port, value as u8),
            2 => write(port, value as u16),
            _ => write(port, value as u32),
        }
    }

    fn fast_path(&self, on: bool) {
        FAST_PATH.store(on && !NO_FAST_PATH.load(Ordering::Relaxed), Ordering::Relaxed);
        for cpu in KERNEL.cpus() {
            apic::send_ipi(cpu.number.get());
        }
    }

    fn latency(&self) -> (u64, u64) {
        MEASURING.set(true);
        let [longest, place] = &LONGEST;
        (longest.swap(0, Ordering::Relaxed), place.swap(0, Ordering::Relaxed))
    }
}
