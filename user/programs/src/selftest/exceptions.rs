//! Exceptions: which vector, error code and address the handler hears of, for all that user code can do wrong.

use abi::{MapFlags, PAGE_SIZE, Registers};

use crate::arena;
use crate::row;
use crate::snippets;
use crate::subject::{
    ALIGNMENT_FLAG, BREAKPOINT, DIVIDE_ERROR, FETCH, FIXED_FLAGS, Fault, GENERAL_PROTECTION, HERE,
    INVALID_OPCODE, KERNEL_ADDRESSES, NOT_CANONICAL, PAGE_FAULT, PRESENT, SIMD_ERROR, SINGLE_STEP,
    STACK_FAULT, Snippet, Subject, TRAP_FLAG, USER, WRITE, X87_ERROR, address, breakpoint, code, divide_x87,
    end, read, undefined, write,
};
use crate::table::Test;
use crate::world::{BLOCKED, Must, VSPACE, World};

/// The tests of this area.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    row!("exceptions", a_divide_error_arrives_as_vector_0, "a division by zero, or whose quotient does not fit, is fault 0 at its instruction"),
    row!("exceptions", a_single_step_arrives_as_vector_1, "with TF set each instruction is followed by fault 1, and runs once"),
    row!("exceptions", a_breakpoint_arrives_as_vector_3, "int3 is fault 3, with rip behind it"),
    row!("exceptions", no_int_instruction_reaches_a_gate, "int n is fault 13 for every n but the breakpoint's: no user code raises interrupts or other exceptions"),
    row!("exceptions", an_invalid_opcode_arrives_as_vector_6, "an undefined instruction is fault 6 at its address"),
    row!("exceptions", an_address_that_is_not_canonical_arrives_as_vector_13, "a non-canonical address is fault 13 (12 by the stack) without an address"),
    row!("exceptions", a_jump_to_what_is_not_canonical_ends_in_a_fault, "a jump to a non-canonical address is fault 13, again and again if resumed, and never one of the kernel's"),
    row!("exceptions", a_page_fault_tells_read_write_and_execute, "an access to nothing is fault 14 with the address and a code that tells read, write and execute"),
    row!("exceptions", a_page_fault_tells_a_forbidden_access, "a write to what is read-only and a jump to what is not executable are fault 14 with the protection bit"),
    row!("exceptions", an_access_across_pages_names_the_page_that_is_missing, "an access that crosses into an unmapped page names an address in that page"),
    row!("exceptions", the_kernels_addresses_are_closed, "reading, writing and executing at the kernel's addresses is fault 14 wherever it is tried"),
    row!("exceptions", an_x87_error_arrives_as_vector_16, "an unmasked x87 error is fault 16 at the next waiting instruction"),
    row!("exceptions", a_simd_error_arrives_as_vector_19_if_the_cpu_raises_it, "an unmasked SIMD error is fault 19, or on a CPU that raises none leaves its flag in MXCSR"),
    row!("exceptions", an_unaligned_access_is_no_fault_even_with_ac, "alignment is not checked: with AC set an unaligned access works"),
];

snippets! {
    /// Divides by rcx.
    divide: "div rcx";
    /// The same, signed.
    divide_signed: "idiv rcx";
    /// Nothing twice, then counts.
    steps: "nop", "inc rax", "inc rax";
    /// The breakpoint in two bytes.
    long_breakpoint: ".byte 0xcd, 3";
    /// Writes at the stack.
    push: "push rax";
    /// Jumps to rdi.
    jump: "jmp rdi";
    /// Divides zero by zero with the MXCSR at rdi; MXCSR afterwards to rdi + 8.
    divide_simd: "ldmxcsr [rdi]", "divss xmm0, xmm1", "stmxcsr [rdi + 8]";
}

