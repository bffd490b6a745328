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
//   the CPU's own lock                          2           2  none on a machine with one CPU
//   capability: in range, kind and right        6           6  flat CSpace; one flag says "may be called"
//   the Endpoint's home is this CPU             2           2  none on a machine with one CPU
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

// Takes the lock of CPU \n (objects::locks), to `contended` if it is not free.
.macro TAKE_LOCK n, locks, contended
.if \locks
    lock bts dword ptr [rip + kernel_locks + \n * {GATE_SIZE}], 0
    jc \contended
.endif
.endm

// Goes to `slow` unless CPU \n's lock protects the Endpoint in rcx.
.macro CHECK_HOME n, locks, slow
.if \locks
    cmp dword ptr [rcx + {HOME}], \n
    jne \slow
.endif
.endm

// The address of a function in rcx: the one for a machine with locks, or for one with one CPU.
.macro ADDRESS locks, with, alone
.if \locks
    lea rcx, [rip + \with]
.else
    lea rcx, [rip + \alone]
.endif
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
.macro RETURN n, locks
    mov rcx, [rbx + {RIP}]
    mov r11, [rbx + {RFLAGS}]
    mov rsp, [rbx + {RSP}]
    mov rbp, [rbx + {RBP}]
    mov rbx, [rbx + {RBX}]
.if \locks
    mov dword ptr [rip + kernel_locks + \n * {GATE_SIZE}], 0
.endif
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

// The entries of CPU \n; \s ends their labels. \locks is 0 for a machine with one CPU, which needs no locks.
.macro ENTRIES n, s, locks
    .set cpu_\s, kernel_cpus + \n * {CPU_SIZE}
    .balign 64
syscall_entry_\s:
    mov [rip + cpu_\s + {USER_RSP}], rsp
    mov rsp, [rip + cpu_\s + {CURRENT}]
    cmp eax, {CALL}
    jne not_call_\s

// call ---------------------------------------------------------------------------------------------------
    SAVE_CALLER cpu_\s
    TAKE_LOCK \n, \locks, contended_\s
    cmp rdx, [rsp + {CSPACE_SLOTS}]
    jae slow_\s
    imul rbp, rdx, {SLOT_SIZE}
    add rbp, [rsp + {CSPACE}]           // the slot
    test byte ptr [rbp + {FLAGS}], {CALLABLE}
    jz slow_\s
    mov rcx, [rbp + {OBJECT}]           // the Endpoint
    CHECK_HOME \n, \locks, slow_\s
    mov rbx, [rcx + {RECEIVERS}]        // its first receiver
    test rbx, rbx
    jz slow_\s
    cmp dword ptr [rbx + {KEY}], \n
    jne slow_\s
    mov r11b, [rip + cpu_\s + {TOP}]
    cmp [rbx + {PRIORITY}], r11b
    jb slow_\s
    test esi, esi
    jnz copy_call_\s
call_commit_\s:
    mov rax, [rbx + {QUEUE_NEXT}]
    mov [rcx + {RECEIVERS}], rax
    mov [rbx + {REPLY_CALLER}], rsp
    mov [rsp + {BLOCKED_ON}], rbx       // the receiver's own Reply is at the start of its Tcb
    mov byte ptr [rsp + {STATE}], {ANSWER}
    mov byte ptr [rbx + {STATE}], {READY}
    SWITCH cpu_\s, 1
    mov rdx, [rbp + {BADGE}]
    xor eax, eax
    RETURN \n, \locks

copy_call_\s:
    COPY_WORDS slow_\s
    jmp call_commit_\s

// reply_recv ---------------------------------------------------------------------------------------------
not_call_\s:
    cmp eax, {REPLY_RECV}
    jne not_reply_\s
    SAVE_CALLER cpu_\s
    TAKE_LOCK \n, \locks, contended_\s
    mov rbx, [rsp + {REPLY_CALLER}]     // who waits for our answer
    test rbx, rbx
    jz slow_\s
    cmp dword ptr [rbx + {KEY}], \n
    jne slow_\s
    mov r11b, [rip + cpu_\s + {TOP}]
    cmp [rbx + {PRIORITY}], r11b
    jb slow_\s
    cmp rdx, [rsp + {CSPACE_SLOTS}]
    jae slow_\s
    imul rbp, rdx, {SLOT_SIZE}
    add rbp, [rsp + {CSPACE}]           // the slot
    test byte ptr [rbp + {FLAGS}], {RECEIVABLE}
    jz slow_\s
    mov rcx, [rbp + {OBJECT}]           // the Endpoint
    CHECK_HOME \n, \locks, slow_\s
    movzx r11d, byte ptr [rsp + {BOUND_PENDING}]
    or r11, [rcx + {SENDERS}]
    or r11, [rcx + {RECEIVERS}]
    jnz slow_\s
    test esi, esi
    jnz copy_reply_\s
