//! Where things lie in the workspace.

use std::path::{Path, PathBuf};

/// The root of the workspace this tool was built from.
pub fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map(PathBuf::from)
        .filter(|folder| folder.ends_with("xtask"))
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    package.parent().map(Path::to_path_buf).unwrap_or(package)
}

/// Where the guest programs are built, apart from the host's, so that neither waits for the other.
pub fn guest_target() -> PathBuf {
    root().join("target").join("guest")
}

/// The boot archive of programs alone, kept from run to run.
pub fn boot_archive() -> PathBuf {
    guest_target().join("boot.cpio")
}
