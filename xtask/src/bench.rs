//! `bench`: measure in the guest, set beside what others reach.

mod anchors;
mod json;
mod plot;
mod result;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::cli::{GuestOptions, Limit, STATUS_FAILED};
use crate::exec::{self, Outcome, Task};
use crate::machine::{Accel, Machine};
use crate::workspace;

pub use anchors::{ANCHORS, Anchor};
pub use result::{BenchResult, Unit};

/// Options of `bench`.
#[derive(Debug, Args)]
pub struct BenchOptions {
    /// The machine and what it boots.
    #[command(flatten)]
    pub guest: GuestOptions,
    /// How long it may run.
    #[command(flatten)]
    pub limit: Limit,
    /// Write the results, with machine and commit, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw the results beside seL4's and Linux's, as SVG files in a folder
    #[arg(long, value_name = "DIR")]
    pub plot: Option<PathBuf>,
    /// Fail when a figure is beyond its bound (bounds are instructions: needs --icount)
    #[arg(long, requires = "icount")]
    pub check: bool,
    /// Print the kernel log (to stderr) as it comes
    #[arg(long, short)]
    pub verbose: bool,
    /// Benchmarks or the beginnings of their names; `ipc` is the whole kernel suite, `block` and `net` are measured with
    /// their drivers [default: all of these]
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
}

