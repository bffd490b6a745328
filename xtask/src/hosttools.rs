//! Programs of the host that the tool needs: found, or installed where that may be done, or named.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// A program of the host and the Debian package it comes in.
#[derive(Debug, Clone, Copy)]
pub struct HostTool {
    /// The program's name.
    pub program: &'static str,
    /// The package that has it.
    pub package: &'static str,
}

/// The emulator.
pub const QEMU: HostTool = HostTool { program: "qemu-system-x86_64", package: "qemu-system-x86" };
/// The debugger.
pub const GDB: HostTool = HostTool { program: "gdb", package: "gdb" };

/// Makes and checks ext4 file systems.
pub const E2FSPROGS: HostTool = HostTool { program: "mke2fs", package: "e2fsprogs" };

/// Where programs of the administrator's lie, which not every PATH names.
const SYSTEM_FOLDERS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Sees to it that `tool` is there: installs it as root or with a sudo that asks nothing, and otherwise
/// says what to run.
pub fn ensure(tool: HostTool) -> Result<()> {
    if find(tool.program).is_some() {
        return Ok(());
    }
    let HostTool { program, package } = tool;
    if find("apt-get").is_none() {
        bail!(
            "{program} is missing: install it with this system's package manager (Debian calls it {package})"
        );
    }
    let sudo: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["sudo", "-n"] };
    let by_hand = format!("sudo apt-get update && sudo apt-get install -y --no-install-recommends {package}");
    if !sudo.is_empty() && !succeeds(&["sudo", "-n", "true"]) {
        bail!("{program} is missing: install it with\n    {by_hand}");
    }
    eprintln!("skink: {program} is missing; installing the package {package} with apt-get");
    let apt = |arguments: &[&str]| {
        succeeds(&[sudo, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"], arguments].concat())
    };
    // Package lists may be absent or old; they are fetched only where the first try fails.
    let install = ["install", "-y", "--no-install-recommends", package];
    let installed = apt(&install) || (apt(&["update"]) && apt(&install));
    if !installed || find(program).is_none() {
        bail!("{package} could not be installed: see what apt-get says with\n    {by_hand}");
    }
    Ok(())
}

/// Where a program lies: on the PATH, or among the administrator's.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(SYSTEM_FOLDERS.map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Runs a command whose output belongs on the tool's stderr, if anywhere.
fn succeeds(command: &[&str]) -> bool {
    Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_on_the_path_is_found_and_another_is_not() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-on-any-host").is_none());
    }

    #[test]
    fn a_program_that_is_there_needs_nothing() {
        ensure(HostTool { program: "sh", package: "no-such-package" }).expect("sh is there");
    }
}
