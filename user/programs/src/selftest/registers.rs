//! Registers: kept where they must be, never passed on, and hostile ones harmless.

use core::arch::asm;

use abi::message::fault;
use abi::object::USER_TOP;
use abi::{CPtr, Error, MapFlags, Registers, Syscall};
use ipc::{Message, VSpace};

use crate::arena;
use crate::row;
use crate::table::{Need, Test};
use crate::vectors::{Call, FOUND_BYTES, State, across, tell_first_state};
use crate::world::{Must, SYSTEM, Thread, VSPACE, World, now};

/// The tests of this area.
pub const TESTS: &[Test] = &[
    row!(
        "registers",
        integer_registers_survive_preemption,
        "a thread that is interrupted again and again keeps all integer registers, flags and bases"
    ),
    row!(
        "registers",
        vector_registers_survive_preemption,
        "ymm, MXCSR and x87 state of competing threads survive preemption"
    ),
    row!(
        "registers",
        vector_registers_survive_preemption_on_every_cpu,
        "the same on all CPUs at once",
        Need::Cpus(2)
    ),
    row!(
        "registers",
        vector_registers_survive_a_fault,
        "a fault that is handled leaves the vector state as it was"
    ),
    row!(
        "registers",
        a_new_thread_finds_the_initial_vector_state,
        "a new thread's vector state is initial, whatever ran before"
    ),
    row!(
        "registers",
        a_call_passes_no_vector_state,
        "a server of another domain finds the initial vector state, not its caller's, and the caller not the server's"
    ),
    row!(
        "registers",
        a_call_of_the_slow_path_passes_no_vector_state,
        "the same with a message that takes the slow path"
    ),
    row!("registers", a_traced_call_passes_no_vector_state, "the same with the fast path out of service"),
    row!(
        "registers",
        a_switch_after_a_signal_passes_no_vector_state,
        "a thread that wakes from a wait finds none of the signaller's vector state"
    ),
    row!(
        "registers",
        a_fault_handler_finds_no_vector_state,
        "a fault handler finds none of the faulting thread's vector state"
    ),
    row!(
        "registers",
        a_call_between_cpus_passes_no_vector_state,
        "between CPUs, too, no vector state passes",
        Need::Cpus(2)
    ),
    row!(
        "registers",
        a_system_call_keeps_what_the_convention_keeps,
        "rbx, rbp, rsp and the bases survive each kind of system call"
    ),
    row!(
        "registers",
        every_thread_keeps_its_bases,
        "threads on one CPU keep their FS and GS bases over calls, waits and preemption"
    ),
    row!(
        "registers",
        hostile_bases_harm_nobody,
        "FS and GS bases anywhere, in the kernel's half too, are kept and trusted by nobody"
    ),
    row!(
        "registers",
        hostile_flags_harm_no_system_call,
        "DF, NT, AC and the status flags at a system call come back, and do not touch the kernel"
    ),
    row!(
        "registers",
        a_hostile_callers_flags_do_not_reach_the_server,
        "a server's flags are its own, whatever its caller's were"
    ),
    row!("registers", hostile_flags_survive_preemption, "NT, AC, DF and ID survive an interrupt"),
    row!(
        "registers",
        flags_that_matter_to_the_kernel_cannot_be_written,
        "write_registers lets IF stay set, and IOPL, VM, RF and NT clear"
    ),
    row!(
        "registers",
        a_hostile_stack_pointer_harms_no_system_call,
        "system calls work whatever the stack pointer"
    ),
    row!(
        "registers",
        a_hostile_stack_pointer_harms_no_fault,
        "faults and interrupts are taken whatever the stack pointer"
    ),
    row!(
        "registers",
        a_return_to_the_top_of_user_memory_faults_in_user_code,
        "a system call at the very end of user memory returns, and the next fetch faults in user mode"
    ),
    row!(
        "registers",
        registers_that_would_fault_the_kernel_are_refused,
        "write_registers refuses what SYSRET or WRFSBASE would fault on"
    ),
    row!(
        "registers",
        the_trap_flag_at_a_system_call_traps_only_the_user,
        "TF at each kind of system call is a trap of the user's, not of the kernel"
    ),
];

const HERE: u64 = 0x30_0000_0000;

/// `jmp` to itself.
#[unsafe(naked)]
extern "C" fn spin_for_ever() -> ! {
    core::arch::naked_asm!("2: jmp 2b")
}

