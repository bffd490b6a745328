//! Faults: what the processor refuses user code arrives as a message, and the handler decides.

use core::arch::asm;

use abi::message::fault;
use abi::{CPtr, Error, Registers};
use ipc::Message;

use crate::arena;
use crate::row;
use crate::table::{Need, Test};
use crate::world::{INACTIVE, Must, Thread, VSPACE, World};

/// The tests of this area.
pub const TESTS: &[Test] = &[
    row!(
        "faults",
        a_division_by_zero_arrives,
        "vector 0 arrives with the address of the instruction, and the thread goes on elsewhere"
    ),
    row!("faults", a_breakpoint_arrives, "int3 arrives as vector 3, behind the instruction"),
    row!("faults", an_undefined_instruction_arrives, "ud2 arrives as vector 6"),
    row!("faults", an_x87_exception_arrives, "an unmasked x87 exception arrives as vector 16"),
    row!(
        "faults",
        an_unaligned_access_arrives,
        "with AC set, an unaligned access arrives as vector 17, where the processor checks it"
    ),
    row!(
        "faults",
        a_simd_exception_arrives,
        "an unmasked SSE exception arrives as vector 19, where the processor raises it"
    ),
    row!(
        "faults",
        a_stack_fault_arrives,
        "an access through a non-canonical stack pointer arrives as vector 12"
    ),
    row!(
        "faults",
        privileged_instructions_arrive,
        "each privileged instruction is a general protection fault, and does nothing"
    ),
    row!(
        "faults",
        umip_hides_the_tables_of_the_kernel,
        "sgdt, sidt, sldt, str and smsw tell user code nothing"
    ),
    row!(
        "faults",
        every_software_interrupt_but_a_breakpoint_is_refused,
        "int n is a general protection fault that names n, for each n but 3"
    ),
    row!("faults", ports_cannot_be_touched_without_the_kernel, "in and out are general protection faults"),
    row!(
        "faults",
        bad_selectors_arrive,
        "loading a segment register with a kernel selector or nonsense faults"
    ),
    row!("faults", far_transfers_lead_nowhere, "far jumps and returns to other code segments fault"),
    row!(
        "faults",
        a_handler_that_answers_zero_repeats_the_instruction,
        "after the handler has mapped the page, the same access succeeds"
    ),
    row!(
        "faults",
        a_handler_that_answers_otherwise_leaves_the_thread_stopped,
        "a label other than 0 leaves the thread stopped for good"
    ),
    row!("faults", a_handler_can_send_the_thread_elsewhere, "write_registers redirects a faulted thread"),
    row!(
        "faults",
        a_handler_reads_all_registers_of_the_fault,
        "read_registers tells each register as it was at the fault"
    ),
    row!(
        "faults",
        without_a_handler_a_fault_stops_the_thread,
        "a thread without a fault handler stops, and harms nobody"
    ),
    row!(
        "faults",
        a_fault_whose_handler_dies_comes_to_the_next,
        "when the handler dies the thread faults again, to whoever receives then"
    ),
    row!(
        "faults",
        a_fault_whose_endpoint_goes_stops_the_thread,
        "a thread that waits with a fault stops when the Endpoint is deleted"
    ),
    row!("faults", the_badge_tells_whose_fault_it_is, "the handler knows each thread by the badge it gave"),
    row!("faults", faults_wait_for_their_handler, "several threads' faults wait and are received in order"),
    row!(
        "faults",
        single_step_stops_after_each_instruction,
        "with TF set, each instruction is a fault; the handler counts them"
    ),
    row!(
        "faults",
        a_step_over_a_system_call_stops_behind_it,
        "TF is kept over a system call, and the next stop is behind it"
    ),
    row!(
        "faults",
        a_foreign_call_without_a_library_arrives,
        "a system call of another system arrives as a fault with its number, and goes on behind it"
    ),
    row!(
        "faults",
        a_fault_is_handled_across_cpus,
        "handler and faulting thread on different CPUs",
        Need::Cpus(2)
    ),
    row!("faults", a_supervisor_may_fault_itself, "a handler that faults has a handler, too"),
];

