//! The machine: what QEMU is told.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, bail};
use proto::host::HOST_BY_PORT;

use crate::cli::{AccelChoice, GuestOptions};
use crate::devices::Devices;

/// The CPU under TCG. TCG runs REP MOVSB one byte at a time, so announcing ERMS only slows guests down.
pub const REFERENCE_CPU: &str = "max,-erms,-fsrm";

/// How QEMU runs the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// QEMU's translator.
    Tcg,
    /// The host's processor.
    Kvm,
}

impl Accel {
    /// Its name on QEMU's command line.
    pub fn name(self) -> &'static str {
        match self {
            Accel::Tcg => "tcg",
            Accel::Kvm => "kvm",
        }
    }
}

/// A machine, with everything that distinguishes one from another.
#[derive(Debug, Clone)]
pub struct Machine {
    /// How many CPUs.
    pub smp: u8,
    /// Options of QEMU's machine, in QEMU's words.
    pub options: String,
    /// How much memory, in MiB.
    pub memory_mib: u32,
    /// How it is run.
    pub accel: Accel,
    /// The CPU model, with flags.
    pub cpu: String,
    /// Whether virtual time counts instructions.
    pub icount: bool,
    /// Whether it has an IOMMU.
    pub iommu: bool,
    /// What it has for drivers, if anything.
    pub devices: Option<Devices>,
    /// Further devices, in QEMU's words.
    pub further: Vec<String>,
    /// Whoever listens at the other end of COM3, if it has one.
    pub com3: Option<PathBuf>,
    /// The kernel's command line.
    pub append: String,
}

impl Machine {
    /// The machine the options ask for, with `default_smp` CPUs if they do not say.
    pub fn new(options: &GuestOptions, default_smp: u8) -> Result<Self> {
        let accel = chosen(options.accel, options.icount, kvm_works)?;
        let own_cpu = match accel {
            Accel::Tcg => REFERENCE_CPU,
            Accel::Kvm => "max",
        };
        Ok(Machine {
            smp: options.smp.unwrap_or(default_smp),
            options: options.machine.clone(),
            memory_mib: options.memory,
            accel,
            cpu: options.cpu.clone().unwrap_or_else(|| own_cpu.to_owned()),
            icount: options.icount,
            iommu: !options.no_iommu,
            devices: (!options.no_devices)
                .then(|| Devices { scratch: options.scratch, disk: options.disk.clone() }),
            further: options.device.clone(),
            com3: options.com3.clone(),
            append: options.append.clone(),
        })
    }

