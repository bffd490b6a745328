//! Faults: what happens to a thread that does what it cannot, who hears of it, and how it goes on.
//!
//! [`Subject`] is a thread that runs instructions of the test's choice ([`snippets!`](crate::snippets), or bytes
//! by [`code`]) while the test hears its faults; the other areas that deal with hostile code use it, too.

use abi::message::fault;
use abi::{CPtr, Error, MapFlags, PAGE_SIZE, Registers, Rights};
use ipc::{Message, Tcb, VSpace};

use crate::arena;
use crate::row;
use crate::table::{Need, Test};
use crate::world::{BLOCKED, Builder, INACTIVE, Must, Thread, VSPACE, World, finish, now};

/// The tests of this area.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    row!("faults", a_divide_error_arrives_as_vector_0, "a division by zero, or whose quotient does not fit, is fault 0 at its instruction"),
    row!("faults", a_single_step_arrives_as_vector_1, "with TF set each instruction is followed by fault 1, and runs once"),
    row!("faults", a_breakpoint_arrives_as_vector_3, "int3 is fault 3, with rip behind it"),
    row!("faults", no_int_instruction_reaches_a_gate, "int n is fault 13 for every n but the breakpoint's: no user code raises interrupts or other exceptions"),
    row!("faults", an_invalid_opcode_arrives_as_vector_6, "an undefined instruction is fault 6 at its address"),
    row!("faults", an_address_that_is_not_canonical_arrives_as_vector_13, "a non-canonical address is fault 13 (12 by the stack) without an address"),
    row!("faults", a_jump_to_what_is_not_canonical_ends_in_a_fault, "a jump to a non-canonical address is fault 13, again and again if resumed, and never one of the kernel's"),
    row!("faults", a_page_fault_tells_read_write_and_execute, "an access to nothing is fault 14 with the address and a code that tells read, write and execute"),
    row!("faults", a_page_fault_tells_a_forbidden_access, "a write to what is read-only and a jump to what is not executable are fault 14 with the protection bit"),
    row!("faults", an_access_across_pages_names_the_page_that_is_missing, "an access that crosses into an unmapped page names an address in that page"),
    row!("faults", the_kernels_addresses_are_closed, "reading, writing and executing at the kernel's addresses is fault 14 wherever it is tried"),
    row!("faults", an_x87_error_arrives_as_vector_16, "an unmasked x87 error is fault 16 at the next waiting instruction"),
    row!("faults", a_simd_error_arrives_as_vector_19_if_the_cpu_raises_it, "an unmasked SIMD error is fault 19, or on a CPU that raises none leaves its flag in MXCSR"),
    row!("faults", an_unaligned_access_is_no_fault_even_with_ac, "alignment is not checked: with AC set an unaligned access works"),
    row!("faults", nothing_is_writable_and_executable, "no page can be mapped or become writable and executable at once"),
    row!("faults", all_integer_registers_survive_a_fault, "a fault and its resumption change no integer register, FS or GS base"),
    row!("faults", a_pager_maps_the_page_and_the_access_goes_on, "after the handler mapped the page and answered, the access happens as if nothing had been"),
    row!("faults", a_thousand_faults_are_each_heard_and_resumed, "a thread that faults a thousand times is heard and resumed a thousand times"),
    row!("faults", a_handler_sends_the_thread_elsewhere, "write_registers with resume takes a faulted thread on elsewhere, and leaves the handler nobody to answer"),
    row!("faults", registers_written_before_the_answer_are_what_it_resumes, "write_registers without resume changes a faulted thread, and the answer lets it go on from there"),
    row!("faults", an_answer_with_another_label_leaves_the_thread_stopped, "an answer whose label is not 0 leaves the thread stopped until it is started again"),
    row!("faults", without_a_handler_only_the_thread_stops, "a fault without a handler stops its thread, and no other one"),
    row!("faults", a_fault_strikes_again_for_the_next_handler, "when the handler dies with a fault in hand, the fault strikes again and goes to the next handler"),
    row!("faults", a_fault_strikes_again_when_its_reply_is_deleted, "when the Reply that holds a fault is deleted, the fault strikes again"),
    row!("faults", a_fault_that_nobody_has_heard_outlives_its_handlers, "a fault that waits for a handler stays when handlers come and go"),
    row!("faults", a_fault_whose_endpoint_goes_stops_its_thread, "deleting the Endpoint stops the threads whose faults wait there, without a word to them"),
    row!("faults", a_thread_without_its_handler_any_more_stops, "set_fault_handler with nothing in place makes the next fault stop the thread, a new one hears it"),
    row!("faults", a_stop_breaks_off_a_fault_and_it_strikes_again, "a faulted thread that is suspended and resumed faults again with all its registers, and the old answer reaches nobody"),
    row!("faults", a_faulted_thread_can_be_deleted, "a faulted thread can be deleted before and after its fault is heard"),
    row!("faults", faults_are_heard_in_order_with_their_badges, "faults of several threads are heard in the order they happened, each with its own badge"),
    row!("faults", another_thread_answers_by_a_reply_object, "whoever holds the Reply that received a fault resumes the thread"),
    row!("faults", a_handler_that_faults_has_a_handler, "a thread that faults with another one's fault in hand is heard by its own handler, and goes on to answer"),
    row!("faults", a_fault_brings_nothing_but_its_words, "a fault message has no buffer words or capabilities, whatever lies in the thread's IPC buffer"),
    row!("faults", a_handler_in_another_address_space_pages, "a handler in another address space maps pages into that of the thread it serves"),
    row!("faults", a_handler_on_another_cpu_pages, "faults are heard and answered across CPUs", Need::Cpus(2)),
    row!("faults", faults_on_all_cpus_reach_one_handler, "no fault is lost when threads on all CPUs fault at once", Need::Cpus(2)),
];

