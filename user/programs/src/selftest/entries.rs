//! Entries: user code enters the kernel with every register as hostile as it can make it. The kernel must not
//! suffer, the thread must get its own state back, and nobody else may see it.

use abi::object::USER_TOP;
use abi::table::method;
use abi::{CPtr, Error, MsgInfo, PAGE_SIZE, Registers, Syscall};
use ipc::Message;

use crate::arena;
use crate::row;
use crate::snippets;
use crate::subject::{
    ALIGNMENT_FLAG, DIRECTION_FLAG, FETCH, FIXED_FLAGS, GENERAL_PROTECTION, HERE, ID_FLAG, INVALID_OPCODE,
    KERNEL_ADDRESSES, NOT_CANONICAL, PAGE_FAULT, SINGLE_STEP, STATUS_FLAGS, Subject, TRAP_FLAG, USER,
    address, code, end,
};
use crate::table::{Need, Test};
use crate::world::{EMPTY, Must, World, unless};

/// The tests of this area.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    row!("entries", flags_pass_through_every_system_call, "whatever flags a thread has at a system call (DF, AC, NT, ID, status) it has afterwards, and no other thread"),
    row!("entries", a_single_step_goes_on_behind_every_system_call, "with TF set at a system call, the step is taken behind it in user code, never in the kernel"),
    row!("entries", bases_pass_through_every_system_call, "whatever FS and GS bases a thread has at a system call it has afterwards, and no other thread"),
    row!("entries", stack_pointers_pass_through_every_system_call, "a system call with a stack pointer that leads nowhere, or into the kernel, works as any other"),
    row!("entries", everything_hostile_at_once_on_another_cpu, "every CPU's own entry keeps these promises, within the CPU and between CPUs", Need::Cpus(2)),
    row!("entries", a_fault_keeps_flags_bases_and_stack, "a fault with any flags, bases and stack pointer is heard with them, and resumed with them"),
    row!("entries", an_interrupt_keeps_flags_bases_and_stack, "threads that are preempted again and again keep all registers, flags, bases and stack pointers"),
    row!("entries", a_foreign_call_keeps_flags_bases_and_stack, "a foreign call with any flags, bases and stack pointer reaches the library with them"),
    row!("entries", a_base_that_is_not_canonical_harms_nobody, "trying to load a base that is not canonical is at worst a fault of the thread"),
    row!("entries", the_upper_half_of_rax_does_not_count, "a system call is told by eax, whatever lies above"),
    row!("entries", a_number_that_is_no_system_call_is_a_fault, "without a library any other number is a fault that tells it, with rip behind the instruction"),
    row!("entries", a_number_that_is_no_system_call_reaches_the_library, "with a library any other number is bounced to it, and none of the kernel's own"),
    row!("entries", a_system_call_can_end_its_page, "a system call as the last instruction before unmapped memory returns into a page fault"),
    row!("entries", a_system_call_can_end_the_address_space, "a system call as the last instruction of user space returns into a page fault, by every way"),
];

snippets! {
    /// A system call.
    enter: "syscall";
    /// A system call with FS base, GS base and flags out of rbx, rbp and rcx.
    enter_hostile: "wrfsbase rbx", "wrgsbase rbp", "push rcx", "popfq", "syscall";
    /// The same, with the step held off behind a load of SS.
    enter_behind_load: "push rcx", "popfq", "mov ss, ebx", "syscall";
    /// Runs for ever, and touches nothing.
    spin: "2: pause", "jmp 2b";
    /// The same, with FS base, GS base and flags out of rbx, rbp and rcx.
    spin_hostile: "wrfsbase rbx", "wrgsbase rbp", "push rcx", "popfq", "2: pause", "jmp 2b";
    /// Faults, with these.
    fault_hostile: "wrfsbase rbx", "wrgsbase rbp", "push rcx", "popfq";
    /// Sets both bases to rbx, and makes a system call with them.
    bases: "wrfsbase rbx", "wrgsbase rbx", "syscall";
    /// A foreign-call library that does nothing.
    library: "nop";
}