/// Runs `code` and expects this fault, `length` bytes behind its start, with all registers as they were.
#[track_caller]
fn strikes(
    w: &mut World,
    code: Snippet,
    change: impl FnOnce(&mut Registers, u64),
    length: u64,
    [kind, error, address]: [u64; 3],
) {
    let subject = Subject::new(w);
    let mut registers = subject.registers(code);
    change(&mut registers, subject.scratch());
    strikes_at(&subject, &registers, length, [kind, error, address]);
}

#[track_caller]
fn strikes_at(subject: &Subject, registers: &Registers, length: u64, [kind, code, address]: [u64; 3]) {
    subject.run(registers);
    let Registers { rip, rsp, rflags, .. } = *registers;
    assert_eq!(subject.hear(), Fault { kind, code, rip: rip + length, address, rsp, rflags });
    assert_eq!(subject.thread.state(), BLOCKED);
    assert_eq!(subject.found(), Registers { rip: rip + length, ..*registers });
}

fn a_divide_error_arrives_as_vector_0(w: &mut World) {
    strikes(w, divide, |r, _| r.rcx = 0, 0, [DIVIDE_ERROR, 0, 0]);
    // More than 2^64 divided by 1.
    let too_much = |r: &mut Registers, _| [r.rdx, r.rcx] = [1, 1];
    strikes(w, divide, too_much, 0, [DIVIDE_ERROR, 0, 0]);
    let lowest = |r: &mut Registers, _| [r.rdx, r.rax, r.rcx] = [u64::MAX, 1 << 63, u64::MAX];
    strikes(w, divide_signed, lowest, 0, [DIVIDE_ERROR, 0, 0]);
}

fn a_single_step_arrives_as_vector_1(w: &mut World) {
    let subject = Subject::new(w);
    let mut registers = subject.registers(steps);
    (registers.rax, registers.rflags) = (0, FIXED_FLAGS | TRAP_FLAG);
    subject.run(&registers);
    for length in [1, 4, 7] {
        let fault = subject.hear();
        assert_eq!((fault.what(), fault.rip), ([SINGLE_STEP, 0, 0], address(steps) + length));
        assert_eq!(fault.rflags & TRAP_FLAG, TRAP_FLAG, "the handler sees TF");
        subject.resume();
    }
    assert_eq!(subject.hear().kind, INVALID_OPCODE);
    assert_eq!(subject.found().rax, 2);
}

fn a_breakpoint_arrives_as_vector_3(w: &mut World) {
    strikes(w, breakpoint, |_, _| (), 1, [BREAKPOINT, 0, 0]);
    strikes(w, long_breakpoint, |_, _| (), 2, [BREAKPOINT, 0, 0]);
}

fn no_int_instruction_reaches_a_gate(w: &mut World) {
    const INT: u8 = 0xcd;
    let subject = Subject::new(w);
    let mut bytes = [0; 512];
    for (vector, place) in bytes.chunks_exact_mut(2).enumerate() {
        place.copy_from_slice(&[INT, vector as u8]);
    }
    let place = code(w, HERE, &bytes);
    for vector in (0..256).filter(|&vector| vector != BREAKPOINT) {
        let registers = subject.registers_at(place + 2 * vector);
        subject.run(&registers);
        let fault = subject.hear();
        assert_eq!((fault.kind, fault.rip, fault.address), (GENERAL_PROTECTION, registers.rip, 0));
        // The error code says that it is in the IDT, and the gate's index (under TCG its offset).
        assert!(fault.code == vector << 3 | 2 || fault.code == vector << 4 | 2, "{fault:x?}");
        assert_eq!(subject.found(), registers);
    }
}

fn an_invalid_opcode_arrives_as_vector_6(w: &mut World) {
    strikes(w, undefined, |_, _| (), 0, [INVALID_OPCODE, 0, 0]);
    // (push cs, aam, lock nop: no instructions in 64-bit mode.)
    let place = code(w, HERE, &[0x0e, 0xd4, 0x0a, 0xf0, 0x90]);
    for offset in [0, 1, 3] {
        let subject = Subject::new(w);
        strikes_at(&subject, &subject.registers_at(place + offset), 0, [INVALID_OPCODE, 0, 0]);
    }
}

