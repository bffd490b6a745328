//! Copies its input to its output.
#![no_std]
#![no_main]

use rt::io::{self, IoError};

rt::entry!(main);

fn main() -> Result<(), IoError> {
    let mut bytes = [0; 512];
    loop {
        match io::read(&mut bytes)? {
            0 => return Ok(()),
            length => io::write(io::OUTPUT, &bytes[..length])?,
        }
    }
}
