//! The devices of the reference machine: what drivers have to drive.
//!
//! Each sits behind a root port of its own (function-level reset exists only there), takes addresses through the
//! IOMMU where there is one, and always has the same place, so that bus addresses stay the same from run to run.
//! A device that nobody drives stays idle and costs the guest nothing but the firmware's look at it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::hosttools;
use crate::machine::quoted;

/// Names of the sockets that QEMU connects to: network frames, the framed protocol, and the log.
pub mod sockets {
    /// Frames of the network device, each with its length before it.
    pub const NET: &str = "net";
    /// The first port of the console device.
    pub const HOST: &str = "host";
    /// The second.
    pub const LOG: &str = "log";
}

/// Bytes of a file system that is made because there was none.
const NEW_DISK: u64 = 256 << 20;
/// The scratch disk's file, in the folder that lasts as long as the guest.
const SCRATCH: &str = "scratch.raw";
/// The first place of a root port on the root bus: what the machine itself has comes before.
const FIRST_PLACE: usize = 4;

/// What a machine has of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devices {
    /// Bytes of the scratch disk, which begins as zeros and goes with the guest.
    pub scratch: u64,
    /// A disk that stays.
    pub disk: Option<PathBuf>,
}

impl Devices {
    /// Makes the files of disks that are not there.
    pub fn make_disks(&self, folder: &Path) -> Result<()> {
        let scratch = folder.join(SCRATCH);
        sparse(&scratch, self.scratch)?;
        match &self.disk {
            Some(disk) if !disk.exists() => make_file_system(disk),
            _ => Ok(()),
        }
    }

    /// QEMU's arguments. The sockets and the scratch disk lie in `folder`; the chardevs of the console's ports are
    /// named like their sockets.
    pub fn arguments(&self, folder: &Path) -> Vec<String> {
        let mut bus = Bus::default();
        // What is written to the scratch disk need not outlive the host.
        bus.add(["-drive", &raw_file("scratch", &folder.join(SCRATCH), "unsafe")]);
        bus.plug(&virtio("virtio-blk-pci,drive=scratch,num-queues=1"));
        let socket = quoted(&folder.join(sockets::NET));
        bus.add(["-netdev", &format!("stream,id=peer,server=off,addr.type=unix,addr.path={socket}")]);
        // Without its ROM, which is the firmware's own network driver.
        bus.plug(&virtio("virtio-net-pci,netdev=peer,mac=52:54:00:73:6b:01,romfile="));
        bus.add(["-object", "rng-builtin,id=entropy"]);
        bus.plug(&virtio("virtio-rng-pci,rng=entropy"));
        bus.plug(&virtio("virtio-serial-pci,id=console,max_ports=4"));
        for (number, socket) in [(1, sockets::HOST), (2, sockets::LOG)] {
            let port = format!("bus=console.0,nr={number},chardev={socket},name=skink.{socket}");
            bus.add(["-device", &format!("virtserialport,{port}")]);
        }
        // One for its driver, and one that the kernel's tests have for themselves. Addresses that it is told to reach
        // are not cut short: the IOMMU is to stop it, not its own mask.
        for _ in 0..2 {
            bus.plug("edu,dma_mask=0xffffffffffffffff");
        }
        if let Some(disk) = &self.disk {
            bus.add(["-drive", &raw_file("disk", disk, "writeback")]);
            bus.plug(&virtio("virtio-blk-pci,drive=disk,num-queues=1"));
        }
        bus.arguments
    }
}

/// QEMU's arguments for what hangs on the root bus.
#[derive(Default)]
struct Bus {
    arguments: Vec<String>,
    ports: usize,
}

impl Bus {
    fn add(&mut self, words: [&str; 2]) {
        self.arguments.extend(words.map(str::to_owned));
    }

    /// Puts a device behind the next root port.
    fn plug(&mut self, device: &str) {
        let (port, place) = (self.ports, FIRST_PLACE + self.ports);
        self.ports += 1;
        self.add([
            "-device",
            &format!("pcie-root-port,id=port{port},chassis={place},addr={place:#x},hotplug=off"),
        ]);
        self.add(["-device", &format!("{device},bus=port{port}")]);
    }
}

/// A modern VirtIO device that takes addresses through the IOMMU.
fn virtio(device: &str) -> String {
    format!("{device},disable-legacy=on,iommu_platform=on")
}

