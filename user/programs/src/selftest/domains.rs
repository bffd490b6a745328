//! Domains: whatever way two threads of different address spaces meet, neither sees more of the other's
//! registers than the words of a message.
//!
//! Every register of the one carries a mark; none of it may be found with the other.

use abi::message::BUFFER_WORDS;
use abi::object::USER_TOP;
use abi::{CPtr, Kind, MsgInfo, Registers, Rights, Syscall};
use ipc::{Message, SchedContext, Tcb};

use crate::arena;
use crate::row;
use crate::snippets;
use crate::subject::{FIXED_FLAGS, HERE, INVALID_OPCODE, Subject, X87_ERROR, address, end};
use crate::table::{Need, Test};
use crate::world::{CNODE, Must, SCHED_CONTROL, Slot, World, now};

/// The tests of this area.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    row!("domains", a_server_sees_the_words_of_a_call_and_no_other_register, "what a call shows its server of the caller's registers is label and words"),
    row!("domains", a_caller_sees_the_words_of_the_answer_and_no_other_register, "what an answer shows the caller of the server's registers is label and words"),
    row!("domains", a_receiver_sees_the_words_of_a_send_and_no_other_register, "a send and a try_send show no more than a call"),
    row!("domains", a_waiter_sees_bits_and_no_register, "a signal shows its waiter the bits, and no register of whoever signals"),
    row!("domains", a_handler_sees_the_words_of_a_fault_and_no_other_register, "a fault shows its handler what the fault message has, and no other register"),
    row!("domains", who_is_told_of_a_death_sees_no_register, "PeerDied shows the caller no register of the server that died"),
    row!("domains", between_cpus_no_register_passes, "calls, answers and signals between CPUs show no more than on one", Need::Cpus(2)),
    row!("domains", a_new_thread_has_no_old_registers, "a Tcb made of memory that was another's begins with zeros"),
    row!("domains", a_pending_x87_error_strikes_nobody_else, "an x87 error that waits in a client strikes neither its server nor a handler, whatever instruction comes first there"),
    row!("domains", a_client_cannot_set_a_servers_rounding, "a server computes alike, whatever MXCSR and x87 control word its clients have, on the fast path and the slow one"),
    row!("domains", all_state_survives_a_move_to_another_cpu, "a thread that goes on on another CPU has all registers there, vector registers too", Need::Cpus(2)),
    row!("domains", all_state_survives_a_stop, "a thread that is suspended and resumed in user code has all registers as before, vector registers too"),
];

snippets! {
    /// A system call.
    enter: "syscall";
    /// A call with the x87 control word at rdi, and an error waiting.
    call_with_error: "fldcw [rdi]", "fld1", "fldz", "fdivp", "syscall";
    /// The same, and then a fault.
    fault_with_error: "fldcw [rdi]", "fld1", "fldz", "fdivp", "ud2";
    /// A call with the MXCSR and x87 control word at rdi.
    call_with_modes: "ldmxcsr [rdi]", "fldcw [rdi + 8]", "syscall";
    /// Loads all of ymm0 to 15, MXCSR and the x87 from rdi, spins while the word at rsi is 0, and stores them.
    hold_vectors:
        "xrstor64 [rdi]", "2: pause", "cmp qword ptr [rsi], 0", "je 2b", "mov eax, 7", "xor edx, edx",
        "xsave64 [rdi + 1024]";
}

/// What marks a register: its upper half.
const MARK: u64 = 0x5ec2_e700_0000_0000;
const MARKED: u64 = 0xffff_ff00_0000_0000;
/// What marks another thread's.
const OTHER_MARK: u64 = 0x0b5e_2700_0000_0000;

/// Registers that are all marked, to begin a system call with.
fn marked(subject: &Subject, mark: u64, way: Syscall, capability: CPtr) -> Registers {
    Registers {
        rip: address(enter),
        rsp: mark | 1,
        rflags: FIXED_FLAGS,
        rax: mark | u64::from(way.number()),
        rbx: mark | 2,
        rcx: mark | 3,
        rdx: u64::from(capability.0),
        rsi: MsgInfo::plain(7).0,
        rdi: 10,
        rbp: mark | 4,
        r: [11, 12, 13, mark | 5, 14, 15, 16, 17],
        fs_base: mark >> 24,
        gs_base: arena::ADDRESS + arena::buffer_offset(subject.thread.index),
    }
}

