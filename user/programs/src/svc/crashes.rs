//! Crashes, as far as they are remembered.

use alloc::string::String;

use proto::component::MAX_BYTES;
use proto::host::{self, Crash};
use rt::{clock, control};

use crate::{Outcome, refused};

/// Names of the registers of a crash record.
const REGISTERS: [&str; 18] = [
    "rip", "rsp", "rflags", "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12",
    "r13", "r14", "r15",
];

/// `svc crashes [N]`: the latest last, as a log has it.
pub fn show(count: u64) -> Outcome {
    let mut bytes = [0; MAX_BYTES];
    let mut there = 0;
    while there < count && control::crash(there, &mut bytes).map_err(refused)?.is_some() {
        there += 1;
    }
    if there == 0 {
        rt::println!("no crashes");
    }
    (0..there).rev().try_for_each(one)
}

fn one(number: u64) -> Outcome {
    let mut bytes = [0; MAX_BYTES];
    let Some(found) = control::crash(number, &mut bytes).map_err(refused)? else { return Ok(()) };
    let crash = host::from_plain(&bytes[..found.length]).map_err(|_| "init's record makes no sense")?;
    let time = clock::to_microseconds(found.when);
    rt::println!(
        "{} at {}.{:06} s: {}",
        crash.component,
        time / 1_000_000,
        time % 1_000_000,
        found.cause.name()
    );
    if crash.what != found.cause.name() || crash.address != 0 {
        rt::println!("  {} at {:#x}", crash.what, crash.address);
    }
    if !crash.message.is_empty() {
        rt::println!("  {}", crash.message);
    }
    if crash.registers.iter().any(|&register| register != 0) {
        registers(&crash);
        backtrace(number, &crash)?;
    }
    last_words(number)?;
    rt::println!();
    Ok(())
}

fn registers(crash: &Crash) {
    for row in REGISTERS.iter().zip(crash.registers).collect::<heapless::Vec<_, 18>>().chunks(4) {
        for (name, value) in row {
            rt::print!("  {name:6} {value:016x}");
        }
        rt::println!();
    }
}

fn backtrace(number: u64, crash: &Crash) -> Outcome {
    let callers = crash.backtrace.iter().copied().take_while(|&address| address != 0);
    for (depth, address) in core::iter::once(crash.registers[0]).chain(callers).enumerate() {
        // A return address can lie behind the end of a function that never returns.
        let within = if depth == 0 { address } else { address.saturating_sub(1) };
        let mut name = [0; MAX_BYTES];
        match control::symbol(number, within, &mut name).map_err(refused)? {
            Some((length, offset)) => {
                let name = String::from_utf8_lossy(&name[..length]);
                rt::println!("  {address:#018x} {name} + {:#x}", offset + (address - within));
            }
            None => rt::println!("  {address:#018x}"),
        }
    }
    Ok(())
}

fn last_words(number: u64) -> Outcome {
    let mut bytes = [0; MAX_BYTES];
    let length = control::crash_log(number, 0, &mut bytes).map_err(refused)?;
    let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
    if !text.is_empty() {
        rt::println!("  its last words:");
    }
    for line in text.lines() {
        rt::println!("    {}", line.replace(char::is_control, "?"));
    }
    Ok(())
}
