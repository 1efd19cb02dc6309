# The guest of host/accelerator.py: a boot sector that does what a kernel does first.
#   as -o sector.o sector.s && ld --oformat binary -Ttext 0x7c00 -e 0x7c00 -o sector.bin sector.o

.code16
        cli
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $0x7c00, %sp

        # Page tables: 0x1000 -> 0x2000 -> 0x3000, whose 512 entries map the first GiB by 2M.
        movw    $0x1000, %di
        movw    $0x1800, %cx
        cld
        rep stosw
        movw    $0x2003, 0x1000
        movw    $0x3003, 0x2000
        movw    $0x3000, %di
        movl    $0x83, %eax
1:      movl    %eax, (%di)
        addw    $8, %di
        addl    $0x200000, %eax
        cmpw    $0x4000, %di
        jne     1b

        # Long mode: A20, CR3, CR4.PAE, EFER.LME, GDT, CR0.PG and CR0.PE.
        inb     $0x92, %al
        orb     $2, %al
        outb    %al, $0x92
        movl    $0x1000, %eax
        movl    %eax, %cr3
        movl    $0x20, %eax
        movl    %eax, %cr4
        movl    $0xc0000080, %ecx
        rdmsr
        orl     $0x100, %eax
        wrmsr
        lgdtl   gdtr
        movl    %cr0, %eax
        orl     $0x80000001, %eax
        movl    %eax, %cr0
        ljmpw   $8, $long

.code64
long:   movl    $16, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    $0x7c00, %esp

        # Interrupt table at 0x5000 with gate 32: the timer.
        movl    $tick, %eax
        movl    $0x5200, %edi
        movw    %ax, (%rdi)
        movw    $8, 2(%rdi)
        movw    $0x8e00, 4(%rdi)
        shrl    $16, %eax
        movw    %ax, 6(%rdi)
        movl    $0, 8(%rdi)
        movl    $0, 12(%rdi)
        lidt    idtr

        # Interrupt controller: vectors from 32, the timer alone.  Timer: about 1 kHz.
        movb    $0x11, %al
        outb    %al, $0x20
        movb    $32, %al
        outb    %al, $0x21
        movb    $4, %al
        outb    %al, $0x21
        movb    $1, %al
        outb    %al, $0x21
        movb    $0xfe, %al
        outb    %al, $0x21
        movb    $0x34, %al
        outb    %al, $0x43
        movb    $0xa9, %al
        outb    %al, $0x40
        movb    $0x04, %al
        outb    %al, $0x40

        # Ten interrupts out of ten halts, then say so on the serial port.
        xorl    %ebx, %ebx
2:      sti
        hlt
        cli
        cmpl    $10, %ebx
        jb      2b
        movl    $text, %esi
        movw    $0x3f8, %dx
        movl    $6, %ecx
        rep outsb
3:      hlt
        jmp     3b

tick:   incl    %ebx
        pushq   %rax
        movb    $0x20, %al
        outb    %al, $0x20
        popq    %rax
        iretq

text:   .ascii  "LODOM\n"
        .align  8
gdt:    .quad   0, 0x00209a0000000000, 0x0000920000000000
gdtr:   .word   23
        .long   gdt
idtr:   .word   33 * 16 - 1
        .quad   0x5000
