//! The register file of a thread, at offset 0 of its TCB.
//!
//! The trap entry saves into it and the exit restores from it; the kernel reads and writes it as the thread's view of the
//! world. Two program counters: [`Context::elr`] is where user mode continues, [`Context::fault_ip`] is where it would have to
//! restart (the `svc` itself, or the faulting instruction).

use core::cell::Cell;

/// Saved user registers. Layout is fixed: the trap code addresses it by offset.
///
/// On entry by `svc`: `elr` = address after it, `fault_ip` = `elr - 4`. On any other entry both are ELR_EL1.
/// On exit only `elr` counts.
#[repr(C, align(16))]
pub struct Context {
    /// x0..=x30.
    pub x: [Cell<u64>; 31],
    /// SP_EL0.
    pub sp: Cell<u64>,
    /// ELR_EL1: the next PC.
    pub elr: Cell<u64>,
    /// SPSR_EL1.
    pub spsr: Cell<u64>,
    /// TPIDR_EL0.
    pub tpidr: Cell<u64>,
    /// TPIDRRO_EL0.
    pub tpidrro: Cell<u64>,
    /// The restart PC.
    pub fault_ip: Cell<u64>,
    /// [`crate::machine::thread_flags`], written by the kernel only.
    pub flags: Cell<u64>,
    /// FP/SIMD state.
    pub fp: FpState,
}

/// q0..=q31, FPSR, FPCR: touched by the machine layer only.
#[repr(C, align(16))]
pub struct FpState {
    /// q0..=q31, low word first.
    pub q: [Cell<u64>; 64],
    /// FPSR.
    pub fpsr: Cell<u64>,
    /// FPCR.
    pub fpcr: Cell<u64>,
}

/// Byte offset of `sp`.
pub const SP_OFFSET: usize = 248;
/// Byte offset of `elr`, then `spsr`.
pub const ELR_OFFSET: usize = 256;
/// Byte offset of `tpidr`, then `tpidrro`.
pub const TPIDR_OFFSET: usize = 272;
/// Byte offset of `fault_ip`, then `flags`.
pub const FAULT_IP_OFFSET: usize = 288;
/// Byte offset of the FP state.
pub const FP_OFFSET: usize = 304;
/// Bytes of a context.
pub const CONTEXT_BYTES: usize = 832;

const _: () = {
    use core::mem::offset_of;
    assert!(offset_of!(Context, sp) == SP_OFFSET);
    assert!(offset_of!(Context, elr) == ELR_OFFSET);
    assert!(offset_of!(Context, spsr) == ELR_OFFSET + 8);
    assert!(offset_of!(Context, tpidr) == TPIDR_OFFSET);
    assert!(offset_of!(Context, tpidrro) == TPIDR_OFFSET + 8);
    assert!(offset_of!(Context, fault_ip) == FAULT_IP_OFFSET);
    assert!(offset_of!(Context, flags) == FAULT_IP_OFFSET + 8);
    assert!(offset_of!(Context, fp) == FP_OFFSET);
    assert!(size_of::<FpState>() == 528);
    assert!(size_of::<Context>() == CONTEXT_BYTES);
};
