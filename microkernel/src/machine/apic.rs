//! The local APIC, in xAPIC mode: interrupts between CPUs, and the timer (Intel SDM vol. 3, 10.4 to 10.6).

use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::registers::model_specific::Msr;

use super::{cpu, window};

/// The vector of [`send_ipi`].
pub const IPI_VECTOR: u8 = 0xf0;
/// The vector of the timer.
pub const TIMER_VECTOR: u8 = 0xf1;
/// The vector at which the IOMMU tells of faults.
pub const FAULT_VECTOR: u8 = 0xf2;
/// The vector of interrupts that went away; they want no [`end_of_interrupt`].
pub const SPURIOUS_VECTOR: u8 = 0xff;

/// Offsets of registers.
mod register {
    pub const ID: u64 = 0x20;
    pub const TASK_PRIORITY: u64 = 0x80;
    pub const END_OF_INTERRUPT: u64 = 0xb0;
    pub const SPURIOUS: u64 = 0xf0;
    pub const COMMAND: u64 = 0x300;
    pub const COMMAND_TARGET: u64 = 0x310;
    pub const LVT_TIMER: u64 = 0x320;
    pub const LVT_MAX: u64 = 0x370;
    pub const TIMER_START: u64 = 0x380;
    pub const TIMER_NOW: u64 = 0x390;
    pub const TIMER_DIVIDE: u64 = 0x3e0;
}

const MASKED: u32 = 1 << 16;
const BASE_MSR: u32 = 0x1b;

/// Where the registers are mapped; 0 until they are.
static REGISTERS: AtomicU64 = AtomicU64::new(0);
/// Timer ticks in 2^32 TSC ticks.
static TIMER_PER_TSC: AtomicU64 = AtomicU64::new(0);

fn read(register: u64) -> u32 {
    let place = REGISTERS.load(Ordering::Relaxed).wrapping_add(register) as *const u32;
    // SAFETY: a register of this CPU's APIC, whose page `init` was told is mapped uncached.
    unsafe { place.read_volatile() }
}

fn write(register: u64, value: u32) {
    let place = REGISTERS.load(Ordering::Relaxed).wrapping_add(register) as *mut u32;
    // SAFETY: as for `read`; the registers written here affect interrupts only, which the IDT is ready for.
    unsafe { place.write_volatile(value) }
}

/// Physical address of the registers.
///
/// # Panics
/// Where firmware left the APIC in x2APIC mode, which we do not drive.
pub fn base() -> u64 {
    // SAFETY: the register is there where CPUID announces an APIC.
    let value = unsafe { Msr::new(BASE_MSR).read() };
    assert!(value & 1 << 10 == 0, "firmware left the APIC in x2APIC mode, which is not supported");
    value & 0x000f_ffff_ffff_f000
}

/// Turns the APIC of this CPU on, with all its own interrupts masked. Its registers are mapped in the window.
pub fn init(cpu: usize) {
    let base = base();
    // SAFETY: the address stays; global enable is what firmware leaves anyway.
    unsafe { Msr::new(BASE_MSR).write(base | 1 << 11 | if cpu == 0 { 1 << 8 } else { 0 }) };
    REGISTERS.store(window(base), Ordering::Relaxed);
    for entry in (register::LVT_TIMER..=register::LVT_MAX).step_by(16) {
        write(entry, MASKED);
    }
    write(register::TASK_PRIORITY, 0);
    write(register::TIMER_DIVIDE, 0b1011); // by 1
    write(register::TIMER_START, 0);
    write(register::LVT_TIMER, u32::from(TIMER_VECTOR));
    write(register::SPURIOUS, 0x100 | u32::from(SPURIOUS_VECTOR));
    if let Some(local) = cpu::CPUS.get(cpu) {
        local.apic_id.store(id(), Ordering::Relaxed);
    }
}

/// This CPU's APIC identity.
pub fn id() -> u8 {
    (read(register::ID) >> 24) as u8
}

/// Ends the interrupt being served: the next of the same or lower priority can come.
pub fn end_of_interrupt() {
    write(register::END_OF_INTERRUPT, 0);
}

/// Interrupts `cpu` at [`IPI_VECTOR`].
pub fn send_ipi(cpu: usize) {
    command(cpu::apic_id(cpu), u32::from(IPI_VECTOR));
}

/// Stops all other CPUs by NMI (see `panic::stop_if_panicking`), once there are others.
pub fn stop_others() {
    const ALL_BUT_SELF: u32 = 3 << 18;
    const NMI: u32 = 4 << 8;
    if REGISTERS.load(Ordering::Relaxed) != 0 {
        command(0, ALL_BUT_SELF | NMI);
    }
}

/// Resets the CPU with this APIC identity: it waits for [`start_up`].
pub(super) fn reset(id: u8) {
    const INIT: u32 = 5 << 8;
    command(id, INIT);
}

/// Lets a CPU that was reset start at `page`.
pub(super) fn start_up(id: u8, page: u64) {
    const START_UP: u32 = 6 << 8;
    command(id, START_UP | (page >> 12) as u32 & 0xff);
}

fn command(target: u8, command: u32) {
    const PENDING: u32 = 1 << 12;
    const ASSERT: u32 = 1 << 14;
    while read(register::COMMAND) & PENDING != 0 {
        core::hint::spin_loop();
    }
    write(register::COMMAND_TARGET, u32::from(target) << 24);
    write(register::COMMAND, command | ASSERT);
}

/// The address and data that a device writes to interrupt `cpu` at `vector` (Intel SDM vol. 3, 10.11).
pub fn message(cpu: usize, vector: u8) -> (u64, u64) {
    (0xfee0_0000 | u64::from(cpu::apic_id(cpu)) << 12, u64::from(vector))
}

/// Lets the timer count down from its largest value, masked, to measure it; [`timer_counted`] tells how far.
pub(super) fn start_measuring() {
    write(register::LVT_TIMER, MASKED | u32::from(TIMER_VECTOR));
    write(register::TIMER_START, u32::MAX);
}

/// Ticks since [`start_measuring`].
pub(super) fn timer_counted() -> u32 {
    u32::MAX.wrapping_sub(read(register::TIMER_NOW))
}

/// Ends measuring: sets how many timer ticks go by in 2^32 TSC ticks.
pub(super) fn calibrate(timer_per_tsc: u64) {
    TIMER_PER_TSC.store(timer_per_tsc, Ordering::Relaxed);
    write(register::TIMER_START, 0);
    write(register::LVT_TIMER, u32::from(TIMER_VECTOR));
}

/// Has [`TIMER_VECTOR`] come once on this CPU, in `ticks` TSC ticks. A time beyond the counter's range comes
/// early (QEMU: 4.2 s): look at the clock, and set it again. Replaces what was set before.
pub fn set_timer(ticks: u64) {
    let scaled = u128::from(ticks).wrapping_mul(u128::from(TIMER_PER_TSC.load(Ordering::Relaxed))) >> 32;
    let count = u32::try_from(scaled).unwrap_or(u32::MAX).saturating_add(1);
    write(register::TIMER_START, count);
}
