//! The table of results.

use std::fmt::Write as _;

use super::anchors::{Anchor, SOURCES};
use super::result::{BenchResult, Unit};
use crate::machine::Machine;

/// Lays the results out, with the figures of others where the unit lets them be compared.
pub fn table(results: &[BenchResult], machine: &Machine) -> String {
    let mut text = format!("{}\n\n", headline(results, machine));
    let compared = results.iter().any(|result| beside(result).is_some());
    let mut rows = vec![heading(compared)];
    let unit = results.first().map(|result| result.unit);
    rows.extend(results.iter().map(|result| row(result, compared, unit)));
    text += &aligned(&rows);
    if results.iter().any(|result| result.unit == Unit::Times) {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let _ =
            writeln!(text, "\nscaling: {} CPUs in times of one, on a host with {cores} cores", machine.smp);
    }
    if compared {
        text.push('\n');
        text += &notes(results);
    }
    text
}

fn headline(results: &[BenchResult], machine: &Machine) -> String {
    let unit = results.first().map_or("figures", |result| match result.unit {
        Unit::Nanoseconds => "nanoseconds per operation",
        Unit::Instructions => "instructions per operation",
        Unit::Cycles => "cycles per operation",
        Unit::BytesPerSecond | Unit::RequestsPerSecond | Unit::Times => "figures",
    });
    let icount = if machine.icount { ", icount" } else { "" };
    format!(
        "{unit} (QEMU {}, {} CPU{}{icount})",
        machine.accel.name(),
        machine.smp,
        if machine.smp == 1 { "" } else { "s" }
    )
}

/// Whether a unit counts what is done in a second.
fn is_rate(unit: Unit) -> bool {
    matches!(unit, Unit::BytesPerSecond | Unit::RequestsPerSecond)
}

/// The figures of others beside a result: they are instructions, and compare with nothing else.
fn beside(result: &BenchResult) -> Option<&'static Anchor> {
    (result.unit == Unit::Instructions).then(|| Anchor::of(&result.name)).flatten()
}

fn heading(compared: bool) -> Vec<String> {
    let mut cells = vec!["benchmark", "min", "median", "p99", "max", "n"];
    if compared {
        cells.extend(["reach", "", "seL4", "SMP", "Linux"]);
    }
    cells.into_iter().map(str::to_owned).collect()
}

/// A line of the table, which names the unit where it is another than the headline's.
fn row(result: &BenchResult, compared: bool, headline: Option<Unit>) -> Vec<String> {
    let own_unit = Some(result.unit) != headline || is_rate(result.unit);
    let name =
        if own_unit { format!("{} ({})", result.name, result.unit.name()) } else { result.name.clone() };
    let mut cells = vec![name];
    cells.extend([result.min, result.median, result.p99, result.max].map(figure));
    cells.push(grouped(&result.n.to_string()));
    if compared {
        let anchor = beside(result);
        let other = |value: Option<u32>| value.map_or_else(String::new, |value| grouped(&value.to_string()));
        let reach = anchor.and_then(|anchor| anchor.reach);
        let verdict = match reach {
            Some(reach) if result.median > f64::from(reach) => "OVER",
            Some(_) => "ok",
            None => "",
        };
        cells.extend([
            other(reach),
            verdict.to_owned(),
            other(anchor.and_then(|anchor| anchor.sel4)),
            other(anchor.and_then(|anchor| anchor.sel4_smp)),
            other(anchor.and_then(|anchor| anchor.linux)),
        ]);
    }
    cells
}

/// A figure with groups of three digits, and two places where it is not whole.
pub fn figure(value: f64) -> String {
    let text = if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") };
    grouped(&text)
}

fn grouped(digits: &str) -> String {
    let (whole, places) = digits.split_once('.').map_or((digits, None), |(whole, rest)| (whole, Some(rest)));
    let mut text = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if let Some(places) = places {
        let _ = write!(text, ".{places}");
    }
    text
}

/// Columns as wide as their widest cell: the first to the left, figures to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or_default())
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ =
                if index == 0 { write!(line, "{cell:<width$}") } else { write!(line, "  {cell:>width$}") };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn notes(results: &[BenchResult]) -> String {
    let mut text = String::new();
    for source in SOURCES {
        let _ = writeln!(text, "{source}");
    }
    for result in results {
        let Some(anchor) = beside(result) else { continue };
        let kinds = [("seL4", anchor.sel4_note), ("Linux", anchor.linux_note)];
        let said: Vec<_> = kinds
            .iter()
            .filter(|(_, note)| !note.is_empty())
            .map(|(whose, note)| format!("{whose}: {note}"))
            .collect();
        if !said.is_empty() {
            let _ = writeln!(text, "  {}: {}", result.name, said.join("; "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::result::parse;
    use super::*;
    use crate::machine::Accel;

    fn machine() -> Machine {
        Machine {
            smp: 1,
            options: String::new(),
            memory_mib: 512,
            accel: Accel::Tcg,
            cpu: "max".into(),
            icount: true,
            iommu: true,
            devices: None,
            further: Vec::new(),
            com3: None,
            append: String::new(),
        }
    }

    fn of(lines: &[&str]) -> String {
        let results: Vec<_> = lines.iter().map(|line| parse(line).expect("a result")).collect();
        table(&results, &machine())
    }

    #[test]
    fn figures_stand_under_their_headings_beside_those_of_others() {
        let text = of(&[
            "result ipc.call_reply.cross.0 instructions 150 151.5 152 1160 1000",
            "result syscall.null instructions 46 46 46 46 10",
        ]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[2],
            "benchmark               min  median  p99    max      n  reach        seL4  SMP   Linux"
        );
        assert_eq!(
            lines[3],
            "ipc.call_reply.cross.0  150  151.50  152  1,160  1,000    200    ok   429  602  12,531"
        );
        assert_eq!(
            lines[4],
            "syscall.null             46      46   46     46     10     45  OVER    87          359"
        );
        assert!(text.contains("Linux: pipe ping-pong of 1 byte"));
    }

    #[test]
    fn times_are_not_set_beside_instructions() {
        let text = of(&["result syscall.null ns 46 46 46 46 10"]);
        assert!(!text.contains("seL4") && text.starts_with("nanoseconds per operation"), "{text}");
    }

    #[test]
    fn digits_are_grouped_by_three() {
        assert_eq!(figure(0.0), "0");
        assert_eq!(figure(999.0), "999");
        assert_eq!(figure(1000.0), "1,000");
        assert_eq!(figure(1_234_567.125), "1,234,567.12");
    }
}
