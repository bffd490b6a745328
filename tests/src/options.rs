//! Wrong options: each is refused with a line that says what to do.

use crate::harness::{Outcome, Test};
use crate::tool::{Run, Tool};

/// The tool's own failure, a wrong command line among them: any other status may be a guest program's.
const FAILED: i32 = 125;

/// The mistakes, one by one.
pub const TESTS: &[Test] = &[
    Test::case("options/help_names_every_command", help),
    Test::case("options/an_unknown_command_is_refused", |tool| {
        refused(tool, &["frobnicate"], FAILED, &["unrecognized subcommand", "--help"])
    }),
    Test::case("options/exec_without_a_command_is_refused", |tool| {
        refused(tool, &["exec"], FAILED, &["<CMD>", "Usage: cargo run -- exec"])
    }),
    Test::case("options/nine_cpus_are_refused", |tool| {
        refused(tool, &["exec", "--smp", "9", "--", "true"], FAILED, &["--smp", "1..=8"])
    }),
    Test::case("options/too_little_memory_is_refused", |tool| {
        refused(tool, &["exec", "--memory", "1", "--", "true"], FAILED, &["--memory", "32"])
    }),
    Test::case("options/a_timeout_that_no_clock_counts_is_refused", |tool| {
        refused(tool, &["exec", "--timeout", "1e19", "--", "true"], FAILED, &["--timeout", "at most"])
    }),
    Test::case("options/a_timeout_of_nothing_is_refused", |tool| {
        refused(tool, &["exec", "--timeout", "0", "--", "true"], FAILED, &["--timeout", "more than 0"])
    }),
    Test::case("options/counting_instructions_under_kvm_is_refused", |tool| {
        refused(
            tool,
            &["exec", "--icount", "--accel", "kvm", "--", "true"],
            FAILED,
            &["leave out --accel kvm"],
        )
    }),
    Test::case("options/checking_bounds_without_counting_instructions_is_refused", |tool| {
        refused(tool, &["bench", "--check"], FAILED, &["--icount"])
    }),
    Test::case("options/a_missing_file_to_add_is_named", |tool| {
        refused(tool, &["exec", "--add", "/no/such/file", "--", "true"], FAILED, &["--add", "/no/such/file"])
    }),
    Test::case("options/a_missing_manifest_is_named", |tool| {
        refused(tool, &["exec", "--manifest", "/no/such/file", "--", "true"], FAILED, &["/no/such/file"])
    }),
    Test::case("options/an_unsound_manifest_is_refused_before_boot", |tool| {
        let manifest = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
        std::fs::write(&manifest, "component a\n memory 3M\n").map_err(|error| error.to_string())?;
        let path = manifest.path().display().to_string();
        refused(tool, &["exec", "--manifest", &path, "--", "true"], FAILED, &[&path, "line 2: 3145728"])
    }),
    Test::case("options/a_device_that_never_ends_is_not_added", |tool| {
        refused(tool, &["exec", "--add", "/dev/zero", "--", "true"], FAILED, &["--add /dev/zero", "neither"])
    }),
    Test::case("options/a_boot_word_that_the_guest_does_not_know_is_refused", |tool| {
        refused(tool, &["exec", "--append", "chekc=wx", "--", "true"], FAILED, &["chekc=wx", "check=wx"])
    }),
    Test::case("options/a_disk_without_a_device_is_refused", |tool| {
        refused(tool, &["exec", "--disk", "d", "--no-devices", "--", "true"], FAILED, &["--no-devices"])
    }),
    Test::case("options/half_a_sector_is_no_disk", |tool| {
        refused(tool, &["exec", "--scratch", "100", "--", "true"], FAILED, &["--scratch", "sectors"])
    }),
    Test::case("options/a_cpu_that_qemu_does_not_know_is_told_by_qemu", |tool| {
        refused(tool, &["exec", "--cpu", "no-such-cpu", "--", "true"], FAILED, &["no-such-cpu"])
    }),
    Test::case("options/a_benchmark_that_is_not_there_is_named", unknown_benchmark),
    Test::case("options/sizes_have_units_in_either_case", |tool| {
        tool.run(["exec", "--memory", "1g", "--scratch", "2g", "--", "disk", "info"])?.ended_with(0)
    }),
    Test::case("options/a_sweep_over_all_numbers_asks_for_a_sample", |tool| {
        let sweep = ["--at-message", "1-18446744073709551615"];
        let run = tool.run([&["exec", "--", "storm", "--work", "ledger"], &sweep[..]].concat())?;
        run.ended_with(2)?;
        run.complained_of(&["more than 100000 places", "--sample N"])
    }),
    Test::case("options/a_long_folder_for_temporary_files_will_do", long_folder),
];

fn refused(tool: &Tool, arguments: &[&str], status: i32, said: &[&str]) -> Outcome {
    let run = tool.run(arguments)?;
    run.ended_with(status)?;
    run.printed("")?;
    run.complained_of(said)
}

fn help(tool: &Tool) -> Outcome {
    let run = tool.run(["--help"])?;
    run.ended_with(0)?;
    for command in ["run", "exec", "bench", "debug"] {
        if !run.stdout.lines().any(|line| line.trim_start().starts_with(command)) {
            return Err(run.told(&format!("it should have named {command}")));
        }
    }
    Ok(())
}

fn unknown_benchmark(tool: &Tool) -> Outcome {
    let run = tool.run(["bench", "no-such-benchmark"])?;
    if run.status == Some(0) {
        return Err(run.told("it should have failed"));
    }
    run.complained_of(&["no-such-benchmark"])
}

/// The address of a socket has room for 107 bytes of path.
fn long_folder(tool: &Tool) -> Outcome {
    let told = |error: std::io::Error| error.to_string();
    let root = tempfile::tempdir().map_err(told)?;
    let folder = root.path().join("long".repeat(40));
    std::fs::create_dir(&folder).map_err(told)?;
    let output =
        tool.command(["exec", "--", "echo", "there"]).env("TMPDIR", &folder).output().map_err(told)?;
    let run = Run::from(output);
    run.ended_with(0)?;
    run.printed("there\n")?;
    match std::fs::read_dir(&folder).map_err(told)?.next() {
        None => Ok(()),
        Some(left) => Err(run.told(&format!("it left {left:?} behind"))),
    }
}
