//! Foreign system calls and kicks: the ways into a thread's library.

use core::mem::offset_of;

use abi::message::{Foreign, fault};
use abi::{CPtr, Error, IpcBuffer, Registers};
use ipc::Message;

use crate::arena;
use crate::row;
use crate::table::{Need, Test};
use crate::vector_state::{Call, State, across};
use crate::world::{Must, SYSTEM, TCB, Thread, World, finish};

/// The tests of this area.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    row!("foreign", a_foreign_call_enters_the_library_with_all_registers, "the library finds every register but rcx and r11 as it was, return address and flags in the buffer, and itself inside"),
    row!("foreign", a_foreign_call_preserves_vector_state, "a foreign call there and back leaves ymm, MXCSR and x87 state as they were"),
    row!("foreign", a_foreign_call_works_without_the_fast_path, "the same while system calls are traced"),
    row!("foreign", only_eax_says_which_call_it_is, "numbers are judged by eax alone: what is beyond 32 bits is the library's affair"),
    row!("foreign", a_foreign_call_takes_any_stack_and_flags, "a foreign call with a hostile stack pointer and flags reaches the library with them"),
    row!("foreign", native_calls_do_not_enter_the_library, "a thread with a library makes native system calls as before"),
    row!("foreign", a_thread_without_its_library_faults, "after set_foreign(0, 0) a foreign call is a fault again"),
    row!("foreign", losing_the_buffer_loses_the_library, "when the IPC buffer's Frame goes, so do library and kick entry"),
    row!("foreign", a_kick_redirects_user_code, "a kick enters the library at its kick entry, with the place it struck in the buffer"),
    row!("foreign", a_kick_inside_the_library_only_leaves_word, "a thread inside its library is not redirected, but told"),
    row!("foreign", a_kick_of_a_blocked_thread_only_leaves_word, "a thread that waits in the kernel goes on waiting, and is told"),
    row!("foreign", a_kick_of_a_stopped_thread_strikes_when_it_runs, "a suspended thread that was in user code starts at its kick entry"),
    row!("foreign", a_second_kick_is_latched, "a kick that follows a kick leaves word"),
    row!("foreign", a_kick_keeps_all_other_registers, "at the kick entry every register but rip is as it was, vector state, too"),
    row!("foreign", a_kick_strikes_on_another_cpu, "a kick strikes a thread that is running on another CPU", Need::Cpus(2)),
];

/// Offset in an IPC buffer of what a foreign call leaves.
const FOREIGN: usize = offset_of!(IpcBuffer, foreign);
/// Offset of the words for user space.
const USER: usize = offset_of!(IpcBuffer, user);
/// A number that is not this kernel's.
const GETPID: u64 = 39;

/// A library that returns at once: leaves the inside, and goes back with all registers.
#[unsafe(naked)]
extern "C" fn returning_library() {
    core::arch::naked_asm!(
        "mov qword ptr gs:[{inside}], 0",
        "jmp qword ptr gs:[{back}]",
        inside = const FOREIGN + offset_of!(Foreign, inside),
        back = const FOREIGN + offset_of!(Foreign, return_address),
    )
}

/// A library that writes all registers into the user words of the buffer, in the order of `Registers` without
/// rip, and ends the thread.
#[unsafe(naked)]
extern "C" fn telling_library() {
    core::arch::naked_asm!(
        "mov gs:[{u} + 8], rsp", "mov gs:[{u} + 24], rax", "mov gs:[{u} + 32], rbx", "mov gs:[{u} + 40], rcx",
        "mov gs:[{u} + 48], rdx", "mov gs:[{u} + 56], rsi", "mov gs:[{u} + 64], rdi", "mov gs:[{u} + 72], rbp",
        "mov gs:[{u} + 80], r8", "mov gs:[{u} + 88], r9", "mov gs:[{u} + 96], r10", "mov gs:[{u} + 104], r11",
        "mov gs:[{u} + 112], r12", "mov gs:[{u} + 120], r13", "mov gs:[{u} + 128], r14", "mov gs:[{u} + 136], r15",
        "rdgsbase rsp",
        "lea rsp, [rsp + 1024]",
        "pushfq",
        "pop gs:[{u} + 16]",
        "jmp {finish}",
        u = const USER, finish = sym finish,
    )
}

