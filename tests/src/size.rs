//! How large the kernel is: what has to be right for everything else to be.

use std::fs;
use std::path::Path;

use xtask::workspace;

use crate::harness::{Outcome, Test};

/// The size, held.
pub const TESTS: &[Test] = &[
    Test::case("size/the_kernel_has_at_most_8400_lines", |_| ceiling()),
    Test::case("size/lines_are_counted_as_the_caveats_say", |_| counting()),
];

/// Lines of the kernel, at most.
const CEILING: usize = 8_400;
/// Folders of what only tests and checks the kernel.
const NOT_COUNTED: &str = "tests";

fn ceiling() -> Outcome {
    let lines = lines_in(&workspace::root().join("microkernel")).map_err(|error| error.to_string())?;
    println!("the kernel has {lines} lines");
    // (Far fewer would mean that they were not found.)
    match lines {
        CEILING.. => Err(format!("{lines} lines, more than {CEILING}: see docs/caveats.md, Size")),
        0..4_000 => Err(format!("only {lines} lines were found")),
        _ => Ok(()),
    }
}

/// Lines of the .rs and .s files in and below a folder.
fn lines_in(folder: &Path) -> std::io::Result<usize> {
    let mut lines = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with(NOT_COUNTED) {
            lines += lines_in(&path)?;
        } else if path.extension().is_some_and(|kind| kind == "rs" || kind == "s") {
            lines += fs::read_to_string(&path)?.lines().filter(|line| counts(line)).count();
        }
    }
    Ok(lines)
}

/// Whether a line is neither empty nor a comment alone.
fn counts(line: &str) -> bool {
    let line = line.trim_start();
    !line.is_empty() && !line.starts_with("//")
}

fn counting() -> Outcome {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, text))
    };
    let counted = write("a.rs", "//! Module.\n\n#[inline]\nfn a() {} // said\n    // alone\n")
        .and_then(|()| write("asm/b.s", "b:  ret\n\n// c\n"))
        .and_then(|()| write("tests/c.rs", "fn c() {}\n"))
        .and_then(|()| write("d.toml", "[d]\n"))
        .and_then(|()| lines_in(folder.path()));
    match counted {
        Ok(3) => Ok(()),
        other => Err(format!("{other:?} instead of 3")),
    }
}
