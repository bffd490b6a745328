//! What `storm` prints in the end: for people, and as JSON for scripts.

use core::fmt::{self, Display, Formatter};

use crate::tally::Tally;
use crate::times::Summary;

/// What came of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How often something was made to die.
    pub kills: u64,
    /// How often it served again after it.
    pub recoveries: u64,
    /// What the work found.
    pub tally: Tally,
    /// Bytes, or transfers where there are no bytes, of the run without kills, and the ticks it took.
    pub quiet: Rate,
    /// The same of the run with kills.
    pub stormy: Rate,
    /// Ticks from the detection of a death to the first request served.
    pub recovery: Summary,
    /// Ticks in a second.
    pub tsc_hz: u64,
}

/// How much was done in how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// How much.
    pub amount: u64,
    /// In so many ticks.
    pub ticks: u64,
}

impl Rate {
    /// Adds what was done in another while.
    pub fn add(&mut self, amount: u64, ticks: u64) {
        self.amount += amount;
        self.ticks += ticks;
    }

    /// How much in a second.
    pub fn per_second(&self, tsc_hz: u64) -> u64 {
        let amount = u128::from(self.amount) * u128::from(tsc_hz);
        u64::try_from(amount / u128::from(self.ticks.max(1))).unwrap_or(u64::MAX)
    }
}

impl Report {
    /// All is as if nothing had died, and whatever died came back.
    pub fn is_clean(&self) -> bool {
        self.tally.is_clean() && self.recoveries == self.kills
    }

    /// Throughput beside that of the run without kills, in thousandths.
    fn throughput_ratio(&self) -> u64 {
        let [quiet, stormy] = [(self.quiet, self.stormy), (self.stormy, self.quiet)]
            .map(|(one, other)| u128::from(one.amount) * u128::from(other.ticks));
        u64::try_from(stormy * 1000 / quiet.max(1)).unwrap_or(u64::MAX)
    }

    /// Ticks as milliseconds, with three places.
    fn milliseconds(&self, ticks: u64) -> Thousandths {
        let microseconds = u128::from(ticks) * 1_000_000 / u128::from(self.tsc_hz.max(1));
        Thousandths(u64::try_from(microseconds).unwrap_or(u64::MAX))
    }

    /// The report as one line of JSON.
    pub fn json(&self) -> impl Display + use<> {
        Json(*self)
    }
}

/// A number with three places.
struct Thousandths(u64);

impl Display for Thousandths {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

struct Json(Report);

impl Display for Json {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let Json(report) = self;
        let tally = &report.tally;
        let counts = [
            ("kills", report.kills),
            ("recoveries", report.recoveries),
            ("errors", tally.errors),
            ("wrong_bytes", tally.wrong_bytes),
            ("lost_bytes", tally.lost_bytes),
            ("duplicated", tally.duplicated),
        ];
        let fractions = [
            ("throughput_ratio", Thousandths(report.throughput_ratio())),
            ("recovery_p50_ms", report.milliseconds(report.recovery.p50)),
            ("recovery_p99_ms", report.milliseconds(report.recovery.p99)),
            ("recovery_max_ms", report.milliseconds(report.recovery.max)),
        ];
        let mut before = "{";
        for (key, count) in counts {
            write!(f, "{before}\"{key}\":{count}")?;
            before = ",";
        }
        for (key, fraction) in fractions {
            write!(f, "{before}\"{key}\":{fraction}")?;
        }
        f.write_str("}")
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let tally = &self.tally;
        writeln!(f, "killed {} times, came back {} times", self.kills, self.recoveries)?;
        writeln!(
            f,
            "seen by the work: {} errors, {} wrong bytes, {} lost bytes, {} duplicated",
            tally.errors, tally.wrong_bytes, tally.lost_bytes, tally.duplicated
        )?;
        let [quiet, stormy] = [self.quiet, self.stormy].map(|rate| rate.per_second(self.tsc_hz));
        let ratio = Thousandths(self.throughput_ratio());
        writeln!(f, "throughput: {stormy}/s, without kills {quiet}/s: ratio {ratio}")?;
        let [p50, p99, max] =
            [self.recovery.p50, self.recovery.p99, self.recovery.max].map(|ticks| self.milliseconds(ticks));
        write!(f, "recovery, detection to first request served: p50 {p50} ms, p99 {p99} ms, max {max} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: Report = Report {
        kills: 12,
        recoveries: 12,
        tally: Tally {
            bytes: 1 << 20,
            requests: 99,
            errors: 0,
            wrong_bytes: 0,
            lost_bytes: 0,
            duplicated: 0,
        },
        quiet: Rate { amount: 1000, ticks: 1_000 },
        stormy: Rate { amount: 930, ticks: 1_000 },
        recovery: Summary { p50: 2_500, p99: 12_345_678, max: 20_000_000 },
        tsc_hz: 1_000_000_000,
    };

    #[test]
    fn the_keys_are_those_that_scripts_rely_on() {
        let expected = "{\"kills\":12,\"recoveries\":12,\"errors\":0,\"wrong_bytes\":0,\"lost_bytes\":0,\
                        \"duplicated\":0,\"throughput_ratio\":0.930,\"recovery_p50_ms\":0.002,\
                        \"recovery_p99_ms\":12.345,\"recovery_max_ms\":20.000}";
        assert_eq!(REPORT.json().to_string(), expected);
    }

    #[test]
    fn people_are_told_the_same() {
        let text = REPORT.to_string();
        for part in
            ["killed 12 times, came back 12", "0 lost bytes", "ratio 0.930", "p99 12.345 ms", "930000000/s"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_run_is_clean_when_the_work_is_and_all_came_back() {
        assert!(REPORT.is_clean());
        assert!(!Report { recoveries: 11, ..REPORT }.is_clean());
        let tally = Tally { lost_bytes: 1, ..REPORT.tally };
        assert!(!Report { tally, ..REPORT }.is_clean());
    }

    #[test]
    fn a_run_that_did_nothing_makes_no_ratio() {
        assert_eq!(Report::default().throughput_ratio(), 0);
    }
}
