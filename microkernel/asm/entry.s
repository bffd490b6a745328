# Entries from traps: all registers saved, trap(rdi = &TrapFrame) called, registers restored.
#
# stack at the call, from its top down: ss, rsp, rflags, cs, rip (the CPU), error (the CPU or 0), vector,
# rax, rbx, rcx, rdx, rsi, rdi, rbp, r8 to r15

.section .text.entry, "ax", @progbits
.set vector, 0
.rept 256
    .balign 16
    .if (vector == 8) || (vector == 10) || (vector == 11) || (vector == 12) || (vector == 13) || (vector == 14) || (vector == 17) || (vector == 21)
    .else
    push 0
    .endif
    .byte 0x68                          # push imm32
    .long vector
    jmp trap_common
    .set vector, vector + 1
.endr
    .balign 16
trap_stubs_end:

trap_common:
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
    mov rbx, rsp
    and rsp, -16
    call {trap}
    mov rsp, rbx
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rbp
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rbx
    pop rax
    add rsp, 16
    iretq

syscall_entry:
    ud2

.section .rodata.entries, "a", @progbits
    .balign 8
.globl interrupt_entries, syscall_entries
interrupt_entries:
    .set vector, 0
    .rept 256
    .quad trap_stubs_end - (256 - vector) * 16
    .set vector, vector + 1
    .endr
syscall_entries:
    .rept 8
    .quad syscall_entry
    .endr
