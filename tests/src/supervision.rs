//! What init promises of components that die: they come back, what outlives them is there, nothing is lost by it.

use std::io::Write;

use init::manifest::{Manifest, Restart, Start};

use crate::harness::{Outcome, Test};
use crate::tool::{Run, Tool};

/// The promises, one by one.
pub const TESTS: &[Test] = &[
    Test::case("supervision/a_server_that_dies_in_any_way_at_any_message_answers_every_call", |tool| {
        shot(tool, &["exec"])
    }),
    Test::case("supervision/so_it_does_with_its_client_on_another_cpu", |tool| {
        shot(tool, &["exec", "--smp", "2"])
    }),
    Test::case("supervision/nothing_is_left_of_a_server_that_was_killed_300_times", nothing_left),
    Test::case("supervision/nothing_is_left_of_a_driver_and_its_device", drivers),
    Test::case("supervision/nothing_is_left_of_any_component_that_is_restarted", everybody),
    Test::case("supervision/a_driver_gets_its_devices_registers_and_interrupts_and_no_more", |tool| {
        given(tool, &["exec"], "behind the IOMMU").map(|_| ())
    }),
    Test::case("supervision/without_an_iommu_drivers_work_and_init_says_that_they_are_trusted", trusted),
    Test::case("supervision/the_operator_sees_lives_crashes_and_capabilities", seen),
    Test::case("supervision/every_component_holds_what_the_manifest_gives_it_and_nothing_else", authority),
    Test::case("supervision/init_is_not_to_be_killed", |tool| {
        refused(tool, "svc kill init", "init cannot be killed: it owns everything")
    }),
    Test::case("supervision/a_system_whose_init_has_died_says_so_and_stops", init_dies),
    Test::case("supervision/a_name_that_nobody_has_is_said", |tool| {
        refused(tool, "svc restart nobody", "the manifest has no component `nobody`; `svc list` shows all")
    }),
    Test::case("supervision/svc_takes_the_right_to_supervise", unauthorised),
    Test::case("supervision/one_that_dies_at_once_is_parked_and_the_operator_can_start_it", parked),
    Test::case("supervision/so_is_a_driver_and_it_gets_its_device_again", |tool| driver_parked(tool, &[])),
    Test::case("supervision/so_is_one_without_an_iommu", |tool| driver_parked(tool, &["--no-iommu"])),
    Test::case("supervision/one_that_never_gets_ready_is_ended_and_said_to_hang", hangs),
    Test::case("supervision/one_that_uses_up_a_strict_budget_is_ended", over_budget),
    Test::case("supervision/a_device_that_is_not_there_is_said", no_device),
    Test::case("supervision/one_that_calls_a_server_that_is_down_does_not_hang", asks_in_vain),
    Test::case("supervision/the_end_of_the_first_of_60_nested_programs_ends_them_all", nested),
    Test::case("supervision/a_driver_run_by_a_program_belongs_to_that_program", driver_of_a_program),
    Test::case("supervision/a_parked_pci_parks_its_drivers", pci_parked),
    Test::case("supervision/a_tracer_that_is_killed_leaves_no_trace_on", |tool| {
        let manifest = "component trial\n holds control trace\ncomponent svc\n holds supervise trace\n";
        let run = under(tool, manifest, &["exec"], &["trial", "untraced"])?;
        run.ended_with(0)?;
        shows(&run, &["0 events traced for nobody"])
    }),
    Test::case("supervision/a_damaged_state_can_be_emptied", damaged_state),
    Test::case("supervision/an_emptied_state_is_another_client_of_the_servers_it_calls", emptied_state),
    Test::case("supervision/a_client_that_lies_is_believed_only_so_often", liar),
    Test::case("supervision/a_heartbeat_longer_than_the_grace_at_the_start_is_no_hang", slow_heartbeat),
];

/// A server and one who shoots at it.
const VICTIM: &str = "
component victim
    start boot
    restart always
    state 4K
    serves victim
    offers echo rings 4K
component shoot
    channel echo 64K
    calls victim
    holds supervise
component restarts
    holds supervise inventory
component inturn
    holds control
component svc
    priority 200
    holds supervise trace
component *
";

/// A bus, and a driver that looks at its device; what else the manifest has follows.
const DRIVER: &str = "
component pci
    start boot
    restart always
    priority 180
    holds pci
component probe
    start boot
    restart always
    device 1af4:1042 vectors 2
";
/// One who kills others.
const RESTARTS: &str = "component restarts\n holds supervise inventory\n";