/// What was heard of a fault.
#[derive(Clone, Copy, Debug)]
struct Heard {
    kind: u64,
    code: u64,
    rip: u64,
    address: u64,
    registers: Registers,
}

/// Starts a thread whose faults this test hears.
fn start<F: Fn() + Copy + Send + 'static>(w: &mut World, act: F) -> (Thread, CPtr) {
    let faults = w.endpoint();
    (w.thread().faults_to(faults).start(act), faults)
}

fn hear(w: &World, thread: &Thread, faults: CPtr) -> Heard {
    let words = ipc::recv(faults, CPtr::NULL).must("a fault").message;
    assert_eq!(words.label(), fault::LABEL);
    let [kind, code, rip, address, rsp, rflags, ..] = words.words;
    let registers = w.registers(thread.tcb);
    assert_eq!((registers.rip, registers.rsp, registers.rflags), (rip, rsp, rflags));
    Heard { kind, code, rip, address, registers }
}

/// The fault of a thread that does `act`; then it is let go on where `label` says: at `rip` + `skip`, from where
/// it must get to its end.
fn fault_and_skip<F: Fn() + Copy + Send + 'static>(w: &mut World, skip: u64, act: F) -> Heard {
    let (thread, faults) = start(w, act);
    let heard = hear(w, &thread, faults);
    let further = Registers { rip: heard.rip + skip, ..heard.registers };
    rt::thread::write_registers(thread.tcb, &further, true).must("sending it on");
    // Its end is a fault, too.
    let end = hear(w, &thread, faults);
    assert_eq!(end.rip, crate::world::finish as *const () as u64, "it did not go on: {end:x?}");
    assert!(thread.is_done());
    heard
}

/// The fault of a thread that does `act`, which then stays stopped.
fn fault_of<F: Fn() + Copy + Send + 'static>(w: &mut World, act: F) -> Heard {
    let (thread, faults) = start(w, act);
    let heard = hear(w, &thread, faults);
    w.delete(thread.tcb.0);
    heard
}

/// The fault of a thread that does `act`, if it does not come to its end.
fn fault_or_end<F: Fn() + Copy + Send + 'static>(w: &mut World, act: F) -> Option<Heard> {
    let heard = fault_of(w, act);
    (heard.rip != crate::world::finish as *const () as u64).then_some(heard)
}

/// An assembly snippet that faults, or nearly so.
macro_rules! faulting {
    ($($line:literal),+) => {
        // SAFETY: the instruction faults in user mode, which is what the test is about; whatever it would change
        // belongs to this thread.
        || unsafe { asm!($($line),+, out("rax") _, out("rcx") _, out("rdx") _) }
    };
}

const GENERAL_PROTECTION: u64 = 13;

fn a_division_by_zero_arrives(w: &mut World) {
    let heard = fault_and_skip(w, 2, faulting!("xor ecx, ecx", "xor edx, edx", "mov eax, 1", "div ecx"));
    assert_eq!((heard.kind, heard.code), (0, 0));
}

fn a_breakpoint_arrives(w: &mut World) {
    let heard = fault_and_skip(w, 0, faulting!("int3"));
    assert_eq!((heard.kind, heard.code), (3, 0));
    // SAFETY: the page holds code of this program.
    assert_eq!(unsafe { ((heard.rip - 1) as *const u8).read() }, 0xcc);
}

fn an_undefined_instruction_arrives(w: &mut World) {
    let heard = fault_and_skip(w, 2, faulting!("ud2"));
    assert_eq!((heard.kind, heard.code), (6, 0));
    // SAFETY: the page holds code of this program.
    assert_eq!(unsafe { (heard.rip as *const [u8; 2]).read() }, [0x0f, 0x0b]);
}

fn an_x87_exception_arrives(w: &mut World) {
    let heard = fault_of(w, || {
        let control: u16 = 0x360; // only a division by zero (and invalid, denormal) unmasked
        // SAFETY: changes this thread's x87 state only; the last instruction faults.
        unsafe {
            asm!("fninit", "fldcw [{0}]", "fldz", "fld1", "fdivrp", "fwait", in(reg) &raw const control);
        }
    });
    assert_eq!((heard.kind, heard.code), (16, 0));
}

