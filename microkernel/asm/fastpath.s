// The fast path: system calls whose expected case is done here, in assembly, without touching a stack, a ready
// queue, the clock or the timer. One copy for each CPU, so that the CPU's data is found RIP-relative.
//
// Each path first checks everything, then commits; past that point nothing can fail. What a check finds
// unusual goes to the slow path (entry.s, whose macros are used here, and Rust), which comes to the same result:
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
.macro SAVE_CALLER cpu
    mov [rsp + {RIP}], rcx
    mov [rsp + {RFLAGS}], r11
    mov [rsp + {RBX}], rbx
    mov [rsp + {RBP}], rbp
    mov rcx, [rip + \cpu + {USER_RSP}]
    mov [rsp + {RSP}], rcx
.endm

// Switches from the thread rsp to the thread rbx. With `selectors` the thread that is left has no say in what is in
// DS, ES, FS and GS. Lost: rax, rcx, rdx.
.macro SWITCH cpu, selectors
    SAVE_BASES rsp, rax
    mov [rip + \cpu + {CURRENT}], rbx
    mov rcx, [rbx + {CR3}]
    cmp rcx, [rsp + {CR3}]
    je 1f
    mov cr3, rcx
    mov eax, 7                          // x87, SSE, AVX: no content of one domain reaches another
    xrstor64 [rip + {INITIAL_VECTORS}]  // (edx asks for what XCR0 has not, and so for nothing)
.if \selectors
    xor edx, edx
    mov ds, edx
    mov es, edx
    mov fs, edx                         // (before the base, which this may change)
    mov gs, edx
.endif
1:  LOAD_BASES rbx, rax
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

.irp n, 0, 1, 2, 3, 4, 5, 6, 7
    .set cpu_\n, kernel_cpus + \n * {CPU_SIZE}
    .balign 64
syscall_entry_\n:
    mov [rip + cpu_\n + {USER_RSP}], rsp
    mov rsp, [rip + cpu_\n + {CURRENT}]
    cmp eax, {CALL}
    jne not_call_\n

// call ---------------------------------------------------------------------------------------------------
    SAVE_CALLER cpu_\n
    TAKE_LOCK contended_\n
    cmp rdx, [rsp + {CSPACE_SLOTS}]
    jae slow_\n
    imul rbp, rdx, {SLOT_SIZE}
    add rbp, [rsp + {CSPACE}]           // the slot
    test byte ptr [rbp + {FLAGS}], {CALLABLE}
    jz slow_\n
    mov rcx, [rbp + {OBJECT}]           // the Endpoint
    mov rbx, [rcx + {RECEIVERS}]        // its first receiver
    test rbx, rbx
    jz slow_\n
    cmp dword ptr [rbx + {KEY}], \n
    jne slow_\n
    mov r11b, [rip + cpu_\n + {TOP}]
    cmp [rbx + {PRIORITY}], r11b
    jb slow_\n
    test esi, esi
    jnz copy_call_\n
call_commit_\n:
    mov rax, [rbx + {QUEUE_NEXT}]
    mov [rcx + {RECEIVERS}], rax
    mov [rbx + {REPLY_CALLER}], rsp
    mov [rsp + {BLOCKED_ON}], rbx       // the receiver's own Reply is at the start of its Tcb
    mov byte ptr [rsp + {STATE}], {ANSWER}
    mov byte ptr [rbx + {STATE}], {READY}
    SWITCH cpu_\n, 1
    mov rdx, [rbp + {BADGE}]
    xor eax, eax
    RETURN

copy_call_\n:
    COPY_WORDS slow_\n
    jmp call_commit_\n

// reply_recv ---------------------------------------------------------------------------------------------
not_call_\n:
    cmp eax, {REPLY_RECV}
    jne not_reply_\n
    SAVE_CALLER cpu_\n
    TAKE_LOCK contended_\n
    mov rbx, [rsp + {REPLY_CALLER}]     // who waits for our answer
    test rbx, rbx
    jz slow_\n
    cmp dword ptr [rbx + {KEY}], \n
    jne slow_\n
    mov r11b, [rip + cpu_\n + {TOP}]
    cmp [rbx + {PRIORITY}], r11b
    jb slow_\n
    cmp rdx, [rsp + {CSPACE_SLOTS}]
    jae slow_\n
    imul rbp, rdx, {SLOT_SIZE}
    add rbp, [rsp + {CSPACE}]           // the slot
    test byte ptr [rbp + {FLAGS}], {RECEIVABLE}
    jz slow_\n
    mov rcx, [rbp + {OBJECT}]           // the Endpoint
    movzx r11d, byte ptr [rsp + {BOUND_PENDING}]
    or r11, [rcx + {SENDERS}]
    or r11, [rcx + {RECEIVERS}]
    jnz slow_\n
    test esi, esi
    jnz copy_reply_\n
