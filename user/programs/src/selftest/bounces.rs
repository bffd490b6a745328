//! Foreign calls and kicks under load, and where a thread's faults meet its kicks: what a library with hostile
//! timing, and a process that signals it, rely on.

use core::mem::offset_of;

use abi::message::IpcBuffer;
use abi::message::fault::FOREIGN_CALL;
use abi::{MapFlags, Registers};

use crate::arena;
use crate::row;
use crate::snippets;
use crate::subject::{
    FIXED_FLAGS, HERE, INVALID_OPCODE, PAGE_FAULT, SINGLE_STEP, Subject, TRAP_FLAG, USER, address, end,
};
use crate::table::{Need, Test};
use crate::world::{Must, READY, VSPACE, World};

/// The tests of this area.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    row!("bounces", a_library_answers_thousands_of_calls, "a library that answers and jumps back leaves its caller every register, the red zone and the flags"),
    row!("bounces", no_kick_is_lost_between_calls, "a thread that makes foreign calls all the time hears of every kick once, and loses no register by one"),
    row!("bounces", no_kick_is_lost_across_cpus, "the same when kicks come from another CPU", Need::Cpus(2)),
    row!("bounces", libraries_of_several_threads_do_not_mix, "threads with one library and address space get their own return addresses and answers"),
    row!("bounces", a_library_can_call_the_kernel_and_itself, "inside its library a thread makes native calls and further foreign ones"),
    row!("bounces", a_step_over_a_foreign_call_stops_in_the_library, "with TF set a foreign call is stepped into the library, and the buffer keeps TF for the way back"),
    row!("bounces", a_kick_of_a_faulted_thread_strikes_when_it_is_resumed, "a thread whose fault is in hand enters its library by a kick when the handler answers, and can go back to where it faulted"),
    row!("bounces", a_kick_of_a_thread_whose_fault_waits_strikes_first, "a fault that nobody has heard gives way to a kick, and strikes again when the library goes back"),
];

/// Offsets in the IPC buffer, where GS points.
const RETURN_ADDRESS: usize = offset_of!(IpcBuffer, foreign.return_address);
const RETURN_FLAGS: usize = offset_of!(IpcBuffer, foreign.return_flags);
const KICK_ADDRESS: usize = offset_of!(IpcBuffer, foreign.kick_address);
const KICK_FLAGS: usize = offset_of!(IpcBuffer, foreign.kick_flags);
const INSIDE: usize = offset_of!(IpcBuffer, foreign.inside);
const KICK_PENDING: usize = offset_of!(IpcBuffer, foreign.kick_pending);
/// The words for user space: what this library keeps there.
const USER_STACK: usize = offset_of!(IpcBuffer, user);
const CALL_STACK: usize = USER_STACK + 8;
const KICK_STACK: usize = USER_STACK + 16;
const KICKED_STACK: usize = USER_STACK + 24;
const CALLS: usize = USER_STACK + 32;
const KICKS: usize = USER_STACK + 40;
const ROUNDS: usize = USER_STACK + 48;

/// A foreign-call library: answers every call with its number and 1, and counts.
#[unsafe(naked)]
extern "C" fn library() {
    core::arch::naked_asm!(
        "mov gs:[{USER_STACK}], rsp",
        "mov rsp, gs:[{CALL_STACK}]",
        "inc rax",
        "inc qword ptr gs:[{CALLS}]",
        "push qword ptr gs:[{RETURN_FLAGS}]",
        "mov qword ptr gs:[{INSIDE}], 0",
        // From here on a kick strikes; one that came before has left word.
        "cmp qword ptr gs:[{KICK_PENDING}], 0",
        "je 2f",
        "mov qword ptr gs:[{KICK_PENDING}], 0",
        "inc qword ptr gs:[{KICKS}]",
        "2: popfq",
        "mov rsp, gs:[{USER_STACK}]",
        "jmp qword ptr gs:[{RETURN_ADDRESS}]",
        USER_STACK = const USER_STACK,
        CALL_STACK = const CALL_STACK,
        CALLS = const CALLS,
        RETURN_FLAGS = const RETURN_FLAGS,
        INSIDE = const INSIDE,
        KICK_PENDING = const KICK_PENDING,
        KICKS = const KICKS,
        RETURN_ADDRESS = const RETURN_ADDRESS,
    )
}