/// Registers that all differ, for a thread that spins.
fn pattern(seed: u64) -> Registers {
    let word = |at: u64| (seed << 32) | (0x1000 + at);
    Registers {
        rip: spin_for_ever as *const () as u64,
        rsp: word(0),
        rflags: 0x202 | 0x8d5,
        rax: word(1),
        rbx: word(2),
        rcx: word(3),
        rdx: word(4),
        rsi: word(5),
        rdi: word(6),
        rbp: word(7),
        r: core::array::from_fn(|at| word(8 + at as u64)),
        fs_base: word(16),
        gs_base: word(17),
    }
}

fn integer_registers_survive_preemption(w: &mut World) {
    let turn = w.microseconds(200);
    let threads: [(Thread, Registers); 3] = core::array::from_fn(|at| {
        let registers = pattern(at as u64 + 1);
        (w.thread().priority(50).budget(turn, turn).start_at(&registers), registers)
    });
    w.sleep(20);
    for (thread, registers) in threads {
        thread.tcb.suspend().must("stopping it");
        assert!(thread.context.consumed().must("its time") > 2 * turn, "it was not preempted");
        assert_eq!(w.registers(thread.tcb), registers);
    }
}

/// Threads of an address space each that spin with a vector state of their own, and must find it afterwards.
fn spin_with_vectors(w: &mut World, cpus: u64) {
    let turn = w.microseconds(200);
    let threads: [Thread; 4] = core::array::from_fn(|at| {
        let space = w.space();
        let cpu = at as u64 % cpus;
        w.thread().cpu(cpu).priority(50).budget(turn, turn).space(space).start(move || {
            for round in 0..20 {
                let state = State::of(16 * at as u64 + round);
                assert_eq!(across(state, Call::spin(100_000)).0, state);
            }
        })
    });
    threads.iter().for_each(|thread| w.join(thread));
}

fn vector_registers_survive_preemption(w: &mut World) {
    spin_with_vectors(w, 1);
}

fn vector_registers_survive_preemption_on_every_cpu(w: &mut World) {
    let cpus = w.cpus();
    spin_with_vectors(w, cpus);
}

/// Number of a system call that is not this kernel's: without a library it is a fault.
const FOREIGN: u64 = 39;

fn foreign() -> Call {
    Call { number: FOREIGN, capability: 0, info: 0, rounds: 0 }
}

fn vector_registers_survive_a_fault(w: &mut World) {
    let faults = w.endpoint();
    let space = w.space();
    w.thread().space(space).start(move || {
        ipc::recv(faults, CPtr::NULL).must("a fault");
        loop {
            across(State::of(77), Call::spin(10));
            let received = ipc::reply_recv(faults, Message::new(0)).must("a fault");
            if received.message.words[fault::KIND] != 3 {
                // Its end.
                let _ = ipc::reply(Message::new(1));
                break;
            }
        }
    });
    let thread = w.thread().faults_to(faults).start(|| {
        let state = State::of(5);
        // A loop of one round, in the midst of which a breakpoint is.
        for _ in 0..20 {
            assert_eq!(across(state, Call::BREAKPOINT).0, state);
        }
    });
    w.join(&thread);
}

fn a_new_thread_finds_the_initial_vector_state(w: &mut World) {
    let frame = w.frame(1);
    const { assert!(FOUND_BYTES <= 4096) };
    VSPACE.map(frame, HERE, 0, 1, MapFlags::WRITE).must("a map");
    across(State::of(3), Call::spin(10));
    let thread = w.thread().prepare();
    let registers = thread.entry(|| ());
    let registers = Registers { rip: tell_first_state as *const () as u64, rdi: HERE, ..registers };
    rt::thread::write_registers(thread.tcb, &registers, true).must("starting it");
    across(State::of(4), Call::spin(10));
    w.until("it is through", || thread.state() == crate::world::INACTIVE);
    // SAFETY: the thread has left a `State` there.
    let found = unsafe { (HERE as *const State).read_volatile() };
    assert_eq!(found, State::INITIAL);
}