const NESTED_TASK: u64 = 0x4000;
/// What user code can set, one after the other and all at once; TF apart.
const FLAGS: [u64; 7] = [
    FIXED_FLAGS,
    FIXED_FLAGS | STATUS_FLAGS,
    FIXED_FLAGS | DIRECTION_FLAG,
    FIXED_FLAGS | ALIGNMENT_FLAG,
    FIXED_FLAGS | NESTED_TASK,
    FIXED_FLAGS | ID_FLAG,
    FIXED_FLAGS | STATUS_FLAGS | DIRECTION_FLAG | ALIGNMENT_FLAG | NESTED_TASK | ID_FLAG,
];
const ALL_FLAGS: u64 = FLAGS[6];
/// Bases that no honest thread has.
const BASES: [u64; 7] =
    [0, HERE, NOT_CANONICAL - 1, KERNEL_ADDRESSES[0], KERNEL_ADDRESSES[2], u64::MAX, LOCAL_APIC];
/// Where the CPU's own interrupt controller answers.
const LOCAL_APIC: u64 = 0xfee0_0000;
/// Stack pointers likewise.
const STACKS: [u64; 10] = [
    0,
    1,
    0x1001,
    HERE,
    USER_TOP,
    NOT_CANONICAL,
    1 << 63,
    KERNEL_ADDRESSES[0],
    KERNEL_ADDRESSES[2],
    u64::MAX,
];

/// Every system call with its message info, in an order in which an answer finds a caller; and its statuses.
const WAYS: [(Syscall, u64, &[u64]); 16] = [
    (Syscall::nop, 0, &[0]),
    (Syscall::yield_now, 0, &[0]),
    (Syscall::signal, 0, &[0]),
    (Syscall::wait, 0, &[0]),
    (Syscall::poll, 0, &[0, WOULD_BLOCK]),
    (Syscall::call, 0, &[0]),
    (Syscall::call, CARRYING, &[0]),
    (Syscall::send, 0, &[0]),
    (Syscall::try_send, 0, &[0, WOULD_BLOCK]),
    (Syscall::recv, 0, &[0]),
    (Syscall::reply, 0, &[0]),
    (Syscall::recv, 0, &[0]),
    (Syscall::reply_recv, 0, &[0]),
    (Syscall::reply_recv, 0, &[0]),
    (Syscall::try_recv, 0, &[0, WOULD_BLOCK]),
    (Syscall::invoke, 0, &[0]),
];
const WOULD_BLOCK: u64 = Error::WouldBlock as u64;
/// The info of a message with a place for a capability, which is not for the fast path.
const CARRYING: u64 = MsgInfo::new(0, 0, 1).0;

/// A subject, and threads in another address space that it meets by every system call. They look at their own
/// flags and bases all the time.
struct Doors {
    subject: Subject,
    /// A server receives here.
    served: CPtr,
    /// A client calls here.
    called: CPtr,
    /// Signalled all the time.
    bits: CPtr,
}

/// Flags, FS base and GS base of the calling thread.
fn own_state() -> [u64; 3] {
    let (flags, fs, gs);
    // SAFETY: reads registers, by way of the stack.
    unsafe {
        core::arch::asm!("pushfq", "pop {}", "rdfsbase {}", "rdgsbase {}", out(reg) flags, out(reg) fs, out(reg) gs);
    }
    [flags, fs, gs]
}

/// Sets the calling thread's FS base, which no code here uses; its state then.
fn settle_in(fs: u64) -> [u64; 3] {
    // SAFETY: nothing is reached by FS.
    unsafe { core::arch::asm!("wrfsbase {}", in(reg) fs) };
    let state = own_state();
    assert_eq!(state[0] & !STATUS_FLAGS, FIXED_FLAGS);
    state
}

/// Panics if flags (but status) or bases have changed.
fn undisturbed(before: [u64; 3]) {
    let [flags, fs, gs] = own_state();
    assert_eq!(
        [flags & !STATUS_FLAGS, fs, gs],
        [FIXED_FLAGS, before[1], before[2]],
        "another thread's state"
    );
}

