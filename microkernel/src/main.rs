//! The Skink microkernel.
//!
//! Where to start reading: crate `objects` has what the kernel is; here is what it stands on. [`machine`] is
//! what lies below the logic: boot, CPU set-up, page tables of the kernel, interrupt controllers, timer, other
//! CPUs, serial log, panic screen. [`entry`] with asm/entry.s and asm/fastpath.s is the way in and out,
//! [`remote`] the kernel lock and what CPUs ask of each other, [`hardware`] joins the two.
#![no_std]
#![no_main]
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod entry;
mod hardware;
mod machine;
mod remote;

use abi::BootInfo;
use abi::boot::KernelLog;
use abi::trace::{MAX_CPUS, Ring};
use objects::boot::{Handover, Region};

use crate::hardware::KERNEL;
use crate::machine::boot::Boot;
use crate::machine::{paging, smp, window};

unsafe extern "C" {
    /// Begins a CPU's work (asm/entry.s).
    fn start_running(cpu: &objects::Cpu) -> !;
}

/// Where the machine layer hands over, on the boot CPU, with interrupts off.
pub extern "C" fn kernel_main(boot: &'static Boot) -> ! {
    KERNEL.root.set(paging::top());
    for (entry, value) in KERNEL.kernel_entries.iter().zip(paging::kernel_entries()) {
        entry.set(value);
    }
    assert!(!boot.option("panic=test"), "asked for, by the boot option panic=test");
    KERNEL.tsc_hz.set(boot.tsc_hz);
    KERNEL.trace_rings.set(window(boot.trace));
    KERNEL.start_cpus(boot.cpus);
    if boot.option("nofast") {
        hardware::disable_fast_path();
    }
    start_init(boot);
    smp::release_aps(run);
    run(0)
}

/// A CPU's first and last Rust frame.
fn run(number: usize) -> ! {
    let here = KERNEL.cpu(number);
    hardware::init_cpu(here);
    // SAFETY: the CPU is set up, its stack named, and nothing on this one is needed any more.
    unsafe { start_running(here) }
}

fn start_init(boot: &Boot) {
    let Some(archive) = boot.archive else {
        panic!("no boot archive: name it with `archive=START+SIZE`, or as a module")
    };
    let Some(init) = firmware::cpio::first_file(machine::boot::archive_bytes(archive)) else {
        panic!("the boot archive is not a cpio archive (newc) that begins with init");
    };
    let handover = Handover {
        memory: boot.memory.as_slice(),
        devices: boot.devices.as_slice(),
        archive,
        log: Region::sized(boot.log, size_of::<KernelLog>() as u64),
        trace: Region::sized(boot.trace, (size_of::<Ring>() as u64).saturating_mul(MAX_CPUS as u64)),
        init,
        info: boot_info(boot),
    };
    if let Err(error) = KERNEL.boot(KERNEL.cpu(0), &handover) {
        panic!("init cannot start: {error:?}");
    }
}

/// What init is told about the machine; memory is added by the logic.
fn boot_info(boot: &Boot) -> BootInfo {
    let mut info = BootInfo::new();
    info.rsdp = boot.platform.rsdp.unwrap_or(0);
    if let Some(ecam) = boot.ecam {
        info.ecam = ecam.base;
        info.ecam_buses = [ecam.first_bus, ecam.last_bus];
    }
    info.iommu = u8::from(machine::iommu::levels() > 0);
    for (to, &from) in info.command_line.iter_mut().zip(boot.command_line) {
        *to = from;
    }
    info.command_line_size = boot.command_line.len().min(info.command_line.len()) as u64;
    info
}
