//! Runs the table and counts.

use core::fmt;

use crate::bench::{Bench, Options};
use crate::resources::Resources;
use crate::table::{self, Need, Run, Test};

/// What the command line asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arguments {
    /// Only say what there is.
    pub list: bool,
    /// Only tests with this in their names.
    pub filter: Option<&'static str>,
    /// The long versions.
    pub long: bool,
    /// TSC ticks are instructions.
    pub icount: bool,
    /// Something that is no argument.
    pub unknown: Option<&'static str>,
}

impl Arguments {
    /// Reads them.
    pub fn parse(arguments: impl Iterator<Item = &'static str>) -> Arguments {
        let mut parsed = Arguments::default();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument {
                "--list" => parsed.list = true,
                "--long" => parsed.long = true,
                "--icount" => parsed.icount = true,
                "--filter" => parsed.filter = arguments.next(),
                unknown => parsed.unknown = Some(unknown),
            }
        }
        parsed
    }
}

/// The tally.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    passed: u32,
    failed: u32,
    not_applicable: u32,
}

struct Runner {
    bench: Bench,
    arguments: Arguments,
    count: Count,
    /// Rows so far.
    rows: u32,
}

/// The most ticks that interrupts may be off, where ticks are instructions.
const LONGEST: u64 = 20_000;

impl Runner {
    fn print(&self, text: fmt::Arguments) {
        (self.bench.resources().print)(text);
    }

    fn wanted(&self, name: fmt::Arguments) -> bool {
        self.arguments.filter.is_none_or(|filter| contains(name, filter))
    }

    fn has(&self, need: Need) -> bool {
        let resources = self.bench.resources();
        match need {
            Need::Nothing => true,
            Need::Cpus(count) => resources.cpus >= count,
            Need::Records => resources.kernel_log.is_some() && resources.trace.is_some(),
            Need::Device => resources.device.is_some(),
            Need::Iommu => resources.io_control.is_some(),
            Need::Edu => {
                let given = resources.io_control.is_some() && resources.device.is_some();
                given && crate::edu::find(resources.io_port).is_some()
            }
        }
    }

    /// Runs one row, or lists it.
    fn row(&mut self, name: fmt::Arguments, promise: &str, need: Need, run: Option<Run>) {
        self.rows += 1;
        if !self.wanted(name) {
            return;
        }
        if self.arguments.list {
            return self.print(format_args!("{name}: {promise}\n"));
        }
        if !self.has(need) {
            self.count.not_applicable += 1;
            return self.print(format_args!("test {name} ... not applicable ({need:?})\n"));
        }
        self.print(format_args!("test {name} ... "));
        let row = self.rows;
        let result = match run {
            Some(run) => self.bench.run(run, row).map_err(Some),
            None => Err(None),
        };
        match result {
            Ok(()) if self.arguments.icount && self.bench.latest() > LONGEST => {
                self.count.failed += 1;
                let ticks = self.bench.latest();
                self.print(format_args!("FAILED: interrupts were off for {ticks} instructions\n"));
            }
            Ok(()) => {
                self.count.passed += 1;
                self.print(format_args!("ok\n"));
            }
            Err(failure) => {
                self.count.failed += 1;
                match failure {
                    Some(failure) => self.print(format_args!("FAILED: {failure}\n")),
                    None => self.print(format_args!("FAILED: no test provokes this documented error\n")),
                }
            }
        }
    }

    /// The name of a row that is a test.
    fn name(row: u32) -> &'static str {
        let test = table::AREAS.iter().copied().flatten().nth(row as usize - 1);
        test.map_or("a documented error", |test| test.name)
    }

    fn all(&mut self) {
        for &Test { name, promise, need, run } in table::AREAS.iter().copied().flatten() {
            self.row(format_args!("{name}"), promise, need, Some(Run::Test(run)));
        }
        for (call, error, refusal) in table::documented_errors() {
            let kind = call.kind.map_or("", |kind| kind.name());
            let dot = if call.kind.is_some() { "." } else { "" };
            self.row(
                format_args!("errors.{kind}{dot}{}_can_end_with_{}", call.name, error.name()),
                error.meaning().trim_start(),
                refusal.map_or(Need::Nothing, |refusal| refusal.need),
                refusal.map(|refusal| Run::Refusal(refusal.provoke, error)),
            );
        }
    }
}

/// Where the kernel was: a system call or a vector.
struct Place(u64);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let call = abi::table::SYSCALLS.iter().find(|call| u64::from(call.number) == self.0);
        match call {
            Some(call) => f.write_str(call.name),
            None => write!(f, "vector {}", self.0),
        }
    }
}

/// Whether a text contains another.
fn contains(text: fmt::Arguments, wanted: &str) -> bool {
    /// Looks for `wanted` in a text that comes piece by piece.
    struct Search<'s> {
        seen: [u8; 200],
        used: usize,
        wanted: &'s str,
    }
    impl fmt::Write for Search<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let room = &mut self.seen[self.used..];
            let length = text.len().min(room.len());
            room[..length].copy_from_slice(&text.as_bytes()[..length]);
            self.used += length;
            Ok(())
        }
    }
    let mut search = Search { seen: [0; 200], used: 0, wanted };
    fmt::write(&mut search, text).expect("what does not fit is not looked at, and not refused");
    core::str::from_utf8(&search.seen[..search.used]).is_ok_and(|seen| seen.contains(search.wanted))
}

/// Runs what the arguments ask for; the exit status.
pub fn run(resources: Resources, arguments: Arguments) -> u8 {
    let print = resources.print;
    if let Some(unknown) = arguments.unknown {
        print(format_args!("selftest: {unknown}: use --list, --filter TEXT, --long, --icount\n"));
        return 2;
    }
    let options = Options { icount: arguments.icount, long: arguments.long };
    let filled = resources.filled_slots();
    let bench = match Bench::new(resources, options) {
        Ok(bench) => bench,
        Err(error) => {
            print(format_args!("selftest: cannot set up the bench: {error}\n"));
            return 1;
        }
    };
    let own = bench.resources().filled_slots();
    let mut runner = Runner { bench, arguments, count: Count::default(), rows: 0 };
    runner.all();
    if arguments.list {
        return 0;
    }
    let after = runner.bench.resources().filled_slots();
    if after != own {
        runner.count.failed += 1;
        print(format_args!("selftest: slots are lost: {own} were filled, now {after} (at first {filled})\n"));
    }
    let Count { passed, failed, not_applicable } = runner.count;
    if not_applicable > 0 {
        print(format_args!("selftest: {not_applicable} not applicable on this machine\n"));
    }
    let longest = runner.bench.longest();
    if longest.row > 0 {
        let (ticks, place, name) = (longest.ticks, Place(longest.place), Runner::name(longest.row));
        print(format_args!(
            "selftest: longest time with interrupts off: {ticks} ticks at {place} in {name}\n"
        ));
    }
    print(format_args!("selftest: {passed} passed, {failed} failed\n"));
    u8::from(failed > 0)
}