/// A server of another domain and a caller, each with a vector state of its own in each call, find the initial
/// one each time. `info` is that of the messages.
fn call_with_vectors(w: &mut World, cpu: u64, info: u64) {
    let endpoint = w.endpoint();
    let space = w.space();
    w.thread().cpu(cpu).space(space).start(move || {
        let (found, _) = across(State::of(9), Call::of(Syscall::recv, endpoint, 0));
        assert_eq!(found, State::INITIAL, "first call");
        loop {
            let (found, status) = across(State::of(10), Call::of(Syscall::reply_recv, endpoint, info));
            assert_eq!((found, status), (State::INITIAL, 0), "further call");
            arena::add(0, 1);
        }
    });
    for round in 0..20 {
        let (found, status) = across(State::of(round), Call::of(Syscall::call, endpoint, info));
        assert_eq!((found, status), (State::INITIAL, 0), "answer");
    }
    w.until("all came", || arena::get(0) >= 19);
}

fn a_call_passes_no_vector_state(w: &mut World) {
    call_with_vectors(w, 0, 5 << 32);
    // With words in the buffer, too.
    arena::set(0, 0);
    call_with_vectors(w, 0, 5 << 32 | 8);
}

fn a_call_of_the_slow_path_passes_no_vector_state(w: &mut World) {
    ipc::buffer().send_caps(&[CPtr::NULL]);
    call_with_vectors(w, 0, 5 << 32 | 1 << 8);
}

fn a_traced_call_passes_no_vector_state(w: &mut World) {
    SYSTEM.trace(1 << abi::trace::Event::Ipc as u64).must("tracing");
    call_with_vectors(w, 0, 5 << 32);
    SYSTEM.trace(0).must("tracing no more");
}

fn a_switch_after_a_signal_passes_no_vector_state(w: &mut World) {
    let [ping, pong] = [w.notification(), w.notification()];
    let space = w.space();
    w.thread().space(space).priority(120).start(move || {
        loop {
            let (found, _) = across(State::of(9), Call::of(Syscall::wait, ping, 0));
            assert_eq!(found, State::INITIAL);
            ipc::signal(pong).must("a pong");
        }
    });
    for round in 0..20 {
        let (found, _) = across(State::of(round), Call::of(Syscall::signal, ping, 0));
        // Back in the signaller, which was switched away from and to.
        assert!(found == State::INITIAL || found == State::of(round), "{found:x?}");
        ipc::wait(pong).must("a pong");
    }
}

fn a_fault_handler_finds_no_vector_state(w: &mut World) {
    let faults = w.endpoint();
    let space = w.space();
    let thread = w.thread().priority(90).faults_to(faults).space(space).prepare();
    thread.run(|| {
        across(State::of(6), foreign());
    });
    let (found, status) = across(State::of(7), Call::of(Syscall::recv, faults, 0));
    assert_eq!((found, status), (State::INITIAL, 0));
}

fn a_call_between_cpus_passes_no_vector_state(w: &mut World) {
    call_with_vectors(w, 1, 5 << 32);
}

/// Makes a system call with these words in rbx, rbp, FS and GS base; what is there afterwards.
fn kept_across(call: Call, words: [u64; 4]) -> [u64; 4] {
    let mut place = words;
    // SAFETY: rbx, rbp and both bases are back at the end; the call changes nothing else of Rust's.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "rdfsbase rcx",
            "push rcx",
            "rdgsbase rcx",
            "push rcx",
            "push r8",
            "mov rbx, [r8]",
            "mov rbp, [r8 + 8]",
            "mov rcx, [r8 + 16]",
            "wrfsbase rcx",
            "mov rcx, [r8 + 24]",
            "wrgsbase rcx",
            "xor r8d, r8d",
            "syscall",
            "pop r8",
            "mov [r8], rbx",
            "mov [r8 + 8], rbp",
            "rdfsbase rcx",
            "mov [r8 + 16], rcx",
            "rdgsbase rcx",
            "mov [r8 + 24], rcx",
            "pop rcx",
            "wrgsbase rcx",
            "pop rcx",
            "wrfsbase rcx",
            "pop rbp",
            "pop rbx",
            inlateout("rax") call.number => _,
            inlateout("rdx") call.capability => _,
            inlateout("rsi") call.info => _,
            inlateout("rdi") 0u64 => _,
            inlateout("r8") place.as_mut_ptr() => _,
            lateout("r12") _, lateout("r13") _, lateout("r14") _, lateout("r15") _,
            clobber_abi("C"),
        );
    }
    place
}