/// A foreign call, and the end of the thread.
#[unsafe(naked)]
extern "C" fn call_abroad() -> ! {
    core::arch::naked_asm!("syscall", "jmp {finish}", finish = sym finish)
}

#[unsafe(naked)]
extern "C" fn spin() -> ! {
    core::arch::naked_asm!("2: jmp 2b")
}

fn address(function: extern "C" fn()) -> u64 {
    function as *const () as u64
}

/// What the kernel left in a thread's buffer.
fn left_in(thread: &Thread) -> Foreign {
    // SAFETY: the buffer is in the arena, mapped for good; the thread stands still, or its words are read as
    // they are at the moment.
    unsafe {
        ((core::ptr::from_ref(thread.buffer()) as u64 + FOREIGN as u64) as *const Foreign).read_volatile()
    }
}

/// The registers that `telling_library` left.
fn told(thread: &Thread) -> Registers {
    Registers::from_words(&core::array::from_fn(|at| thread.buffer().user[at].get()))
}

/// Registers that all differ, for a thread with its own buffer as GS base.
fn pattern(rip: u64, thread: &Thread) -> Registers {
    Registers {
        rip,
        rsp: 0x7000_1234_5678,
        rflags: 0x202 | 0x8d5,
        rax: GETPID,
        rbx: 2,
        rcx: 3,
        rdx: 4,
        rsi: 5,
        rdi: 6,
        rbp: 7,
        r: [8, 9, 10, 11, 12, 13, 14, 15],
        fs_base: 0x9999_0000,
        gs_base: core::ptr::from_ref(thread.buffer()) as u64,
    }
}

fn bounce(w: &mut World, registers: impl Fn(Registers) -> Registers) -> (Thread, Registers) {
    let faults = w.endpoint();
    let thread = w.thread().faults_to(faults).prepare();
    thread.tcb.set_foreign(address(telling_library), 0).must("a library");
    let start = registers(pattern(call_abroad as *const () as u64, &thread));
    rt::thread::write_registers(thread.tcb, &start, true).must("starting it");
    let heard = ipc::recv(faults, CPtr::NULL).must("its end").message.words;
    assert_eq!(heard[fault::RIP], finish as *const () as u64);
    let left = left_in(&thread);
    assert_eq!(left.return_address, call_abroad as *const () as u64 + 2);
    assert_eq!(left.return_flags, start.rflags);
    assert_eq!((left.inside, left.kick_pending), (1, 0));
    let mut seen = told(&thread);
    // Lost on the way, as with any SYSCALL.
    (seen.rcx, seen.r[3]) = (start.rcx, start.r[3]);
    let expected = Registers { rip: 0, fs_base: 0, gs_base: 0, ..start };
    assert_eq!(seen, expected);
    (thread, start)
}

fn a_foreign_call_enters_the_library_with_all_registers(w: &mut World) {
    bounce(w, |registers| registers);
}

fn a_foreign_call_preserves_vector_state(w: &mut World) {
    let thread = w.thread().prepare();
    thread.tcb.set_foreign(address(returning_library), 0).must("a library");
    thread.run(|| {
        for round in 0..50 {
            let call = Call { number: GETPID, capability: 1, info: 2, rounds: 0 };
            let (found, answer) = across(State::of(round), call);
            assert_eq!((found, answer), (State::of(round), GETPID));
        }
    });
    w.join(&thread);
    assert_eq!(left_in(&thread).inside, 0);
}

fn a_foreign_call_works_without_the_fast_path(w: &mut World) {
    SYSTEM.trace(1 << abi::trace::Event::Ipc as u64).must("tracing");
    bounce(w, |registers| registers);
    a_foreign_call_preserves_vector_state(w);
    SYSTEM.trace(0).must("tracing no more");
}

