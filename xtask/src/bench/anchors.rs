//! What others reach, and what Skink must: the constants set beside our figures.
//!
//! All counts are guest instructions per operation, user stubs included, taken under QEMU 7.2 TCG with
//! `-machine q35 -icount shift=0,sleep=off -smp 1`, the flags our own are taken with.
//!
//! - seL4: version 16.0.0-dev, measured; its default release build (MCS where so noted), and its SMP build
//!   with the big lock, which is what compares with our one SMP-capable build.
//! - Linux: Debian 12's 6.1 cloud kernel, mitigations=off, `-cpu max,-erms,-fsrm` (its best under TCG),
//!   measured. No operation of Linux's is quite ours; each figure says what was measured.

/// What is known of one benchmark beside our own figure.
#[derive(Debug)]
pub struct Anchor {
    /// The benchmark.
    pub name: &'static str,
    /// The most our median may be.
    pub reach: Option<u32>,
    /// seL4, release build.
    pub sel4: Option<u32>,
    /// seL4, SMP build.
    pub sel4_smp: Option<u32>,
    /// What was measured of seL4 where it is not simply the same.
    pub sel4_note: &'static str,
    /// Linux.
    pub linux: Option<u32>,
    /// What was measured of Linux.
    pub linux_note: &'static str,
}

const fn anchor(name: &'static str) -> Anchor {
    Anchor { name, reach: None, sel4: None, sel4_smp: None, sel4_note: "", linux: None, linux_note: "" }
}

impl Anchor {
    const fn reach(self, reach: u32) -> Self {
        Anchor { reach: Some(reach), ..self }
    }

    const fn sel4(self, release: u32, smp: Option<u32>, note: &'static str) -> Self {
        Anchor { sel4: Some(release), sel4_smp: smp, sel4_note: note, ..self }
    }

    const fn linux(self, instructions: u32, note: &'static str) -> Self {
        Anchor { linux: Some(instructions), linux_note: note, ..self }
    }

    /// What is known of the benchmark called `name`.
    pub fn of(name: &str) -> Option<&'static Anchor> {
        ANCHORS.iter().find(|anchor| anchor.name == name)
    }
}

/// Every benchmark of the kernel suite that has a figure beside it or a bound.
pub static ANCHORS: [Anchor; 15] = [
    anchor("ipc.call_reply.cross.0")
        .reach(200)
        .sel4(429, Some(602), "")
        .linux(12_531, "pipe ping-pong of 1 byte between 2 processes"),
    anchor("ipc.call_reply.cross.4").sel4(471, Some(644), ""),
    anchor("ipc.call_reply.cross.8").reach(220).sel4(
        1_653,
        Some(1_905),
        "5 words: it leaves the fast path there",
    ),
    anchor("ipc.call_reply.cross.72").reach(500).sel4(
        2_300,
        None,
        "about, from its figures for 5 and 120 words",
    ),
    anchor("ipc.call_reply.same.0").sel4(425, Some(564), ""),
    anchor("ipc.call_reply.passive.0").sel4(531, None, "MCS build"),
    anchor("syscall.null").reach(45).sel4(87, None, "benchmark build").linux(359, "null system call"),
    anchor("sched.yield_pair")
        .reach(300)
        .sel4(523, Some(755), "")
        .linux(3_210, "yield round of 2 processes, FIFO"),
    anchor("notify.signal_wait").reach(450).sel4(954, Some(1_213), ""),
    anchor("notify.ping_pong").sel4(2_035, Some(2_571), "4 calls").linux(9_703, "futex ping-pong"),
    anchor("fault.handle")
        .reach(600)
        .sel4(1_256, Some(1_537), "")
        .linux(3_172, "anonymous page fault, handled in the kernel"),
    anchor("vspace.map_unmap_4k").reach(900).sel4(1_421, None, "").linux(10_369, "mmap + munmap of 64 KiB"),
    anchor("thread.create_run_join_delete")
        .reach(8_000)
        .sel4(12_733, None, "")
        .linux(65_736, "thread create + join"),
    anchor("cap.mint_delete").sel4(1_607, None, "copy + delete"),
    anchor("endpoint.retype_delete").sel4(1_881, None, ""),
];

/// What the figures beside ours are, in a sentence each.
pub const SOURCES: [&str; 2] = [
    "seL4 16.0.0-dev, measured under the same QEMU flags: release build / SMP build.",
    "Linux 6.1 (Debian 12 cloud kernel, mitigations=off), measured under the same QEMU flags.",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_benchmark_is_listed_once() {
        for (index, anchor) in ANCHORS.iter().enumerate() {
            assert!(ANCHORS[..index].iter().all(|other| other.name != anchor.name), "{}", anchor.name);
        }
    }

    #[test]
    fn every_figure_of_linux_says_what_was_measured() {
        for anchor in &ANCHORS {
            assert_eq!(anchor.linux.is_some(), !anchor.linux_note.is_empty(), "{}", anchor.name);
        }
    }

    #[test]
    fn every_bound_is_under_what_sel4_takes() {
        for anchor in &ANCHORS {
            if let (Some(reach), Some(sel4)) = (anchor.reach, anchor.sel4) {
                assert!(reach < sel4, "{}", anchor.name);
            }
        }
    }
}
