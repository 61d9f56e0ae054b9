//! The user context of ReadRegisters, WriteRegisters and timeout replies (sheet §6.2).

/// Words of a user context.
pub const USER_CONTEXT_WORDS: usize = 36;
/// The first words, copied as "frame registers" by CopyRegisters.
pub const FRAME_REGISTERS: usize = 17;
/// The last words, copied as "integer registers".
pub const GP_REGISTERS: usize = 19;

/// Which register a word of the context is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reg {
    /// Restart PC.
    Pc,
    /// Stack pointer.
    Sp,
    /// Saved program status.
    Spsr,
    /// General register 0..=30.
    X(u8),
    /// TPIDR_EL0.
    Tpidr,
    /// TPIDRRO_EL0.
    Tpidrro,
}

/// The register of each word, in order.
pub const ORDER: [Reg; USER_CONTEXT_WORDS] = {
    use Reg::*;
    [
        Pc,
        Sp,
        Spsr,
        X(0),
        X(1),
        X(2),
        X(3),
        X(4),
        X(5),
        X(6),
        X(7),
        X(8),
        X(16),
        X(17),
        X(18),
        X(29),
        X(30),
        X(9),
        X(10),
        X(11),
        X(12),
        X(13),
        X(14),
        X(15),
        X(19),
        X(20),
        X(21),
        X(22),
        X(23),
        X(24),
        X(25),
        X(26),
        X(27),
        X(28),
        Tpidr,
        Tpidrro,
    ]
};

/// A thread's integer registers in API order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs, reason = "registers are named after themselves")]
pub struct UserContext {
    pub pc: u64,
    pub sp: u64,
    pub spsr: u64,
    pub x0: u64,
    pub x1: u64,
    pub x2: u64,
    pub x3: u64,
    pub x4: u64,
    pub x5: u64,
    pub x6: u64,
    pub x7: u64,
    pub x8: u64,
    pub x16: u64,
    pub x17: u64,
    pub x18: u64,
    pub x29: u64,
    pub x30: u64,
    pub x9: u64,
    pub x10: u64,
    pub x11: u64,
    pub x12: u64,
    pub x13: u64,
    pub x14: u64,
    pub x15: u64,
    pub x19: u64,
    pub x20: u64,
    pub x21: u64,
    pub x22: u64,
    pub x23: u64,
    pub x24: u64,
    pub x25: u64,
    pub x26: u64,
    pub x27: u64,
    pub x28: u64,
    pub tpidr_el0: u64,
    pub tpidrro_el0: u64,
}

const _: () = {
    assert!(size_of::<UserContext>() == 288);
    assert!(core::mem::offset_of!(UserContext, x8) == 11 * 8);
    assert!(core::mem::offset_of!(UserContext, x16) == 12 * 8);
    assert!(core::mem::offset_of!(UserContext, x29) == 15 * 8);
    assert!(core::mem::offset_of!(UserContext, x9) == FRAME_REGISTERS * 8);
    assert!(core::mem::offset_of!(UserContext, x19) == 24 * 8);
    assert!(core::mem::offset_of!(UserContext, tpidr_el0) == 34 * 8);
    assert!(FRAME_REGISTERS + GP_REGISTERS == USER_CONTEXT_WORDS);
};

/// Bits of SPSR that user land may set: NZCV.
pub const SPSR_USER_MASK: u64 = 0xF000_0000;
/// The other bits of SPSR in a debug build: EL0, FIQ masked.
pub const SPSR_USER_BASE: u64 = 0x40;

/// TCB_SetFlags: no FP/SIMD.
pub const TCB_FLAG_FPU_DISABLED: u64 = 1;
/// All flags of TCB_SetFlags.
pub const TCB_FLAG_MASK: u64 = TCB_FLAG_FPU_DISABLED;
