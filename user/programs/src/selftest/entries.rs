//! Entries: user code enters the kernel with every register as hostile as it can make it. The kernel must not
//! suffer, the thread must get its own state back, and nobody else may see it.

use abi::object::USER_TOP;
use abi::table::method;
use abi::{CPtr, Error, MapFlags, PAGE_SIZE, Registers, Syscall};
use ipc::Message;

use crate::arena;
use crate::faults::{
    self, ALIGNMENT_FLAG, FIXED_FLAGS, GENERAL_PROTECTION, HERE, INVALID_OPCODE, KERNEL_ADDRESSES,
    NOT_CANONICAL, PAGE_FAULT, SINGLE_STEP, Snippet, Subject, TRAP_FLAG, USER, address, code, end,
};
use crate::row;
use crate::snippets;
use crate::table::{Need, Test};
use crate::world::{EMPTY, INACTIVE, Must, VSPACE, World};

/// The tests of this area.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    row!("entries", flags_pass_through_every_system_call, "whatever flags a thread has at a system call (DF, AC, NT, ID, status) it has afterwards, and no other thread"),
    row!("entries", a_single_step_goes_on_behind_every_system_call, "with TF set at a system call, the step is taken behind it in user code, never in the kernel"),
    row!("entries", bases_pass_through_every_system_call, "whatever FS and GS bases a thread has at a system call it has afterwards, and no other thread"),
    row!("entries", stack_pointers_pass_through_every_system_call, "a system call with a stack pointer that leads nowhere, or into the kernel, works as any other"),
    row!("entries", everything_hostile_at_once_on_another_cpu, "every CPU's own entry keeps these promises, within the CPU and between CPUs", Need::Cpus(2)),
    row!("entries", a_fault_keeps_flags_bases_and_stack, "a fault with any flags, bases and stack pointer is heard with them, and resumed with them"),
    row!("entries", an_interrupt_keeps_flags_bases_and_stack, "a thread that is preempted again and again keeps all registers, flags, bases and its stack pointer"),
    row!("entries", a_foreign_call_keeps_flags_bases_and_stack, "a foreign call with any flags, bases and stack pointer reaches the library with them"),
    row!("entries", a_base_that_is_not_canonical_harms_nobody, "trying to load a base that is not canonical is at worst a fault of the thread"),
    row!("entries", the_upper_half_of_rax_does_not_count, "a system call is told by eax, whatever lies above"),
    row!("entries", a_number_that_is_no_system_call_is_a_fault, "without a library any other number is a fault that tells it, with rip behind the instruction"),
    row!("entries", a_number_that_is_no_system_call_reaches_the_library, "with a library any other number is bounced to it, and none of the kernel's own"),
    row!("entries", a_system_call_can_end_its_page, "a system call as the last instruction before unmapped memory returns into a page fault"),
    row!("entries", a_system_call_can_end_the_address_space, "a system call as the last instruction of user space returns into a page fault, by every way"),
    row!("entries", the_top_page_cannot_be_mapped, "the last page of the lower half can be neither mapped nor entered"),
    row!("entries", registers_that_lead_into_the_kernel_are_refused, "write_registers refuses a rip outside of user space and bases that are not canonical, and changes nothing"),
    row!("entries", flags_that_are_not_the_users_are_not_written, "write_registers ignores IF, IOPL, NT, VM, RF, VIF and VIP"),
    row!("entries", user_code_cannot_turn_interrupts_off, "popf changes neither IF nor IOPL"),
    row!("entries", privileged_instructions_fault, "every privileged instruction is fault 13 at its address"),
    row!("entries", instructions_that_tell_of_the_kernel_fault, "sgdt, sidt, sldt, str and smsw are fault 13 (UMIP)"),
    row!("entries", instructions_of_other_modes_fault, "sysenter, sysexit, sysret, swapgs and the virtualisation instructions lead nowhere"),
    row!("entries", kernel_segments_cannot_be_loaded, "loading a kernel segment, returning or jumping to one is fault 13 with its selector"),
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
    /// Takes the flags in rcx; those it has then to rdx.
    take_flags: "push rcx", "popfq", "pushfq", "pop rdx";
    /// Sets both bases to rbx, and makes a system call with them.
    bases: "wrfsbase rbx", "wrgsbase rbx", "syscall";
    /// A foreign-call library that does nothing.
    library: "nop";
}

const DIRECTION_FLAG: u64 = 0x400;
const NESTED_TASK: u64 = 0x4000;
const ID_FLAG: u64 = 0x20_0000;
/// CF, PF, AF, ZF, SF, OF.
const STATUS_FLAGS: u64 = 0x8d5;
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
const BASES: [u64; 6] = [0, HERE, NOT_CANONICAL - 1, KERNEL_ADDRESSES[0], KERNEL_ADDRESSES[2], u64::MAX];
/// Stack pointers likewise.
const STACKS: [u64; 8] =
    [0, 1, HERE, USER_TOP, NOT_CANONICAL, KERNEL_ADDRESSES[0], KERNEL_ADDRESSES[2], u64::MAX];

