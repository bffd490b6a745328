//! A thread that runs instructions of the test's choice ([`snippets!`](crate::snippets), or bytes by [`code`])
//! while the test hears its faults: what all areas that deal with hostile code use.

use abi::message::fault;
use abi::{CPtr, MapFlags, PAGE_SIZE, Registers, Rights};
use ipc::{Message, Tcb};

use crate::arena;
use crate::world::{Builder, Must, Thread, VSPACE, World};

/// Functions of a few instructions, which end at an undefined one: `snippets! { name: "instruction", ...; }`
#[macro_export]
macro_rules! snippets {
    ($($(#[doc = $doc:literal])+ $visible:vis $name:ident: $($line:literal),+;)*) => { $(
        $(#[doc = $doc])+
        #[unsafe(naked)]
        $visible extern "C" fn $name() {
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
/// CF, PF, AF, ZF, SF, OF.
pub const STATUS_FLAGS: u64 = 0x8d5;
/// DF.
pub const DIRECTION_FLAG: u64 = 0x400;
/// AC.
pub const ALIGNMENT_FLAG: u64 = 0x4_0000;
/// ID.
pub const ID_FLAG: u64 = 0x20_0000;
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
    /// An undefined instruction.
    pub undefined: "ud2";
    /// The breakpoint.
    pub breakpoint: "int3";
    /// Reads at rdi.
    pub read: "mov rax, [rdi]";
    /// Writes at rdi.
    pub write: "mov [rdi], rax";
    /// Divides by zero with the x87 control word at rdi, and waits.
    pub divide_x87: "fldcw [rdi]", "fld1", "fldz", "fdivp", "fwait";
}
