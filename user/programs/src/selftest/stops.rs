//! Exceptions that meet something else: another CPU stops, re-prioritises, moves or kicks a thread just as it traps,
//! or its handler drops the fault. Each trap is heard all the same, at its own address, and each kick strikes.
//!
//! A subject on CPU 1 meets one exception after the other and counts; its handler runs beside it; the test
//! interferes from CPU 0 until enough exceptions were heard.

use core::mem::offset_of;

use abi::message::{Foreign, fault};
use abi::{CPtr, Error, IpcBuffer, MapFlags, Registers};
use ipc::{Message, SchedContext, Tcb};

use crate::arena;
use crate::row;
use crate::snippets;
use crate::subject::{
    BREAKPOINT, FIXED_FLAGS, HERE, PAGE_FAULT, SINGLE_STEP, Snippet, Subject, TRAP_FLAG, address,
};
use crate::table::{Need, Test};
use crate::world::{Must, SCHED_CONTROL, Thread, VSPACE, World, give_way};

/// The tests of this area.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    row!("stops", no_exception_is_lost_to_a_kick, "of a thousand int3 under kicks each is heard at its own address and each kick strikes; the same of steps, page faults and foreign calls", Need::Cpus(2)),
    row!("stops", no_exception_is_lost_to_a_change_of_priority, "the same under set_priority, with kicks and without", Need::Cpus(2)),
    row!("stops", no_exception_is_lost_to_a_stop, "the same under suspend and resume", Need::Cpus(2)),
    row!("stops", no_exception_is_lost_to_a_lack_of_budget, "the same while the SchedContext is taken and given back", Need::Cpus(2)),
    row!("stops", no_exception_is_lost_to_a_move, "the same while the thread moves from CPU to CPU", Need::Cpus(2)),
    row!("stops", no_exception_is_lost_with_its_handler, "the same while the handler drops every other fault unanswered", Need::Cpus(2)),
];

/// What the subject meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exception {
    /// `int3`: rip lies behind it.
    Breakpoint,
    /// Single steps.
    Step,
    /// A page that is not there.
    Page,
    /// A foreign system call without a library: rip lies behind it.
    ForeignCall,
}

/// What another CPU, or the handler, does meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    #[default]
    Nothing,
    Priority,
    Suspend,
    Budget,
    Move,
    Drop,
}

/// Shared words: rounds that the subject has done, exceptions heard, exceptions that it passed unheard, messages with
/// a wrong address.
const COUNTED: usize = 0;
const HEARD: usize = 1;
const LOST: usize = 2;
const WRONG: usize = 3;

/// Number of a system call that is not this kernel's.
const FOREIGN: u64 = 39;
/// The word of the subject's buffer in which its kick entry counts.
const STRUCK: usize = 20;

snippets! {
    /// Breakpoints, counted at rdi.
    breakpoints: "2: int3", "inc qword ptr [rdi]", "jmp 2b";
    /// Counts at rdi: to be stepped through.
    steps: "2: inc qword ptr [rdi]", "jmp 2b";
    /// Reads at r8, counted at rdi.
    reads: "2: mov rax, [r8]", "inc qword ptr [rdi]", "jmp 2b";
    /// Foreign system calls, counted at rdi.
    foreign_calls: "2: mov eax, 39", "syscall", "inc qword ptr [rdi]", "jmp 2b";
}

/// A kick entry that counts and goes back to where the kick struck. The place comes from the stack, so that a kick
/// that strikes as soon as the library is left does not overwrite it.
#[unsafe(naked)]
extern "C" fn kicked() {
    core::arch::naked_asm!(
        "lea rsp, [rsp - 128]",
        "push qword ptr gs:[{place}]",
        "pushfq",
        "inc qword ptr gs:[{struck}]",
        "mov qword ptr gs:[{inside}], 0",
        "popfq",
        "ret 128",
        struck = const offset_of!(IpcBuffer, user) + 8 * STRUCK,
        inside = const offset_of!(IpcBuffer, foreign) + offset_of!(Foreign, inside),
        place = const offset_of!(IpcBuffer, foreign) + offset_of!(Foreign, kick_address),
    )
}

/// Whether `rip` lies in the kick entry, behind its first instruction. (Nothing traps in front of that.)
fn is_in_kick_entry(rip: u64) -> bool {
    /// More bytes than it has.
    const BYTES: u64 = 48;
    rip.wrapping_sub(address(kicked)).wrapping_sub(1) < BYTES
}

impl Exception {
    const ALL: [Exception; 4] =
        [Exception::Breakpoint, Exception::Step, Exception::Page, Exception::ForeignCall];