/// Every system call, in an order in which an answer finds a caller.
const WAYS: [(Syscall, &[u64]); 15] = [
    (Syscall::nop, &[0]),
    (Syscall::yield_now, &[0]),
    (Syscall::signal, &[0]),
    (Syscall::wait, &[0]),
    (Syscall::poll, &[0, WOULD_BLOCK]),
    (Syscall::call, &[0]),
    (Syscall::send, &[0]),
    (Syscall::try_send, &[0, WOULD_BLOCK]),
    (Syscall::recv, &[0]),
    (Syscall::reply, &[0]),
    (Syscall::recv, &[0]),
    (Syscall::reply_recv, &[0]),
    (Syscall::reply_recv, &[0]),
    (Syscall::try_recv, &[0, WOULD_BLOCK]),
    (Syscall::invoke, &[0]),
];
const WOULD_BLOCK: u64 = Error::WouldBlock as u64;

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
                // (Cut off when the subject turns to something else.)
                let _ = ipc::call(called, Message::of(1, [1, 2, 3]));
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
    fn aim(&self, way: Syscall, registers: &mut Registers) {
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
            _ => 0,
        };
    }

    /// Makes every system call with registers like these, and looks at what comes back: `expected` is what
    /// stack pointer, flags, FS and GS base must be then, and how the thread stops behind the call.
    #[track_caller]
    fn pass_all(&self, like: &Registers, behind: u64, kind: u64, expected: [u64; 4]) {
        for (way, statuses) in WAYS {
            let mut registers = *like;
            self.aim(way, &mut registers);
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
    doors.aim(Syscall::nop, &mut like);
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
        for (way, _) in WAYS {
            let mut registers = Registers { rbx: base, ..subject.registers(bases) };
            doors.aim(way, &mut registers);
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
        for (way, statuses) in WAYS {
            let mut registers = subject.registers(enter);
            doors.aim(way, &mut registers);
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
    for (way, _) in WAYS {
        let mut registers = subject.registers(enter);
        doors.aim(way, &mut registers);
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
    doors.aim(Syscall::nop, &mut registers);
    doors.subject.run(&registers);
    let fault = doors.subject.hear();
    let what = [PAGE_FAULT, USER | faults::FETCH, HERE + 4 * PAGE_SIZE];
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
    doors.aim(Syscall::nop, &mut registers);
    subject.run(&registers);
    for _ in 0..3 {
        let fault = subject.hear();
        assert_eq!((fault.what(), fault.rip), ([PAGE_FAULT, USER | faults::FETCH, USER_TOP], USER_TOP));
        subject.resume();
    }
    // A foreign call without a library ends there just so.
    subject.hear();
    subject.run(&Registers { rax: 39, ..registers });
    assert_eq!(subject.hear().rip, USER_TOP);
    subject.resume();
    assert_eq!(subject.hear().what(), [PAGE_FAULT, USER | faults::FETCH, USER_TOP]);
}

fn the_top_page_cannot_be_mapped(w: &mut World) {
    let frame = w.frame(4);
    for (place, pages) in [(USER_TOP, 1), (USER_TOP - PAGE_SIZE, 2), (USER_TOP - 3 * PAGE_SIZE, 4)] {
        for flags in [MapFlags::READ, MapFlags::WRITE, MapFlags::EXECUTE] {
            assert_eq!(VSPACE.map(frame, place, 0, pages, flags), Err(Error::OutOfRange));
        }
    }
    assert_eq!(VSPACE.query(USER_TOP - PAGE_SIZE), Err(Error::NotMapped));
    assert_eq!(VSPACE.query(USER_TOP), Err(Error::OutOfRange));
    for place in [NOT_CANONICAL, KERNEL_ADDRESSES[0], KERNEL_ADDRESSES[2] & !0xfff, 0xffff_ffff_ffff_f000] {
        assert_eq!(VSPACE.map(frame, place, 0, 1, MapFlags::READ), Err(Error::OutOfRange));
        assert!(matches!(VSPACE.unmap(place, 1), Err(Error::OutOfRange)));
        assert!(matches!(VSPACE.protect(place, 1, MapFlags::WRITE), Err(Error::OutOfRange)));
    }
    let subject = Subject::new(w);
    subject.run(&subject.registers_at(USER_TOP - 1));
    assert_eq!(subject.hear().what(), [PAGE_FAULT, USER | faults::FETCH, USER_TOP - 1]);
}

fn registers_that_lead_into_the_kernel_are_refused(w: &mut World) {
    let subject = Subject::new(w);
    let good = subject.registers(enter);
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
        let registers = Registers { rflags, rip: end(enter), ..subject.registers(enter) };
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
    let like = Registers { rcx: 2, rbx: 1, rbp: 2, ..subject.registers(spin_hostile) };
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
        for (place, &byte) in (page..).zip(bytes.iter().chain(&faults::UD2)) {
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

snippets! {
    /// Loads SS with rbx.
    load_ss: "mov ss, ebx";
    /// Loads DS with rbx.
    load_ds: "mov ds, ebx";
    /// Returns to the segment rbx.
    return_far: "push rbx", "push rdi", "retfq";
    /// Returns from an interrupt to the segment rbx.
    return_from_interrupt: "push 0x10", "push rsp", "pushfq", "push rbx", "push rdi", "iretq";
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
        if pushed == 0 || fault.what() != [PAGE_FAULT, faults::PRESENT, fault.rsp] {
            assert_eq!((fault.kind, fault.address), (GENERAL_PROTECTION, 0), "{selector:#x} {fault:x?}");
            assert_eq!(fault.code & !3, selector & !3, "{selector:#x} {fault:x?}");
        }
        assert!((registers.rip..end(snippet)).contains(&fault.rip), "{selector:#x} {fault:x?}");
        assert_eq!(fault.rsp, registers.rsp - 8 * pushed);
    }
}
