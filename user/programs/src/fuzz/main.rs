//! The system-call fuzzer: random calls with random arguments, from a component with random capabilities.
//!
//! `fuzz [--seed S] [--calls N]`. Where to start reading: [`supervisor`] builds worlds and watches over them,
//! [`world`] is what the fuzzing thread finds in its CSpace, [`generate`] makes the calls (the k-th call of a
//! seed is always the same), [`sandbox`] issues them and looks at what comes back.
//!
//! What counts as a violation: a status that the interface does not document for the call; a register that the
//! kernel should keep and did not; memory that is not clear when it is new, or that changed without anybody
//! having a capability to it; memory or capabilities that do not come back; a world that cannot be built. A
//! broken invariant of the kernel's own (System.verify) ends the machine with a panic.
#![no_std]
#![no_main]

mod arena;
mod generate;
mod program;
mod random;
mod report;
mod sandbox;
mod supervisor;
mod table;
mod world;

rt::entry!(main);

/// What the command line asks for.
struct Arguments {
    seed: u64,
    calls: u64,
}

fn parse(mut words: impl Iterator<Item = &'static str>) -> Result<Arguments, &'static str> {
    let mut arguments = Arguments { seed: 1, calls: 100_000 };
    while let Some(word) = words.next() {
        let place = match word {
            "--seed" => &mut arguments.seed,
            "--calls" => &mut arguments.calls,
            unknown => return Err(unknown),
        };
        *place = words.next().and_then(|value| value.parse().ok()).ok_or(word)?;
    }
    Ok(arguments)
}

fn main() -> u8 {
    let arguments = match parse(rt::env::arguments().skip(1)) {
        Ok(arguments) => arguments,
        Err(word) => {
            rt::println!("fuzz: {word}: use --seed NUMBER, --calls NUMBER");
            return 2;
        }
    };
    match supervisor::run(arguments.seed, arguments.calls) {
        Ok(violations) => u8::from(violations > 0),
        Err(error) => {
            rt::println!("fuzz: cannot go on: {error}");
            1
        }
    }
}
