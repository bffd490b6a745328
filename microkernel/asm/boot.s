// PVH entry of the boot CPU: from 32-bit protected mode without paging to Rust in the higher half.
//
// in:  ebx = physical address of hvm_start_info; flat segments, interrupts off (Xen "x86/HVM direct boot ABI")
// out: boot_main(rdi = that address), on CPU 0's main stack, long mode, SSE on, early tables:
//      the first 4 GiB at 0 and at the window, the first 1 GiB at KERNEL_BASE, all writable and executable.

.section .note.Xen, "a", @note
    .balign 4
    .long 4, 8, 18                      // sizes of name and description; XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_entry

.section .boot, "ax", @progbits
.code32
.globl pvh_entry
pvh_entry:
    cli
    cld
    mov edi, ebx
    mov eax, 0x80000000                 // is there a leaf that tells of long mode, and the mode itself?
    cpuid
    cmp eax, 0x80000001
    jb 8f
    mov eax, 0x80000001
    cpuid
    bt edx, 29
    jnc 8f

    mov eax, offset early_directories   // 2048 pages of 2 MiB: present, writable, large
    mov ecx, 0x83
3:  mov [eax], ecx
    add eax, 8
    add ecx, 0x200000
    jnc 3b
    mov eax, offset early_directories   // four directories
    or eax, 3
    mov [early_pdpt_low], eax
    mov [early_pdpt_high + 510 * 8], eax
    add eax, 0x1000
    mov [early_pdpt_low + 8], eax
    add eax, 0x1000
    mov [early_pdpt_low + 16], eax
    add eax, 0x1000
    mov [early_pdpt_low + 24], eax
    mov eax, offset early_pdpt_low
    or eax, 3
    mov [early_pml4], eax
    mov [early_pml4 + 256 * 8], eax
    mov eax, offset early_pdpt_high
    or eax, 3
    mov [early_pml4 + 511 * 8], eax

    mov eax, cr4
    or eax, 0x620                       // PAE, OSFXSR, OSXMMEXCPT
    mov cr4, eax
    mov eax, offset early_pml4
    mov cr3, eax
    mov ecx, 0xc0000080                 // EFER.LME
    rdmsr
    or eax, 0x100
    wrmsr
    mov eax, 0x80000033                 // PG, NE, ET, MP, PE; not EM, TS, CD, NW
    mov cr0, eax
    lgdt [boot_gdt_pointer]
    .byte 0xea                          // ljmp 0x08:2f
    .long 2f
    .word 0x08

8:  mov esi, offset no_long_mode        // say so on COM1 and stop
9:  lodsb
    test al, al
    jz 9f
    mov dx, 0x3f8
    out dx, al
    jmp 9b
9:  hlt
    jmp 9b

.code64
2:  mov rax, offset boot_high
    jmp rax

    .balign 8
boot_gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
boot_gdt_pointer:
    .word 23
    .long boot_gdt
no_long_mode:
    .asciz "kernel: this CPU has no long mode\n"

.section .boot_tables, "aw", @nobits
    .balign 0x1000
.globl early_pml4
early_pml4:
    .skip 0x1000
early_pdpt_low:
    .skip 0x1000
early_pdpt_high:
    .skip 0x1000
early_directories:
    .skip 0x4000

.section .text.entry, "ax", @progbits
boot_high:
    mov eax, 0x10
    mov ss, eax
    lea rsp, [rip + {stacks} + {main_top}]
    xor ebp, ebp                        // where a backtrace ends
    mov edi, edi
    call {boot_main}
    ud2