fn only_eax_says_which_call_it_is(w: &mut World) {
    for number in
        [0, 0x534a_ffff, 0x534b_000d, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 32, 0x534b_0000 << 8]
    {
        let (thread, _) = bounce(w, |registers| Registers { rax: number, ..registers });
        w.delete(thread.tcb.0);
    }
    // What eax alone makes a native call is one.
    let mut rax = u64::from(abi::Syscall::nop.number()) | 0x1234 << 32;
    // SAFETY: `nop`, which changes nothing.
    unsafe { core::arch::asm!("syscall", inlateout("rax") rax, out("rcx") _, out("r11") _) };
    assert_eq!(rax, 0);
}

fn a_foreign_call_takes_any_stack_and_flags(w: &mut World) {
    for stack in [0, 1, 1 << 47, 0xffff_8000_0000_0000, u64::MAX] {
        let (thread, _) = bounce(w, |registers| Registers { rsp: stack, ..registers });
        w.delete(thread.tcb.0);
    }
    let (thread, _) = bounce(w, |registers| Registers { rflags: 0x202 | 0x24_0cd5, ..registers });
    w.delete(thread.tcb.0);
}

fn native_calls_do_not_enter_the_library(w: &mut World) {
    let [endpoint, notification] = [w.endpoint(), w.notification()];
    let server = w.thread().prepare();
    server.tcb.set_foreign(address(telling_library), address(telling_library)).must("a library");
    server.run(move || {
        ipc::nop();
        ipc::yield_now();
        ipc::signal(notification).must("a signal");
        let received = ipc::recv(endpoint, CPtr::NULL).must("a call");
        ipc::reply(received.message).must("an answer");
    });
    assert_eq!(ipc::call(endpoint, Message::new(7)), Ok(Message::new(7)));
    w.join(&server);
    assert_eq!(left_in(&server).inside, 0);
}

fn a_thread_without_its_library_faults(w: &mut World) {
    let (thread, start) = bounce(w, |registers| registers);
    let faults = w.endpoint();
    thread.tcb.set_fault_handler(faults).must("another handler");
    thread.tcb.set_foreign(0, 0).must("no library");
    rt::thread::write_registers(thread.tcb, &start, true).must("starting it");
    let heard = ipc::recv(faults, CPtr::NULL).must("a fault").message.words;
    assert_eq!((heard[fault::KIND], heard[fault::CODE]), (fault::FOREIGN_CALL, GETPID));
}

fn losing_the_buffer_loses_the_library(w: &mut World) {
    let [faults, frame] = [w.endpoint(), w.frame(1)];
    let thread = w.thread().faults_to(faults).prepare();
    thread.tcb.configure(CPtr::NULL, CPtr::NULL, frame, 0).must("another buffer");
    thread.tcb.set_foreign(address(telling_library), address(telling_library)).must("a library");
    w.delete(frame);
    assert_eq!(thread.tcb.kick(), Err(Error::NotConfigured));
    let start = pattern(call_abroad as *const () as u64, &thread);
    rt::thread::write_registers(thread.tcb, &start, true).must("starting it");
    let heard = ipc::recv(faults, CPtr::NULL).must("a fault").message.words;
    assert_eq!(heard[fault::KIND], fault::FOREIGN_CALL);
}

/// A thread that spins with a pattern in its registers and has a kick entry; who hears its end; its registers.
fn kickable(w: &mut World, cpu: u64) -> (Thread, CPtr, Registers) {
    let faults = w.endpoint();
    let thread = w.thread().cpu(cpu).priority(90).faults_to(faults).prepare();
    thread.tcb.set_foreign(0, address(telling_library)).must("a kick entry");
    let registers = pattern(spin as *const () as u64, &thread);
    rt::thread::write_registers(thread.tcb, &registers, true).must("starting it");
    w.sleep(2);
    (thread, faults, registers)
}

/// Hears that a kicked thread came to its library, with all registers and the place in the buffer.
fn assert_struck(thread: &Thread, faults: CPtr, registers: &Registers) {
    let heard = ipc::recv(faults, CPtr::NULL).must("its end").message.words;
    assert_eq!(heard[fault::RIP], finish as *const () as u64);
    let left = left_in(thread);
    assert_eq!((left.kick_address, left.kick_flags), (registers.rip, registers.rflags));
    assert_eq!(left.inside, 1);
    let expected = Registers { rip: 0, fs_base: 0, gs_base: 0, ..*registers };
    assert_eq!(told(thread), expected);
}

