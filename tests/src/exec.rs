//! What `exec` promises: scripts rely on it.

use crate::harness::{Outcome, Test};
use crate::tool::{Run, Tool};

/// The promises, one by one.
pub const TESTS: &[Test] = &[
    Test::case("exec/a_program_that_succeeds_gives_0", |tool| guest(tool, &["true"])?.ended_with(0)),
    Test::case("exec/a_program_that_fails_gives_its_status", |tool| guest(tool, &["false"])?.ended_with(1)),
    Test::case("exec/output_passes_through_and_nothing_else_does", output_passes_through),
    Test::case("exec/output_longer_than_a_frame_passes_through_whole", long_output_passes_through),
    Test::case("exec/input_passes_through_to_its_end", input_passes_through),
    Test::case("exec/a_command_that_is_not_there_gives_127_and_says_so", no_such_command),
    Test::case("exec/a_program_that_never_ends_gives_124_and_says_where_it_is", timeout),
    Test::case("exec/a_program_that_crashes_gives_a_readable_report", crash_report),
    Test::case("exec/a_program_that_panics_gives_its_message", panic_report),
    Test::case("exec/a_lock_taken_again_by_its_holder_panics", |tool| taken_again(tool, "lock")),
    Test::case("exec/a_heap_that_grows_while_memory_is_in_use_panics", |tool| {
        taken_again(tool, "heap-within-memory")
    }),
    Test::case("exec/a_kernel_panic_gives_101_and_a_readable_report", kernel_panic),
    Test::case("exec/no_page_of_the_kernel_is_writable_and_executable", wx),
    Test::case("exec/the_kernel_log_is_shown_when_asked_for", verbose),
    Test::case("exec/a_machine_without_an_iommu_boots", |tool| {
        tool.run(["exec", "--no-iommu", "--", "true"])?.ended_with(0)
    }),
    Test::case("exec/a_machine_without_devices_boots", |tool| {
        tool.run(["exec", "--no-devices", "--", "true"])?.ended_with(0)
    }),
    Test::case("exec/a_machine_without_an_8254_boots_by_the_acpi_timer", |tool| {
        let run = tool.run(["exec", "--machine", "pit=off", "--verbose", "--", "true"])?;
        run.ended_with(0)?;
        run.complained_of(&["by the ACPI timer"])
    }),
    Test::case("exec/a_machine_with_up_to_12_more_devices_boots", more_devices),
    Test::case("exec/an_archive_too_large_for_the_machine_is_refused", large_archive),
    Test::case("exec/counting_instructions_changes_nothing_in_what_a_program_does", icount),
];

/// Firmware takes more memory for itself with each device, and QEMU gives addresses to more.
fn more_devices(tool: &Tool) -> Outcome {
    for count in 0..=12 {
        let devices: Vec<_> = (0..count).map(|number| format!("nvme,serial={number}")).collect();
        let options = devices.iter().flat_map(|device| ["--device", device]);
        let run = tool.run(["exec"].into_iter().chain(options).chain(["--", "hello"]))?;
        run.ended_with(0).map_err(|error| format!("{count} more devices: {error}"))?;
        run.printed("Hello from hello on a machine with 1 CPU(s).\n")?;
    }
    Ok(())
}

fn large_archive(tool: &Tool) -> Outcome {
    let file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    file.as_file().set_len(30 << 20).map_err(|error| error.to_string())?;
    let add = format!("{}:large", file.path().display());
    let run = tool.run(["exec", "--memory", "32", "--add", &add, "--", "true"])?;
    run.ended_with(125)?;
    run.complained_of(&["makes the boot archive too large", "--memory"])
}

fn guest(tool: &Tool, command: &[&str]) -> Result<Run, String> {
    tool.run([&["exec", "--"], command].concat())
}

fn output_passes_through(tool: &Tool) -> Outcome {
    let run = guest(tool, &["echo", "hello", "big  world", ""])?;
    run.ended_with(0)?;
    run.printed("hello big  world \n")
}