/// Calls of every way through the kernel: fast and slow, with and without a switch.
fn every_way(w: &mut World) -> [Call; 8] {
    let [endpoint, notification] = [w.endpoint(), w.notification()];
    let space = w.space();
    w.thread().space(space).start(move || serve(endpoint));
    let other = w.endpoint();
    let cpu = w.cpus() - 1;
    w.thread().cpu(cpu).start(move || serve(other));
    [
        Call::of(Syscall::nop, CPtr::NULL, 0),
        Call::of(Syscall::yield_now, CPtr::NULL, 0),
        Call::of(Syscall::call, endpoint, 0),
        Call::of(Syscall::call, endpoint, 1 << 8),
        Call::of(Syscall::call, other, 0),
        Call::of(Syscall::signal, notification, 0),
        Call::of(Syscall::poll, crate::world::EMPTY, 0),
        Call::of(Syscall::invoke, crate::world::TCB.0, u64::from(abi::table::method::Tcb::status)),
    ]
}

fn serve(endpoint: CPtr) {
    let mut received = ipc::recv(endpoint, CPtr::NULL);
    while let Ok(call) = received {
        received = ipc::reply_recv(endpoint, Message::new(call.message.label()));
    }
}

fn a_system_call_keeps_what_the_convention_keeps(w: &mut World) {
    for (at, call) in every_way(w).into_iter().enumerate() {
        let words =
            [at as u64 + 1, u64::MAX - at as u64, 0x7000_0000_0000 + at as u64, 0x1234_0000 + at as u64];
        assert_eq!(kept_across(call, words), words, "way {at}");
    }
}

fn every_thread_keeps_its_bases(w: &mut World) {
    let endpoint = w.endpoint();
    w.thread().start(move || serve(endpoint));
    let turn = w.microseconds(200);
    let threads: [Thread; 4] = core::array::from_fn(|at| {
        let space = w.space();
        w.thread().budget(turn, turn).space(space).start(move || {
            let words = [1, 2, at as u64 * 0x1000, at as u64 * 0x5000 + 7];
            for _ in 0..200 {
                for call in
                    [Call::of(Syscall::yield_now, CPtr::NULL, 0), Call::of(Syscall::call, endpoint, 0)]
                {
                    assert_eq!(kept_across(call, words), words);
                }
            }
        })
    });
    threads.iter().for_each(|thread| w.join(thread));
}

fn hostile_bases_harm_nobody(w: &mut World) {
    let hostile = [0, 8, u64::MAX, 0xffff_8000_0000_0000, 0xffff_ffff_8000_0000, (1 << 47) - 1, 0xfee0_0000];
    for call in every_way(w) {
        for base in hostile {
            let words = [base, base, base, base];
            assert_eq!(kept_across(call, words), words);
        }
    }
    // At an interrupt and a fault.
    let faults = w.endpoint();
    for base in hostile {
        let turn = w.microseconds(200);
        let registers = Registers { fs_base: base, gs_base: base, ..pattern(1) };
        let spinner = w.thread().priority(50).budget(turn, turn).start_at(&registers);
        let registers = Registers { rip: crate::world::finish as *const () as u64, ..registers };
        let faulting = w.thread().faults_to(faults).start_at(&registers);
        assert!(ipc::recv(faults, CPtr::NULL).must("a fault").is_fault());
        assert_eq!(w.registers(faulting.tcb), registers);
        w.sleep(1);
        spinner.tcb.suspend().must("stopping it");
        assert_eq!(w.registers(spinner.tcb).gs_base, base);
        w.delete(faulting.tcb.0);
    }
}

/// Makes a system call with these flags and, if it is not 0, this stack pointer; the flags afterwards, and the
/// status.
fn with_flags_and_stack(call: Call, flags: u64, stack: u64) -> (u64, u64) {
    let (after, status): (u64, u64);
    // SAFETY: stack and flags are back at the end; the call changes nothing of Rust's but the IPC buffer.
    unsafe {
        asm!(
            "push rbx",
            "mov rbx, rsp",
            "test r8, r8",
            "cmovz r8, rbx",
            "push r9",
            "xor r9d, r9d",
            "popfq",
            "mov rsp, r8",
            "syscall",
            "mov rsp, rbx",
            "pushfq",
            "push 0x202",
            "popfq",
            "pop rcx",
            "pop rbx",
            inlateout("rax") call.number => status,
            inlateout("rdx") call.capability => _,
            inlateout("rsi") call.info => _,
            inlateout("rdi") 0u64 => _,
            inlateout("r8") stack => _,
            inlateout("r9") flags => _,
            lateout("rcx") after,
            lateout("r10") _, lateout("r11") _, lateout("r12") _, lateout("r13") _, lateout("r14") _,
            lateout("r15") _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
            out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
        );
    }
    (after, status)
}