fn an_unaligned_access_arrives(w: &mut World) {
    let heard = fault_or_end(w, || {
        let words = [0u64; 2];
        // SAFETY: reads within `words`, at an odd address, with alignment checks on; at the end they are off.
        unsafe {
            asm!(
                "pushfq",
                "or qword ptr [rsp], 0x40000",
                "popfq",
                "mov rax, [{0} + 1]",
                "pushfq",
                "and qword ptr [rsp], -0x40001",
                "popfq",
                in(reg) &raw const words,
                out("rax") _,
            );
        }
    });
    // Processors check where the kernel lets them (CR0.AM); TCG never does.
    if let Some(heard) = heard {
        assert_eq!((heard.kind, heard.code), (17, 0));
        assert_ne!(heard.registers.rflags & 0x40000, 0);
    }
}

fn a_simd_exception_arrives(w: &mut World) {
    let heard = fault_or_end(w, || {
        let control: u32 = 0x1d80; // division by zero unmasked
        // SAFETY: changes this thread's SSE state only; the division faults.
        unsafe {
            asm!(
                "ldmxcsr [{0}]",
                "xorps xmm1, xmm1",
                "mov eax, 0x3f800000",
                "movd xmm0, eax",
                "divss xmm0, xmm1",
                in(reg) &raw const control,
                out("rax") _,
                out("xmm0") _,
                out("xmm1") _,
            );
        }
    });
    // TCG notes the exception in MXCSR and goes on.
    if let Some(heard) = heard {
        assert_eq!((heard.kind, heard.code), (19, 0));
    }
}

fn a_stack_fault_arrives(w: &mut World) {
    /// The first addresses that are not canonical.
    const BEYOND: u64 = (1 << 47) + 64;
    let heard = fault_of(w, || {
        // SAFETY: the push faults; the thread does not go on.
        unsafe { asm!("mov rsp, {0}", "push rax", "ud2", in(reg) BEYOND, options(noreturn)) }
    });
    // (TCG says 13.)
    assert!(matches!(heard.kind, 12 | 13) && heard.code == 0, "{heard:x?}");
    assert_eq!(heard.registers.rsp, BEYOND);
}

fn privileged_instructions_arrive(w: &mut World) {
    let acts: [fn(); 17] = [
        faulting!("hlt"),
        faulting!("cli"),
        faulting!("sti"),
        faulting!("mov rax, cr0"),
        faulting!("mov rax, cr3"),
        faulting!("mov cr3, rax"),
        faulting!("mov cr4, rax"),
        faulting!("mov dr7, rax"),
        faulting!("rdmsr"),
        faulting!("wrmsr"),
        faulting!("lgdt [rsp]"),
        faulting!("lidt [rsp]"),
        faulting!("ltr ax"),
        faulting!("invlpg [rsp]"),
        faulting!("wbinvd"),
        faulting!("xor ecx, ecx", "xor edx, edx", "mov eax, 7", "xsetbv"),
        faulting!("clts"),
    ];
    for (at, act) in acts.into_iter().enumerate() {
        let heard = fault_of(w, act);
        assert_eq!((heard.kind, heard.code), (GENERAL_PROTECTION, 0), "instruction {at}");
    }
    for act in [faulting!("swapgs") as fn(), faulting!("sysretq"), faulting!("iretq")] {
        let heard = fault_of(w, act);
        assert!(matches!(heard.kind, 6 | 12 | 13 | 14), "{heard:x?}");
    }
}

fn umip_hides_the_tables_of_the_kernel(w: &mut World) {
    let acts: [fn(); 5] = [
        faulting!("sub rsp, 16", "sgdt [rsp]", "add rsp, 16"),
        faulting!("sub rsp, 16", "sidt [rsp]", "add rsp, 16"),
        faulting!("sldt rax"),
        faulting!("str rax"),
        faulting!("smsw rax"),
    ];
    for act in acts {
        let heard = fault_of(w, act);
        assert_eq!((heard.kind, heard.code), (GENERAL_PROTECTION, 0));
    }
}

