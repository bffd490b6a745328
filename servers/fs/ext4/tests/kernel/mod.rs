//! Linux itself as a judge: an image mounted through a loop device, where this process may do that.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::linux::{self, Scratch};

/// A mounted image; unmounted when dropped.
pub struct Mounted {
    pub folder: PathBuf,
    mounted: bool,
    _holder: Scratch,
}

/// Returns true if this process may mount; says so once if it may not. What the kernel then refuses, it refuses.
pub fn may_mount() -> bool {
    static MAY: OnceLock<bool> = OnceLock::new();
    *MAY.get_or_init(|| {
        let image = Scratch::holding("probe", &linux::make_image(16, &[]));
        let answer = Mounted::try_new(&image.0, "ext4", "ro");
        if let Err(said) = &answer {
            eprintln!("skipped: no loop mount is possible here, the kernel is not asked: {said}");
        }
        answer.is_ok()
    })
}

impl Mounted {
    /// Mounts an image file; answers what the kernel says if it refuses.
    pub fn try_new(image: &Path, kind: &str, options: &str) -> Result<Self, String> {
        let holder = Scratch::new("mounted");
        let folder = holder.0.clone();
        std::fs::create_dir(&folder).unwrap();
        let mut mounted = Mounted { folder, mounted: false, _holder: holder };
        let option = format!("loop,{options}");
        let paths = [image.to_str().unwrap(), mounted.folder.to_str().unwrap()];
        let said = linux::run("mount", &["-t", kind, "-o", &option, paths[0], paths[1]]);
        mounted.mounted = said.status.success();
        if mounted.mounted { Ok(mounted) } else { Err(linux::text(&said)) }
    }

    /// Mounts an image file, or answers `None` where this process must not mount.
    pub fn new(image: &Path, kind: &str) -> Option<Self> {
        may_mount().then(|| {
            Self::try_new(image, kind, "rw").unwrap_or_else(|said| panic!("the kernel refuses: {said}"))
        })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes everything durable.
    pub fn sync(&self) {
        let said = linux::run("sync", &["-f", self.folder.to_str().unwrap()]);
        assert!(said.status.success(), "{}", linux::text(&said));
    }

    fn unmount(&mut self) {
        // Another test's thread that is just starting a tool holds all of our files for a moment.
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.mounted {
            let said = linux::run("umount", &[self.folder.to_str().unwrap()]);
            self.mounted = !said.status.success();
            if self.mounted && Instant::now() >= deadline {
                assert!(std::thread::panicking(), "{}", linux::text(&said));
                return;
            }
            if self.mounted {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.unmount();
    }
}
