//! Reads and writes a disk by hand, past any file system.
//!
//!     disk info
//!     disk read SECTOR COUNT          prints the sectors in hexadecimal, repeated lines left out
//!     disk write SECTOR COUNT SEED    writes a pattern that the seed and the sectors' numbers make
//!     disk verify SECTOR COUNT SEED   looks whether it is there
//!     disk clear SECTOR COUNT         has the device write zeroes, and looks
//!     disk test SECTOR COUNT SEED     all of these, after each other, on sectors that may be overwritten
//!     disk rate COUNT DEPTH           reads COUNT times 4 KiB from anywhere, DEPTH of them under way at a time
//!
//! The disk is the one behind the component's first channel.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec;
use core::fmt;

use block::guest::{open, open_blocking};
use block::{Blocking, Failure, Request};
use channel::World;
use proto::block::{Op, SECTOR, segment};
use rt::channel::{OpenError, Outside};
use rt::{clock, env};

rt::entry!(main);

const BYTES: usize = SECTOR as usize;
/// Sectors that are written or read at once.
const PART: u64 = 4096;
/// Sectors of a read whose rate is measured.
const BLOCK: u64 = 8;
/// Bytes of a line of the print.
const LINE: usize = 32;

type Disk = Blocking<'static, core::sync::atomic::AtomicU64, Outside>;

enum Error {
    Usage,
    Open(OpenError),
    Disk(u64, Failure),
    Wrong { sectors: u64, first: u64 },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Usage => f.write_str(
                "say: disk info, disk read|clear SECTOR COUNT, or disk write|verify|test SECTOR COUNT SEED",
            ),
            Error::Open(error) => error.fmt(f),
            Error::Disk(sector, failure) => write!(f, "at sector {sector}: {failure}"),
            Error::Wrong { sectors, first } => write!(f, "{sectors} sectors are wrong, the first is {first}"),
        }
    }
}

fn main() -> Result<(), Error> {
    let mut arguments = env::arguments().skip(1);
    let what = arguments.next().ok_or(Error::Usage)?;
    let mut number = || arguments.next().and_then(|word| word.parse().ok()).ok_or(Error::Usage);
    let name = env::channels().iter().find(|channel| channel.client).map(|channel| channel.name);
    let name = name.ok_or(Error::Open(OpenError::NoChannel))?;
    if what == "rate" {
        return rate(name, number()?, number()?);
    }
    let mut disk = open_blocking(name).map_err(Error::Open)?;
    match what {
        "info" => info(&disk),
        "read" => read(&mut disk, number()?, number()?)?,
        "write" => write(&mut disk, number()?, number()?, number()?)?,
        "verify" => verify(&mut disk, number()?, number()?, number()?)?,
        "clear" => clear(&mut disk, number()?, number()?)?,
        "test" => test(&mut disk, number()?, number()?, number()?)?,
        _ => return Err(Error::Usage),
    }
    Ok(())
}

fn test(disk: &mut Disk, first: u64, count: u64, seed: u64) -> Result<(), Error> {
    write(disk, first, count, seed)?;
    verify(disk, first, count, seed)?;
    clear(disk, first, count / 2)?;
    // The others are untouched by that.
    verify(disk, first + count / 2, count - count / 2, seed)
}

fn info(disk: &Disk) {
    let geometry = disk.geometry();
    rt::println!("{} sectors of {SECTOR} bytes, in blocks of {} bytes", geometry.sectors, geometry.block);
    rt::println!("at most {} segments in a request", geometry.most_segments);
    let offers = [
        (geometry.read_only, "read-only"),
        (geometry.cache, "cache"),
        (geometry.discard, "discard"),
        (geometry.write_zeroes, "write-zeroes"),
    ];
    for (_, name) in offers.iter().filter(|(offered, _)| *offered) {
        rt::println!("{name}");
    }
}

fn read(disk: &mut Disk, first: u64, count: u64) -> Result<(), Error> {
    let mut last = [0; LINE];
    for sector in first..first.saturating_add(count) {
        let mut bytes = [0; BYTES];
        disk.read(sector, &mut bytes).map_err(|failure| Error::Disk(sector, failure))?;
        for (at, line) in bytes.as_chunks::<LINE>().0.iter().enumerate() {
            if (sector, at) == (first, 0) || *line != last {
                rt::print!("{:012x} ", sector as usize * BYTES + at * LINE);
                line.iter().for_each(|byte| rt::print!(" {byte:02x}"));
                rt::println!();
            }
            last = *line;
        }
    }
    Ok(())
}

/// Fills a sector with what its number and the seed make (splitmix64).
fn fill(bytes: &mut [u8; BYTES], sector: u64, seed: u64) {
    let mut state = sector ^ seed.rotate_left(32);
    for word in bytes.as_chunks_mut().0 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        *word = (mixed ^ mixed >> 31).to_le_bytes();
    }
}

