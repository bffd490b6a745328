// Entries of the slow path: traps, system calls that the fast path (fastpath.s) leaves, and the way back.
//
// A trap from user code saves everything in the thread's Tcb before any Rust runs, vector registers too, and
// goes on at the top of the CPU's own stack. A system call saves what the call convention keeps and the
// message registers; vector registers are dead there. Nothing in a user's registers is trusted, nor its FS and
// GS: the CPU's data (objects::Cpu) is found through a word above the stack that the trap arrives on.
//
// stack at a trap, from its top down: cpu (kept there), ss, rsp, rflags, cs, rip (pushed by the CPU), error (by
// the CPU, or 0), vector

// The words of a message, and FS and GS bases, into a thread and out of it.
.macro SAVE_WORDS tcb
    mov [\tcb + {WORDS}], rdi
    mov [\tcb + {WORDS} + 8], r8
    mov [\tcb + {WORDS} + 16], r9
    mov [\tcb + {WORDS} + 24], r10
    mov [\tcb + {WORDS} + 32], r12
    mov [\tcb + {WORDS} + 40], r13
    mov [\tcb + {WORDS} + 48], r14
    mov [\tcb + {WORDS} + 56], r15
.endm

.macro LOAD_WORDS tcb
    mov rdi, [\tcb + {WORDS}]
    mov r8, [\tcb + {WORDS} + 8]
    mov r9, [\tcb + {WORDS} + 16]
    mov r10, [\tcb + {WORDS} + 24]
    mov r12, [\tcb + {WORDS} + 32]
    mov r13, [\tcb + {WORDS} + 40]
    mov r14, [\tcb + {WORDS} + 48]
    mov r15, [\tcb + {WORDS} + 56]
.endm

.macro SAVE_BASES tcb, lost
    rdfsbase \lost
    mov [\tcb + {FS_BASE}], \lost
    rdgsbase \lost
    mov [\tcb + {GS_BASE}], \lost
.endm

.macro LOAD_BASES tcb, lost
    mov \lost, [\tcb + {FS_BASE}]
    wrfsbase \lost
    mov \lost, [\tcb + {GS_BASE}]
    wrgsbase \lost
.endm

.section .text.entry, "ax", @progbits
.set vector, 0
.rept 256
    .balign 16
    .if (vector == 8) || (vector == 10) || (vector == 11) || (vector == 12) || (vector == 13) || (vector == 14) || (vector == 17) || (vector == 21)
    .else
    push 0
    .endif
    .byte 0x68                          // push imm32
    .long vector
    jmp trap_common
    .set vector, vector + 1
.endr
    .balign 16
trap_stubs_end:

// In: the stack above. Out: to trap_user(rdi = cpu, rsi = vector, rdx = error), whose answer is resumed.
trap_common:
    test byte ptr [rsp + 24], 3         // cs: from user code?
    jz trap_kernel
    push rax
    mov rax, [rsp + 64]                 // cpu
    mov rax, [rax + {CURRENT}]          // its thread
    mov [rax + {RBX}], rbx
    mov [rax + {RCX}], rcx
    mov [rax + {RDX}], rdx
    mov [rax + {RSI}], rsi
    mov [rax + {RBP}], rbp
    mov [rax + {R11}], r11
    SAVE_WORDS rax
    pop [rax + {RAX}]
    pop rsi                             // vector
    pop r12                             // error
    pop [rax + {RIP}]
    pop rcx                             // cs
    pop [rax + {RFLAGS}]
    pop [rax + {RSP}]
    pop rcx                             // ss
    pop rdi                             // cpu
    mov rbx, rax
    SAVE_BASES rbx, rcx
    mov eax, 7
    xor edx, edx
    xsave64 [rbx + {VECTORS}]
    mov byte ptr [rbx + {INTERRUPTED}], 1
    mov rsp, [rdi + {STACK}]            // off an exception's own stack at once
    push 2                              // no AC, DF, NT
    popfq
    xor ebp, ebp
    mov rdx, r12
    call {trap_user}
    jmp resume

// From the kernel itself: an interrupt while idle, or the panic screen.
trap_kernel:
    cmp dword ptr [rsp], 0x20
    jb trap_panic
    pop rsi                             // vector
    add rsp, 48                         // error, rip, cs, rflags, rsp, ss
    pop rdi                             // cpu
    mov rsp, [rdi + {STACK}]            // the idle loop kept nothing
    xor ebp, ebp
    call {trap_idle}
    jmp resume

