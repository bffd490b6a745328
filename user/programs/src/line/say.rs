//! Text.

use alloc::string::String;
use alloc::vec::Vec;

use rt::clock;

use crate::Line;

/// How long to wait for an answer, in microseconds.
const PATIENCE: u64 = 20_000_000;

/// Sends the words, and prints the line that comes back.
pub fn say<'w>(mut line: Line, words: impl Iterator<Item = &'w str>) -> Result<(), String> {
    let text: Vec<u8> = words.flat_map(|word| word.bytes().chain([b'\n'])).collect();
    let (mut written, mut answer) = (0, Vec::new());
    let deadline = clock::now() + clock::microseconds(PATIENCE);
    loop {
        if line.meet() {
            written = 0;
        }
        written += line.write(&text[written..]);
        let mut place = [0; 64];
        let count = line.read(&mut place);
        answer.extend_from_slice(&place[..count]);
        if answer.contains(&b'\n') {
            rt::print!("{}", String::from_utf8_lossy(&answer));
            return Ok(());
        }
        let asleep = line.flush(written < text.len());
        if clock::now() > deadline {
            return Err("nothing comes back".into());
        }
        if asleep {
            works::wait(deadline).map_err(|error| alloc::format!("{error}"))?;
        }
    }
}
