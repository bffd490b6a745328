//! Builds the guest's programs with a cargo of their own.

use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::workspace;

/// The guest packages, one a line: kernel, init, and those whose programs go into the boot archive's `bin/`.
const PACKAGES: &str = include_str!("../guests");
/// The cargo profile of guest programs.
pub const PROFILE: &str = "guest";
/// The target of guest programs: the host's own, so that its precompiled core serves.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Compiler flags of guest programs: backtraces follow frame pointers.
pub const RUSTFLAGS: &str = "-Cforce-frame-pointers=yes";

/// A program of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its name in the boot archive.
    pub name: String,
    /// The ELF file with symbols and debug information.
    pub path: PathBuf,
}

/// Everything that was built.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The kernel, which QEMU loads.
    pub kernel: PathBuf,
    /// The root task.
    pub init: PathBuf,
    /// The programs of `bin/`, by name.
    pub programs: Vec<Program>,
}

impl Programs {
    /// The names of all programs, for a person to choose from.
    pub fn names(&self) -> String {
        let names: Vec<_> = self.programs.iter().map(|program| program.name.as_str()).collect();
        names.join(" ")
    }

    /// The ELF file of the component called `name`.
    pub fn find(&self, name: &str) -> Option<&PathBuf> {
        if name == "init" {
            return Some(&self.init);
        }
        self.programs.iter().find(|program| program.name == name).map(|program| &program.path)
    }
}

/// One line of `cargo build --message-format=json`; only what is read here.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    target: Option<Target>,
    package_id: Option<String>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Builds kernel, init and programs, showing cargo's progress on a terminal and one line elsewhere.
pub fn build() -> Result<Programs> {
    let mut cargo = cargo();
    cargo.arg("build").args(["--profile", PROFILE, "--target", TARGET, "--bins"]);
    cargo.arg("--target-dir").arg(workspace::guest_target());
    for package in PACKAGES.lines() {
        cargo.args(["-p", package]);
    }
    cargo.arg("--message-format=json-render-diagnostics");
    cargo.env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS);
    let on_terminal = std::io::stderr().is_terminal();
    cargo.stdout(Stdio::piped()).stderr(if on_terminal { Stdio::inherit() } else { Stdio::piped() });
    if !on_terminal {
        eprintln!("skink: building the guest");
    }
    let mut child = cargo.spawn().with_context(|| format!("cannot start {:?}", cargo.get_program()))?;
    let complaints = child.stderr.take().map(|mut stderr| {
        std::thread::spawn(move || {
            let mut text = String::new();
            // What cannot be read is not shown; cargo's status still tells.
            let _ = stderr.read_to_string(&mut text);
            text
        })
    });
    let messages = BufReader::new(child.stdout.take().context("cargo has no output")?);
    let built = messages
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| serde_json::from_str::<Message>(&line).ok())
        .filter_map(artifact)
        .collect();
    let status = child.wait().context("cannot wait for cargo")?;
    let complaints = complaints.and_then(|reader| reader.join().ok()).unwrap_or_default();
    if !status.success() {
        eprint!("{complaints}");
        bail!("the guest does not build: mend what cargo says above");
    }
    sorted(built)
}

/// A cargo to start from within cargo: what the outer one put into the environment for this tool would
/// otherwise rebuild the guest, or build it wrongly.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_outer_cargo) {
            cargo.env_remove(name);
        }
    }
    cargo.current_dir(workspace::root());
    cargo
}

/// Whether an environment variable steers builds. Those that say how to reach the network, where cargo's
/// files lie and how it writes on the terminal stay.
fn is_outer_cargo(name: &str) -> bool {
    const KEPT: [&str; 7] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        "CARGO_BUILD_JOBS",
    ];
    match name {
        "RUSTFLAGS" | "RUSTDOCFLAGS" | "RUSTC_WORKSPACE_WRAPPER" => true,
        _ => name.starts_with("CARGO") && !KEPT.iter().any(|kept| name.starts_with(kept)),
    }
}

/// The package and the program a message of cargo's tells of, if it does.
fn artifact(message: Message) -> Option<(String, Program)> {
    // A package id ends in `/folder#version`, or in `#name@version` where folder and name differ.
    let id = message.package_id?;
    let (path, fragment) = id.rsplit_once('#')?;
    let package = match fragment.split_once('@') {
        Some((name, _)) => name,
        None => path.rsplit('/').next()?,
    };
    Some((package.to_owned(), Program { name: message.target?.name, path: message.executable? }))
}

fn sorted(built: Vec<(String, Program)>) -> Result<Programs> {
    let (mut kernel, mut init, mut programs) = (None, None, Vec::new());
    for (package, program) in built {
        match package.as_str() {
            "microkernel" => kernel = Some(program.path),
            "init" => init = Some(program.path),
            _ => programs.push(program),
        }
    }
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Programs {
        kernel: kernel.context("package microkernel has no program")?,
        init: init.context("package init has no program")?,
        programs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<(String, Program)> {
        artifact(serde_json::from_str(line).expect("JSON"))
    }

    #[test]
    fn programs_are_taken_from_cargos_messages_whatever_their_folder() {
        let line = |id: &str| {
            format!(
                r#"{{"package_id":"{id}","target":{{"name":"true"}},"executable":"/t/true","fresh":true}}"#
            )
        };
        let program = Program { name: "true".into(), path: "/t/true".into() };
        for id in ["path+file:///s/user/programs#0.1.0", "path+file:///s/user/other#programs@0.1.0"] {
            assert_eq!(read(&line(id)), Some(("programs".into(), program.clone())));
        }
    }

    #[test]
    fn libraries_and_other_messages_are_passed_over() {
        assert_eq!(
            read(r#"{"package_id":"a#b@1","target":{"name":"x"},"executable":null,"reason":"y"}"#),
            None
        );
        assert_eq!(read(r#"{"reason":"build-finished","success":true}"#), None);
    }

    #[test]
    fn a_build_without_a_kernel_is_refused() {
        assert!(sorted(vec![("init".into(), Program { name: "init".into(), path: "i".into() })]).is_err());
    }

    #[test]
    fn the_outer_cargos_settings_are_scrubbed_and_the_users_network_settings_kept() {
        for scrubbed in
            ["CARGO", "CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"]
        {
            assert!(is_outer_cargo(scrubbed), "{scrubbed}");
        }
        for kept in
            ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_HTTP_PROXY", "PATH", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"]
        {
            assert!(!is_outer_cargo(kept), "{kept}");
        }
    }
}
