//! Linux itself as a judge: an image mounted through a loop device, where this process may do that.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::linux::Scratch;

/// A mounted image; unmounted when dropped.
pub struct Mounted {
    pub folder: PathBuf,
    _holder: Scratch,
}

impl Mounted {
    /// Mounts an image file, or answers `None` where this process must not mount.
    pub fn new(image: &Path, kind: &str) -> Option<Self> {
        let holder = Scratch::new("mounted");
        let folder = holder.0.clone();
        std::fs::create_dir(&folder).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", kind, "-o", "loop"]).arg(image).arg(&folder).stderr(Stdio::null());
        if mount.status().is_ok_and(|status| status.success()) {
            return Some(Mounted { folder, _holder: holder });
        }
        eprintln!("no loop mount is possible here: the kernel is not asked");
        None
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted =
            Command::new("umount").arg(&self.folder).status().is_ok_and(|status| status.success());
        assert!(unmounted || std::thread::panicking(), "{} cannot be unmounted", self.folder.display());
    }
}