fn long_output_passes_through(tool: &Tool) -> Outcome {
    let words = "0123456789".repeat(180);
    let run = guest(tool, &["echo", &words])?;
    run.ended_with(0)?;
    run.printed(&format!("{words}\n"))
}

fn input_passes_through(tool: &Tool) -> Outcome {
    let text: String = (0..2000).map(|number| format!("line {number}\n")).collect();
    let run = tool.run_with_input(["exec", "--", "cat"], text.clone().into_bytes())?;
    run.ended_with(0)?;
    run.printed(&text)
}

fn no_such_command(tool: &Tool) -> Outcome {
    let run = guest(tool, &["no-such-command"])?;
    run.ended_with(127)?;
    run.printed("")?;
    run.complained_of(&["no-such-command: no such command"])
}

fn timeout(tool: &Tool) -> Outcome {
    let run = tool.run(["exec", "--timeout", "5", "--", "spin"])?;
    run.ended_with(124)?;
    run.complained_of(&[
        "spin did not end within 5 s",
        "where the CPUs are",
        "RIP=",
        "last lines of the kernel log",
    ])
}

fn crash_report(tool: &Tool) -> Outcome {
    let run = guest(tool, &["crash", "write"])?;
    ended_by_its_own_failure(&run)?;
    run.complained_of(&[
        "component crash crashed: page fault at address 0x",
        "rip 00",
        "crash::write  user/programs/src/bin/crash.rs:",
        "backtrace",
        "crash::main  user/programs/src/bin/crash.rs:",
        "last lines of the kernel log",
    ])
}

fn panic_report(tool: &Tool) -> Outcome {
    let run = guest(tool, &["crash", "panic"])?;
    ended_by_its_own_failure(&run)?;
    run.complained_of(&[
        "component crash crashed: panic: asked to",
        "crash::main  user/programs/src/bin/crash.rs:",
    ])
}

fn taken_again(tool: &Tool, way: &str) -> Outcome {
    let run = guest(tool, &["crash", way])?;
    ended_by_its_own_failure(&run)?;
    run.complained_of(&["component crash crashed: panic: a lock is taken again by the thread that holds it"])
}

fn ended_by_its_own_failure(run: &Run) -> Outcome {
    match run.status {
        Some(0 | 101 | 102 | 124 | 125 | 127) | None => {
            Err(run.told("the program's own failure should have been the status"))
        }
        Some(_) => Ok(()),
    }
}

/// The boot option `check=wx` walks the kernel's page tables; what it finds is a panic.
fn wx(tool: &Tool) -> Outcome {
    let run = tool.run(["exec", "--append", "check=wx", "--verbose", "--", "true"])?;
    run.ended_with(0)?;
    run.complained_of(&["none writable and executable"])
}

/// The boot option `panic=test` makes the kernel panic as soon as it is up.
fn kernel_panic(tool: &Tool) -> Outcome {
    let run = tool.run(["exec", "--append", "panic=test", "--", "true"])?;
    run.ended_with(101)?;
    run.complained_of(&[
        "the kernel panicked",
        "PANIC",
        "asked for",
        "backtrace",
        "microkernel::kernel_main",
        "microkernel/src/main.rs:",
        "last lines of the kernel log",
    ])
}

fn verbose(tool: &Tool) -> Outcome {
    let quiet = guest(tool, &["true"])?;
    let verbose = tool.run(["exec", "--verbose", "--", "true"])?;
    verbose.ended_with(0)?;
    if verbose.stderr.lines().count() <= quiet.stderr.lines().count() {
        return Err(verbose.told("there should have been a log"));
    }
    Ok(())
}

fn icount(tool: &Tool) -> Outcome {
    let run = tool.run(["exec", "--icount", "--", "echo", "counted"])?;
    run.ended_with(0)?;
    run.printed("counted\n")
}
