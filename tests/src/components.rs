//! What init promises of components: exactly the manifest's authority, and that nothing of them is left.

use std::io::Write;

use crate::harness::{Outcome, Test};
use crate::tool::{Run, Tool};

/// The promises, one by one.
pub const TESTS: &[Test] = &[
    Test::case("components/nothing_is_left_when_a_program_has_come_and_gone_2000_times", |tool| {
        cycles(tool, "2000", &["true"])
    }),
    Test::case("components/nothing_is_left_of_programs_that_crash", |tool| {
        cycles(tool, "100", &["crash", "panic"])
    }),
    Test::case("components/nothing_is_left_of_programs_with_threads_and_a_heap", |tool| {
        cycles(tool, "20", &["threads"])
    }),
    Test::case("components/threads_on_all_cpus_give_back_what_they_took", |tool| {
        tool.run(["exec", "--smp", "4", "--", "threads"])?.ended_with(0)
    }),
    Test::case("components/bytes_pass_over_shared_memory_between_cpus", |tool| {
        tool.run(["exec", "--smp", "2", "--", "ring"])?.ended_with(0)
    }),
    Test::case("components/one_has_what_its_manifest_names_and_nothing_else", authority),
    Test::case("components/one_may_not_ask_for_more_than_its_manifest_names", refused),
    Test::case("components/one_that_starts_at_boot_writes_to_the_log", at_boot),
    Test::case("components/durable_memory_comes_back_each_time", durable),
    Test::case("components/one_with_durable_memory_runs_once_at_a_time", only_once),
    Test::case("components/a_manifest_that_is_not_sound_is_refused_with_its_line", bad_manifest),
    Test::case("components/a_file_that_is_no_program_is_refused_with_the_reason", bad_program),
    Test::case("components/memory_beyond_the_budget_is_not_to_be_had", budget),
];

fn cycles(tool: &Tool, count: &str, command: &[&str]) -> Outcome {
    tool.run([&["exec", "--smp", "2", "--", "cycles", count], command].concat())?.ended_with(0)
}

/// Runs a command under a manifest.
fn under(tool: &Tool, manifest: &str, command: &[&str]) -> Result<Run, String> {
    let file = file(manifest)?;
    let path = file.path().display().to_string();
    tool.run([&["exec", "--verbose", "--manifest", &path, "--"], command].concat())
}

fn file(text: &str) -> Result<tempfile::NamedTempFile, String> {
    let mut file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    file.write_all(text.as_bytes()).map_err(|error| error.to_string())?;
    Ok(file)
}

fn authority(tool: &Tool) -> Outcome {
    let manifest = "component hello\n serves greetings\ncomponent args\n slots 256\n durable 64K\n \
                    calls greetings\n holds system\n ports 0x80-0x8f\n irq 5\n";
    let run = under(tool, manifest, &["args"])?;
    run.ended_with(0)?;
    let mut held: Vec<Vec<&str>> = run.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    held.retain(|words| words.first().is_some_and(|word| word.parse::<u32>().is_ok()) && words.len() == 3);
    let held: Vec<&[&str]> = held.iter().map(|words| &words[1..]).collect();
    let expected: &[&[&str]] = &[
        &["CNode", "cnode"],
        &["VSpace", "vspace"],
        &["Tcb", "tcb"],
        &["Endpoint", "init"],
        &["Endpoint", "fault"],
        &["Notification", "ready"],
        &["System", "system"],
        &["IoPort", "ports-0x80"],
        &["IrqHandler", "irq-5"],
        &["Endpoint", "greetings"],
        &["Untyped", "durable"],
    ];
    if held != expected {
        return Err(run.told(&format!("it should hold {expected:?}")));
    }
    Ok(())
}

fn refused(tool: &Tool) -> Outcome {
    let run = under(tool, "component cycles\ncomponent *\n", &["cycles", "1", "true"])?;
    run.ended_with(1)?;
    run.complained_of(&["the manifest does not allow it"])
}

fn at_boot(tool: &Tool) -> Outcome {
    let run = under(tool, "component hello\n start boot\ncomponent *\n", &["true"])?;
    run.ended_with(0)?;
    run.complained_of(&["hello: Hello from hello", "init: hello ended"])
}

fn durable(tool: &Tool) -> Outcome {
    let manifest = "component cycles\n holds inventory control\ncomponent args\n durable 1M\n";
    under(tool, manifest, &["cycles", "20", "args"])?.ended_with(0)
}

fn only_once(tool: &Tool) -> Outcome {
    let run = under(tool, "component spin\n start boot\n durable 64K\n", &["spin"])?;
    run.ended_with(126)?;
    run.complained_of(&["spin: it runs already"])
}

fn bad_manifest(tool: &Tool) -> Outcome {
    // The tool refuses to boot with one, so it is smuggled in.
    let file = file("component a\n\n memory 3M\n")?;
    let added = format!("{}:manifest", file.path().display());
    let run = tool.run(["exec", "--verbose", "--add", &added, "--", "true"])?;
    run.complained_of(&["init: panic", "the manifest: line 3: 3145728 is not a power of two"])
}

fn bad_program(tool: &Tool) -> Outcome {
    let file = file("#!/bin/sh\necho no\n")?;
    let added = format!("{}:bin/script", file.path().display());
    let run = tool.run(["exec", "--add", &added, "--", "script"])?;
    run.ended_with(126)?;
    run.complained_of(&["script: its program cannot be loaded: it is not an ELF file"])
}

fn budget(tool: &Tool) -> Outcome {
    let run = tool.run(["exec", "--", "crash", "heap"])?;
    run.complained_of(&["component crash crashed: panic", "memory allocation of 1099511627776 bytes failed"])
}