fn every_software_interrupt_but_a_breakpoint_is_refused(w: &mut World) {
    const HERE: u64 = 0x30_0000_0000;
    const THERE: u64 = HERE + (1 << 20);
    let frame = w.frame(1);
    VSPACE.map(frame, HERE, 0, 1, abi::MapFlags::WRITE).must("a map");
    VSPACE.map(frame, THERE, 0, 1, abi::MapFlags::EXECUTE).must("a map");
    let faults = w.endpoint();
    let registers = Registers { rip: THERE, ..Registers::default() };
    let thread = w.thread().faults_to(faults).prepare();
    for vector in 0..=255u64 {
        // int vector; ud2
        let code = 0x0b0f_00cd | vector << 8;
        // SAFETY: just mapped, for this test alone.
        unsafe { (HERE as *mut u64).write_volatile(code) };
        rt::thread::write_registers(thread.tcb, &registers, true).must("starting it");
        let heard = hear(w, &thread, faults);
        match vector {
            3 => assert_eq!((heard.kind, heard.rip), (3, THERE + 2)),
            _ => {
                assert_eq!((heard.kind, heard.rip), (GENERAL_PROTECTION, THERE));
                // SDM vol. 3, 6.13: the vector's index with the IDT flag. (TCG counts in halves of entries.)
                assert!(heard.code == vector << 3 | 2 || heard.code == vector << 4 | 2);
            }
        }
    }
}

fn ports_cannot_be_touched_without_the_kernel(w: &mut World) {
    for act in [faulting!("in al, 0x70") as fn(), faulting!("mov dx, 0xf4", "out dx, al"), faulting!("insb")]
    {
        let heard = fault_of(w, act);
        assert_eq!((heard.kind, heard.code), (GENERAL_PROTECTION, 0));
    }
}

fn bad_selectors_arrive(w: &mut World) {
    // Kernel code, kernel data at the wrong level, beyond the table.
    for (act, code) in [
        (faulting!("mov eax, 0x08", "mov ds, ax") as fn(), 0x08),
        (faulting!("mov eax, 0x10", "mov es, ax"), 0x10),
        (faulting!("mov eax, 0xfff8", "mov fs, ax"), 0xfff8),
        (faulting!("mov eax, 0x10", "mov ss, ax"), 0x10),
    ] {
        let heard = fault_of(w, act);
        assert_eq!((heard.kind, heard.code), (GENERAL_PROTECTION, code));
    }
}

fn far_transfers_lead_nowhere(w: &mut World) {
    let acts: [fn(); 2] = [
        faulting!("push 0x08", "lea rax, [rip + 2f]", "push rax", "retfq", "2: nop"),
        faulting!("push 0xfff8", "lea rax, [rip + 2f]", "push rax", "retfq", "2: nop"),
    ];
    for act in acts {
        let heard = fault_of(w, act);
        // (TCG reads the stack with the kernel's eyes, which SMAP forbids.)
        assert!(matches!(heard.kind, GENERAL_PROTECTION | 14), "{heard:x?}");
    }
}

fn a_handler_that_answers_zero_repeats_the_instruction(w: &mut World) {
    const HERE: u64 = 0x30_0000_0000;
    let frame = w.frame(1);
    let (thread, faults) = start(w, || {
        // SAFETY: the handler maps the page.
        unsafe { (HERE as *mut u64).write_volatile(9) };
        // SAFETY: as above.
        arena::set(0, unsafe { (HERE as *const u64).read_volatile() });
    });
    let heard = hear(w, &thread, faults);
    assert_eq!((heard.kind, heard.address), (14, HERE));
    VSPACE.map(frame, HERE, 0, 1, abi::MapFlags::WRITE).must("a map");
    ipc::reply(Message::new(0)).must("an answer");
    w.until("it went on", || thread.is_done());
    assert_eq!(arena::get(0), 9);
}

fn a_handler_that_answers_otherwise_leaves_the_thread_stopped(w: &mut World) {
    let (thread, faults) = start(w, faulting!("ud2"));
    hear(w, &thread, faults);
    ipc::reply(Message::new(1)).must("an answer");
    assert_eq!(thread.state(), INACTIVE);
    let end = crate::world::now() + w.milliseconds(20);
    assert_eq!(ipc::recv_until(faults, CPtr::NULL, end), Err(Error::TimedOut));
    // It can be resumed later, and faults again.
    thread.tcb.resume().must("letting it run");
    hear(w, &thread, faults);
}