fn a_kick_redirects_user_code(w: &mut World) {
    let (thread, faults, registers) = kickable(w, 0);
    thread.tcb.kick().must("a kick");
    assert_struck(&thread, faults, &registers);
    assert_eq!(left_in(&thread).kick_pending, 0);
}

fn a_kick_inside_the_library_only_leaves_word(w: &mut World) {
    let (thread, _, registers) = kickable(w, 0);
    // Inside, as a bounce would have it.
    let inside = core::ptr::from_ref(thread.buffer()) as u64 + (FOREIGN + offset_of!(Foreign, inside)) as u64;
    // SAFETY: a word of the thread's buffer, which is in the arena.
    unsafe { (inside as *mut u64).write_volatile(1) };
    thread.tcb.kick().must("a kick");
    assert_eq!(left_in(&thread).kick_pending, 1);
    thread.tcb.suspend().must("stopping it");
    assert_eq!(w.registers(thread.tcb), registers);
}

fn a_kick_of_a_blocked_thread_only_leaves_word(w: &mut World) {
    let notification = w.notification();
    let thread = w.thread().prepare();
    thread.tcb.set_foreign(0, address(telling_library)).must("a kick entry");
    thread.run(move || assert_eq!(ipc::wait(notification), Ok(1)));
    w.until_blocked(&thread);
    thread.tcb.kick().must("a kick");
    assert_eq!(left_in(&thread).kick_pending, 1);
    assert_eq!(thread.state(), crate::world::BLOCKED);
    ipc::signal(notification).must("a signal");
    w.join(&thread);
}

fn a_kick_of_a_stopped_thread_strikes_when_it_runs(w: &mut World) {
    let (thread, faults, registers) = kickable(w, 0);
    thread.tcb.suspend().must("stopping it");
    thread.tcb.kick().must("a kick");
    assert_eq!(w.registers(thread.tcb).rip, address(telling_library));
    thread.tcb.resume().must("letting it run");
    assert_struck(&thread, faults, &registers);
}

fn a_second_kick_is_latched(w: &mut World) {
    let (thread, faults, registers) = kickable(w, 0);
    thread.tcb.suspend().must("stopping it");
    thread.tcb.kick().must("a kick");
    thread.tcb.kick().must("a second one");
    thread.tcb.resume().must("letting it run");
    assert_struck(&thread, faults, &registers);
    assert_eq!(left_in(&thread).kick_pending, 1);
    // One's own kick is word, too: whoever makes a system call is in the kernel.
    TCB.set_foreign(0, address(telling_library)).must("a kick entry");
    TCB.kick().must("a kick of oneself");
    TCB.set_foreign(0, 0).must("no kick entry");
}

/// A kick entry that goes back to where the kick struck, with all registers and flags.
#[unsafe(naked)]
extern "C" fn returning_kick_entry() {
    core::arch::naked_asm!(
        "lea rsp, [rsp - 136]",
        "pushfq",
        "inc qword ptr gs:[{u}]",
        "mov qword ptr gs:[{inside}], 0",
        "popfq",
        "lea rsp, [rsp + 136]",
        "jmp qword ptr gs:[{back}]",
        u = const USER + 8 * 20,
        inside = const FOREIGN + offset_of!(Foreign, inside),
        back = const FOREIGN + offset_of!(Foreign, kick_address),
    )
}

fn a_kick_keeps_all_other_registers(w: &mut World) {
    let thread = w.thread().priority(90).prepare();
    thread.tcb.set_foreign(0, address(returning_kick_entry)).must("a kick entry");
    thread.run(|| {
        let mut round = 0;
        while arena::get(0) == 0 {
            round += 1;
            assert_eq!(across(State::of(round), Call::spin(10_000)).0, State::of(round));
        }
    });
    w.until("ten kicks have struck", || {
        thread.tcb.kick().must("a kick");
        thread.buffer().user[20].get() >= 10
    });
    arena::set(0, 1);
    w.join(&thread);
}

fn a_kick_strikes_on_another_cpu(w: &mut World) {
    let (thread, faults, registers) = kickable(w, 1);
    thread.tcb.kick().must("a kick");
    assert_struck(&thread, faults, &registers);
}
