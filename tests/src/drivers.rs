//! What the drivers promise on the machine itself: devices are found, used and fenced.

use crate::harness::{Outcome, Test};
use crate::supervision::{shows, under};
use crate::tool::Tool;

/// The promises, one by one.
pub const TESTS: &[Test] = &[
    Test::case("drivers/a_device_reaches_what_its_driver_may_and_nothing_else", fence),
    Test::case("drivers/without_an_iommu_there_is_no_fence_and_it_is_said", no_fence),
    Test::case("drivers/a_device_that_cannot_be_stopped_is_not_begun_with", no_stop),
    Test::case("drivers/random_bytes_come_and_differ", random),
];

/// A bus, and the driver of a device.
const EDU: &str = "
component pci
    start boot
    restart always
    priority 180
    holds pci
component edu
    start boot
    restart always
    device 1234:11e8 vectors 1
    serves edu
component svc
    holds supervise
component inturn
    holds control
";

fn fence(tool: &Tool) -> Outcome {
    let run = tool.run(["exec", "--timeout", "120", "--", "dma-fence"])?;
    // 3: QEMU's IOMMU does not know who writes an interrupt's message.
    if run.status != Some(0) && run.status != Some(3) {
        return Err(run.told("the fence did not hold"));
    }
    for kind in ["write", "read"] {
        let reported = run.stdout.lines().any(|line| {
            line.contains(&format!("{kind} of foreign memory at 0x"))
                && line.contains(&format!(".0 was stopped: {kind} of address 0x"))
        });
        if !reported {
            return Err(run.told(&format!("no report of the {kind} names device and address")));
        }
    }
    match run.stdout.matches("memory unchanged").count() {
        2 => Ok(()),
        _ => Err(run.told("not all memory is said to be unchanged")),
    }
}

fn no_fence(tool: &Tool) -> Outcome {
    let run = tool.run(["exec", "--no-iommu", "--", "dma-fence"])?;
    run.ended_with(2)?;
    match run.stdout.contains("no IOMMU, so its driver is trusted with all memory") {
        true => Ok(()),
        false => Err(run.told("it does not say that there is no IOMMU")),
    }
}

/// Not PCI Express, so without a reset of its own; and on the root bus, which other devices are on, too.
fn no_stop(tool: &Tool) -> Outcome {
    let options = ["exec", "--no-devices", "--device", "edu,addr=0x10"];
    let run = under(tool, EDU, &options, &["inturn", "svc list", "svc log"])?;
    run.ended_with(0)?;
    shows(&run, &["edu              parked", "edu is not started: pci cannot start its device"])
}

fn random(tool: &Tool) -> Outcome {
    let run = tool.run(["exec", "--", "random", "96"])?;
    run.ended_with(0)?;
    let mut lines: Vec<&str> = run.stdout.lines().collect();
    let sound = |line: &&str| line.len() == 64 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    lines.sort_unstable();
    lines.dedup();
    match lines.len() == 3 && lines.iter().all(sound) {
        true => Ok(()),
        false => Err(run.told("these are not 96 random bytes")),
    }
}