// stack at the call: the one above with rax, rbx, rcx, rdx, rsi, rdi, rbp, r8 to r15 (machine::panic::TrapFrame)
trap_panic:
    cld
    push rax
    push rbx
    push rcx
    push rdx
    push rsi
    push rdi
    push rbp
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    mov rdi, rsp
    and rsp, -16
    call {trap_panic}
    ud2

// The registers in which a system call has its arguments.
.macro SAVE_REGISTERS tcb
    mov [\tcb + {RAX}], rax
    mov [\tcb + {RDX}], rdx
    mov [\tcb + {RSI}], rsi
    SAVE_WORDS \tcb
.endm

// A system call that takes the slow path. The CPU's own lock is held.
// In: rsp = Tcb, with rip, rsp, rflags, rbx, rbp saved; rax, rdx, rsi and the words as the user gave them;
//     rbx = cpu, and nothing of worth in rcx, r11, rbp.
syscall_slow:
    lea rcx, [rip + {syscall_slow}]
    jmp 1f

// The same without the lock, which was not free.
syscall_contended:
    lea rcx, [rip + {syscall_contended}]
1:  SAVE_REGISTERS rsp
    SAVE_BASES rsp, rax
    mov rdi, rbx
    mov rsp, [rdi + {STACK}]
    xor ebp, ebp
    call rcx

// In: rax = the thread to run, or 0 for none; rdx = cpu. No lock is held, the thread's root table is loaded. (Its
// registers are this CPU's: others halt it before they touch them.)
resume:
    test rax, rax
    jz idle
    mov rbx, rax
    LOAD_BASES rbx, rcx
    cmp byte ptr [rbx + {INTERRUPTED}], 0
    jne resume_interrupted
    mov eax, 7                          // vector registers as at start: the kernel's own use of them must not show
    xor edx, edx
    xrstor64 [rip + {INITIAL_VECTORS}]
    LOAD_WORDS rbx
    mov rax, [rbx + {RAX}]
    mov rdx, [rbx + {RDX}]
    mov rsi, [rbx + {RSI}]
    mov rcx, [rbx + {RIP}]
    mov r11, [rbx + {RFLAGS}]
    mov rsp, [rbx + {RSP}]
    mov rbp, [rbx + {RBP}]
    mov rbx, [rbx + {RBX}]
    sysretq

resume_interrupted:
    mov byte ptr [rbx + {INTERRUPTED}], 0
    mov eax, 7
    xor edx, edx
    xrstor64 [rbx + {VECTORS}]
    push 0x1b                           // ss
    push [rbx + {RSP}]
    push [rbx + {RFLAGS}]
    push 0x23                           // cs
    push [rbx + {RIP}]
    LOAD_WORDS rbx
    mov rdx, [rbx + {RDX}]
    mov rsi, [rbx + {RSI}]
    mov rcx, [rbx + {RCX}]
    mov r11, [rbx + {R11}]
    mov rbp, [rbx + {RBP}]
    mov rax, [rbx + {RAX}]
    mov rbx, [rbx + {RBX}]
    iretq

// Nothing to run: interrupts are let in, and lead to trap_kernel, which does not come back here.
// In: rdx = cpu.
idle:
    mov rsp, [rdx + {STACK}]
1:  sti
    hlt
    cli
    jmp 1b

// The preemption window: lets interrupts in that are due, else goes on. In: rdi = cpu; no lock is held.
// Out: to trap_idle as if idle, with vector 0 when no interrupt came.
.globl preemption_window
preemption_window:
    mov rsp, [rdi + {STACK}]
    sti
    nop                                 // (STI holds interrupts off for one instruction)
    nop
    cli
    mov rdi, [rsp]                      // cpu
    xor esi, esi
    xor ebp, ebp
    call {trap_idle}
    jmp resume

// Begins a CPU's work. In: rdi = cpu.
.globl start_running
start_running:
    mov rsp, [rdi + {STACK}]
    xor esi, esi
    xor ebp, ebp
    call {trap_idle}
    jmp resume

.section .rodata.entries, "a", @progbits
    .balign 8
.globl interrupt_entries
interrupt_entries:
    .set vector, 0
    .rept 256
    .quad trap_stubs_end - (256 - vector) * 16
    .set vector, vector + 1
    .endr
