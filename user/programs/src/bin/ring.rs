//! Passes bytes from one thread to another over a ring in shared memory, and looks that all of them arrive.
#![no_std]
#![no_main]

use core::sync::atomic::AtomicU64;

use abi::{CPtr, Error, Kind};
use ring::Begin;
use ring::stream::{Reader, Writer};
use rt::thread::{Builder, ThreadError};
use rt::{env, memory};

rt::entry!(main);

/// log2 of the bytes of the Frame.
const FRAME: u32 = 12;
const BYTES: usize = 1 << 20;

/// Both ends of the ring, and what each sleeps on.
#[derive(Clone, Copy)]
struct Shared {
    words: &'static [AtomicU64],
    written: CPtr,
    read: CPtr,
}

fn main() -> Result<u8, ThreadError> {
    let shared = Shared {
        words: memory::map_words(memory::make(Kind::Frame, FRAME)?, FRAME)?,
        written: memory::make(Kind::Notification, 0)?,
        read: memory::make(Kind::Notification, 0)?,
    };
    let cpu = u64::from(env::cpus()) - 1;
    let writer = Builder { cpu, ..Builder::default() }.spawn(move || write(&shared))?;
    let wrong = read(&shared)?;
    let signals = writer.join()??;
    rt::println!("{BYTES} bytes passed with {signals} signals to the reader; {wrong} are wrong");
    Ok(u8::from(wrong != 0))
}

fn byte(number: usize) -> u8 {
    (number * 7 + number / 251) as u8
}

fn write(shared: &Shared) -> Result<u64, Error> {
    let Ok(mut writer) = Writer::new(shared.words, Begin::New) else { return Err(Error::OutOfRange) };
    let (mut done, mut signals) = (0, 0);
    while done < BYTES {
        let piece: [u8; 100] = core::array::from_fn(|at| byte(done + at));
        let count = writer.write(&piece[..piece.len().min(BYTES - done)]).map_err(corrupt)?;
        done += count;
        if writer.publish() {
            signals += 1;
            ipc::signal(shared.written)?;
        }
        if count == 0 && writer.sleep().map_err(corrupt)? {
            ipc::wait(shared.read)?;
        }
    }
    Ok(signals)
}

fn read(shared: &Shared) -> Result<usize, Error> {
    let Ok(mut reader) = Reader::new(shared.words, Begin::New) else { return Err(Error::OutOfRange) };
    let (mut done, mut wrong) = (0, 0);
    while done < BYTES {
        let mut piece = [0; 130];
        let count = reader.read(&mut piece).map_err(corrupt)?;
        wrong += piece[..count].iter().enumerate().filter(|&(at, &is)| is != byte(done + at)).count();
        done += count;
        if reader.publish() {
            ipc::signal(shared.read)?;
        }
        if count == 0 && reader.sleep().map_err(corrupt)? {
            ipc::wait(shared.written)?;
        }
    }
    Ok(wrong)
}

fn corrupt(_: ring::Corrupt) -> Error {
    Error::InvalidArgument
}