fn an_address_that_is_not_canonical_arrives_as_vector_13(w: &mut World) {
    for address in [NOT_CANONICAL, 0xffff_7fff_ffff_fff8, 0x7fff_ffff_ffff_ffff, 1 << 63] {
        strikes(w, read, |r, _| r.rdi = address, 0, [GENERAL_PROTECTION, 0, 0]);
        strikes(w, write, |r, _| r.rdi = address, 0, [GENERAL_PROTECTION, 0, 0]);
    }
    let subject = Subject::new(w);
    let registers = Registers { rsp: NOT_CANONICAL + 64, ..subject.registers(push) };
    subject.run(&registers);
    let fault = subject.hear();
    assert!(matches!(fault.kind, STACK_FAULT | GENERAL_PROTECTION), "{fault:x?}");
    assert_eq!((fault.code, fault.address), (0, 0));
    assert_eq!(subject.found(), registers);
}

fn a_jump_to_what_is_not_canonical_ends_in_a_fault(w: &mut World) {
    let subject = Subject::new(w);
    for target in [NOT_CANONICAL, 1 << 63, 0xffff_7fff_ffff_ffff] {
        subject.run(&Registers { rdi: target, ..subject.registers(jump) });
        for _ in 0..3 {
            // (Intel's CPUs fault at the jump, others at its target.)
            let fault = subject.hear();
            assert!(fault.rip == address(jump) || fault.rip == target, "{fault:x?}");
            assert_eq!(fault.what(), [GENERAL_PROTECTION, 0, 0]);
            subject.resume();
        }
        assert_eq!(subject.hear().kind, GENERAL_PROTECTION);
    }
}

fn a_page_fault_tells_read_write_and_execute(w: &mut World) {
    for address in [0, 0xfff, HERE, 0x7fff_ffff_e000, 0x7fff_ffff_f000] {
        strikes(w, read, |r, _| r.rdi = address, 0, [PAGE_FAULT, USER, address]);
        strikes(w, write, |r, _| r.rdi = address, 0, [PAGE_FAULT, USER | WRITE, address]);
    }
    strikes(w, push, |r, _| r.rsp = HERE + 8, 0, [PAGE_FAULT, USER | WRITE, HERE]);
    let subject = Subject::new(w);
    strikes_at(&subject, &subject.registers_at(HERE), 0, [PAGE_FAULT, USER | FETCH, HERE]);
}

fn a_page_fault_tells_a_forbidden_access(w: &mut World) {
    let [executable, writable] = w.setup.program.pages();
    assert!(executable != 0 && writable != 0);
    let forbidden = [PAGE_FAULT, USER | WRITE | PRESENT, executable];
    strikes(w, write, |r, _| r.rdi = executable, 0, forbidden);
    let frame = w.frame(1);
    VSPACE.map(frame, HERE, 0, 1, MapFlags::READ).must("a page");
    strikes(w, write, |r, _| r.rdi = HERE + 8, 0, [PAGE_FAULT, USER | WRITE | PRESENT, HERE + 8]);
    let subject = Subject::new(w);
    for nowhere in [HERE + 16, writable, subject.scratch()] {
        let what = [PAGE_FAULT, USER | FETCH | PRESENT, nowhere];
        strikes_at(&subject, &subject.registers_at(nowhere), 0, what);
    }
}

fn an_access_across_pages_names_the_page_that_is_missing(w: &mut World) {
    let frame = w.frame(1);
    VSPACE.map(frame, HERE, 0, 1, MapFlags::WRITE).must("a page");
    let across = HERE + PAGE_SIZE - 4;
    strikes(w, read, |r, _| r.rdi = across, 0, [PAGE_FAULT, USER, HERE + PAGE_SIZE]);
    strikes(w, write, |r, _| r.rdi = across, 0, [PAGE_FAULT, USER | WRITE, HERE + PAGE_SIZE]);
    // SAFETY: mapped above.
    let before = unsafe { ((HERE + PAGE_SIZE - 8) as *const u64).read_volatile() };
    assert_eq!(before, 0, "no part of the write happens");
}

