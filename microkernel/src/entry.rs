//! Entries from user code: what the assembly of the slow path calls, and the fast path's constants.
//!
//! Every entry takes this CPU's lock (a system call's assembly has done so already), and all locks if that is not
//! enough ([`objects::local`]); lets the logic act, gives the locks back, and names the thread to resume. From then on
//! the thread's registers are this CPU's until another one halts it, as they are in user code.

use core::arch::global_asm;
use core::mem::{offset_of, size_of};
use core::sync::atomic::AtomicU32;

use abi::Syscall;
use abi::message::{BUFFER_WORDS, IpcBuffer, MsgInfo};
use abi::trace::MAX_CPUS;
use objects::cpu::Held;
use objects::endpoint::Endpoint;
use objects::locks::Gate;
use objects::slot::Flags;
use objects::tcb::{State, Tcb, VectorArea};
use objects::{Cpu, Ref, Slot};
use x86_64::registers::control::Cr2;

use crate::hardware::{self, KERNEL, Locked};
use crate::machine::panic::{self, TrapFrame};
use crate::machine::{apic, cpu};
use crate::remote;

/// The assembly, with the offsets that it knows by these names.
macro_rules! assembly {
    (
        calls { $($number:ident $call:ident,)* } symbols { $($symbol:ident,)* }
        $($type:ident { $($name:ident $($field:ident).+,)* })*; $($rest:tt)*
    ) => {
        global_asm!(
            include_str!("../asm/entry.s"),
            include_str!("../asm/fastpath.s"),
            $($number = const Syscall::$call.number(),)*
            $($symbol = sym $symbol,)*
            $($($name = const offset_of!($type, $($field).+),)*)*
            $($rest)*
        );
    };
}

assembly! {
    calls { CALL call, REPLY_RECV reply_recv, NOP nop, INVOKE invoke, SIGNAL signal, WAIT wait, YIELD yield_now, }
    symbols { trap_user, trap_idle, trap_panic, syscall_slow, syscall_contended, INITIAL_VECTORS, }
    Cpu { CURRENT current, STACK stack, USER_RSP user_rsp, TOP top, }
    Tcb {
        RIP context.rip, RSP context.rsp, RFLAGS context.rflags, RAX context.rax, RBX context.rbx,
        RCX context.rcx, RDX context.rdx, RSI context.rsi, RBP context.rbp, R11 context.r11,
        WORDS context.words, FS_BASE fs_base, GS_BASE gs_base, VECTORS vectors, INTERRUPTED interrupted,
        CR3 cr3, KEY key, STATE state, PRIORITY priority, QUEUE_NEXT queue_next, BLOCKED_ON blocked_on,
        BOUND_PENDING bound_pending, FOREIGN_ENTRY foreign_entry, BUFFER buffer, CSPACE cspace,
        CSPACE_SLOTS cspace_slots, REPLY_CALLER reply.caller,
    }
    Slot { OBJECT object, BADGE badge, }
    Endpoint { HOME home, RECEIVERS receivers.head, RECEIVERS_TAIL receivers.tail, SENDERS senders, }
    IpcBuffer { RETURN_ADDRESS foreign.return_address, RETURN_FLAGS foreign.return_flags, INSIDE foreign.inside, };
    CPU_SIZE = const size_of::<Cpu>(),
    MAX_CPUS = const MAX_CPUS,
    signal_call = sym signal_call::<true>,
    wait_call = sym wait_call::<true>,
    yield_call = sym yield_call::<true>,
    signal_alone = sym signal_call::<false>,
    wait_alone = sym wait_call::<false>,
    yield_alone = sym yield_call::<false>,
    SLOT_SIZE = const size_of::<Slot>(),
    FLAGS = const Slot::FLAGS_OFFSET,
    CALLABLE = const Flags::CALLABLE.bits(),
    RECEIVABLE = const Flags::RECEIVABLE.bits(),
    GATE_SIZE = const size_of::<Gate<AtomicU32>>(),
    READY = const State::Ready as u8,
    ANSWER = const State::Answer as u8,
    RECEIVING = const State::Receiving as u8,
    EXTRA_MASK = const MsgInfo::EXTRA_MASK,
    BUFFER_WORDS = const BUFFER_WORDS,
}