/// The words of the message that `marked` sends.
const WORDS: [u64; 8] = [10, 11, 12, 13, 14, 15, 16, 17];

fn words_of(r: &Registers) -> [u64; 8] {
    let [r8, r9, r10, _, r12, r13, r14, r15] = r.r;
    [r.rdi, r8, r9, r10, r12, r13, r14, r15]
}

/// Panics if any register carries a mark, or another's FS or GS base.
#[track_caller]
fn shows_nothing(found: &Registers, of: &Registers) {
    let mark = of.rbx & MARKED;
    for (at, word) in found.to_words().into_iter().enumerate() {
        assert_ne!(word & MARKED, mark, "register {at} of {found:x?}");
        assert!(word != of.fs_base && word != of.gs_base, "register {at} of {found:x?}");
    }
}

/// Two subjects in address spaces of their own, on these CPUs.
fn pair(w: &mut World, cpus: [u64; 2]) -> [Subject; 2] {
    cpus.map(|cpu| {
        let space = w.space();
        Subject::of(w, |thread| thread.space(space).cpu(cpu))
    })
}

/// A sender sends, before the receiver comes or after it has; both registers then, the sender's as it began.
#[track_caller]
fn meet(w: &mut World, cpus: [u64; 2], way: Syscall, early: bool, info: u64) -> [(Subject, Registers); 2] {
    let endpoint = w.endpoint();
    let badged = w.mint(endpoint, Rights::ALL, 0xbad9e);
    let [sender, receiver] = pair(w, cpus);
    let sends = Registers { rsi: info, ..marked(&sender, MARK, way, badged) };
    let receives = marked(&receiver, OTHER_MARK, Syscall::recv, endpoint);
    let receives = Registers { rsi: 0, ..receives };
    if early {
        sender.run(&sends);
        w.until_blocked(&sender.thread);
        receiver.run(&receives);
    } else {
        receiver.run(&receives);
        w.until_blocked(&receiver.thread);
        sender.run(&sends);
    }
    let fault = receiver.hear();
    assert_eq!((fault.kind, fault.rip), (INVALID_OPCODE, end(enter)));
    let found = receiver.found();
    assert_eq!((found.rax, found.rdx, found.rsi), (0, 0xbad9e, info));
    assert_eq!(words_of(&found), WORDS);
    assert_eq!([found.rbx, found.rbp, found.rsp], [receives.rbx, receives.rbp, receives.rsp]);
    shows_nothing(&found, &sends);
    [(sender, sends), (receiver, receives)]
}

/// A plain message, and one that takes the slow path for its words in the buffer.
const INFOS: [u64; 2] = [MsgInfo::plain(7).0, MsgInfo::new(7, BUFFER_WORDS, 0).0];

fn a_server_sees_the_words_of_a_call_and_no_other_register(w: &mut World) {
    for (early, info) in [(false, INFOS[0]), (true, INFOS[0]), (false, INFOS[1]), (true, INFOS[1])] {
        meet(w, [0, 0], Syscall::call, early, info);
    }
}

/// The answer to a call that has been received, by each way.
fn answer(w: &mut World, cpus: [u64; 2]) {
    for way in [Syscall::reply, Syscall::reply_recv] {
        let [(caller, sent), (server, _)] = meet(w, cpus, Syscall::call, false, INFOS[0]);
        let next = w.endpoint();
        let answers = marked(&server, OTHER_MARK, way, next);
        server.run(&answers);
        assert_eq!(caller.hear().rip, end(enter));
        let found = caller.found();
        assert_eq!((found.rax, found.rsi, words_of(&found)), (0, answers.rsi, WORDS));
        assert_eq!([found.rbx, found.rbp, found.rsp], [sent.rbx, sent.rbp, sent.rsp]);
        shows_nothing(&found, &answers);
    }
}

fn a_caller_sees_the_words_of_the_answer_and_no_other_register(w: &mut World) {
    answer(w, [0, 0]);
}

fn a_receiver_sees_the_words_of_a_send_and_no_other_register(w: &mut World) {
    for (way, early) in [(Syscall::send, false), (Syscall::send, true), (Syscall::try_send, false)] {
        for info in INFOS {
            let [(sender, _), _] = meet(w, [0, 0], way, early, info);
            assert_eq!((sender.hear().rip, sender.found().rax), (end(enter), 0));
        }
    }
}

