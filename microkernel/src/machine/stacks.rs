//! The kernel's stacks: per CPU one on which the kernel runs, and one for each exception that can strike at
//! any instruction (Intel SDM vol. 3, 6.14.5). Below each lies a page that paging.rs leaves unmapped.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::{offset_of, size_of};

use abi::trace::MAX_CPUS;

use super::layout::PAGE;

/// A stack of `SIZE` bytes above its guard page.
#[repr(C, align(4096))]
struct Stack<const SIZE: usize> {
    guard: [u8; PAGE as usize],
    bytes: UnsafeCell<[u8; SIZE]>,
}

impl<const SIZE: usize> Stack<SIZE> {
    const fn new() -> Stack<SIZE> {
        Stack { guard: [0; PAGE as usize], bytes: UnsafeCell::new([0; SIZE]) }
    }
}

/// The stacks of one CPU.
#[repr(C)]
pub struct CpuStacks {
    main: Stack<{ 32 * 1024 }>,
    exceptions: [Stack<{ 8 * 1024 }>; IST_STACKS],
}

/// Exceptions with a stack of their own: NMI, #DF, #MC, #DB, and those that would be bugs if they came from
/// the kernel (#UD, #NP, #SS, #GP, #PF), in the order of their IST numbers from 1 on.
pub const IST_VECTORS: [(u8, u8); 9] =
    [(2, 1), (8, 2), (18, 3), (1, 4), (6, 5), (11, 5), (12, 5), (13, 5), (14, 5)];
const IST_STACKS: usize = 5;

/// All stacks; CPU n's are entry n. Assembly finds the top of CPU n's main stack at
/// `kernel_stacks + n * STRIDE + MAIN_TOP`.
#[unsafe(no_mangle)]
pub static kernel_stacks: AllStacks = AllStacks(
    [const { CpuStacks { main: Stack::new(), exceptions: [const { Stack::new() }; IST_STACKS] } }; MAX_CPUS],
);

/// See [`kernel_stacks`].
#[repr(transparent)]
pub struct AllStacks([CpuStacks; MAX_CPUS]);

// SAFETY: nothing in Rust reads or writes the bytes; each CPU uses only its own as stack.
unsafe impl Sync for AllStacks {}

/// Bytes from one CPU's stacks to the next one's.
pub const STRIDE: usize = size_of::<CpuStacks>();
/// Bytes from a CPU's stacks to the top of its main stack.
pub const MAIN_TOP: usize = offset_of!(CpuStacks, main) + size_of::<Stack<{ 32 * 1024 }>>();
const EXCEPTION_STRIDE: usize = size_of::<Stack<{ 8 * 1024 }>>();

fn base() -> u64 {
    &raw const kernel_stacks as u64
}

fn of(cpu: usize) -> u64 {
    base().wrapping_add((cpu as u64).wrapping_mul(STRIDE as u64))
}

/// The top of the CPU's main stack.
pub fn main_top(cpu: usize) -> u64 {
    of(cpu).wrapping_add(MAIN_TOP as u64)
}

/// The top of the CPU's stack with IST number `ist` (1 and up).
pub fn exception_top(cpu: usize, ist: usize) -> u64 {
    main_top(cpu).wrapping_add((ist as u64).wrapping_mul(EXCEPTION_STRIDE as u64))
}

/// Bytes at the top of each stack that belong to the entry code: a word there names the CPU (asm/entry.s).
const TRAP_HEAD: u64 = 16;

/// Where traps begin to push on the stack with this top.
pub fn trap_top(top: u64) -> u64 {
    top.wrapping_sub(TRAP_HEAD)
}

/// Writes the word that names the CPU at the top of each of its stacks. Nothing that runs on them comes back.
pub fn name_cpu(cpu: usize, name: u64) {
    let tops = (1..=IST_STACKS).map(|ist| exception_top(cpu, ist)).chain([main_top(cpu)]);
    for top in tops {
        let place = trap_top(top) as *mut u64;
        // SAFETY: within the CPU's own stack, above all that its code still uses.
        unsafe { place.write_volatile(name) };
    }
}

/// The guard pages of all stacks.
pub fn guards() -> impl Iterator<Item = u64> {
    (0..MAX_CPUS).flat_map(|cpu| {
        let exceptions = (0..IST_STACKS).map(move |ist| exception_top(cpu, ist));
        core::iter::once(of(cpu)).chain(exceptions)
    })
}

/// The stack that holds `address`, as its lowest address and its top; `None` outside of all stacks and in guards.
pub fn bounds(address: u64) -> Option<(u64, u64)> {
    let cpu = cpu_of(address)?;
    let tops = (0..=IST_STACKS).map(|ist| exception_top(cpu, ist));
    let mut bottom = of(cpu);
    for top in tops {
        if address < top {
            let lowest = bottom.wrapping_add(PAGE);
            return (address >= lowest).then_some((lowest, top));
        }
        bottom = top;
    }
    None
}

fn cpu_of(address: u64) -> Option<usize> {
    let offset = address.checked_sub(base())?;
    let cpu = (offset as usize).checked_div(STRIDE)?;
    (cpu < MAX_CPUS).then_some(cpu)
}

/// The CPU this runs on: the owner of the stack in use. No register is as safe from user code, and none as
/// cheap. 0 where the stack is none of ours, which happens only before boot is over.
pub fn current_cpu() -> usize {
    let rsp: u64;
    // SAFETY: copies a register; the code of every CPU runs on that CPU's own stacks (smp.rs and the TSS see to it).
    unsafe { asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack, preserves_flags)) };
    cpu_of(rsp).unwrap_or(0)
}