unsafe extern "C" {
    /// Where system calls of each CPU enter: with the fast path, and without; the last are without locks, for a machine
    /// with one CPU (asm/fastpath.s).
    static syscall_entries: [[u64; 2]; MAX_CPUS + 1];
    /// Lets due interrupts in (asm/entry.s).
    fn preemption_window(cpu: &Cpu) -> !;
}

/// Returns where system calls of CPU `number` enter: with the fast path, or without.
pub fn syscall_entry(number: usize, fast: bool) -> u64 {
    let number = if KERNEL.cpu_count() > 1 { number } else { MAX_CPUS };
    // SAFETY: a constant table that the assembly provides.
    let entries = unsafe { &syscall_entries };
    let Some(&[quick, slow]) = entries.get(number) else { return 0 };
    if fast { quick } else { slow }
}

/// What threads start with, and all that one address space sees of another's. (Nobody writes to it.)
pub static INITIAL_VECTORS: Locked<VectorArea> = Locked(VectorArea::initial());

/// What the assembly resumes: the thread (0: none), and the CPU.
#[repr(C)]
pub struct Resume {
    tcb: u64,
    cpu: *const Cpu,
}

/// Ends an entry: the thread's address space is loaded, and the assembly told to go there.
#[inline(always)]
fn leave(here: &Cpu) -> Resume {
    hardware::note_leaving(here);
    let resume = leave_from(here, here.root.get());
    remote::give(here);
    resume
}

/// The same where the address space with root table `root` is the one loaded, and locks are still to be given back.
#[inline(always)]
fn leave_from(here: &Cpu, root: u64) -> Resume {
    let next = here.thread();
    load_other(next, root);
    let tcb = if here.is_idle() { 0 } else { next.address() };
    Resume { tcb, cpu: here }
}

/// Loads the root table of `next` unless it is `root`, which is loaded. No segment selectors go along. (The bases of
/// FS and GS follow in asm/entry.s.)
#[inline(always)]
fn load_other(next: Ref<Tcb>, root: u64) {
    if root != next.cr3.get() {
        hardware::load_root(next.cr3.get());
        cpu::clear_selectors();
    }
}

/// A system call; the CPU holds its lock.
extern "C" fn syscall_slow(here: &'static Cpu) -> Resume {
    if !KERNEL.call_is_covered(here) && !wait_in_call(here, remote::take_all) {
        return abandon_call(here);
    }
    perform(here)
}

/// The system call of the current thread, with the locks that it needs.
fn perform(here: &'static Cpu) -> Resume {
    hardware::note_entering(here, here.thread().context.rax.get());
    if KERNEL.syscall(here) {
        return give_way(here);
    }
    leave(here)
}

/// signal; with `LOCKS` the CPU holds its lock, and the assembly has saved the registers; without, it is alone.
extern "C" fn signal_call<const LOCKS: bool>(here: &'static Cpu, cptr: u64) -> Resume {
    short_call::<LOCKS>(here, cptr, || KERNEL.signal_call(here, cptr))
}

/// wait without a deadline, likewise.
extern "C" fn wait_call<const LOCKS: bool>(here: &'static Cpu, cptr: u64) -> Resume {
    short_call::<LOCKS>(here, cptr, || KERNEL.wait_call(here, cptr))
}

#[inline(always)]
fn short_call<const LOCKS: bool>(here: &'static Cpu, cptr: u64, act: impl Fn()) -> Resume {
    if LOCKS && !KERNEL.bits_are_covered(here, cptr) {
        return syscall_slow(here);
    }
    let root = here.thread().cr3.get();
    act();
    let resume = leave_from(here, root);
    if LOCKS {
        remote::give(here);
    }
    resume
}

/// yield, likewise.
extern "C" fn yield_call<const LOCKS: bool>(here: &'static Cpu) -> Resume {
    let root = here.thread().cr3.get();
    let next = KERNEL.yield_call(here);
    load_other(next, root);
    if LOCKS {
        remote::give(here);
    }
    Resume { tcb: next.address(), cpu: here }
}

/// A system call that did not get its CPU's lock at once.
extern "C" fn syscall_contended(here: &'static Cpu) -> Resume {
    if wait_in_call(here, remote::take_own) { syscall_slow(here) } else { abandon_call(here) }
}

/// Takes locks by `take` for the current thread's system call. Returns false if another CPU has taken the thread away
/// meanwhile: then the call has never been made.
fn wait_in_call(here: &Cpu, take: impl Fn(&Cpu)) -> bool {
    /// Bytes of the SYSCALL instruction.
    const LENGTH: u64 = 2;
    let me = here.thread();
    let rip = me.context.rip.get();
    me.context.rip.set(rip.wrapping_sub(LENGTH));
    me.interrupted.set(false);
    take(here);
    if here.abandoned.take() {
        return false;
    }
    me.context.rip.set(rip);
    true
}

