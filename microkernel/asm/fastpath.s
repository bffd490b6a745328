// The fast path: system calls whose expected case is done here, in assembly, without touching a stack, a ready
// queue, the clock or the timer. One copy for each CPU, so that the CPU's data is found RIP-relative.
//
// Each path first checks everything, then commits; past that point nothing can fail. What a check finds
// unusual goes to the slow path (entry.s, Rust), which comes to the same result where both apply:
// tests run with `nofast` on the command line to compare.
//
// registers  rax number, rdx capability, rsi message info, words rdi r8 r9 r10 r12 r13 r14 r15 (left where they
//            are: they are the message); rcx and r11 hold the user's rip and rflags (SYSCALL put them there)
// rsp        the Tcb of the caller: interrupts are off, and nothing in ring 0 that could strike uses this stack
//
// What each part costs, in instructions (`call` / `reply_recv`; the slow path's user is charged the checks too):
//
//   part                                     call  reply_recv  why it is there
//   find the thread, dispatch                   4           6
//   save rip, rflags, rsp, rbx, rbp             6           6  what the call convention keeps
//   the kernel lock                             4           4  SMP: one FIFO ticket lock
//   capability: in range, kind and right        6           6  flat CSpace; one flag says "may be called"
//   partner: waits, here, nothing unusual       5           5  `key` is the bare CPU number then
//   partner's priority                          3           3  no ready thread is to be passed over
//   nothing else to receive                     -           5  senders, other receivers, bound notification
//   message in registers only                   2           2
//   commit: queue, reply, states, current       7           8
//   FS and GS base                              8           8  users write them freely (FSGSBASE)
//   address space, vector registers             7           7  3 when the address space is the same
//   results                                     2           2
//   restore, unlock, SYSRET                     7           7

.section .text.entry, "ax", @progbits

// Takes the kernel lock: ticket in ebp, to `contended` if it is not free.
.macro TAKE_LOCK contended
    mov ebp, 1
    lock xadd [rip + kernel_lock], ebp
    cmp ebp, [rip + kernel_lock + 4]
    jne \contended
.endm

// Saves what the call convention keeps. Out: rcx, r11, rbx, rbp free.
.macro SAVE_CALLER
    mov [rsp + {RIP}], rcx
    mov [rsp + {RFLAGS}], r11
    mov [rsp + {RBX}], rbx
    mov [rsp + {RBP}], rbp
    mov rcx, [rip + kernel_cpus + {CPU} + {USER_RSP}]
    mov [rsp + {RSP}], rcx
.endm

// Switches from the thread rsp to the thread rbx. Lost: rax, rcx, rdx.
.macro SWITCH
    rdfsbase rax
    mov [rsp + {FS_BASE}], rax
    rdgsbase rax
    mov [rsp + {GS_BASE}], rax
    mov rax, [rbx + {FS_BASE}]
    wrfsbase rax
    mov rax, [rbx + {GS_BASE}]
    wrgsbase rax
    mov [rip + kernel_cpus + {CPU} + {CURRENT}], rbx
    mov rcx, [rbx + {CR3}]
    cmp rcx, [rsp + {CR3}]
    je 1f
    mov cr3, rcx
    mov eax, 7                          // x87, SSE, AVX: no content of one domain reaches another
    xor edx, edx
    xrstor64 [rip + {INITIAL_VECTORS}]
1:
.endm

// Back to user code as the thread rbx.
.macro RETURN
    mov rcx, [rbx + {RIP}]
    mov r11, [rbx + {RFLAGS}]
    mov rsp, [rbx + {RSP}]
    mov rbp, [rbx + {RBP}]
    mov rbx, [rbx + {RBX}]
    inc dword ptr [rip + kernel_lock + 4]
    sysretq
.endm

// Copies the words beyond the registers from the buffer of rsp to that of rbx; to `slow` if the message has
// anything else to it. In: rbp = slot. Lost: rcx, r11, rax.
.macro COPY_WORDS slow
    mov ecx, esi
    and ecx, {EXTRA_MASK}
    cmp ecx, esi                        // capabilities, a deadline, unknown bits
    jne \slow
    cmp ecx, {BUFFER_WORDS}
    ja \slow
    cmp qword ptr [rsp + {BUFFER}], 0
    je \slow
    cmp qword ptr [rbx + {BUFFER}], 0
    je \slow
    mov r11, rdi
    mov rax, rsi
    mov rdi, [rbx + {BUFFER}]
    mov rsi, [rsp + {BUFFER}]
    rep movsq
    mov rsi, rax
    mov rdi, r11
    mov rcx, [rbp + {OBJECT}]