/// A thread waits and another signals, by each way.
fn signal(w: &mut World, cpus: [u64; 2]) {
    let notification = w.notification();
    let badged = w.mint(notification, Rights::ALL, 0b1010);
    let endpoint = w.endpoint();
    for (way, deadline) in [(Syscall::wait, false), (Syscall::wait, true), (Syscall::recv, false)] {
        let [signaller, waiter] = pair(w, cpus);
        let receives = way == Syscall::recv;
        let on = if receives { endpoint } else { notification };
        let waits = marked(&waiter, OTHER_MARK, way, on);
        let until = now() + w.milliseconds(3_600_000);
        let waits = Registers { rsi: if deadline { MsgInfo::DEADLINE } else { 0 }, rdi: until, ..waits };
        if receives {
            waiter.tcb().bind_notification(notification).must("binding");
        }
        waiter.run(&waits);
        w.until_blocked(&waiter.thread);
        let signals = marked(&signaller, MARK, Syscall::signal, badged);
        signaller.run(&signals);
        assert_eq!(signaller.hear().rip, end(enter));
        shows_nothing(&signaller.found(), &waits);
        assert_eq!(waiter.hear().rip, end(enter));
        let found = waiter.found();
        assert_eq!((found.rax, found.rdi), (0, 0b1010), "{way:?}");
        shows_nothing(&found, &signals);
        if receives {
            waiter.tcb().unbind_notification().must("unbinding");
        }
    }
}

fn a_waiter_sees_bits_and_no_register(w: &mut World) {
    signal(w, [0, 0]);
}

fn a_handler_sees_the_words_of_a_fault_and_no_other_register(w: &mut World) {
    let [faulter, handler] = pair(w, [0, 0]);
    let faults = faulter.faults;
    for early in [false, true] {
        let faulting = marked(&faulter, MARK, Syscall::nop, CPtr::NULL);
        // (Its rsp is in the message; so is its rip.)
        let faulting = Registers { rip: end(enter), rsp: HERE, ..faulting };
        let receives = marked(&handler, OTHER_MARK, Syscall::recv, faults);
        let receives = Registers { rsi: 0, ..receives };
        if early {
            faulter.run(&faulting);
            w.until_blocked(&faulter.thread);
        }
        handler.run(&receives);
        if !early {
            w.until_blocked(&handler.thread);
            faulter.run(&faulting);
        }
        assert_eq!(handler.hear().rip, end(enter));
        let found = handler.found();
        assert_eq!(words_of(&found)[..3], [INVALID_OPCODE, 0, end(enter)]);
        assert_eq!(words_of(&found)[3..], [0, HERE, FIXED_FLAGS, 0, 0]);
        shows_nothing(&found, &faulting);
    }
}

fn who_is_told_of_a_death_sees_no_register(w: &mut World) {
    let [(caller, sent), (server, _)] = meet(w, [0, 0], Syscall::call, false, INFOS[0]);
    let never = w.notification();
    let dies = marked(&server, OTHER_MARK, Syscall::wait, never);
    server.run(&Registers { rsi: 0, ..dies });
    w.until_blocked(&server.thread);
    w.delete(server.tcb().0);
    assert_eq!(caller.hear().rip, end(enter));
    let found = caller.found();
    assert_eq!(found.rax, abi::Error::PeerDied as u64);
    shows_nothing(&found, &dies);
    assert_eq!(words_of(&found), words_of(&sent), "a refusal leaves the words");
}

fn between_cpus_no_register_passes(w: &mut World) {
    let other = w.cpus() - 1;
    for cpus in [[0, other], [other, 0]] {
        for (early, info) in [(false, INFOS[0]), (true, INFOS[1])] {
            meet(w, cpus, Syscall::call, early, info);
        }
        answer(w, cpus);
        signal(w, cpus);
    }
}

fn a_new_thread_has_no_old_registers(w: &mut World) {
    let memory = ipc::Untyped(w.make_sized(Kind::Untyped, 12));
    let space = w.space();
    for _ in 0..3 {
        let subject = Subject::of(w, |thread| thread.made_of(memory).space(space));
        let registers = marked(&subject, MARK, Syscall::nop, CPtr::NULL);
        subject.run(&registers);
        subject.hear();
        CNODE.revoke(memory.0.into_slot()).must("a revoke");
        let next = Tcb(w.slot());
        memory.retype(Kind::Tcb, 0, CNODE.0, next.0.into_slot(), 1).must("a Tcb");
        let found = rt::thread::read_registers(next).must("its registers");
        assert_eq!(found, Registers { rflags: FIXED_FLAGS, ..Registers::default() });
        CNODE.revoke(memory.0.into_slot()).must("a revoke");
    }
}