/// The thread whose system call this was is gone from this CPU.
fn abandon_call(here: &Cpu) -> Resume {
    KERNEL.schedule(here);
    leave(here)
}

/// A trap from user code: exception, device interrupt, timer or IPI. All registers are saved.
extern "C" fn trap_user(here: &'static Cpu, vector: u64, error: u64) -> Resume {
    const NMI: u64 = 2;
    const PAGE_FAULT: u64 = 14;
    const MACHINE_CHECK: u64 = 18;
    const FIRST_INTERRUPT: u64 = 32;
    let address = if vector == PAGE_FAULT { Cr2::read_raw() } else { 0 };
    if vector == NMI {
        panic::stop_if_panicking();
    }
    assert!(
        vector != NMI && vector != MACHINE_CHECK,
        "the machine reports a hardware error (vector {vector})"
    );
    if vector < FIRST_INTERRUPT {
        here.thread().note_exception([vector, error, address]);
    }
    remote::take_own(here);
    hardware::note_entering(here, vector);
    let mut abandoned = enter(here);
    if vector >= FIRST_INTERRUPT {
        interrupt(here, vector);
    } else {
        if !abandoned && !KERNEL.fault_is_covered(here, here.thread()) {
            remote::take_all(here);
            abandoned = enter(here);
        }
        if !abandoned {
            KERNEL.fault(here);
        }
    }
    KERNEL.schedule(here);
    leave(here)
}

/// Begins an entry by a trap, the locks taken. Returns true if the thread that the CPU came in with was taken from it.
fn enter(here: &Cpu) -> bool {
    let abandoned = here.abandoned.take();
    if !abandoned {
        KERNEL.enter(here);
    }
    abandoned
}

/// Takes all locks within an entry by a trap.
fn widen(here: &Cpu) {
    if here.held.get() == Held::Own {
        remote::take_all(here);
        enter(here);
    }
}

/// An interrupt while nothing ran, or (vector 0) a look at what there is to run.
extern "C" fn trap_idle(here: &'static Cpu, vector: u64) -> Resume {
    remote::take_own(here);
    hardware::note_entering(here, vector);
    here.abandoned.take();
    KERNEL.enter(here);
    if vector != 0 {
        interrupt(here, vector);
    }
    KERNEL.schedule(here);
    leave(here)
}

fn interrupt(here: &Cpu, vector: u64) {
    const IPI: u64 = apic::IPI_VECTOR as u64;
    const TIMER: u64 = apic::TIMER_VECTOR as u64;
    const FAULT: u64 = apic::FAULT_VECTOR as u64;
    const SPURIOUS: u64 = apic::SPURIOUS_VECTOR as u64;
    match vector {
        SPURIOUS => return,
        // What else it came for is done: mail was answered before the lock was taken, and `schedule` follows.
        IPI => {
            hardware::follow_fast_path(here.number.get());
            KERNEL.arm(here);
        }
        TIMER => {
            if !KERNEL.tick(here) {
                widen(here);
                KERNEL.tick(here);
            }
        }
        FAULT => {
            widen(here);
            KERNEL.take_faults(here);
        }
        _ => {
            widen(here);
            KERNEL.interrupt(here, vector as u8);
        }
    }
    apic::end_of_interrupt();
}

/// A long operation gave way: interrupts that are due, then whatever is to run.
fn give_way(here: &'static Cpu) -> Resume {
    let idle = here.idle_thread();
    let next = here.thread();
    if next != idle {
        // `schedule` has picked: back into the queue with it, so that an interrupt meets the CPU idle.
        KERNEL.enter(here);
        KERNEL.put_back(here, true);
    }
    here.root.set(KERNEL.root.get());
    hardware::load_root(KERNEL.root.get());
    hardware::note_leaving(here);
    remote::give(here);
    // SAFETY: the locks are free, the CPU is idle for all others, and this stack is not used any more.
    unsafe { preemption_window(here) }
}

/// A trap from the kernel itself: the panic screen.
extern "C" fn trap_panic(frame: &TrapFrame) -> ! {
    panic::stop_if_panicking();
    panic::trap(frame)
}
