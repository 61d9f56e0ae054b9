// From the firmware to kernel_main: arm64 Image header, EL2 -> EL1, early page tables, MMU on, jump to the high half.
//
// Until the MMU is on this runs at the physical load address; every address is PC-relative (adr, adrp). Entered at EL2
// or EL1 with the MMU off and x0 = physical address of the device tree (arm64 boot protocol, Linux
// Documentation/arch/arm64/booting.rst). Register names: Arm ARM (DDI 0487), chapter D19 on.

.equ EARLY_ID_L0, 0          // identity map of the GiB the kernel is in: TTBR0 while switching the MMU on
.equ EARLY_ID_L1, 0x1000
.equ EARLY_K_L0, 0x2000      // kernel image at KERNEL_BASE: TTBR1 until kernel_main has built the final tables
.equ EARLY_K_L1, 0x3000
.equ EARLY_K_L2, 0x4000
.equ EARLY_SIZE, 0x5000

.equ BLOCK_NORMAL, 0x711     // valid block, MAIR index 4 (normal write-back), inner shareable, accessed, EL1 only
.equ TABLE, 3
.equ UXN_HI, 0x40            // bits 63:48 of a descriptor: unprivileged execute never
.equ RO_NX_HI, 0x60          // UXN + PXN
.equ DTB_SLOT, 256           // L2 slot of the early device tree window (EARLY_DTB in layout.rs)

.section .text.head, "ax"
.global _start
_start:
    b       boot_primary
    .long   0
    .quad   0x80000                 // text_offset
    .quad   _image_size
    .quad   0xa                     // little endian, 4 KiB pages, 2 MiB aligned base anywhere in memory
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0
// Our own words behind the header; the image builder may fill in the second one.
    .ascii  "SMIKERNL"
.global early_console_address
early_console_address:
    .quad   0                       // physical address of a PL011 for messages before the device tree is understood

.section .text.boot, "ax"
boot_primary:
    msr     daifset, #0xf
    mov     x19, x0
    bl      drop_to_el1
    bl      build_early_tables
    adrp    x0, early_tables + EARLY_ID_L0
    adrp    x1, early_tables + EARLY_K_L0
    bl      enable_mmu
    ldr     x2, =primary_high
    br      x2

// Secondary cores (PSCI CPU_ON: x0 = context = core index; a spin table start goes through secondary_spin).
.global secondary_entry
secondary_entry:
    msr     daifset, #0xf
    mov     x19, x0
    bl      drop_to_el1
    adrp    x0, early_tables + EARLY_ID_L0
    adrp    x1, secondary_ttbr1
    ldr     x1, [x1, :lo12:secondary_ttbr1]
    bl      enable_mmu
    ldr     x2, =secondary_high
    br      x2

// A core released from a spin table has no context in x0: it takes its index from the word the releaser filled in.
.global secondary_spin
secondary_spin:
    adrp    x0, secondary_index
    ldr     x0, [x0, :lo12:secondary_index]
    b       secondary_entry

// Leaves EL2 if we are there, with everything below us enabled and nothing trapped; returns at EL1h, interrupts masked.
drop_to_el1:
    mrs     x0, CurrentEL
    cmp     x0, #(2 << 2)
    b.ne    1f
    mov     x0, #(1 << 31)          // HCR_EL2.RW: EL1 is AArch64, no traps
    msr     hcr_el2, x0
    mov     x0, #3                  // EL1 may use the physical counter and timer
    msr     cnthctl_el2, x0
    msr     cntvoff_el2, xzr
    mov     x0, #0x33ff             // no FP/SIMD trap
    msr     cptr_el2, x0
    msr     hstr_el2, xzr
    msr     vttbr_el2, xzr
    mrs     x0, midr_el1
    msr     vpidr_el2, x0
    mrs     x0, mpidr_el1
    msr     vmpidr_el2, x0
    mrs     x0, id_aa64dfr0_el1     // performance monitors: all counters to EL1, no traps
    ubfx    x0, x0, #8, #4
    cbz     x0, 2f
    cmp     x0, #0xf
    b.eq    2f
    mrs     x0, pmcr_el0
    ubfx    x0, x0, #11, #5
    msr     mdcr_el2, x0