/// Functions of a few instructions, which end at an undefined one: `snippets! { name: "instruction", ...; }`
#[macro_export]
macro_rules! snippets {
    ($($(#[doc = $doc:literal])+ $name:ident: $($line:literal),+;)*) => { $(
        $(#[doc = $doc])+
        #[unsafe(naked)]
        extern "C" fn $name() {
            core::arch::naked_asm!($($line,)+ "ud2")
        }
    )* };
}

/// Code of a snippet.
pub type Snippet = extern "C" fn();

/// The address of a snippet.
pub fn address(code: Snippet) -> u64 {
    code as *const () as u64
}

/// The address of the undefined instruction at a snippet's end.
pub fn end(code: Snippet) -> u64 {
    /// Bytes of a snippet, at most.
    const LONGEST: usize = 256;
    // SAFETY: a function of this program, whose code lies readable in memory that goes on beyond it.
    let bytes = unsafe { core::slice::from_raw_parts(address(code) as *const u8, LONGEST) };
    let at =
        bytes.windows(2).position(|two| two == UD2).unwrap_or_else(|| panic!("a snippet without an end"));
    address(code) + at as u64
}

/// `ud2`.
pub const UD2: [u8; 2] = [0x0f, 0x0b];
/// Bit 1 of the flags, and IF: what every thread has.
pub const FIXED_FLAGS: u64 = 0x202;
/// TF.
pub const TRAP_FLAG: u64 = 0x100;
/// RF, which the CPU may set in the flags of a fault so that its instruction can be repeated.
pub const RESUME_FLAG: u64 = 0x1_0000;
/// AC.
pub const ALIGNMENT_FLAG: u64 = 0x4_0000;
/// An address that is mapped nowhere, for tests to use.
pub const HERE: u64 = 0x31_0000_0000;
/// The lowest address that is not canonical.
pub const NOT_CANONICAL: u64 = 0x8000_0000_0000;
/// Addresses of the kernel: all RAM, the program, the end of the address space.
pub const KERNEL_ADDRESSES: [u64; 4] =
    [0xffff_8000_0000_0000, 0xffff_8000_0010_0000, 0xffff_ffff_8010_0000, 0xffff_ffff_ffff_fff8];
/// The badge that a subject's faults come with.
pub const BADGE: u64 = 0x5b1ec7;

/// A fault as its handler hears it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What happened.
    pub kind: u64,
    /// The error code.
    pub code: u64,
    /// Where.
    pub rip: u64,
    /// What address was accessed.
    pub address: u64,
    /// The stack pointer.
    pub rsp: u64,
    /// The flags, without RF.
    pub rflags: u64,
}

impl Fault {
    /// Out of a message.
    #[track_caller]
    pub fn of(message: &Message) -> Fault {
        assert_eq!(message.info, abi::MsgInfo::plain(fault::LABEL), "a fault message is plain");
        let [kind, code, rip, address, rsp, rflags, zero, none] = message.words;
        assert_eq!([zero, none], [0, 0], "the last two words of a fault message are 0");
        Fault { kind, code, rip, address, rsp, rflags: rflags & !RESUME_FLAG }
    }

    /// Kind, code and address.
    pub fn what(&self) -> [u64; 3] {
        [self.kind, self.code, self.address]
    }
}

/// A thread that runs instructions of the test's choice, while the test hears its faults.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// The thread.
    pub thread: Thread,
    /// Where its faults arrive.
    pub faults: CPtr,
}