reply_commit_\s:
    mov [rcx + {RECEIVERS}], rsp
    mov [rcx + {RECEIVERS_TAIL}], rsp
    mov qword ptr [rsp + {QUEUE_NEXT}], 0
    mov [rsp + {BLOCKED_ON}], rcx
    mov qword ptr [rsp + {REPLY_CALLER}], 0
    mov byte ptr [rsp + {STATE}], {RECEIVING}
    mov byte ptr [rbx + {STATE}], {READY}
    SWITCH cpu_\s, 0
    xor eax, eax
    xor edx, edx
    RETURN \n, \locks

copy_reply_\s:
    COPY_WORDS slow_\s
    jmp reply_commit_\s

// the rest -----------------------------------------------------------------------------------------------
not_reply_\s:
    cmp eax, {NOP}
    je nop_\s
    cmp eax, {YIELD}
    je yield_\s
    cmp eax, {SIGNAL}
    je signal_\s
    cmp eax, {WAIT}
    je wait_\s
    cmp eax, {CALL}
    jb foreign_\s
    cmp eax, {INVOKE}
    ja foreign_\s
to_slow_\s:
    SAVE_CALLER cpu_\s
    TAKE_LOCK \n, \locks, contended_\s
slow_\s:
    lea rbx, [rip + cpu_\s]
    jmp syscall_slow

contended_\s:
    lea rbx, [rip + cpu_\s]
    jmp syscall_contended

// signal, wait (without a deadline), yield: what these do to queues is for Rust, but there is no message to save:
// unless signal or wait may have to wait for all locks, and others see the thread's registers meanwhile.
yield_\s:
    SAVE_CALLER cpu_\s
    TAKE_LOCK \n, \locks, contended_\s
    ADDRESS \locks, {yield_call}, {yield_alone}
    jmp quick_\s

signal_\s:
    SAVE_CALLER cpu_\s
    TAKE_LOCK \n, \locks, contended_\s
    ADDRESS \locks, {signal_call}, {signal_alone}
    jmp registers_\s

wait_\s:
    test rsi, rsi
    jnz to_slow_\s
    SAVE_CALLER cpu_\s
    TAKE_LOCK \n, \locks, contended_\s
    ADDRESS \locks, {wait_call}, {wait_alone}

registers_\s:
.if \locks
    SAVE_REGISTERS rsp
.endif
// In: rcx = the function, to be called with the CPU and rdx.
quick_\s:
    SAVE_BASES rsp, rax
    lea rdi, [rip + cpu_\s]
    mov rsi, rdx
    mov rsp, [rdi + {STACK}]
    xor ebp, ebp
    call rcx
    jmp resume

// nop: there and back.
nop_\s:
    xor eax, eax
    mov rsp, [rip + cpu_\s + {USER_RSP}]
    sysretq

// A foreign system call: to the library's entry, with everything in place but rcx and r11, which SYSCALL has
// taken; return address and flags lie in the thread's buffer. No lock: all of it is the thread's own, and a CPU
// that takes it away halts this one first. No vector register is touched.
foreign_\s:
    cmp qword ptr [rsp + {FOREIGN_ENTRY}], 0
    je to_slow_\s
    mov [rsp + {RFLAGS}], r11
    mov r11, [rsp + {BUFFER}]
    mov [r11 + {RETURN_ADDRESS}], rcx
    mov qword ptr [r11 + {INSIDE}], 1
    mov rcx, [rsp + {RFLAGS}]           // (not from the buffer: others write there)
    mov [r11 + {RETURN_FLAGS}], rcx
    mov r11, rcx
    mov rcx, [rsp + {FOREIGN_ENTRY}]
    mov rsp, [rip + cpu_\s + {USER_RSP}]
    sysretq

// The entry without a fast path: while messages are traced, or with `nofast` on the command line.
    .balign 64
syscall_entry_slow_\s:
    mov [rip + cpu_\s + {USER_RSP}], rsp
    mov rsp, [rip + cpu_\s + {CURRENT}]
    cmp eax, {CALL}
    jb foreign_\s
    cmp eax, {INVOKE}
    ja foreign_\s
    jmp to_slow_\s
.endm

    ENTRIES 0, alone, 0
.irp n, 0, 1, 2, 3, 4, 5, 6, 7
    ENTRIES \n, \n, 1
.endr

// For each CPU its entries: with the fast path, and without; the last are those of a machine with one CPU.
.section .rodata.entries, "a", @progbits
    .balign 8
.globl syscall_entries
syscall_entries:
.irp n, 0, 1, 2, 3, 4, 5, 6, 7
    .quad syscall_entry_\n, syscall_entry_slow_\n
.endr
    .quad syscall_entry_alone, syscall_entry_slow_alone
.if (. - syscall_entries) != ({MAX_CPUS} + 1) * 16
    .error "the entries above are not those of MAX_CPUS CPUs"
.endif
