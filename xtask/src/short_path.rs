//! A folder under a path that fits into a socket's address, which has room for 107 bytes (unix(7)).

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Bytes of a path that a socket's address has room for, without the closing zero.
const ROOM: usize = 107;
/// Bytes of the longest name of a socket in the folder, with the slash before it.
const NAME: usize = 16;

/// A folder, and a path to it that is short enough for sockets in it.
pub struct ShortPath {
    path: PathBuf,
    /// Keeps the descriptor open that a short path in /proc goes by.
    _folder: Option<File>,
}

impl ShortPath {
    /// Returns `folder` itself if its path is short, otherwise a path by the tool's descriptor for it, which holds for
    /// other processes of the same user as long as this lives.
    pub fn to(folder: &Path) -> Result<Self> {
        if folder.as_os_str().len() + NAME <= ROOM {
            return Ok(ShortPath { path: folder.to_owned(), _folder: None });
        }
        let opened = File::open(folder).with_context(|| format!("cannot open {}", folder.display()))?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), opened.as_raw_fd()).into();
        Ok(ShortPath { path, _folder: Some(opened) })
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_short_path_stays_as_it_is() {
        assert_eq!(ShortPath::to(Path::new("/tmp/a")).expect("short").path(), Path::new("/tmp/a"));
    }

    #[test]
    fn sockets_are_made_and_found_in_a_folder_with_a_long_path() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("long".repeat(30));
        std::fs::create_dir(&folder).expect("created");
        assert!(UnixListener::bind(folder.join("com2")).is_err(), "the path should be too long by itself");
        let short = ShortPath::to(&folder).expect("opened");
        let _listener = UnixListener::bind(short.path().join("com2")).expect("bound");
        UnixStream::connect(short.path().join("com2")).expect("connected");
        assert!(folder.join("com2").exists());
    }
}
