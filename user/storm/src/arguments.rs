//! The command line of `storm`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use proto::life::Injection;

use crate::sweep::Range;

/// How `storm` is used.
pub const USAGE: &str = "\
usage: storm --work block|net|ledger [--size N] [--kill NAME[,NAME...]] [--every MS] [--kills N]
             [--mode kill|fault|hang|corrupt|panic|random] [--at-message N[-M]] [--at-instruction N[-[M]]]
             [--sample N] [--seed S] [--json -]";

/// What is done while components die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Sectors are written, flushed, read back cold and compared.
    Block,
    /// Numbered frames and a stream are exchanged with the host's peer.
    Net,
    /// Money moves between the accounts of `ledger`.
    Ledger,
}

impl Work {
    const ALL: [(&'static str, Work); 3] =
        [("block", Work::Block), ("net", Work::Net), ("ledger", Work::Ledger)];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, work)| *work == self).map_or("", |(name, _)| name)
    }

    /// What dies when nothing else is said: what serves the work.
    fn own_victim(self) -> &'static str {
        match self {
            Work::Block => "virtio-blk",
            Work::Net => "virtio-net",
            Work::Ledger => "ledger",
        }
    }
}

/// How a victim dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Always so.
    Always(Injection),
    /// Another way each time.
    Random,
}

/// When victims die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Every so many milliseconds.
    Every(u64),
    /// At these messages of a life, with requests in flight.
    AtMessage(Range),
    /// So many ticks after a request was made, which is the only one.
    AtInstruction(Range),
}

/// What the command line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arguments<'a> {
    /// What is done.
    pub work: Work,
    /// How much: bytes, or transfers.
    pub size: u64,
    /// What dies; nothing where it is empty.
    pub victims: Vec<&'a str>,
    /// When.
    pub when: When,
    /// How.
    pub mode: Mode,
    /// The work goes on until so many have died.
    pub kills: u64,
    /// Of a range, only so many places.
    pub sample: Option<u64>,
    /// Chance is had from this.
    pub seed: u64,
    /// The report is JSON on standard output, and all else goes to standard error.
    pub json: bool,
}

/// What is given where the command line says nothing.
const DEFAULT_BYTES: u64 = 16 << 20;
const DEFAULT_TRANSFERS: u64 = 2_000;
const DEFAULT_EVERY: u64 = 200;
const DEFAULT_KILLS: u64 = 10;
/// Places of a sweep that the memory of a program has room for.
const MOST_PLACES: u64 = 100_000;

impl<'a> Arguments<'a> {
    /// Reads the arguments, without the program's name. An error is for the user.
    pub fn read(words: impl IntoIterator<Item = &'a str>) -> Result<Arguments<'a>, String> {
        let mut given = Given::default();
        let mut words = words.into_iter();
        while let Some(name) = words.next() {
            let value = words.next().ok_or_else(|| format!("{name} wants a value"))?;
            given.take(name, value)?;
        }
        given.whole()
    }
}

/// What was said so far.
#[derive(Default)]
struct Given<'a> {
    work: Option<Work>,
    size: Option<u64>,
    victims: Option<Vec<&'a str>>,
    every: Option<u64>,
    at_message: Option<Range>,
    at_instruction: Option<Range>,
    mode: Option<Mode>,
    kills: Option<u64>,
    sample: Option<u64>,
    seed: Option<u64>,
    json: bool,
}

impl<'a> Given<'a> {
    fn take(&mut self, name: &str, value: &'a str) -> Result<(), String> {
        let wrong = |what: &str| format!("{name} {value}: {what}");
        let number = || value.parse().map_err(|_| wrong("give a number"));
        let positive =
            || number().and_then(|it| if it > 0 { Ok(it) } else { Err(wrong("give more than 0")) });
        let range = || Range::read(value).ok_or_else(|| wrong("give a number, or a range such as 1-1000"));
        match name {
            "--work" => {
                self.work = Some(work(value).ok_or_else(|| wrong("there are block, net and ledger"))?)
            }
            "--size" => self.size = Some(size(value).ok_or_else(|| wrong("give a size such as 64M"))?),
            "--kill" => {
                self.victims = Some(names(value).ok_or_else(|| wrong("give names with commas between"))?)
            }
            "--every" => self.every = Some(positive()?),
            "--at-message" => self.at_message = Some(range()?),
            "--at-instruction" => self.at_instruction = Some(range()?),
            "--mode" => self.mode = Some(mode(value).ok_or_else(|| wrong("there is no such way to die"))?),
            "--kills" => self.kills = Some(number()?),
            "--sample" => self.sample = Some(positive()?),
            "--seed" => self.seed = Some(number()?),
            "--json" if value == "-" => self.json = true,
            "--json" => return Err(wrong("there are no files here: give -, which is standard output")),
            _ => return Err(format!("{name} is no option")),
        }
        Ok(())
    }

