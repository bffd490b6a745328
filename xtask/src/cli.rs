//! The command line: commands, options, and the statuses the tool exits with.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::bench::BenchOptions;
use crate::debug::DebugOptions;

/// A check the user asked for did not hold: `bench --check`.
pub const STATUS_FAILED: u8 = 1;
/// `exec --timeout` ran out, as with timeout(1).
pub const STATUS_TIMED_OUT: u8 = 124;
/// The tool itself failed: a bad file, a failed build, a missing host program.
pub const STATUS_TOOL_FAILED: u8 = 125;
/// The guest has no program of that name, as with a shell.
pub const STATUS_NO_SUCH_COMMAND: u8 = 127;
/// Whoever read the tool's output has gone: as a shell has it for a program that SIGPIPE ended.
pub const STATUS_READER_GONE: u8 = 141;
/// The kernel panicked.
pub const STATUS_KERNEL_PANIC: u8 = 101;
/// The guest was lost without a word: reset, hung before it was up, or QEMU failed.
pub const STATUS_GUEST_LOST: u8 = 102;

/// Builds Skink, boots it in QEMU, runs programs in it, measures it. Without a command: `run`.
#[derive(Debug, Parser)]
#[command(
    bin_name = "cargo run --",
    version,
    args_conflicts_with_subcommands = true,
    after_help = AFTER_HELP
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunOptions,
}

const AFTER_HELP: &str = "\
Examples:
  cargo run                                    boot, with the guest's console on this terminal
  cargo run -- exec --smp 4 -- selftest        run one program on four CPUs
  cargo run -- bench ipc --icount              the kernel's benchmarks, in instructions
  cargo run -- debug                           boot under gdb

Exit status: of exec, the guest program's. 101 the kernel panicked; 102 the guest was lost (reset, or it did
not come up); 124 timeout; 125 the tool failed, or its options are wrong; 127 no such program in the guest;
141 nobody reads the output any more.";

impl Cli {
    /// What to do.
    pub fn command(self) -> Command {
        self.command.unwrap_or(Command::Run(self.run))
    }
}

/// What the tool can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Boot with the guest's console on this terminal (Ctrl-A X leaves)
    Run(RunOptions),
    /// Boot headless, run a program in the guest, exit with its status
    Exec(ExecOptions),
    /// Measure in the guest: a table beside seL4's and Linux's figures
    Bench(BenchOptions),
    /// Boot stopped, with gdb attached
    Debug(DebugOptions),
    /// Write docs/kernel.md from the table of the kernel's interface
    Reference,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunOptions {
    /// The machine and what it boots.
    #[command(flatten)]
    pub guest: GuestOptions,
    /// How long it may run.
    #[command(flatten)]
    pub limit: Limit,
}