/// The x87 control word with divisions by zero unmasked.
const ZERO_DIVIDE_UNMASKED: u64 = 0x37b;

/// Uses the x87 in every way that would meet an error waiting, and says whether its state was initial.
fn x87_is_initial() -> bool {
    let mut control: u16 = 0;
    let mut status: u16 = 0xffff;
    // SAFETY: waits, computes on an empty stack and empties it; stores control and status word.
    unsafe {
        core::arch::asm!(
            "fwait",
            "fnstcw [{control}]",
            "fnstsw [{status}]",
            "fld1",
            "fstp st(0)",
            "emms",
            control = in(reg) &raw mut control,
            status = in(reg) &raw mut status,
            options(nostack),
        );
    }
    (control, status) == (0x37f, 0)
}

fn a_pending_x87_error_strikes_nobody_else(w: &mut World) {
    let endpoint = w.endpoint();
    let space = w.space();
    // (A fault of the server would fail the test.)
    let server = w.thread().space(space).start(move || {
        for _ in 0..4 {
            ipc::recv(endpoint, CPtr::NULL).must("a call");
            assert!(x87_is_initial(), "a client's x87 state");
            ipc::reply(Message::new(0)).must("an answer");
        }
    });
    w.until_blocked(&server);
    arena::set(0, ZERO_DIVIDE_UNMASKED);
    for info in [INFOS[0], INFOS[1], INFOS[0], INFOS[1]] {
        let client = Subject::new(w);
        let mut registers = marked(&client, MARK, Syscall::call, endpoint);
        (registers.rip, registers.rdi, registers.rsi) = (address(call_with_error), arena::ADDRESS, info);
        client.run(&registers);
        let fault = client.hear();
        assert!(x87_is_initial(), "the state of a thread whose fault is heard");
        assert_eq!(fault.rip, end(call_with_error), "{fault:x?}");
    }
    w.join(&server);
    let faulter = Subject::new(w);
    let registers = Registers { rdi: arena::ADDRESS, ..faulter.registers(fault_with_error) };
    faulter.run(&registers);
    let fault = faulter.hear();
    assert!(matches!(fault.kind, INVALID_OPCODE | X87_ERROR));
    assert!(x87_is_initial(), "the state of a thread whose fault is heard");
}

/// A third in single precision, and a small number that is not normal halved, by SSE; by the x87 a third in
/// extended precision.
fn arithmetic() -> [u64; 4] {
    let [one, three, small, half] = [1.0f32, 3.0, f32::from_bits(2), 0.5].map(core::hint::black_box);
    let mut extended = [0u64; 2];
    let whole: u64 = 3;
    // SAFETY: computes 1 / 3 on an empty stack and empties it into the memory named.
    unsafe {
        core::arch::asm!(
            "fld1",
            "fild qword ptr [{three}]",
            "fdivp",
            "fstp tbyte ptr [{place}]",
            three = in(reg) &raw const whole,
            place = in(reg) &raw mut extended,
            options(nostack),
        );
    }
    [u64::from((one / three).to_bits()), u64::from((small * half).to_bits()), extended[0], extended[1]]
}

fn a_client_cannot_set_a_servers_rounding(w: &mut World) {
    /// All exceptions masked, and: to zero with DAZ and FTZ; down; up.
    const MXCSRS: [u64; 3] = [0xffc0, 0x3f80, 0x5f80];
    /// All exceptions masked, and: single precision, to zero; double, down; extended, up.
    const CONTROLS: [u64; 3] = [0xc7f, 0x67f, 0xb7f];
    const EXPECTED: [u64; 4] = [0x3eaa_aaab, 1, 0xaaaa_aaaa_aaaa_aaab, 0x3ffd];
    let endpoint = w.endpoint();
    let space = w.space();
    let server = w.thread().space(space).start(move || {
        assert_eq!(arithmetic(), EXPECTED);
        for call in 0..6 {
            ipc::recv(endpoint, CPtr::NULL).must("a call");
            assert_eq!(arithmetic(), EXPECTED, "call {call}");
            ipc::reply(Message::new(0)).must("an answer");
        }
    });
    w.until_blocked(&server);
    for (mxcsr, control) in MXCSRS.into_iter().zip(CONTROLS) {
        arena::set(0, mxcsr);
        arena::set(1, control);
        for info in INFOS {
            let client = Subject::new(w);
            let mut registers = marked(&client, MARK, Syscall::call, endpoint);
            (registers.rip, registers.rdi, registers.rsi) = (address(call_with_modes), arena::ADDRESS, info);
            client.run(&registers);
            assert_eq!(client.hear().rip, end(call_with_modes));
            assert_eq!(arithmetic(), EXPECTED, "of who hears the fault");
        }
    }
    w.join(&server);
}

