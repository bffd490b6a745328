//! Privileges: nothing that belongs to the kernel can be had by an instruction, nor by writing registers.

use abi::object::USER_TOP;
use abi::{Error, MapFlags, PAGE_SIZE, Registers};

use crate::row;
use crate::snippets;
use crate::subject::{
    ALIGNMENT_FLAG, DIRECTION_FLAG, FIXED_FLAGS, GENERAL_PROTECTION, HERE, ID_FLAG, INVALID_OPCODE,
    KERNEL_ADDRESSES, NOT_CANONICAL, PAGE_FAULT, PRESENT, STATUS_FLAGS, Snippet, Subject, TRAP_FLAG, UD2,
    code, end, undefined,
};
use crate::table::Test;
use crate::world::{INACTIVE, Must, VSPACE, World};

/// The tests of this area.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    row!("privileges", registers_that_lead_into_the_kernel_are_refused, "write_registers refuses a rip outside of user space and bases that are not canonical, and changes nothing"),
    row!("privileges", flags_that_are_not_the_users_are_not_written, "write_registers ignores IF, IOPL, NT, VM, RF, VIF and VIP"),
    row!("privileges", user_code_cannot_turn_interrupts_off, "popf changes neither IF nor IOPL"),
    row!("privileges", privileged_instructions_fault, "every privileged instruction is fault 13 at its address"),
    row!("privileges", instructions_that_tell_of_the_kernel_fault, "sgdt, sidt, sldt, str and smsw are fault 13 (UMIP)"),
    row!("privileges", instructions_of_other_modes_fault, "sysenter, sysexit, sysret, swapgs and the virtualisation instructions lead nowhere"),
    row!("privileges", kernel_segments_cannot_be_loaded, "loading a kernel segment, returning or jumping to one is fault 13 with its selector"),
];

snippets! {
    /// Takes the flags in rcx; those it has then to rdx.
    take_flags: "push rcx", "popfq", "pushfq", "pop rdx";
    /// Takes the flags in rcx, and runs for ever.
    spin_with_flags: "push rcx", "popfq", "2: pause", "jmp 2b";
    /// Loads SS with rbx.
    load_ss: "mov ss, ebx";
    /// Loads DS with rbx.
    load_ds: "mov ds, ebx";
    /// Returns to the segment rbx.
    return_far: "push rbx", "push rdi", "retfq";
    /// Returns from an interrupt to the segment rbx.
    return_from_interrupt: "push 0x10", "push rsp", "pushfq", "push rbx", "push rdi", "iretq";
}

fn registers_that_lead_into_the_kernel_are_refused(w: &mut World) {
    let subject = Subject::new(w);
    let good = subject.registers(undefined);
    rt::thread::write_registers(subject.tcb(), &good, false).must("good registers");
    let outside = [USER_TOP, NOT_CANONICAL - 1, NOT_CANONICAL, 1 << 63, KERNEL_ADDRESSES[2], u64::MAX];
    let bad = outside.map(|rip| Registers { rip, ..good }).into_iter();
    let not_canonical = [NOT_CANONICAL, 1 << 63, 0xffff_7fff_ffff_ffff];
    let bad = bad.chain(not_canonical.map(|fs_base| Registers { fs_base, ..good }));
    let bad = bad.chain(not_canonical.map(|gs_base| Registers { gs_base, ..good }));
    for registers in bad {
        for resume in [false, true] {
            let refused = rt::thread::write_registers(subject.tcb(), &registers, resume);
            assert_eq!(refused, Err(Error::InvalidArgument), "{registers:x?}");
            assert_eq!((subject.thread.state(), subject.found()), (INACTIVE, good));
        }
    }
    for entry in [USER_TOP, NOT_CANONICAL, KERNEL_ADDRESSES[2], u64::MAX] {
        assert_eq!(subject.tcb().set_foreign(entry, 0), Err(Error::InvalidArgument));
        assert_eq!(subject.tcb().set_foreign(0, entry), Err(Error::InvalidArgument));
    }
}

