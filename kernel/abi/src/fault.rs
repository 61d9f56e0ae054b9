//! Fault types and the layout of fault messages (sheet §7.6, §7.7).

numbered! {
    /// Label of a fault message.
    FaultType: u64 {
        /// No fault.
        NullFault = 0,
        /// A capability address did not resolve.
        CapFault = 1,
        /// Unknown system-call number.
        UnknownSyscall = 2,
        /// Exception in user mode.
        UserException = 3,
        /// Budget used up.
        Timeout = 5,
        /// Translation or permission fault.
        VMFault = 6,
    }
}

/// Message registers of a `CapFault`.
pub mod cap_fault {
    /// Restart PC.
    pub const IP: usize = 0;
    /// The address that failed.
    pub const ADDR: usize = 1;
    /// 1 in the receive phase.
    pub const IN_RECV_PHASE: usize = 2;
    /// [`crate::LookupType`].
    pub const LOOKUP_FAILURE_TYPE: usize = 3;
    /// Bits left.
    pub const BITS_LEFT: usize = 4;
    /// Bits found (depth mismatch).
    pub const DEPTH_MISMATCH_BITS_FOUND: usize = 5;
    /// Guard found (guard mismatch).
    pub const GUARD_MISMATCH_GUARD_FOUND: usize = 5;
    /// Bits found (guard mismatch).
    pub const GUARD_MISMATCH_BITS_FOUND: usize = 6;
}

/// Message registers of a `VMFault`.
pub mod vm_fault {
    /// Restart PC.
    pub const IP: usize = 0;
    /// Faulting address.
    pub const ADDR: usize = 1;
    /// 1 for an instruction fetch.
    pub const PREFETCH_FAULT: usize = 2;
    /// ESR_EL1.
    pub const FSR: usize = 3;
    /// Number of words.
    pub const LENGTH: usize = 4;
}

/// Message registers of an `UnknownSyscall`; MR0..=MR7 are x0..=x7.
pub mod unknown_syscall {
    /// Restart PC (the `svc`).
    pub const FAULT_IP: usize = 8;
    /// Stack pointer.
    pub const SP: usize = 9;
    /// Address after the `svc`.
    pub const LR: usize = 10;
    /// SPSR.
    pub const SPSR: usize = 11;
    /// The number (x7).
    pub const SYSCALL: usize = 12;
    /// Number of words.
    pub const LENGTH: usize = 13;
    /// Words taken from a reply.
    pub const REPLY_LENGTH: usize = 12;
}

/// Message registers of a `UserException`.
pub mod user_exception {
    /// Restart PC.
    pub const FAULT_IP: usize = 0;
    /// Stack pointer.
    pub const SP: usize = 1;
    /// SPSR.
    pub const SPSR: usize = 2;
    /// ESR_EL1.
    pub const NUMBER: usize = 3;
    /// 0.
    pub const CODE: usize = 4;
    /// Number of words.
    pub const LENGTH: usize = 5;
    /// Words taken from a reply.
    pub const REPLY_LENGTH: usize = 3;
}

/// Message registers of a `Timeout`.
pub mod timeout {
    /// Badge of the scheduling context.
    pub const DATA: usize = 0;
    /// Consumed microseconds.
    pub const CONSUMED: usize = 1;
    /// Number of words.
    pub const LENGTH: usize = 2;
    /// Words taken from a reply (UserContext without the two thread ids).
    pub const REPLY_LENGTH: usize = 34;
}