impl Doors {
    fn new(w: &mut World, cpu: u64, peers_cpu: u64) -> Doors {
        let subject = Subject::of(w, |thread| thread.cpu(cpu));
        let [served, called, bits] = [w.endpoint(), w.endpoint(), w.notification()];
        let space = w.space();
        w.thread().space(space).cpu(peers_cpu).priority(110).start(move || {
            let state = settle_in(0x5e_0000);
            let mut received = ipc::recv(served, CPtr::NULL).must("a message");
            loop {
                undisturbed(state);
                received = ipc::reply_recv(served, received.message).must("a message");
            }
        });
        w.thread().space(space).cpu(peers_cpu).priority(80).start(move || {
            let state = settle_in(0xc1_0000);
            loop {
                // Cut off when the subject turns to something else.
                unless(ipc::call(called, Message::of(1, [1, 2, 3])), &[Error::PeerDied]);
                undisturbed(state);
            }
        });
        w.thread().space(space).cpu(peers_cpu).priority(80).start(move || {
            let state = settle_in(0x51_0000);
            loop {
                ipc::signal(bits).must("a signal");
                undisturbed(state);
                ipc::yield_now();
                undisturbed(state);
            }
        });
        Doors { subject, served, called, bits }
    }

    /// Sets the registers for a system call.
    fn aim(&self, way: Syscall, info: u64, registers: &mut Registers) {
        let capability = match way {
            Syscall::call | Syscall::send | Syscall::try_send => self.served,
            Syscall::recv | Syscall::reply_recv | Syscall::try_recv => self.called,
            Syscall::signal | Syscall::wait | Syscall::poll => self.bits,
            Syscall::invoke => self.subject.tcb().0,
            Syscall::reply | Syscall::yield_now | Syscall::nop => EMPTY,
        };
        registers.rax = u64::from(way.number());
        registers.rdx = u64::from(capability.0);
        registers.rsi = match way {
            Syscall::invoke => u64::from(method::Tcb::status),
            _ => info,
        };
    }

    /// Makes every system call with registers like these, and looks at what comes back: `expected` is what
    /// stack pointer, flags, FS and GS base must be then, and how the thread stops behind the call.
    #[track_caller]
    fn pass_all(&self, like: &Registers, behind: u64, kind: u64, expected: [u64; 4]) {
        for (way, info, statuses) in WAYS {
            let mut registers = *like;
            self.aim(way, info, &mut registers);
            self.subject.run(&registers);
            let fault = self.subject.hear();
            let found = self.subject.found();
            assert_eq!((fault.kind, fault.rip), (kind, behind), "{way:?} {registers:x?} {fault:x?}");
            assert!(statuses.contains(&found.rax), "{way:?} {registers:x?}: {:x}", found.rax);
            let state = [found.rsp, found.rflags, found.fs_base, found.gs_base];
            assert_eq!(state, expected, "{way:?} {registers:x?}");
            assert_eq!([found.rbx, found.rbp], [registers.rbx, registers.rbp], "{way:?}");
        }
    }

    /// The same with a snippet that takes FS base, GS base and flags out of registers.
    #[track_caller]
    fn pass_hostile(&self, flags: u64, fs: u64, gs: u64) {
        let like = Registers { rcx: flags, rbx: fs, rbp: gs, ..self.subject.registers(enter_hostile) };
        let kind = if flags & TRAP_FLAG == 0 { INVALID_OPCODE } else { SINGLE_STEP };
        self.pass_all(&like, end(enter_hostile), kind, [like.rsp, flags, fs, gs]);
    }
}

fn flags_pass_through_every_system_call(w: &mut World) {
    let doors = Doors::new(w, 0, 0);
    for flags in FLAGS {
        doors.pass_hostile(flags, 7, 8);
    }
}

fn a_single_step_goes_on_behind_every_system_call(w: &mut World) {
    const USER_DATA: u64 = 0x1b;
    let doors = Doors::new(w, 0, 0);
    for flags in [FIXED_FLAGS, ALL_FLAGS] {
        doors.pass_hostile(flags | TRAP_FLAG, 7, 8);
    }
    // A load of SS holds the step off for one instruction, which is the system call here.
    let subject = doors.subject;
    let mut like = subject.registers(enter_behind_load);
    doors.aim(Syscall::nop, 0, &mut like);
    (like.rcx, like.rbx) = (FIXED_FLAGS | TRAP_FLAG, USER_DATA);
    subject.run(&like);
    let load = address(enter_behind_load);
    loop {
        let fault = subject.hear();
        assert!((load..=end(enter_behind_load)).contains(&fault.rip), "{fault:x?}");
        if fault.rip == end(enter_behind_load) {
            break assert!(matches!(fault.kind, SINGLE_STEP | INVALID_OPCODE), "{fault:x?}");
        }
        assert_eq!(fault.kind, SINGLE_STEP);
        subject.resume();
    }
}