/// Always set, and IF.
const PLAIN: u64 = 0x202;
/// DF, NT, AC, ID; status flags.
const HOSTILE: [u64; 6] = [0x400, 0x4000, 0x4_0000, 0x20_0000, 0x8d5, 0x24_4cd5];

fn hostile_flags_harm_no_system_call(w: &mut World) {
    for (at, call) in every_way(w).into_iter().enumerate() {
        for flags in HOSTILE {
            let (after, status) = with_flags_and_stack(call, PLAIN | flags, 0);
            assert!(status == 0 || status == Error::NoCapability as u64, "way {at}: {status}");
            assert_eq!(after, PLAIN | flags, "way {at}");
        }
    }
}

fn a_hostile_callers_flags_do_not_reach_the_server(w: &mut World) {
    let endpoint = w.endpoint();
    let space = w.space();
    w.thread().space(space).start(move || {
        for round in 0.. {
            let call = match round {
                0 => Call::of(Syscall::recv, endpoint, 0),
                _ => Call::of(Syscall::reply_recv, endpoint, 0),
            };
            let flags = PLAIN | if round % 2 == 0 { 0 } else { 0x8d5 };
            assert_eq!(with_flags_and_stack(call, flags, 0).0, flags);
        }
    });
    for flags in HOSTILE {
        let (after, status) = with_flags_and_stack(Call::of(Syscall::call, endpoint, 0), PLAIN | flags, 0);
        assert_eq!((after, status), (PLAIN | flags, 0));
    }
}

fn hostile_flags_survive_preemption(w: &mut World) {
    let turn = w.microseconds(200);
    for flags in HOSTILE {
        let spinner = w.thread().priority(50).budget(turn, turn).start(move || {
            // SAFETY: spins with these flags until told to stop; they are plain again at the end.
            let after: u64 = unsafe {
                let after;
                asm!(
                    "push {0}",
                    "popfq",
                    "2: pushfq",
                    "pop {0}",
                    "dec {1}",
                    "jnz 2b",
                    "push 0x202",
                    "popfq",
                    inlateout(reg) PLAIN | flags & !0x8d5 => after,
                    inlateout(reg) 2_000_000u64 => _,
                );
                after
            };
            arena::set(0, after);
        });
        let other = w.thread().priority(50).budget(turn, turn).start_at(&pattern(1));
        w.join(&spinner);
        assert!(spinner.context.consumed().must("its time") > 2 * turn);
        assert_eq!(arena::get(0) & !0x8d5, PLAIN | flags & !0x8d5);
        w.delete(other.tcb.0);
    }
}

fn flags_that_matter_to_the_kernel_cannot_be_written(w: &mut World) {
    let faults = w.endpoint();
    let finish = crate::world::finish as *const () as u64;
    // IOPL, VM, RF, VIF, VIP, NT; and no IF.
    for flags in [0, 0x3000, 0x2_0000, 0x1_0000, 0x8_0000, 0x10_0000, 0x4000, !0x100] {
        let registers = Registers { rip: finish, rflags: flags, ..Registers::default() };
        let thread = w.thread().faults_to(faults).start_at(&registers);
        let seen = ipc::recv(faults, CPtr::NULL).must("a fault").message.words[fault::RFLAGS];
        // (RF is set in what a fault saves: SDM vol. 3, 17.3.1.1.)
        assert_eq!(seen & !0x1_0000, PLAIN | flags & 0x24_0cd5, "{flags:#x}");
        w.delete(thread.tcb.0);
    }
}

/// Stack pointers that nobody should use: 0, odd, not canonical, the kernel's.
const STACKS: [u64; 6] =
    [8, 0x1001, 1 << 47, 0x8000_0000_0000_0000, 0xffff_ffff_8015_0000, 0xffff_8000_0010_0000];

