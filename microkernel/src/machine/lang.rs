//! What precompiled `core` expects of the program it is linked into.

core::arch::global_asm!(include_str!("../../../libipc/rt/asm/memory.s"));

/// Named by the unwind tables of precompiled code, which we discard; never called.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Named by precompiled code; never called, because a panic here does not unwind.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    panic!("unwinding in the kernel")
}