/// The parts of so many sectors: where they begin, and how many they are.
fn parts(first: u64, count: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..count).step_by(PART as usize).map(move |at| (first.wrapping_add(at), PART.min(count - at)))
}

fn write(disk: &mut Disk, first: u64, count: u64, seed: u64) -> Result<(), Error> {
    let mut bytes = vec![0; PART as usize * BYTES];
    let mut ticks = 0;
    for (sector, count) in parts(first, count) {
        let bytes = &mut bytes[..count as usize * BYTES];
        for (sector, bytes) in (sector..).zip(bytes.as_chunks_mut().0) {
            fill(bytes, sector, seed);
        }
        let begun = clock::now();
        disk.write(sector, bytes).map_err(|failure| Error::Disk(sector, failure))?;
        ticks += clock::now() - begun;
    }
    let begun = clock::now();
    disk.flush().map_err(|failure| Error::Disk(first, failure))?;
    say("written", count, ticks + clock::now() - begun);
    Ok(())
}

fn verify(disk: &mut Disk, first: u64, count: u64, seed: u64) -> Result<(), Error> {
    compare(disk, first, count, |bytes, sector| fill(bytes, sector, seed))
}

/// Looks whether sectors hold what `expect` puts into zeroes.
fn compare(
    disk: &mut Disk,
    first: u64,
    count: u64,
    expect: impl Fn(&mut [u8; BYTES], u64),
) -> Result<(), Error> {
    let mut bytes = vec![0; PART as usize * BYTES];
    let (mut ticks, mut wrong, mut first_wrong) = (0, 0, 0);
    for (sector, count) in parts(first, count) {
        let bytes = &mut bytes[..count as usize * BYTES];
        let begun = clock::now();
        disk.read(sector, bytes).map_err(|failure| Error::Disk(sector, failure))?;
        ticks += clock::now() - begun;
        for (sector, bytes) in (sector..).zip(bytes.as_chunks::<BYTES>().0) {
            let mut expected = [0; BYTES];
            expect(&mut expected, sector);
            if *bytes != expected {
                wrong += 1;
                first_wrong = if wrong == 1 { sector } else { first_wrong };
            }
        }
    }
    say("read", count, ticks);
    if wrong == 0 { Ok(()) } else { Err(Error::Wrong { sectors: wrong, first: first_wrong }) }
}

fn clear(disk: &mut Disk, first: u64, count: u64) -> Result<(), Error> {
    let begun = clock::now();
    disk.write_zeroes(first, count).map_err(|failure| Error::Disk(first, failure))?;
    disk.flush().map_err(|failure| Error::Disk(first, failure))?;
    say("cleared", count, clock::now() - begun);
    compare(disk, first, count, |_, _| {})
}

fn rate(name: &str, count: u64, depth: u64) -> Result<(), Error> {
    let (mut client, mut outside, data) = open(name).map_err(Error::Open)?;
    let device = client.wait_for_device(&mut outside, |_| {});
    let (blocks, rooms) = (device.sectors / BLOCK, data.sectors() / BLOCK);
    let (mut asked, mut failed, mut random) = (0, None, 0x853c_49e6_748f_ea9b_u64);
    let begun = clock::now();
    while asked < count || client.under_way() > 0 {
        while asked < count && (client.under_way() as u64) < depth {
            // xorshift64
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let (sector, room) = (random % blocks * BLOCK, asked % rooms * BLOCK);
            let segments = [segment(room, BLOCK)];
            let request = Request { op: Op::Read, sector, sectors: BLOCK, segments: &segments };
            if client.submit(&request).is_err() {
                break;
            }
            asked += 1;
        }
        client.work(&mut outside, |answer| failed = failed.or(answer.result.err()));
        let waits = asked == count || client.under_way() as u64 >= depth;
        if waits && client.under_way() > 0 && client.sleep() {
            outside.sleep(None);
        }
    }
    let ticks = clock::now() - begun;
    let microseconds = clock::to_microseconds(ticks).max(1);
    rt::println!(
        "{} requests a second, {} ticks each",
        count * 1_000_000 / microseconds,
        ticks / count.max(1)
    );
    failed.map_or(Ok(()), |failure| Err(Error::Disk(0, failure)))
}

fn say(done: &str, sectors: u64, ticks: u64) {
    let microseconds = clock::to_microseconds(ticks).max(1);
    let kilobytes = sectors * SECTOR * 1000 / microseconds;
    rt::println!(
        "{sectors} sectors {done} in {microseconds} us: {}.{:03} MB/s",
        kilobytes / 1000,
        kilobytes % 1000
    );
}
