//! What supervision is tried with: `trial PART ARGS...`. A component that starts by itself plays the part of its name.
//!
//! | part | what it does |
//! |---|---|
//! | `nest N` | starts N programs, each by the one before, and ends the first of them |
//! | `asker` | is ready, then calls `down`, whom nobody serves |
//! | `keeper` | opens an account in the name of its state, as its first request, and says how that was answered |
//! | `late` | is ready two seconds after its start |
//! | `brittle` | cannot live with the state that its first life leaves |
//! | `liar N` | reports the server of channel `echo` N times, for nothing |
//! | `untraced` | has the tracing `svc trace` killed, and looks whether anything is traced afterwards |
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::String;
use core::sync::atomic::Ordering;

use abi::trace::{MAX_CPUS, Ring};
use abi::{CPtr, MapFlags};
use ipc::Message;
use proto::ledger::Request::Open;
use proto::ledger::{Failure, name_words};
use proto::start::{FREE, names};
use recover::{Caller, guest};
use rt::{clock, control, env, io, life, memory};

rt::entry!(main);

fn main() -> Result<u8, String> {
    let arguments: heapless::Vec<&str, 4> = env::arguments().skip(1).take(4).collect();
    match arguments[..] {
        ["nest", count] => nest(number(count)?),
        ["nested", count] => nested(number(count)?),
        ["liar", count] => lie(number(count)?),
        ["untraced"] => untraced(),
        [] if env::name() == "asker" => ask(),
        [] if env::name() == "brittle" => break_down(),
        [] if env::name() == "keeper" => keep(),
        [] if env::name() == "late" => be_late(),
        _ => Err("say: trial PART ARGS...".into()),
    }
}

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| alloc::format!("`{word}` is no number"))
}

fn text(error: impl core::fmt::Display) -> String {
    alloc::format!("{error}")
}

/// Sleeps. Nobody signals what it waits on.
fn sleep(milliseconds: u64) {
    let until = clock::now() + clock::microseconds(milliseconds * 1000);
    while clock::now() < until {
        let _ = ipc::wait_until(env::required(names::READY), until);
    }
}

fn nest(count: u64) -> Result<u8, String> {
    // The first time leaves init's heap and address space as large as it needs them.
    end_nest(count)?;
    let before = io::inventory().map_err(text)?;
    end_nest(count)?;
    let after = io::inventory().map_err(text)?;
    rt::println!(
        "{count} nested components ended, {}",
        if after == before { "all is back" } else { "not all" }
    );
    Ok(u8::from(after != before))
}

/// Starts them all and ends the first.
fn end_nest(count: u64) -> Result<(), String> {
    let first = io::run(&alloc::format!("trial\0nested\0{}\0", count - 1)).map_err(text)?;
    // All of them run when nothing more is taken.
    let mut left = [0; 2];
    loop {
        sleep(200);
        let now = io::inventory().map_err(text)?;
        if core::mem::replace(&mut left, now) == now {
            break;
        }
    }
    io::end(first).map_err(text)?;
    io::wait_for(first).map_err(text)?;
    Ok(())
}

fn nested(count: u64) -> Result<u8, String> {
    if count > 0 {
        let child = io::run(&alloc::format!("trial\0nested\0{}\0", count - 1)).map_err(text)?;
        io::wait_for(child).map_err(text)?;
    }
    loop {
        sleep(1000);
    }
}

fn ask() -> Result<u8, String> {
    life::ready();
    let answer = ipc::call(env::required("down"), Message::new(1));
    Err(alloc::format!("somebody answers: {answer:?}"))
}

fn keep() -> Result<u8, String> {
    const NAME: &str = "kept";
    let mut ledger = Caller::new(guest::durable_link("ledger").map_err(text)?, 0);
    life::ready();
    let name = name_words(NAME).ok_or("no name")?;
    let answer = ledger.request(Open as u32, [1, NAME.len() as u64], &name).map_err(text)?;
    match Failure::from_label(answer.label()) {
        None => rt::println!("keeper, life {}: account {}", env::life(), answer.words[0]),
        Some(failure) => rt::println!("keeper, life {}: {}", env::life(), failure.meaning()),
    }
    live()
}

fn be_late() -> Result<u8, String> {
    sleep(2_000);
    life::ready();
    live()
}

fn live() -> ! {
    loop {
        if ipc::wait(life::bell()).is_ok() {
            life::begun();
            life::beat();
        }
    }
}

fn break_down() -> Result<u8, String> {
    let frame = env::state().ok_or("no state")?;
    let words = memory::map_words(CPtr(frame.slot), u32::from(frame.bits)).map_err(text)?;
    let lives = words[0].load(Ordering::Relaxed);
    assert!(lives == 0, "its state is damaged");
    words[0].store(lives + 1, Ordering::Relaxed);
    life::ready();
    live()
}

fn lie(count: u64) -> Result<u8, String> {
    let channel = rt::channel::client("echo").map_err(text)?.ok_or("the manifest gives no channel `echo`")?;
    let server = channel.peer as u64;
    let mut believed = 0;
    for _ in 0..count {
        believed += u32::from(control::report(server, 7).is_ok());
        sleep(115);
    }
    rt::println!("{believed} of {count} lies believed");
    Ok(0)
}

/// Where the trace is mapped: behind what else this program maps.
const TRACE: u64 = FREE + (1 << 36);

fn untraced() -> Result<u8, String> {
    let pages = (size_of::<Ring>() * MAX_CPUS) as u64 / 4096;
    memory::map(env::required("trace"), TRACE, 0, pages, MapFlags::READ).map_err(text)?;
    // SAFETY: just mapped there, for good; the kernel keeps the rings there, which consist of atomics.
    let rings = unsafe { &*(TRACE as *const [Ring; MAX_CPUS]) };
    let written = || rings.iter().map(|ring| ring.written.load(Ordering::Acquire)).sum::<u64>();
    let tracer = io::run("svc\x00trace\x0060000\x00").map_err(text)?;
    let before = written();
    while written() == before {
        sleep(20);
    }
    io::end(tracer).map_err(text)?;
    io::wait_for(tracer).map_err(text)?;
    let before = written();
    sleep(50);
    let traced = written() - before;
    rt::println!("{traced} events traced for nobody");
    Ok(u8::from(traced != 0))
}