impl Subject {
    /// One in the test's address space and on its CPU.
    pub fn new(w: &mut World) -> Subject {
        Subject::of(w, |thread| thread)
    }

    /// One that differs.
    pub fn of(w: &mut World, choose: impl FnOnce(Builder<'_>) -> Builder<'_>) -> Subject {
        let faults = w.endpoint();
        let badged = w.mint(faults, Rights::WRITE, BADGE);
        let thread = choose(w.thread()).faults_to(badged).prepare();
        Subject { thread, faults }
    }

    /// Its Tcb.
    pub fn tcb(&self) -> Tcb {
        self.thread.tcb
    }

    /// Where it can write without harm: the lower end of its stack's upper half.
    pub fn scratch(&self) -> u64 {
        arena::stack_top(self.thread.index) - 0x1000
    }

    /// Registers that all differ, with a stack and an IPC buffer, to begin at an address.
    pub fn registers_at(&self, rip: u64) -> Registers {
        let mut next = 0;
        let mut different = || {
            next += 1;
            next * 0x0101_0101_0101_0101
        };
        Registers {
            rip,
            rsp: arena::stack_top(self.thread.index) - 0x100,
            rflags: FIXED_FLAGS,
            rax: different(),
            rbx: different(),
            rcx: different(),
            rdx: different(),
            rsi: different(),
            rdi: different(),
            rbp: different(),
            r: core::array::from_fn(|_| different()),
            fs_base: 0x1234_5678_9000,
            gs_base: arena::ADDRESS + arena::buffer_offset(self.thread.index),
        }
    }

    /// Registers to begin a snippet with.
    pub fn registers(&self, code: Snippet) -> Registers {
        self.registers_at(address(code))
    }

    /// Lets it run; it must not be running.
    #[track_caller]
    pub fn run(&self, registers: &Registers) {
        rt::thread::write_registers(self.tcb(), registers, true).must("starting the subject");
    }

    /// Waits for its next fault.
    #[track_caller]
    pub fn hear(&self) -> Fault {
        let received = ipc::recv(self.faults, CPtr::NULL).must("a fault");
        assert_eq!(received.badge, BADGE, "a fault's badge");
        Fault::of(&received.message)
    }

    /// Lets it go on where it faulted.
    #[track_caller]
    pub fn resume(&self) {
        ipc::reply(Message::new(0)).must("resuming the subject");
    }

    /// Its registers, without RF; it must stand still.
    #[track_caller]
    pub fn found(&self) -> Registers {
        let found = rt::thread::read_registers(self.tcb()).must("reading the subject's registers");
        Registers { rflags: found.rflags & !RESUME_FLAG, ..found }
    }

    /// Runs a snippet that must reach its end; the registers there.
    #[track_caller]
    pub fn run_through(&self, code: Snippet, change: impl FnOnce(&mut Registers)) -> Registers {
        let mut registers = self.registers(code);
        change(&mut registers);
        self.run(&registers);
        let fault = self.hear();
        assert_eq!(
            (fault.kind, fault.rip),
            (INVALID_OPCODE, end(code)),
            "the snippet did not end: {fault:x?}"
        );
        self.found()
    }
}

/// Vector numbers.
pub const DIVIDE_ERROR: u64 = 0;
/// See above.
pub const SINGLE_STEP: u64 = 1;
/// See above.
pub const BREAKPOINT: u64 = 3;
/// See above.
pub const INVALID_OPCODE: u64 = 6;
/// See above.
pub const STACK_FAULT: u64 = 12;
/// See above.
pub const GENERAL_PROTECTION: u64 = 13;
/// See above.
pub const PAGE_FAULT: u64 = 14;
/// See above.
pub const X87_ERROR: u64 = 16;
/// See above.
pub const SIMD_ERROR: u64 = 19;

/// Error code of a page fault: the page was there.
pub const PRESENT: u64 = 1;
/// It was a write.
pub const WRITE: u64 = 2;
/// It was user code.
pub const USER: u64 = 4;
/// It was an instruction fetch.
pub const FETCH: u64 = 16;

/// Maps a new page with these bytes, executable; where.
pub fn code(w: &mut World, at: u64, bytes: &[u8]) -> u64 {
    let frame = w.frame(1);
    let page = at & !(PAGE_SIZE - 1);
    VSPACE.map(frame, page, 0, 1, MapFlags::WRITE).must("a page to fill");
    for (place, &byte) in (at..).zip(bytes) {
        // SAFETY: within the page just mapped, which nobody else knows.
        unsafe { (place as *mut u8).write_volatile(byte) };
    }
    VSPACE.protect(page, 1, MapFlags::EXECUTE).must("making it executable");
    at
}

snippets! {
    /// Divides by rcx.
    divide: "div rcx";
    /// The same, signed.
    divide_signed: "idiv rcx";
    /// Nothing twice, then counts.
    steps: "nop", "inc rax", "inc rax";
    /// The breakpoint.
    breakpoint: "int3";
    /// The same in two bytes.
    long_breakpoint: ".byte 0xcd, 3";
    /// An undefined instruction.
    undefined: "ud2";
    /// Reads at rdi.
    read: "mov rax, [rdi]";
    /// Writes at rdi.
    write: "mov [rdi], rax";
    /// Writes at the stack.
    push: "push rax";
    /// Jumps to rdi.
    jump: "jmp rdi";
    /// Divides by zero with the control word at rdi, and waits.
    divide_x87: "fldcw [rdi]", "fld1", "fldz", "fdivp", "fwait";
    /// Divides zero by zero with the MXCSR at rdi; MXCSR afterwards to rdi + 8.
    divide_simd: "ldmxcsr [rdi]", "divss xmm0, xmm1", "stmxcsr [rdi + 8]";
    /// Reads eight bytes at rdi, and counts.
    read_and_count: "mov rax, [rdi]", "inc rbx";
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

fn nothing_is_writable_and_executable(w: &mut World) {
    let both = MapFlags::WRITE.or(MapFlags::EXECUTE);
    let frame = w.frame(1);
    assert_eq!(VSPACE.map(frame, HERE, 0, 1, both), Err(Error::InvalidArgument));
    assert_eq!(VSPACE.query(HERE), Err(Error::NotMapped));
    for flags in [MapFlags::WRITE, MapFlags::EXECUTE] {
        VSPACE.map(frame, HERE, 0, 1, flags).must("a page");
        assert_eq!(VSPACE.protect(HERE, 1, both), Err(Error::InvalidArgument));
        let [found, ..] = VSPACE.query(HERE).must("how it is mapped");
        assert_eq!(found, MapFlags::READ.or(flags).0);
        VSPACE.unmap(HERE, 1).must("an unmap");
    }
    // Nor does a page that was executable stay so when it becomes writable.
    code(w, HERE, &UD2);
    VSPACE.protect(HERE, 1, MapFlags::WRITE).must("making it writable");
    let subject = Subject::new(w);
    let what = [PAGE_FAULT, USER | FETCH | PRESENT, HERE];
    strikes_at(&subject, &subject.registers_at(HERE), 0, what);
}

fn all_integer_registers_survive_a_fault(w: &mut World) {
    let subject = Subject::new(w);
    let given = Registers { rdi: HERE, ..subject.registers(read_and_count) };
    subject.run(&given);
    subject.hear();
    assert_eq!(subject.found(), given);
    let frame = w.frame(1);
    VSPACE.map(frame, HERE, 0, 1, MapFlags::READ).must("a page");
    subject.resume();
    assert_eq!(subject.hear().kind, INVALID_OPCODE);
    let found = subject.found();
    let flags = found.rflags;
    assert_eq!(
        found,
        Registers { rip: end(read_and_count), rax: 0, rbx: given.rbx + 1, rflags: flags, ..given }
    );
}

fn a_pager_maps_the_page_and_the_access_goes_on(w: &mut World) {
    let subject = Subject::new(w);
    let pages = 8;
    subject.thread.run(move || {
        for page in 0..pages {
            let place = (HERE + page * PAGE_SIZE + 8 * page) as *mut u64;
            // SAFETY: the pager maps the page for this alone.
            unsafe { place.write_volatile(page + 100) };
            // SAFETY: as above.
            arena::set(page as usize, unsafe { place.read_volatile() });
        }
        arena::set(20, 1);
    });
    let frames = w.frame(pages);
    for page in 0..pages {
        let fault = subject.hear();
        let address = HERE + page * PAGE_SIZE + 8 * page;
        assert_eq!(fault.what(), [PAGE_FAULT, USER | WRITE, address]);
        VSPACE.map(frames, address & !0xfff, page * PAGE_SIZE, 1, MapFlags::WRITE).must("a page");
        subject.resume();
    }
    assert_eq!(subject.hear().rip, finish as *const () as u64);
    assert_eq!(core::array::from_fn(arena::get), [100, 101, 102, 103, 104, 105, 106, 107]);
}

fn a_thousand_faults_are_each_heard_and_resumed(w: &mut World) {
    let subject = Subject::new(w);
    subject.run(&subject.registers(undefined));
    for round in 0..1000 {
        let fault = subject.hear();
        assert_eq!((fault.kind, fault.rip), (INVALID_OPCODE, address(undefined)), "fault {round}");
        subject.resume();
    }
    assert_eq!(subject.hear().kind, INVALID_OPCODE);
}

fn a_handler_sends_the_thread_elsewhere(w: &mut World) {
    let subject = Subject::new(w);
    subject.run(&Registers { rdi: HERE, ..subject.registers(read) });
    assert_eq!(subject.hear().address, HERE);
    let elsewhere = subject.registers(breakpoint);
    rt::thread::write_registers(subject.tcb(), &elsewhere, true).must("taking it elsewhere");
    assert_eq!(ipc::reply(Message::new(0)), Err(Error::NoCaller));
    let fault = subject.hear();
    assert_eq!((fault.kind, fault.rip), (BREAKPOINT, elsewhere.rip + 1));
    assert_eq!(subject.found(), Registers { rip: elsewhere.rip + 1, ..elsewhere });
}

fn registers_written_before_the_answer_are_what_it_resumes(w: &mut World) {
    let subject = Subject::new(w);
    subject.run(&Registers { rdi: HERE, ..subject.registers(read) });
    subject.hear();
    let elsewhere = subject.registers(breakpoint);
    rt::thread::write_registers(subject.tcb(), &elsewhere, false).must("changing it");
    w.sleep(2);
    assert_eq!(subject.thread.state(), BLOCKED, "it waits for the answer all the same");
    assert_eq!(subject.found(), elsewhere);
    subject.resume();
    assert_eq!((subject.hear().kind, subject.found().rax), (BREAKPOINT, elsewhere.rax));
}

fn an_answer_with_another_label_leaves_the_thread_stopped(w: &mut World) {
    let subject = Subject::new(w);
    let registers = subject.registers(undefined);
    for label in [1, fault::LABEL, u32::MAX] {
        subject.run(&registers);
        subject.hear();
        ipc::reply(Message::new(label)).must("an answer");
        assert_eq!(subject.thread.state(), INACTIVE);
        w.sleep(1);
        assert_eq!(subject.thread.state(), INACTIVE);
        assert_eq!(ipc::try_recv(subject.faults, CPtr::NULL).err(), Some(Error::WouldBlock));
        assert_eq!(subject.found(), registers);
    }
    subject.tcb().resume().must("letting it run");
    assert_eq!(subject.hear().kind, INVALID_OPCODE, "started again it faults again");
}

fn without_a_handler_only_the_thread_stops(w: &mut World) {
    let counter = w.thread().priority(90).start(|| {
        loop {
            arena::add(0, 1);
        }
    });
    let thread = w.thread().prepare();
    thread.tcb.set_fault_handler(CPtr::NULL).must("no handler");
    let subject = Subject { thread, faults: CPtr::NULL };
    for what in [undefined, divide_x87, breakpoint] {
        let registers = Registers { rdi: arena::ADDRESS + 8, ..subject.registers(what) };
        subject.run(&registers);
        w.until("it stops", || thread.state() == INACTIVE);
        w.sleep(1);
        assert_eq!(thread.state(), INACTIVE);
        assert_eq!(subject.found().rbx, registers.rbx);
    }
    let counted = arena::get(0);
    w.until("the other thread counts on", || arena::get(0) > counted);
    assert_eq!(counter.state(), crate::world::READY);
}

/// A handler that hears a fault and never answers.
fn deaf_handler(w: &mut World, faults: CPtr, reply: CPtr) -> Thread {
    let never = w.notification();
    w.thread().start(move || {
        let received = ipc::recv(faults, reply).must("a fault");
        arena::set(0, received.message.words[fault::RIP]);
        let _ = ipc::wait(never);
    })
}

fn a_fault_strikes_again_for_the_next_handler(w: &mut World) {
    let subject = Subject::new(w);
    let registers = Registers { rdi: HERE, ..subject.registers(read) };
    subject.run(&registers);
    for _ in 0..3 {
        let handler = deaf_handler(w, subject.faults, CPtr::NULL);
        w.until("the fault is heard", || arena::get(0) == registers.rip);
        assert_eq!(subject.thread.state(), BLOCKED);
        arena::set(0, 0);
        w.delete(handler.tcb.0);
    }
    assert_eq!(subject.hear().what(), [PAGE_FAULT, USER, HERE]);
    assert_eq!(subject.found(), registers);
}

fn a_fault_strikes_again_when_its_reply_is_deleted(w: &mut World) {
    let subject = Subject::new(w);
    let registers = Registers { rdi: HERE, ..subject.registers(write) };
    subject.run(&registers);
    let reply = w.make(abi::Kind::Reply);
    ipc::recv(subject.faults, reply).must("a fault");
    w.delete(reply);
    assert_eq!(subject.hear().what(), [PAGE_FAULT, USER | WRITE, HERE]);
    // So it does when the handler turns to something else without an answer.
    assert_eq!(subject.hear().what(), [PAGE_FAULT, USER | WRITE, HERE]);
    assert_eq!(subject.found(), registers);
}

fn a_fault_that_nobody_has_heard_outlives_its_handlers(w: &mut World) {
    let subject = Subject::new(w);
    let faults = subject.faults;
    let idle = w.thread().start(move || {
        let _ = ipc::recv(faults, CPtr::NULL);
    });
    w.until_blocked(&idle);
    w.delete(idle.tcb.0);
    subject.run(&subject.registers(undefined));
    w.until_blocked(&subject.thread);
    let other = w.endpoint();
    let elsewhere = deaf_handler(w, other, CPtr::NULL);
    w.delete(elsewhere.tcb.0);
    assert_eq!(subject.hear().kind, INVALID_OPCODE);
}

fn a_fault_whose_endpoint_goes_stops_its_thread(w: &mut World) {
    let subjects = [(); 3].map(|()| {
        let subject = Subject::new(w);
        subject.run(&subject.registers(undefined));
        w.until_blocked(&subject.thread);
        w.delete(subject.faults);
        subject
    });
    for subject in subjects {
        assert_eq!(subject.thread.state(), INACTIVE);
        assert_eq!(subject.found(), subject.registers(undefined), "its registers tell where it was");
    }
}

fn a_thread_without_its_handler_any_more_stops(w: &mut World) {
    let subject = Subject::new(w);
    subject.run(&subject.registers(undefined));
    subject.hear();
    subject.tcb().set_fault_handler(CPtr::NULL).must("no handler");
    subject.resume();
    w.until("it stops", || subject.thread.state() == INACTIVE);
    let other = w.endpoint();
    let badged = w.mint(other, Rights::WRITE, 5);
    subject.tcb().set_fault_handler(badged).must("another handler");
    subject.tcb().resume().must("letting it run");
    let received = ipc::recv(other, CPtr::NULL).must("a fault");
    assert_eq!((received.badge, Fault::of(&received.message).kind), (5, INVALID_OPCODE));
}

fn a_stop_breaks_off_a_fault_and_it_strikes_again(w: &mut World) {
    let subject = Subject::new(w);
    let registers = Registers { rdi: HERE, ..subject.registers(read) };
    subject.run(&registers);
    // Once while nobody has heard it, then while it is in hand.
    w.until_blocked(&subject.thread);
    for _ in 0..2 {
        subject.tcb().suspend().must("stopping it");
        assert_eq!(subject.thread.state(), INACTIVE);
        assert_eq!(subject.found(), registers);
        assert_eq!(ipc::try_recv(subject.faults, CPtr::NULL).err(), Some(Error::WouldBlock));
        assert_eq!(ipc::reply(Message::new(0)), Err(Error::NoCaller));
        subject.tcb().resume().must("letting it run");
        assert_eq!(subject.hear().what(), [PAGE_FAULT, USER, HERE]);
        assert_eq!(subject.found(), registers);
    }
}

fn a_faulted_thread_can_be_deleted(w: &mut World) {
    let [unheard, heard] = [(); 2].map(|()| {
        let subject = Subject::new(w);
        subject.run(&subject.registers(undefined));
        w.until_blocked(&subject.thread);
        subject
    });
    w.delete(unheard.tcb().0);
    assert_eq!(ipc::try_recv(unheard.faults, CPtr::NULL).err(), Some(Error::WouldBlock));
    heard.hear();
    w.delete(heard.tcb().0);
    assert_eq!(ipc::reply(Message::new(0)), Err(Error::NoCaller));
}

fn faults_are_heard_in_order_with_their_badges(w: &mut World) {
    let faults = w.endpoint();
    for badge in 1..=5 {
        let badged = w.mint(faults, Rights::WRITE, badge);
        let thread = w.thread().faults_to(badged).prepare();
        let subject = Subject { thread, faults };
        subject.run(&Registers { rdi: badge << 32, ..subject.registers(read) });
        w.until_blocked(&thread);
    }
    for badge in 1..=5 {
        let received = ipc::recv(faults, CPtr::NULL).must("a fault");
        assert_eq!((received.badge, received.message.words[fault::ADDRESS]), (badge, badge << 32));
        ipc::reply(Message::new(1)).must("an answer");
    }
}

fn another_thread_answers_by_a_reply_object(w: &mut World) {
    let subject = Subject::new(w);
    let reply = w.make(abi::Kind::Reply);
    subject.run(&Registers { rdi: HERE, ..subject.registers(read) });
    ipc::recv(subject.faults, reply).must("a fault");
    let frame = w.frame(1);
    let pager = w.thread().start(move || {
        VSPACE.map(frame, HERE, 0, 1, MapFlags::READ).must("a page");
        ipc::send(reply, Message::new(0)).must("an answer");
    });
    w.join(&pager);
    assert_eq!(subject.hear().rip, end(read));
}

fn a_handler_that_faults_has_a_handler(w: &mut World) {
    let subject = Subject::new(w);
    subject.run(&Registers { rdi: HERE, ..subject.registers(read) });
    let inner = subject.faults;
    let outer = Subject::new(w);
    outer.thread.run(move || {
        ipc::recv(inner, CPtr::NULL).must("a fault");
        // SAFETY: the page is mapped by who hears of this fault.
        arena::set(0, unsafe { (HERE as *const u64).read_volatile() } + 1);
        ipc::reply(Message::new(0)).must("an answer");
    });
    assert_eq!(outer.hear().what(), [PAGE_FAULT, USER, HERE]);
    assert_eq!(subject.thread.state(), BLOCKED);
    let frame = w.frame(1);
    VSPACE.map(frame, HERE, 0, 1, MapFlags::READ).must("a page");
    outer.resume();
    assert_eq!(outer.hear().rip, finish as *const () as u64);
    assert_eq!((arena::get(0), subject.hear().rip), (1, end(read)));
}

fn a_fault_brings_nothing_but_its_words(w: &mut World) {
    let subject = Subject::new(w);
    let secret = w.endpoint();
    let slot = w.slot();
    subject.thread.buffer().words.iter().for_each(|word| word.set(0x5ec2e7));
    subject.thread.buffer().send_caps(&[secret]);
    // (rsi as the info of a message with everything.)
    let info = abi::MsgInfo::new(9, 64, 3).0;
    subject.run(&Registers { rsi: info, rdi: HERE, ..subject.registers(read) });
    ipc::buffer().words.iter().for_each(|word| word.set(7));
    ipc::buffer().receive_into(&[slot]);
    subject.hear();
    assert!(ipc::buffer().words.iter().all(|word| word.get() == 7));
    let found = crate::world::CNODE.describe(u64::from(slot.0)).must("a look at the slot");
    assert_eq!(found.kind, abi::Kind::Null);
}

/// Lets a handler with this address space and CPU page for a subject with those.
fn pages_between(w: &mut World, handler_space: VSpace, cpus: [u64; 2]) {
    const PAGES: u64 = 4;
    let frames = w.frame(PAGES);
    let subject_space = w.space();
    let subject = Subject::of(w, |thread| thread.space(subject_space).cpu(cpus[0]));
    let faults = subject.faults;
    let handler = w.thread().space(handler_space).cpu(cpus[1]).start(move || {
        for page in 0..PAGES {
            let fault = Fault::of(&ipc::recv(faults, CPtr::NULL).must("a fault").message);
            let address = HERE + page * PAGE_SIZE;
            assert_eq!(fault.what(), [PAGE_FAULT, USER | WRITE, address]);
            subject_space.map(frames, address, page * PAGE_SIZE, 1, MapFlags::WRITE).must("a page");
            ipc::reply(Message::new(0)).must("an answer");
        }
    });
    subject.thread.run(|| {
        for page in 0..PAGES {
            // SAFETY: the handler maps the page for this alone.
            unsafe { ((HERE + page * PAGE_SIZE) as *mut u64).write_volatile(page + 1) };
        }
    });
    w.join(&handler);
    assert_eq!(subject.hear().rip, finish as *const () as u64);
    VSPACE.map(frames, HERE, 0, PAGES, MapFlags::READ).must("a look at the pages");
    for page in 0..PAGES {
        // SAFETY: just mapped.
        assert_eq!(unsafe { ((HERE + page * PAGE_SIZE) as *const u64).read_volatile() }, page + 1);
    }
    VSPACE.unmap(HERE, PAGES).must("an unmap");
}

fn a_handler_in_another_address_space_pages(w: &mut World) {
    let space = w.space();
    pages_between(w, space, [0, 0]);
}

fn a_handler_on_another_cpu_pages(w: &mut World) {
    let space = w.space();
    let other = w.cpus() - 1;
    for cpus in [[0, other], [other, 0], [other, other]] {
        pages_between(w, space, cpus);
    }
}

fn faults_on_all_cpus_reach_one_handler(w: &mut World) {
    const ROUNDS: u64 = 50;
    let faults = w.endpoint();
    let cpus = w.cpus();
    let subjects = 2 * cpus;
    for at in 0..subjects {
        let badged = w.mint(faults, Rights::WRITE, at + 1);
        let thread = w.thread().cpu(at % cpus).faults_to(badged).prepare();
        let subject = Subject { thread, faults };
        subject.run(&subject.registers(undefined));
    }
    let mut heard = [0; 2 * abi::trace::MAX_CPUS];
    let end = now() + w.milliseconds(50_000);
    while heard[..subjects as usize].iter().any(|&count| count < ROUNDS) {
        let received = ipc::recv_until(faults, CPtr::NULL, end)
            .must(format_args!("a fault after {:?} of {ROUNDS} by each thread", &heard[..subjects as usize]));
        let at = received.badge as usize - 1;
        assert_eq!(received.message.words[fault::RIP], address(undefined));
        heard[at] += 1;
        // Who has had its share stays stopped.
        ipc::reply(Message::new(u32::from(heard[at] == ROUNDS))).must("an answer");
    }
}