fn bases_pass_through_every_system_call(w: &mut World) {
    let doors = Doors::new(w, 0, 0);
    for (at, base) in BASES.into_iter().enumerate() {
        doors.pass_hostile(FIXED_FLAGS, base, BASES[(at + 1) % BASES.len()]);
    }
}

fn stack_pointers_pass_through_every_system_call(w: &mut World) {
    let doors = Doors::new(w, 0, 0);
    for rsp in STACKS {
        let like = Registers { rsp, ..doors.subject.registers(enter) };
        let expected = [rsp, like.rflags, like.fs_base, like.gs_base];
        doors.pass_all(&like, end(enter), INVALID_OPCODE, expected);
    }
}

fn everything_hostile_at_once_on_another_cpu(w: &mut World) {
    let other = w.cpus() - 1;
    for (cpu, peers_cpu) in [(other, other), (other, 0), (0, other)] {
        let doors = Doors::new(w, cpu, peers_cpu);
        doors.pass_hostile(ALL_FLAGS, BASES[3], BASES[5]);
        doors.pass_hostile(ALL_FLAGS | TRAP_FLAG, BASES[5], BASES[4]);
        let like = Registers { rsp: STACKS[5], ..doors.subject.registers(enter) };
        let expected = [like.rsp, like.rflags, like.fs_base, like.gs_base];
        doors.pass_all(&like, end(enter), INVALID_OPCODE, expected);
    }
}

fn a_fault_keeps_flags_bases_and_stack(w: &mut World) {
    let subject = Subject::new(w);
    for (at, flags) in FLAGS.into_iter().enumerate() {
        let [fs, gs] = [BASES[at % BASES.len()], BASES[(at + 2) % BASES.len()]];
        let like = Registers { rcx: flags, rbx: fs, rbp: gs, ..subject.registers(fault_hostile) };
        subject.run(&like);
        for _ in 0..2 {
            let fault = subject.hear();
            assert_eq!((fault.kind, fault.rip), (INVALID_OPCODE, end(fault_hostile)));
            assert_eq!((fault.rflags, fault.rsp), (flags, like.rsp));
            let expected = Registers { rip: fault.rip, rflags: flags, fs_base: fs, gs_base: gs, ..like };
            assert_eq!(subject.found(), expected);
            subject.resume();
        }
        subject.hear();
    }
    for rsp in STACKS {
        let like = Registers { rsp, rip: end(enter), ..subject.registers(enter) };
        subject.run(&like);
        for _ in 0..2 {
            assert_eq!((subject.hear().rsp, subject.found()), (rsp, like));
            subject.resume();
        }
        subject.hear();
    }
}

/// Lets a subject spin while others take the CPU from it again and again, then looks at it.
fn preempted(w: &World, subject: &Subject, like: &Registers) -> Registers {
    arena::set(0, 0);
    subject.run(like);
    w.until("the rival has had its turns", || arena::get(0) >= 4);
    subject.tcb().suspend().must("stopping it");
    subject.found()
}

fn an_interrupt_keeps_flags_bases_and_stack(w: &mut World) {
    let [subject, turn] = [Subject::new(w).thread, w.thread().prepare()];
    let faults = CPtr::NULL;
    let subject = Subject { thread: subject, faults };
    let fast = w.microseconds(500);
    crate::world::SCHED_CONTROL.configure(subject.thread.context.0, 0, fast, fast, 0).must("short turns");
    let space = w.space();
    turn.tcb.configure(CPtr::NULL, space.0, CPtr::NULL, 0).must("another address space");
    turn.run(|| {
        let state = settle_in(0x7e_0000);
        loop {
            undisturbed(state);
            arena::add(0, 1);
            ipc::yield_now();
        }
    });
    for (at, flags) in FLAGS.into_iter().enumerate() {
        let [fs, gs] = [BASES[at % BASES.len()], BASES[(at + 1) % BASES.len()]];
        let like = Registers { rcx: flags, rbx: fs, rbp: gs, ..subject.registers(spin_hostile) };
        let found = preempted(w, &subject, &like);
        assert!((end(spin_hostile) - 4..end(spin_hostile)).contains(&found.rip), "{found:x?}");
        let expected = Registers { rip: found.rip, rflags: flags, fs_base: fs, gs_base: gs, ..like };
        assert_eq!(found, expected);
    }
    for rsp in STACKS {
        let like = Registers { rsp, rflags: FIXED_FLAGS | DIRECTION_FLAG, ..subject.registers(spin) };
        let found = preempted(w, &subject, &like);
        assert_eq!(found, Registers { rip: found.rip, ..like });
    }
    turn.tcb.suspend().must("stopping the rival");
    competing_spinners_keep_theirs(w, fast);
}

