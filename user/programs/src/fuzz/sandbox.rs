//! What runs in a world: the thread that issues the calls and looks at what comes back, and those around it.
//! None of it uses the runtime; its data is in the arena.

use core::arch::naked_asm;
use core::cell::Cell;
use core::mem::offset_of;

use abi::message::REGISTER_WORDS;
use abi::table::SYSCALL_BASE;
use abi::{CPtr, Kind, MsgInfo, Registers, Syscall};
use ipc::Message;

use crate::arena::{self, control, count, get, set};
use crate::generate::{self, Setting};
use crate::random::Random;
use crate::table;
use crate::world;

/// A call: the registers it is made with, and those it comes back with. Only the fuzzing thread writes it.
#[derive(Debug)]
#[repr(C)]
pub struct Block {
    /// Number.
    pub rax: Cell<u64>,
    /// Capability.
    pub rdx: Cell<u64>,
    /// Message info or method.
    pub rsi: Cell<u64>,
    /// Words.
    pub words: [Cell<u64>; REGISTER_WORDS],
    /// Kept by the kernel.
    pub rbp: Cell<u64>,
    /// Kept by the kernel, unless there are flags.
    pub rsp: Cell<u64>,
    /// Kept by the kernel.
    pub fs_base: Cell<u64>,
    /// Kept by the kernel.
    pub gs_base: Cell<u64>,
    /// Not 0: the flags to make the call with.
    pub flags: Cell<u64>,
    /// Not 0: an address to read from (even) or write to (odd) before the call.
    pub touch: Cell<u64>,
    returned_rax: Cell<u64>,
    returned_rdx: Cell<u64>,
    returned_rsi: Cell<u64>,
    returned_rbp: Cell<u64>,
    returned_rsp: Cell<u64>,
    returned_fs_base: Cell<u64>,
    returned_gs_base: Cell<u64>,
    own_rsp: Cell<u64>,
}

/// What can be wrong with what comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Wrong {
    /// A status that is not documented: row, status.
    Status = 1,
    /// A message info with bits that mean nothing: 0, info.
    Info = 2,
    /// rbp: before, after.
    Rbp = 3,
    /// rsp.
    Rsp = 4,
    /// FS base.
    FsBase = 5,
    /// GS base.
    GsBase = 6,
}

impl Wrong {
    /// All of them, in words.
    pub const ALL: [(Wrong, &str); 6] = [
        (Wrong::Status, "a status that is not documented"),
        (Wrong::Info, "a malformed message info"),
        (Wrong::Rbp, "rbp was not kept"),
        (Wrong::Rsp, "rsp was not kept"),
        (Wrong::FsBase, "the FS base was not kept"),
        (Wrong::GsBase, "the GS base was not kept"),
    ];
}

