//! Vector state: what a thread has of it, to be compared.

use core::mem::offset_of;

/// A value of everything that vector instructions use: ymm0 to 15, MXCSR, the x87 control word, st0 to st2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct State {
    /// ymm0 to ymm15.
    pub ymm: [[u64; 4]; 16],
    /// The top of the x87 stack, as integers.
    pub x87: [u64; 3],
    /// MXCSR.
    pub mxcsr: u32,
    /// The x87 control word.
    pub control: u16,
    /// The x87 tag word in FXSAVE's short form: which registers are in use.
    pub tags: u16,
}

/// MXCSR as a thread finds it first.
pub const INITIAL_MXCSR: u32 = 0x1f80;
/// The x87 control word likewise (SDM vol. 1, 8.1.5).
pub const INITIAL_CONTROL: u16 = 0x37f;

impl State {
    /// What a thread finds first, and after every switch between protection domains.
    pub const INITIAL: State =
        State { ymm: [[0; 4]; 16], x87: [0; 3], mxcsr: INITIAL_MXCSR, control: INITIAL_CONTROL, tags: 0 };

    /// A state that tells `seed`.
    pub fn of(seed: u64) -> State {
        let word = |at: usize| seed << 32 | 0x5a00 | at as u64;
        State {
            ymm: core::array::from_fn(|at| core::array::from_fn(|part| word(at * 4 + part))),
            // All exceptions masked; rounding by the seed.
            x87: [seed, seed + 1, seed + 2],
            mxcsr: INITIAL_MXCSR | (seed as u32 & 3) << 13,
            control: INITIAL_CONTROL & !0xc00 | (seed as u16 & 3) << 10,
            tags: 0b1110_0000,
        }
    }
}

/// Moves ymm0 to ymm15 between registers and memory at rdi.
macro_rules! all_ymm {
    (load) => {
        "vmovups ymm0, [rdi]\nvmovups ymm1, [rdi+32]\nvmovups ymm2, [rdi+64]\nvmovups ymm3, [rdi+96]
        vmovups ymm4, [rdi+128]\nvmovups ymm5, [rdi+160]\nvmovups ymm6, [rdi+192]\nvmovups ymm7, [rdi+224]
        vmovups ymm8, [rdi+256]\nvmovups ymm9, [rdi+288]\nvmovups ymm10, [rdi+320]\nvmovups ymm11, [rdi+352]
        vmovups ymm12, [rdi+384]\nvmovups ymm13, [rdi+416]\nvmovups ymm14, [rdi+448]\nvmovups ymm15, [rdi+480]"
    };
    (store) => {
        "vmovups [rdi], ymm0\nvmovups [rdi+32], ymm1\nvmovups [rdi+64], ymm2\nvmovups [rdi+96], ymm3
        vmovups [rdi+128], ymm4\nvmovups [rdi+160], ymm5\nvmovups [rdi+192], ymm6\nvmovups [rdi+224], ymm7
        vmovups [rdi+256], ymm8\nvmovups [rdi+288], ymm9\nvmovups [rdi+320], ymm10\nvmovups [rdi+352], ymm11
        vmovups [rdi+384], ymm12\nvmovups [rdi+416], ymm13\nvmovups [rdi+448], ymm14\nvmovups [rdi+480], ymm15"
    };
}

/// A state as it was found, and the image it was read from.
#[derive(Debug)]
#[repr(C, align(64))]
struct Found {
    state: State,
    image: [u8; 512],
}

/// Instead of a system call's number: an `int3`.
const BREAKPOINT: u64 = 3;

/// A system call to make with a vector state; with number 0, so many rounds of a loop instead.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Call {
    /// The number in rax.
    pub number: u64,
    /// rdx.
    pub capability: u64,
    /// rsi.
    pub info: u64,
    /// Rounds.
    pub rounds: u64,
}