    fn code(self) -> Snippet {
        match self {
            Exception::Breakpoint => breakpoints,
            Exception::Step => steps,
            Exception::Page => reads,
            Exception::ForeignCall => foreign_calls,
        }
    }

    fn registers(self, subject: &Subject) -> Registers {
        let flags = if self == Exception::Step { FIXED_FLAGS | TRAP_FLAG } else { FIXED_FLAGS };
        let mut registers =
            Registers { rdi: arena::ADDRESS, rflags: flags, ..subject.registers(self.code()) };
        registers.r[0] = HERE;
        registers
    }

    /// The number of the exception at `rip`, from 1, when the subject has counted `counted` rounds; None: it cannot
    /// be there.
    fn number(self, rip: u64, counted: u64) -> Option<u64> {
        /// Bytes of `inc qword ptr [rdi]`.
        const INCREMENT: u64 = 3;
        let offset = rip.wrapping_sub(address(self.code()));
        match (self, offset) {
            (Exception::Breakpoint, 1) | (Exception::Page, 0) | (Exception::ForeignCall, 7) => {
                Some(counted + 1)
            }
            (Exception::Step, INCREMENT) => Some(2 * counted - 1),
            (Exception::Step, 0) => Some(2 * counted),
            _ => None,
        }
    }

    fn kind(self) -> u64 {
        match self {
            Exception::Breakpoint => BREAKPOINT,
            Exception::Step => SINGLE_STEP,
            Exception::Page => PAGE_FAULT,
            Exception::ForeignCall => fault::FOREIGN_CALL,
        }
    }

    /// How many are to be heard.
    fn wanted(self, stop: Stop, kicks: bool) -> u64 {
        let plain = kicks == (stop == Stop::Nothing) && stop <= Stop::Suspend;
        if self == Exception::Breakpoint && plain { 1000 } else { 50 }
    }
}

/// The handler: tells each exception from the one before by what the subject has counted, and lets it go on.
fn handle(faults: CPtr, exception: Exception, frame: CPtr, drops: bool) {
    let mut last = 0;
    let mut received = ipc::recv(faults, CPtr::NULL).must("a fault");
    for message in 1u64.. {
        let [kind, code, rip, place, ..] = received.message.words;
        assert_eq!(kind, exception.kind());
        if !(exception == Exception::Step && is_in_kick_entry(rip)) {
            last = note(exception, rip, last);
        }
        if exception == Exception::ForeignCall {
            assert_eq!(code, FOREIGN);
        }
        if exception == Exception::Page {
            assert_eq!(place, HERE);
            match VSPACE.map(frame, HERE, 0, 1, MapFlags::READ) {
                // (It may have faulted again before the answer to the last fault was sent.)
                Ok(()) | Err(Error::AlreadyMapped) => {}
                Err(error) => panic!("a page: {error:?}"),
            }
        }
        received = if drops && message % 2 == 0 {
            ipc::recv(faults, CPtr::NULL)
        } else {
            ipc::reply_recv(faults, Message::new(0))
        }
        .must("a fault");
    }
}

/// Counts an exception, unless it is the last one again; its number.
fn note(exception: Exception, rip: u64, last: u64) -> u64 {
    let Some(number) = exception.number(rip, arena::get(COUNTED)) else {
        arena::add(WRONG, 1);
        return last;
    };
    if number != last {
        arena::add(HEARD, 1);
    }
    // (Between two page faults it reads as often as it can.)
    if exception != Exception::Page {
        arena::add(LOST, number.saturating_sub(last + 1));
    }
    number
}

/// What happens to the subject while it runs.
fn interfere(w: &World, subject: &Subject, stop: Stop, round: u64) {
    let Thread { tcb, context, .. } = subject.thread;
    match stop {
        Stop::Nothing | Stop::Drop => {}
        Stop::Priority => SCHED_CONTROL.set_priority(tcb.0, 90 + round % 10).must("a priority"),
        Stop::Suspend => {
            tcb.suspend().must("a stop");
            tcb.resume().must("letting it run");
        }
        Stop::Budget | Stop::Move => {
            context.unbind().must("taking its SchedContext");
            if stop == Stop::Move {
                let turn = w.milliseconds(10);
                SCHED_CONTROL.configure(context.0, round % 2, turn, turn, 0).must("another CPU");
            }
            give_back(context, tcb);
        }
    }
}

/// Binds a SchedContext again, once the thread has had the answer that it waits for on another CPU.
fn give_back(context: SchedContext, tcb: Tcb) {
    loop {
        match context.bind(tcb.0) {
            Ok(()) => return,
            Err(Error::Busy) => give_way(),
            Err(error) => panic!("giving it back: {error:?}"),
        }
    }
}

