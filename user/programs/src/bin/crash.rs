//! Dies in the way its argument names, so that reports can be looked at and tested.
#![no_std]
#![no_main]

use core::arch::asm;

rt::entry!(main);

const WAYS: [(&str, fn()); 11] = [
    ("read", read),
    ("write", write),
    ("execute", execute),
    ("ud2", undefined),
    ("divide", divide),
    ("privileged", privileged),
    ("panic", || panic!("asked to, by argument")),
    ("stack", stack),
    ("heap", heap),
    ("lock", lock),
    ("heap-within-memory", heap_within_memory),
];

fn main() -> u8 {
    let wanted = rt::env::arguments().nth(1).unwrap_or_default();
    match WAYS.iter().find(|(name, _)| *name == wanted) {
        Some((_, die)) => die(),
        None => rt::eprintln!("crash: say how: {}", WAYS.map(|(name, _)| name).join(", ")),
    }
    2
}

/// An address where nothing is mapped.
const NOWHERE: u64 = 0xdead_0000;

fn read() {
    // SAFETY: the read faults, which is the purpose; nothing comes of it.
    unsafe { asm!("mov {0}, [{0}]", inout(reg) NOWHERE => _) };
}

fn write() {
    // SAFETY: the program's own code is read-only, so the write faults, which is the purpose.
    unsafe { asm!("mov dword ptr [{0}], 0", in(reg) main as fn() -> u8 as usize) };
}

fn execute() {
    // A return instruction, on the stack.
    let data = [0xc3u8; 16];
    // SAFETY: the stack is not executable, so the call faults, which is the purpose.
    unsafe { asm!("call {0}", in(reg) data.as_ptr()) };
}

fn undefined() {
    // SAFETY: the instruction only faults.
    unsafe { asm!("ud2") };
}

fn divide() {
    // SAFETY: the division faults before it changes anything.
    unsafe { asm!("div {0:e}", in(reg) 0, inout("eax") 1 => _, inout("edx") 0 => _) };
}

fn privileged() {
    // SAFETY: the instruction faults outside the kernel.
    unsafe { asm!("hlt") };
}

/// Recursion that meets the unmapped memory under the stack.
fn stack() {
    rt::println!("{}", deeper(u64::MAX));
}

fn deeper(depth: u64) -> u64 {
    let here = core::hint::black_box([depth; 64]);
    if depth == 0 { 0 } else { deeper(here[7] - 1) + here[9] }
}

extern crate alloc;

/// Takes a lock twice.
fn lock() {
    let lock = rt::lock::Mutex::new(());
    let _held = lock.lock();
    drop(lock.lock());
}

/// The heap grows while the component's memory, of which it does so, is in use.
fn heap_within_memory() {
    let _ = rt::memory::with(|_| {
        core::hint::black_box(alloc::vec![0u8; 1 << 16]);
        Ok(())
    });
}

/// More memory than any budget has, where the caller cannot be told.
fn heap() {
    core::hint::black_box(alloc::vec![0u8; 1 << 40]);
}