/// In: rdi = the state to load, rsi = where to leave what is found (`Found`), rdx = what to do (`Call`).
/// Out: eax = the status. All words of the call are 0.
#[unsafe(naked)]
unsafe extern "C" fn load_call_store(before: *const State, after: *mut Found, call: *const Call) -> u64 {
    core::arch::naked_asm!(
        "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
        "mov rbx, rsi",
        "mov rbp, rdx",
        "fninit",
        "cmp word ptr [rdi + {tags}], 0",
        "je 2f",
        "fild qword ptr [rdi + {x87} + 16]",
        "fild qword ptr [rdi + {x87} + 8]",
        "fild qword ptr [rdi + {x87}]",
        "2: fldcw [rdi + {control}]",
        "ldmxcsr [rdi + {mxcsr}]",
        all_ymm!(load),
        "mov rax, [rbp]",
        "mov rdx, [rbp + 8]",
        "mov rsi, [rbp + 16]",
        "mov rcx, [rbp + 24]",
        "test eax, eax",
        "jz 3f",
        "cmp eax, {breakpoint}",
        "je 5f",
        "xor edi, edi", "xor r8d, r8d", "xor r9d, r9d", "xor r10d, r10d",
        "xor r12d, r12d", "xor r13d, r13d", "xor r14d, r14d", "xor r15d, r15d",
        "syscall",
        "jmp 4f",
        "3: dec rcx",
        "jnz 3b",
        "4: mov rdi, rbx",
        "call {store}",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
        "ret",
        "5: int3",
        "jmp 4b",
        tags = const offset_of!(State, tags), x87 = const offset_of!(State, x87),
        control = const offset_of!(State, control), mxcsr = const offset_of!(State, mxcsr),
        store = sym store, breakpoint = const BREAKPOINT,
    )
}

/// In: rdi = where to leave what is found (`Found`). Keeps rax. The vector state is initial then.
#[unsafe(naked)]
unsafe extern "C" fn store(after: *mut Found) {
    core::arch::naked_asm!(
        all_ymm!(store),
        "stmxcsr [rdi + {mxcsr}]",
        "fnstcw [rdi + {control}]",
        "fxsave64 [rdi + {image}]",
        "movzx ecx, byte ptr [rdi + {image} + 4]",
        "mov [rdi + {tags}], cx",
        "test ecx, ecx",
        "jz 2f",
        "fistp qword ptr [rdi + {x87}]",
        "fistp qword ptr [rdi + {x87} + 8]",
        "fistp qword ptr [rdi + {x87} + 16]",
        "2: fninit",
        "push {initial}",
        "ldmxcsr [rsp]",
        "pop rcx",
        "ret",
        tags = const offset_of!(State, tags), x87 = const offset_of!(State, x87),
        control = const offset_of!(State, control), mxcsr = const offset_of!(State, mxcsr),
        image = const offset_of!(Found, image), initial = const INITIAL_MXCSR,
    )
}

/// Where a thread begins that tells the state it begins with: rdi = where to (`FOUND_BYTES`).
#[unsafe(naked)]
pub extern "C" fn tell_first_state() -> ! {
    core::arch::naked_asm!("call {store}", "jmp {finish}", store = sym store, finish = sym crate::world::finish)
}

/// Bytes that `tell_first_state` needs; a `State` is at their start.
pub const FOUND_BYTES: usize = size_of::<Found>();

/// Loads a state, makes the call, and gives the state found behind it, and the status.
pub fn across(before: State, call: Call) -> (State, u64) {
    let mut found = Found { state: State::INITIAL, image: [0; 512] };
    // SAFETY: all places are on this stack, as large as the function wants them. It keeps what the C ABI keeps;
    // control words are initial at its end. The call changes no memory of Rust's but the IPC buffer.
    let status = unsafe { load_call_store(&raw const before, &raw mut found, &raw const call) };
    (found.state, status)
}

impl Call {
    /// No call, but a loop.
    pub const fn spin(rounds: u64) -> Call {
        Call { number: 0, capability: 0, info: 0, rounds }
    }

    /// No call, but a breakpoint.
    pub const BREAKPOINT: Call = Call { number: BREAKPOINT, capability: 0, info: 0, rounds: 0 };

    /// A system call.
    pub fn of(number: abi::Syscall, capability: abi::CPtr, info: u64) -> Call {
        Call { number: number.number().into(), capability: capability.0.into(), info, rounds: 0 }
    }
}