/// Its kick entry: counts.
#[unsafe(naked)]
extern "C" fn kicked() {
    core::arch::naked_asm!(
        "mov gs:[{KICKED_STACK}], rsp",
        "mov rsp, gs:[{KICK_STACK}]",
        "push qword ptr gs:[{KICK_FLAGS}]",
        "inc qword ptr gs:[{KICKS}]",
        "mov qword ptr gs:[{INSIDE}], 0",
        "popfq",
        "mov rsp, gs:[{KICKED_STACK}]",
        "jmp qword ptr gs:[{KICK_ADDRESS}]",
        KICKED_STACK = const KICKED_STACK,
        KICK_STACK = const KICK_STACK,
        KICK_FLAGS = const KICK_FLAGS,
        KICKS = const KICKS,
        INSIDE = const INSIDE,
        KICK_ADDRESS = const KICK_ADDRESS,
    )
}

/// Makes foreign calls for ever, and compares all registers with the copy in the words of the IPC buffer, and
/// the red zone with rbx. What differs ends at the undefined instruction.
#[unsafe(naked)]
extern "C" fn caller() {
    core::arch::naked_asm!(
        "mov [rsp - 8], rbx",
        "mov [rsp - 128], rbx",
        "2: mov eax, 39",
        "stc",
        "syscall",
        "jnc 9f",
        "cmp rax, 40",
        "jne 9f",
        "mov rax, gs:[96]",
        "mov rcx, gs:[104]",
        "mov r11, gs:[112]",
        "pause",
        "pause",
        "cmp rax, gs:[96]",
        "jne 9f",
        "cmp rcx, gs:[104]",
        "jne 9f",
        "cmp r11, gs:[112]",
        "jne 9f",
        "cmp rbx, gs:[0]",
        "jne 9f",
        "cmp rdx, gs:[8]",
        "jne 9f",
        "cmp rsi, gs:[16]",
        "jne 9f",
        "cmp rdi, gs:[24]",
        "jne 9f",
        "cmp rbp, gs:[32]",
        "jne 9f",
        "cmp r8, gs:[40]",
        "jne 9f",
        "cmp r9, gs:[48]",
        "jne 9f",
        "cmp r10, gs:[56]",
        "jne 9f",
        "cmp r12, gs:[64]",
        "jne 9f",
        "cmp r13, gs:[72]",
        "jne 9f",
        "cmp r14, gs:[80]",
        "jne 9f",
        "cmp r15, gs:[88]",
        "jne 9f",
        "cmp [rsp - 8], rbx",
        "jne 9f",
        "cmp [rsp - 128], rbx",
        "jne 9f",
        "inc qword ptr gs:[{ROUNDS}]",
        "jmp 2b",
        "9: ud2",
        ROUNDS = const ROUNDS,
    )
}

/// A word of a subject's IPC buffer.
fn word(subject: &Subject, offset: usize) -> &'static core::sync::atomic::AtomicU64 {
    let buffer = arena::ADDRESS + arena::buffer_offset(subject.thread.index);
    // SAFETY: within the subject's IPC buffer in the arena, which is always mapped; words are aligned.
    unsafe { &*((buffer + offset as u64) as *const core::sync::atomic::AtomicU64) }
}

fn get(subject: &Subject, offset: usize) -> u64 {
    word(subject, offset).load(core::sync::atomic::Ordering::SeqCst)
}

fn set(subject: &Subject, offset: usize, value: u64) {
    word(subject, offset).store(value, core::sync::atomic::Ordering::SeqCst);
}