/// Makes the call that the block (rdi) describes. rbx keeps the block: where the kernel does not keep rbx, the
/// thread faults here.
#[unsafe(naked)]
extern "C" fn issue(block: &Block) {
    naked_asm!(
        "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
        "mov rbx, rdi",
        "mov [rbx + {own_rsp}], rsp",
        "mov rax, [rbx + {fs_base}]",
        "wrfsbase rax",
        "mov rax, [rbx + {gs_base}]",
        "wrgsbase rax",
        "mov rax, [rbx + {rax}]",
        "mov rdx, [rbx + {rdx}]",
        "mov rsi, [rbx + {rsi}]",
        "mov rdi, [rbx + {words}]",
        "mov r8, [rbx + {words} + 8]",
        "mov r9, [rbx + {words} + 16]",
        "mov r10, [rbx + {words} + 24]",
        "mov r12, [rbx + {words} + 32]",
        "mov r13, [rbx + {words} + 40]",
        "mov r14, [rbx + {words} + 48]",
        "mov r15, [rbx + {words} + 56]",
        "mov rbp, [rbx + {rbp}]",
        "cmp qword ptr [rbx + {flags}], 0",
        "je 2f",
        // The flags (TF among them) hold from the call itself on.
        "lea rsp, [rbx + {flags}]",
        "popfq",
        "syscall",
        "jmp 3f",
        "2:",
        "mov rsp, [rbx + {rsp}]",
        "syscall",
        "3:",
        "mov [rbx + {returned_rsp}], rsp",
        "mov rsp, [rbx + {own_rsp}]",
        "push 2",
        "popfq",
        "mov [rbx + {returned_rax}], rax",
        "mov [rbx + {returned_rdx}], rdx",
        "mov [rbx + {returned_rsi}], rsi",
        "mov [rbx + {returned_rbp}], rbp",
        "rdfsbase rax",
        "mov [rbx + {returned_fs_base}], rax",
        "rdgsbase rax",
        "mov [rbx + {returned_gs_base}], rax",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
        "ret",
        rax = const offset_of!(Block, rax),
        rdx = const offset_of!(Block, rdx),
        rsi = const offset_of!(Block, rsi),
        words = const offset_of!(Block, words),
        rbp = const offset_of!(Block, rbp),
        rsp = const offset_of!(Block, rsp),
        fs_base = const offset_of!(Block, fs_base),
        gs_base = const offset_of!(Block, gs_base),
        flags = const offset_of!(Block, flags),
        own_rsp = const offset_of!(Block, own_rsp),
        returned_rax = const offset_of!(Block, returned_rax),
        returned_rdx = const offset_of!(Block, returned_rdx),
        returned_rsi = const offset_of!(Block, returned_rsi),
        returned_rbp = const offset_of!(Block, returned_rbp),
        returned_rsp = const offset_of!(Block, returned_rsp),
        returned_fs_base = const offset_of!(Block, returned_fs_base),
        returned_gs_base = const offset_of!(Block, returned_gs_base),
    )
}

/// Stops at the limit: the supervisor knows this instruction.
#[unsafe(naked)]
pub extern "C" fn pause() -> ! {
    naked_asm!("ud2")
}

/// Where threads are sent that lead nowhere; safe with any registers.
#[unsafe(naked)]
pub extern "C" fn lost() -> ! {
    naked_asm!("ud2")
}

/// Makes some calls, whatever the registers are, and faults. Needs no stack.
#[unsafe(naked)]
pub extern "C" fn racket() -> ! {
    naked_asm!(
        "mov ebx, 50",
        "2:",
        "imul ebp, ebp, 69069",
        "inc ebp",
        "mov eax, ebp",
        "shr eax, 20",
        "xor edx, edx",
        "mov ecx, {count}",
        "div ecx",
        "lea eax, [rdx + {base}]",
        "mov edx, ebp",
        "shr edx, 25",
        "xor esi, esi",
        "syscall",
        "dec ebx",
        "jnz 2b",
        "ud2",
        base = const SYSCALL_BASE,
        // All but `invoke`.
        count = const Syscall::ALL.len() - 1,
    )
}

/// The registers that the fuzzing thread begins with, at first and whenever it has lost its way.
pub fn fuzzing_registers() -> Registers {
    Registers {
        rip: fuzz as *const () as u64,
        rsp: arena::stack_top(0) - 8,
        gs_base: arena::ADDRESS + arena::buffer_offset(0),
        ..Registers::default()
    }
}

/// The registers that another thread begins with.
pub fn other_registers(index: usize, seed: u64) -> Registers {
    Registers {
        rip: bustle as *const () as u64,
        rsp: arena::stack_top(index) - 8,
        rdi: seed,
        gs_base: arena::ADDRESS + arena::buffer_offset(index),
        ..Registers::default()
    }
}

/// The fuzzing thread.
extern "C" fn fuzz() -> ! {
    let control = control();
    let buffer = arena::buffer(0);
    loop {
        let number = get(&control.issued);
        if number >= get(&control.limit) {
            pause();
        }
        // From here on the call is made: whatever it does to this thread, the next one is another.
        set(&control.issued, number + 1);
        let mut random = Random::new(get(&control.seed), number);
        let setting = Setting {
            now: rt::clock::now(),
            microsecond: get(&control.microsecond),
            cpus: get(&control.cpus),
        };
        let block = &control.block;
        generate::call(&mut random, &setting, block, buffer);
        touch(block.touch.get());
        let row = table::row(block.rax.get(), block.rsi.get());
        count(&control.begun[row]);
        issue(block);
        let status = block.returned_rax.get();
        count(&control.ended[row][table::column(status)]);
        if let Some((wrong, values)) = judge(block, row, status) {
            for (place, value) in control.wrong_values.iter().zip(values) {
                set(place, value);
            }
            set(&control.wrong, wrong as u64);
            pause();
        }
    }
}