.endm

    .balign 64
syscall_entry_{NUMBER}:
    mov [rip + kernel_cpus + {CPU} + {USER_RSP}], rsp
    mov rsp, [rip + kernel_cpus + {CPU} + {CURRENT}]
    cmp eax, {CALL}
    jne not_call_{NUMBER}

// call ---------------------------------------------------------------------------------------------------
    SAVE_CALLER
    TAKE_LOCK contended_{NUMBER}
    cmp rdx, [rsp + {CSPACE_SLOTS}]
    jae slow_{NUMBER}
    mov rbp, rdx
    shl rbp, 6
    add rbp, [rsp + {CSPACE}]           // the slot
    test byte ptr [rbp + {FLAGS}], {CALLABLE}
    jz slow_{NUMBER}
    mov rcx, [rbp + {OBJECT}]           // the Endpoint
    mov rbx, [rcx + {RECEIVERS}]        // its first receiver
    test rbx, rbx
    jz slow_{NUMBER}
    cmp dword ptr [rbx + {KEY}], {NUMBER}
    jne slow_{NUMBER}
    mov r11b, [rip + kernel_cpus + {CPU} + {TOP}]
    cmp [rbx + {PRIORITY}], r11b
    jb slow_{NUMBER}
    test esi, esi
    jnz copy_call_{NUMBER}
call_commit_{NUMBER}:
    mov rax, [rbx + {QUEUE_NEXT}]
    mov [rcx + {RECEIVERS}], rax
    mov [rbx + {REPLY_CALLER}], rsp
    mov [rsp + {BLOCKED_ON}], rbx       // the receiver's own Reply is at the start of its Tcb
    mov byte ptr [rsp + {STATE}], {ANSWER}
    mov byte ptr [rbx + {STATE}], {READY}
    SWITCH
    mov rdx, [rbp + {BADGE}]
    xor eax, eax
    RETURN

copy_call_{NUMBER}:
    COPY_WORDS slow_{NUMBER}
    jmp call_commit_{NUMBER}

// reply_recv ---------------------------------------------------------------------------------------------
not_call_{NUMBER}:
    cmp eax, {REPLY_RECV}
    jne not_reply_{NUMBER}
    SAVE_CALLER
    TAKE_LOCK contended_{NUMBER}
    mov rbx, [rsp + {REPLY_CALLER}]     // who waits for our answer
    test rbx, rbx
    jz slow_{NUMBER}
    cmp dword ptr [rbx + {KEY}], {NUMBER}
    jne slow_{NUMBER}
    mov r11b, [rip + kernel_cpus + {CPU} + {TOP}]
    cmp [rbx + {PRIORITY}], r11b
    jb slow_{NUMBER}
    cmp rdx, [rsp + {CSPACE_SLOTS}]
    jae slow_{NUMBER}
    mov rbp, rdx
    shl rbp, 6
    add rbp, [rsp + {CSPACE}]           // the slot
    test byte ptr [rbp + {FLAGS}], {RECEIVABLE}
    jz slow_{NUMBER}
    cmp byte ptr [rsp + {BOUND_PENDING}], 0
    jne slow_{NUMBER}
    mov rcx, [rbp + {OBJECT}]           // the Endpoint
    mov r11, [rcx + {SENDERS}]
    or r11, [rcx + {RECEIVERS}]
    jnz slow_{NUMBER}
    test esi, esi
    jnz copy_reply_{NUMBER}
reply_commit_{NUMBER}:
    mov [rcx + {RECEIVERS}], rsp
    mov [rcx + {RECEIVERS_TAIL}], rsp
    mov qword ptr [rsp + {QUEUE_NEXT}], 0
    mov [rsp + {BLOCKED_ON}], rcx
    mov qword ptr [rsp + {REPLY_CALLER}], 0
    mov byte ptr [rsp + {STATE}], {RECEIVING}
    mov byte ptr [rbx + {STATE}], {READY}
    SWITCH
    xor eax, eax
    xor edx, edx
    RETURN

