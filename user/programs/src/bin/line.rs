//! `line TEXT...` sends its arguments over the serial line, each with an end of line, and prints the first line that comes
//! back. The next life of a driver that dies meanwhile gets all of it again.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;

use rt::{clock, env, life};
use stream::{Client, Update};

rt::entry!(main);

/// How long to wait for an answer, in microseconds.
const PATIENCE: u64 = 20_000_000;

fn main() -> Result<(), String> {
    let end = rt::channel::client("serial").map_err(|error| alloc::format!("{error}"))?;
    let end = end.ok_or("the manifest gives no channel `serial`")?;
    let mut client = Client::new(end.rings, env::life()).map_err(|_| "rings too small for a stream")?;
    let mut text = Vec::new();
    for argument in env::arguments().skip(1) {
        text.extend_from_slice(argument.as_bytes());
        text.push(b'\n');
    }
    let (mut written, mut answer) = (0, Vec::new());
    let deadline = clock::now() + clock::microseconds(PATIENCE);
    loop {
        match client.update(end.peer_life()) {
            Update::Begun => written = 0,
            Update::Apart => end.ring_bell(),
            Update::Same => {}
        }
        let mut place = [0; 64];
        // Nonsense in the rings is that of a driver that has begun another life, which the next look finds.
        written += client.write(&text[written..]).unwrap_or(0);
        let count = client.read(&mut place).unwrap_or(0);
        answer.extend_from_slice(&place[..count]);
        if answer.contains(&b'\n') {
            break;
        }
        if client.flush() {
            end.ring_bell();
        }
        let asleep = client.sleep(written < text.len()) != Ok(false);
        if asleep && ipc::wait_until(life::bell(), deadline).is_err() {
            return Err("nothing comes back".into());
        }
    }
    rt::print!("{}", String::from_utf8_lossy(&answer));
    Ok(())
}
