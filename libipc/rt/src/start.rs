//! The first instructions of a program.

use crate::io;

/// Where every program begins: on an empty stack, with GS pointing at the IPC buffer (of init: set by its
/// entry). Marks the end of the frame-pointer chain, aligns the stack, and goes on in Rust.
///
/// # Safety
///
/// Only the one who starts the thread jumps here.
#[unsafe(naked)]
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.start")]
#[cfg(panic = "abort")]
pub unsafe extern "C" fn _start() -> ! {
    core::arch::naked_asm!("xor ebp, ebp", "and rsp, -16", "push rbp", "push rbp", "call rt_entry", "ud2")
}

/// What a program's main function may return.
pub trait Status {
    /// As an exit status.
    fn status(self) -> u8;
}

impl Status for () {
    fn status(self) -> u8 {
        0
    }
}

impl Status for u8 {
    fn status(self) -> u8 {
        self
    }
}

impl<T: Status, E: core::fmt::Display> Status for Result<T, E> {
    fn status(self) -> u8 {
        match self {
            Ok(value) => value.status(),
            Err(error) => {
                crate::eprintln!("{}: {error}", crate::env::name());
                1
            }
        }
    }
}

/// Runs a program's main function and ends with its status.
pub fn run<S: Status>(main: fn() -> S) -> ! {
    io::exit(main().status())
}

/// Names the main function of a program: `rt::entry!(main);` with `fn main()`, `fn main() -> u8` or
/// `fn main() -> Result<(), impl Display>`.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn rt_entry() -> ! {
            $crate::start::run($main)
        }
    };
}

/// Names the main function of the root task, `fn main() -> !`. The kernel gives it no registers: its IPC
/// buffer is where `abi::boot` says.
#[macro_export]
macro_rules! root {
    ($main:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn rt_entry() -> ! {
            $crate::start::use_ipc_buffer_of_init();
            $main()
        }
    };
}

/// Points GS at init's IPC buffer.
#[doc(hidden)]
pub fn use_ipc_buffer_of_init() {
    // SAFETY: FSGSBASE is on. The kernel has mapped the buffer there and maps it for good; init's thread has
    // used no GS-relative data yet.
    unsafe {
        core::arch::asm!("wrgsbase {}", in(reg) abi::boot::INIT_IPC_BUFFER, options(nostack, preserves_flags));
    }
}
