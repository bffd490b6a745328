//! The tests inside the guest: its program `selftest`, on one, two and four CPUs, and once where instructions
//! are counted, which is where bounds on them can be tested. Each is counted apart.

use crate::harness::{Outcome, Suite, Test};
use crate::lines::{self, Line};
use crate::tool::{Tool, follow};

/// The whole table of the guest's tests, on each kind of machine.
pub const TESTS: &[Test] = &[
    Test::many("selftest/smp1", |tool, filter, suite| on(&["--smp", "1"], tool, filter, suite)),
    Test::many("selftest/smp2", |tool, filter, suite| on(&["--smp", "2"], tool, filter, suite)),
    Test::many("selftest/smp4", |tool, filter, suite| on(&["--smp", "4"], tool, filter, suite)),
    // Every call by the slow path: it must come to the same results as the fast one.
    Test::many("selftest/nofast", |tool, filter, suite| on(&["--append", "nofast"], tool, filter, suite)),
    Test::many("selftest/icount", |tool, filter, suite| on(&[ICOUNT], tool, filter, suite)),
];

/// Counts instructions. The tool and the guest's program call it the same.
const ICOUNT: &str = "--icount";

/// The kernel's tests count every capability there is, and drive a device: nothing else is to run beside them.
pub const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kernel.manifest");

/// How long the guest may take, in seconds, before it counts as standing still: each of its tests waits for progress and
/// ends late where the host is busy.
const PATIENCE: &str = "3600";
/// The same for the long versions.
const LONG_PATIENCE: &str = "14400";

fn on(machine: &[&str], tool: &Tool, filter: Option<&str>, suite: &mut Suite) {
    let patience = if tool.long() { LONG_PATIENCE } else { PATIENCE };
    let mut command = tool.command(["exec", "--timeout", patience]);
    command.args(["--manifest", MANIFEST]).args(machine).args(["--", "selftest"]);
    command.args(machine.contains(&ICOUNT).then_some(ICOUNT));
    command.args(tool.long().then_some("--long"));
    command.args(filter.map(|filter| ["--filter", filter]).into_iter().flatten());
    let mut tally = Tally::default();
    let ended = follow(&mut command, |line| tally.take(line, suite));
    let complete = ended.and_then(|(status, complaints)| {
        tally.check(status.code()).map_err(|complaint| format!("{complaint}\n{complaints}"))
    });
    suite.record("runs_to_its_end", complete);
}

/// What the guest reported so far.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    sum: Option<(usize, usize)>,
}

impl Tally {
    fn take(&mut self, line: &str, suite: &mut Suite) {
        match lines::read(line) {
            Line::Passed(test) => {
                suite.record(test, Ok(()));
                self.passed += 1;
            }
            Line::Failed(test, reason) => {
                suite.record(test, Err(reason.to_owned()));
                self.failed += 1;
            }
            Line::Ignored(test) => {
                suite.record(test, Err("it was not run".to_owned()));
                self.failed += 1;
            }
            Line::Sum { passed, failed } => self.sum = Some((passed, failed)),
            Line::Other => {}
        }
    }

    /// Whether the guest got to its end, and its sum and status say the same as its lines.
    fn check(&self, status: Option<i32>) -> Outcome {
        let counted = (self.passed, self.failed);
        match (self.sum, status) {
            (None, status) => Err(format!("it did not get to its end (status {status:?})")),
            (Some(sum), _) if sum != counted => {
                Err(format!("it counts {sum:?} passed and failed, but reported {counted:?}"))
            }
            (Some((0, 0)), _) => Err("it ran no test".to_owned()),
            (Some((_, 0)), Some(0)) | (Some((_, 1..)), Some(1)) => Ok(()),
            (Some((_, failed)), status) => {
                Err(format!("{failed} tests failed, but its status is {status:?}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(passed: usize, failed: usize, sum: Option<(usize, usize)>) -> Tally {
        Tally { passed, failed, sum }
    }

    #[test]
    fn a_run_is_complete_when_lines_sum_and_status_agree() {
        assert_eq!(tally(3, 0, Some((3, 0))).check(Some(0)), Ok(()));
        assert_eq!(tally(3, 1, Some((3, 1))).check(Some(1)), Ok(()));
    }

    #[test]
    fn a_missing_sum_a_wrong_one_and_a_wrong_status_are_failures() {
        assert!(tally(3, 0, None).check(Some(0)).is_err());
        assert!(tally(3, 0, Some((4, 0))).check(Some(0)).is_err());
        assert!(tally(3, 0, Some((3, 0))).check(Some(1)).is_err());
        assert!(tally(3, 1, Some((3, 1))).check(Some(0)).is_err());
        assert!(tally(3, 0, Some((3, 0))).check(Some(124)).is_err());
    }

    #[test]
    fn a_run_without_tests_is_a_failure() {
        assert!(tally(0, 0, Some((0, 0))).check(Some(0)).is_err());
    }
}
