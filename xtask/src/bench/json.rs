//! The results as JSON, with all that one needs to get them again.

use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

use super::result::BenchResult;
use crate::hosttools::QEMU;
use crate::machine::Machine;
use crate::workspace;

#[derive(Serialize)]
struct Document<'a> {
    machine: MachineRecord<'a>,
    commit: String,
    results: &'a [BenchResult],
}

#[derive(Serialize)]
struct MachineRecord<'a> {
    host_cpu: String,
    qemu: String,
    accel: &'static str,
    cpu: &'a str,
    smp: u8,
    memory_mib: u32,
    icount: bool,
}

/// The document of one run.
pub fn document(results: &[BenchResult], machine: &Machine) -> Result<String> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let document = Document {
        machine: MachineRecord {
            host_cpu: model(&cpuinfo),
            qemu: version(&output(Command::new(QEMU.program).arg("--version")).unwrap_or_default()),
            accel: machine.accel.name(),
            cpu: &machine.cpu,
            smp: machine.smp,
            memory_mib: machine.memory_mib,
            icount: machine.icount,
        },
        commit: commit(),
        results,
    };
    let mut text = serde_json::to_string_pretty(&document).context("the results make no JSON")?;
    text.push('\n');
    Ok(text)
}

fn model(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    line.map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':'])).to_owned()
}

/// The version in the first line of `qemu --version`.
fn version(text: &str) -> String {
    let line = text.lines().next().unwrap_or("unknown");
    line.strip_prefix("QEMU emulator version ").unwrap_or(line).to_owned()
}

/// The commit this was built from, with `-dirty` where files differ from it.
fn commit() -> String {
    let git = |arguments: &[&str]| output(Command::new("git").args(arguments).current_dir(workspace::root()));
    let Some(commit) = git(&["rev-parse", "HEAD"]) else { return "unknown".to_owned() };
    let dirty = git(&["status", "--porcelain"]).is_some_and(|changes| !changes.trim().is_empty());
    format!("{}{}", commit.trim(), if dirty { "-dirty" } else { "" })
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

#[cfg(test)]
mod tests {
    use super::super::result::parse;
    use super::*;
    use crate::machine::Accel;

    #[test]
    fn the_document_names_machine_commit_and_results() {
        let machine = Machine {
            smp: 1,
            options: String::new(),
            memory_mib: 512,
            accel: Accel::Tcg,
            cpu: "max,-erms,-fsrm".into(),
            icount: true,
            iommu: true,
            devices: None,
            further: Vec::new(),
            com3: None,
            append: String::new(),
        };
        let results = [parse("result syscall.null instructions 40 40 40.5 41 9").expect("a result")];
        let text = document(&results, &machine).expect("JSON");
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["machine"]["accel"], "tcg");
        assert_eq!(value["machine"]["icount"], true);
        assert_eq!(value["results"][0]["name"], "syscall.null");
        assert_eq!(value["results"][0]["p99"], 40.5);
        assert!(value["commit"].is_string());
    }

    #[test]
    fn cpu_and_qemu_are_named_as_they_name_themselves() {
        assert_eq!(model("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n"), "Some CPU @ 2 GHz");
        assert_eq!(model(""), "unknown");
        assert_eq!(version("QEMU emulator version 7.2.22 (Debian)\nCopyright"), "7.2.22 (Debian)");
    }
}