    /// The kernel's command line: where the archive is, what there is to speak with the guest by, what the user says.
    fn command_line(&self, archive: &str) -> String {
        let host = self.devices.is_some().then_some(HOST_BY_PORT);
        let words = [archive].into_iter().chain(host).chain([self.append.as_str()]);
        words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// QEMU's arguments for the machine itself; devices, kernel, archive and serial lines come from whoever boots it.
    /// `archive` is the word that tells the kernel where the boot archive is.
    pub fn arguments(&self, archive: &str) -> Vec<String> {
        // The IOMMU's interrupt remapping wants the I/O APIC in QEMU, not in KVM.
        let (machine, accel) = match (self.accel, self.smp > 1 && !self.icount) {
            (Accel::Kvm, _) => ("q35,kernel-irqchip=split", "kvm"),
            (Accel::Tcg, true) => ("q35", "tcg,thread=multi"),
            (Accel::Tcg, false) => ("q35", "tcg"),
        };
        let machine =
            if self.options.is_empty() { machine.into() } else { format!("{machine},{}", self.options) };
        let (smp, memory) = (self.smp.to_string(), format!("{}M", self.memory_mib));
        let mut arguments = vec![
            "-machine",
            &machine,
            "-accel",
            accel,
            "-cpu",
            &self.cpu,
            "-smp",
            &smp,
            "-m",
            &memory,
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            // The real-time clock goes by the guest's time, which under icount is not the host's.
            "-rtc",
            "clock=vm",
            "-device",
            "isa-debug-exit,iobase=0xf4,iosize=0x04",
        ];
        if self.iommu {
            arguments.extend(["-device", "intel-iommu,intremap=on"]);
        }
        if self.icount {
            arguments.extend(["-icount", "shift=0,sleep=off"]);
        }
        let command_line = self.command_line(archive);
        arguments.extend(["-append", &command_line]);
        let arguments = arguments.into_iter().map(str::to_owned);
        arguments.chain(self.com3.iter().flat_map(|socket| com3(socket))).collect()
    }

    /// QEMU's arguments for further devices. They follow all others, whose places on the bus are fixed: QEMU gives
    /// these the places that are left.
    pub fn further_arguments(&self) -> impl Iterator<Item = String> {
        self.further.iter().flat_map(|device| ["-device".to_owned(), device.clone()])
    }
}

/// COM3, at its usual port, with the interrupt that the machine has free for it.
fn com3(socket: &std::path::Path) -> [String; 4] {
    let chardev = format!("socket,id=com3,path={}", quoted(socket));
    ["-chardev", &chardev, "-device", "isa-serial,iobase=0x3e8,irq=5,chardev=com3"].map(str::to_owned)
}

/// A path as a value on QEMU's command line, where a comma ends the value unless doubled.
pub fn quoted(path: &std::path::Path) -> String {
    path.display().to_string().replace(',', ",,")
}

fn chosen(choice: AccelChoice, icount: bool, kvm_works: impl Fn() -> Result<()>) -> Result<Accel> {
    match (choice, icount) {
        (AccelChoice::Kvm, true) => bail!("--icount counts TCG's instructions: leave out --accel kvm"),
        (AccelChoice::Tcg, _) | (AccelChoice::Auto, true) => Ok(Accel::Tcg),
        (AccelChoice::Auto, false) => Ok(if kvm_works().is_ok() { Accel::Kvm } else { Accel::Tcg }),
        (AccelChoice::Kvm, false) => kvm_works().map(|()| Accel::Kvm),
    }
}

/// Whether KVM runs guests on hardware here. /dev/kvm alone does not tell: nested without hardware support it
/// opens and then emulates, or fails.
fn kvm_works() -> Result<()> {
    const DEVICE: &str = "/dev/kvm";
    if let Err(error) = fs::OpenOptions::new().read(true).write(true).open(DEVICE) {
        bail!("KVM cannot be used: {DEVICE}: {error}; leave out --accel kvm, or see to the right to open it");
    }
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if !shows_virtualisation(&cpuinfo) {
        bail!("KVM cannot be used: this CPU shows neither vmx nor svm; leave out --accel kvm");
    }
    Ok(())
}

fn shows_virtualisation(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .any(|line| line.split_whitespace().any(|flag| matches!(flag, "vmx" | "svm")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(smp: u8, accel: Accel, icount: bool) -> String {
        let machine = Machine {
            smp,
            options: "pit=off".to_owned(),
            memory_mib: 512,
            accel,
            cpu: REFERENCE_CPU.to_owned(),
            icount,
            iommu: true,
            devices: None,
            further: vec!["edu,addr=0x10".to_owned()],
            com3: None,
            append: String::new(),
        };
        machine
            .arguments("archive=1+2")
            .into_iter()
            .chain(machine.further_arguments())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn several_cpus_under_tcg_run_in_threads_but_not_when_instructions_are_counted() {
        assert!(machine(2, Accel::Tcg, false).contains("-accel tcg,thread=multi"));
        assert!(machine(1, Accel::Tcg, false).contains("-accel tcg -cpu"));
        assert!(machine(4, Accel::Tcg, true).contains("-accel tcg -cpu"));
        assert!(machine(4, Accel::Tcg, true).contains("-icount shift=0,sleep=off"));
    }

    #[test]
    fn auto_takes_kvm_only_where_it_works_and_never_to_count_instructions() {
        let works = || Ok(());
        let broken = || bail!("no");
        assert_eq!(chosen(AccelChoice::Auto, false, works).expect("kvm"), Accel::Kvm);
        assert_eq!(chosen(AccelChoice::Auto, false, broken).expect("tcg"), Accel::Tcg);
        assert_eq!(chosen(AccelChoice::Auto, true, works).expect("tcg"), Accel::Tcg);
        assert_eq!(chosen(AccelChoice::Tcg, false, works).expect("tcg"), Accel::Tcg);
    }

    #[test]
    fn asking_for_kvm_where_it_cannot_be_is_an_error() {
        assert!(chosen(AccelChoice::Kvm, true, || Ok(())).is_err());
        assert!(chosen(AccelChoice::Kvm, false, || bail!("no")).is_err());
    }

    #[test]
    fn the_virtualisation_flag_is_a_word_of_the_flags_line() {
        assert!(shows_virtualisation("model name\t: x\nflags\t\t: fpu vmx sse\n"));
        assert!(shows_virtualisation("flags : svm"));
        assert!(!shows_virtualisation("flags : fpu svm_lock\nvmx flags : vnmi\n"));
    }

    #[test]
    fn a_third_serial_line_has_its_socket_and_an_interrupt_of_its_own() {
        let socket = com3(std::path::Path::new("/a,b")).join(" ");
        assert_eq!(
            socket,
            "-chardev socket,id=com3,path=/a,,b -device isa-serial,iobase=0x3e8,irq=5,chardev=com3"
        );
        assert!(!machine(1, Accel::Tcg, false).contains("com3"));
    }

    #[test]
    fn further_devices_are_said_in_qemus_words() {
        assert!(machine(1, Accel::Tcg, false).ends_with("-device edu,addr=0x10"));
    }

    #[test]
    fn the_machines_options_and_the_archives_place_are_passed_on() {
        let arguments = machine(1, Accel::Tcg, false);
        assert!(arguments.starts_with("-machine q35,pit=off -accel"), "{arguments}");
        assert!(arguments.contains("-append archive=1+2"), "{arguments}");
    }

    #[test]
    fn commas_in_paths_are_doubled() {
        assert_eq!(quoted(std::path::Path::new("/a,b/c")), "/a,,b/c");
    }
}