/// Reads or writes memory that may be mapped.
fn touch(address: u64) {
    let place = (address & !7) as *mut u64;
    if address == 0 || !(generate::FIELD..proto::start::FREE << 1).contains(&address) {
        return;
    }
    if address & 1 == 0 {
        // SAFETY: nothing of the program's lies there, only what the fuzzing thread has mapped; where it has
        // not, it faults, and begins anew.
        unsafe { place.read_volatile() };
    } else {
        // SAFETY: as above.
        unsafe { place.write_volatile(address) };
    }
}

/// What is wrong with what came back.
fn judge(block: &Block, row: usize, status: u64) -> Option<(Wrong, [u64; 2])> {
    let stack = match block.flags.get() {
        0 => block.rsp.get(),
        _ => &raw const block.flags as u64 + 8,
    };
    let kept = [
        (Wrong::Rbp, block.rbp.get(), block.returned_rbp.get()),
        (Wrong::Rsp, stack, block.returned_rsp.get()),
        (Wrong::FsBase, block.fs_base.get(), block.returned_fs_base.get()),
        (Wrong::GsBase, block.gs_base.get(), block.returned_gs_base.get()),
    ];
    if !table::is_allowed(row, status) {
        return Some((Wrong::Status, [row as u64, status]));
    }
    if let Some(&(wrong, before, after)) = kept.iter().find(|(_, before, after)| before != after) {
        return Some((wrong, [before, after]));
    }
    let receives = [Syscall::call, Syscall::recv, Syscall::try_recv, Syscall::reply_recv];
    let info = MsgInfo(block.returned_rsi.get() & !MsgInfo::NOTIFIED);
    let malformed = !info.is_valid() || info.has_deadline();
    (status == 0 && malformed && receives.iter().any(|&receive| receive as usize == row))
        .then_some((Wrong::Info, [0, block.returned_rsi.get()]))
}

/// What the other threads do: send, call, answer, signal, wait, fault.
extern "C" fn bustle(seed: u64) -> ! {
    let mut random = Random::new(seed, 0);
    loop {
        control().noise.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        let endpoint = slot(&mut random, Kind::Endpoint);
        let notification = slot(&mut random, Kind::Notification);
        let reply = if random.once_in(2) { CPtr::NULL } else { slot(&mut random, Kind::Reply) };
        let end = rt::clock::now() + random.below(300) * get(&control().microsecond);
        let mut message = Message::of(random.next() as u32, [random.next(), random.next()]);
        if random.once_in(3) {
            message = message.with(random.below(65) as usize, random.below(4) as usize);
        }
        // Whatever is refused, refused be it.
        let _ = match random.below(14) {
            0 | 1 => ipc::call(endpoint, message).map(|_| ()),
            2 | 3 => ipc::recv_until(endpoint, reply, end).map(|_| ()),
            4 | 5 => ipc::reply_recv_until(endpoint, message, end).map(|_| ()),
            6 => ipc::send(endpoint, message),
            7 => ipc::try_send(reply, message),
            8 => ipc::try_recv(endpoint, reply).map(|_| ()),
            9 | 10 => ipc::signal(notification),
            11 => ipc::wait_until(notification, end).map(|_| ()),
            12 => {
                (0..random.below(3000)).for_each(|_| core::hint::spin_loop());
                Ok(())
            }
            _ if random.once_in(4) => lost(),
            _ => {
                ipc::yield_now();
                Ok(())
            }
        };
    }
}

/// A slot where the world began with a capability for an object of this kind.
fn slot(random: &mut Random, kind: Kind) -> CPtr {
    let place = world::place(kind);
    let range = if random.once_in(2) { place.made } else { place.derived };
    CPtr(random.within(range.start, range.end))
}
