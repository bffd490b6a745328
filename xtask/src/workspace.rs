//! Where things lie in the workspace.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The root of the workspace this tool was built from.
pub fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map(PathBuf::from)
        .filter(|folder| folder.ends_with("xtask"))
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    package.parent().map(Path::to_path_buf).unwrap_or(package)
}

/// Where everything is built: where cargo was told to, else in the workspace.
pub fn target() -> PathBuf {
    target_of(std::env::var_os("CARGO_TARGET_DIR"))
}

/// Cargo takes a relative path from where it was started, which is where the tool is started, too.
fn target_of(told: Option<OsString>) -> PathBuf {
    let told = told.filter(|told| !told.is_empty());
    told.and_then(|told| std::path::absolute(told).ok()).unwrap_or_else(|| root().join("target"))
}

/// Where the guest programs are built, apart from the host's, so that neither waits for the other.
pub fn guest_target() -> PathBuf {
    target().join("guest")
}

/// The boot archive of programs alone, kept from run to run.
pub fn boot_archive() -> PathBuf {
    guest_target().join("boot.cpio")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_built_where_cargo_was_told_to_build() {
        assert_eq!(target_of(Some("/elsewhere".into())), Path::new("/elsewhere"));
        assert!(target_of(Some("here".into())).is_absolute());
        for not_told in [None, Some(OsString::new())] {
            assert_eq!(target_of(not_told), root().join("target"));
        }
    }
}
