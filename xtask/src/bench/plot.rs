//! The results as bar charts (SVG): ours, seL4's and Linux's side by side.
//!
//! Figures reach from tens to tens of thousands, so the axis is logarithmic; each bar says its figure.

use std::fmt::Write as _;

use super::anchors::{Anchor, SOURCES};
use super::result::{BenchResult, Unit};
use super::table::figure;

/// A finished chart.
pub struct Chart {
    /// The file it goes into.
    pub file_name: &'static str,
    /// Its text.
    pub svg: String,
}

const WIDTH: f64 = 900.0;
const LEFT: f64 = 250.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 88.0;
const BAR: f64 = 15.0;
const GAP: f64 = 16.0;
const FOOT: f64 = 84.0;

/// Whose figure a bar shows, and its colour (told apart by those who see no red or green, too).
const OURS: (&str, &str) = ("Skink", "#0072b2");
const SEL4: (&str, &str) = ("seL4", "#e69f00");
const SEL4_SMP: (&str, &str) = ("seL4, SMP build", "#f5cf7f");
const LINUX: (&str, &str) = ("Linux", "#999999");

/// The charts of these results: message passing, and the rest of the kernel.
pub fn charts(results: &[BenchResult]) -> Vec<Chart> {
    // (Ratios have no place on an axis of costs.)
    let costs = results.iter().filter(|result| result.unit != Unit::Times);
    let (ipc, kernel): (Vec<_>, Vec<_>) = costs.partition(|result| result.name.starts_with("ipc."));
    [("ipc.svg", "Message passing", ipc), ("kernel.svg", "Kernel operations", kernel)]
        .into_iter()
        .filter(|(_, _, results)| !results.is_empty())
        .map(|(file_name, title, results)| Chart { file_name, svg: chart(title, &results) })
        .collect()
}

struct Bar {
    colour: &'static str,
    value: f64,
}

fn bars(result: &BenchResult) -> Vec<Bar> {
    let anchor = (result.unit == Unit::Instructions).then(|| Anchor::of(&result.name)).flatten();
    let other = |(_, colour), value: Option<u32>| value.map(|value| Bar { colour, value: f64::from(value) });
    let mut bars = vec![Bar { colour: OURS.1, value: result.median }];
    bars.extend(other(SEL4, anchor.and_then(|anchor| anchor.sel4)));
    bars.extend(other(SEL4_SMP, anchor.and_then(|anchor| anchor.sel4_smp)));
    bars.extend(other(LINUX, anchor.and_then(|anchor| anchor.linux)));
    bars
}

/// A logarithmic axis over whole decades.
struct Axis {
    first: i32,
    last: i32,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min).max(1.0);
        let greatest = values.fold(1.0, f64::max);
        let mut first = 0;
        while 10f64.powi(first + 1) <= least {
            first += 1;
        }
        let mut last = first + 1;
        while 10f64.powi(last) < greatest {
            last += 1;
        }
        Axis { first, last }
    }

    fn x(&self, value: f64) -> f64 {
        let share = (value.max(1.0).log10() - f64::from(self.first)) / f64::from(self.last - self.first);
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }
}

