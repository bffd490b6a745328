//! Disks: what is written is there, on the disk it was written to, with and without an IOMMU, and at the next boot.

use std::io::Write;
use std::path::Path;

use crate::harness::{Outcome, Test};
use crate::tool::{Run, Tool};

/// What disks promise.
pub const TESTS: &[Test] = &[
    Test::case("disks/what_is_written_is_read_and_what_is_cleared_is_zero", |tool| {
        tool.run(["exec", "--", "disk", "test", "1000", "20000", "1"])?.ended_with(0)
    }),
    Test::case("disks/without_an_iommu_too", |tool| {
        tool.run(["exec", "--no-iommu", "--smp", "2", "--", "disk", "test", "0", "20000", "2"])?.ended_with(0)
    }),
    Test::case("disks/their_size_and_what_they_offer_is_said", info),
    Test::case("disks/128_requests_can_be_under_way", |tool| {
        tool.run(["exec", "--", "disk", "rate", "1000", "128"])?.ended_with(0)
    }),
    Test::case("disks/what_lies_behind_the_end_is_refused", behind_the_end),
    Test::case("disks/each_has_a_driver_of_its_own_and_one_that_stays_keeps_what_was_written", two),
];

fn info(tool: &Tool) -> Outcome {
    let run = tool.run(["exec", "--scratch", "3M", "--", "disk", "info"])?;
    run.ended_with(0)?;
    let expected = "6144 sectors of 512 bytes, in blocks of 512 bytes\nat most 28 segments in a request\n\
                    cache\ndiscard\nwrite-zeroes\n";
    if run.stdout == expected { Ok(()) } else { Err(run.told(&format!("it should say {expected:?}"))) }
}

fn behind_the_end(tool: &Tool) -> Outcome {
    let run = tool.run(["exec", "--scratch", "1M", "--", "disk", "write", "2000", "49", "1"])?;
    run.ended_with(1)?;
    match run.stderr.contains("disk: at sector 2000: no request for this device") {
        true => Ok(()),
        false => Err(run.told("it should say why")),
    }
}

/// Two disks, of which the second stays, and a program on each.
const TWO: &str = "component pci\n start boot\n restart always\n stack 256K\n priority 210\n holds pci\n\
    component first\n program virtio-blk\n start boot\n restart always\n memory 2M\n priority 120\n \
        device 1af4:1042 0 vectors 2\n offers one rings 128K\n\
    component second\n program virtio-blk\n start boot\n restart always\n memory 2M\n priority 120\n \
        device 1af4:1042 1 vectors 2\n offers two rings 128K\n\
    component on-one\n program disk\n memory 8M\n channel one 1M\n\
    component on-two\n program disk\n memory 8M\n channel two 1M\n\
    component *\n";

fn two(tool: &Tool) -> Outcome {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (disk, manifest) = (folder.path().join("disk"), folder.path().join("manifest"));
    let write = |path: &Path, bytes: &[u8]| {
        std::fs::File::create(path)
            .and_then(|mut file| file.write_all(bytes))
            .map_err(|error| error.to_string())
    };
    write(&disk, &vec![0; 2 << 20])?;
    write(&manifest, TWO.as_bytes())?;
    let run = |command: &[&str]| -> Result<Run, String> {
        let (disk, manifest) = (disk.display().to_string(), manifest.display().to_string());
        tool.run([&["exec", "--disk", &disk, "--manifest", &manifest, "--"], command].concat())
    };
    run(&["on-two", "write", "7", "2000", "5"])?.ended_with(0)?;
    run(&["on-two", "verify", "7", "2000", "5"])?.ended_with(0)?;
    // The other one has none of it.
    run(&["on-one", "verify", "7", "1", "5"])?.ended_with(1)?;
    let bytes = std::fs::read(&disk).map_err(|error| error.to_string())?;
    let (before, written) = bytes.split_at(7 * 512);
    match before.iter().all(|byte| *byte == 0)
        && written[..2000 * 512].chunks(512).all(|each| each != [0; 512])
    {
        true => Ok(()),
        false => Err("the host's file does not hold what was written".to_owned()),
    }
}