/// Threads that all spin: each switch is from one that was interrupted to another that was.
fn competing_spinners_keep_theirs(w: &mut World, turn: u64) {
    let spinners =
        [(FLAGS[1], BASES[3]), (FLAGS[5], BASES[1]), (ALL_FLAGS, BASES[5])].map(|(flags, base)| {
            let subject = Subject::of(w, |thread| thread.priority(50).budget(turn, turn));
            let like = Registers { rcx: flags, rbx: base, rbp: !base, ..subject.registers(spin_hostile) };
            subject.run(&like);
            (subject, like)
        });
    for (subject, _) in &spinners {
        let mut time = 0;
        w.until("it was preempted", || {
            time += subject.thread.context.consumed().must("its time");
            time > 2 * turn
        });
    }
    for (subject, like) in spinners {
        subject.tcb().suspend().must("stopping it");
        let found = subject.found();
        let (rflags, fs_base, gs_base) = (like.rcx, like.rbx, like.rbp);
        assert_eq!(found, Registers { rip: found.rip, rflags, fs_base, gs_base, ..like });
    }
}

/// Lets foreign calls of a subject enter the library that does nothing.
fn with_library(subject: &Subject) {
    subject.tcb().set_foreign(address(library), 0).must("a library");
}

fn a_foreign_call_keeps_flags_bases_and_stack(w: &mut World) {
    let subject = Subject::new(w);
    with_library(&subject);
    for (at, flags) in FLAGS.into_iter().enumerate() {
        let [fs, gs] = [BASES[at % BASES.len()], BASES[(at + 3) % BASES.len()]];
        let like = Registers { rcx: flags, rbx: fs, rbp: gs, ..subject.registers(enter_hostile) };
        let like = Registers { rax: 39, ..like };
        subject.run(&like);
        assert_eq!(subject.hear().rip, end(library));
        let found = subject.found();
        let r = core::array::from_fn(|n| if n == 3 { found.r[3] } else { like.r[n] });
        let expected = Registers { rip: end(library), rcx: found.rcx, r, rflags: flags, ..like };
        assert_eq!(found, Registers { fs_base: fs, gs_base: gs, ..expected });
    }
    for rsp in STACKS {
        let like = Registers { rsp, rax: 39, ..subject.registers(enter) };
        subject.run(&like);
        assert_eq!((subject.hear().rip, subject.found().rsp), (end(library), rsp));
    }
}

fn a_base_that_is_not_canonical_harms_nobody(w: &mut World) {
    let doors = Doors::new(w, 0, 0);
    let subject = doors.subject;
    for base in [NOT_CANONICAL, 1 << 63, 0xffff_7fff_ffff_ffff, 0x0123_4567_89ab_cdef] {
        for (way, info, _) in WAYS {
            let mut registers = Registers { rbx: base, ..subject.registers(bases) };
            doors.aim(way, info, &mut registers);
            subject.run(&registers);
            let fault = subject.hear();
            // (Emulated CPUs take it.)
            let refused = (fault.kind, fault.code, fault.rip) == (GENERAL_PROTECTION, 0, address(bases));
            let taken = (fault.kind, fault.rip) == (INVALID_OPCODE, end(bases));
            assert!(refused || taken, "{fault:x?}");
        }
    }
}

fn the_upper_half_of_rax_does_not_count(w: &mut World) {
    let doors = Doors::new(w, 0, 0);
    let subject = doors.subject;
    for garbage in [1 << 32, 0x8000_0000 << 32, 0xffff_ffff << 32] {
        for (way, info, statuses) in WAYS {
            let mut registers = subject.registers(enter);
            doors.aim(way, info, &mut registers);
            registers.rax |= garbage;
            subject.run(&registers);
            assert_eq!(subject.hear().rip, end(enter));
            assert!(statuses.contains(&subject.found().rax), "{way:?}: {:x}", subject.found().rax);
        }
    }
}

