//! The lines that tests report with: libtest's, and those of the guest's `selftest`.

/// A line of either.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// `test NAME ... ok`
    Passed(&'a str),
    /// `test NAME ... FAILED`, with `: REASON` from the guest.
    Failed(&'a str, &'a str),
    /// `test NAME ... ignored`: libtest only.
    Ignored(&'a str),
    /// `selftest: N passed, N failed`: the guest's last line.
    Sum {
        /// How many passed.
        passed: usize,
        /// How many failed.
        failed: usize,
    },
    /// Anything else.
    Other,
}

/// Reads a line.
pub fn read(line: &str) -> Line<'_> {
    sum(line).or_else(|| test(line)).unwrap_or(Line::Other)
}

fn sum(line: &str) -> Option<Line<'_>> {
    let (passed, failed) = line.strip_prefix("selftest: ")?.split_once(" passed, ")?;
    let failed = failed.strip_suffix(" failed")?;
    Some(Line::Sum { passed: passed.parse().ok()?, failed: failed.parse().ok()? })
}

fn test(line: &str) -> Option<Line<'_>> {
    let (name, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
    match outcome.split_once(':').unwrap_or((outcome, "")) {
        ("ok", _) => Some(Line::Passed(name)),
        ("FAILED", reason) => Some(Line::Failed(name, reason.trim())),
        (other, _) if other.starts_with("ignored") => Some(Line::Ignored(name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_failed_and_ignored_tests_are_told_apart() {
        assert_eq!(read("test ipc/call ... ok"), Line::Passed("ipc/call"));
        assert_eq!(read("test a::b ... FAILED"), Line::Failed("a::b", ""));
        assert_eq!(read("test a ... FAILED: got 1: not 2"), Line::Failed("a", "got 1: not 2"));
        assert_eq!(read("test a ... ignored"), Line::Ignored("a"));
        assert_eq!(read("test a ... ignored, slow"), Line::Ignored("a"));
        assert_eq!(read("test a - should panic ... ok"), Line::Passed("a - should panic"));
    }

    #[test]
    fn the_guests_sum_is_read() {
        assert_eq!(read("selftest: 120 passed, 3 failed"), Line::Sum { passed: 120, failed: 3 });
    }

    #[test]
    fn other_lines_are_nothing() {
        for line in
            ["", "test result: ok. 3 passed; 0 failed", "running 3 tests", "selftest: x passed, 0 failed"]
        {
            assert_eq!(read(line), Line::Other, "{line}");
        }
    }
}