/// The command `bench`.
pub fn bench(options: &BenchOptions) -> Result<u8> {
    let mut results = Vec::new();
    for names in suites(&options.names) {
        let guest = guest(options, &names);
        let machine = Machine::new(&guest, 1)?;
        let (outcome, figures) = measure(options, &guest, &machine, &names)?;
        if !figures.is_empty() {
            print!("{}", table::table(&figures, &machine));
        }
        results.extend(figures);
        if outcome != Outcome::Exited(0) {
            eprintln!("skink: the benchmark program did not end well: its figures are not to be trusted");
            return Ok(outcome.status());
        }
    }
    if results.is_empty() {
        bail!("nothing was measured: is there a benchmark called {}?", options.names.join(" or "));
    }
    if let Some(file) = &options.json {
        let machine = Machine::new(&guest(options, &options.names), 1)?;
        let text = json::document(&results, &machine)?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if let Some(folder) = &options.plot {
        draw(&results, folder)?;
    }
    if options.check && !within_bounds(&results, &options.names) {
        return Ok(STATUS_FAILED);
    }
    Ok(0)
}

/// What is measured with its driver, and so needs devices: the beginnings of the names.
const WITH_DRIVERS: [&str; 2] = ["block", "net"];

/// What one boot measures, for each boot. Without names that is everything: the kernel alone, then disk and network with
/// their drivers.
fn suites(names: &[String]) -> Vec<Vec<String>> {
    if names.is_empty() {
        return vec![vec!["ipc".to_owned()], WITH_DRIVERS.map(str::to_owned).to_vec()];
    }
    vec![names.to_vec()]
}

/// Boots and measures.
fn measure(
    options: &BenchOptions,
    guest: &GuestOptions,
    machine: &Machine,
    names: &[String],
) -> Result<(Outcome, Vec<BenchResult>)> {
    let mut command = vec!["bench".to_owned(), "--unit".to_owned(), unit(machine).name().to_owned()];
    command.extend(names.iter().cloned());
    let task = Task {
        options: guest,
        limit: options.limit,
        command: &command,
        stdin: false,
        verbose: options.verbose,
    };
    let mut results = result::Collector::default();
    let outcome = exec::run(&task, machine, &mut results)?;
    Ok((outcome, results.finish()))
}

/// The machine and what it boots. The kernel is measured alone, unless the user says otherwise: devices answer when
/// the host gets round to it, and figures would no longer be the same from run to run.
fn guest(options: &BenchOptions, names: &[String]) -> GuestOptions {
    let mut guest = options.guest.clone();
    let with_drivers = names.iter().any(|name| WITH_DRIVERS.contains(&name.as_str()));
    if !with_drivers && guest.manifest.is_none() && guest.disk.is_none() {
        guest.manifest = Some(workspace::root().join("tests/kernel.manifest"));
        guest.no_devices = true;
    }
    guest
}

/// What a machine can measure in: instructions where virtual time counts them, cycles on hardware, else time.
fn unit(machine: &Machine) -> Unit {
    match (machine.icount, machine.accel) {
        (true, _) => Unit::Instructions,
        (false, Accel::Kvm) => Unit::Cycles,
        (false, Accel::Tcg) => Unit::Nanoseconds,
    }
}

fn draw(results: &[BenchResult], folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for chart in plot::charts(results) {
        let file = folder.join(chart.file_name);
        std::fs::write(&file, chart.svg).with_context(|| format!("cannot write {}", file.display()))?;
        eprintln!("skink: wrote {}", file.display());
    }
    Ok(())
}

/// Whether every figure that has a bound keeps it, and none is missing. Says which do not.
fn within_bounds(results: &[BenchResult], names: &[String]) -> bool {
    let complaints: Vec<_> = ANCHORS.iter().filter_map(|anchor| complaint(anchor, results, names)).collect();
    for complaint in &complaints {
        eprintln!("skink: {complaint}");
    }
    complaints.is_empty()
}

fn complaint(anchor: &Anchor, results: &[BenchResult], names: &[String]) -> Option<String> {
    let reach = anchor.reach?;
    match results.iter().find(|result| result.name == anchor.name) {
        Some(result) if result.median <= f64::from(reach) => None,
        Some(result) => Some(format!("{} takes {}, more than its bound {reach}", anchor.name, result.median)),
        None if was_asked_for(anchor.name, names) => Some(format!("{} was not measured", anchor.name)),
        None => None,
    }
}

fn was_asked_for(benchmark: &str, names: &[String]) -> bool {
    names.is_empty() || names.iter().any(|name| name == "ipc" || benchmark.starts_with(name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::Output;
    use clap::Parser;

    fn results(text: &str) -> Vec<BenchResult> {
        let mut collector = result::Collector::default();
        collector.stdout(text.as_bytes()).expect("taken");
        collector.finish()
    }

    fn anchor(name: &str) -> &'static Anchor {
        ANCHORS.iter().find(|anchor| anchor.name == name).expect("known")
    }

    #[test]
    fn the_kernel_is_measured_alone_and_drivers_with_their_devices() {
        let alone = |arguments: &[&str]| {
            let words = ["skink", "bench"].iter().chain(arguments);
            match crate::cli::Cli::parse_from(words).command() {
                crate::cli::Command::Bench(options) => guest(&options, &options.names).no_devices,
                other => panic!("{other:?}"),
            }
        };
        assert!(alone(&[]) && alone(&["ipc"]) && alone(&["syscall.null"]));
        assert!(!alone(&["block"]) && !alone(&["ipc", "net"]) && !alone(&["--manifest", "m", "ipc"]));
    }

    #[test]
    fn without_names_everything_is_measured() {
        let all = suites(&[]).concat();
        assert_eq!(all, ["ipc", "block", "net"]);
        assert_eq!(suites(&["net".into()]), [["net"]]);
    }

    #[test]
    fn a_figure_beyond_its_bound_is_told_and_one_at_it_is_not() {
        let null = anchor("syscall.null");
        let at = results("result syscall.null instructions 45 45 45 45 10\n");
        assert_eq!(complaint(null, &at, &[]), None);
        let beyond = results("result syscall.null instructions 45 45.01 46 46 10\n");
        assert!(complaint(null, &beyond, &[]).is_some());
    }

    #[test]
    fn a_bounded_figure_that_was_asked_for_must_be_there() {
        let null = anchor("syscall.null");
        assert!(complaint(null, &[], &["ipc".into()]).is_some());
        assert!(complaint(null, &[], &["syscall".into()]).is_some());
        assert!(complaint(null, &[], &[]).is_some());
        assert_eq!(complaint(null, &[], &["sched".into()]), None);
    }

    #[test]
    fn a_figure_without_a_bound_has_nothing_to_keep() {
        let unbounded = anchor("notify.ping_pong");
        assert_eq!(complaint(unbounded, &[], &[]), None);
    }
}