fn a_handler_can_send_the_thread_elsewhere(w: &mut World) {
    let (thread, faults) = start(w, faulting!("ud2"));
    hear(w, &thread, faults);
    let elsewhere = thread.entry(|| arena::set(0, 55));
    rt::thread::write_registers(thread.tcb, &elsewhere, true).must("sending it there");
    w.until("it got there", || arena::get(0) == 55);
    assert_eq!(ipc::reply(Message::new(0)), Err(Error::NoCaller));
}

fn a_handler_reads_all_registers_of_the_fault(w: &mut World) {
    let faults = w.endpoint();
    let all = Registers {
        rip: crate::world::finish as *const () as u64,
        rsp: 0x1111,
        rflags: 0x202 | 0x8d5,
        rax: 1,
        rbx: 2,
        rcx: 3,
        rdx: 4,
        rsi: 5,
        rdi: 6,
        rbp: 7,
        r: [8, 9, 10, 11, 12, 13, 14, 15],
        fs_base: 0x7000_0000_1000,
        gs_base: 0xffff_8000_0000_0000,
    };
    let thread = w.thread().faults_to(faults).start_at(&all);
    let heard = hear(w, &thread, faults);
    assert_eq!((heard.kind, heard.registers), (6, all));
}

fn without_a_handler_a_fault_stops_the_thread(w: &mut World) {
    let thread = w.thread().prepare();
    thread.tcb.set_fault_handler(CPtr::NULL).must("no handler");
    thread.run(faulting!("ud2"));
    w.until("it stops", || thread.state() == INACTIVE);
    assert!(!thread.is_done());
}

fn a_fault_whose_handler_dies_comes_to_the_next(w: &mut World) {
    let [faults, never] = [w.endpoint(), w.notification()];
    let handler = w.thread().start(move || {
        assert!(ipc::recv(faults, CPtr::NULL).must("a fault").is_fault());
        arena::set(0, 1);
        let _ = ipc::wait(never);
    });
    let thread = w.thread().faults_to(faults).start(faulting!("ud2"));
    w.until("the handler has it", || arena::get(0) == 1);
    w.delete(handler.tcb.0);
    assert_eq!(hear(w, &thread, faults).kind, 6);
}

fn a_fault_whose_endpoint_goes_stops_the_thread(w: &mut World) {
    let (thread, faults) = start(w, faulting!("ud2"));
    w.until_blocked(&thread);
    w.delete(faults);
    assert_eq!(thread.state(), INACTIVE);
}

fn the_badge_tells_whose_fault_it_is(w: &mut World) {
    let faults = w.endpoint();
    for badge in [7, 8, 9] {
        let badged = w.mint(faults, abi::Rights::WRITE, badge);
        w.thread().faults_to(badged).start(faulting!("ud2"));
        let heard = ipc::recv(faults, CPtr::NULL).must("a fault");
        assert_eq!((heard.badge, heard.is_fault()), (badge, true));
        ipc::reply(Message::new(1)).must("an answer");
    }
}

fn faults_wait_for_their_handler(w: &mut World) {
    let faults = w.endpoint();
    let threads: [Thread; 5] = core::array::from_fn(|_| {
        let thread = w.thread().faults_to(faults).start(faulting!("ud2"));
        w.until_blocked(&thread);
        thread
    });
    for thread in &threads {
        let heard = hear(w, thread, faults);
        assert_eq!(heard.kind, 6);
    }
}

/// Flag TF.
const TRAP_FLAG: u64 = 0x100;

/// Eight instructions and the end of the thread.
#[unsafe(naked)]
extern "C" fn eight_instructions() -> ! {
    core::arch::naked_asm!(
        "inc rax", "inc rax", "inc rax", "inc rax", "inc rax", "inc rax", "inc rax", "inc rax", "ud2"
    )
}

fn single_step_stops_after_each_instruction(w: &mut World) {
    let faults = w.endpoint();
    let start = eight_instructions as *const () as u64;
    let registers = Registers { rip: start, rflags: TRAP_FLAG, ..Registers::default() };
    let thread = w.thread().faults_to(faults).start_at(&registers);
    for step in 1..=8 {
        let heard = hear(w, &thread, faults);
        assert_eq!((heard.kind, heard.registers.rax, heard.rip), (1, step, start + 3 * step));
        ipc::reply(Message::new(0)).must("the next step");
    }
    assert_eq!(hear(w, &thread, faults).kind, 6);
}

