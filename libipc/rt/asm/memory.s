// memcpy, memmove, memset, memcmp, bcmp, strlen: what compiled code expects of its C library, in the kernel and in
// programs (System V ABI: rdi, rsi, rdx in; rax out). Short copies go by overlapping words, long ones by `rep movsq`: few
// instructions, no start-up cost on short ones, and no dependence on ERMS. Vector registers xmm0 to xmm3.

.section .text.memory, "ax", @progbits
.balign 16
.globl memmove
.type memmove, @function
memmove:
    mov rax, rdi
    sub rax, rsi                        // destination within [source, source + size): copy downwards
    cmp rax, rdx
    jb 7f
.globl memcpy
.type memcpy, @function
memcpy:
    mov rax, rdi
    cmp rdx, 16
    jb 3f
    cmp rdx, 32
    ja 2f
    movups xmm0, [rsi]
    movups xmm1, [rsi + rdx - 16]
    movups [rdi], xmm0
    movups [rdi + rdx - 16], xmm1
    ret
2:  mov r8, [rsi + rdx - 8]             // the last word, which overlaps; read before anything is written
    lea r9, [rdi + rdx - 8]
    lea rcx, [rdx - 1]
    shr rcx, 3
    rep movsq
    mov [r9], r8
    ret
3:  cmp edx, 8
    jb 4f
    mov rcx, [rsi]
    mov r8, [rsi + rdx - 8]
    mov [rdi], rcx
    mov [rdi + rdx - 8], r8
    ret
4:  cmp edx, 4
    jb 5f
    mov ecx, [rsi]
    mov r8d, [rsi + rdx - 4]
    mov [rdi], ecx
    mov [rdi + rdx - 4], r8d
    ret
5:  test edx, edx
    jz 6f
    mov r10d, edx                       // 1 to 3 bytes: first, middle, last
    shr r10d, 1
    movzx ecx, byte ptr [rsi]
    movzx r8d, byte ptr [rsi + rdx - 1]
    movzx r9d, byte ptr [rsi + r10]
    mov [rdi], cl
    mov [rdi + rdx - 1], r8b
    mov [rdi + r10], r9b
6:  ret
7:  mov rax, rdi
    cmp rdx, 32                         // the short ways read all before they write
    jbe memcpy
    lea rsi, [rsi + rdx - 8]
    lea rdi, [rdi + rdx - 8]
    mov rcx, rdx
    shr rcx, 3
    and edx, 7
    std
    rep movsq
    add rsi, 7
    add rdi, 7
    mov ecx, edx
    rep movsb
    cld
    ret

.balign 16
.globl memset
.type memset, @function
memset:
    mov r9, rdi
    movzx eax, sil
    mov r8, 0x0101010101010101
    imul rax, r8
    cmp rdx, 8
    jb 2f
    lea r8, [rdi + rdx - 8]
    lea rcx, [rdx - 1]
    shr rcx, 3
    rep stosq
    mov [r8], rax
    mov rax, r9
    ret
2:  mov ecx, edx
    rep stosb
    mov rax, r9
    ret

.balign 16
.globl memcmp, bcmp
.type memcmp, @function
.type bcmp, @function
memcmp:
bcmp:
    cmp rdx, 8
    jb 3f
2:  mov rax, [rsi]
    mov rcx, [rdi]
    cmp rcx, rax
    jne 4f
    add rsi, 8
    add rdi, 8
    sub rdx, 8
    cmp rdx, 8
    jae 2b
3:  test rdx, rdx
    jz 6f
    movzx eax, byte ptr [rdi]
    movzx ecx, byte ptr [rsi]
    sub eax, ecx
    jne 5f
    inc rdi
    inc rsi
    dec rdx
    jmp 3b
6:  xor eax, eax
    ret
4:  bswap rax                           // the first byte that differs decides
    bswap rcx
    cmp rcx, rax
    sbb eax, eax
    or eax, 1
5:  ret

.balign 16
.globl strlen
.type strlen, @function
strlen:
    mov rax, rdi
1:  cmp byte ptr [rax], 0
    je 2f
    inc rax
    jmp 1b
2:  sub rax, rdi
    ret
