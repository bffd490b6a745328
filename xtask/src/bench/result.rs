//! The lines a benchmark program prints: `result NAME UNIT MIN MEDIAN P99 MAX N`.

use std::io::{Error, ErrorKind, Result, Write};

use serde::Serialize;

use crate::exec::Output;

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// Guest instructions, where virtual time counts them.
    #[serde(rename = "instructions")]
    Instructions,
    /// Cycles of the host's processor.
    #[serde(rename = "cycles")]
    Cycles,
    /// Nanoseconds.
    #[serde(rename = "ns")]
    Nanoseconds,
    /// Bytes in a second of guest time.
    #[serde(rename = "bytes/s")]
    BytesPerSecond,
    /// Requests in a second of guest time.
    #[serde(rename = "requests/s")]
    RequestsPerSecond,
    /// What all CPUs do together, in times of what one does alone.
    #[serde(rename = "times")]
    Times,
}

impl Unit {
    const ALL: [Unit; 6] = [
        Unit::Instructions,
        Unit::Cycles,
        Unit::Nanoseconds,
        Unit::BytesPerSecond,
        Unit::RequestsPerSecond,
        Unit::Times,
    ];

    /// Its name in results and on the guest's command line.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Instructions => "instructions",
            Unit::Cycles => "cycles",
            Unit::Nanoseconds => "ns",
            Unit::BytesPerSecond => "bytes/s",
            Unit::RequestsPerSecond => "requests/s",
            Unit::Times => "times",
        }
    }
}

/// One benchmark's figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchResult {
    /// The benchmark.
    pub name: String,
    /// What the figures count, per operation.
    pub unit: Unit,
    /// The least of all samples.
    #[serde(serialize_with = "whole_if_whole")]
    pub min: f64,
    /// The middle one.
    #[serde(serialize_with = "whole_if_whole")]
    pub median: f64,
    /// The one that 99 of 100 do not exceed.
    #[serde(serialize_with = "whole_if_whole")]
    pub p99: f64,
    /// The greatest.
    #[serde(serialize_with = "whole_if_whole")]
    pub max: f64,
    /// How many samples there are.
    pub n: u64,
}

/// Writes 150 rather than 150.0.
fn whole_if_whole<S: serde::Serializer>(figure: &f64, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    if figure.fract() == 0.0 && *figure < 9e15 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "parsed as not negative"
        )]
        return serializer.serialize_u64(*figure as u64);
    }
    serializer.serialize_f64(*figure)
}

/// Reads a result line; none if it is not one.
pub fn parse(line: &str) -> Option<BenchResult> {
    let words: Vec<_> = line.split_whitespace().collect();
    let ["result", name, unit, min, median, p99, max, n] = words[..] else { return None };
    let figure = |text: &str| text.parse::<f64>().ok().filter(|figure| figure.is_finite() && *figure >= 0.0);
    Some(BenchResult {
        name: name.to_owned(),
        unit: Unit::ALL.into_iter().find(|known| known.name() == unit)?,
        min: figure(min)?,
        median: figure(median)?,
        p99: figure(p99)?,
        max: figure(max)?,
        n: n.parse().ok()?,
    })
}

/// Takes a benchmark program's output apart: results are kept, all else goes to stderr.
#[derive(Default)]
pub struct Collector {
    line: Vec<u8>,
    results: Vec<BenchResult>,
}

impl Collector {
    /// All results, in their order.
    pub fn finish(self) -> Vec<BenchResult> {
        self.results
    }
}

impl Output for Collector {
    fn stdout(&mut self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(piece);
            let Some(line) = self.line.strip_suffix(b"\n") else { continue };
            let text = String::from_utf8_lossy(line);
            if text.starts_with("result ") {
                let damaged = || Error::new(ErrorKind::InvalidData, format!("not a result: {text}"));
                self.results.push(parse(&text).ok_or_else(damaged)?);
            } else {
                writeln!(std::io::stderr(), "{text}")?;
            }
            self.line.clear();
        }
        Ok(())
    }

    fn stderr(&mut self, bytes: &[u8]) -> Result<()> {
        std::io::stderr().write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "result ipc.call_reply.cross.0 instructions 150 151.25 152 160 1000";

    #[test]
    fn a_result_line_is_read() {
        let result = parse(LINE).expect("a result");
        assert_eq!(result.name, "ipc.call_reply.cross.0");
        assert_eq!(result.unit, Unit::Instructions);
        assert_eq!((result.min, result.median, result.p99, result.max), (150.0, 151.25, 152.0, 160.0));
        assert_eq!(result.n, 1000);
    }

    #[test]
    fn other_lines_are_not_results() {
        for line in ["", "result", "result a ns 1 2 3 4", "result a ns 1 2 3 4 5 6", "result a s 1 2 3 4 5"] {
            assert_eq!(parse(line), None, "{line}");
        }
        for figure in ["-1", "NaN", "inf", "x"] {
            assert_eq!(parse(&format!("result a ns {figure} 2 3 4 5")), None, "{figure}");
        }
    }

    #[test]
    fn results_are_collected_whatever_the_pieces_they_come_in() {
        let mut collector = Collector::default();
        for piece in format!("{LINE}\nsome text\n{LINE}\n").as_bytes().chunks(7) {
            collector.stdout(piece).expect("taken");
        }
        assert_eq!(collector.finish().len(), 2);
    }

    #[test]
    fn a_damaged_result_line_is_an_error() {
        assert!(Collector::default().stdout(b"result a ns 1 2 3\n").is_err());
    }

    #[test]
    fn whole_figures_are_written_whole() {
        let json = serde_json::to_string(&parse(LINE).expect("a result")).expect("JSON");
        assert_eq!(
            json,
            r#"{"name":"ipc.call_reply.cross.0","unit":"instructions","min":150,"median":151.25,"p99":152,"max":160,"n":1000}"#
        );
    }
}