/// Lets a subject make foreign calls for ever, on a CPU.
fn start(w: &mut World, cpu: u64) -> Subject {
    let subject = Subject::of(w, |thread| thread.cpu(cpu));
    subject.tcb().set_foreign(address(library), address(kicked)).must("a library");
    let mut r = subject.registers(caller);
    // Each thread's own values.
    for register in [&mut r.rbx, &mut r.rdx, &mut r.rsi, &mut r.rdi, &mut r.rbp].into_iter().chain(&mut r.r) {
        *register ^= (subject.thread.index as u64) << 56;
    }
    let [r8, r9, r10, _, r12, r13, r14, r15] = r.r;
    let all = [r.rbx, r.rdx, r.rsi, r.rdi, r.rbp, r8, r9, r10, r12, r13, r14, r15, 0xa, 0xc, 0xb];
    for (at, value) in all.into_iter().enumerate() {
        set(&subject, 8 * at, value);
    }
    let top = arena::stack_top(subject.thread.index);
    set(&subject, CALL_STACK, top - 0x1000);
    set(&subject, KICK_STACK, top - 0x1800);
    subject.run(&r);
    subject
}

/// Panics if a subject has come upon something that differs.
#[track_caller]
fn is_well(subject: &Subject) {
    if subject.thread.state() != READY {
        let fault = subject.hear();
        panic!("{fault:x?} {:x?}", subject.found());
    }
}

/// Waits until a subject has gone on for some rounds.
#[track_caller]
fn goes_on(w: &World, subject: &Subject, rounds: u64) {
    let before = get(subject, ROUNDS);
    w.until_or(
        || get(subject, ROUNDS) >= before + rounds || subject.thread.state() == crate::world::BLOCKED,
        || panic!("no calls return"),
    );
    is_well(subject);
}

fn a_library_answers_thousands_of_calls(w: &mut World) {
    let subject = start(w, 0);
    goes_on(w, &subject, 20_000);
    assert!(get(&subject, CALLS) >= 20_000);
}

/// Kicks a subject that makes foreign calls all the time.
fn kicks_arrive(w: &mut World, cpu: u64) {
    const COUNT: u64 = 300;
    let subject = start(w, cpu);
    goes_on(w, &subject, 10);
    for kick in 1..=COUNT {
        subject.tcb().kick().must("a kick");
        w.until_or(
            || get(&subject, KICKS) >= kick || subject.thread.state() == crate::world::BLOCKED,
            || panic!("kick {kick} is lost"),
        );
        assert_eq!(get(&subject, KICKS), kick, "a kick has struck twice");
        // (Not before it has left the library for good.)
        goes_on(w, &subject, 2);
    }
    assert_eq!(get(&subject, KICK_PENDING), 0);
}

fn no_kick_is_lost_between_calls(w: &mut World) {
    kicks_arrive(w, 0);
}

fn no_kick_is_lost_across_cpus(w: &mut World) {
    kicks_arrive(w, w.cpus() - 1);
}

fn libraries_of_several_threads_do_not_mix(w: &mut World) {
    let cpus = w.cpus();
    let subjects = [0, 1, 2, 3].map(|at| start(w, at % cpus));
    for subject in &subjects {
        goes_on(w, subject, 2_000);
    }
    subjects.iter().for_each(is_well);
}

/// A library that makes a native call, then a foreign one of its own, and ends.
#[unsafe(naked)]
extern "C" fn deep_library() {
    core::arch::naked_asm!(
        "cmp rax, 41",
        "je 2f",
        "mov rbx, gs:[{RETURN_ADDRESS}]",
        "mov eax, {NOP}",
        "syscall",
        "mov rdi, rax",
        "mov eax, 41",
        "syscall",
        "ud2",
        "2: mov rbp, gs:[{RETURN_ADDRESS}]",
        "ud2",
        RETURN_ADDRESS = const RETURN_ADDRESS,
        NOP = const abi::Syscall::nop.number(),
    )
}

snippets! {
    /// A system call.
    enter: "syscall";
    /// A library that does nothing.
    empty_library: "nop";
    /// A kick entry that does nothing.
    empty_kicked: "nop", "nop";
    /// Reads at rdi.
    read: "mov rax, [rdi]";
}

