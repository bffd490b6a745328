//! The devices that frames and bytes go through, with the drivers in between.

use std::ffi::OsStr;

use crate::harness::{Outcome, Test};
use crate::supervision::{shows, under};
use crate::tool::Tool;

/// What works in the guest.
pub const TESTS: &[Test] = &[
    Test::case("devices/the_network_device_is_as_qemu_made_it", |tool| {
        printed(tool, "ether info", &["address 52:54:00:73:6b:01", "mtu 1500", "link up"])
    }),
    Test::case("devices/each_of_200_echoes_comes_back", |tool| {
        printed(tool, "ether ping 200 1400", &["200 of 200 echoes of 1400 bytes came"])
    }),
    Test::case("devices/an_echo_longer_than_a_frame_is_refused", |tool| {
        let run = tool.run(["exec", "--", "ether", "ping", "1", "1469"])?;
        run.ended_with(1)?;
        run.complained_of(&["an echo has at most 1468 bytes on this wire"])
    }),
    Test::case("devices/a_port_takes_more_than_a_ring_full", |tool| {
        let run = under(tool, DRIVERS, &["exec"], &["port", "fill", "300000"])?;
        run.ended_with(0)?;
        shows(&run, &["300000 bytes were taken"])
    }),
    Test::case("devices/the_hosts_channel_loses_and_doubles_nothing_when_its_driver_dies", |tool| {
        under_fire(tool, &[])
    }),
    Test::case("devices/so_it_does_on_two_cpus", |tool| under_fire(tool, &["--smp", "2"])),
    Test::case("devices/so_it_does_when_it_dies_at_every_message", at_every_message),
    Test::case("devices/the_log_has_a_port_of_its_own", log_port),
    Test::case("devices/nothing_is_left_of_their_drivers_dead_lives", |tool| {
        let count = if tool.long() { "10000" } else { "100" };
        // The first two wait until both drivers are there.
        let restarts = format!("restarts {count} virtio-net virtio-console");
        let run = under(tool, DRIVERS, &["exec"], &["inturn", "ether info", "port fill 1", &restarts])?;
        run.ended_with(0)?;
        shows(&run, &[&format!("virtio-net: {count} lives"), &format!("virtio-console: {count} lives")])
    }),
];

/// The drivers, and who uses and kills them.
const DRIVERS: &str = "
component pci
    start boot
    restart always
    priority 180
    holds pci
component virtio-net
    start boot
    restart always
    memory 2M
    stack 256K
    offers net rings 64K
    device 1af4:1041 vectors 3
component virtio-console
    start boot
    restart always
    memory 2M
    stack 256K
    offers skink-log rings 64K
    device 1af4:1043 vectors 2
component ether
    stack 256K
    channel net 256K
component port
    channel skink-log 4K
component restarts
    holds supervise inventory
component inturn
    holds control
";

/// Sends a text there and back, while the console's driver dies in every way.
fn under_fire(tool: &Tool, options: &[&str]) -> Outcome {
    const EVERY: usize = 2000;
    let lines = if tool.long() { 1_000_000 } else { 20_000 };
    let text: String = (0..lines).map(|line| format!("{line}\n")).collect();
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let log = folder.path().join("log");
    let every = EVERY.to_string();
    let command = ["--", "underfire", "virtio-console", "every", &every];
    let mut arguments: Vec<&OsStr> = ["exec", "--log"].map(OsStr::new).into();
    arguments.push(log.as_os_str());
    arguments.extend(options.iter().chain(&command).map(OsStr::new));
    let run = tool.run_with_input(arguments, text.clone().into_bytes())?;
    run.ended_with(0)?;
    if run.stdout != text {
        return Err(format!("what came back is not what was sent:\n{}", run.stderr));
    }
    let died =
        run.stderr.lines().find_map(|line| line.strip_prefix("virtio-console died ")?.strip_suffix(" times"));
    let died: usize = died.and_then(|died| died.parse().ok()).unwrap_or(0);
    if died < text.len() / EVERY / 2 {
        return Err(run.told("the driver has hardly died"));
    }
    let log = std::fs::read_to_string(&log).map_err(|error| error.to_string())?;
    if !log.contains("init: speaks with the host over skink-host") {
        return Err(format!("the channel is not what was meant to be tested:\n{log}"));
    }
    Ok(())
}

/// Sends a text there and back, while the console's driver dies at one message after the other.
fn at_every_message(tool: &Tool) -> Outcome {
    let (last, bytes) = if tool.long() { (1000, 400 << 20) } else { (60, 4 << 20) };
    let text: String =
        (0u64..).flat_map(|line| format!("{line}\n").into_bytes()).map(char::from).take(bytes).collect();
    let range = format!("1-{last}");
    let arguments = ["exec", "--", "underfire", "virtio-console", "at-message", &range];
    let run = tool.run_with_input(arguments, text.clone().into_bytes())?;
    run.ended_with(0)?;
    if run.stdout != text {
        // Not what it printed: that is long.
        return Err("what came back is not what was sent".into());
    }
    run.complained_of(&[&format!("virtio-console died {last} times")])
}

/// What comes by the port is what the kernel keeps, from its beginning on.
fn log_port(tool: &Tool) -> Outcome {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let log = folder.path().join("log");
    let arguments = [OsStr::new("exec"), OsStr::new("--log"), log.as_os_str()];
    let run = tool.run(arguments.into_iter().chain(["--", "svc", "log"].map(OsStr::new)))?;
    run.ended_with(0)?;
    let log = std::fs::read_to_string(&log).map_err(|error| error.to_string())?;
    let kept = run.stdout.trim_end();
    if log.lines().count() < 10 || !kept.starts_with(log.trim_end()) && !log.starts_with(kept) {
        return Err(format!("the port's log:\n{log}\nand the kernel's:\n{kept}"));
    }
    Ok(())
}

fn printed(tool: &Tool, command: &str, texts: &[&str]) -> Outcome {
    let run = tool.run(["exec", "--"].into_iter().chain(command.split(' ')))?;
    run.ended_with(0)?;
    shows(&run, texts)
}