fn flags_that_are_not_the_users_are_not_written(w: &mut World) {
    let subject = Subject::new(w);
    let allowed = STATUS_FLAGS | DIRECTION_FLAG | ALIGNMENT_FLAG | ID_FLAG;
    for rflags in [0, !TRAP_FLAG, 0x3000, 0x4000, 0x1_0000, 0x2_0000, 0x8_0000, 0x10_0000] {
        let registers = Registers { rflags, ..subject.registers(undefined) };
        subject.run(&registers);
        let fault = subject.hear();
        assert_eq!((fault.kind, fault.rflags), (INVALID_OPCODE, FIXED_FLAGS | rflags & allowed));
        assert_eq!(subject.found().rflags, FIXED_FLAGS | rflags & allowed);
    }
}

fn user_code_cannot_turn_interrupts_off(w: &mut World) {
    let subject = Subject::new(w);
    let found = subject.run_through(take_flags, |r| r.rcx = 0x3002);
    assert_eq!(found.rdx, FIXED_FLAGS);
    // A thread that has tried spins; the rest of the system does not depend on its good will.
    let like = Registers { rcx: 2, ..subject.registers(spin_with_flags) };
    subject.run(&like);
    w.sleep(30);
    subject.tcb().suspend().must("stopping it");
    assert_eq!(subject.found().rflags, FIXED_FLAGS);
}

/// Instructions that are each fault 13, without an error code, at its address.
#[track_caller]
fn all_fault(w: &mut World, instructions: &[(&str, &[u8])]) {
    let subject = Subject::new(w);
    let page = code(w, HERE, &[]);
    for (name, bytes) in instructions {
        VSPACE.protect(page, 1, MapFlags::WRITE).must("a page to fill");
        for (place, &byte) in (page..).zip(bytes.iter().chain(&UD2)) {
            // SAFETY: the page is mapped for this, and nobody runs there now.
            unsafe { (place as *mut u8).write_volatile(byte) };
        }
        VSPACE.protect(page, 1, MapFlags::EXECUTE).must("making it executable");
        let registers = Registers { rdi: subject.scratch(), ..subject.registers_at(page) };
        subject.run(&registers);
        let fault = subject.hear();
        assert_eq!((fault.what(), fault.rip), ([GENERAL_PROTECTION, 0, 0], page), "{name}: {fault:x?}");
        assert_eq!(subject.found(), registers, "{name}");
    }
}

fn privileged_instructions_fault(w: &mut World) {
    all_fault(
        w,
        &[
            ("hlt", &[0xf4]),
            ("cli", &[0xfa]),
            ("sti", &[0xfb]),
            ("in al, dx", &[0xec]),
            ("in eax, dx", &[0xed]),
            ("in al, 0x70", &[0xe4, 0x70]),
            ("out dx, al", &[0xee]),
            ("out dx, eax", &[0xef]),
            ("out 0xf4, al", &[0xe6, 0xf4]),
            ("insb", &[0x6c]),
            ("outsb", &[0x6e]),
            ("mov cr0, rax", &[0x0f, 0x22, 0xc0]),
            ("mov cr3, rax", &[0x0f, 0x22, 0xd8]),
            ("mov cr4, rax", &[0x0f, 0x22, 0xe0]),
            ("mov cr8, rax", &[0x44, 0x0f, 0x22, 0xc0]),
            ("mov rax, cr0", &[0x0f, 0x20, 0xc0]),
            ("mov rax, cr2", &[0x0f, 0x20, 0xd0]),
            ("mov rax, cr3", &[0x0f, 0x20, 0xd8]),
            ("mov dr7, rax", &[0x0f, 0x23, 0xf8]),
            ("mov rax, dr7", &[0x0f, 0x21, 0xf8]),
            ("rdmsr", &[0x0f, 0x32]),
            ("wrmsr", &[0x0f, 0x30]),
            ("lgdt [rdi]", &[0x0f, 0x01, 0x17]),
            ("lidt [rdi]", &[0x0f, 0x01, 0x1f]),
            ("lldt ax", &[0x0f, 0x00, 0xd0]),
            ("ltr ax", &[0x0f, 0x00, 0xd8]),
            ("lmsw ax", &[0x0f, 0x01, 0xf0]),
            ("clts", &[0x0f, 0x06]),
            ("invlpg [rdi]", &[0x0f, 0x01, 0x3f]),
            ("invd", &[0x0f, 0x08]),
            ("wbinvd", &[0x0f, 0x09]),
            ("xsetbv", &[0x0f, 0x01, 0xd1]),
        ],
    );
}