fn the_kernels_addresses_are_closed(w: &mut World) {
    let subject = Subject::new(w);
    for address in KERNEL_ADDRESSES {
        for (registers, access) in [
            (Registers { rdi: address, ..subject.registers(read) }, USER),
            (Registers { rdi: address, ..subject.registers(write) }, USER | WRITE),
            (Registers { rsp: address.wrapping_add(8), ..subject.registers(push) }, USER | WRITE),
            (Registers { rdi: address, ..subject.registers(jump) }, USER | FETCH),
        ] {
            subject.run(&registers);
            let fault = subject.hear();
            assert_eq!((fault.kind, fault.address), (PAGE_FAULT, address), "{registers:x?}");
            assert_eq!(fault.code & !PRESENT, access, "{registers:x?}");
            assert_eq!(subject.found().rax, registers.rax, "nothing was read");
        }
    }
}

fn an_x87_error_arrives_as_vector_16(w: &mut World) {
    /// The control word that lets divisions by zero strike.
    const ZERO_DIVIDE_UNMASKED: u64 = 0x37b;
    let subject = Subject::new(w);
    arena::set(0, ZERO_DIVIDE_UNMASKED);
    let registers = Registers { rdi: arena::ADDRESS, ..subject.registers(divide_x87) };
    subject.run(&registers);
    let wait = end(divide_x87) - 1;
    // It stands until something is done about it.
    for _ in 0..3 {
        let fault = subject.hear();
        assert_eq!((fault.what(), fault.rip), ([X87_ERROR, 0, 0], wait));
        subject.resume();
    }
    assert_eq!(subject.hear().kind, X87_ERROR);
    assert_eq!(subject.found(), Registers { rip: wait, ..registers });
    // The handler's own x87 is none the worse for it.
    // SAFETY: waits for an error of the x87, of which there is none.
    unsafe { core::arch::asm!("fwait", options(nomem, nostack)) };
}

fn a_simd_error_arrives_as_vector_19_if_the_cpu_raises_it(w: &mut World) {
    /// MXCSR with invalid operations unmasked.
    const INVALID_UNMASKED: u64 = 0x1f00;
    /// MXCSR's flag for one.
    const INVALID: u64 = 1;
    let subject = Subject::new(w);
    arena::set(0, INVALID_UNMASKED);
    let registers = Registers { rdi: arena::ADDRESS, ..subject.registers(divide_simd) };
    subject.run(&registers);
    let fault = subject.hear();
    match fault.kind {
        SIMD_ERROR => assert_eq!((fault.what(), fault.rip), ([SIMD_ERROR, 0, 0], address(divide_simd) + 3)),
        // Emulated CPUs raise none; the flag tells that there was cause.
        INVALID_OPCODE => {
            assert_eq!((fault.rip, arena::get(1)), (end(divide_simd), INVALID_UNMASKED | INVALID));
        }
        _ => panic!("{fault:x?}"),
    }
}

fn an_unaligned_access_is_no_fault_even_with_ac(w: &mut World) {
    let subject = Subject::new(w);
    let place = subject.scratch() + 1;
    // SAFETY: the subject's stack, which it does not use.
    unsafe { (place as *mut u64).write_unaligned(0x1122_3344) };
    let found = subject.run_through(read, |r| {
        (r.rdi, r.rflags) = (place, FIXED_FLAGS | ALIGNMENT_FLAG);
    });
    assert_eq!((found.rax, found.rflags), (0x1122_3344, FIXED_FLAGS | ALIGNMENT_FLAG));
}
