//! Tests, which of them to run, and what came of them.

use std::process::ExitCode;

use crate::tool::Tool;

/// What came of a test: nothing to tell, or why it failed.
pub type Outcome = Result<(), String>;

/// A test, or a run of many.
#[derive(Clone, Copy)]
pub struct Test {
    /// Its name: `suite/what_it_holds`.
    pub name: &'static str,
    /// What it does.
    pub body: Body,
}

/// What a test does.
#[derive(Clone, Copy)]
pub enum Body {
    /// One test.
    Case(fn(&Tool) -> Outcome),
    /// Many, which are recorded one by one. The text, where given, says which of them to run.
    Many(fn(&Tool, Option<&str>, &mut Suite)),
}

impl Test {
    /// One test.
    pub const fn case(name: &'static str, body: fn(&Tool) -> Outcome) -> Self {
        Test { name, body: Body::Case(body) }
    }

    /// A run of many.
    pub const fn many(name: &'static str, body: fn(&Tool, Option<&str>, &mut Suite)) -> Self {
        Test { name, body: Body::Many(body) }
    }

    /// Runs it and records what comes of it.
    pub fn run(&self, tool: &Tool, inner: Option<&str>, report: &mut Report) {
        match self.body {
            Body::Case(body) => report.record(self.name, body(tool)),
            Body::Many(body) => body(tool, inner, &mut Suite { name: self.name, report }),
        }
    }
}

/// The tests that the filters choose, each with the part of a filter that is for the tests within it.
pub fn chosen(tests: &[Test], filters: &[String]) -> Vec<(Test, Option<String>)> {
    let matching = |test: &Test| {
        if filters.is_empty() || filters.iter().any(|filter| test.name.contains(filter.as_str())) {
            return Some(None);
        }
        let Body::Many(_) = test.body else { return None };
        let within = filters.iter().find_map(|filter| filter.strip_prefix(test.name)?.strip_prefix('/'))?;
        Some(Some(within.to_owned()))
    };
    tests.iter().filter_map(|test| matching(test).map(|inner| (*test, inner))).collect()
}

/// What came of all tests so far.
#[derive(Default)]
pub struct Report {
    passed: usize,
    failures: Vec<(String, String)>,
}

impl Report {
    /// Counts a test and prints its line.
    pub fn record(&mut self, name: &str, outcome: Outcome) {
        match outcome {
            Ok(()) => {
                println!("test {name} ... ok");
                self.passed += 1;
            }
            Err(reason) => {
                println!("test {name} ... FAILED");
                self.failures.push((name.to_owned(), reason));
            }
        }
    }

    /// Says why the failed ones failed, then the one line that counts.
    pub fn close(&self) -> ExitCode {
        for (name, reason) in &self.failures {
            println!("\n---- {name} ----\n{}", reason.trim_end());
        }
        println!("\n{} passed, {} failed", self.passed, self.failures.len());
        if self.failures.is_empty() && self.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// A run of many tests, which are recorded under its name.
pub struct Suite<'r> {
    name: &'static str,
    report: &'r mut Report,
}

impl Suite<'_> {
    /// Counts one of the tests.
    pub fn record(&mut self, name: &str, outcome: Outcome) {
        self.report.record(&format!("{}/{name}", self.name), outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TESTS: [Test; 3] = [
        Test::case("exec/true_exits_0", |_| Ok(())),
        Test::many("selftest/smp1", |_, _, _| ()),
        Test::many("selftest/smp2", |_, _, _| ()),
    ];

    fn names(filters: &[&str]) -> Vec<(&'static str, Option<String>)> {
        let filters: Vec<_> = filters.iter().map(|&filter| filter.to_owned()).collect();
        chosen(&TESTS, &filters).into_iter().map(|(test, inner)| (test.name, inner)).collect()
    }

    #[test]
    fn without_a_filter_everything_runs() {
        assert_eq!(names(&[]).len(), 3);
    }

    #[test]
    fn a_filter_chooses_by_a_part_of_the_name() {
        assert_eq!(names(&["selftest"]), [("selftest/smp1", None), ("selftest/smp2", None)]);
        assert_eq!(names(&["true", "smp2"]), [("exec/true_exits_0", None), ("selftest/smp2", None)]);
    }

    #[test]
    fn a_filter_reaches_into_a_run_of_many() {
        assert_eq!(names(&["selftest/smp2/ipc"]), [("selftest/smp2", Some("ipc".into()))]);
        assert_eq!(names(&["exec/true_exits_0/x"]), []);
    }

    #[test]
    fn passed_and_failed_tests_are_counted() {
        let mut report = Report::default();
        report.record("a", Ok(()));
        let mut suite = Suite { name: "many", report: &mut report };
        suite.record("b", Err("broken".into()));
        assert_eq!(report.passed, 1);
        assert_eq!(report.failures, [("many/b".into(), "broken".into())]);
    }
}