fn raw_file(id: &str, path: &Path, cache: &str) -> String {
    format!("if=none,id={id},format=raw,discard=unmap,cache={cache},file={}", quoted(path))
}

fn sparse(path: &Path, size: u64) -> Result<()> {
    File::create(path)
        .and_then(|file| file.set_len(size))
        .with_context(|| format!("cannot make the disk {}", path.display()))
}

/// Makes an ext4 file system under another name first, so that a half-made one is never taken for one.
fn make_file_system(path: &Path) -> Result<()> {
    hosttools::ensure(hosttools::E2FSPROGS)?;
    let program = hosttools::find(hosttools::E2FSPROGS.program).context("mke2fs has gone")?;
    let mut name =
        path.file_name().with_context(|| format!("{} is no file name", path.display()))?.to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    sparse(&new, NEW_DISK)?;
    eprintln!("skink: making an ext4 file system of {} MiB in {}", NEW_DISK >> 20, path.display());
    let made = Command::new(program)
        .args(["-q", "-F", "-t", "ext4"])
        .arg(&new)
        .stdin(Stdio::null())
        .output()
        .context("cannot start mke2fs")?;
    if !made.status.success() {
        bail!("mke2fs failed: {}", String::from_utf8_lossy(&made.stderr).trim());
    }
    fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(disk: Option<&str>) -> String {
        let devices = Devices { scratch: 1 << 20, disk: disk.map(PathBuf::from) };
        devices.arguments(Path::new("/tmp/a,b")).join(" ")
    }

    #[test]
    fn each_device_is_behind_a_root_port_of_its_own_in_a_fixed_order() {
        let text = arguments(Some("/d"));
        let names =
            ["virtio-blk-pci", "virtio-net-pci", "virtio-rng-pci", "virtio-serial-pci", "edu,", "edu,"];
        let mut rest = text.as_str();
        for (port, name) in names.into_iter().chain(["virtio-blk-pci"]).enumerate() {
            let (_, behind) = rest.split_once(&format!("-device {name}")).expect("in order");
            let device = behind.split(' ').next().expect("the rest of the argument");
            assert!(device.ends_with(&format!("bus=port{port}")), "{name}: {device}");
            rest = behind;
        }
        assert_eq!(text.matches("pcie-root-port").count(), 7);
    }

    #[test]
    fn virtio_devices_are_modern_and_go_through_the_iommu() {
        let text = arguments(None);
        let modern = text.split(' ').filter(|argument| argument.starts_with("virtio-"));
        assert_eq!(modern.clone().count(), 4);
        for device in modern {
            assert!(device.contains("disable-legacy=on,iommu_platform=on"), "{device}");
        }
    }

    #[test]
    fn commas_in_paths_do_not_end_an_argument() {
        let text = arguments(Some("/x,y"));
        assert!(text.contains("file=/tmp/a,,b/scratch.raw") && text.contains("file=/x,,y"), "{text}");
        assert!(text.contains("addr.path=/tmp/a,,b/net"), "{text}");
    }

    #[test]
    fn the_scratch_disk_begins_as_zeros_of_its_size() {
        let folder = tempfile::tempdir().expect("a folder");
        Devices { scratch: 4096, disk: None }.make_disks(folder.path()).expect("made");
        assert_eq!(fs::read(folder.path().join(SCRATCH)).expect("there"), [0; 4096]);
    }

    #[test]
    fn a_disk_that_is_not_there_becomes_an_ext4_file_system_and_one_that_is_stays_as_it_is() {
        /// Where ext4 has its magic number: the superblock lies at 1024, the number 0x38 bytes into it.
        const MAGIC: std::ops::Range<usize> = 1024 + 0x38..1024 + 0x3a;
        let folder = tempfile::tempdir().expect("a folder");
        let disk = folder.path().join("disk");
        let devices = Devices { scratch: 4096, disk: Some(disk.clone()) };
        devices.make_disks(folder.path()).expect("made");
        assert_eq!(fs::metadata(&disk).expect("there").len(), NEW_DISK);
        assert_eq!(fs::read(&disk).expect("there")[MAGIC], [0x53, 0xef]);
        fs::write(&disk, "mine").expect("written");
        devices.make_disks(folder.path()).expect("left alone");
        assert_eq!(fs::read(&disk).expect("there"), b"mine");
    }
}