fn a_library_can_call_the_kernel_and_itself(w: &mut World) {
    let subject = Subject::new(w);
    subject.tcb().set_foreign(address(deep_library), 0).must("a library");
    subject.run(&Registers { rax: 39, ..subject.registers(enter) });
    let fault = subject.hear();
    let found = subject.found();
    assert_eq!(fault.kind, INVALID_OPCODE);
    assert!(fault.rip > end(deep_library), "the inner call has come to the library, too: {fault:x?}");
    assert_eq!((found.rbx, found.rdi, found.rax), (end(enter), 0, 41));
    assert_eq!(found.rbp, end(deep_library), "the inner call's return address");
    assert_eq!(get(&subject, INSIDE), 1);
}

fn a_step_over_a_foreign_call_stops_in_the_library(w: &mut World) {
    let subject = Subject::new(w);
    subject.tcb().set_foreign(address(empty_library), 0).must("a library");
    let flags = FIXED_FLAGS | TRAP_FLAG;
    subject.run(&Registers { rax: 39, rflags: flags, ..subject.registers(enter) });
    let fault = subject.hear();
    assert_eq!((fault.kind, fault.rflags & TRAP_FLAG), (SINGLE_STEP, TRAP_FLAG));
    // (Behind SYSRET the step may be taken at once, or after one instruction.)
    assert!(fault.rip == address(empty_library) || fault.rip == end(empty_library), "{fault:x?}");
    assert_eq!([RETURN_ADDRESS, RETURN_FLAGS].map(|at| get(&subject, at)), [end(enter), flags]);
    // Without a library the step is one fault, and the call another.
    subject.tcb().set_foreign(0, 0).must("no library");
    subject.run(&Registers { rax: 39, rflags: flags, ..subject.registers(enter) });
    assert_eq!(subject.hear().what(), [FOREIGN_CALL, 39, 0]);
    subject.resume();
    assert_eq!(subject.hear().kind, SINGLE_STEP);
}

/// A subject that is in a page fault, with a library for kicks.
fn faulted(w: &mut World) -> (Subject, Registers) {
    let subject = Subject::new(w);
    subject.tcb().set_foreign(address(empty_library), address(empty_kicked)).must("a library");
    let registers = Registers { rdi: HERE, ..subject.registers(read) };
    subject.run(&registers);
    w.until_blocked(&subject.thread);
    (subject, registers)
}

/// Looks at a subject that has come to its kick entry, out of its fault.
#[track_caller]
fn came_by_kick(subject: &Subject, registers: &Registers) {
    let words = [KICK_ADDRESS, KICK_FLAGS, INSIDE, KICK_PENDING].map(|at| get(subject, at));
    assert_eq!(words, [registers.rip, registers.rflags, 1, 0]);
    assert_eq!(subject.hear().rip, end(empty_kicked));
    assert_eq!(subject.found(), Registers { rip: end(empty_kicked), ..*registers });
}

fn a_kick_of_a_faulted_thread_strikes_when_it_is_resumed(w: &mut World) {
    let (subject, registers) = faulted(w);
    assert_eq!(subject.hear().what(), [PAGE_FAULT, USER, HERE]);
    subject.tcb().kick().must("a kick");
    w.sleep(1);
    assert_eq!(subject.thread.state(), crate::world::BLOCKED, "it waits for the answer");
    let frame = w.frame(1);
    VSPACE.map(frame, HERE, 0, 1, MapFlags::READ).must("a page");
    subject.resume();
    came_by_kick(&subject, &registers);
    subject.run(&registers);
    assert_eq!((subject.hear().rip, subject.found().rax), (end(read), 0));
}

fn a_kick_of_a_thread_whose_fault_waits_strikes_first(w: &mut World) {
    let (subject, registers) = faulted(w);
    subject.tcb().kick().must("a kick");
    came_by_kick(&subject, &registers);
    set(&subject, INSIDE, 0);
    subject.run(&registers);
    assert_eq!(subject.hear().what(), [PAGE_FAULT, USER, HERE]);
}