copy_reply_{NUMBER}:
    COPY_WORDS slow_{NUMBER}
    jmp reply_commit_{NUMBER}

// the rest -----------------------------------------------------------------------------------------------
not_reply_{NUMBER}:
    cmp eax, {NOP}
    je nop_{NUMBER}
    cmp eax, {YIELD}
    je yield_{NUMBER}
    cmp eax, {SIGNAL}
    je signal_{NUMBER}
    cmp eax, {WAIT}
    je wait_{NUMBER}
    cmp eax, {CALL}
    jb foreign_{NUMBER}
    cmp eax, {INVOKE}
    ja foreign_{NUMBER}
to_slow_{NUMBER}:
    SAVE_CALLER
    TAKE_LOCK contended_{NUMBER}
slow_{NUMBER}:
    lea rbx, [rip + kernel_cpus + {CPU}]
    jmp syscall_slow

contended_{NUMBER}:
    lea rbx, [rip + kernel_cpus + {CPU}]
    jmp syscall_contended

// signal, wait (without a deadline), yield: what these do to queues is for Rust, but there is no message to save.
yield_{NUMBER}:
    SAVE_CALLER
    TAKE_LOCK contended_{NUMBER}
    lea rcx, [rip + {yield_call}]
    jmp quick_{NUMBER}

signal_{NUMBER}:
    SAVE_CALLER
    TAKE_LOCK contended_{NUMBER}
    lea rcx, [rip + {signal_call}]
    jmp quick_{NUMBER}

wait_{NUMBER}:
    test rsi, rsi
    jnz to_slow_{NUMBER}
    SAVE_CALLER
    TAKE_LOCK contended_{NUMBER}
    lea rcx, [rip + {wait_call}]

// In: rcx = the function, to be called with the CPU and rdx.
quick_{NUMBER}:
    rdfsbase rax
    mov [rsp + {FS_BASE}], rax
    rdgsbase rax
    mov [rsp + {GS_BASE}], rax
    lea rdi, [rip + kernel_cpus + {CPU}]
    mov rsi, rdx
    mov rsp, [rdi + {STACK}]
    xor ebp, ebp
    call rcx
    jmp resume

// nop: there and back.
nop_{NUMBER}:
    xor eax, eax
    mov rsp, [rip + kernel_cpus + {CPU} + {USER_RSP}]
    sysretq

// A foreign system call: to the library's entry, with everything in place but rcx and r11, which SYSCALL has
// taken; return address and flags lie in the thread's buffer. No lock: all of it is the thread's own, and who
// would take it away halts this CPU first. No vector register is touched.
foreign_{NUMBER}:
    cmp qword ptr [rsp + {FOREIGN_ENTRY}], 0
    je to_slow_{NUMBER}
    mov [rsp + {RFLAGS}], r11
    mov r11, [rsp + {BUFFER}]
    mov [r11 + {RETURN_ADDRESS}], rcx
    mov qword ptr [r11 + {INSIDE}], 1
    mov rcx, [rsp + {RFLAGS}]           // (not from the buffer: others write there)
    mov [r11 + {RETURN_FLAGS}], rcx
    mov r11, rcx
    mov rcx, [rsp + {FOREIGN_ENTRY}]
    mov rsp, [rip + kernel_cpus + {CPU} + {USER_RSP}]
    sysretq

// The entry without a fast path: while messages are traced, or with `nofast` on the command line.
    .balign 64
syscall_entry_slow_{NUMBER}:
    mov [rip + kernel_cpus + {CPU} + {USER_RSP}], rsp
    mov rsp, [rip + kernel_cpus + {CPU} + {CURRENT}]
    cmp eax, {CALL}
    jb foreign_{NUMBER}
    cmp eax, {INVOKE}
    ja foreign_{NUMBER}
    jmp to_slow_{NUMBER}

.section .rodata.entries, "a", @progbits
    .balign 8
.globl syscall_entry_table_{NUMBER}
syscall_entry_table_{NUMBER}:
    .quad syscall_entry_{NUMBER}, syscall_entry_slow_{NUMBER}

.purgem TAKE_LOCK
.purgem SAVE_CALLER
.purgem SWITCH
.purgem RETURN
.purgem COPY_WORDS