/// Options of `exec`.
#[derive(Debug, Args)]
pub struct ExecOptions {
    /// The machine and what it boots.
    #[command(flatten)]
    pub guest: GuestOptions,
    /// How long it may run.
    #[command(flatten)]
    pub limit: Limit,
    /// Print the kernel log (to stderr) as it comes
    #[arg(long, short)]
    pub verbose: bool,
    /// The guest program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// What all commands share: the machine and what it boots.
#[derive(Debug, Clone, Args)]
pub struct GuestOptions {
    /// CPUs of the guest, 1 to 8 [default: 2 for run, otherwise 1]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u8>::new().range(1..=8))]
    pub smp: Option<u8>,
    /// Memory of the guest: MiB, or a size such as 2G
    #[arg(long, value_name = "SIZE", default_value = "512", value_parser = memory)]
    pub memory: u32,
    /// How QEMU runs the guest; auto is KVM where it works on hardware, else TCG
    #[arg(long, value_enum, value_name = "auto|tcg|kvm", hide_possible_values = true,
          default_value_t = AccelChoice::Auto)]
    pub accel: AccelChoice,
    /// Deterministic: virtual time counts instructions (TCG only)
    #[arg(long)]
    pub icount: bool,
    /// QEMU CPU model in place of the reference one
    #[arg(long, value_name = "MODEL")]
    pub cpu: Option<String>,
    /// Options of QEMU's machine, such as pit=off
    #[arg(long, value_name = "OPTIONS", default_value = "", hide_default_value = true)]
    pub machine: String,
    /// Put a host file or folder into the boot archive, at its own name or at GUEST (repeatable)
    #[arg(long, value_name = "HOST[:GUEST]")]
    pub add: Vec<String>,
    /// Boot with this manifest in place of init's own
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// A second disk that stays: made as an ext4 file system if FILE is not there
    #[arg(long, value_name = "FILE", conflicts_with = "no_devices")]
    pub disk: Option<PathBuf>,
    /// Size of the scratch disk, which is zeros at first and goes with the guest
    #[arg(long, value_name = "SIZE", default_value = "128M", value_parser = disk_size)]
    pub scratch: u64,
    /// A third serial line (COM3), whose other end is the Unix socket SOCKET: somebody has to listen there
    #[arg(long, value_name = "SOCKET")]
    pub com3: Option<PathBuf>,
    /// A further device, as QEMU's -device has it (repeatable)
    #[arg(long, value_name = "SPEC")]
    pub device: Vec<String>,
    /// Leave out the IOMMU: drivers are then trusted with memory
    #[arg(long)]
    pub no_iommu: bool,
    /// Leave out all devices that drivers drive
    #[arg(long)]
    pub no_devices: bool,
    /// Write the guest's log to FILE, as it comes by the console's port for it
    #[arg(long, value_name = "FILE", conflicts_with = "no_devices")]
    pub log: Option<PathBuf>,
    /// Words for the kernel's command line
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = boot_words)]
    pub append: String,
}

/// How long a guest may run.
#[derive(Debug, Clone, Copy, Args)]
pub struct Limit {
    /// End the guest after this long, counted from when it is up; the status is then 124
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,
}

/// How QEMU shall run the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AccelChoice {
    /// KVM where /dev/kvm opens and the host CPU shows vmx or svm, else TCG
    Auto,
    /// QEMU's translator
    Tcg,
    /// The host's processor
    Kvm,
}

/// The longest time that a guest may be given: ten years, which every clock can count.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Reads a length of time in seconds, with a fraction where one is given.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "give a number of seconds, such as 5 or 0.5".to_owned())?;
    if seconds <= 0.0 {
        return Err("give more than 0 seconds".to_owned());
    }
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| *time <= LONGEST)
        .ok_or_else(|| format!("give {} seconds at most", LONGEST.as_secs()))
}

/// The size of a disk in bytes: whole sectors.
fn disk_size(text: &str) -> Result<u64, String> {
    const SECTOR: u64 = 512;
    match bytes(text, 0) {
        Some(size) if size > 0 && size.is_multiple_of(SECTOR) => Ok(size),
        _ => Err("give a size such as 64M: whole sectors of 512 bytes, with K, M or G".to_owned()),
    }
}

/// The size of the guest's memory in MiB. A number alone is one of MiB, as QEMU's `-m` has it.
fn memory(text: &str) -> Result<u32, String> {
    const MIB: u64 = 1 << 20;
    let size = bytes(text, 20).filter(|size| size.is_multiple_of(MIB)).map(|size| size / MIB);
    let fits = size.and_then(|size| u32::try_from(size).ok()).filter(|size| (32..=1 << 20).contains(size));
    fits.ok_or_else(|| "give MiB, or a size such as 2G: 32M at least, 1024G at most".to_owned())
}