fn instructions_that_tell_of_the_kernel_fault(w: &mut World) {
    all_fault(
        w,
        &[
            ("sgdt [rdi]", &[0x0f, 0x01, 0x07]),
            ("sidt [rdi]", &[0x0f, 0x01, 0x0f]),
            ("sldt eax", &[0x0f, 0x00, 0xc0]),
            ("str eax", &[0x0f, 0x00, 0xc8]),
            ("smsw eax", &[0x0f, 0x01, 0xe0]),
            ("smsw [rdi]", &[0x0f, 0x01, 0x27]),
            ("rdpmc", &[0x0f, 0x33]),
        ],
    );
}

fn instructions_of_other_modes_fault(w: &mut World) {
    all_fault(
        w,
        &[("sysretq", &[0x48, 0x0f, 0x07]), ("sysretl", &[0x0f, 0x07]), ("swapgs", &[0x0f, 0x01, 0xf8])],
    );
    let subject = Subject::new(w);
    // sysenter, sysexit (13 or, on AMD's CPUs, 6), vmcall, vmlaunch, vmrun, stgi, monitor
    let instructions: [[u8; 3]; 7] = [
        [0x0f, 0x34, 0x90],
        [0x0f, 0x35, 0x90],
        [0x0f, 0x01, 0xc1],
        [0x0f, 0x01, 0xc2],
        [0x0f, 0x01, 0xd8],
        [0x0f, 0x01, 0xdc],
        [0x0f, 0x01, 0xc8],
    ];
    let page = code(w, HERE + PAGE_SIZE, instructions.as_flattened());
    for at in 0..instructions.len() as u64 {
        let registers = subject.registers_at(page + 3 * at);
        subject.run(&registers);
        let fault = subject.hear();
        assert!(matches!(fault.kind, INVALID_OPCODE | GENERAL_PROTECTION), "{fault:x?}");
        assert_eq!((fault.rip, subject.found()), (registers.rip, registers));
    }
}

fn kernel_segments_cannot_be_loaded(w: &mut World) {
    const KERNEL_CODE: u64 = 8;
    const KERNEL_DATA: u64 = 0x10;
    const TASK: u64 = 0x28;
    const BEYOND: u64 = 0xfff8;
    let subject = Subject::new(w);
    let attempts: [(Snippet, u64, u64); 13] = [
        (load_ss, KERNEL_DATA, 0),
        (load_ss, KERNEL_DATA | 3, 0),
        (load_ds, KERNEL_CODE, 0),
        (load_ds, KERNEL_DATA | 3, 0),
        (load_ds, TASK | 3, 0),
        (load_ds, BEYOND, 0),
        (load_ss, BEYOND, 0),
        (return_far, KERNEL_CODE, 2),
        (return_far, KERNEL_CODE | 3, 2),
        (return_far, TASK | 3, 2),
        (return_from_interrupt, KERNEL_CODE, 5),
        (return_from_interrupt, KERNEL_CODE | 3, 5),
        (return_from_interrupt, TASK | 3, 5),
    ];
    for (snippet, selector, pushed) in attempts {
        let registers = Registers { rbx: selector, rdi: KERNEL_ADDRESSES[2], ..subject.registers(snippet) };
        subject.run(&registers);
        let fault = subject.hear();
        // (TCG takes a far return's reading of the stack for the kernel's own, and SMAP forbids it.)
        if pushed == 0 || fault.what() != [PAGE_FAULT, PRESENT, fault.rsp] {
            assert_eq!((fault.kind, fault.address), (GENERAL_PROTECTION, 0), "{selector:#x} {fault:x?}");
            assert_eq!(fault.code & !3, selector & !3, "{selector:#x} {fault:x?}");
        }
        assert!((registers.rip..end(snippet)).contains(&fault.rip), "{selector:#x} {fault:x?}");
        assert_eq!(fault.rsp, registers.rsp - 8 * pushed);
    }
}
