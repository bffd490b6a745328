//! The Skink microkernel.
//!
//! [`machine`] is what stands below the kernel's logic: boot, CPU set-up, page tables of the kernel, interrupt
//! controllers, timer, other CPUs, serial log, panic screen. It owns all device registers the kernel
//! touches, and hands the rest of the machine over as a [`machine::boot::Boot`] to [`kernel_main`].
#![no_std]
#![no_main]
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod machine;
mod probe;
mod trap;

use machine::boot::Boot;

/// Where the machine layer hands over, on the boot CPU, with interrupts off.
pub extern "C" fn kernel_main(boot: &'static Boot) -> ! {
    probe::run(boot)
}