fn chart(title: &str, results: &[&BenchResult]) -> String {
    let groups: Vec<_> = results.iter().map(|result| (result, bars(result))).collect();
    let axis = Axis::over(groups.iter().flat_map(|(_, bars)| bars.iter().map(|bar| bar.value)));
    let group_heights = groups.iter().map(|(_, bars)| BAR * bars.len() as f64 + GAP);
    let bottom = TOP + group_heights.sum::<f64>();
    let unit = results.first().map_or("", |result| match result.unit {
        Unit::Nanoseconds => "nanoseconds",
        other => other.name(),
    });
    let height = bottom + FOOT;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    text(&mut svg, (20.0, 30.0), "font-size=\"18\" font-weight=\"bold\"", title);
    let compared = groups.iter().any(|(_, bars)| bars.len() > 1);
    legend(&mut svg, compared);
    grid(&mut svg, &axis, bottom);
    let mut y = TOP + GAP / 2.0;
    for (result, bars) in &groups {
        let middle = y + BAR * bars.len() as f64 / 2.0 + 4.5;
        text(&mut svg, (LEFT - 10.0, middle), "text-anchor=\"end\"", &result.name);
        for bar in bars {
            let end = axis.x(bar.value).max(LEFT + 1.0);
            let _ = writeln!(
                svg,
                "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\"/>",
                end - LEFT,
                BAR - 1.0,
                bar.colour
            );
            text(&mut svg, (end + 5.0, y + BAR - 3.5), "font-size=\"12\"", &figure(bar.value));
            y += BAR;
        }
        y += GAP;
    }
    let label = format!("{unit} per operation, median (logarithmic: less is better)");
    text(&mut svg, ((LEFT + WIDTH - RIGHT) / 2.0, bottom + 38.0), "text-anchor=\"middle\"", &label);
    if compared {
        for (index, source) in SOURCES.iter().enumerate() {
            let place = (20.0, bottom + 60.0 + 15.0 * index as f64);
            text(&mut svg, place, "font-size=\"11\" fill=\"#555555\"", source);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn legend(svg: &mut String, compared: bool) {
    let entries: &[_] = if compared { &[OURS, SEL4, SEL4_SMP, LINUX] } else { &[OURS] };
    let mut x = LEFT;
    for (name, colour) in entries {
        let _ = writeln!(svg, "<rect x=\"{x}\" y=\"49\" width=\"14\" height=\"14\" fill=\"{colour}\"/>");
        text(svg, (x + 20.0, 61.0), "", name);
        x += 52.0 + 8.0 * name.len() as f64;
    }
}

/// Lines at 1, 2 and 5 of each decade, labelled below as far as there is room.
fn grid(svg: &mut String, axis: &Axis, bottom: f64) {
    for decade in axis.first..=axis.last {
        for step in [1.0, 2.0, 5.0] {
            let value = step * 10f64.powi(decade);
            if decade == axis.last && step > 1.0 {
                break;
            }
            let x = axis.x(value);
            let colour = if step == 1.0 { "#bbbbbb" } else { "#e8e8e8" };
            let _ = writeln!(
                svg,
                "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"{colour}\"/>"
            );
            if step == 1.0 || axis.last - axis.first <= 3 {
                text(svg, (x, bottom + 16.0), "text-anchor=\"middle\" font-size=\"12\"", &figure(value));
            }
        }
    }
}

fn text(svg: &mut String, (x, y): (f64, f64), attributes: &str, content: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{content}</text>");
}

#[cfg(test)]
mod tests {
    use super::super::result::parse;
    use super::*;

    fn drawn(lines: &[&str]) -> Vec<Chart> {
        charts(&lines.iter().map(|line| parse(line).expect("a result")).collect::<Vec<_>>())
    }

    #[test]
    fn message_passing_and_the_rest_are_charts_of_their_own() {
        let charts = drawn(&[
            "result syscall.null instructions 40 40 40 40 9",
            "result ipc.call_reply.cross.0 instructions 150 150 150 150 9",
        ]);
        assert_eq!(charts.iter().map(|chart| chart.file_name).collect::<Vec<_>>(), ["ipc.svg", "kernel.svg"]);
    }

    #[test]
    fn every_figure_of_ours_and_theirs_is_written_beside_its_bar() {
        let svg = &drawn(&["result ipc.call_reply.cross.0 instructions 150 151 152 153 9"])[0].svg;
        for part in
            ["ipc.call_reply.cross.0", ">151<", ">429<", ">602<", ">12,531<", "instructions per operation"]
        {
            assert!(svg.contains(part), "{part}");
        }
    }

    #[test]
    fn times_stand_alone() {
        let svg = &drawn(&["result syscall.null ns 150 151 152 153 9"])[0].svg;
        assert!(!svg.contains("seL4") && svg.contains("nanoseconds"));
    }

    #[test]
    fn the_axis_covers_all_values_by_whole_decades() {
        let axis = Axis::over([45.0, 12_531.0].into_iter());
        assert_eq!((axis.first, axis.last), (1, 5));
        assert!(axis.x(10.0) >= LEFT && axis.x(100_000.0) <= WIDTH - RIGHT);
        let one = Axis::over([7.0].into_iter());
        assert_eq!((one.first, one.last), (0, 1));
    }

    #[test]
    fn text_is_escaped() {
        let mut svg = String::new();
        text(&mut svg, (0.0, 0.0), "", "<a & b>");
        assert!(svg.contains("&lt;a &amp; b&gt;"));
    }
}