/// Words of an XSAVE image in standard format: x87 and SSE, header, AVX.
const IMAGE_WORDS: usize = 104;

/// A subject that holds vector registers of its own until it is told to give them back.
struct Holder {
    subject: Subject,
    image: u64,
    registers: Registers,
}

impl Holder {
    fn new(w: &mut World, cpu: u64) -> Holder {
        let subject = Subject::of(w, |thread| thread.cpu(cpu));
        let image = subject.scratch();
        for at in 0..IMAGE_WORDS {
            let word = match at {
                0 => 0x37f,
                // MXCSR: rounding up; all exceptions masked.
                3 => 0x5f80,
                // The header: x87, SSE and AVX are there.
                64 => 7,
                // xmm0 to 15, and the upper halves.
                20..52 | 72..104 => 0x0123_4567_89ab_cdef_u64.wrapping_mul(at as u64 + 1),
                _ => 0,
            };
            // SAFETY: the upper half of the subject's stack, which is not in use, is 4 KiB.
            unsafe { ((image + 8 * at as u64) as *mut u64).write_volatile(word) };
        }
        let mut registers = subject.registers(hold_vectors);
        (registers.rdi, registers.rsi) = (image, arena::ADDRESS + 8 * 20);
        (registers.rax, registers.rdx) = (7, 0);
        subject.run(&registers);
        Holder { subject, image, registers }
    }

    /// Lets it give them back, and compares.
    #[track_caller]
    fn is_intact(&self) {
        arena::set(20, 1);
        assert_eq!(self.subject.hear().rip, end(hold_vectors));
        for at in (3..4).chain(20..52).chain(72..104) {
            let [held, given] = [1024, 0].map(|offset| {
                // SAFETY: the subject's stack, as above; it stands still.
                unsafe { ((self.image + offset + 8 * at) as *const u64).read_volatile() }
            });
            let mask = if at == 3 { 0xffff } else { u64::MAX };
            assert_eq!(held & mask, given & mask, "word {at}");
        }
        let found = self.subject.found();
        let rflags = found.rflags;
        let expected = Registers { rip: end(hold_vectors), rax: 7, rdx: 0, rflags, ..self.registers };
        assert_eq!(found, expected);
    }
}

fn all_state_survives_a_move_to_another_cpu(w: &mut World) {
    let other = w.cpus() - 1;
    let holder = Holder::new(w, 0);
    w.sleep(2);
    let own = holder.subject.thread.context;
    let turn = w.milliseconds(10);
    for cpu in [other, 0, other, 0, other] {
        own.unbind().must("unbinding");
        let context = SchedContext(w.make(Kind::SchedContext));
        SCHED_CONTROL.configure(context.0, cpu, turn, turn, 0).must("time on another CPU");
        context.bind(holder.subject.tcb().0).must("binding");
        w.sleep(2);
        assert_eq!(holder.subject.tcb().status().must("a status")[1], cpu);
        context.unbind().must("unbinding");
        own.bind(holder.subject.tcb().0).must("binding");
        w.sleep(1);
    }
    holder.is_intact();
}

fn all_state_survives_a_stop(w: &mut World) {
    let holder = Holder::new(w, 0);
    for _ in 0..20 {
        w.sleep(1);
        holder.subject.tcb().suspend().must("stopping it");
        assert!(holder.subject.found().rip < USER_TOP);
        // Others use the vector registers meanwhile.
        core::hint::black_box(arithmetic());
        holder.subject.tcb().resume().must("letting it run");
    }
    holder.is_intact();
}
