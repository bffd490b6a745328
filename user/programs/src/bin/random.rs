//! `random [COUNT]` prints COUNT random bytes (16 if it is not said) as two digits each, 32 bytes a line.
#![no_std]
#![no_main]

extern crate alloc;

use abi::{CPtr, Error};
use alloc::string::String;
use ipc::Message;
use proto::rng::{MAX_BYTES, OK, Refusal, Request};
use rt::{clock, env};

rt::entry!(main);

/// How long to wait for bytes that are not there yet, in microseconds.
const PAUSE: u64 = 1_000;
/// How often to ask for them.
const TRIES: usize = 5_000;
/// Bytes in a line.
const LINE: usize = 32;

fn main() -> Result<(), String> {
    let count = match env::arguments().nth(1).map(str::parse) {
        None => 16,
        Some(Ok(count)) => count,
        Some(Err(_)) => return Err("say: random COUNT".into()),
    };
    let rng = env::required("rng");
    let mut left: usize = count;
    while left > 0 {
        let now = left.min(LINE);
        let bytes = read(rng, now)?;
        for byte in &bytes[..now] {
            rt::print!("{byte:02x}");
        }
        rt::println!();
        left -= now;
    }
    Ok(())
}

/// Asks for `count` bytes until they are there. A driver that dies meanwhile comes back.
fn read(rng: CPtr, count: usize) -> Result<[u8; MAX_BYTES], String> {
    for _ in 0..TRIES {
        let answer = match ipc::call(rng, Message::of(Request::Read as u32, [count as u64])) {
            Ok(answer) => answer,
            Err(Error::PeerDied) => continue,
            Err(error) => return Err(error.name().into()),
        };
        if answer.label() == OK {
            let mut bytes = [0; MAX_BYTES];
            for (to, word) in bytes.as_chunks_mut().0.iter_mut().zip(answer.words) {
                *to = word.to_le_bytes();
            }
            return Ok(bytes);
        }
        if Refusal::from_label(answer.label()) != Some(Refusal::NotNow) {
            return Err("the driver does not understand".into());
        }
        pause();
    }
    Err("the device gives no bytes".into())
}

/// Waits a moment.
fn pause() {
    // Nothing is ever sent to a thread that waits for its own time to come.
    let _ =
        ipc::wait_until(env::required(proto::start::names::READY), clock::now() + clock::microseconds(PAUSE));
}
