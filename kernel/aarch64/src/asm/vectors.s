// Exception vectors, entry from and return to user mode.
//
// While user code runs, SP_EL1 points at the current thread's Context (kernel-core), so that the entry can store
// registers without a free one; TPIDR_EL1 always points at the core's PerCore block. FP/SIMD registers are not touched:
// the kernel is soft-float, fpu.rs switches them with the thread.

.arch armv8-a

// Stores x0-x30, SP, ELR, SPSR, TPIDR_EL0; leaves x0 = ELR. (TPIDRRO_EL0 cannot change in user mode.)
.macro save_user
    stp     x0, x1, [sp, #0]
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    mrs     x0, sp_el0
    stp     x30, x0, [sp, #240]
    mrs     x0, elr_el1
    mrs     x1, spsr_el1
    stp     x0, x1, [sp, #{elr}]
    mrs     x1, tpidr_el0
    str     x1, [sp, #{tpidr}]
.endm

// Onto the kernel stack; x0 = core index.
.macro to_kernel
    mrs     x4, tpidr_el1
    ldp     x5, x0, [x4, #{stack_top}]
    mov     sp, x5
    mov     x29, xzr
.endm

// An exception taken in the kernel itself, or one that cannot be: goes to kernel_fault on the emergency stack.
.macro fatal kind
    msr     tpidrro_el0, x0
    mov     x0, #\kind
    b       fatal_common
.endm

.section .text.vectors, "ax"
.balign 2048
.global vectors
vectors:
    // Current EL with SP_EL0: never used.
    fatal   0
.balign 128
    fatal   1
.balign 128
    fatal   2
.balign 128
    fatal   3
    // Current EL with SP_EL1: the kernel runs with interrupts masked, so only its own faults come here.
.balign 128
    fatal   4
.balign 128
    fatal   5
.balign 128
    fatal   6
.balign 128
    fatal   7
    // User mode, AArch64.
.balign 128
    save_user
    mrs     x1, esr_el1
    lsr     x2, x1, #26
    cmp     x2, #0x15               // SVC from AArch64
    b.ne    user_fault
    sub     x0, x0, #4
    str     x0, [sp, #{fault_ip}]
    b       user_syscall
.balign 128
    save_user
    str     x0, [sp, #{fault_ip}]
    b       user_irq
.balign 128
    fatal   10
.balign 128
    save_user
    b       user_serror
    // User mode, AArch32: no such thread can exist.
.balign 128
    fatal   12
.balign 128
    fatal   13
.balign 128
    fatal   14
.balign 128
    fatal   15
.balign 128

user_syscall:
    to_kernel
    bl      {trap_syscall}
    b       resume_user

user_fault:
    mrs     x2, far_el1
    mov     x3, x0
    str     x0, [sp, #{fault_ip}]
    to_kernel
    bl      {trap_fault}
    b       resume_user

user_serror:
    mrs     x1, esr_el1
    mov     x2, xzr
    mov     x3, x0
    str     x0, [sp, #{fault_ip}]
    to_kernel
    bl      {trap_serror}
    b       resume_user

user_irq:
    to_kernel
    bl      {trap_irq}

// x0 = Context to run.
.global resume_user
resume_user:
    mov     sp, x0
    ldp     x0, x1, [sp, #{elr}]
    msr     elr_el1, x0
    msr     spsr_el1, x1
    ldp     x0, x1, [sp, #{tpidr}]
    msr     tpidr_el0, x0
    msr     tpidrro_el0, x1
    ldp     x30, x0, [sp, #240]
    msr     sp_el0, x0
    ldp     x28, x29, [sp, #224]
    ldp     x26, x27, [sp, #208]
    ldp     x24, x25, [sp, #192]
    ldp     x22, x23, [sp, #176]
    ldp     x20, x21, [sp, #160]
    ldp     x18, x19, [sp, #144]
    ldp     x16, x17, [sp, #128]
    ldp     x14, x15, [sp, #112]
    ldp     x12, x13, [sp, #96]
    ldp     x10, x11, [sp, #80]
    ldp     x8, x9, [sp, #64]
    ldp     x6, x7, [sp, #48]
    ldp     x4, x5, [sp, #32]
    ldp     x2, x3, [sp, #16]
    ldp     x0, x1, [sp, #0]
    eret

// x0 = kind; TPIDRRO_EL0 = the interrupted x0. Builds a FatalFrame (panic.rs) on the emergency stack.
fatal_common:
    msr     tpidr_el0, x1
    mrs     x1, tpidr_el1
    ldr     x1, [x1, #{emergency_top}]
    sub     x1, x1, #256
    stp     x2, x3, [x1, #16]
    stp     x4, x5, [x1, #32]
    stp     x6, x7, [x1, #48]
    stp     x8, x9, [x1, #64]
    stp     x10, x11, [x1, #80]
    stp     x12, x13, [x1, #96]
    stp     x14, x15, [x1, #112]
    stp     x16, x17, [x1, #128]
    stp     x18, x19, [x1, #144]
    stp     x20, x21, [x1, #160]
    stp     x22, x23, [x1, #176]
    stp     x24, x25, [x1, #192]
    stp     x26, x27, [x1, #208]
    stp     x28, x29, [x1, #224]
    mov     x2, sp
    stp     x30, x2, [x1, #240]
    mrs     x2, tpidrro_el0
    mrs     x3, tpidr_el0
    stp     x2, x3, [x1, #0]
    mov     sp, x1
    bl      {kernel_fault}          // (kind, frame), does not return

// fn fpu_save(state), fn fpu_restore(state): q0-q31, FPSR, FPCR.
.global fpu_save
fpu_save:
    stp     q0, q1, [x0, #0]
    stp     q2, q3, [x0, #32]
    stp     q4, q5, [x0, #64]
    stp     q6, q7, [x0, #96]
    stp     q8, q9, [x0, #128]
    stp     q10, q11, [x0, #160]
    stp     q12, q13, [x0, #192]
    stp     q14, q15, [x0, #224]
    stp     q16, q17, [x0, #256]
    stp     q18, q19, [x0, #288]
    stp     q20, q21, [x0, #320]
    stp     q22, q23, [x0, #352]
    stp     q24, q25, [x0, #384]
    stp     q26, q27, [x0, #416]
    stp     q28, q29, [x0, #448]
    stp     q30, q31, [x0, #480]
    mrs     x1, fpsr
    mrs     x2, fpcr
    str     x1, [x0, #512]
    str     x2, [x0, #520]
    ret

.global fpu_restore
fpu_restore:
    ldp     q0, q1, [x0, #0]
    ldp     q2, q3, [x0, #32]
    ldp     q4, q5, [x0, #64]
    ldp     q6, q7, [x0, #96]
    ldp     q8, q9, [x0, #128]
    ldp     q10, q11, [x0, #160]
    ldp     q12, q13, [x0, #192]
    ldp     q14, q15, [x0, #224]
    ldp     q16, q17, [x0, #256]
    ldp     q18, q19, [x0, #288]
    ldp     q20, q21, [x0, #320]
    ldp     q22, q23, [x0, #352]
    ldp     q24, q25, [x0, #384]
    ldp     q26, q27, [x0, #416]
    ldp     q28, q29, [x0, #448]
    ldp     q30, q31, [x0, #480]
    ldr     x1, [x0, #512]
    ldr     x2, [x0, #520]
    msr     fpsr, x1
    msr     fpcr, x2
    ret