    fn whole(self) -> Result<Arguments<'a>, String> {
        let work = self.work.ok_or("say what is to be done: --work")?;
        let when = match (self.every, self.at_message, self.at_instruction) {
            (None, None, None) => When::Every(DEFAULT_EVERY),
            (Some(milliseconds), None, None) => When::Every(milliseconds),
            (None, Some(range), None) => When::AtMessage(range),
            (None, None, Some(range)) => When::AtInstruction(range),
            _ => return Err("--every, --at-message and --at-instruction exclude each other".into()),
        };
        match when {
            When::AtMessage(Range { last: None, .. }) => {
                return Err("--at-message wants the range's end".into());
            }
            When::AtMessage(Range { first: 0, .. }) => return Err("--at-message counts from 1 on".into()),
            When::AtMessage(range) if range.drawn(self.sample) > MOST_PLACES => {
                return Err(format!(
                    "--at-message: that is more than {MOST_PLACES} places; draw some: --sample N"
                ));
            }
            When::AtInstruction(range) if range.last.is_some() && range.drawn(self.sample) > MOST_PLACES => {
                return Err(format!(
                    "--at-instruction: that is more than {MOST_PLACES} places; draw some: --sample N"
                ));
            }
            When::AtInstruction(_) if self.mode.is_some_and(|mode| mode != Mode::Always(Injection::Kill)) => {
                return Err(
                    "--at-instruction can only kill: the victim itself does not know the place".into()
                );
            }
            _ => {}
        }
        let size = match work {
            Work::Ledger => DEFAULT_TRANSFERS,
            Work::Block | Work::Net => DEFAULT_BYTES,
        };
        let victims = self.victims.unwrap_or_else(|| [work.own_victim()].into());
        Ok(Arguments {
            work,
            size: self.size.unwrap_or(size),
            kills: if victims.is_empty() { 0 } else { self.kills.unwrap_or(DEFAULT_KILLS) },
            victims,
            when,
            mode: self.mode.unwrap_or(Mode::Always(Injection::Kill)),
            sample: self.sample,
            seed: self.seed.unwrap_or(1),
            json: self.json,
        })
    }
}

fn work(name: &str) -> Option<Work> {
    Work::ALL.iter().find(|(known, _)| *known == name).map(|&(_, work)| work)
}

fn mode(name: &str) -> Option<Mode> {
    if name == "random" {
        return Some(Mode::Random);
    }
    Injection::ALL.into_iter().find(|known| known.name() == name).map(Mode::Always)
}

/// Names with commas between; `none` is no name.
fn names(list: &str) -> Option<Vec<&str>> {
    if list == "none" {
        return Some(Vec::new());
    }
    list.split(',').map(|name| (!name.is_empty()).then_some(name)).collect()
}

/// A number of bytes or things, with K, M or G where that is shorter.
pub fn size(text: &str) -> Option<u64> {
    let units = [('K', 10), ('M', 20), ('G', 30)];
    let unit = units.into_iter().find_map(|(letter, shift)| Some((text.strip_suffix(letter)?, shift)));
    let (digits, shift) = unit.unwrap_or((text, 0));
    digits.parse::<u64>().ok()?.checked_mul(1 << shift).filter(|&size| size > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Arguments<'_>, String> {
        Arguments::read(line.split_whitespace())
    }

    #[test]
    fn the_issues_own_line_is_understood() {
        let line = "--work block --size 64M --kill virtio-blk --every 200 --mode random --json -";
        let expected = Arguments {
            work: Work::Block,
            size: 64 << 20,
            victims: ["virtio-blk"].into(),
            when: When::Every(200),
            mode: Mode::Random,
            kills: DEFAULT_KILLS,
            sample: None,
            seed: 1,
            json: true,
        };
        assert_eq!(read(line), Ok(expected));
    }

    #[test]
    fn what_serves_the_work_dies_unless_something_else_is_said() {
        assert_eq!(read("--work net").expect("enough").victims, ["virtio-net"]);
        assert_eq!(read("--work ledger").expect("enough").victims, ["ledger"]);
        assert_eq!(
            read("--work block --kill pci,virtio-blk").expect("enough").victims,
            ["pci", "virtio-blk"]
        );
        let none = read("--work block --kill none").expect("enough");
        assert_eq!((none.victims.len(), none.kills), (0, 0));
    }

    #[test]
    fn sweeps_have_ranges_and_samples() {
        let swept =
            read("--work block --at-message 1-1000 --sample 50 --seed 7 --mode fault").expect("enough");
        assert_eq!(swept.when, When::AtMessage(Range { first: 1, last: Some(1000) }));
        assert_eq!((swept.sample, swept.seed, swept.mode), (Some(50), 7, Mode::Always(Injection::Fault)));
        let open = read("--work ledger --at-instruction 0-").expect("enough");
        assert_eq!(open.when, When::AtInstruction(Range { first: 0, last: None }));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        for (line, reason) in [
            ("", "--work"),
            ("--work disk", "block, net and ledger"),
            ("--work block --size", "wants a value"),
            ("--work block --size 0", "64M"),
            ("--work block --size 1T", "64M"),
            ("--work block --kill a,,b", "commas"),
            ("--work block --every 0", "more than 0"),
            ("--work block --every soon", "number"),
            ("--work block --mode gently", "way to die"),
            ("--work block --json file", "standard output"),
            ("--work block --frobnicate 1", "no option"),
            ("--work block --every 5 --at-message 1", "exclude"),
            ("--work block --at-message 1-", "end"),
            ("--work block --at-message 0-5", "from 1 on"),
            ("--work block --at-message 1-18446744073709551615", "--sample"),
            ("--work block --at-message 1-18446744073709551615 --sample 100001", "--sample"),
            ("--work block --at-instruction 0-18446744073709551615", "--sample"),
            ("--work block --at-instruction 0-5 --mode hang", "only kill"),
        ] {
            let complaint = read(line).expect_err(line);
            assert!(complaint.contains(reason), "{line}: {complaint}");
        }
    }

    #[test]
    fn every_way_to_die_has_its_name() {
        for name in ["kill", "fault", "hang", "corrupt", "panic", "random"] {
            assert!(mode(name).is_some(), "{name}");
        }
    }

    #[test]
    fn works_are_called_what_they_are_asked_for_by() {
        assert!(Work::ALL.iter().all(|(name, work)| work.name() == *name));
    }
}
