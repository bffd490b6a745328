//! What the compiler expects of a C library, the panic handler and the global allocator.

use core::arch::global_asm;
use core::panic::PanicInfo;

use crate::heap::Heap;

global_asm!(include_str!("../asm/memory.s"));

#[global_allocator]
static HEAP: Heap = Heap::new();

#[panic_handler]
fn panicked(info: &PanicInfo) -> ! {
    crate::panic::panicked(info)
}

/// Named by the precompiled core's unwind tables, which are discarded; never called.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Named by the precompiled core's landing pads; never called, as nothing unwinds.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    crate::panic::crash("_Unwind_Resume was called in a program that does not unwind")
}
