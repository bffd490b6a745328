//! `inturn COMMAND...` runs commands one after the other, each a program and its arguments in one word, and ends with
//! the status of the first that fails, when all have run.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::String;

use proto::component::Refusal;
use rt::env;
use rt::io::{self, IoError};

rt::entry!(main);

/// As a shell has it for a command that is not there.
const NOT_FOUND: u8 = 127;

fn main() -> Result<u8, IoError> {
    let mut status = 0;
    for command in env::arguments().skip(1) {
        let words: String = command.split_ascii_whitespace().flat_map(|word| [word, "\0"]).collect();
        let ended = match io::run(&words) {
            Ok(number) => io::wait_for(number)?.status,
            Err(IoError::Refused(Refusal::Unknown)) => NOT_FOUND,
            Err(error) => return Err(error),
        };
        if ended != 0 {
            rt::eprintln!("inturn: `{command}` ended with status {ended}");
        }
        if status == 0 {
            status = ended;
        }
    }
    Ok(status)
}