/// Reads a size in bytes, with K, M or G (or k, m, g); a number alone is shifted left by `plain`.
fn bytes(text: &str, plain: u32) -> Option<u64> {
    let units = [(['K', 'k'], 10), (['M', 'm'], 20), (['G', 'g'], 30)];
    let unit = units.into_iter().find_map(|(letters, shift)| Some((text.strip_suffix(letters)?, shift)));
    let (digits, shift) = unit.unwrap_or((text, plain));
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Words of the kernel's command line that the kernel or init acts on; no other is read by anything.
const BOOT_WORDS: [&str; 6] = ["channel=only", "check=wx", "init=fault", "iommu=off", "nofast", "panic=test"];

/// The words for the kernel's command line, each of which must be one that the guest knows.
fn boot_words(text: &str) -> Result<String, String> {
    match text.split_whitespace().find(|word| !BOOT_WORDS.contains(word)) {
        None => Ok(text.to_owned()),
        Some(word) => Err(format!("the guest knows no {word}; there are: {}", BOOT_WORDS.join(" "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn command(arguments: &[&str]) -> Command {
        Cli::parse_from([&["xtask"], arguments].concat()).command()
    }

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as CommandFactory>::command().debug_assert();
    }

    #[test]
    fn no_command_means_run_on_the_default_machine() {
        let Command::Run(options) = command(&[]) else { panic!("not run") };
        assert_eq!((options.guest.smp, options.guest.memory), (None, 512));
    }

    #[test]
    fn the_options_of_run_need_no_command() {
        let Command::Run(options) = command(&["--smp", "4"]) else { panic!("not run") };
        assert_eq!(options.guest.smp, Some(4));
        assert!(Cli::try_parse_from(["xtask", "--smp", "4", "exec", "--", "true"]).is_err());
    }

    #[test]
    fn exec_keeps_everything_after_the_dashes_for_the_guest() {
        let Command::Exec(options) = command(&["exec", "--smp", "4", "--", "fuzz", "--seed", "7"]) else {
            panic!("not exec")
        };
        assert_eq!(options.guest.smp, Some(4));
        assert_eq!(options.command, ["fuzz", "--seed", "7"]);
    }

    #[test]
    fn more_cpus_than_eight_are_refused() {
        assert!(Cli::try_parse_from(["xtask", "run", "--smp", "9"]).is_err());
        assert!(Cli::try_parse_from(["xtask", "run", "--smp", "0"]).is_err());
    }

    #[test]
    fn a_disk_has_whole_sectors() {
        assert_eq!(disk_size("64M"), Ok(64 << 20));
        assert_eq!(disk_size("512"), Ok(512));
        assert_eq!(disk_size("2g"), Ok(2 << 30));
        for wrong in ["0", "", "M", "100", "-1K", "1T", "99999999999G"] {
            assert!(disk_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn memory_is_counted_in_mib_or_has_a_unit() {
        assert_eq!([memory("512"), memory("64g"), memory("1G")], [Ok(512), Ok(64 << 10), Ok(1024)]);
        assert_eq!(memory("1048576"), Ok(1 << 20));
        for wrong in ["", "0", "31", "31M", "1025G", "1048577", "32769K", "17592186044416", "x", "1T"] {
            assert!(memory(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_guest_reads_every_boot_word_and_no_other_is_passed_on() {
        let root = crate::workspace::root();
        let sources = [
            "microkernel/src/main.rs",
            "microkernel/src/machine/boot.rs",
            "init/src/console/mod.rs",
            "init/src/guardian.rs",
        ]
        .map(|file| std::fs::read_to_string(root.join(file)).expect("a source file"))
        .concat();
        for word in BOOT_WORDS {
            assert!(sources.contains(&format!("\"{word}\"")), "nothing reads {word}");
        }
        let asked = sources.split("option(\"").chain(sources.split("asked_for(\"")).skip(1);
        let words: Vec<_> =
            asked.filter_map(|behind| behind.split_once("\")")).map(|(word, _)| word).collect();
        for word in words.iter().filter(|word| word.len() < 20) {
            assert!(BOOT_WORDS.contains(word), "{word} cannot be asked for");
        }
        assert_eq!(boot_words("nofast  check=wx"), Ok("nofast  check=wx".to_owned()));
        assert!(boot_words("nofast chekc=wx").is_err_and(|told| told.contains("chekc=wx")));
    }

    #[test]
    fn a_timeout_is_a_positive_number_of_seconds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "-1", "soon", "NaN", "1e19", "1e300"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
