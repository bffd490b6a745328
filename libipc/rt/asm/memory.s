# memcpy, memmove, memset, memcmp, bcmp, strlen: what compiled code calls without saying so.
#
# C calling convention: rdi, rsi, rdx in, rax out. Moves go in pieces of 16 bytes, the last one overlapping the
# one before, so that no length above 15 needs a byte loop. (REP MOVSB would be shorter, but translators that
# the reference machine runs on do it byte by byte.)

    .text
    .balign 16
    .globl memmove
    .type memmove, @function
memmove:
    mov     rax, rdi
    sub     rax, rsi                # destination behind source by less than the length:
    cmp     rax, rdx                # what a forward move would overwrite has not been read yet
    jb      move_backward
    .globl memcpy
    .type memcpy, @function
memcpy:
    mov     rax, rdi
    cmp     rdx, 16
    jb      move_small
    movups  xmm1, [rsi + rdx - 16]  # the last piece, read before anything is written
    lea     r8, [rdi + rdx - 16]
1:  cmp     rdi, r8
    jae     2f
    movups  xmm0, [rsi]
    movups  [rdi], xmm0
    add     rsi, 16
    add     rdi, 16
    jmp     1b
2:  movups  [r8], xmm1
    ret

move_backward:
    mov     rax, rdi
    cmp     rdx, 16
    jb      move_small
    movups  xmm1, [rsi]             # the first piece, written last
1:  cmp     rdx, 16
    jbe     2f
    movups  xmm0, [rsi + rdx - 16]
    movups  [rdi + rdx - 16], xmm0
    sub     rdx, 16
    jmp     1b
2:  movups  [rdi], xmm1
    ret

move_small:                         # rdx below 16; both ends are read before either is written
    cmp     rdx, 8
    jb      1f
    mov     rcx, [rsi]
    mov     r8, [rsi + rdx - 8]
    mov     [rdi], rcx
    mov     [rdi + rdx - 8], r8
    ret
1:  cmp     rdx, 4
    jb      2f
    mov     ecx, [rsi]
    mov     r8d, [rsi + rdx - 4]
    mov     [rdi], ecx
    mov     [rdi + rdx - 4], r8d
    ret
2:  test    rdx, rdx
    je      4f
    movzx   ecx, byte ptr [rsi]
    movzx   r8d, byte ptr [rsi + rdx - 1]
    cmp     rdx, 3
    jb      3f
    movzx   r9d, byte ptr [rsi + 1]
    mov     [rdi + 1], r9b
3:  mov     [rdi], cl
    mov     [rdi + rdx - 1], r8b
4:  ret

    .balign 16
    .globl memset
    .type memset, @function
memset:
    mov     rax, rdi
    movzx   esi, sil
    mov     rcx, 0x0101010101010101
    imul    rcx, rsi
    cmp     rdx, 16
    jb      2f
    movq    xmm0, rcx
    punpcklqdq xmm0, xmm0
    lea     r8, [rdi + rdx - 16]
1:  movups  [rdi], xmm0
    add     rdi, 16
    cmp     rdi, r8
    jb      1b
    movups  [r8], xmm0
    ret
2:  cmp     rdx, 8
    jb      3f
    mov     [rdi], rcx
    mov     [rdi + rdx - 8], rcx
    ret
3:  test    rdx, rdx
    je      4f
    mov     [rdi], cl
    inc     rdi
    dec     rdx
    jmp     3b
4:  ret

    .balign 16
    .globl memcmp
    .type memcmp, @function
    .globl bcmp
    .type bcmp, @function
memcmp:
bcmp:
    cmp     rdx, 8                  # whole words first, as long as they are equal
    jb      1f
    mov     rax, [rdi]
    cmp     rax, [rsi]
    jne     1f
    add     rdi, 8
    add     rsi, 8
    sub     rdx, 8
    jmp     memcmp
1:  test    rdx, rdx
    je      3f
    movzx   eax, byte ptr [rdi]
    movzx   ecx, byte ptr [rsi]
    sub     eax, ecx
    jne     2f
    inc     rdi
    inc     rsi
    dec     rdx
    jmp     1b
2:  ret
3:  xor     eax, eax
    ret

    .balign 16
    .globl strlen
    .type strlen, @function
strlen:
    mov     rax, rdi
1:  cmp     byte ptr [rax], 0
    je      2f
    inc     rax
    jmp     1b
2:  sub     rax, rdi
    ret
