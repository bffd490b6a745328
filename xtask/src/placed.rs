//! Where the boot archive lies in the guest's memory.
//!
//! QEMU's `-initrd` puts it at the top of the memory below 4 GiB, where firmware keeps its tables: with more
//! devices it needs more room there, and reserves what holds the archive. So the archive is placed just above
//! the kernel instead, by QEMU's generic loader, and the command line tells the kernel where.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::machine::quoted;

/// Where the archive begins: above the kernel's image, which begins at 1 MiB (QEMU refuses an overlap).
const START: u64 = 4 << 20;
/// Memory below 4 GiB that every guest of at least this size has.
const LOW_MEMORY: u64 = 2 << 30;
/// What is left to firmware at the top of that memory, and to init.
const LEFT: u64 = 8 << 20;

/// Bytes that a guest of `memory_mib` MiB has room for.
pub fn room(memory_mib: u32) -> u64 {
    (u64::from(memory_mib) << 20).min(LOW_MEMORY) - START - LEFT
}

/// The complaint about a file that makes the archive too large.
pub fn too_large(path: &Path, memory_mib: u32) -> String {
    format!(
        "{} makes the boot archive too large: this guest has room for {} MiB (2036 MiB at most); \
         raise --memory or --add less",
        path.display(),
        room(memory_mib) >> 20
    )
}

/// A boot archive, and where it goes.
#[derive(Debug)]
pub struct Placed<'a> {
    path: &'a Path,
    size: u64,
}

impl<'a> Placed<'a> {
    /// Places the archive at `path` in a guest of `memory_mib` MiB.
    pub fn new(path: &'a Path, memory_mib: u32) -> Result<Self> {
        let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        let size = metadata.len();
        if size > room(memory_mib) {
            bail!(too_large(path, memory_mib));
        }
        Ok(Placed { path, size })
    }

    /// The word of the kernel's command line that says where it is.
    pub fn word(&self) -> String {
        format!("archive={START}+{}", self.size)
    }

    /// The device of QEMU's that puts it there.
    pub fn loader(&self) -> String {
        format!("loader,file={},addr={START:#x},force-raw=on", quoted(self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(size: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(size).expect("sparse");
        file
    }

    #[test]
    fn the_kernel_is_told_where_qemu_puts_the_archive() {
        let file = archive(5_000_001);
        let placed = Placed::new(file.path(), 512).expect("there is room");
        assert_eq!(placed.word(), "archive=4194304+5000001");
        assert!(placed.loader().ends_with(",addr=0x400000,force-raw=on"), "{}", placed.loader());
    }

    #[test]
    fn an_archive_that_does_not_fit_is_refused() {
        let file = archive(20 << 20);
        assert!(Placed::new(file.path(), 32).is_ok());
        let file = archive((20 << 20) + 1);
        let error = Placed::new(file.path(), 32).expect_err("too large").to_string();
        assert!(error.contains("20 MiB") && error.contains("--memory"), "{error}");
        let file = archive(3 << 30);
        assert!(Placed::new(file.path(), 1 << 20).is_err());
    }
}
