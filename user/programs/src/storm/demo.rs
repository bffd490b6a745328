//! `storm --demo SECONDS`: a live view of work on disk and network while their drivers are shot.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;

use proto::life::Injection;
use rt::{clock, env};
use storm::arguments::{Arguments, Mode, When, Work as Kind};
use works::disk::{Disk, DiskWork};
use works::victims::{Event, Killer};
use works::wire::{Wire, WireWork};
use works::{Work, WorkError, wait};

/// Milliseconds between two shots, and between two pictures.
const EVERY: u64 = 700;
const PICTURE: u64 = 200;
/// Bytes of a pass over the disk and of an exchange.
const DISK: u64 = 8 << 20;
const NET: u64 = 1 << 20;
/// Lines of events that are shown.
const LINES: usize = 10;
/// A column of a bar, in KiB a second.
const DISK_COLUMN: u64 = 16 << 10;
const NET_COLUMN: u64 = 1 << 10;

/// A work, and what it has done.
struct Lane<W> {
    name: &'static str,
    work: W,
    /// Bytes of whole passes, bytes at the last picture, and whether anything was wrong.
    before: u64,
    shown: u64,
    clean: bool,
    /// Requests of this pass that were answered at the last step, when that was, and the longest time between two
    /// answers since the last picture.
    answered: u64,
    since: u64,
    longest: u64,
}

impl<W: Work> Lane<W> {
    fn new(name: &'static str, work: W) -> Lane<W> {
        let since = clock::now();
        Lane { name, work, before: 0, shown: 0, clean: true, answered: 0, since, longest: 0 }
    }

    fn step(&mut self) -> Result<bool, WorkError> {
        if self.work.is_done() {
            self.before += self.work.tally().bytes;
            self.clean &= self.work.tally().is_clean();
            self.work.begin()?;
        }
        let idle = self.work.step()?;
        let answered = self.work.tally().requests;
        let now = clock::now();
        self.longest = self.longest.max(now - self.since);
        if core::mem::replace(&mut self.answered, answered) != answered {
            self.since = now;
        }
        Ok(idle)
    }

    /// A line: KiB a second since the last picture, as a bar and as a number; and how long it had to wait.
    fn line(&mut self, ticks: u64, column: u64) -> String {
        let bytes = self.before + self.work.tally().bytes;
        let rate = (bytes - self.shown) * env::tsc_hz() / ticks.max(1) / 1024;
        self.shown = bytes;
        let bar = "#".repeat((rate / column).min(32) as usize);
        let verdict = if self.clean { "nothing lost" } else { "DAMAGED" };
        let waited = clock::to_microseconds(core::mem::take(&mut self.longest));
        let milliseconds = format!("{}.{}", waited / 1000, waited / 100 % 10);
        format!("{:8} {bar:32} {rate:7} KiB/s, waited {milliseconds:>5} ms  {verdict}", self.name)
    }
}

/// Shows it for so many seconds.
pub fn show(seconds: u64) -> Result<(), WorkError> {
    let mut disk = Lane::new("disk", DiskWork::new(Disk::open()?, DISK, 1)?);
    let mut net = Lane::new("network", WireWork::new(Wire::open()?, NET)?);
    net.work.begin()?;
    let mut killer = Killer::new(&arguments())?;
    let mut events = VecDeque::new();
    let begun = clock::now();
    let (end, picture) = (begun + seconds * env::tsc_hz(), clock::microseconds(PICTURE * 1000));
    let (mut last, mut bits) = (begun, 0);
    rt::print!("\x1b[2J");
    while clock::now() < end {
        let due = killer.step(bits)?;
        let idle = disk.step()? & net.step()?;
        let now = clock::now();
        if now >= last + picture {
            killer.book()?;
            note(&mut killer, &mut events, clock::to_microseconds(now - begun) / 1000);
            let lines = [disk.line(now - last, DISK_COLUMN), net.line(now - last, NET_COLUMN)];
            draw(&lines, &killer, &events);
            last = now;
        }
        let next = net.work.deadline().unwrap_or(u64::MAX).min(last + picture).min(due);
        bits = if idle { wait(next)? } else { 0 };
    }
    if disk.clean && net.clean { Ok(()) } else { Err(WorkError::NotOffered("something was lost")) }
}

fn arguments() -> Arguments<'static> {
    Arguments {
        work: Kind::Block,
        size: DISK,
        victims: ["virtio-blk", "virtio-net"].into(),
        when: When::Every(EVERY),
        mode: Mode::Random,
        kills: u64::MAX,
        sample: None,
        seed: clock::now(),
        json: false,
    }
}

fn note(killer: &mut Killer, events: &mut VecDeque<String>, milliseconds: u64) {
    while let Some(event) = killer.event() {
        let what = match event {
            Event::Killed(name, Injection::Kill) => format!("x {name} is killed"),
            Event::Killed(name, how) => format!("x {name} dies: {}", how.name()),
            Event::Recovered(name, ticks) => {
                format!("+ {name} serves again after {} us", clock::to_microseconds(ticks))
            }
            Event::WouldNotDie(name, how) => format!("? {name} did not die of: {}", how.name()),
        };
        events.push_front(format!("{:4}.{:03} s  {what}", milliseconds / 1000, milliseconds % 1000));
        events.truncate(LINES);
    }
}

/// Draws over the last picture.
fn draw(lines: &[String], killer: &Killer, events: &VecDeque<String>) {
    rt::print!("\x1b[H");
    for line in lines {
        rt::println!("{line}\x1b[K");
    }
    let p50 = clock::to_microseconds(killer.times().summary().p50);
    let (kills, recoveries) = (killer.kills(), killer.recoveries());
    rt::println!("{kills} killed, {recoveries} came back; a recovery takes {p50} us (p50)\x1b[K\n\x1b[K");
    for line in events {
        rt::println!("{line}\x1b[K");
    }
}