reply_commit_\n:
    mov [rcx + {RECEIVERS}], rsp
    mov [rcx + {RECEIVERS_TAIL}], rsp
    mov qword ptr [rsp + {QUEUE_NEXT}], 0
    mov [rsp + {BLOCKED_ON}], rcx
    mov qword ptr [rsp + {REPLY_CALLER}], 0
    mov byte ptr [rsp + {STATE}], {RECEIVING}
    mov byte ptr [rbx + {STATE}], {READY}
    SWITCH cpu_\n, 0
    xor eax, eax
    xor edx, edx
    RETURN

copy_reply_\n:
    COPY_WORDS slow_\n
    jmp reply_commit_\n

// the rest -----------------------------------------------------------------------------------------------
not_reply_\n:
    cmp eax, {NOP}
    je nop_\n
    cmp eax, {YIELD}
    je yield_\n
    cmp eax, {SIGNAL}
    je signal_\n
    cmp eax, {WAIT}
    je wait_\n
    cmp eax, {CALL}
    jb foreign_\n
    cmp eax, {INVOKE}
    ja foreign_\n
to_slow_\n:
    SAVE_CALLER cpu_\n
    TAKE_LOCK contended_\n
slow_\n:
    lea rbx, [rip + cpu_\n]
    jmp syscall_slow

contended_\n:
    lea rbx, [rip + cpu_\n]
    jmp syscall_contended

// signal, wait (without a deadline), yield: what these do to queues is for Rust, but there is no message to save.
yield_\n:
    SAVE_CALLER cpu_\n
    TAKE_LOCK contended_\n
    lea rcx, [rip + {yield_call}]
    jmp quick_\n

signal_\n:
    SAVE_CALLER cpu_\n
    TAKE_LOCK contended_\n
    lea rcx, [rip + {signal_call}]
    jmp quick_\n

wait_\n:
    test rsi, rsi
    jnz to_slow_\n
    SAVE_CALLER cpu_\n
    TAKE_LOCK contended_\n
    lea rcx, [rip + {wait_call}]

// In: rcx = the function, to be called with the CPU and rdx.
quick_\n:
    SAVE_BASES rsp, rax
    lea rdi, [rip + cpu_\n]
    mov rsi, rdx
    mov rsp, [rdi + {STACK}]
    xor ebp, ebp
    call rcx
    jmp resume

// nop: there and back.
nop_\n:
    xor eax, eax
    mov rsp, [rip + cpu_\n + {USER_RSP}]
    sysretq

// A foreign system call: to the library's entry, with everything in place but rcx and r11, which SYSCALL has
// taken; return address and flags lie in the thread's buffer. No lock: all of it is the thread's own, and who
// would take it away halts this CPU first. No vector register is touched.
foreign_\n:
    cmp qword ptr [rsp + {FOREIGN_ENTRY}], 0
    je to_slow_\n
    mov [rsp + {RFLAGS}], r11
    mov r11, [rsp + {BUFFER}]
    mov [r11 + {RETURN_ADDRESS}], rcx
    mov qword ptr [r11 + {INSIDE}], 1
    mov rcx, [rsp + {RFLAGS}]           // (not from the buffer: others write there)
    mov [r11 + {RETURN_FLAGS}], rcx
    mov r11, rcx
    mov rcx, [rsp + {FOREIGN_ENTRY}]
    mov rsp, [rip + cpu_\n + {USER_RSP}]
    sysretq

// The entry without a fast path: while messages are traced, or with `nofast` on the command line.
    .balign 64
syscall_entry_slow_\n:
    mov [rip + cpu_\n + {USER_RSP}], rsp
    mov rsp, [rip + cpu_\n + {CURRENT}]
    cmp eax, {CALL}
    jb foreign_\n
    cmp eax, {INVOKE}
    ja foreign_\n
    jmp to_slow_\n
.endr

// For each CPU its entries: with the fast path, and without.
.section .rodata.entries, "a", @progbits
    .balign 8
.globl syscall_entries
syscall_entries:
.irp n, 0, 1, 2, 3, 4, 5, 6, 7
    .quad syscall_entry_\n, syscall_entry_slow_\n
.endr
.if (. - syscall_entries) != {MAX_CPUS} * 16
    .error "the entries above are not those of MAX_CPUS CPUs"
.endif