/// Kicks the subject; whether that redirects it (else it leaves word, which its library does not look at).
fn kick(subject: &Subject) -> bool {
    let word = core::ptr::from_ref(subject.thread.buffer()) as u64
        + (offset_of!(IpcBuffer, foreign) + offset_of!(Foreign, kick_pending)) as u64;
    let word = word as *mut u64;
    // SAFETY: a word of the subject's buffer, in the arena, which only the kernel and this thread write.
    unsafe { word.write_volatile(0) };
    subject.tcb().kick().must("a kick");
    // SAFETY: as above.
    unsafe { word.read_volatile() == 0 }
}

/// What the test does to the subject, and how often it has.
#[derive(Debug, Default)]
struct Meddler {
    stop: Stop,
    kicks: bool,
    round: u64,
    /// Turns since the last exception was heard.
    turns: u64,
    /// Exceptions heard, rounds counted, at the last look.
    heard: u64,
    counted: u64,
    /// Kicks that redirected the subject; exceptions heard at the last one.
    struck: u64,
    kicked_at: u64,
}

impl Meddler {
    /// Interferes once, but for each exception heard only a few times: more often than the subject gets anywhere it
    /// would get nowhere.
    fn turn(&mut self, w: &World, subject: &Subject, exception: Exception) {
        const TURNS: u64 = 2;
        let (heard, counted) = (arena::get(HEARD), arena::get(COUNTED));
        if exception == Exception::Page && counted != self.counted {
            VSPACE.unmap(HERE, 1).must("taking the page");
            self.counted = counted;
        }
        self.turns = if heard == self.heard { self.turns + 1 } else { 0 };
        self.heard = heard;
        if self.turns > TURNS {
            return;
        }
        self.round += 1;
        interfere(w, subject, self.stop, self.round);
        // The next kick when the last one has struck and, where each instruction traps, has been come back from.
        let struck = subject.thread.buffer().user[STRUCK].get();
        if self.kicks && struck == self.struck && (exception != Exception::Step || heard != self.kicked_at) {
            self.kicked_at = heard;
            self.struck += u64::from(kick(subject));
        }
    }
}

fn meet(w: &mut World, exception: Exception, stop: Stop, kicks: bool) {
    for word in [COUNTED, HEARD, LOST, WRONG] {
        arena::set(word, 0);
    }
    let frame = w.frame(1);
    let subject = Subject::of(w, |thread| thread.cpu(1));
    subject.tcb().set_foreign(0, address(kicked)).must("a kick entry");
    let faults = subject.faults;
    let handler =
        w.thread().cpu(1).priority(120).start(move || handle(faults, exception, frame, stop == Stop::Drop));
    subject.run(&exception.registers(&subject));
    let wanted = exception.wanted(stop, kicks);
    let told = || subject.thread.buffer().user[STRUCK].get();
    let mut meddler = Meddler { stop, kicks, kicked_at: u64::MAX, ..Meddler::default() };
    while arena::get(HEARD) < wanted {
        meddler.turn(w, &subject, exception);
        give_way();
    }
    let Meddler { struck, round, .. } = meddler;
    w.until("every kick has struck", || told() >= struck);
    let seen = arena::get(COUNTED);
    w.until("it goes on", || {
        if exception == Exception::Page {
            VSPACE.unmap(HERE, 1).must("taking the page");
        }
        arena::get(COUNTED) > seen
    });
    w.delete(handler.tcb.0);
    w.delete(subject.tcb().0);
    VSPACE.unmap(HERE, 1).must("taking the page");
    let what = (exception, stop, kicks);
    assert_eq!(
        [arena::get(LOST), arena::get(WRONG), told() - struck],
        [0; 3],
        "{what:?}: lost, at a wrong address, kicks that nobody made, of {wanted} in {round} rounds"
    );
}

fn meet_all(w: &mut World, stop: Stop, kicks: &[bool]) {
    for exception in Exception::ALL {
        for &kicks in kicks {
            meet(w, exception, stop, kicks);
        }
    }
}

fn no_exception_is_lost_to_a_kick(w: &mut World) {
    meet_all(w, Stop::Nothing, &[true]);
}

fn no_exception_is_lost_to_a_change_of_priority(w: &mut World) {
    meet_all(w, Stop::Priority, &[false, true]);
}

fn no_exception_is_lost_to_a_stop(w: &mut World) {
    meet_all(w, Stop::Suspend, &[false, true]);
}

fn no_exception_is_lost_to_a_lack_of_budget(w: &mut World) {
    meet_all(w, Stop::Budget, &[false, true]);
}

fn no_exception_is_lost_to_a_move(w: &mut World) {
    meet_all(w, Stop::Move, &[false, true]);
}

fn no_exception_is_lost_with_its_handler(w: &mut World) {
    meet_all(w, Stop::Drop, &[false, true]);
}
