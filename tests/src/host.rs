//! The host crates' own tests: unit and property tests, with the logic of kernel and servers among them.

use xtask::{hosttools, workspace};

use crate::harness::{Suite, Test};
use crate::lines::{self, Line};
use crate::tool::{Tool, follow};

/// Every package with a library: its tests run on the host.
pub const TESTS: &[Test] = &[
    Test::many("host/abi", |tool, filter, suite| package("abi", &[], tool, filter, suite)),
    Test::many("host/objects", |tool, filter, suite| package("objects", &[], tool, filter, suite)),
    Test::many("host/firmware", |tool, filter, suite| package("firmware", &[], tool, filter, suite)),
    Test::many("host/block", |tool, filter, suite| package("block", &[], tool, filter, suite)),
    Test::many("host/channel", |tool, filter, suite| package("channel", &[], tool, filter, suite)),
    Test::many("host/ipc", |tool, filter, suite| package("ipc", &[], tool, filter, suite)),
    Test::many("host/ring", |tool, filter, suite| package("ring", &[], tool, filter, suite)),
    Test::many("host/net", |tool, filter, suite| package("net", &[], tool, filter, suite)),
    Test::many("host/proto", |tool, filter, suite| package("proto", &[], tool, filter, suite)),
    Test::many("host/recover", |tool, filter, suite| package("recover", &[], tool, filter, suite)),
    Test::many("host/rt", |tool, filter, suite| package("rt", &[], tool, filter, suite)),
    Test::many("host/stream", |tool, filter, suite| package("stream", &[], tool, filter, suite)),
    Test::many("host/init", |tool, filter, suite| package("init", &[], tool, filter, suite)),
    // Its program is the guest's.
    Test::many("host/ledger", |tool, filter, suite| package("ledger", &["--lib"], tool, filter, suite)),
    Test::many("host/ext4", ext4),
    Test::many("host/edu", |tool, filter, suite| package("edu", &["--lib"], tool, filter, suite)),
    Test::many("host/pci", |tool, filter, suite| package("pci", &["--lib"], tool, filter, suite)),
    Test::many("host/serial", |tool, filter, suite| package("serial", &["--lib"], tool, filter, suite)),
    Test::many("host/uart", |tool, filter, suite| package("uart", &[], tool, filter, suite)),
    Test::many("host/virtio-rng", |tool, filter, suite| {
        package("virtio-rng", &["--lib"], tool, filter, suite)
    }),
    Test::many("host/virtio", |tool, filter, suite| package("virtio", &[], tool, filter, suite)),
    Test::many("host/virtio-blk", |tool, filter, suite| package("virtio-blk", &[], tool, filter, suite)),
    // Their programs are the guest's.
    Test::many("host/virtio-net", |tool, filter, suite| {
        package("virtio-net", &["--lib"], tool, filter, suite)
    }),
    Test::many("host/virtio-console", |tool, filter, suite| {
        package("virtio-console", &["--lib"], tool, filter, suite)
    }),
    Test::many("host/storm", |tool, filter, suite| package("storm", &[], tool, filter, suite)),
    Test::many("host/works", |tool, filter, suite| package("works", &[], tool, filter, suite)),
    Test::many("host/xtask", xtask),
    Test::many("host/tests", |tool, filter, suite| package("tests", &["--lib"], tool, filter, suite)),
];

/// Linux's own tools judge what the file system writes.
fn ext4(tool: &Tool, filter: Option<&str>, suite: &mut Suite) {
    with_e2fsprogs("ext4", &[], tool, filter, suite);
}

/// Linux's own tools make the disk that `--disk` names.
fn xtask(tool: &Tool, filter: Option<&str>, suite: &mut Suite) {
    with_e2fsprogs("xtask", &["--lib"], tool, filter, suite);
}

fn with_e2fsprogs(name: &str, targets: &[&str], tool: &Tool, filter: Option<&str>, suite: &mut Suite) {
    match hosttools::ensure(hosttools::E2FSPROGS) {
        Ok(()) => package(name, targets, tool, filter, suite),
        Err(error) => suite.record("runs", Err(format!("{error:#}"))),
    }
}

/// Runs the tests of one package with a cargo of its own and counts each.
fn package(name: &str, targets: &[&str], tool: &Tool, filter: Option<&str>, suite: &mut Suite) {
    let mut cargo = tool.cargo();
    cargo.args(["test", "--quiet", "--no-fail-fast", "-p", name]).args(targets);
    cargo.arg("--target-dir").arg(workspace::target());
    // The pretty format has a line for each test, which --quiet, meant for cargo, would take away.
    cargo.args(["--", "--format", "pretty"]).args(filter);
    let (mut output, mut failed, mut ignored) = (String::new(), Vec::new(), Vec::new());
    let ended = follow(&mut cargo, |line| {
        match lines::read(line) {
            Line::Passed(test) => suite.record(test, Ok(())),
            Line::Failed(test, _) => failed.push(test.to_owned()),
            Line::Ignored(test) => ignored.push(test.to_owned()),
            Line::Sum { .. } | Line::Other => {}
        }
        output.push_str(line);
        output.push('\n');
    });
    for test in ignored {
        suite.record(&test, Err("it is ignored: mend it, or take it out".to_owned()));
    }
    match ended {
        Ok((status, _)) if status.success() && failed.is_empty() => {}
        Ok((status, complaints)) => {
            let mut reason = format!("cargo test -p {name} ended with {status}\n{output}{complaints}");
            if failed.is_empty() {
                suite.record("runs", Err(reason));
                return;
            }
            // One telling of the whole is enough for all that failed.
            for test in failed {
                suite.record(&test, Err(std::mem::replace(&mut reason, "(as above)".to_owned())));
            }
        }
        Err(error) => suite.record("runs", Err(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn every_library_of_the_workspace_is_tested_here() {
        let mut cargo = xtask::programs::cargo();
        let output = cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).output();
        let metadata: Value =
            serde_json::from_slice(&output.expect("cargo runs").stdout).expect("cargo speaks JSON");
        let is_library = |target: &Value| target["kind"][0] == "lib";
        for package in metadata["packages"].as_array().expect("packages") {
            let name = package["name"].as_str().expect("a name");
            if package["targets"].as_array().expect("targets").iter().any(is_library) {
                let tested = TESTS.iter().any(|test| test.name.strip_prefix("host/") == Some(name));
                assert!(tested, "add {name} to the table in tests/src/host.rs");
            }
        }
    }
}
