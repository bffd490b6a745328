//! The devices that frames and bytes go through, with the drivers in between.

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
    Test::case("devices/the_host_hears_what_is_said_on_its_port", |tool| {
        printed(tool, "port say heard-on-a-port", &["heard-on-a-port"])
    }),
    Test::case("devices/a_port_takes_more_than_a_ring_full", |tool| {
        printed(tool, "port fill 300000", &["300000 bytes were taken"])
    }),
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

fn printed(tool: &Tool, command: &str, texts: &[&str]) -> Outcome {
    let run = tool.run(["exec", "--"].into_iter().chain(command.split(' ')))?;
    run.ended_with(0)?;
    shows(&run, texts)
}