/// Runs a command under a manifest.
pub(crate) fn under(tool: &Tool, manifest: &str, options: &[&str], command: &[&str]) -> Result<Run, String> {
    let mut file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    file.write_all(manifest.as_bytes()).map_err(|error| error.to_string())?;
    let path = file.path().display().to_string();
    tool.run([options, &["--timeout", "120", "--manifest", &path, "--"], command].concat())
}

/// Looks for each of the texts in what a run wrote to its standard output.
pub(crate) fn shows(run: &Run, texts: &[&str]) -> Outcome {
    match texts.iter().find(|text| !run.stdout.contains(**text)) {
        Some(text) => Err(run.told(&format!("it should show `{text}`"))),
        None => Ok(()),
    }
}

fn shot(tool: &Tool, options: &[&str]) -> Outcome {
    let count = if tool.long() { "100" } else { "4" };
    let run = under(tool, VICTIM, options, &["shoot", count])?;
    run.ended_with(0)?;
    shows(&run, &[" calls answered"])
}

fn nothing_left(tool: &Tool) -> Outcome {
    let count = if tool.long() { "10000" } else { "300" };
    let run = under(tool, VICTIM, &["exec"], &["restarts", count, "victim"])?;
    run.ended_with(0)?;
    shows(&run, &[&format!("victim: {count} lives")])
}

fn drivers(tool: &Tool) -> Outcome {
    let count = if tool.long() { "10000" } else { "300" };
    let manifest = format!("{DRIVER}{RESTARTS}");
    let run = under(
        tool,
        &manifest,
        &["exec", "--verbose"],
        &["restarts", count, "probe", "pci", "probe+pci", "pci+probe"],
    )?;
    run.ended_with(0)?;
    for name in ["probe", "pci", "probe+pci", "pci+probe"] {
        shows(&run, &[&format!("{name}: {count} lives")])?;
    }
    Ok(())
}

/// The components of the built-in manifest.
fn everybody(tool: &Tool) -> Outcome {
    let manifest = Manifest::parse(init::manifest::BUILT_IN).map_err(|complaint| complaint.to_string())?;
    let restarted = manifest.components.iter().filter(|entry| entry.restart == Restart::Always);
    let names: Vec<&str> =
        restarted.filter(|entry| entry.start == Start::Boot).map(|entry| entry.name).collect();
    let (count, patience) = if tool.long() { ("10000", "7200") } else { ("300", "300") };
    let run = tool.run([&["exec", "--timeout", patience, "--", "restarts", count], &names[..]].concat())?;
    run.ended_with(0)?;
    names.iter().try_for_each(|name| shows(&run, &[&format!("{name}: {count} lives")]))
}

/// A driver started by hand, which gets its device before it begins.
fn given(tool: &Tool, options: &[&str], how: &str) -> Result<Run, String> {
    let manifest =
        DRIVER.replacen("component probe\n    start boot\n    restart always\n", "component probe\n", 1);
    let run = under(tool, &manifest, options, &["probe", "once"])?;
    run.ended_with(0)?;
    shows(&run, &["1af4:1042, 1 BARs, 4 structures, 2 vectors", how, "BAR 4 has"])?;
    Ok(run)
}

fn trusted(tool: &Tool) -> Outcome {
    let run = given(tool, &["exec", "--verbose", "--no-iommu"], "trusted")?;
    run.complained_of(&["init: no IOMMU: drivers are trusted with all memory"])
}

fn seen(tool: &Tool) -> Outcome {
    let commands = ["inturn", "svc kill victim", "shoot 0", "svc list", "svc crashes 9", "svc caps victim"];
    let run = under(tool, VICTIM, &["exec"], &commands)?;
    run.ended_with(0)?;
    shows(
        &run,
        &[
            "victim was killed; it runs, in life 2",
            "victim           runs         7",
            "shoot reports 0x5a5a5a5a5a5a5a5a",
            "ordered to (libipc/rt/src/life.rs",
            "rt::life::inject",
            "ipc::serve::serve",
            "victim at ",
            ": hang",
            "page fault at 0x1000",
            "bell             Notification",
            "state            Frame",
        ],
    )
}