2:  mrs     x0, id_aa64pfr0_el1     // GICv3 CPU interface by system registers, if there is one
    ubfx    x0, x0, #24, #4
    cbz     x0, 3f
    mov     x0, #0xf                // ICC_SRE_EL2: SRE, DFB, DIB, Enable
    msr     S3_4_C12_C9_5, x0
    isb
    msr     S3_4_C12_C11_0, xzr     // ICH_HCR_EL2
3:  ldr     x0, =0x30d00800         // SCTLR_EL1: only its RES1 bits, MMU off
    msr     sctlr_el1, x0
    mov     x0, #0x3c5              // EL1h, DAIF masked
    msr     spsr_el2, x0
    msr     elr_el2, x30
    eret
1:  ret

// Fills the early tables. x19 = device tree (kept). Clobbers x0-x11.
build_early_tables:
    adrp    x0, early_tables
    mov     x1, x0
    add     x2, x0, #EARLY_SIZE
4:  stp     xzr, xzr, [x1], #16
    cmp     x1, x2
    b.lo    4b

    adrp    x3, _start              // physical address of the image = 2 MiB boundary + 0x80000
    movz    x4, #BLOCK_NORMAL
    movk    x4, #UXN_HI, lsl #48

    // Identity: the GiB this file runs in (it lies in one 2 MiB block, so it does not cross a GiB).
    add     x5, x0, #EARLY_ID_L1
    orr     x6, x5, #TABLE
    ubfx    x7, x3, #39, #9
    str     x6, [x0, x7, lsl #3]
    lsr     x6, x3, #30
    and     x7, x6, #511
    lsl     x6, x6, #30
    orr     x6, x6, x4
    str     x6, [x5, x7, lsl #3]

    // Kernel: L0[511] -> L1[510] -> L2[0..]
    add     x5, x0, #EARLY_K_L0
    add     x6, x0, #EARLY_K_L1
    orr     x7, x6, #TABLE
    str     x7, [x5, #(511 * 8)]
    add     x5, x0, #EARLY_K_L2
    orr     x7, x5, #TABLE
    str     x7, [x6, #(510 * 8)]
    sub     x6, x3, #0x80, lsl #12  // x6 = 2 MiB aligned base
    orr     x6, x6, x4
    ldr     x7, =_image_blocks
    mov     x8, x5
5:  str     x6, [x8], #8
    add     x6, x6, #0x200, lsl #12
    subs    x7, x7, #1
    b.ne    5b

    // Device tree: one or two blocks, read-only, at L2[DTB_SLOT].
    cbz     x19, 7f
    tst     x19, #3
    b.ne    7f
    movz    x4, #(BLOCK_NORMAL | 0x80)
    movk    x4, #RO_NX_HI, lsl #48
    lsr     x6, x19, #21
    lsl     x7, x6, #21
    orr     x8, x7, x4
    str     x8, [x5, #(DTB_SLOT * 8)]
    ldr     w9, [x19, #4]           // claimed size; a wild one maps one block too many at worst
    rev     w9, w9
    sub     x10, x19, x7
    add     x10, x10, x9
    lsr     x10, x10, #21
    cbz     x10, 7f
    add     x8, x8, #0x200, lsl #12
    str     x8, [x5, #((DTB_SLOT + 1) * 8)]

    // The tables were written with the cache off: drop stale lines, so that the walker sees them.
7:  dsb     sy
    mov     x1, x0
8:  dc      ivac, x1
    add     x1, x1, #64
    cmp     x1, x2
    b.lo    8b
    dsb     sy
    ret

// Switches the MMU and caches on. x0 = TTBR0, x1 = TTBR1 (physical). Returns to the identity-mapped caller.
enable_mmu:
    tlbi    vmalle1
    ic      iallu
    dsb     nsh
    ldr     x2, =0x0000aaff440c0400 // MAIR: 0 nGnRnE, 1 nGnRE, 2 GRE, 3 normal NC, 4 normal WB, 5 normal WT
    msr     mair_el1, x2
    ldr     x2, =0x00000010b5103510 // TCR: T0SZ = T1SZ = 16, 4 KiB granules, inner shareable WBWA walks, 16-bit ASIDs
    mrs     x3, id_aa64mmfr0_el1
    and     x3, x3, #0xf            // physical address size, at most 48 bits (5)
    mov     x4, #5
    cmp     x3, x4
    csel    x3, x3, x4, lo
    bfi     x2, x3, #32, #3
    msr     tcr_el1, x2
    msr     ttbr0_el1, x0
    msr     ttbr1_el1, x1
    isb
    // SCTLR: RES1 bits 29 28 23 22 20 11; UCI 26, nTWE 18, nTWI 16, UCT 15, DZE 14, I 12, SA 3, C 2, M 0.
    // Not set: A (alignment), SA0, UMA (EL0 DAIF), WXN (user images are rwx), EE/E0E.
    ldr     x2, =0x34d5d80d
    msr     sctlr_el1, x2
    isb
    ret

primary_high:
    ldr     x0, =_bss_start
    ldr     x1, =_bss_end
9:  stp     xzr, xzr, [x0], #16
    cmp     x0, x1
    b.lo    9b
    mov     x0, #0
    bl      core_setup
    mov     x0, x19                 // device tree, physical
    ldr     x2, =early_tables       // known both virtually and, by TTBR1, physically
    mrs     x3, ttbr1_el1
    and     x3, x3, #0x0000fffffffff000
    sub     x3, x3, #EARLY_K_L0
    sub     x1, x2, x3              // virtual - physical address of the image
    mov     x29, #0
    mov     x30, #0
    b       {kernel_main}

secondary_high:
    mov     x0, x19
    bl      core_setup
    mov     x0, x19
    mov     x29, #0
    mov     x30, #0
    b       {secondary_main}

// x0 = core index: stack, vectors, per-core pointer.
core_setup:
    ldr     x1, ={core_stacks}
    mov     x2, #{core_stack_size}
    madd    x1, x0, x2, x1
    add     x1, x1, x2
    mov     sp, x1
    ldr     x1, ={per_core}
    mov     x2, #{per_core_size}
    madd    x1, x0, x2, x1
    msr     tpidr_el1, x1
    ldr     x1, =vectors
    msr     vbar_el1, x1
    isb
    ret

// fn switch_ttbr1(root: u64, offset: u64): replaces the kernel's tables. Runs in the identity map (TTBR0 = early), with
// TTBR1 empty in between, because old and new tables map the same addresses with different sizes (Arm ARM, D8.16).
.global switch_ttbr1
switch_ttbr1:
    adr     x2, 10f
    sub     x2, x2, x1              // physical = virtual - offset
    ldr     x3, =early_empty_table
    sub     x3, x3, x1
    br      x2
10: msr     ttbr1_el1, x3
    isb
    tlbi    vmalle1
    dsb     nsh
    isb
    msr     ttbr1_el1, x0
    isb
    ret

.section .early, "aw", %nobits
.balign 4096
.global early_tables
early_tables:
    .space  EARLY_SIZE

.section .bss.empty_table, "aw", %nobits
.balign 4096
.global early_empty_table
early_empty_table:
    .space  4096

.section .data.boot, "aw"
.balign 64
.global secondary_ttbr1
secondary_ttbr1:
    .quad   0
.global secondary_index
secondary_index:
    .quad   0
.balign 64