fn a_hostile_stack_pointer_harms_no_system_call(w: &mut World) {
    for (at, call) in every_way(w).into_iter().enumerate() {
        for stack in STACKS {
            let (after, status) = with_flags_and_stack(call, PLAIN, stack);
            assert!(status == 0 || status == Error::NoCapability as u64, "way {at}: {status}");
            assert_eq!(after, PLAIN);
        }
    }
}

fn a_hostile_stack_pointer_harms_no_fault(w: &mut World) {
    let faults = w.endpoint();
    let turn = w.microseconds(200);
    for stack in STACKS.into_iter().chain([0]) {
        let registers = Registers { rip: crate::world::finish as *const () as u64, ..pattern(2) };
        let registers = Registers { rsp: stack, ..registers };
        let faulting = w.thread().faults_to(faults).start_at(&registers);
        assert!(ipc::recv(faults, CPtr::NULL).must("a fault").is_fault());
        assert_eq!(w.registers(faulting.tcb), registers);
        let registers = Registers { rsp: stack, ..pattern(3) };
        let spinner = w.thread().priority(50).budget(turn, turn).start_at(&registers);
        w.sleep(1);
        spinner.tcb.suspend().must("stopping it");
        assert_eq!(w.registers(spinner.tcb), registers);
        w.delete(faulting.tcb.0);
    }
}

/// Maps the last page that can be mapped, with a system call at its very end.
fn call_at_the_end(w: &mut World, space: VSpace) {
    let frame = w.frame(1);
    VSPACE.map(frame, HERE, 0, 1, MapFlags::WRITE).must("a map");
    // SAFETY: just mapped, for this test alone.
    unsafe { ((HERE + 4094) as *mut [u8; 2]).write_volatile([0x0f, 0x05]) };
    space.map(frame, USER_TOP - 4096, 0, 1, MapFlags::EXECUTE).must("a map");
}

fn a_return_to_the_top_of_user_memory_faults_in_user_code(w: &mut World) {
    let ways = every_way(w);
    let space = w.space();
    call_at_the_end(w, space);
    let faults = w.endpoint();
    for call in ways {
        let registers = Registers {
            rip: USER_TOP - 2,
            rax: call.number,
            rdx: call.capability,
            rsi: call.info,
            ..Registers::default()
        };
        let thread = w.thread().space(space).faults_to(faults).start_at(&registers);
        let words = ipc::recv(faults, CPtr::NULL).must("a fault").message.words;
        assert_eq!([words[fault::KIND], words[fault::RIP], words[fault::ADDRESS]], [14, USER_TOP, USER_TOP]);
        w.delete(thread.tcb.0);
    }
}

fn registers_that_would_fault_the_kernel_are_refused(w: &mut World) {
    let thread = w.thread().prepare();
    let good = pattern(1);
    let bad = [
        Registers { rip: USER_TOP, ..good },
        Registers { rip: 1 << 47, ..good },
        Registers { rip: u64::MAX, ..good },
        Registers { rip: 0xffff_ffff_8010_0000, ..good },
        Registers { fs_base: 1 << 47, ..good },
        Registers { gs_base: 0x8000_0000_0000_0000, ..good },
    ];
    for registers in bad {
        let refused = rt::thread::write_registers(thread.tcb, &registers, false);
        assert_eq!(refused, Err(Error::InvalidArgument));
    }
    rt::thread::write_registers(thread.tcb, &good, false).must("good ones");
    assert_eq!(w.registers(thread.tcb), good);
}

fn the_trap_flag_at_a_system_call_traps_only_the_user(w: &mut World) {
    let faults = w.endpoint();
    for call in every_way(w) {
        let start = now();
        let thread = w.thread().faults_to(faults).start(move || {
            arena::set(1, with_flags_and_stack(call, PLAIN | 0x100, 0).0);
        });
        // Every stop is in user code, with no other reason than the step.
        loop {
            let words = ipc::recv(faults, CPtr::NULL).must("a step").message.words;
            assert!(words[fault::RIP] < USER_TOP && now() > start);
            if words[fault::RIP] == crate::world::finish as *const () as u64 {
                break;
            }
            assert_eq!(words[fault::KIND], 1);
            ipc::reply(Message::new(0)).must("the next step");
        }
        assert_eq!(arena::get(1), PLAIN | 0x100);
        w.delete(thread.tcb.0);
    }
}