/// The walk over everybody's capabilities: under the built-in manifest, and under one in which everything occurs.
fn authority(tool: &Tool) -> Outcome {
    tool.run(["exec", "--", "authority"])?.ended_with(0)?;
    // A server with an emptied state, in another life, holds the same.
    tool.run(["exec", "--", "inturn", "svc reset ledger", "authority"])?.ended_with(0)?;
    let manifest = format!(
        "{DRIVER}{VICTIM}component spin\n start boot\n priority 50\n durable 64K\n serves nothing\n \
         holds sched-control irq-control io-ports system inventory control trace\n ports 0x80-0x8f\n irq 5 6\n\
         component authority\n calls victim nothing\n channel echo 4K\n holds supervise\n"
    );
    let run = under(tool, &manifest, &["exec"], &["inturn", "restarts 1 probe", "authority"])?;
    run.ended_with(0)?;
    shows(&run, &["6 components hold ", "; 0 are not as the manifest says"])
}

fn refused(tool: &Tool, command: &str, why: &str) -> Outcome {
    let words: Vec<&str> = command.split(' ').collect();
    let run = under(tool, VICTIM, &["exec"], &words)?;
    run.ended_with(1)?;
    run.complained_of(&[why])
}

fn init_dies(tool: &Tool) -> Outcome {
    let run = tool.run(["exec", "--append", "init=fault", "--timeout", "60", "--", "true"])?;
    if run.status == Some(0) || run.status == Some(124) {
        return Err(run.told("the guest should have stopped by itself, and not well"));
    }
    run.complained_of(&["init: invalid opcode", "init is dead, and nobody can start it again"])
}

fn unauthorised(tool: &Tool) -> Outcome {
    let run = under(tool, "component *\n", &["exec"], &["svc", "list"])?;
    run.ended_with(1)?;
    run.complained_of(&["the manifest does not allow it"])
}

/// What the commands have in common that look at one component's end. With `--icount` time goes on for the component as it
/// does for who waits for its end, whatever the host does.
fn looked_at(tool: &Tool, options: &[&str], component: &str, commands: &[&str]) -> Result<Run, String> {
    let manifest =
        format!("{component}\ncomponent inturn\n holds control\ncomponent svc\n holds supervise\n");
    under(tool, &manifest, &[&["exec", "--verbose"], options].concat(), &[&["inturn"], commands].concat())
}

fn parked(tool: &Tool) -> Outcome {
    let component = "component false\n start boot\n restart always\n heartbeat none\ncomponent *";
    // Its last pause is 320 ms, so it is parked within the second that `top` takes.
    let commands = ["svc top", "svc list", "svc crashes 1", "svc restart false", "svc list"];
    let run = looked_at(tool, &["--icount"], component, &commands)?;
    run.complained_of(&["init: false died too often and stays dead"])?;
    shows(&run, &["false            parked       9      8", ": ended", "false was ended; it "])
}

fn driver_parked(tool: &Tool, options: &[&str]) -> Outcome {
    let component = "component pci\n start boot\n restart always\n priority 180\n holds pci\n\
                     component false\n start boot\n restart always\n heartbeat none\n device 1af4:1044 vectors 1\n\
                     component *";
    let commands = ["svc top", "svc list", "svc restart false", "svc top", "svc list"];
    let run = looked_at(tool, &[&["--icount"], options].concat(), component, &commands)?;
    run.complained_of(&["init: false died too often and stays dead"])?;
    // Eight deaths; the operator's will makes one more life, and seven of back-off behind it.
    shows(&run, &["false            parked       9      8", "false            parked      17     16"])
}

fn hangs(tool: &Tool) -> Outcome {
    let component = "component spin\n start boot\n restart always\n priority 50";
    let run = looked_at(tool, &[], component, &["svc top", "svc top", "svc crashes 1"])?;
    run.ended_with(0)?;
    shows(&run, &["spin at ", ": hang", "rt_entry"])
}

fn over_budget(tool: &Tool) -> Outcome {
    let component =
        "component spin\n start boot\n restart always\n heartbeat none\n budget 1ms of 10ms strict";
    let run = looked_at(tool, &["--icount"], component, &["svc top", "svc crashes 1"])?;
    run.ended_with(0)?;
    shows(&run, &["spin at ", ": budget exhausted"])
}

fn asks_in_vain(tool: &Tool) -> Outcome {
    let component = "component false\n start boot\n restart always\n heartbeat none\n serves down\n\
                     component asker\n program trial\n start boot\n restart always\n heartbeat 5ms\n calls down";
    let run = looked_at(tool, &["--icount"], component, &["svc top", "svc list"])?;
    run.ended_with(0)?;
    shows(&run, &["false            parked       9      8", "asker            runs         1      0"])
}