/// Numbers that are none of the kernel's system calls.
const FOREIGN: [u64; 12] = [
    0,
    1,
    60,
    231,
    0x4000_0000,
    0x534a_ffff,
    0x534b_000d,
    0x534b_0100,
    0x8000_0000,
    0xffff_ffff,
    0x1234_5678_0000_0027,
    u64::MAX,
];

fn a_number_that_is_no_system_call_is_a_fault(w: &mut World) {
    let subject = Subject::new(w);
    for number in FOREIGN {
        let registers = Registers { rax: number, ..subject.registers(enter) };
        subject.run(&registers);
        let fault = subject.hear();
        assert_eq!(fault.what(), [abi::message::fault::FOREIGN_CALL, number, 0]);
        assert_eq!((fault.rip, fault.rsp, fault.rflags), (end(enter), registers.rsp, registers.rflags));
        let found = subject.found();
        let r = core::array::from_fn(|n| if n == 3 { found.r[3] } else { registers.r[n] });
        assert_eq!(found, Registers { rip: end(enter), rcx: found.rcx, r, ..registers });
        subject.resume();
        assert_eq!((subject.hear().kind, subject.found().rax), (INVALID_OPCODE, number));
    }
}

fn a_number_that_is_no_system_call_reaches_the_library(w: &mut World) {
    let doors = Doors::new(w, 0, 0);
    let subject = doors.subject;
    with_library(&subject);
    for number in FOREIGN {
        subject.run(&Registers { rax: number, ..subject.registers(enter) });
        assert_eq!((subject.hear().rip, subject.found().rax), (end(library), number));
    }
    for (way, info, _) in WAYS {
        let mut registers = subject.registers(enter);
        doors.aim(way, info, &mut registers);
        subject.run(&registers);
        assert_eq!(subject.hear().rip, end(enter), "{way:?} is the kernel's");
    }
}

const SYSCALL: [u8; 2] = [0x0f, 0x05];

fn a_system_call_can_end_its_page(w: &mut World) {
    let doors = Doors::new(w, 0, 0);
    let last = code(w, HERE + PAGE_SIZE - 2, &SYSCALL);
    let like = doors.subject.registers_at(last);
    let expected = [like.rsp, like.rflags, like.fs_base, like.gs_base];
    doors.pass_all(&like, HERE + PAGE_SIZE, PAGE_FAULT, expected);
    // With the second byte of the instruction unmapped nothing is called.
    let cut = code(w, HERE + 4 * PAGE_SIZE - 1, &SYSCALL[..1]);
    let mut registers = doors.subject.registers_at(cut);
    doors.aim(Syscall::nop, 0, &mut registers);
    doors.subject.run(&registers);
    let fault = doors.subject.hear();
    let what = [PAGE_FAULT, USER | FETCH, HERE + 4 * PAGE_SIZE];
    assert_eq!((fault.what(), fault.rip), (what, cut));
    assert_eq!(doors.subject.found(), registers);
}

fn a_system_call_can_end_the_address_space(w: &mut World) {
    let doors = Doors::new(w, 0, 0);
    let last = code(w, USER_TOP - 2, &SYSCALL);
    for flags in [FIXED_FLAGS, FIXED_FLAGS | ALIGNMENT_FLAG | DIRECTION_FLAG] {
        let like = Registers { rflags: flags, ..doors.subject.registers_at(last) };
        let expected = [like.rsp, like.rflags, like.fs_base, like.gs_base];
        doors.pass_all(&like, USER_TOP, PAGE_FAULT, expected);
    }
    // The fault's own way back leads there, too.
    let subject = doors.subject;
    let mut registers = subject.registers_at(last);
    doors.aim(Syscall::nop, 0, &mut registers);
    subject.run(&registers);
    for _ in 0..3 {
        let fault = subject.hear();
        assert_eq!((fault.what(), fault.rip), ([PAGE_FAULT, USER | FETCH, USER_TOP], USER_TOP));
        subject.resume();
    }
    // A foreign call without a library ends there just so.
    subject.hear();
    subject.run(&Registers { rax: 39, ..registers });
    assert_eq!(subject.hear().rip, USER_TOP);
    subject.resume();
    assert_eq!(subject.hear().what(), [PAGE_FAULT, USER | FETCH, USER_TOP]);
}
