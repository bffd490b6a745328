//! What the fuzzer prints.

use abi::{Error, Kind};

use crate::arena::{control, get};
use crate::sandbox::Wrong;
use crate::table::{self, ROWS, STATUSES};

/// Kind and name of a call, as one word.
struct Name(usize);

impl core::fmt::Display for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        let (kind, name) = table::name(self.0);
        let (kind, dot) = kind.map_or(("", ""), |kind: Kind| (kind.name(), "."));
        // Written as one text, so that padding can be applied.
        let mut text = heapless::String::<40>::new();
        core::fmt::write(&mut text, format_args!("{kind}{dot}{name}"))?;
        f.pad(&text)
    }
}

fn status_name(status: u64) -> &'static str {
    match status {
        0 => "ok",
        _ => Error::from_status(status).map_or("(unknown)", Error::name),
    }
}

/// Prints how often each call was made, and how it ended.
pub fn counts() {
    let control = control();
    let mut totals = [0; STATUSES];
    rt::println!("{:<32}{:>9}  ended with", "call", "begun");
    for row in 0..ROWS {
        let begun = get(&control.begun[row]);
        let mut ended = 0;
        rt::print!("{:<32}{begun:>9} ", Name(row));
        for (status, total) in totals.iter_mut().enumerate() {
            let count = get(&control.ended[row][status]);
            ended += count;
            *total += count;
            if count > 0 {
                rt::print!(" {} {count}", status_name(status as u64));
            }
        }
        if begun > ended {
            rt::print!(" (did not return) {}", begun - ended);
        }
        rt::println!();
    }
    rt::print!("all results:");
    for (status, total) in totals.iter().enumerate().filter(|(_, total)| **total > 0) {
        rt::print!(" {} {total}", status_name(status as u64));
    }
    rt::println!();
}

/// Prints what the fuzzing thread found wrong with its last call.
pub fn wrong() {
    let control = control();
    let found = Wrong::ALL.iter().find(|(wrong, _)| *wrong as u64 == get(&control.wrong));
    let what = found.map_or("something", |(_, what)| what);
    let [first, second] = [0, 1].map(|at| get(&control.wrong_values[at]));
    let block = &control.block;
    let row = table::row(block.rax.get(), block.rsi.get());
    let number = get(&control.issued).wrapping_sub(1);
    rt::println!("fuzz: VIOLATION: call {number} ({}): {what}: {first:#x}, {second:#x}", Name(row));
    if get(&control.wrong) == Wrong::Status as u64 {
        rt::println!("  the status is {}", status_name(second));
    }
    rt::print!("  rax={:#x} rdx={:#x} rsi={:#x} words", block.rax.get(), block.rdx.get(), block.rsi.get());
    for word in &block.words {
        rt::print!(" {:#x}", word.get());
    }
    rt::println!();
}
