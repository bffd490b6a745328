// Start of an application processor, at the page TRAMPOLINE (0x8000), straight from real mode to long mode
// (Intel SDM vol. 3, 9.4.4 and 10.8.5).
//
// in:  cs = page >> 4, ip = 0; the words at the end filled in by machine/smp.rs; that page mapped at its own address
// out: jumps to trampoline_entry(rdi = trampoline_cpu) on trampoline_stack, with SSE and NX on

.section .trampoline, "ax", @progbits
.code16
trampoline:
    cli
    cld
    xor ax, ax
    mov ds, ax
    mov eax, 0x620                      // PAE, OSFXSR, OSXMMEXCPT
    mov cr4, eax
    mov eax, dword ptr [trampoline_cr3]
    mov cr3, eax
    mov ecx, 0xc0000080                 // EFER.LME, NXE
    rdmsr
    or eax, 0x900
    wrmsr
    lgdt [trampoline_gdt_pointer]
    mov eax, 0x80010033                 // PG, WP, NE, ET, MP, PE; caches on
    mov cr0, eax
    .byte 0xea                          // ljmp 0x08:2f
    .word 2f, 0x08

.code64
2:  mov eax, 0x10
    mov ss, eax
    mov rsp, [trampoline_stack]
    mov rdi, [trampoline_cpu]
    xor ebp, ebp
    push rbp                            // the return address that a function expects above its frame
    jmp [trampoline_entry]

    .balign 8
trampoline_gdt:                         // accessed bits set: the page is not writable
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
trampoline_gdt_pointer:
    .word 23
    .long trampoline_gdt

    .balign 8
.globl trampoline_cr3, trampoline_stack, trampoline_cpu, trampoline_entry
trampoline_cr3:
    .quad 0
trampoline_stack:
    .quad 0
trampoline_cpu:
    .quad 0
trampoline_entry:
    .quad 0
.code64
