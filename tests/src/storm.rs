//! What `storm` shows: works go on while the components below them die, in any way and at any point, and see nothing.

use serde_json::Value;

use crate::harness::{Outcome, Suite, Test};
use crate::tool::{Run, Tool};

/// The storms.
pub const TESTS: &[Test] = &[
    Test::many("storm/block", |tool, filter, suite| every_mode("block", "4M", tool, filter, suite)),
    Test::many("storm/net", |tool, filter, suite| every_mode("net", "512K", tool, filter, suite)),
    Test::many("storm/ledger", |tool, filter, suite| every_mode("ledger", "600", tool, filter, suite)),
    Test::case("storm/a_disk_and_pci_die_by_turns", |tool| {
        let line = "--work block --size 4M --kill virtio-blk,pci --every 60 --kills 8 --mode random";
        clean(tool, &[], line, Some(8))
    }),
    Test::case("storm/without_an_iommu_nothing_is_lost_either", |tool| {
        clean(tool, &["--no-iommu"], "--work block --size 4M --every 60 --kills 4 --mode random", Some(4))
    }),
    Test::case("storm/nor_on_two_cpus", |tool| {
        clean(tool, &["--smp", "2"], "--work net --size 512K --every 60 --kills 4 --mode random", Some(4))
    }),
    Test::case("storm/a_disk_dies_at_its_messages", |tool| at_messages(tool, "--work block --size 1M")),
    Test::case("storm/a_network_device_dies_at_its_messages", |tool| {
        at_messages(tool, "--work net --size 256K")
    }),
    Test::case("storm/the_ledger_dies_at_its_messages", |tool| at_messages(tool, "--work ledger --size 300")),
    Test::case("storm/a_disk_dies_at_the_instructions_of_a_write", |tool| at_instructions(tool, "block")),
    Test::case("storm/the_ledger_dies_at_the_instructions_of_a_transfer", |tool| {
        at_instructions(tool, "ledger")
    }),
    Test::case("storm/the_demo_shows_kills_and_recoveries", |tool| {
        let run = tool.run(["exec", "--timeout", "600", "--", "demo", "4"])?;
        run.ended_with(0)?;
        match ["x virtio-", "+ virtio-", "KiB/s"].iter().find(|part| !run.stdout.contains(**part)) {
            None => Ok(()),
            Some(part) => Err(run.told(&format!("it should have shown {part:?}"))),
        }
    }),
    Test::case("storm/a_component_that_is_not_there_is_named", |tool| {
        let run = storm(tool, &[], "--work block --kill nobody")?;
        run.ended_with(1)?;
        run.complained_of(&["nobody", "no component of that name"])
    }),
    Test::case("storm/init_is_not_to_be_killed", |tool| {
        let run = storm(tool, &[], "--work block --kill init")?;
        run.ended_with(1)?;
        run.complained_of(&["init", "no component of that name"])
    }),
    Test::case("storm/a_disk_that_is_too_small_is_said", |tool| {
        let run = storm(tool, &["--scratch", "1M"], "--work block --size 4M")?;
        run.ended_with(1)?;
        run.complained_of(&["2048 sectors"])
    }),
    Test::case("storm/what_makes_no_sense_is_refused_with_its_usage", |tool| {
        let run = storm(tool, &[], "--work block --mode gently")?;
        run.ended_with(2)?;
        run.complained_of(&["no such way to die", "usage: storm"])
    }),
];

/// Ways to die.
const MODES: [&str; 6] = ["kill", "fault", "hang", "corrupt", "panic", "random"];

/// Keys of the report that scripts rely on.
const KEYS: [&str; 10] = [
    "kills",
    "recoveries",
    "errors",
    "wrong_bytes",
    "lost_bytes",
    "duplicated",
    "throughput_ratio",
    "recovery_p50_ms",
    "recovery_p99_ms",
    "recovery_max_ms",
];

fn storm(tool: &Tool, machine: &[&str], line: &str) -> Result<Run, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    tool.run([&["exec", "--timeout", "600"], machine, &["--", "storm"], &words].concat())
}

/// Runs a storm, which must see nothing of the deaths, and of them as many as are said.
fn clean(tool: &Tool, machine: &[&str], line: &str, kills: Option<u64>) -> Outcome {
    let run = storm(tool, machine, &format!("{line} --json -"))?;
    run.ended_with(0)?;
    let report: Value = serde_json::from_str(&run.stdout).map_err(|error| run.told(&error.to_string()))?;
    let keys: Vec<&String> = report.as_object().map(|object| object.keys().collect()).unwrap_or_default();
    if keys.len() != KEYS.len() || KEYS.iter().any(|key| report[key].as_f64().is_none()) {
        return Err(run.told("the report has other keys than those that scripts rely on"));
    }
    let died = report["kills"].as_u64();
    if kills.is_some_and(|kills| died != Some(kills)) || died == Some(0) {
        return Err(run.told(&format!("{kills:?} were to die")));
    }
    Ok(())
}

fn every_mode(work: &str, size: &str, tool: &Tool, filter: Option<&str>, suite: &mut Suite) {
    let kills = if tool.long() { 200 } else { 4 };
    for mode in MODES.into_iter().filter(|mode| filter.is_none_or(|filter| mode.contains(filter))) {
        let line = format!("--work {work} --size {size} --every 60 --kills {kills} --mode {mode}");
        suite.record(mode, clean(tool, &[], &line, Some(kills)));
    }
}

/// Dies at the first 1,000 messages of a life: at each of them, or at some.
fn at_messages(tool: &Tool, work: &str) -> Outcome {
    if tool.long() {
        return clean(tool, &[], &format!("{work} --at-message 1-1000 --mode random"), Some(1000));
    }
    clean(tool, &[], &format!("{work} --at-message 1-1000 --sample 30 --seed 5 --mode random"), Some(30))
}

/// Dies at the instructions of one request's way: at each of them, or at 500.
fn at_instructions(tool: &Tool, work: &str) -> Outcome {
    let line = format!("--work {work} --at-instruction 0-");
    if tool.long() {
        return clean(tool, &["--icount"], &line, None);
    }
    clean(tool, &["--icount"], &format!("{line} --sample 500 --seed 7"), Some(500))
}
