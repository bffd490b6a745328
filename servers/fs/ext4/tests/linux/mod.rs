//! Linux's own tools for ext4 (e2fsprogs), as judges.
#![allow(dead_code)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

static ZEROS: [u8; 16384] = [0; 16384];
static FILES: AtomicU64 = AtomicU64::new(0);

/// A tool of e2fsprogs, wherever the distribution puts it.
pub fn tool(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/sbin", "/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("{name} was not found: install the package e2fsprogs"))
}

/// A file that is gone when dropped; on a file system in memory where there is one.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let memory = Path::new("/dev/shm");
        let writable = memory.is_dir() && !memory.metadata().is_ok_and(|m| m.permissions().readonly());
        let folder = if writable { memory.to_path_buf() } else { std::env::temp_dir() };
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        Scratch(folder.join(format!("skink-ext4-{}-{number}-{name}", std::process::id())))
    }

    pub fn holding(name: &str, bytes: &[u8]) -> Self {
        let scratch = Self::new(name);
        write_sparse(&scratch.0, bytes);
        scratch
    }

    pub fn read(&self) -> Vec<u8> {
        std::fs::read(&self.0).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may be a file or a folder, and a test that failed may not have made it.
        if let Err(error) = std::fs::remove_file(&self.0).or_else(|_| std::fs::remove_dir_all(&self.0))
            && error.kind() != std::io::ErrorKind::NotFound
        {
            eprintln!("{} is left behind: {error}", self.0.display());
        }
    }
}

/// Writes a file, leaving out pages of zeros.
fn write_sparse(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::create(path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    let mut at = 0;
    while at < bytes.len() {
        let end = bytes.len().min(at + 16384);
        if bytes[at..end] != ZEROS[..end - at] {
            file.write_all_at(&bytes[at..end], at as u64).unwrap();
        }
        at = end;
    }
}

/// Runs a tool; answers what it said.
pub fn run(name: &str, arguments: &[&str]) -> Output {
    Command::new(tool(name)).args(arguments).stdin(Stdio::null()).output().unwrap()
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// An image made by mke2fs with the defaults for ext4 (unless `-t` names another) and `options`.
pub fn make_image(megabytes: u64, options: &[&str]) -> Vec<u8> {
    let file = Scratch::new("made");
    std::fs::File::create(&file.0).unwrap().set_len(megabytes << 20).unwrap();
    let path = file.0.to_str().unwrap().to_owned();
    let kind: &[&str] = if options.contains(&"-t") { &[] } else { &["-t", "ext4"] };
    let arguments: Vec<&str> = [&["-q", "-F"], kind, options, &[&path]].concat();
    let output = run("mke2fs", &arguments);
    assert!(output.status.success(), "mke2fs: {}", text(&output));
    file.read()
}

/// What a read-only check of a file system image says: `Ok` when it is clean.
pub fn check_file(path: &Path) -> Result<(), String> {
    let output = run("e2fsck", &["-fn", path.to_str().unwrap()]);
    if output.status.success() { Ok(()) } else { Err(text(&output)) }
}

/// Fails unless Linux's check finds the image clean.
pub fn assert_clean(image: &[u8], what: &str) {
    let file = Scratch::holding("check", image);
    if let Err(said) = check_file(&file.0) {
        if let Some(keep) = std::env::var_os("SKINK_KEEP") {
            std::fs::copy(&file.0, keep).unwrap();
        }
        panic!("{what}: e2fsck says\n{said}");
    }
}

/// The image after Linux's tool replayed its journal, and did nothing else: `-f` beside `journal_only` would repair
/// whatever the replay left wrong, and hide it.
pub fn replay(image: &[u8]) -> Result<Vec<u8>, String> {
    replay_and_check(image, |_| false)
}

/// Like [`replay`], and checks the result where it is if `ready` says that nothing else is left to do.
pub fn replay_and_check(image: &[u8], ready: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>, String> {
    let file = Scratch::holding("replay", image);
    let output = run("e2fsck", &["-y", "-E", "journal_only", file.0.to_str().unwrap()]);
    // 1: something was changed, as asked for.
    if !matches!(output.status.code(), Some(0 | 1)) {
        return Err(text(&output));
    }
    let bytes = file.read();
    if ready(&bytes) {
        check_file(&file.0)?;
    }
    Ok(bytes)
}

/// Runs commands in debugfs, on a file; answers what it printed.
pub fn debugfs(path: &Path, writing: bool, commands: &str) -> String {
    let mut command = Command::new(tool("debugfs"));
    if writing {
        command.arg("-w");
    }
    let mut child = command
        .args(["-f", "-"])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    text(&child.wait_with_output().unwrap())
}

/// A file's content as debugfs reads it.
pub fn dump(image: &[u8], inode: u32) -> Vec<u8> {
    let file = Scratch::holding("image", image);
    let out = Scratch::new("dump");
    debugfs(&file.0, false, &format!("dump <{inode}> {}\n", out.0.display()));
    out.read()
}
