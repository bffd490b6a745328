//! Adds numbers in several threads, and shows that everything they took comes back.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;

use rt::memory;
use rt::thread::{Builder, ThreadError};

rt::entry!(main);

const THREADS: u64 = 8;
const EACH: u64 = 10_000;

fn main() -> Result<u8, ThreadError> {
    // Once beforehand: the first threads leave the heap and the address space as large as they made them.
    let expected = THREADS * EACH * (THREADS * EACH - 1) / 2;
    let sums = [sum()?, sum()?];
    let before = left()?;
    let again = sum()?;
    let same = left()? == before;
    rt::println!("{again}, and what is left is {}", if same { "the same" } else { "less than before" });
    Ok(u8::from(!same || again != expected || sums != [expected; 2]))
}

fn sum() -> Result<u64, ThreadError> {
    let cpus = u64::from(rt::env::cpus());
    let threads = (0..THREADS).map(|number| {
        let like = Builder { cpu: number % cpus, ..Builder::default() };
        like.spawn(move || (number * EACH..(number + 1) * EACH).sum::<u64>())
    });
    let threads = threads.collect::<Result<Vec<_>, _>>()?;
    threads.into_iter().map(|thread| thread.join()).sum()
}

fn left() -> Result<(u64, u64), ThreadError> {
    Ok(memory::with(|objects| Ok((objects.free_bytes(), objects.free_slots())))?)
}