/// A system call that does nothing and one of the slow path, between other instructions.
#[unsafe(naked)]
extern "C" fn steps_over_calls() -> ! {
    core::arch::naked_asm!(
        "mov eax, {nop}", "syscall", "inc rbx", "mov eax, {yield_now}", "syscall", "inc rbx", "ud2",
        nop = const abi::Syscall::nop.number(), yield_now = const abi::Syscall::yield_now.number()
    )
}

fn a_step_over_a_system_call_stops_behind_it(w: &mut World) {
    let faults = w.endpoint();
    let registers =
        Registers { rip: steps_over_calls as *const () as u64, rflags: TRAP_FLAG, ..Registers::default() };
    let thread = w.thread().faults_to(faults).start_at(&registers);
    let mut steps = 0;
    loop {
        let heard = hear(w, &thread, faults);
        if heard.kind == 6 {
            assert_eq!(heard.registers.rbx, 2);
            break;
        }
        assert_eq!(heard.kind, 1);
        assert_ne!(heard.registers.rflags & TRAP_FLAG, 0, "the flag is gone");
        assert!(heard.rip > registers.rip && heard.rip < registers.rip + 64, "a stop at {:#x}", heard.rip);
        steps += 1;
        ipc::reply(Message::new(0)).must("the next step");
    }
    // Behind SYSCALL the processor may or may not stop once more before the next instruction.
    assert!((4..=6).contains(&steps), "{steps} steps");
}

fn a_foreign_call_without_a_library_arrives(w: &mut World) {
    for number in [0u64, 39, 231, 0x4000_0001, 0xffff_ffff, 0x534b_000d] {
        let heard = fault_and_skip(w, 0, move || {
            // SAFETY: the call arrives as a fault; its handler sends the thread on behind it.
            unsafe { asm!("syscall", inlateout("rax") number => _, out("rcx") _, out("r11") _) }
        });
        assert_eq!((heard.kind, heard.code), (fault::FOREIGN_CALL, number));
        // SAFETY: the page holds code of this program.
        assert_eq!(unsafe { ((heard.rip - 2) as *const [u8; 2]).read() }, [0x0f, 0x05]);
    }
}

fn a_fault_is_handled_across_cpus(w: &mut World) {
    const HERE: u64 = 0x30_0000_0000;
    let [frame, faults] = [w.frame(64), w.endpoint()];
    let cpu = w.cpus() - 1;
    let thread = w.thread().cpu(cpu).faults_to(faults).start(|| {
        for page in 0..64 {
            // SAFETY: the handler maps each page.
            unsafe { ((HERE + page * 4096) as *mut u64).write_volatile(page) };
        }
    });
    for page in 0..64 {
        let heard = hear(w, &thread, faults);
        assert_eq!((heard.kind, heard.address), (14, HERE + page * 4096));
        VSPACE.map(frame, heard.address, page * 4096, 1, abi::MapFlags::WRITE).must("a map");
        ipc::reply(Message::new(0)).must("an answer");
    }
    w.join(&thread);
}

fn a_supervisor_may_fault_itself(w: &mut World) {
    let [inner, outer] = [w.endpoint(), w.endpoint()];
    let handler = w.thread().faults_to(outer).start(move || {
        ipc::recv(inner, CPtr::NULL).must("a fault");
        // SAFETY: a fault, whose handler sends this thread on behind it.
        unsafe { asm!("ud2") };
        ipc::reply(Message::new(1)).must("an answer");
    });
    let thread = w.thread().faults_to(inner).start(faulting!("ud2"));
    let heard = hear(w, &handler, outer);
    assert_eq!(heard.kind, 6);
    assert_eq!(thread.state(), crate::world::BLOCKED);
    let further = Registers { rip: heard.rip + 2, ..heard.registers };
    rt::thread::write_registers(handler.tcb, &further, true).must("sending it on");
    w.until("it is done", || handler.is_done());
    assert_eq!(thread.state(), INACTIVE);
}