fn nested(tool: &Tool) -> Outcome {
    let manifest = "component trial\n memory 512K\n slots 64\n holds control inventory\n";
    let run = under(tool, manifest, &["exec"], &["trial", "nest", "60"])?;
    run.ended_with(0)?;
    shows(&run, &["60 nested components ended, all is back"])
}

fn driver_of_a_program(tool: &Tool) -> Outcome {
    let manifest = "component pci\n start boot\n restart always\n priority 180\n holds pci\n\
                    component probe\n device 1af4:1042 vectors 2\ncomponent inturn\n holds control\n\
                    component svc\n holds supervise\n";
    let run = under(tool, manifest, &["exec"], &["inturn", "probe once", "svc list"])?;
    run.ended_with(0)?;
    shows(&run, &["1af4:1042, 1 BARs", "BAR 4 has", "inturn           runs"])?;
    match run.stderr.contains("ended with status") {
        true => Err(run.told("`probe once` is inturn's, and ended well")),
        false => Ok(()),
    }
}

fn pci_parked(tool: &Tool) -> Outcome {
    let component = "component pci\n program false\n start boot\n restart always\n heartbeat none\n holds pci\n\
                     component probe\n start boot\n restart always\n device 1af4:1042 vectors 2\n\
                     component ether\n device 1af4:1041 vectors 3\ncomponent *";
    let run = looked_at(tool, &["--icount"], component, &["svc top", "svc list", "ether"])?;
    shows(&run, &["pci              parked       9      8", "probe            parked"])?;
    run.complained_of(&[
        "init: probe is not started: pci, which drives the bus of its device, does not run",
        "init: ether is not started: pci, which drives the bus of its device, does not run",
    ])
}

fn damaged_state(tool: &Tool) -> Outcome {
    let component = "component brittle\n program trial\n start boot\n restart always\n state 4K\ncomponent *";
    let commands =
        ["svc kill brittle", "svc top", "svc list", "svc reset brittle", "svc list", "svc reset svc"];
    let run = looked_at(tool, &["--icount"], component, &commands)?;
    run.complained_of(&[
        "its state is damaged",
        "init: the state of brittle is emptied",
        "svc keeps no state",
    ])?;
    shows(
        &run,
        &["brittle          parked      10      8     1", "brittle          runs        10      8     1"],
    )
}

/// A later life is answered as the first was; with an empty state the same request is a new one.
fn emptied_state(tool: &Tool) -> Outcome {
    let component = "component ledger\n start boot\n restart always\n state 64K\n serves ledger\n\
                     component keeper\n program trial\n start boot\n restart always\n state 4K\n calls ledger\n\
                     component authority\n holds supervise";
    let commands = ["svc top", "svc kill keeper", "svc top", "svc reset keeper", "svc top", "authority"];
    let run = looked_at(tool, &["--icount"], component, &commands)?;
    run.ended_with(0)?;
    run.complained_of(&[
        "keeper, life 1: account 65536",
        "keeper, life 2: account 65536",
        "keeper, life 3: another account has the name",
    ])?;
    shows(&run, &["; 0 are not as the manifest says"])
}

fn liar(tool: &Tool) -> Outcome {
    let manifest = format!("{VICTIM}component trial\n channel echo 4K\n");
    let commands = ["inturn", "trial liar 30", "svc list"];
    let run = under(tool, &manifest, &["exec", "--verbose", "--icount"], &commands)?;
    run.ended_with(0)?;
    run.complained_of(&["init: trial has reported too often and is not believed: victim goes on"])?;
    shows(&run, &["4 of 30 lies believed", "victim           runs         5      4"])
}

fn slow_heartbeat(tool: &Tool) -> Outcome {
    // It is ready within its first period, which is longer than the grace; the first look comes before that.
    let component =
        "component late\n program trial\n start boot\n restart always\n heartbeat 3000ms\ncomponent *";
    let run =
        looked_at(tool, &["--icount"], component, &["svc top", "svc top", "svc top", "svc top", "svc list"])?;
    run.ended_with(0)?;
    shows(&run, &["late             runs         1      0"])
}

fn no_device(tool: &Tool) -> Outcome {
    let manifest = "component pci\n start boot\n restart always\n priority 180\n holds pci\n\
                    component probe\n device 1af4:1fff vectors 2\n";
    let run = under(tool, manifest, &["exec"], &["probe"])?;
    run.ended_with(126)?;
    run.complained_of(&["probe: the machine has no device 1af4:1fff number 0"])
}
