//! The end: QEMU's isa-debug-exit, else a reset, else standing still.

use firmware::acpi::Reset;
use spin::Once;
use x86_64::instructions::hlt;
use x86_64::instructions::port::Port;

/// The status a panic ends with.
pub const PANICKED: u32 = 0x10;

const DEBUG_EXIT: u16 = 0xf4;
static RESET: Once<Reset> = Once::new();

/// Remembers ACPI's reset register.
pub fn init(reset: Option<Reset>) {
    if let Some(reset) = reset {
        RESET.call_once(|| reset);
    }
}

/// Ends the machine. Under QEMU with `-device isa-debug-exit,iobase=0xf4,iosize=4` it exits with
/// `status << 1 | 1`; elsewhere the machine starts again, and the status is lost.
pub fn shutdown(status: u32) -> ! {
    // Nobody asks it again.
    super::log::send(10_000_000);
    // SAFETY: the port is QEMU's exit device or, where that is missing, nobody's.
    unsafe { Port::new(DEBUG_EXIT).write(status) };
    if let Some(reset) = RESET.get() {
        // SAFETY: ACPI says that this write resets the machine (FADT, 4.8.3.6): nothing runs after it.
        unsafe { Port::new(reset.port).write(reset.value) };
    }
    const KEYBOARD_CONTROLLER: u16 = 0x64;
    // SAFETY: command 0xfe pulses the reset line: nothing runs after it.
    unsafe { Port::new(KEYBOARD_CONTROLLER).write(0xfe_u8) };
    loop {
        hlt();
    }
}
